package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/fairqueue"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
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

// TestWhoIsRefusedWaits: a client that asks again at once, on thousands of connections,
// would otherwise keep the processors busy with being refused.
func TestWhoIsRefusedWaits(t *testing.T) {
	s := &source{facts: func(ctx context.Context, d nexthop.Destination) verdict.Facts {
		<-ctx.Done()
		return broken(d)
	}}
	bubble(t, s, func(c *Config) { c.Flights = 1 }, func(t *testing.T, e *Engine) {
		ctx := fairqueue.WithClient(t.Context(), "192.0.2.1")
		for i := range 1 + waitingPerFlight {
			go e.Rule(ctx, nexthop.Destination{Name: strconv.Itoa(i) + ".example", Port: 25})
		}
		synctest.Wait()
		start := time.Now()
		if r := e.Rule(ctx, dest); r.Verdict.Name() != "defer" || time.Since(start) != refusedPause {
			t.Errorf("%s after %v", r.Verdict.Name(), time.Since(start))
		}
	})
}

// TestFlightsAreFairBetweenClients: one who asks for thousands of names that take as
// long as may be leaves others their places, and what is gathered for them is on their
// account.
func TestFlightsAreFairBetweenClients(t *testing.T) {
	s := &source{facts: func(ctx context.Context, d nexthop.Destination) verdict.Facts {
		if fairqueue.Client(ctx) != strings.SplitN(d.Name, ".", 3)[1] {
			t.Errorf("%s is on the account of %q", d.Name, fairqueue.Client(ctx))
		}
		if strings.HasSuffix(d.Name, ".greedy.example") {
			<-ctx.Done()
			return broken(d)
		}
		return unsigned(d, time.Hour)
	}}
	bubble(t, s, func(c *Config) { c.Flights = 64 }, func(t *testing.T, e *Engine) {
		greedy := fairqueue.WithClient(t.Context(), "greedy")
		for i := range 20 * 64 {
			go e.Rule(greedy, nexthop.Destination{Name: strconv.Itoa(i) + ".greedy.example", Port: 25})
		}
		synctest.Wait()
		start := time.Now()
		for i := range 10 {
			r := e.Rule(fairqueue.WithClient(t.Context(), "modest"), nexthop.Destination{Name: strconv.Itoa(i) + ".modest.example", Port: 25})
			if r.Verdict.Name() != "none" {
				t.Fatalf("%+v", r.Verdict)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the other client waited %v", took)
		}
	})
}

// TestFlightsBeginAFewAtATime: so many that they all want the processor at once would
// keep hits waiting. One that waits for the network makes room for the next.
func TestFlightsBeginAFewAtATime(t *testing.T) {
	s := &source{facts: func(ctx context.Context, d nexthop.Destination) verdict.Facts {
		<-ctx.Done()
		return broken(d)
	}}
	bubble(t, s, func(c *Config) { c.Flights = 5000 }, func(t *testing.T, e *Engine) {
		n := 4 * startsPerCPU * runtime.GOMAXPROCS(0)
		for i := range n {
			go e.Rule(t.Context(), nexthop.Destination{Name: strconv.Itoa(i) + ".example", Port: 25})
		}
		synctest.Wait()
		if got := s.calls.Load(); got > startsPerCPU*int64(runtime.GOMAXPROCS(0)) || got == 0 {
			t.Errorf("%d of %d began at once", got, n)
		}
		time.Sleep(10 * startTime)
		synctest.Wait()
		if got := s.calls.Load(); got != int64(n) {
			t.Errorf("%d of %d have begun after %v", got, n, 10*startTime)
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
		e.Forget(dest.Name)
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
				return []string{"a.example", "c.example", "b.example"}
			},
			Refresh: func(_ context.Context, domain string) (bool, error) {
				mu.Lock()
				defer mu.Unlock()
				tried[domain]++
				if domain == "b.example" {
					return false, errors.New("blocked")
				}
				if domain == "c.example" {
					panic("a defect")
				}
				return true, nil
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
		b.ReportMetric(bytesPerEntry(b, domains, nothing), "bytes/domain")
	}
}

// danger are facts of a signed domain with one host that has a TLSA record, and
// another whose lookups fail: strict, and provisional.
func danger(d nexthop.Destination) verdict.Facts {
	addr := netip.MustParseAddr("192.0.2.1")
	record := tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: make([]byte, 32)}
	found := verdict.Answer[netip.Addr]{Outcome: verdict.Found, Proof: verdict.Secure, Records: []netip.Addr{addr}, TTL: time.Hour}
	failed := verdict.Fail[netip.Addr](verdict.Remote, "SERVFAIL")
	return verdict.Facts{
		Now: time.Now(), Destination: d, Rules: verdict.Rules{DANE: verdict.Native},
		MX: verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Secure, TTL: time.Hour, Records: []verdict.MX{{Host: "a.example"}, {Host: "b.example"}}},
		Hosts: []verdict.Host{
			{Name: "a.example", A: found, AAAA: found, TLSA: []verdict.TLSALookup{{Base: "a.example", Answer: verdict.Answer[tlsa.Record]{Outcome: verdict.Found, Proof: verdict.Secure, Records: []tlsa.Record{record}, TTL: time.Hour}}}},
			{Name: "b.example", A: failed, AAAA: failed},
		},
	}
}

// TestProvisionalRaises: a failure beside a stricter verdict does not hold it back.
func TestProvisionalRaises(t *testing.T) {
	var signed atomic.Bool
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		if signed.Load() {
			return danger(d)
		}
		return unsigned(d, time.Hour)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		e.Rule(t.Context(), dest)
		signed.Store(true)
		time.Sleep(50 * time.Minute)
		e.Rule(t.Context(), dest)
		synctest.Wait()
		if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "dane-only" {
			t.Errorf("%s, want what the refresh found", r.Verdict.Name())
		}
	})
}

