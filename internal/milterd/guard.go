package milterd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// What one milter connection may take.
const (
	// maxFrame is the longest packet of a message's content, in bytes: the
	// largest size that the protocol has.
	maxFrame = 1 << 20
	// maxCommand is the longest packet of any other command, in bytes. Macros
	// are kept until the message ends, so that this bounds what a connection
	// can make the process hold.
	maxCommand = 64 << 10
	// helloTime is how long a new connection has for its first packet.
	helloTime = 10 * time.Second
	// frameTime is how long a packet may take from its first byte to its last.
	frameTime = 30 * time.Second
	// idleTime is how long an MTA may have nothing to say: Sendmail waits an
	// hour for an SMTP client's next command (RFC 5321 asks for five
	// minutes at least), and tells the milter nothing meanwhile.
	idleTime = 70 * time.Minute
	// quietTime is how long a connection without a message must have said nothing
	// before a newcomer may take its place: SMTP clients that are at work wait for
	// shorter times.
	quietTime = time.Minute
)

// ErrFrame says that a peer sent what is no milter packet. The connection is of no
// use any more; nothing else is disturbed.
var ErrFrame = errors.New("milterd: not a milter packet")

// Guard stands between a listener and go-milter, which panics in a goroutine of its
// own, and so ends the process, on a packet without content, and on a CONNECT, MAIL
// or RCPT without the NUL that ends its first string; which allocates up to 512 MiB
// on the word of four bytes; and which stops serving at the first error of Accept.
//
// Behind a Guard the library sees whole, checked packets only. A Guard is a
// net.Listener; make it with NewGuard.
type Guard struct {
	inner net.Listener
	limit int
	log   *slog.Logger

	mu       sync.Mutex
	conns    map[*guarded]struct{}
	draining atomic.Bool
	closed   chan struct{}
	once     sync.Once

	accepted, refused, displaced, malformed, slow atomic.Uint64
	seldom                                        rate.Sometimes
}

// NewGuard guards l. At most limit connections are open at a time. For one more the
// one goes that has no message under way and said nothing for longest, a minute at
// least; where there is none, the newcomer is closed at once, so that its MTA goes on by
// its own default action instead of waiting.
func NewGuard(l net.Listener, limit int, log *slog.Logger) *Guard {
	return &Guard{
		inner: l, limit: limit, log: log, conns: make(map[*guarded]struct{}),
		closed: make(chan struct{}), seldom: rate.Sometimes{Interval: time.Minute},
	}
}

// GuardStats counts what a Guard saw since it was made.
type GuardStats struct {
	// Open is the number of connections now.
	Open int
	// Accepted were handed on; Refused were one too many, and for Displaced ones
	// another came.
	Accepted, Refused, Displaced uint64
	// Malformed connections were closed for what they sent, Slow ones for what
	// they did not send in time.
	Malformed, Slow uint64
}

// Stats returns the counts.
func (g *Guard) Stats() GuardStats {
	g.mu.Lock()
	open := len(g.conns)
	g.mu.Unlock()
	return GuardStats{open, g.accepted.Load(), g.refused.Load(), g.displaced.Load(), g.malformed.Load(), g.slow.Load()}
}

// Accept returns the next connection. Errors that pass, such as a lack of file
// descriptors, are waited out: the only error is net.ErrClosed, wrapped, after
// Close or when the listener below was closed.
func (g *Guard) Accept() (net.Conn, error) {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		nc, err := g.inner.Accept()
		if err == nil {
			pause = shortest
			if c := g.admit(nc); c != nil {
				return c, nil
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) || g.isClosed() {
			return nil, fmt.Errorf("milterd: %w", net.ErrClosed)
		}
		g.seldom.Do(func() { g.log.Error("accept failed, trying again", "error", err) })
		if !g.wait(pause) {
			return nil, fmt.Errorf("milterd: %w", net.ErrClosed)
		}
		pause = min(2*pause, longest)
	}
}

func (g *Guard) isClosed() bool {
	select {
	case <-g.closed:
		return true
	default:
		return false
	}
}

// wait returns false when the Guard is closed meanwhile.
func (g *Guard) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.closed:
		return false
	}
}

// admit takes a connection over, or closes it and returns nil.
func (g *Guard) admit(nc net.Conn) *guarded {
	c := &guarded{Conn: nc, guard: g, in: bufio.NewReader(nc), fresh: true}
	g.mu.Lock()
	admitted := !g.draining.Load() && (len(g.conns) < g.limit || g.displace())
	if admitted {
		g.conns[c] = struct{}{}
	}
	g.mu.Unlock()
	if admitted {
		g.accepted.Add(1)
		return c
	}
	g.refused.Add(1)
	// What closing it says is of no interest: nothing was said on it.
	_ = nc.Close()
	g.seldom.Do(func() { g.log.Warn("a milter connection was refused", "max_connections", g.limit) })
	return nil
}

// displace makes room for a newcomer, if a connection may go; the lock is held.
func (g *Guard) displace() bool {
	var longest *guarded
	since := time.Now().Add(-quietTime)
	for c := range g.conns {
		if quiet, ok := c.quiet(); ok && quiet.Before(since) {
			longest, since = c, quiet
		}
	}
	if longest == nil || !longest.nudge() {
		return false
	}
	delete(g.conns, longest)
	g.displaced.Add(1)
	return true
}

// Close closes the listener. Connections stay.
func (g *Guard) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.inner.Close()
}

// Addr is the address of the listener.
func (g *Guard) Addr() net.Addr { return g.inner.Addr() }

// Drain ends connections that have no message under way, now and as their messages
// end. An MTA that had one open defers what comes next on it.
func (g *Guard) Drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining.Store(true)
	for c := range g.conns {
		c.nudge()
	}
}

