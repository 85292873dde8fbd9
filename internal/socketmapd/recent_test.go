package socketmapd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// realEngine makes an engine for which every domain has a policy that lists one MX host,
// as it is named now, with DOMAIN as the domain. The verdicts hold for an hour.
func realEngine(t testing.TB, mx *atomic.Pointer[string]) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Config{
		Gather: func(_ context.Context, d nexthop.Destination) verdict.Facts {
			host := strings.ReplaceAll(*mx.Load(), "DOMAIN", d.Name)
			policy, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: " + host + "\nmax_age: 604800\n"))
			if err != nil {
				panic(err)
			}
			cached := mtasts.Cached{Domain: d.Name}.AfterSuccess(time.Now(), "1", policy, 0)
			return verdict.Facts{
				Now: time.Now(), Destination: d, Rules: verdict.Rules{STS: verdict.Enforce},
				MX:  verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Insecure, TTL: time.Hour, Records: []verdict.MX{{Host: host}}},
				STS: verdict.STSFacts{Settled: true, Policy: &cached},
			}
		},
		Entries: 50_000, MinTTL: time.Minute, MaxTTL: time.Hour, RefreshAhead: true, Flights: 16, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func askFor(r *Responder, mapName, key string) string {
	return string(r.ServeMap(context.Background(), postfixmap.Request{Map: []byte(mapName), Key: []byte(key)}, nil))
}

// TestRecent: an answer that is at hand is the one that would be worked out, to the end
// of its verdict, and through everything that may happen to that before.
func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mx atomic.Pointer[string]
		name := func(s string) { mx.Store(&s) }
		name("mx1.example.com")
		e := realEngine(t, &mx)
		defer e.Close()
		r := New(e, Options{Deadline: time.Second, Log: slog.New(slog.DiscardHandler)})
		want := func(when, host string) {
			t.Helper()
			for range 4 {
				if got, line := askFor(r, "postfix", "example.com"), "OK secure match="+host+" servername=hostname"; got != line {
					t.Errorf("%s: %q, want %q", when, got, line)
				}
				if got, line := askFor(r, "verdict", "example.com"), "OK secure source=mta-sts"; got != line {
					t.Errorf("%s: %q, want %q", when, got, line)
				}
			}
		}
		want("at first", "mx1.example.com")
		name("mx2.example.com")
		want("while it is known", "mx1.example.com")
		if n := e.Stats().Misses; n != 1 {
			t.Errorf("%d misses, want 1", n)
		}
		e.Forget("example.com")
		want("when it was forgotten", "mx2.example.com")
		name("mx3.example.com")
		time.Sleep(55 * time.Minute)
		want("near its end, once", "mx2.example.com")
		synctest.Wait()
		want("when it was refreshed ahead", "mx3.example.com")
		name("mx4.example.com")
		time.Sleep(61 * time.Minute)
		want("after its end", "mx4.example.com")
		stats := e.Stats()
		if stats.Refreshes != 1 || stats.Misses != 3 || stats.Hits != 6*8-3 {
			t.Errorf("%+v", stats)
		}
	})
}

// TestRecentCostsNothing: no allocation for what came lately, whatever the line.
func TestRecentCostsNothing(t *testing.T) {
	var mx atomic.Pointer[string]
	host := "mx1.example.com"
	mx.Store(&host)
	e := realEngine(t, &mx)
	defer e.Close()
	r := New(e, Options{Deadline: time.Second, Log: slog.New(slog.DiscardHandler)})
	req, reply := postfixmap.Request{Map: []byte("postfix"), Key: []byte("example.com")}, make([]byte, 0, 1024)
	for range 3 {
		r.ServeMap(t.Context(), req, reply)
	}
	if n := testing.AllocsPerRun(1000, func() { r.ServeMap(t.Context(), req, reply) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRecentIsTheQuestions: nobody gets the answer to another's question, where many fall
// on the same slot, and while what they ask for is dropped.
func TestRecentIsTheQuestions(t *testing.T) {
	var mx atomic.Pointer[string]
	host := "mx.DOMAIN"
	mx.Store(&host)
	e := realEngine(t, &mx)
	defer e.Close()
	r := New(e, Options{Deadline: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
	long := strings.Repeat("a.", 100) + "example"
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 20_000 {
				key := fmt.Sprintf("d%d.example", (i*7919+worker)%500)
				if got := askFor(r, "exim", key); !strings.HasPrefix(got, "OK ") || !strings.Contains(got, "mx."+key) {
					t.Errorf("%s: %q", key, got)
				}
				if got := askFor(r, "postfix", key); got != "OK secure match=mx."+key+" servername=hostname" {
					t.Errorf("%s: %q", key, got)
				}
				if i%100 == 0 {
					e.Forget(key)
					askFor(r, "postfix", long)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkRecent is a question that came lately.
func BenchmarkRecent(b *testing.B) {
	var mx atomic.Pointer[string]
	host := "mx1.example.com"
	mx.Store(&host)
	e := realEngine(b, &mx)
	defer e.Close()
	r := New(e, Options{Deadline: time.Second, Log: slog.New(slog.DiscardHandler)})
	req, reply := postfixmap.Request{Map: []byte("postfix"), Key: []byte("example.com")}, make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		r.ServeMap(b.Context(), req, reply)
	}
}
