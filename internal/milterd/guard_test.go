package milterd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d--j/go-milter"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// packet is one milter packet.
func packet(code byte, data string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(data)))
	return append(append(b, code), data...)
}

// hello is the negotiation of a Postfix.
func hello() []byte {
	data := binary.BigEndian.AppendUint32(nil, 6)
	data = binary.BigEndian.AppendUint32(data, 0x1ff)
	data = binary.BigEndian.AppendUint32(data, 0x1fffff)
	return packet('O', string(data))
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// A test that waits for what never comes says so.
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// holes are the packets that end a process in which go-milter reads them.
func holes() map[string][]byte {
	return map[string][]byte{
		"a packet without content":       {0, 0, 0, 0},
		"CONNECT without NUL":            packet('C', "host"),
		"CONNECT without family":         packet('C', "host\x00"),
		"MAIL without NUL":               packet('M', "<a@example.com>"),
		"RCPT without NUL":               packet('R', "<a@example.com>"),
		"half a gigabyte":                {0x1f, 0xff, 0xff, 0xff, 'B'},
		"four gigabytes":                 {0xff, 0xff, 0xff, 0xff, 'O'},
		"macros of more than 64 KiB":     {0, 2, 0, 0, 'D'},
		"a command that does not exist":  packet('z', "x"),
		"a packet of a body over 1 MiB":  {0, 0x10, 0, 1, 'B'},
		"an HTTP request":                []byte("GET / HTTP/1.1\r\n\r\n"),
		"an empty packet after commands": append(packet('H', "x\x00"), 0, 0, 0, 0),
	}
}

// TestSurvivesItsKnownKillers: go-milter itself, behind the guard, outlives each of them, and so
// do the connections beside. Without the guard this test does not fail: it dies.
func TestSurvivesItsKnownKillers(t *testing.T) {
	inner := listen(t)
	g := NewGuard(inner, 100, quiet())
	server := milter.NewServer(milter.WithMilter(func() milter.Milter { return milter.NoOpMilter{} }))
	done := make(chan error, 1)
	go func() { done <- server.Serve(g) }()
	beside := dial(t, inner)
	write(t, beside, hello())
	readPacket(t, beside)
	n := uint64(0)
	for name, hole := range holes() {
		t.Run(name, func(t *testing.T) {
			c := dial(t, inner)
			write(t, c, hello())
			readPacket(t, c)
			write(t, c, hole)
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection was not closed: %v", err)
			}
		})
		n++
		fresh := dial(t, inner)
		write(t, fresh, hole)
		if _, err := io.Copy(io.Discard, fresh); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s first: the connection was not closed: %v", name, err)
		}
		n++
	}
	write(t, beside, packet('H', "still.here\x00"))
	if code, _ := readPacket(t, beside); code != 'c' {
		t.Errorf("the connection beside got %q", code)
	}
	// Well-formed commands before the negotiation are the library's to refuse.
	if s := g.Stats(); s.Malformed < n-1 || s.Accepted != n+1 {
		t.Errorf("stats %+v after %d connections", s, n+1)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// readPacket reads an answer.
func readPacket(t *testing.T, c net.Conn) (code byte, data []byte) {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	data = make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c, data); err != nil {
		t.Fatal(err)
	}
	return data[0], data[1:]
}

// failing fails to accept a number of times.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

// TestGuardAcceptErrors: a lack of descriptors is waited out.
func TestGuardAcceptErrors(t *testing.T) {
	inner := &failing{Listener: listen(t)}
	inner.left.Store(4)
	g := NewGuard(inner, 10, quiet())
	dial(t, inner)
	c, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestGuardLimit: one connection too many is closed at once, and a place is given
// back when a connection ends.
func TestGuardLimit(t *testing.T) {
	inner := listen(t)
	g := NewGuard(inner, 1, quiet())
	accepted := make(chan net.Conn, 2)
	go func() {
		for {
			c, err := g.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial(t, inner)
	first := <-accepted
	over := dial(t, inner)
	if _, err := over.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the second connection: %v", err)
	}
	if s := g.Stats(); s.Open != 1 || s.Refused != 1 {
		t.Errorf("stats %+v", s)
	}
	first.Close()
	dial(t, inner)
	(<-accepted).Close()
	g.Close()
}

// TestGuardDisplaces: where all places are taken, those who hold them for nothing make
// room; who has a message under way, or spoke a moment ago, does not.
func TestGuardDisplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuard(nil, 2, quiet())
		enter := func() (net.Conn, <-chan error) {
			c, peer := pipe(g)
			if c == nil {
				peer.Close()
				return nil, nil
			}
			done := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, c)
				c.Close()
				done <- err
			}()
			write(t, peer, hello())
			synctest.Wait()
			return peer, done
		}
		busy, _ := enter()
		defer busy.Close()
		write(t, busy, packet('M', "<a@example.com>\x00"))
		idle, ended := enter()
		if c, _ := enter(); c != nil {
			t.Error("one that spoke a moment ago had to go")
		}
		<-time.After(quietTime + time.Second)
		newcomer, _ := enter()
		if newcomer == nil {
			t.Fatal("there was no room for a newcomer")
		}
		defer newcomer.Close()
		if err := <-ended; err != nil {
			t.Errorf("the idle one: %v", err)
		}
		idle.Close()
		if s := g.Stats(); s.Open != 2 || s.Displaced != 1 || s.Refused != 1 || s.Slow != 0 {
			t.Errorf("stats %+v", s)
		}
		<-time.After(quietTime + time.Second)
		third, _ := enter()
		if third == nil {
			t.Fatal("the newcomer of before does not make room")
		}
		defer third.Close()
		if c, _ := enter(); c != nil {
			t.Error("a message under way had to go")
		}
	})
}