func (g *Guard) forget(c *guarded) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// guarded is one connection. One goroutine reads it, as go-milter does.
type guarded struct {
	net.Conn
	guard *Guard
	in    *bufio.Reader
	// frame is the packet that is being handed out, pending what is left of it.
	frame, pending []byte
	// fresh says that no packet has come yet.
	fresh bool
	// failed is what ended the connection.
	failed error

	mu sync.Mutex
	// message says that a message is under way, waiting that the reader waits
	// for a packet's first byte, since a time. gone says that it is not waited for
	// any longer.
	message, waiting, gone bool
	since                  time.Time
	// last is the command that was read last.
	last byte
}

// Read hands out packets, each only when it has come whole and was found good.
func (c *guarded) Read(p []byte) (int, error) {
	if len(c.pending) == 0 {
		if c.failed == nil {
			c.failed = c.fill()
		}
		if c.failed != nil {
			return 0, c.failed
		}
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// fill reads one packet.
func (c *guarded) fill() error {
	if !c.begin() {
		return io.EOF
	}
	_, err := c.in.Peek(1)
	c.mu.Lock()
	c.waiting = false
	c.mu.Unlock()
	if err != nil {
		return c.blame(err)
	}
	// A packet's bytes follow each other; whoever sends them one by one holds a
	// connection for nothing.
	_ = c.Conn.SetReadDeadline(time.Now().Add(frameTime))
	if c.frame, err = readFrame(c.in, c.frame[:0]); err != nil {
		return c.blame(err)
	}
	c.pending, c.fresh = c.frame, false
	last := c.frame[4]
	if cap(c.frame) > maxCommand {
		// One long packet must not be remembered for an hour.
		c.frame = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = last
	if c.last == 'M' {
		c.message = true
	}
	return nil
}

// begin prepares the wait for a packet. It returns false when there shall be no
// other one.
func (c *guarded) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The library reads on only when it has answered, so that these are done.
	switch c.last {
	case 'E', 'A', 'Q', 'K':
		c.message = false
	}
	patience := idleTime
	if c.fresh {
		patience = helloTime
	}
	c.waiting, c.since = true, time.Now()
	_ = c.Conn.SetReadDeadline(c.since.Add(patience))
	// Asked last: a drain that begins now finds this connection waiting.
	return c.message || !c.guard.draining.Load()
}

// quiet is since when a connection waits that has no message under way.
func (c *guarded) quiet() (since time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.waiting && !c.message
}

// nudge ends the wait of a connection that has no message under way, if it is one.
func (c *guarded) nudge() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting || c.message {
		return false
	}
	c.gone = true
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	return true
}

// blame counts what ended a connection. Those that ended by themselves, or by a
// drain, are an io.EOF.
func (c *guarded) blame(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, ErrFrame):
		c.guard.malformed.Add(1)
		c.guard.seldom.Do(func() {
			c.guard.log.Warn("a peer sent what is no milter packet", "peer", c.RemoteAddr().String(), "error", err)
		})
		return io.EOF
	case errors.As(err, &timeout) && timeout.Timeout():
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.gone {
			c.guard.slow.Add(1)
		}
		return io.EOF
	}
	return err
}

// SetReadDeadline does nothing: the library gives the first packet one second,
// which a busy machine may need, and the others no end.
func (c *guarded) SetReadDeadline(time.Time) error { return nil }

// SetDeadline sets the deadline for writing, as SetReadDeadline says.
func (c *guarded) SetDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(t) }

// Close closes the connection.
func (c *guarded) Close() error {
	c.guard.forget(c)
	return c.Conn.Close()
}

// readFrame appends one packet with its length to buf. The buffer grows as bytes
// come, not as the peer says that they will. Errors: ErrFrame for a packet that the
// library must not see, else what reading returned.
func readFrame(in *bufio.Reader, buf []byte) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(in, head[:4]); err != nil {
		return buf, err
	}
	length := binary.BigEndian.Uint32(head[:4])
	if length == 0 {
		return buf, fmt.Errorf("%w: empty", ErrFrame)
	}
	code, err := in.ReadByte()
	if err != nil {
		return buf, err
	}
	limit, known := frameLimit(code)
	if !known {
		return buf, fmt.Errorf("%w: unknown command %q", ErrFrame, code)
	}
	if length > limit {
		return buf, fmt.Errorf("%w: command %q of %d bytes, at most %d are taken", ErrFrame, code, length, limit)
	}
	head[4] = code
	buf = append(buf, head[:]...)
	out := bytes.NewBuffer(buf)
	if _, err := io.CopyN(out, in, int64(length-1)); err != nil {
		return out.Bytes(), err
	}
	buf = out.Bytes()
	return buf, checkFrame(code, buf[len(buf)-int(length-1):])
}

// frameLimit is how long a packet may be, with its command.
func frameLimit(code byte) (uint32, bool) {
	switch code {
	case 'B', 'L':
		return maxFrame, true
	case 'A', 'C', 'D', 'E', 'H', 'K', 'M', 'N', 'O', 'Q', 'R', 'T', 'U':
		return maxCommand, true
	}
	return 0, false
}

// checkFrame refuses what the library would index out of its bounds.
func checkFrame(code byte, data []byte) error {
	end := bytes.IndexByte(data, 0)
	switch code {
	case 'M', 'R':
		if end < 0 {
			return fmt.Errorf("%w: command %q without its NUL", ErrFrame, code)
		}
	case 'C':
		// The protocol family follows the host name.
		if end < 0 || end+1 == len(data) {
			return fmt.Errorf("%w: command %q without its NUL and family", ErrFrame, code)
		}
	}
	return nil
}