// TestSlowDestinationIsKnown: an MTA that comes back after five minutes is
// answered at once, although one host of the destination is always dead.
func TestSlowDestinationIsKnown(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(13 * time.Second)
		return danger(d)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		deferred := 0
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
			if e.Rule(ctx, dest).Verdict.Name() == "defer" {
				deferred++
			}
			cancel()
			time.Sleep(5 * time.Minute)
		}
		if deferred > 1 {
			t.Errorf("deferred %d of 20 times, want the first only", deferred)
		}
		if n := s.calls.Load(); n < 15 {
			t.Errorf("worked out %d times in 100 minutes: what failed is not looked at again", n)
		}
	})
}

// TestForgetReachesTheFlight: what began before a change is not kept after it.
func TestForgetReachesTheFlight(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(10 * time.Second)
		return unsigned(d, time.Hour)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		port := nexthop.Destination{Name: dest.Name, Port: 26}
		e.Rule(t.Context(), port)
		go e.Rule(t.Context(), dest)
		time.Sleep(5 * time.Second)
		e.Forget(dest.Name)
		for _, d := range []nexthop.Destination{dest, port} {
			if _, ok := e.Cached(d); ok {
				t.Errorf("%s is still known", d)
			}
		}
		time.Sleep(10 * time.Second)
		if _, ok := e.Cached(dest); ok {
			t.Error("the flight that began before the change was kept")
		}
		e.Rule(t.Context(), dest)
		if n := s.calls.Load(); n != 3 {
			t.Errorf("%d flights, want a third one for what was forgotten", n)
		}
	})
}