// pipe is a guarded connection and its peer, without a network.
func pipe(g *Guard) (c *guarded, peer net.Conn) {
	near, far := net.Pipe()
	return g.admit(near), far
}

// TestGuardTimes: a peer that says nothing, and one that says it byte by byte, are
// left; one that is quiet between commands is not.
func TestGuardTimes(t *testing.T) {
	for name, tc := range map[string]struct {
		say    []byte
		pauses time.Duration
		want   time.Duration
	}{
		"nothing":              {nil, 0, helloTime},
		"half a packet":        {hello()[:6], 0, frameTime},
		"then nothing":         {hello(), 0, idleTime},
		"one byte in a second": {bytes.Repeat(hello(), 9), 3 * time.Second, frameTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGuard(nil, 10, quiet())
				c, peer := pipe(g)
				defer peer.Close()
				start := time.Now()
				var writing sync.WaitGroup
				writing.Go(func() {
					for i := range tc.say {
						<-time.After(tc.pauses)
						if _, err := peer.Write(tc.say[i : i+1]); err != nil {
							return
						}
					}
				})
				_, err := io.Copy(io.Discard, c)
				if took := time.Since(start).Round(4 * time.Second); err != nil || took != tc.want.Round(4*time.Second) {
					t.Errorf("ended after %v with %v, want %v", took, err, tc.want)
				}
				if g.Stats().Slow != 1 {
					t.Errorf("stats %+v", g.Stats())
				}
				c.Close()
				writing.Wait()
			})
		})
	}
}

// TestGuardDrain: a connection without a message ends at once, one with a message
// when that ends.
func TestGuardDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuard(nil, 10, quiet())
		idle, idlePeer := pipe(g)
		busy, busyPeer := pipe(g)
		defer idlePeer.Close()
		defer busyPeer.Close()
		ended := make(chan string, 2)
		for name, c := range map[string]*guarded{"idle": idle, "busy": busy} {
			go func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
				ended <- name
			}()
		}
		write(t, idlePeer, hello())
		write(t, busyPeer, append(hello(), packet('M', "<a@example.com>\x00")...))
		synctest.Wait()
		g.Drain()
		if first := <-ended; first != "idle" {
			t.Errorf("%s ended first", first)
		}
		synctest.Wait()
		if len(ended) != 0 {
			t.Error("a message under way was cut off")
		}
		write(t, busyPeer, packet('E', ""))
		<-ended
		if s := g.Stats(); s.Open != 0 || s.Slow != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// FuzzGuard: whatever is sent, what comes out is whole packets that go-milter can
// read, in the order in which they came in.
func FuzzGuard(f *testing.F) {
	for _, hole := range holes() {
		f.Add(append(hello(), hole...))
	}
	f.Add(append(hello(), packet('M', "<a@example.com>\x00SIZE=1\x00")...))
	f.Add(append(packet('C', "h\x004\x00\x19127.0.0.1\x00"), packet('D', "Ri\x00x\x00")...))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		rest := in
		for {
			frame, err := readFrame(r, nil)
			if err != nil {
				if len(frame) > len(rest) {
					t.Fatalf("%d bytes were made of %d", len(frame), len(rest))
				}
				return
			}
			if !bytes.HasPrefix(rest, frame) {
				t.Fatalf("%q came out of %q", frame, rest)
			}
			rest = rest[len(frame):]
			data := frame[5:]
			if binary.BigEndian.Uint32(frame) != uint32(len(data)+1) || len(data) >= maxFrame {
				t.Fatalf("a packet of %d bytes: %q", len(data), frame[:5])
			}
			switch end := bytes.IndexByte(data, 0); frame[4] {
			case 'M', 'R':
				_ = data[:end][0:] // panics without NUL
			case 'C':
				_ = data[end+1:][0]
				_ = data[:end]
			}
		}
	})
}

// BenchmarkGuard is one command through the guard.
func BenchmarkGuard(b *testing.B) {
	b.ReportAllocs()
	one := packet('M', "<sender@example.com>\x00SIZE=1000\x00")
	r := bytes.NewReader(one)
	in := bufio.NewReader(r)
	var buf []byte
	for b.Loop() {
		r.Reset(one)
		in.Reset(r)
		var err error
		if buf, err = readFrame(in, buf[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
