package socketmapd

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// BenchmarkRequest is a whole question on a unix socket whose verdict is known:
// server, parser, cache, dialect. BenchmarkFloor is the same client against a
// server that only reads a netstring and echoes one: the limit in this language on
// this machine. Quote the ratio of one run.
func BenchmarkRequest(b *testing.B) {
	e, err := engine.New(engine.Config{
		Gather: func(_ context.Context, d nexthop.Destination) verdict.Facts {
			return verdict.Facts{Now: time.Now(), Destination: d, MX: verdict.Answer[verdict.MX]{Outcome: verdict.NXDomain, Proof: verdict.Secure, TTL: time.Hour}}
		},
		Entries: 1000, MinTTL: time.Minute, MaxTTL: time.Hour, RefreshAhead: true, Flights: 4, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	server := &postfixmap.Server{Handler: New(e, Options{Deadline: time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})}
	l := listen(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// It ends with the benchmark.
		_ = server.Serve(context.Background(), l)
	}()
	ask(b, l.Addr(), []byte("19:postfix example.com,"))
	if err := server.Close(); err != nil {
		b.Error(err)
	}
	<-done
}

// BenchmarkFloor is the limit that BenchmarkRequest is held against.
func BenchmarkFloor(b *testing.B) {
	l := listen(b)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { echo(c) })
		}
	})
	ask(b, l.Addr(), []byte("19:postfix example.com,"))
	if err := l.Close(); err != nil {
		b.Error(err)
	}
	wg.Wait()
}

func echo(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	buf := make([]byte, 23)
	for {
		if _, err := io.ReadFull(r, buf); err != nil {
			return
		}
		if _, err := c.Write([]byte("9:NOTFOUND ,")); err != nil {
			return
		}
	}
}

func listen(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// ask puts b.N questions over eight connections a processor, one at a time on each.
func ask(b *testing.B, to net.Addr, question []byte) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial(to.Network(), to.String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for pb.Next() {
			if _, err := c.Write(question); err != nil {
				b.Error(err)
				return
			}
			if _, err := r.ReadSlice(','); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
}
