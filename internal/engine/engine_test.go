package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

var dest = nexthop.Destination{Name: "example.com", Port: 25}

// source plays package gather: it counts, and answers as it is told.
type source struct {
	calls atomic.Int64
	facts func(context.Context, nexthop.Destination) verdict.Facts
}

func (s *source) gather(ctx context.Context, d nexthop.Destination) verdict.Facts {
	s.calls.Add(1)
	return s.facts(ctx, d)
}

// unsigned are the facts of a domain without any policy.
func unsigned(d nexthop.Destination, ttl time.Duration) verdict.Facts {
	return verdict.Facts{
		Now: time.Now(), Destination: d,
		MX: verdict.Answer[verdict.MX]{Outcome: verdict.NXDomain, Proof: verdict.Secure, TTL: ttl},
	}
}

func broken(d nexthop.Destination) verdict.Facts {
	return verdict.Facts{Now: time.Now(), Destination: d, MX: verdict.Fail[verdict.MX](verdict.Remote, "SERVFAIL")}
}

func answering(ttl time.Duration) *source {
	return &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts { return unsigned(d, ttl) }}
}

func newEngine(t testing.TB, s *source, change func(*Config)) *Engine {
	t.Helper()
	cfg := Config{
		Gather: s.gather, Entries: 1000, MinTTL: 30 * time.Second, MaxTTL: 24 * time.Hour,
		RefreshAhead: true, Flights: 4, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, s *source, change func(*Config), test func(*testing.T, *Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, s, change)
		defer e.Close()
		test(t, e)
	})
}

func TestKeepsForTheTTL(t *testing.T) {
	s := answering(10 * time.Minute)
	bubble(t, s, func(c *Config) { c.RefreshAhead = false }, func(t *testing.T, e *Engine) {
		for range 5 {
			e.Rule(t.Context(), dest)
		}
		time.Sleep(9 * time.Minute)
		e.Rule(t.Context(), dest)
		if n := s.calls.Load(); n != 1 {
			t.Errorf("gathered %d times within the TTL, want once", n)
		}
		time.Sleep(2 * time.Minute)
		e.Rule(t.Context(), dest)
		if n := s.calls.Load(); n != 2 {
			t.Errorf("gathered %d times after the TTL, want twice", n)
		}
	})
}

func TestTTLIsClamped(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{0: 30 * time.Second, time.Hour: time.Hour, 72 * time.Hour: 24 * time.Hour} {
		bubble(t, answering(ttl), nil, func(t *testing.T, e *Engine) {
			if got := time.Until(e.Rule(t.Context(), dest).Until); got != want {
				t.Errorf("a TTL of %v is kept for %v, want %v", ttl, got, want)
			}
		})
	}
}

func TestOneFlightADestination(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(time.Second)
		return unsigned(d, time.Hour)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { e.Rule(t.Context(), dest) })
		}
		wg.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("50 askers caused %d flights", n)
		}
	})
}

// TestAskerGivesUp: the work goes on for the next one.
func TestAskerGivesUp(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(20 * time.Second)
		return unsigned(d, time.Hour)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		r := e.Rule(ctx, dest)
		if _, ok := r.Verdict.(verdict.Defer); !ok {
			t.Errorf("an asker that gave up got %s", r.Verdict.Name())
		}
		if _, ok := e.Cached(dest); ok {
			t.Error("its deferral was kept")
		}
		if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "none" {
			t.Errorf("the next asker got %s", r.Verdict.Name())
		}
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d flights, want one that outlived its asker", n)
		}
	})
}

func TestFailureIsKeptBriefly(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts { return broken(d) }}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		r := e.Rule(t.Context(), dest)
		if left := time.Until(r.Until); left < 30*time.Second || left > time.Minute {
			t.Errorf("a failure is kept for %v, want 30 s to 60 s", left)
		}
		time.Sleep(29 * time.Second)
		e.Rule(t.Context(), dest)
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d flights within 29 s, want one", n)
		}
		time.Sleep(32 * time.Second)
		e.Rule(t.Context(), dest)
		if n := s.calls.Load(); n < 2 {
			t.Error("no new flight after a minute")
		}
	})
}

// TestRefreshAhead: a verdict in use is worked out anew before it ends, and its
// askers do not wait for that.
func TestRefreshAhead(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(5 * time.Second)
		return unsigned(d, 10*time.Minute)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		e.Rule(t.Context(), dest)
		for range 60 {
			time.Sleep(time.Minute)
			before := time.Now()
			e.Rule(t.Context(), dest)
			if waited := time.Since(before); waited != 0 {
				t.Fatalf("an asker waited for %v", waited)
			}
		}
		if n := s.calls.Load(); n < 6 || n > 8 {
			t.Errorf("%d flights in an hour with a TTL of ten minutes", n)
		}
		if n := e.Stats().Refreshes; n == 0 {
			t.Error("no refresh was counted")
		}
	})
}

// TestFailedRefreshKeepsTheVerdict: to its end, and not beyond.
func TestFailedRefreshKeepsTheVerdict(t *testing.T) {
	var down atomic.Bool
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		if down.Load() {
			return broken(d)
		}
		return unsigned(d, 10*time.Minute)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		e.Rule(t.Context(), dest)
		down.Store(true)
		for range 9 {
			time.Sleep(time.Minute)
			if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "none" {
				t.Fatalf("after a failed refresh: %s", r.Verdict.Name())
			}
		}
		synctest.Wait()
		if s.calls.Load() < 2 {
			t.Error("no refresh was tried")
		}
		e.why.InvalidateAll()
		if x := e.Explain(t.Context(), dest); x.Ruling.Verdict.Name() != "defer" || x.InForce.Verdict.Name() != "none" {
			t.Errorf("explained as %s, in force %s; the answer given must be told too", x.Ruling.Verdict.Name(), x.InForce.Verdict.Name())
		}
		time.Sleep(2 * time.Minute)
		if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "defer" {
			t.Errorf("after its end: %s, want defer", r.Verdict.Name())
		}
		down.Store(false)
		time.Sleep(2 * time.Minute)
		if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "none" {
			t.Errorf("after recovery: %s", r.Verdict.Name())
		}
	})
}

