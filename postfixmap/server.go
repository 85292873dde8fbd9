package postfixmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrServerClosed is what Serve returns after Shutdown or Close. It is not a failure.
var ErrServerClosed = errors.New("postfixmap: server closed")

// What a Server does where its fields are zero.
const (
	DefaultMaxConnections = 4096
	// DefaultIdleTimeout is longer than any client keeps a connection: Postfix closes it after
	// 10 s without use and 100 s of age.
	DefaultIdleTimeout    = 150 * time.Second
	DefaultRequestTimeout = 10 * time.Second
	DefaultWriteTimeout   = 10 * time.Second
	DefaultAdmitTimeout   = time.Second
	DefaultLogInterval    = time.Minute
	// MaxNewcomers is how many connections may wait for a place, beside MaxConnections that
	// have one: that many descriptors more are needed.
	MaxNewcomers = 64
)

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// A Handler answers requests.
//
// ServeMap appends the reply's payload, a status word, a space and data, to reply, which is empty
// and has room, and returns it: AppendOK, AppendNotFound and AppendTemp do. It must not keep
// req.Map, req.Key or reply after it returned: they are the connection's buffers, and that is how
// a hit allocates nothing (a map index of string(req.Key) does not allocate either). ctx ends
// when the server is closed the hard way, not when the client goes away.
//
// It is called from many goroutines at once, for one connection one call after the other. A
// panic, or a reply that is none, becomes TEMP.
type Handler interface {
	ServeMap(ctx context.Context, req Request, reply []byte) []byte
}

// HandlerFunc makes a Handler of a function.
type HandlerFunc func(ctx context.Context, req Request, reply []byte) []byte

// ServeMap calls f.
func (f HandlerFunc) ServeMap(ctx context.Context, req Request, reply []byte) []byte {
	return f(ctx, req, reply)
}

// A Server answers socketmap requests on any number of listeners. Set the fields before the
// first Serve and leave them alone after it. The zero value of each but Handler is useful.
type Server struct {
	// Handler answers; it must be set.
	Handler Handler
	// MaxConnections is how many connections may be open at once, over all listeners. A
	// newcomer above it is served at the cost of the connection that has been idle longest;
	// when none is idle, of the one whose unfinished request began first, or that has not
	// read its replies for AdmitTimeout; when a handler is at work for all, of any of a
	// client that has twice as many as the newcomer's would have. Those pay who have most
	// connections, then the newcomer's own client, and never one that has fewer. Where
	// nobody pays, it waits for AdmitTimeout and is then refused.
	MaxConnections int
	// IdleTimeout closes a connection that has asked nothing for so long; it may take a tenth
	// longer, because deadlines are moved seldom.
	IdleTimeout time.Duration
	// RequestTimeout is what a request may take from its first byte to its last.
	RequestTimeout time.Duration
	// WriteTimeout is how long a client may leave its replies unread; it may take twice as
	// long, for the same reason.
	WriteTimeout time.Duration
	// AdmitTimeout is how long a newcomer waits while all connections are busy; MaxNewcomers
	// wait at once.
	AdmitTimeout time.Duration
	// ErrorLog gets what went wrong: panics, requests that are none, replies that are none,
	// accept errors, refused connections. Each kind is logged once in LogInterval, with the
	// number left out since. Nil discards them; Stats counts them all the same.
	ErrorLog *slog.Logger
	// LogInterval is the least time between two records of a kind.
	LogInterval time.Duration

	setUp sync.Once
	// epoch is where the server's clock starts: times are durations since, one word each.
	epoch time.Time
	// closing is set before Shutdown looks at the connections, and read by each of them after
	// it has said that it is idle: one of the two sees the other.
	closing atomic.Bool
	done    chan struct{}
	drained chan struct{}
	freed   chan struct{}
	logged  [problemKinds]throttle
	count   counters
	// newcomers are those that wait for a place.
	newcomers atomic.Int32

	// mu guards what follows. It is taken when connections come and go, never for a request
	// (but once by a connection that shed had set aside).
	mu        sync.Mutex
	listeners map[*net.Listener]struct{}
	cancels   []context.CancelFunc
	conns     map[*conn]struct{}
	clients   map[string]*client
	ousted    int // connections that were shed while a handler was at work for them
	answered  uint64
}