// TestRefusedRefreshIsTriedAgain: a crowd at the wrong moment does not end the
// refreshing of a verdict.
func TestRefusedRefreshIsTriedAgain(t *testing.T) {
	var crowd atomic.Bool
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		if d != dest && crowd.Load() {
			time.Sleep(time.Minute)
		}
		return unsigned(d, time.Hour)
	}}
	bubble(t, s, func(c *Config) { c.Flights = 1 }, func(t *testing.T, e *Engine) {
		e.Rule(t.Context(), dest)
		time.Sleep(50 * time.Minute)
		crowd.Store(true)
		for i := range 1 + waitingPerFlight {
			d := nexthop.Destination{Name: strings.Repeat("a", i+1) + ".example", Port: 25}
			go e.Rule(t.Context(), d)
		}
		synctest.Wait()
		e.Rule(t.Context(), dest)
		synctest.Wait()
		if e.Stats().Busy != 1 {
			t.Fatalf("%d refused, want the refresh", e.Stats().Busy)
		}
		crowd.Store(false)
		time.Sleep(2 * time.Minute)
		before := s.calls.Load()
		e.Rule(t.Context(), dest)
		synctest.Wait()
		time.Sleep(20 * time.Minute)
		if s.calls.Load() == before {
			t.Error("the refresh was not tried again")
		}
	})
}

// TestMemoryIsBounded: a zone of thousands of MX records takes the room of many.
func TestMemoryIsBounded(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		f := danger(d)
		f.MX.Records = make([]verdict.MX, 3000)
		return f
	}}
	e := newEngine(t, s, nil)
	defer e.Close()
	for i := range 1000 {
		e.Rule(t.Context(), nexthop.Destination{Name: strings.Repeat("a", i%60+1) + strings.Repeat(".b", i/60) + ".example", Port: 25})
	}
	e.why.CleanUp()
	if n := e.why.EstimatedSize(); n > 100 {
		t.Errorf("%d explanations of 3000 records each are kept", n)
	}
}

// TestHeavyVerdictIsKept: a long policy fits even in a small cache.
func TestHeavyVerdictIsKept(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		f := unsigned(d, time.Hour)
		f.MX = verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Insecure, TTL: time.Hour}
		text := "version: STSv1\nmode: enforce\nmax_age: 604800\n" + strings.Repeat("mx: *.mail.example.com\n", 2000)
		policy, err := mtasts.ParsePolicy([]byte(text))
		if err != nil {
			panic(err)
		}
		f.Rules.STS = verdict.Enforce
		cached := mtasts.Cached{Domain: d.Name}.AfterSuccess(time.Now(), "1", policy, 0)
		f.STS = verdict.STSFacts{Settled: true, Policy: &cached}
		return f
	}}
	e := newEngine(t, s, func(c *Config) { c.Entries = 10 })
	defer e.Close()
	for range 5 {
		if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "secure" {
			t.Fatal(r.Verdict.Name())
		}
		e.cache.tidy()
	}
	if n := s.calls.Load(); n != 1 {
		t.Errorf("worked out %d times", n)
	}
}

// TestLaxer: which verdicts a failure may not put in place of which.
func TestLaxer(t *testing.T) {
	var (
		none, dane, only verdict.Verdict = verdict.NoPolicy{}, verdict.DANE{}, verdict.DANEOnly{}
		sts, pending     verdict.Verdict = verdict.STS{}, verdict.Defer{}
	)
	for _, tc := range []struct {
		v, old verdict.Verdict
		want   bool
	}{
		{none, dane, true},
		{none, sts, true},
		{pending, none, true},
		{pending, only, true},
		{sts, only, true},
		{sts, dane, true}, // RFC 8461 §2: not in place of DANE
		{dane, none, false},
		{only, dane, false},
		{only, sts, false},
		{sts, none, false},
		{dane, dane, false},
		{none, pending, false},
		{pending, pending, false},
	} {
		if got := laxer(tc.v, tc.old); got != tc.want {
			t.Errorf("%s in place of %s: laxer is %v", tc.v.Name(), tc.old.Name(), got)
		}
	}
}

// fingerprinted are facts of a domain whose only host has a TLSA record with a TTL.
func fingerprinted(d nexthop.Destination, ttl time.Duration) verdict.Facts {
	f := danger(d)
	f.Hosts = f.Hosts[:1]
	f.Hosts[0].TLSA[0].Answer.TTL = ttl
	f.Rules.DANE = verdict.ByFingerprint
	return f
}

