package world

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Addr is the address of a connection in memory.
type Addr string

// Network returns "memory".
func (Addr) Network() string { return "memory" }

// String returns the address.
func (a Addr) String() string { return string(a) }

// framing says whether the borders of writes are kept, as those of datagrams are.
type framing uint8

const (
	stream framing = iota
	datagrams
)

// pair returns the two ends of a connection in memory. Unlike with net.Pipe a write
// never blocks: TLS and HTTP write when nobody reads yet. The second end's peer is addr.
func pair(f framing, addr string) (server, client net.Conn) {
	up, down := newLane(f), newLane(f)
	server = &conn{in: up, out: down, local: Addr(addr), remote: "client"}
	client = &conn{in: down, out: up, local: "client", remote: Addr(addr)}
	return server, client
}

// lane is one direction of a connection.
type lane struct {
	framing framing
	mu      sync.Mutex
	chunks  [][]byte
	closed  bool
	changed chan struct{} // holds one token while there is news
}

func newLane(f framing) *lane {
	return &lane{framing: f, changed: make(chan struct{}, 1)}
}

func (l *lane) poke() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *lane) write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, io.ErrClosedPipe
	}
	l.chunks = append(l.chunks, append([]byte(nil), b...))
	l.poke()
	return len(b), nil
}

// take returns false while there is nothing to read.
func (l *lane) take(b []byte) (int, error, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.chunks) == 0 {
		return 0, io.EOF, l.closed
	}
	n := copy(b, l.chunks[0])
	if rest := l.chunks[0][n:]; len(rest) > 0 && l.framing == stream {
		l.chunks[0] = rest
	} else {
		l.chunks = l.chunks[1:]
	}
	if len(l.chunks) > 0 || l.closed {
		l.poke()
	}
	return n, nil, true
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.poke()
}

// conn is one end.
type conn struct {
	in, out       *lane
	local, remote Addr
	deadline      deadline
}

func (c *conn) Read(b []byte) (int, error) {
	for {
		if expired(c.deadline.done()) {
			return 0, os.ErrDeadlineExceeded
		}
		if n, err, ok := c.in.take(b); ok {
			return n, err
		}
		select {
		case <-c.in.changed:
		case <-c.deadline.done():
		}
	}
}

func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }

// Close ends both directions; what was written before can still be read.
func (c *conn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error     { return c.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(time.Time) error  { return nil }
func (c *conn) SetReadDeadline(t time.Time) error { c.deadline.set(t); c.in.poke(); return nil }

// deadline closes a channel when it passes. The zero value never does.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	over  chan struct{}
}

func (d *deadline) done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over == nil {
		d.over = make(chan struct{})
	}
	return d.over
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.over == nil || expired(d.over) {
		d.over = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	over := d.over
	if wait := time.Until(t); wait > 0 {
		// A timer that fired while it was being stopped closes a channel that
		// nobody looks at any more, or ends this deadline a moment too early.
		d.timer = time.AfterFunc(wait, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if !expired(over) {
				close(over)
			}
		})
		return
	}
	close(over)
}

func expired(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Listener accepts connections in memory. Make one with NewListener.
type Listener struct {
	addr    string
	waiting chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

// NewListener returns a listener with a name.
func NewListener(addr string) *Listener {
	return &Listener{addr: addr, waiting: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept returns the next connection, or net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial; connections stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the listener's name.
func (l *Listener) Addr() net.Addr { return Addr(l.addr) }

// Dial connects to the listener.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	server, client := pair(stream, l.addr)
	select {
	case l.waiting <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
