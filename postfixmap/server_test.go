package postfixmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestServerAnswers(t *testing.T) {
	onSockets(t, &Server{Handler: HandlerFunc(echoMap)}, func(t *testing.T, l net.Listener) {
		c := dial(t, l)
		for key, want := range map[string]string{
			"example.com": "OK example.com",
			"absent":      "NOTFOUND ",
			"a b":         "OK a b",
			"panic":       "TEMP internal error",
			"nonsense":    "TEMP internal error",
			"after":       "OK after",
		} {
			if got := ask(t, c, key); got != want {
				t.Errorf("%q: %q, want %q", key, got, want)
			}
		}
		big := strings.Repeat("k", MaxRequest-2)
		if got := ask(t, c, big); got != "OK "+big {
			t.Errorf("a request at the limit: %d bytes back", len(got))
		}
	})
}

func TestServerPipeline(t *testing.T) {
	onSockets(t, &Server{Handler: HandlerFunc(echoMap)}, func(t *testing.T, l net.Listener) {
		c := dial(t, l)
		const n = 3000
		go func() {
			var wire []byte
			for i := range n {
				wire, _ = AppendRequest(wire, "m", fmt.Sprint(i))
			}
			_, _ = c.Write(wire)
		}()
		d := NewReader(c, MaxReply)
		for i := range n {
			p, err := d.Next()
			if want := fmt.Sprintf("OK %d", i); err != nil || string(p) != want {
				t.Fatalf("reply %d = %q, %v", i, p, err)
			}
		}
	})
}

// One write answers a pipeline: the replies are kept until no further whole request is buffered.
func TestServerCoalesces(t *testing.T) {
	bubble(t, &Server{Handler: HandlerFunc(echoMap)}, func(t *testing.T, l *pipeListener) {
		c := l.dial(t)
		go func() { _, _ = c.Write([]byte("3:m a,3:m b,3:m c,3:m")) }()
		b := make([]byte, 100)
		n, err := c.Read(b)
		if got, want := string(b[:n]), "4:OK a,4:OK b,4:OK c,"; err != nil || got != want {
			t.Errorf("first write %q, %v; want %q", got, err, want)
		}
		_ = c.Close()
	})
}

func TestServerRefusesGarbage(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	h := slog.NewTextHandler(&lockedWriter{&mu, &log}, nil)
	s := &Server{Handler: HandlerFunc(echoMap), ErrorLog: slog.New(h)}
	bubble(t, s, func(t *testing.T, l *pipeListener) {
		garbage := []string{"GET / HTTP/1.0\r\n\r\n", "10001:", "01:a,", "3:m abc", "4:abcd,", "2: k,", "\x00"}
		for _, g := range garbage {
			c := l.dial(t)
			go func() { _, _ = c.Write([]byte(g)) }()
			wantClosed(t, c)
			good := l.dial(t)
			if got := ask(t, good, "k"); got != "OK k" {
				t.Errorf("after %q: %q", g, got)
			}
			_ = good.Close()
		}
		synctest.Wait()
		if got := s.Stats(); got.Malformed != uint64(len(garbage)) || got.Open != 0 {
			t.Errorf("stats %+v", got)
		}
		if n := strings.Count(log.String(), "not a request"); n != 1 {
			t.Errorf("%d records within a minute, want 1:\n%s", n, log.String())
		}
		elapse(DefaultLogInterval)
		c := l.dial(t)
		go func() { _, _ = c.Write([]byte("x")) }()
		wantClosed(t, c)
		if !strings.Contains(log.String(), "left_out=6") {
			t.Errorf("the second record does not say how many were left out:\n%s", log.String())
		}
	})
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// What came before the garbage is answered.
func TestServerAnswersBeforeGarbage(t *testing.T) {
	bubble(t, &Server{Handler: HandlerFunc(echoMap)}, func(t *testing.T, l *pipeListener) {
		c := l.dial(t)
		go func() { _, _ = c.Write([]byte("3:m a,garbage")) }()
		if got := receive(t, c); got != "OK a" {
			t.Errorf("%q", got)
		}
		wantClosed(t, c)
	})
}

func TestServerHalfClose(t *testing.T) {
	onSockets(t, &Server{Handler: HandlerFunc(echoMap)}, func(t *testing.T, l net.Listener) {
		c := dial(t, l)
		send(t, c, "3:m k,")
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(c)
		if err != nil || string(all) != "4:OK k," {
			t.Errorf("%q, %v", all, err)
		}
	})
}

func TestServerTimeouts(t *testing.T) {
	s := &Server{Handler: HandlerFunc(echoMap)}
	bubble(t, s, func(t *testing.T, l *pipeListener) {
		start := time.Now()
		slow := l.dial(t)
		send(t, slow, "2")
		wantClosed(t, slow)
		if d := time.Since(start); d != DefaultRequestTimeout {
			t.Errorf("an unfinished request lasted %v", d)
		}
		idle := l.dial(t)
		for range 3 {
			if got := ask(t, idle, "k"); got != "OK k" {
				t.Fatal(got)
			}
			elapse(100 * time.Second)
		}
		start = time.Now().Add(-100 * time.Second)
		wantClosed(t, idle)
		if d := time.Since(start); d < DefaultIdleTimeout || d > DefaultIdleTimeout*11/10 {
			t.Errorf("an idle connection lasted %v", d)
		}
		synctest.Wait()
		if st := s.Stats(); st.Unfinished != 1 || st.Idle != 1 || st.Requests != 3 {
			t.Errorf("stats %+v", st)
		}
	})
}

// A client that writes a byte now and then does not extend its time.
func TestServerCutsDribblers(t *testing.T) {
	bubble(t, &Server{Handler: HandlerFunc(echoMap)}, func(t *testing.T, l *pipeListener) {
		c := l.dial(t)
		start := time.Now()
		for _, b := range []byte("300:" + strings.Repeat("x", 300)) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			elapse(time.Second)
		}
		if d := time.Since(start); d > DefaultRequestTimeout+time.Second {
			t.Errorf("dribbled for %v", d)
		}
	})
}