// TestFingerprintsAreNotKeptLonger: than their TLSA records, whatever min_ttl says.
func TestFingerprintsAreNotKeptLonger(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(time.Second)
		return fingerprinted(d, 5*time.Second)
	}}
	bubble(t, s, func(c *Config) { c.RefreshAhead = false }, func(t *testing.T, e *Engine) {
		r := e.Rule(t.Context(), dest)
		if left := time.Until(r.Until); r.Verdict.Name() != "fingerprint" || left != 4*time.Second {
			t.Errorf("%s is kept for %v, want what is left of 5 s after 1 s", r.Verdict.Name(), left)
		}
		time.Sleep(4 * time.Second)
		if _, ok := e.Cached(dest); ok {
			t.Error("the fingerprints outlive their records")
		}
	})
}

// TestZeroTTL: is answered, to all who wait for it, by one flight at a time, and ends
// what was known before.
func TestZeroTTL(t *testing.T) {
	var zero atomic.Bool
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(time.Second)
		if zero.Load() {
			return fingerprinted(d, 0)
		}
		return fingerprinted(d, time.Minute)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		e.Rule(t.Context(), dest)
		zero.Store(true)
		time.Sleep(50 * time.Second)
		e.Rule(t.Context(), dest)
		time.Sleep(2 * time.Second)
		if _, ok := e.Cached(dest); ok {
			t.Error("what was known before is still answered")
		}
		before := s.calls.Load()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "fingerprint" {
					t.Errorf("%s", r.Verdict.Name())
				}
			})
		}
		wg.Wait()
		if n := s.calls.Load() - before; n != 1 {
			t.Errorf("50 askers caused %d flights", n)
		}
		if x := e.Explain(t.Context(), dest); x.InForce.Verdict.Name() != "fingerprint" {
			t.Errorf("explained as %s", x.InForce.Verdict.Name())
		}
	})
}

// TestReconsider: another way to enforce DANE holds from the next question on, for
// what rests on it, and for a flight that began before.
func TestReconsider(t *testing.T) {
	other := nexthop.Destination{Name: "plain.example", Port: 25}
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(time.Second)
		if d == other {
			return unsigned(d, time.Hour)
		}
		return fingerprinted(d, time.Hour)
	}}
	var native atomic.Bool
	native.Store(true)
	change := func(c *Config) {
		c.Enforcement = func(context.Context) verdict.Enforcement {
			if native.Load() {
				return verdict.Native
			}
			return verdict.ByFingerprint
		}
	}
	bubble(t, s, change, func(t *testing.T, e *Engine) {
		slow := nexthop.Destination{Name: "slow.example", Port: 25}
		if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "dane-only" || !r.ByEnforcement {
			t.Errorf("at first: %+v", r)
		}
		e.Rule(t.Context(), other)
		go e.Rule(t.Context(), slow)
		time.Sleep(time.Second / 2)
		native.Store(false)
		e.Reconsider()
		if _, ok := e.Cached(dest); ok {
			t.Error("a verdict for the other way is still known")
		}
		if _, ok := e.Cached(other); !ok {
			t.Error("a verdict that does not rest on it was dropped")
		}
		if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "fingerprint" {
			t.Errorf("afterwards: %s", r.Verdict.Name())
		}
		if x := e.Explain(t.Context(), dest); x.Ruling.Verdict.Name() != "fingerprint" || x.Facts.Rules.DANE != verdict.ByFingerprint {
			t.Errorf("explained as %s", x.Ruling.Verdict.Name())
		}
		if _, ok := e.Cached(slow); ok {
			t.Error("a flight that began before the change was kept")
		}
	})
}

// TestFailureHidesNoDigests: a host whose lookup fails is held to what is known of
// it, until that ends.
func TestFailureHidesNoDigests(t *testing.T) {
	both := verdict.Fingerprint{Digests: [][32]byte{{1}, {2}}}
	for _, tc := range []struct {
		v    verdict.Verdict
		want bool
	}{
		{verdict.Fingerprint{Digests: [][32]byte{{2}}}, true},
		{both, false},
		{verdict.Fingerprint{Digests: [][32]byte{{1}, {3}}}, false},
		{verdict.STS{}, true},
		{verdict.Encrypt{}, true},
		{verdict.Defer{}, true},
	} {
		if got := laxer(tc.v, both); got != tc.want {
			t.Errorf("%+v: laxer is %v", tc.v, got)
		}
	}
}

