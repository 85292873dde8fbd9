package postfixmap

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A clientConn from somewhere: a pipe that says whose it is.
type fromConn struct {
	net.Conn
	from net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.from }

// dialFrom connects as a client at an address.
func (l *pipeListener) dialFrom(t *testing.T, ip string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	select {
	case l.backlog <- fromConn{theirs, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1024}}:
		return ours
	case <-l.closed:
		t.Fatal("dial: listener closed")
		return nil
	}
}

func TestClientOf(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1",
		"::ffff:192.0.2.1":   "192.0.2.1",
		"127.0.0.1":          "127.0.0.1",
		"::1":                "::1",
		"2001:db8:1:2:3::4":  "2001:db8:1:2::/64",
		"2001:db8:1:2:ff::1": "2001:db8:1:2::/64",
	} {
		if got := clientOf(fromConn{nil, &net.TCPAddr{IP: net.ParseIP(from), Port: 25}}); got != want {
			t.Errorf("clientOf(%s) = %q, want %q", from, got, want)
		}
	}
	if got := clientOf(fromConn{nil, &net.UnixAddr{Name: "@", Net: "unix"}}); got != "" {
		t.Errorf("an unknown user is %q", got)
	}
}

func TestRequestNamesItsClient(t *testing.T) {
	h := HandlerFunc(func(_ context.Context, req Request, reply []byte) []byte { return AppendOK(reply, req.Client) })
	onSockets(t, &Server{Handler: h}, func(t *testing.T, l net.Listener) {
		want := "OK 127.0.0.1"
		if l.Addr().Network() == "unix" {
			want = "OK uid " + strconv.Itoa(os.Getuid())
		}
		if got := ask(t, dial(t, l), "k"); got != want {
			t.Errorf("the client is %q, want %q", got, want)
		}
	})
}

// stuck answers every key but "k" when release is closed.
func stuck(release chan struct{}) Handler {
	return HandlerFunc(func(ctx context.Context, req Request, reply []byte) []byte {
		if string(req.Key) != "k" {
			<-release
		}
		return echoMap(ctx, req, reply)
	})
}