// Stats is a snapshot of a Server's counters since its start.
type Stats struct {
	Open       int    // connections open now
	Accepted   uint64 // connections served
	Shed       uint64 // connections closed to make room
	Refused    uint64 // newcomers closed because every connection was busy
	Idle       uint64 // connections closed by IdleTimeout
	Requests   uint64 // requests answered
	Malformed  uint64 // connections closed because of bytes that are no request
	Unfinished uint64 // connections that ended or timed out inside a request
	Unread     uint64 // connections whose replies could not be written, mostly in time
	Panics     uint64 // handler panics
	BadReplies uint64 // handler replies that could not be sent
	AcceptErrs uint64 // failed accepts, each tried again
}

type counters struct {
	accepted, shed, refused, idle, malformed   atomic.Uint64
	unfinished, unread, panics, badReplies, ae atomic.Uint64
}

// Stats returns the counters. It visits every connection: call it once in a while, not for every
// request.
func (s *Server) Stats() Stats {
	c := &s.count
	st := Stats{
		Accepted: c.accepted.Load(), Shed: c.shed.Load(), Refused: c.refused.Load(),
		Idle: c.idle.Load(), Malformed: c.malformed.Load(), Unfinished: c.unfinished.Load(),
		Unread: c.unread.Load(), Panics: c.panics.Load(), BadReplies: c.badReplies.Load(),
		AcceptErrs: c.ae.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Open = len(s.conns)
	st.Requests = s.answered
	for c := range s.conns {
		st.Requests += c.answered.Load()
	}
	return st
}

// Serve accepts connections on l and answers them until Shutdown, Close or the end of ctx; it
// closes l. It may be called for several listeners at once. The end of ctx only stops this
// accepting: connections and handlers go on until Shutdown or Close, so that a signal's context
// can be given here and the drain still has its time. Handlers see ctx's values.
//
// It returns ErrServerClosed after Shutdown or Close, ctx's cause when ctx ended, and otherwise
// what made accepting impossible, which is only that somebody else closed l: any other failure
// of accept, EMFILE above all, is retried after 5 ms to 1 s.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.Handler == nil {
		panic("postfixmap: Server without a Handler")
	}
	s.init()
	defer func() { _ = l.Close() }()
	base, err := s.begin(ctx, &l)
	if err != nil {
		return err
	}
	defer s.end(&l)
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	backoff := acceptBackoffMin
	for {
		nc, err := l.Accept()
		if err == nil {
			backoff = acceptBackoffMin
			s.admit(base, nc)
			continue
		}
		if s.closing.Load() {
			return ErrServerClosed
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("postfixmap: accept: %w", err)
		}
		s.acceptFailed(err)
		s.pause(ctx, backoff)
		backoff = min(2*backoff, acceptBackoffMax)
	}
}

func (s *Server) init() {
	s.setUp.Do(func() {
		s.MaxConnections = orDefault(s.MaxConnections, DefaultMaxConnections)
		s.IdleTimeout = orDefault(s.IdleTimeout, DefaultIdleTimeout)
		s.RequestTimeout = orDefault(s.RequestTimeout, DefaultRequestTimeout)
		s.WriteTimeout = orDefault(s.WriteTimeout, DefaultWriteTimeout)
		s.AdmitTimeout = orDefault(s.AdmitTimeout, DefaultAdmitTimeout)
		s.LogInterval = orDefault(s.LogInterval, DefaultLogInterval)
		// The clock starts at 1 ns, because 0 means "never" where its times are kept.
		s.epoch = time.Now().Add(-time.Nanosecond)
		s.done = make(chan struct{})
		s.drained = make(chan struct{})
		s.freed = make(chan struct{}, 1)
		s.listeners = make(map[*net.Listener]struct{})
		s.conns = make(map[*conn]struct{})
		s.clients = make(map[string]*client)
	})
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// now reads the server's clock.
func (s *Server) now() time.Duration { return time.Since(s.epoch) }

// begin registers a listener and makes the context of its handlers.
func (s *Server) begin(ctx context.Context, l *net.Listener) (context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return nil, ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancels = append(s.cancels, cancel)
	return base, nil
}

func (s *Server) end(l *net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// acceptFailed counts and logs, and gives descriptors back when they are what is missing: a
// server that only waits stays deaf for as long as its idle clients like.
func (s *Server) acceptFailed(err error) {
	s.count.ae.Add(1)
	s.report(problemAccept, slog.LevelError, "accept failed, trying again", slog.Any("error", err))
	for _, scarce := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if !errors.Is(err, scarce) {
			continue
		}
		s.mu.Lock()
		victim := s.shed(everyone)
		s.mu.Unlock()
		victim.close()
		return
	}
}

func (s *Server) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.done:
	case <-ctx.Done():
	}
}