func TestTooManyWaiting(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(time.Second)
		return unsigned(d, time.Hour)
	}}
	bubble(t, s, func(c *Config) { c.Flights = 1 }, func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		var deferred atomic.Int64
		for i := range 40 {
			d := nexthop.Destination{Name: strings.Repeat("a", i+1) + ".example", Port: 25}
			wg.Go(func() {
				if r := e.Rule(t.Context(), d); r.Verdict.Name() == "defer" {
					deferred.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := deferred.Load(); n != 40-1-waitingPerFlight {
			t.Errorf("%d were told to come back, want %d", n, 40-1-waitingPerFlight)
		}
		wg.Wait()
		if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "none" {
			t.Errorf("afterwards: %s", r.Verdict.Name())
		}
	})
}

func TestPanicDefersOneDestination(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		if d == dest {
			panic("a defect")
		}
		return unsigned(d, time.Hour)
	}}
	var log bytes.Buffer
	bubble(t, s, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(t *testing.T, e *Engine) {
		r := e.Rule(t.Context(), dest)
		if v, ok := r.Verdict.(verdict.Defer); !ok || v.Fault != verdict.Ours {
			t.Errorf("%+v, want a deferral that is our fault", r.Verdict)
		}
		if r := e.Rule(t.Context(), nexthop.Destination{Name: "other.example", Port: 25}); r.Verdict.Name() != "none" {
			t.Errorf("another destination: %s", r.Verdict.Name())
		}
		if e.Stats().Panics != 1 || !strings.Contains(log.String(), "a defect") {
			t.Errorf("the panic was not counted and logged: %s", log.String())
		}
	})
}

func TestOverrideAsksNothing(t *testing.T) {
	s := answering(time.Hour)
	end := time.Now().Add(1000 * time.Hour)
	over := func(c *Config) {
		c.Override = func(string) *verdict.Override { return &verdict.Override{Level: "encrypt", Until: end} }
	}
	e := newEngine(t, s, over)
	defer e.Close()
	if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "encrypt" || s.calls.Load() != 0 {
		t.Errorf("%s after %d gatherings", r.Verdict.Name(), s.calls.Load())
	}
}

func TestExplainBelongsToTheRuling(t *testing.T) {
	s := answering(time.Hour)
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		r := e.Rule(t.Context(), dest)
		x := e.Explain(t.Context(), dest)
		if s.calls.Load() != 1 || x.InForce != r || x.Facts.MX.Outcome != verdict.NXDomain {
			t.Errorf("the explanation is not that of the verdict in force: %+v", x)
		}
		e.Forget(dest)
		e.Explain(t.Context(), dest)
		if s.calls.Load() != 2 {
			t.Error("a forgotten destination was not worked out anew")
		}
	})
}

// TestCloseEndsFlights: nobody waits for an engine that is gone.
func TestCloseEndsFlights(t *testing.T) {
	s := &source{facts: func(ctx context.Context, d nexthop.Destination) verdict.Facts {
		<-ctx.Done()
		return broken(d)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { e.Rule(context.Background(), dest) })
		synctest.Wait()
		e.Close()
		wg.Wait()
		if waited := time.Since(start); waited != 0 {
			t.Errorf("an asker still waited for %v", waited)
		}
	})
}

// TestHitCostsNothing: no allocation, and nothing logged at info.
func TestHitCostsNothing(t *testing.T) {
	var log bytes.Buffer
	e := newEngine(t, answering(time.Hour), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	defer e.Close()
	e.Rule(t.Context(), dest)
	log.Reset()
	if n := testing.AllocsPerRun(1000, func() { e.Cached(dest) }); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	if log.Len() != 0 {
		t.Errorf("a hit logs: %s", log.String())
	}
}

func TestRefresher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tried := make(map[string]int)
		var changed []string
		r := Refresher{
			Due: func(_ time.Time, most int) []string {
				mu.Lock()
				defer mu.Unlock()
				if tried["a.example"] > 0 {
					return []string{"b.example"}
				}
				return []string{"a.example", "b.example"}
			},
			Refresh: func(_ context.Context, domain string) error {
				mu.Lock()
				defer mu.Unlock()
				tried[domain]++
				if domain == "b.example" {
					return errors.New("blocked")
				}
				return nil
			},
			Changed: func(domain string) { changed = append(changed, domain) },
			Log:     slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		time.Sleep(90 * time.Second)
		cancel()
		<-done
		if tried["a.example"] != 1 || tried["b.example"] != 2 || len(changed) != 1 {
			t.Errorf("tried %v, changed %v; want a once, b once a pass", tried, changed)
		}
	})
}

func BenchmarkHit(b *testing.B) {
	e := newEngine(b, answering(time.Hour), nil)
	defer e.Close()
	e.Rule(b.Context(), dest)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e.Cached(dest)
		}
	})
}

// BenchmarkEntry reports how many bytes a domain without a policy costs.
func BenchmarkEntry(b *testing.B) {
	const domains = 100_000
	for b.Loop() {
		b.ReportMetric(bytesPerEntry(b, domains), "bytes/domain")
	}
}
