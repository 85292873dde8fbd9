package postfixmap

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// flushAt bounds the replies that wait for the end of a pipeline, in bytes.
	flushAt = 32 << 10
	// turn is how many requests a connection may have answered before the others have their
	// turn. A client that sends without a pause would otherwise keep a processor until it is
	// taken away, which Go does after 10 ms: with a thousand of them, others wait for seconds.
	turn = 32
	// keepOut is the largest output buffer that a connection keeps when it goes idle.
	keepOut = 4 << 10
)

// A conn is one client. All fields up to state belong to its goroutine.
type conn struct {
	srv    *Server
	nc     net.Conn
	client *client
	in     Reader
	out    []byte // replies not yet written
	reply  []byte // the handler's scratch
	busy   bool   // what state says, without asking it
	// turned is how many requests were answered when others last had their turn.
	turned uint64
	// begun is when the first byte of the unfinished request came; 0: there is none.
	begun time.Duration
	// readBy and writeBy are the deadlines that are set now. To move one costs more than the
	// rest of a hit, so they are set with room to spare and left alone until it is used up.
	readBy, writeBy time.Duration

	state    atomic.Uint64
	answered atomic.Uint64 // written by its goroutine only

	// Guarded by srv.mu.
	heap   *connHeap
	index  int
	key    time.Duration
	ousted bool
}

func newConn(s *Server, nc net.Conn, k *client) *conn {
	c := &conn{srv: s, nc: nc, client: k, in: Reader{src: nc, limit: MaxRequest}}
	c.state.Store(stateWord(stateIdle, s.now()))
	return c
}

// close closes the socket; its goroutine sees that and cleans up. A nil conn has none.
func (c *conn) close() {
	if c != nil {
		_ = c.nc.Close()
	}
}

// serve answers until the client leaves, misbehaves, or is taken away.
func (c *conn) serve(ctx context.Context) {
	defer c.leave()
	for {
		payload, err := c.in.Buffered()
		switch {
		case err != nil:
			c.refuse(err)
			return
		case payload != nil:
			if !c.answer(ctx, payload) {
				return
			}
		default:
			if !c.wait() {
				return
			}
		}
	}
}

func (c *conn) leave() {
	_ = c.nc.Close()
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if c.ousted {
		c.srv.ousted--
	}
	c.srv.forget(c)
}

// answer calls the handler for one request and keeps its reply for the next flush, so that a
// pipeline of requests is answered with one write.
func (c *conn) answer(ctx context.Context, payload []byte) bool {
	req, err := ParseRequest(payload)
	if err != nil {
		c.refuse(err)
		return false
	}
	if !c.busy {
		if !c.move(stateBusy) {
			return false
		}
		c.busy = true
	}
	c.begun = 0
	req.Client = c.client.name
	reply := c.call(ctx, req)
	if err := checkReply(reply); err != nil {
		c.srv.count.badReplies.Add(1)
		c.srv.report(problemReply, slog.LevelError, "the handler's reply cannot be sent", slog.Any("error", err))
		reply = AppendTemp(c.reply[:0], "internal error")
	}
	c.out = AppendNetstring(c.out, reply)
	if len(reply) > cap(c.reply) && len(reply) <= keepOut/2 {
		// The handler's slice is not kept: it may be one that it shares with other calls.
		c.reply = make([]byte, 0, 2*len(reply))
	}
	c.answered.Store(c.answered.Load() + 1)
	return len(c.out) < flushAt || c.flush(c.srv.now())
}

// call calls the handler. A panic is answered with TEMP: one bad question must not cost the
// answers to all others.
func (c *conn) call(ctx context.Context, req Request) (reply []byte) {
	defer func() {
		if v := recover(); v != nil {
			c.srv.count.panics.Add(1)
			c.srv.report(problemPanic, slog.LevelError, "the handler panicked",
				slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			reply = AppendTemp(c.reply[:0], "internal error")
		}
	}()
	return c.srv.Handler.ServeMap(ctx, req, c.reply[:0])
}

// wait writes what is owed and reads more, once.
func (c *conn) wait() bool {
	now := c.srv.now()
	if !c.flush(now) {
		return false
	}
	if c.answered.Load()-c.turned >= turn {
		c.turned = c.answered.Load()
		runtime.Gosched()
	}
	word, by := stateWord(stateIdle, now), now+c.srv.IdleTimeout
	if c.in.Pending() > 0 {
		if c.begun == 0 {
			c.begun = now
		}
		word, by = stateWord(statePartial, c.begun), c.begun+c.srv.RequestTimeout
	}
	if !c.move(word) {
		return false
	}
	c.busy = false
	if c.begun == 0 && c.srv.closing.Load() {
		return false
	}
	c.arm(by)
	if err := c.in.Fill(); err != nil {
		c.lost(err)
		return false
	}
	return true
}

// arm sets the read deadline: exactly for an unfinished request, with a tenth to spare for an
// idle connection.
func (c *conn) arm(by time.Duration) {
	switch {
	case c.begun != 0 && c.readBy == by, c.begun == 0 && c.readBy >= by:
		return
	case c.begun == 0:
		by += c.srv.IdleTimeout / 10
	}
	c.readBy = by
	_ = c.nc.SetReadDeadline(c.srv.epoch.Add(by))
}

// flush writes the replies that are waiting.
func (c *conn) flush(now time.Duration) bool {
	if len(c.out) == 0 {
		return true
	}
	if by := now + c.srv.WriteTimeout; c.writeBy < by {
		c.writeBy = by + c.srv.WriteTimeout
		_ = c.nc.SetWriteDeadline(c.srv.epoch.Add(c.writeBy))
	}
	c.busy = false
	if !c.move(stateWord(stateUnread, now)) {
		return false
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > keepOut {
		c.out = nil
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.srv.count.unread.Add(1)
	}
	return err == nil
}

// refuse ends a connection on which something else than a request came; the requests before it
// are answered.
func (c *conn) refuse(err error) {
	c.srv.count.malformed.Add(1)
	c.srv.report(problemRequest, slog.LevelWarn, "closed a connection: not a request",
		slog.Any("error", err), slog.String("client", c.nc.RemoteAddr().String()))
	c.flush(c.srv.now())
}

// lost sorts out why reading ended. A client that leaves between two requests is the usual end.
func (c *conn) lost(err error) {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.srv.count.unfinished.Add(1)
	case !errors.Is(err, os.ErrDeadlineExceeded):
	case c.begun != 0:
		c.srv.count.unfinished.Add(1)
	default:
		c.srv.count.idle.Add(1)
	}
}