// A slow request does not use up the idle time, and the deadline of an unfinished request does
// not outlive it.
func TestServerDeadlinesAreReset(t *testing.T) {
	h := HandlerFunc(func(ctx context.Context, req Request, reply []byte) []byte {
		elapse(20 * time.Minute)
		return echoMap(ctx, req, reply)
	})
	bubble(t, &Server{Handler: h}, func(t *testing.T, l *pipeListener) {
		c := l.dial(t)
		for range 2 {
			send(t, c, "3:m")
			send(t, c, " k,")
			if got := receive(t, c); got != "OK k" {
				t.Fatal(got)
			}
			elapse(140 * time.Second)
		}
		_ = c.Close()
	})
}

func TestServerNeverReadingClient(t *testing.T) {
	big := strings.Repeat("r", MaxReply-3)
	h := HandlerFunc(func(_ context.Context, _ Request, reply []byte) []byte { return AppendOK(reply, big) })
	s := &Server{Handler: h}
	bubble(t, s, func(t *testing.T, l *pipeListener) {
		c := l.dial(t)
		start := time.Now()
		for {
			if _, err := c.Write([]byte("3:m k,")); err != nil {
				break
			}
		}
		if d := time.Since(start); d < DefaultWriteTimeout || d > 2*DefaultWriteTimeout {
			t.Errorf("held the server for %v", d)
		}
		synctest.Wait()
		if st := s.Stats(); st.Unread != 1 || st.Open != 0 || st.Requests > 2 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestServerPanicIsReported(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	s := &Server{Handler: HandlerFunc(echoMap), ErrorLog: slog.New(slog.NewTextHandler(&lockedWriter{&mu, &log}, nil))}
	bubble(t, s, func(t *testing.T, l *pipeListener) {
		c := l.dial(t)
		for range 3 {
			if got := ask(t, c, "panic"); got != "TEMP internal error" {
				t.Fatal(got)
			}
		}
		_ = ask(t, c, "nonsense")
		_ = c.Close()
		if st := s.Stats(); st.Panics != 3 || st.BadReplies != 1 {
			t.Errorf("stats %+v", st)
		}
		if got := log.String(); !strings.Contains(got, "as asked") || !strings.Contains(got, "echoMap") {
			t.Errorf("the log names neither the panic nor where it was:\n%s", got)
		}
	})
}

// A handler may return a slice of its own, shared by all calls: the server must not write to it.
func TestServerLeavesHandlersSliceAlone(t *testing.T) {
	shared := append(make([]byte, 0, 100), "OK shared"...)
	h := HandlerFunc(func(ctx context.Context, req Request, reply []byte) []byte {
		if string(req.Key) == "shared" {
			return shared
		}
		return echoMap(ctx, req, reply)
	})
	bubble(t, &Server{Handler: h}, func(t *testing.T, l *pipeListener) {
		c := l.dial(t)
		for range 3 {
			if got := ask(t, c, "shared"); got != "OK shared" {
				t.Fatal(got)
			}
			_ = ask(t, c, "other")
		}
		_ = c.Close()
	})
}

// Connections that hold a place for nothing give it up to the next client, at once.
func TestServerSheds(t *testing.T) {
	const limit = 8
	s := &Server{Handler: HandlerFunc(echoMap), MaxConnections: limit}
	bubble(t, s, func(t *testing.T, l *pipeListener) {
		var held []net.Conn
		for i := range limit {
			c := l.dial(t)
			held = append(held, c)
			switch i % 3 {
			case 0: // idle from the start
			case 1:
				_ = ask(t, c, "k")
			case 2: // half a request
				send(t, c, "30:m ab")
			}
			elapse(time.Second / 10)
		}
		// The first has been used again since: the one after it has been idle longest.
		_ = ask(t, held[0], "k")
		elapse(time.Second / 10)
		for _, want := range []int{1, 3, 4, 6, 7, 0} {
			c := l.dial(t)
			if got := ask(t, c, "k"); got != "OK k" {
				t.Fatal(got)
			}
			elapse(time.Second / 10)
			wantClosed(t, held[want])
			held = append(held, c)
		}
		// Six newcomers are idle now, and go before the two with unfinished requests.
		for i := limit; i < limit+6; i++ {
			c := l.dial(t)
			_ = ask(t, c, "k")
			wantClosed(t, held[i])
			held = append(held, c)
			elapse(time.Second / 10)
		}
		if st := s.Stats(); st.Shed != 12 || st.Open != limit || st.Refused != 0 {
			t.Errorf("stats %+v", st)
		}
		send(t, held[2], strings.Repeat("x", 26)+",")
		if got := receive(t, held[2]); !strings.HasPrefix(got, "OK ab") {
			t.Errorf("the unfinished request that was not shed: %q", got)
		}
		for _, c := range held {
			_ = c.Close()
		}
	})
}

func TestServerShedsOldestUnfinished(t *testing.T) {
	const limit = 4
	s := &Server{Handler: HandlerFunc(echoMap), MaxConnections: limit}
	bubble(t, s, func(t *testing.T, l *pipeListener) {
		var held []net.Conn
		for range limit {
			c := l.dial(t)
			send(t, c, "30:m ab")
			held = append(held, c)
			elapse(time.Second)
		}
		c := l.dial(t)
		if got := ask(t, c, "k"); got != "OK k" {
			t.Fatal(got)
		}
		wantClosed(t, held[0])
		// One that was set aside finishes, goes idle, and can be shed as an idle one.
		send(t, held[1], strings.Repeat("x", 26)+",")
		_ = receive(t, held[1])
		elapse(time.Second)
		_ = ask(t, c, "k")
		d := l.dial(t)
		_ = ask(t, d, "k")
		wantClosed(t, held[1])
		for _, c := range append(held, c, d) {
			_ = c.Close()
		}
	})
}

func TestServerAllBusy(t *testing.T) {
	const limit = 3
	release := make(chan struct{})
	s := &Server{MaxConnections: limit}
	s.Handler = HandlerFunc(func(ctx context.Context, req Request, reply []byte) []byte {
		if string(req.Key) == "slow" {
			<-release
		}
		return echoMap(ctx, req, reply)
	})
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		l := newPipeListener()
		go func() { _ = s.Serve(t.Context(), l) }()
		var held []net.Conn
		for range limit {
			c := l.dial(t)
			send(t, c, "6:m slow,")
			held = append(held, c)
		}
		synctest.Wait()
		start := time.Now()
		refused := l.dial(t)
		wantClosed(t, refused)
		if d := time.Since(start); d != DefaultAdmitTimeout {
			t.Errorf("refused after %v", d)
		}
		// A place that comes free while a newcomer waits is the newcomer's, even though the
		// connection stays open.
		time.AfterFunc(DefaultAdmitTimeout/2, func() { release <- struct{}{} })
		var done atomic.Int32
		for _, c := range held {
			go func() { _ = c.SetReadDeadline(time.Time{}); _, _ = c.Read(make([]byte, 100)); done.Add(1) }()
		}
		late := l.dial(t)
		start = time.Now()
		if got := ask(t, late, "k"); got != "OK k" {
			t.Error(got)
		}
		if d := time.Since(start); d != DefaultAdmitTimeout/2 {
			t.Errorf("admitted after %v", d)
		}
		if st := s.Stats(); st.Refused != 1 || st.Shed != 1 || st.Open != limit || done.Load() != 1 {
			t.Errorf("stats %+v, %d answered", st, done.Load())
		}
		close(release)
		for _, c := range held {
			_ = c.Close()
		}
		_ = late.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The same on real sockets, with every kind of bad company at once.
func TestServerNextClientIsAnswered(t *testing.T) {
	const limit = 32
	s := &Server{Handler: HandlerFunc(echoMap), MaxConnections: limit, RequestTimeout: time.Second}
	onSockets(t, s, func(t *testing.T, l net.Listener) {
		for i := range 6 * limit {
			c := dial(t, l)
			switch i % 4 {
			case 0: // idle
			case 1:
				_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			case 2:
				_, _ = c.Write([]byte("30:m ab"))
			case 3:
				go func() {
					for c.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
						if _, err := c.Write([]byte{'1'}); err != nil {
							return
						}
						runtime.Gosched()
					}
				}()
			}
			if i%8 == 7 {
				good := dial(t, l)
				start := time.Now()
				if got := ask(t, good, "k"); got != "OK k" {
					t.Fatalf("after %d bad ones: %q", i, got)
				}
				if d := time.Since(start); d > 2*time.Second {
					t.Errorf("after %d bad ones: answered after %v", i, d)
				}
			}
		}
	})
}

// Connections come, ask, go idle and are shed from all sides, under the race detector. Every
// client that is closed on without an answer must have been idle or new, so one retry does.
func TestServerShedUnderLoad(t *testing.T) {
	onSockets(t, &Server{Handler: HandlerFunc(echoMap), MaxConnections: 4}, func(t *testing.T, l net.Listener) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				c := &Client{Address: addressOf(l)}
				defer func() { _ = c.Close() }()
				for i := range 300 {
					r, err := c.Lookup(t.Context(), "m", fmt.Sprint(i))
					for n := 0; err != nil && n < 20; n++ {
						r, err = c.Lookup(t.Context(), "m", fmt.Sprint(i))
					}
					if err != nil || string(r.Data) != fmt.Sprint(i) {
						t.Errorf("lookup %d = %v, %v", i, r, err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestServerSlowHandlerDisturbsNobody(t *testing.T) {
	release := make(chan struct{})
	h := HandlerFunc(func(ctx context.Context, req Request, reply []byte) []byte {
		if string(req.Key) == "slow" {
			<-release
		}
		return echoMap(ctx, req, reply)
	})
	s := &Server{Handler: h}
	onSockets(t, s, func(t *testing.T, l net.Listener) {
		slow := dial(t, l)
		send(t, slow, "6:m slow,")
		other := dial(t, l)
		for range 100 {
			if got := ask(t, other, "k"); got != "OK k" {
				t.Fatal(got)
			}
		}
		release <- struct{}{}
		if got := receive(t, slow); got != "OK slow" {
			t.Error(got)
		}
	})
}

func TestServerShutdownDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Handler: HandlerFunc(func(ctx context.Context, req Request, reply []byte) []byte {
			if string(req.Key) == "slow" {
				elapse(3 * time.Second)
			}
			return echoMap(ctx, req, reply)
		})}
		l := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l) }()
		idle, busy, partial := l.dial(t), l.dial(t), l.dial(t)
		send(t, busy, "6:m slow,3:m k,")
		send(t, partial, "3:m")
		synctest.Wait()
		cancel() // what a signal does: accepting ends, nothing else
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve() = %v", err)
		}
		if got := ask(t, idle, "k"); got != "OK k" {
			t.Errorf("after Serve ended: %q", got)
		}
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(context.Background()) }()
		wantClosed(t, idle)
		d := NewReader(busy, MaxReply)
		for _, want := range []string{"OK slow", "OK k"} {
			if p, err := d.Next(); err != nil || string(p) != want {
				t.Errorf("during the drain: %q, %v; want %q", p, err, want)
			}
		}
		wantClosed(t, busy)
		send(t, partial, " k,")
		if got := receive(t, partial); got != "OK k" {
			t.Errorf("the unfinished request: %q", got)
		}
		wantClosed(t, partial)
		if err := <-down; err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
		if err := s.Serve(t.Context(), newPipeListener()); !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve() after Shutdown = %v", err)
		}
	})
}

func TestServerShutdownGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan error, 1)
		s := &Server{Handler: HandlerFunc(func(ctx context.Context, _ Request, reply []byte) []byte {
			<-ctx.Done()
			stuck <- ctx.Err()
			return AppendTemp(reply, "closing")
		})}
		l := newPipeListener()
		go func() { _ = s.Serve(t.Context(), l) }()
		c := l.dial(t)
		send(t, c, "3:m k,")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v", err)
		}
		if err := <-stuck; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler saw %v", err)
		}
		wantClosed(t, c)
	})
}

func TestServerShutdownBeforeServe(t *testing.T) {
	s := &Server{Handler: HandlerFunc(echoMap)}
	for range 2 {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Serve(t.Context(), listen(t, "tcp")); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve() = %v", err)
	}
}

func TestServerSeveralListeners(t *testing.T) {
	s := &Server{Handler: HandlerFunc(echoMap)}
	var served sync.WaitGroup
	for _, network := range []string{"unix", "tcp", "tcp"} {
		l := listen(t, network)
		served.Go(func() {
			if err := s.Serve(t.Context(), l); !errors.Is(err, ErrServerClosed) {
				t.Errorf("Serve() = %v", err)
			}
		})
		if got := ask(t, dial(t, l), "k"); got != "OK k" {
			t.Errorf("%s: %q", network, got)
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	served.Wait()
}

// A listener that has run out of descriptors, and one that was closed by somebody else.
type failingListener struct {
	net.Listener
	fails atomic.Int32
	err   error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.fails.Add(-1) >= 0 {
		return nil, l.err
	}
	return l.Listener.Accept()
}

func TestServerOutOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Handler: HandlerFunc(echoMap)}
		pl := newPipeListener()
		l := &failingListener{Listener: pl, err: &net.OpError{Op: "accept", Err: syscall.EMFILE}}
		go func() { _ = s.Serve(t.Context(), l) }()
		first, second := pl.dial(t), pl.dial(t)
		_ = ask(t, second, "k")
		l.fails.Store(1)
		// Accept is waiting in the real listener: this one gets through, the next try fails.
		third := pl.dial(t)
		_ = ask(t, third, "k")
		synctest.Wait()
		wantClosed(t, first)
		fourth := pl.dial(t)
		if got := ask(t, fourth, "k"); got != "OK k" {
			t.Error(got)
		}
		if st := s.Stats(); st.AcceptErrs != 1 || st.Shed != 1 || st.Open != 3 {
			t.Errorf("stats %+v", st)
		}
		if got := ask(t, second, "k"); got != "OK k" {
			t.Error(got)
		}
		for _, c := range []net.Conn{second, third, fourth} {
			_ = c.Close()
		}
		_ = pl.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestServerListenerClosedByOthers(t *testing.T) {
	s := &Server{Handler: HandlerFunc(echoMap)}
	l := listen(t, "tcp")
	_ = l.Close()
	if err := s.Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve() = %v", err)
	}
}

