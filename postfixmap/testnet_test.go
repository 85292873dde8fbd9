package postfixmap

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pipeListener hands out one end of a net.Pipe for each dial: connections whose deadlines a
// synctest bubble can move.
type pipeListener struct {
	backlog chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{backlog: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipeListener) dial(t *testing.T) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	select {
	case l.backlog <- theirs:
		return ours
	case <-l.closed:
		t.Fatal("dial: listener closed")
		return nil
	}
}

// bubble runs a server on a pipe listener under a virtual clock, and checks that its drain ends.
func bubble(t *testing.T, s *Server, test func(t *testing.T, l *pipeListener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		served := make(chan error, 1)
		go func() { served <- s.Serve(t.Context(), l) }()
		synctest.Wait()
		test(t, l)
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve() = %v", err)
		}
	})
}

// onSockets runs a server on a real unix and a real TCP socket.
func onSockets(t *testing.T, s *Server, test func(t *testing.T, l net.Listener)) {
	t.Helper()
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			l := listen(t, network)
			served := make(chan error, 1)
			s := &Server{
				Handler: s.Handler, MaxConnections: s.MaxConnections, RequestTimeout: s.RequestTimeout,
				WriteTimeout: s.WriteTimeout, AdmitTimeout: s.AdmitTimeout, ErrorLog: s.ErrorLog,
			}
			go func() { served <- s.Serve(t.Context(), l) }()
			defer func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				if err := s.Shutdown(ctx); err != nil {
					t.Errorf("Shutdown() = %v", err)
				}
				if err := <-served; !errors.Is(err, ErrServerClosed) {
					t.Errorf("Serve() = %v", err)
				}
			}()
			test(t, l)
		})
	}
}

func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// echoMap answers OK and the key, except for the keys that tests need.
func echoMap(_ context.Context, req Request, reply []byte) []byte {
	switch string(req.Key) {
	case "absent":
		return AppendNotFound(reply)
	case "panic":
		panic("as asked")
	case "nonsense":
		return append(reply, "HELLO"...)
	}
	return append(append(reply, "OK "...), req.Key...)
}

func send(t testing.TB, c net.Conn, wire string) {
	t.Helper()
	if _, err := c.Write([]byte(wire)); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// ask sends one request and returns the reply's payload.
func ask(t testing.TB, c net.Conn, key string) string {
	t.Helper()
	req, err := AppendRequest(nil, "m", key)
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, string(req))
	return receive(t, c)
}

func receive(t testing.TB, c net.Conn) string {
	t.Helper()
	p, err := NewReader(c, MaxReply).Next()
	if err != nil {
		t.Fatalf("reading a reply: %v", err)
	}
	return string(p)
}

// wantClosed waits until the server has closed the connection.
func wantClosed(t testing.TB, c net.Conn) {
	t.Helper()
	var b [1]byte
	n, err := c.Read(b[:])
	var late net.Error
	if n > 0 || err == nil || errors.As(err, &late) && late.Timeout() {
		t.Fatalf("Read() = %d, %v; want a closed connection", n, err)
	}
}

// elapse lets time pass in a bubble, where it costs none.
func elapse(d time.Duration) { <-time.After(d) }

// addressOf is the Address of a listener of the tests.
func addressOf(l net.Listener) Address {
	if l.Addr().Network() == "unix" {
		return Address{"unix", l.Addr().String()}
	}
	return Address{"tcp", l.Addr().String()}
}