// withPolicy is a domain with DANE, of whose enforced policy something is known, or not.
func withPolicy(t *testing.T, d nexthop.Destination, known bool) verdict.Facts {
	t.Helper()
	f := danger(d)
	f.Hosts = f.Hosts[:1]
	f.Rules = verdict.Rules{STS: verdict.Enforce, DANE: verdict.Native}
	f.STS = verdict.STSFacts{}
	if known {
		p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: *.example.com\nmax_age: 1800\n"))
		if err != nil {
			t.Fatal(err)
		}
		cached := mtasts.Cached{Domain: d.Name}.AfterSuccess(time.Now(), "1", p, 0)
		f.STS.Policy = &cached
	}
	return f
}

// TestLearned: DANE did not wait for a policy; once there is one, the next asker sets off
// a look, and those after it are told.
func TestLearned(t *testing.T) {
	var known atomic.Bool
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts { return withPolicy(t, d, known.Load()) }}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		ask := func() *verdict.STS {
			r := e.Rule(t.Context(), dest)
			if _, ok := r.Verdict.(verdict.DANEOnly); !ok {
				t.Fatal(r.Verdict)
			}
			synctest.Wait()
			return r.Beside.Policy()
		}
		if p := ask(); p != nil {
			t.Error(p)
		}
		known.Store(true)
		e.Learned("other.example")
		if p := ask(); p != nil || s.calls.Load() != 1 {
			t.Errorf("without being told: %v, %d looks", p, s.calls.Load())
		}
		for range 3 {
			e.Learned(dest.Name)
		}
		ask()
		for range 3 {
			if p := ask(); p == nil || p.Domain != dest.Name {
				t.Error(p)
			}
		}
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d looks, want one more for the policy", n)
		}
	})
}

// TestLearnedConcernsDANE: who waited for the policy knows it already.
func TestLearnedConcernsDANE(t *testing.T) {
	s := answering(time.Hour)
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		e.Rule(t.Context(), dest)
		e.Learned(dest.Name)
		e.Rule(t.Context(), dest)
		synctest.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d looks", n)
		}
	})
}

// TestUnreadablePolicyHolds: that the store fails takes no policy away, nor makes it last
// longer than it would have.
func TestUnreadablePolicyHolds(t *testing.T) {
	var failing atomic.Bool
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts { return withPolicy(t, d, !failing.Load()) }}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		first := e.Rule(t.Context(), dest)
		failing.Store(true)
		time.Sleep(29 * time.Minute)
		e.Rule(t.Context(), dest)
		synctest.Wait()
		r := e.Rule(t.Context(), dest)
		if s.calls.Load() != 2 || r.Beside.Policy() == nil || r.Until.After(first.Until) {
			t.Errorf("after %d looks: %v until %v, before until %v", s.calls.Load(), r.Beside.Policy(), r.Until, first.Until)
		}
		time.Sleep(2 * time.Minute)
		if r := e.Rule(t.Context(), dest); r.Beside.Policy() != nil {
			t.Error("a policy that has ended is told")
		}
	})
}

// TestSizeGrows: what a zone can make many of is counted.
func TestSizeGrows(t *testing.T) {
	x := &Explanation{Facts: danger(dest), Ruling: verdict.Ruling{Verdict: verdict.DANEOnly{}}}
	before := x.size()
	h := &x.Facts.Hosts[0]
	h.A.Records = make([]netip.Addr, 4000)
	addresses := x.size()
	h.TLSA[0].Answer.Records = []tlsa.Record{{Data: make([]byte, 60_000)}}
	if addresses < before+4000*24-100 || x.size() < addresses+59_000 {
		t.Errorf("sizes %d, %d with 4000 addresses, %d with a record of 60 KB", before, addresses, x.size())
	}
}