// A hit allocates nothing between the socket and the handler and back.
func TestServerHitDoesNotAllocate(t *testing.T) {
	answers := map[string]string{"example.com": "dane-only"}
	s := &Server{Handler: HandlerFunc(func(_ context.Context, req Request, reply []byte) []byte {
		if v, ok := answers[string(req.Key)]; ok {
			return AppendOK(reply, v)
		}
		return AppendNotFound(reply)
	})}
	s.init()
	wire, _ := AppendRequest(nil, "postfix", "example.com")
	loop := &loopConn{in: wire}
	c := newConn(s, loop, &client{open: 1})
	s.conns[c] = struct{}{}
	turn := func() {
		loop.fed = false
		if !c.wait() {
			t.Fatal("the connection ended")
		}
		p, err := c.in.Buffered()
		if err != nil || !c.answer(t.Context(), p) {
			t.Fatal(err)
		}
	}
	turn()
	turn()
	if n := testing.AllocsPerRun(1000, turn); n != 0 {
		t.Errorf("%v allocations a hit, want none", n)
	}
}

// A loopConn reads the same request again and again, and discards the replies.
type loopConn struct {
	net.Conn
	in  []byte
	fed bool
}

func (c *loopConn) Read(p []byte) (int, error) {
	if c.fed {
		return 0, io.EOF
	}
	c.fed = true
	return copy(p, c.in), nil
}
func (c *loopConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *loopConn) SetReadDeadline(time.Time) error  { return nil }
func (c *loopConn) SetWriteDeadline(time.Time) error { return nil }
