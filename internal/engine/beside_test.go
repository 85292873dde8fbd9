package engine

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// promising are the facts of a domain whose one MX host promises implicit TLS.
func promising(d nexthop.Destination) verdict.Facts {
	const host = "smtps-mx.example.com"
	address := verdict.Answer[netip.Addr]{Outcome: verdict.Found, Proof: verdict.Insecure, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, TTL: time.Hour}
	return verdict.Facts{
		Now: time.Now(), Destination: d, Rules: verdict.Rules{Prefix: verdict.Enforce, ImplicitPort: 26},
		MX:    verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Secure, Records: []verdict.MX{{Host: host}}, TTL: time.Hour},
		Hosts: []verdict.Host{{Name: host, A: address, AAAA: address}},
	}
}

// TestBeside: what stands beside a verdict is kept with it, also where a refresh fails,
// and is told once for each ruling, when Cached has it.
func TestBeside(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts { return promising(d) }}
	var told []nexthop.Destination
	var e *Engine
	change := func(c *Config) {
		c.Told = func(d nexthop.Destination, r Ruled) {
			if known, ok := e.Cached(d); !ok || known.Beside != r.Beside {
				t.Errorf("told of %v before it can be had", d)
			}
			told = append(told, d)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		e = newEngine(t, s, change)
		defer e.Close()
		want := []string{"smtps-mx.example.com"}
		for range 3 {
			if r := e.Rule(t.Context(), dest); r.Beside == nil || !slices.Equal(r.Beside.Implicit, want) {
				t.Fatalf("%v, want %v", r.Beside, want)
			}
		}
		s.facts = func(_ context.Context, d nexthop.Destination) verdict.Facts { return broken(d) }
		time.Sleep(55 * time.Minute)
		e.Rule(t.Context(), dest)
		synctest.Wait()
		if r := e.Rule(t.Context(), dest); s.calls.Load() != 2 || r.Beside == nil {
			t.Errorf("after a refresh that failed (%d looks): %v", s.calls.Load(), r.Beside)
		}
		if !slices.Equal(told, []nexthop.Destination{dest, dest}) {
			t.Errorf("told of %v", told)
		}
	})
}

// TestToldOfNothing: an ordinary ruling has nothing beside it.
func TestToldOfNothing(t *testing.T) {
	told := func(c *Config) {
		c.Told = func(d nexthop.Destination, _ Ruled) { t.Errorf("told of %v", d) }
	}
	bubble(t, answering(time.Hour), told, func(t *testing.T, e *Engine) { e.Rule(t.Context(), dest) })
}

// TestPrepare: it does not wait, works out what is not known, and nothing else.
func TestPrepare(t *testing.T) {
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(time.Second)
		return unsigned(d, time.Hour)
	}}
	bubble(t, s, nil, func(t *testing.T, e *Engine) {
		begin := time.Now()
		for range 10 {
			e.Prepare(t.Context(), dest)
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("it waited for %v", took)
		}
		time.Sleep(2 * time.Second)
		if _, ok := e.Cached(dest); !ok {
			t.Error("nothing is known")
		}
		e.Prepare(t.Context(), dest)
		synctest.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("gathered %d times, want once", n)
		}
	})
}
