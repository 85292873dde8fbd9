package postfixmap

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// The two benchmarks run the same client against the Server and against the least that answers
// netstrings at all: a bufio.Reader, a bufio.Writer, no limits, no deadlines, no parsing of the
// payload. The quotient of their rates is what the Server's safety costs.

func BenchmarkServer(b *testing.B) {
	// The reply is about as long as the request, as the echo is.
	table := map[string]string{"example.com": "encrypt ciphers=high"}
	h := HandlerFunc(func(_ context.Context, req Request, reply []byte) []byte {
		if v, ok := table[string(req.Key)]; ok {
			return AppendOK(reply, v)
		}
		return AppendNotFound(reply)
	})
	load(b, func(l net.Listener) func() {
		s := &Server{Handler: h}
		go func() { _ = s.Serve(context.Background(), l) }()
		return func() { _ = s.Close() }
	})
}

func BenchmarkEchoFloor(b *testing.B) {
	load(b, func(l net.Listener) func() {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go echo(c)
			}
		}()
		return func() { _ = l.Close() }
	})
}

func echo(c net.Conn) {
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	var payload, out []byte
	for {
		head, err := r.ReadSlice(':')
		if err != nil {
			_ = c.Close()
			return
		}
		n, _ := strconv.Atoi(string(head[:len(head)-1]))
		payload, _ = r.Peek(n + 1)
		out = append(strconv.AppendInt(out[:0], int64(n), 10), ':')
		out = append(out, payload...)
		_, _ = r.Discard(n + 1)
		_, _ = w.Write(out)
		if r.Buffered() == 0 {
			_ = w.Flush()
		}
	}
}

// load measures whole requests through a socket: one operation is one request.
func load(b *testing.B, serve func(net.Listener) (stop func())) {
	for _, network := range []string{"unix", "tcp"} {
		for _, shape := range []struct{ conns, depth int }{{1, 1}, {8, 1}, {1, 16}, {8, 16}} {
			b.Run(fmt.Sprintf("%s/conns=%d/depth=%d", network, shape.conns, shape.depth), func(b *testing.B) {
				l := listen(b, network)
				defer serve(l)()
				clients := make([]net.Conn, shape.conns)
				for i := range clients {
					c, err := net.Dial(network, l.Addr().String())
					if err != nil {
						b.Fatal(err)
					}
					defer func() { _ = c.Close() }()
					clients[i] = c
				}
				b.ReportAllocs()
				b.ResetTimer()
				drive(b, clients, shape.depth)
			})
		}
	}
}

// drive shares b.N requests among the clients, depth of them at a time.
func drive(b *testing.B, clients []net.Conn, depth int) {
	one, _ := AppendRequest(nil, "postfix", "example.com")
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			var wire []byte
			for range depth {
				wire = append(wire, one...)
			}
			d := NewReader(c, MaxReply)
			for {
				n := depth
				if over := left.Add(-int64(depth)); over <= -int64(depth) {
					return
				} else if over < 0 {
					n = depth + int(over)
				}
				if _, err := c.Write(wire[:n*len(one)]); err != nil {
					b.Error(err)
					return
				}
				for range n {
					if _, err := d.Next(); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkClient(b *testing.B) {
	for _, network := range []string{"unix", "tcp"} {
		b.Run(network, func(b *testing.B) {
			l := listen(b, network)
			s := &Server{Handler: HandlerFunc(echoMap)}
			go func() { _ = s.Serve(context.Background(), l) }()
			defer func() { _ = s.Close() }()
			c := &Client{Address: addressOf(l)}
			defer func() { _ = c.Close() }()
			ctx, cancel := context.WithTimeout(context.Background(), DefaultTimeout)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Lookup(ctx, "postfix", "example.com"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
