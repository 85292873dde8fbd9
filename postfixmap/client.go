package postfixmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// ErrClientClosed is what Lookup returns after Close.
var ErrClientClosed = errors.New("postfixmap: client closed")

// What a Client does where its fields are zero.
const (
	DefaultTimeout      = 100 * time.Second
	DefaultMaxIdle      = 4
	DefaultClientKeep   = 10 * time.Second
	maxClientConnBuffer = 16 << 10
)

// A Client asks one socketmap server. It keeps connections that are not in use for the next
// question and is for any number of goroutines. Set the fields before the first Lookup; the zero
// value of each but Address is useful.
type Client struct {
	// Address is the server.
	Address Address
	// Timeout bounds a Lookup whose context has no deadline. Default 100 s, as in Postfix.
	Timeout time.Duration
	// MaxIdle is how many unused connections are kept. Default 4.
	MaxIdle int
	// IdleTimeout is how long an unused connection is kept. Default 10 s, as in Postfix.
	IdleTimeout time.Duration
	// DialFunc replaces Address.Dial, for tests and tunnels.
	DialFunc func(context.Context) (net.Conn, error)

	mu     sync.Mutex
	closed bool
	idle   []*clientConn // the one used last comes last
}

type clientConn struct {
	nc    net.Conn
	in    *Reader
	out   []byte
	since time.Time
	// used says that the connection has answered before: it may have gone stale since.
	used bool
}

// Lookup asks for key in the map of that name and returns the reply; its data is the caller's.
//
// A reply of any status is not an error: TEMP is an answer. An error means that there is no
// answer, and a caller must treat it as TEMP, never as NOTFOUND. Errors: ctx's cause, ErrNoSpace
// and ErrTooLong for the request, ErrMalformed, ErrTooLong and ErrBadReply for the reply,
// ErrClientClosed, or what dialing, writing or reading returned.
//
// When a kept connection turns out to be dead before a byte of the reply has come, the question
// is asked once more on a new one: lookups change nothing, and servers close what is idle.
func (c *Client) Lookup(ctx context.Context, mapName, key string) (Reply, error) {
	if err := checkRequest(mapName, key); err != nil {
		return Reply{}, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, orDefault(c.Timeout, DefaultTimeout))
		defer cancel()
	}
	conn, err := c.take(ctx)
	if err != nil {
		return Reply{}, err
	}
	reply, err := c.ask(ctx, conn, mapName, key)
	if err != nil && conn.used && conn.in.Pending() == 0 && isStale(ctx, err) {
		if conn, err = c.dial(ctx); err != nil {
			return Reply{}, err
		}
		reply, err = c.ask(ctx, conn, mapName, key)
	}
	if err != nil {
		return Reply{}, fmt.Errorf("postfixmap: lookup at %v: %w", c.Address, err)
	}
	return reply, nil
}

// isStale says whether an error is one that a connection closed by the server makes: not one of
// ours, of the clock's, or of the protocol's.
func isStale(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	for _, final := range []error{ErrTooLong, ErrMalformed, ErrBadReply} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// ask does one question on one connection, and keeps or closes it.
func (c *Client) ask(ctx context.Context, conn *clientConn, mapName, key string) (Reply, error) {
	deadline, _ := ctx.Deadline()
	_ = conn.nc.SetDeadline(deadline)
	// A context that is cancelled before its deadline must not wait for it.
	stop := context.AfterFunc(ctx, func() { _ = conn.nc.SetDeadline(time.Unix(1, 0)) })
	reply, err := conn.exchange(mapName, key)
	if !stop() && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil || ctx.Err() != nil || conn.in.Pending() > 0 {
		// Bytes behind the reply are nobody's answer: the connection is out of step.
		_ = conn.nc.Close()
		return reply, err
	}
	c.put(conn)
	return reply, nil
}

func (conn *clientConn) exchange(mapName, key string) (Reply, error) {
	var err error
	if conn.out, err = AppendRequest(conn.out[:0], mapName, key); err != nil {
		return Reply{}, err
	}
	if _, err = conn.nc.Write(conn.out); err != nil {
		return Reply{}, err
	}
	payload, err := conn.in.Next()
	if err != nil {
		return Reply{}, err
	}
	reply, err := ParseReply(payload)
	reply.Data = slices.Clone(reply.Data)
	return reply, err
}

// take returns the connection that was used last, or a new one.
func (c *Client) take(ctx context.Context) (*clientConn, error) {
	keep := orDefault(c.IdleTimeout, DefaultClientKeep)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClientClosed
	}
	for len(c.idle) > 0 {
		last := len(c.idle) - 1
		conn := c.idle[last]
		c.idle = c.idle[:last]
		if time.Since(conn.since) < keep {
			c.mu.Unlock()
			return conn, nil
		}
		_ = conn.nc.Close()
	}
	c.mu.Unlock()
	return c.dial(ctx)
}

func (c *Client) dial(ctx context.Context) (*clientConn, error) {
	dial := c.DialFunc
	if dial == nil {
		dial = c.Address.Dial
	}
	nc, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("postfixmap: dial %v: %w", c.Address, err)
	}
	return &clientConn{nc: nc, in: NewReader(nc, MaxReply)}, nil
}

// put keeps a connection for the next question, and closes those that were unused for too long.
func (c *Client) put(conn *clientConn) {
	conn.used = true
	conn.since = time.Now()
	if cap(conn.out) > maxClientConnBuffer {
		conn.out = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.nc.Close()
		return
	}
	c.idle = append(c.idle, conn)
	keep := orDefault(c.IdleTimeout, DefaultClientKeep)
	limit := orDefault(c.MaxIdle, DefaultMaxIdle)
	for len(c.idle) > limit || conn.since.Sub(c.idle[0].since) >= keep {
		_ = c.idle[0].nc.Close()
		c.idle = slices.Delete(c.idle, 0, 1)
	}
}

// CloseIdle closes the connections that are not in use, so that the next question is asked on a
// new one. It is for a caller who learns that the way to the server broke: connections that were
// kept from before are then silent, without an error.
func (c *Client) CloseIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeIdle()
}

func (c *Client) closeIdle() {
	for _, conn := range c.idle {
		_ = conn.nc.Close()
	}
	c.idle = nil
}

// Close closes the kept connections. Lookups under way end by themselves; later ones fail.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.closeIdle()
	return nil
}