// One client has every connection, with a question under way on each: another one gets its share
// all the same, and the first no more than it has.
func TestServerIsFairBetweenClients(t *testing.T) {
	const limit = 12
	release := make(chan struct{})
	s := &Server{MaxConnections: limit}
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		s.Handler = stuck(release)
		l := newPipeListener()
		go func() { _ = s.Serve(t.Context(), l) }()
		var held []net.Conn
		for range limit {
			c := l.dialFrom(t, "192.0.2.1")
			send(t, c, "6:m slow,")
			held = append(held, c)
		}
		synctest.Wait()
		start := time.Now()
		for i := range limit / 3 {
			c := l.dialFrom(t, "192.0.2.2")
			if got := ask(t, c, "k"); got != "OK k" {
				t.Fatalf("question %d of the other client: %q", i, got)
			}
			send(t, c, "6:m slow,")
			held = append(held, c)
			synctest.Wait()
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("the other client waited %v", d)
		}
		// Each has its share now: neither gets more at the other's cost.
		for _, ip := range []string{"192.0.2.1", "192.0.2.2"} {
			wantClosed(t, l.dialFrom(t, ip))
		}
		if st := s.Stats(); st.Open != limit || st.Refused != 2 || st.Shed != limit/3 {
			t.Errorf("stats %+v", st)
		}
		close(release)
		for _, c := range held {
			_ = c.Close()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Idle connections of a client that has few are not what a client that has many gets more of.
func TestServerSparesTheFew(t *testing.T) {
	const limit = 12
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &Server{MaxConnections: limit, Handler: stuck(release)}
		l := newPipeListener()
		go func() { _ = s.Serve(t.Context(), l) }()
		few := []net.Conn{l.dialFrom(t, "192.0.2.2"), l.dialFrom(t, "192.0.2.2")}
		var many []net.Conn
		for range limit - len(few) {
			c := l.dialFrom(t, "192.0.2.1")
			send(t, c, "6:m slow,")
			many = append(many, c)
		}
		synctest.Wait()
		for range 3 {
			wantClosed(t, l.dialFrom(t, "192.0.2.1"))
		}
		for _, c := range few {
			if got := ask(t, c, "k"); got != "OK k" {
				t.Error(got)
			}
		}
		// Among the many, an idle one goes.
		release <- struct{}{}
		answered := make(chan int, len(many))
		for i, c := range many {
			go func() {
				if n, _ := c.Read(make([]byte, 100)); n > 0 {
					answered <- i
				}
			}()
		}
		i := <-answered
		synctest.Wait()
		c := l.dialFrom(t, "192.0.2.1")
		if got := ask(t, c, "k"); got != "OK k" {
			t.Error(got)
		}
		wantClosed(t, many[i])
		close(release)
		for _, c := range append(append(many, few...), c) {
			_ = c.Close()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A newcomer of a client that has few takes its place from the many, even where the few have
// been idle for longer.
func TestServerTakesFromTheMany(t *testing.T) {
	const limit = 8
	s := &Server{MaxConnections: limit, Handler: HandlerFunc(echoMap)}
	bubble(t, s, func(t *testing.T, l *pipeListener) {
		few := l.dialFrom(t, "192.0.2.2")
		_ = ask(t, few, "k")
		elapse(time.Second)
		all := []net.Conn{few}
		for range limit - 1 {
			c := l.dialFrom(t, "192.0.2.1")
			_ = ask(t, c, "k")
			all = append(all, c)
			elapse(time.Second)
		}
		late := l.dialFrom(t, "192.0.2.2")
		_ = ask(t, late, "k")
		wantClosed(t, all[1])
		if got := ask(t, few, "k"); got != "OK k" {
			t.Error(got)
		}
		for _, c := range append(all, late) {
			_ = c.Close()
		}
	})
}

// A newcomer of a client that has few is not served at the cost of its own siblings while another
// has many, though all of those are busy.
func TestServerSparesTheSiblings(t *testing.T) {
	const limit = 12
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &Server{MaxConnections: limit, Handler: stuck(release)}
		l := newPipeListener()
		go func() { _ = s.Serve(t.Context(), l) }()
		var all []net.Conn
		for range limit {
			c := l.dialFrom(t, "192.0.2.1")
			send(t, c, "6:m slow,")
			all = append(all, c)
		}
		synctest.Wait()
		var few []net.Conn
		for range 3 {
			c := l.dialFrom(t, "192.0.2.2")
			_ = ask(t, c, "k")
			synctest.Wait()
			few = append(few, c)
		}
		for _, c := range few {
			if got := ask(t, c, "k"); got != "OK k" {
				t.Error(got)
			}
		}
		close(release)
		for _, c := range append(all, few...) {
			_ = c.Close()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Those who wait for a place wait at once and not one behind the other, and no more than
// MaxNewcomers of them.
func TestServerNewcomersWaitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &Server{MaxConnections: 1, Handler: stuck(release)}
		l := newPipeListener()
		go func() { _ = s.Serve(t.Context(), l) }()
		busy := l.dial(t)
		send(t, busy, "6:m slow,")
		synctest.Wait()
		start := time.Now()
		var waiting []net.Conn
		for range MaxNewcomers {
			waiting = append(waiting, l.dial(t))
		}
		wantClosed(t, l.dial(t))
		if d := time.Since(start); d != 0 {
			t.Errorf("one more than may wait was refused after %v", d)
		}
		for _, c := range waiting {
			wantClosed(t, c)
		}
		if d := time.Since(start); d != DefaultAdmitTimeout {
			t.Errorf("all were refused after %v", d)
		}
		close(release)
		_ = busy.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A client that never reads its replies keeps its place only until another wants it.
func TestServerShedsWhoNeverReads(t *testing.T) {
	const limit = 4
	big := strings.Repeat("r", MaxReply-3)
	s := &Server{MaxConnections: limit, Handler: HandlerFunc(func(_ context.Context, req Request, reply []byte) []byte {
		if string(req.Key) == "big" {
			return AppendOK(reply, big)
		}
		return AppendOK(reply, "k")
	})}
	bubble(t, s, func(t *testing.T, l *pipeListener) {
		var deaf []net.Conn
		for range limit {
			c := l.dial(t)
			send(t, c, "5:m big,")
			deaf = append(deaf, c)
			elapse(time.Second / 10)
		}
		elapse(DefaultAdmitTimeout)
		start := time.Now()
		var good []net.Conn
		for range limit {
			c := l.dial(t)
			if got := ask(t, c, "k"); got != "OK k" {
				t.Fatal(got)
			}
			good = append(good, c)
			// Busy again, so that the next newcomer finds no idle one.
			send(t, c, "5:m big,")
			synctest.Wait()
		}
		if d := time.Since(start); d > DefaultAdmitTimeout {
			t.Errorf("the newcomers waited %v", d)
		}
		if st := s.Stats(); st.Shed != limit || st.Refused != 0 {
			t.Errorf("stats %+v", st)
		}
		for _, c := range append(deaf, good...) {
			_ = c.Close()
		}
	})
}