// admit serves a newcomer, at another's cost if it must. Where there is no place it waits, but
// not in the way of those behind it: among them may be one that has a better claim.
func (s *Server) admit(ctx context.Context, nc net.Conn) {
	client := clientOf(nc)
	if s.tryAdmit(ctx, nc, client) {
		return
	}
	if s.newcomers.Add(1) > MaxNewcomers {
		s.newcomers.Add(-1)
		s.turnAway(nc)
		return
	}
	go func() {
		defer s.newcomers.Add(-1)
		s.await(ctx, nc, client)
	}()
}

// await serves a newcomer once there is a place, or turns it away after AdmitTimeout.
func (s *Server) await(ctx context.Context, nc net.Conn, client string) {
	patience := time.NewTimer(s.AdmitTimeout)
	defer patience.Stop()
	for {
		select {
		case <-s.freed:
			if s.tryAdmit(ctx, nc, client) {
				// Two places may have come free at once.
				s.wake()
				return
			}
		case <-patience.C:
			if !s.tryAdmit(ctx, nc, client) {
				s.turnAway(nc)
			}
			return
		case <-s.done:
			_ = nc.Close()
			return
		}
	}
}

// turnAway refuses a newcomer.
func (s *Server) turnAway(nc net.Conn) {
	_ = nc.Close()
	if !s.closing.Load() {
		s.count.refused.Add(1)
		s.report(problemRefused, slog.LevelWarn, "connection refused: all are busy",
			slog.Int("connections", s.MaxConnections))
	}
}

// tryAdmit makes a newcomer a connection and serves it, if there is a place or one can be made.
func (s *Server) tryAdmit(ctx context.Context, nc net.Conn, client string) bool {
	c, victim := s.place(nc, client)
	victim.close()
	if c == nil {
		return false
	}
	go c.serve(ctx)
	return true
}

func (s *Server) place(nc net.Conn, name string) (c, victim *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return nil, nil
	}
	k := s.clients[name]
	if k == nil {
		k = &client{name: name}
	}
	if len(s.conns) >= s.MaxConnections {
		victim = s.makeRoom(k)
	}
	if len(s.conns) >= s.MaxConnections {
		return nil, victim
	}
	c = newConn(s, nc, k)
	s.conns[c] = struct{}{}
	s.clients[name] = k
	k.open++
	k.idle.push(c, c.idleSince())
	s.count.accepted.Add(1)
	return c, victim
}

// forget takes a connection off the books. mu is held.
func (s *Server) forget(c *conn) {
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	if c.client.open--; c.client.open == 0 {
		delete(s.clients, c.client.name)
	}
	s.answered += c.answered.Load()
	c.leaveHeap()
	s.wake()
	if s.closing.Load() && len(s.conns) == 0 {
		close(s.drained)
	}
}

// wake tells one waiting newcomer that a place, or a connection that may be shed, has come free.
func (s *Server) wake() {
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// stop closes the listeners and lets no newcomer in any more.
func (s *Server) stop() {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.closing.Swap(true)
	for l := range s.listeners {
		_ = (*l).Close()
	}
	if again {
		return
	}
	close(s.done)
	if len(s.conns) == 0 {
		close(s.drained)
	}
}

// Shutdown stops accepting, closes idle connections, and waits until every request under way has
// been answered: one whose handler is at work, and one that has begun to arrive, which has its
// RequestTimeout. When ctx ends first, what is left is closed the hard way and ctx's cause
// returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	var idle []*conn
	for c := range s.conns {
		if c.take(stateIdle) {
			idle = append(idle, c)
		}
	}
	s.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
	select {
	case <-s.drained:
		s.cancel()
		return nil
	case <-ctx.Done():
		_ = s.Close()
		return context.Cause(ctx)
	}
}

// Close stops accepting, closes every connection, whatever it is doing, and ends the handlers'
// context. It does not wait for the handlers.
func (s *Server) Close() error {
	s.stop()
	s.cancel()
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.close()
	}
	return nil
}

func (s *Server) cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.cancels {
		cancel()
	}
	s.cancels = nil
}
