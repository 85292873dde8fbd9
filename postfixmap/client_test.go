package postfixmap

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestClientLookup(t *testing.T) {
	onSockets(t, &Server{Handler: HandlerFunc(echoMap)}, func(t *testing.T, l net.Listener) {
		var dials atomic.Int32
		c := &Client{Address: addressOf(l)}
		c.DialFunc = func(ctx context.Context) (net.Conn, error) {
			dials.Add(1)
			return c.Address.Dial(ctx)
		}
		for key, want := range map[string]Reply{
			"example.com": {StatusOK, []byte("example.com")},
			"absent":      {StatusNotFound, nil},
			"panic":       {StatusTemp, []byte("internal error")},
		} {
			got, err := c.Lookup(t.Context(), "m", key)
			if err != nil || got.Status != want.Status || string(got.Data) != string(want.Data) {
				t.Errorf("Lookup(%q) = %v, %v", key, got, err)
			}
		}
		if n := dials.Load(); n != 1 {
			t.Errorf("%d connections for three questions", n)
		}
		if _, err := c.Lookup(t.Context(), "two words", "k"); !errors.Is(err, ErrNoSpace) {
			t.Error(err)
		}
		if _, err := c.Lookup(t.Context(), "m", strings.Repeat("k", MaxRequest)); !errors.Is(err, ErrTooLong) {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.Lookup(t.Context(), "m", "k"); !errors.Is(err, ErrClientClosed) {
			t.Error(err)
		}
	})
}

// A script plays a server: each element is one connection, each element of it what is written
// after one request was read; an empty one closes.
type script struct{ conns [][]string }

func (s *script) dial(context.Context) (net.Conn, error) {
	if len(s.conns) == 0 {
		return nil, errors.New("nobody listens")
	}
	answers := s.conns[0]
	s.conns = s.conns[1:]
	ours, theirs := net.Pipe()
	go func() {
		defer func() { _ = theirs.Close() }()
		d := NewReader(theirs, MaxRequest)
		for _, a := range answers {
			if _, err := d.Next(); err != nil || a == "" {
				return
			}
			if _, err := theirs.Write([]byte(a)); err != nil {
				return
			}
		}
	}()
	return ours, nil
}

func TestClientStaleConnections(t *testing.T) {
	const ok = "4:OK x,"
	tests := []struct {
		name  string
		conns [][]string
		wants []error // one a lookup; nil: x is found
	}{
		{"closed while idle", [][]string{{ok}, {ok}}, []error{nil, nil}},
		{"closed on the question", [][]string{{ok, ""}, {ok}}, []error{nil, nil}},
		{"only one retry", [][]string{{ok}, {""}, {ok}}, []error{nil, errAny, nil}},
		{"a new connection is not retried", [][]string{{""}, {ok}}, []error{errAny, nil}},
		{"half a reply is not retried", [][]string{{ok, "4:OK"}, {ok}}, []error{nil, errAny, nil}},
		{"garbage", [][]string{{"garbage"}, {ok}}, []error{ErrMalformed, nil}},
		{"garbage is not retried", [][]string{{ok, "garbage"}, {ok}}, []error{nil, ErrMalformed, nil}},
		{"no status", [][]string{{"5:HELLO,"}, {ok}}, []error{ErrBadReply, nil}},
		{"bare OK", [][]string{{"2:OK,"}, {ok}}, []error{ErrBadReply, nil}},
		{"too long", [][]string{{"100001:"}, {ok}}, []error{ErrTooLong, nil}},
		{"more than was asked for", [][]string{{ok + "4:OK y,"}, {ok}}, []error{nil, nil}},
		{"nobody", nil, []error{errAny}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &Client{DialFunc: (&script{tt.conns}).dial}
				for i, want := range tt.wants {
					r, err := c.Lookup(t.Context(), "m", "k")
					synctest.Wait()
					switch {
					case want == nil && (err != nil || string(r.Data) != "x" || r.Status != StatusOK):
						t.Errorf("lookup %d = %v, %v", i, r, err)
					case want == errAny && err == nil, want != nil && want != errAny && !errors.Is(err, want):
						t.Errorf("lookup %d = %v, %v; want %v", i, r, err, want)
					case err != nil && r.Status != StatusTemp:
						t.Errorf("lookup %d: %v beside an error", i, r.Status)
					}
				}
				_ = c.Close()
			})
		})
	}
}

var errAny = errors.New("any")

func TestClientDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { _, _ = NewReader(theirs, MaxRequest).Next() }()
			return ours, nil
		}
		c := &Client{DialFunc: dial}
		start := time.Now()
		if _, err := c.Lookup(t.Context(), "m", "k"); !isTimeout(err) || time.Since(start) != DefaultTimeout {
			t.Errorf("without a deadline: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := c.Lookup(ctx, "m", "k"); !isTimeout(err) || time.Since(start) != time.Second {
			t.Errorf("with a deadline: %v after %v", err, time.Since(start))
		}
		cause := errors.New("changed my mind")
		ctx2, cancel2 := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel2(cause) })
		start = time.Now()
		if _, err := c.Lookup(ctx2, "m", "k"); !errors.Is(err, cause) || time.Since(start) != time.Second {
			t.Errorf("cancelled: %v after %v", err, time.Since(start))
		}
	})
}

func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

func TestClientPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &Server{Handler: HandlerFunc(func(ctx context.Context, req Request, reply []byte) []byte {
			if string(req.Key) == "wait" {
				<-release
			}
			return echoMap(ctx, req, reply)
		})}
		l := newPipeListener()
		go func() { _ = s.Serve(t.Context(), l) }()
		c := &Client{MaxIdle: 2, DialFunc: func(context.Context) (net.Conn, error) { return l.dial(t), nil }}
		done := make(chan error)
		for range 5 {
			go func() { _, err := c.Lookup(t.Context(), "m", "wait"); done <- err }()
		}
		synctest.Wait()
		if n := s.Stats().Open; n != 5 {
			t.Errorf("%d connections for five questions at once", n)
		}
		close(release)
		for range 5 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if n := s.Stats().Open; n != 2 {
			t.Errorf("%d connections kept, want 2", n)
		}
		elapse(DefaultClientKeep)
		if _, err := c.Lookup(t.Context(), "m", "k"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if st := s.Stats(); st.Open != 1 || st.Accepted != 6 {
			t.Errorf("after the idle time: %+v", st)
		}
		_ = c.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestClientCloseIdle: what is kept goes, what is under way stays, and the next question
// has a new connection.
func TestClientCloseIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &Server{Handler: HandlerFunc(func(ctx context.Context, req Request, reply []byte) []byte {
			if string(req.Key) == "wait" {
				<-release
			}
			return echoMap(ctx, req, reply)
		})}
		l := newPipeListener()
		go func() { _ = s.Serve(t.Context(), l) }()
		c := &Client{DialFunc: func(context.Context) (net.Conn, error) { return l.dial(t), nil }}
		ask := func(key string) {
			if r, err := c.Lookup(t.Context(), "m", key); err != nil || string(r.Data) != key {
				t.Errorf("%s: %v, %v", key, r, err)
			}
		}
		done := make(chan struct{})
		go func() { ask("wait"); close(done) }()
		synctest.Wait()
		ask("k")
		c.CloseIdle()
		synctest.Wait()
		if n := s.Stats().Open; n != 1 {
			t.Errorf("%d connections are open, want that of the question under way", n)
		}
		ask("k")
		close(release)
		<-done
		if st := s.Stats(); st.Accepted != 3 {
			t.Errorf("stats %+v", st)
		}
		_ = c.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
