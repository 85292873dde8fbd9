package resolve

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/gather"
)

// trip is how long the servers of a healthy domain take for an answer.
const trip = 20 * time.Millisecond

// tarpits answers for healthy.example, with two hosts, after a trip, and for all
// else with as many MX hosts as are looked at, whose own servers keep silent.
func tarpits(t *testing.T) answerer {
	good := zone(
		t,
		"healthy.example. 60 IN MX 10 mx1.healthy.example.", "healthy.example. 60 IN MX 10 mx2.healthy.example.",
		"mx1.healthy.example. 60 IN A 192.0.2.1", "mx2.healthy.example. 60 IN A 192.0.2.2",
	)
	return validator(t, func(q *dns.Msg) *dns.Msg {
		name := q.Question[0].Name
		switch {
		case strings.HasSuffix(name, "healthy.example."):
			<-time.After(trip)
			return good(q)
		case q.Question[0].Qtype != dns.TypeMX:
			return nil
		}
		var hosts []string
		for i := range gather.MaxHosts {
			hosts = append(hosts, fmt.Sprintf("%s 60 IN MX 10 mx%d.%s", name, i, name))
		}
		return answering(q, rr(t, hosts...)...)
	})
}

// walk asks what a destination needs, as much at once as can be, and reports
// whether all of it was answered.
func walk(ctx context.Context, s *Session, domain string) bool {
	var all sync.WaitGroup
	var mu sync.Mutex
	well := true
	check := func(broken bool) {
		mu.Lock()
		defer mu.Unlock()
		well = well && !broken
	}
	all.Go(func() { check(s.TXT(ctx, "_mta-sts."+domain).Broken()) })
	for _, mx := range s.MX(ctx, domain).Records {
		all.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { check(s.AAAA(ctx, mx.Host).Broken()) })
			check(s.A(ctx, mx.Host).Broken())
			both.Wait()
			check(s.TLSA(ctx, "_25._tcp."+mx.Host).Broken())
		})
	}
	all.Wait()
	return well
}

// TestTarpits holds that destinations whose servers keep silent do not delay
// another one: a domain with two hosts takes
// its own three round trips, be there few or many of them.
func TestTarpits(t *testing.T) {
	for _, tc := range []struct {
		hostile int
		trips   time.Duration
	}{
		{30, 3},
		{100, 3},
	} {
		t.Run(fmt.Sprint(tc.hostile), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var net wires
				net.set(one.String(), tarpits(t))
				r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
				r.Probe(t.Context())
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for i := range tc.hostile {
					all.Go(func() { walk(ctx, r.Session(), fmt.Sprintf("d%d.example", i)) })
				}
				synctest.Wait()
				begin := time.Now()
				well := walk(t.Context(), r.Session(), "healthy.example")
				if took := time.Since(begin); !well || took > tc.trips*trip {
					t.Errorf("all answered: %v, in %v", well, took)
				}
				cancel()
				all.Wait()
			})
		})
	}
}

// TestProbeAmongTarpits holds that a probe does not wait behind a crowd.
func TestProbeAmongTarpits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		net.set(one.String(), tarpits(t))
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
		r.Probe(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() { walk(ctx, r.Session(), fmt.Sprintf("d%d.example", i)) })
		}
		synctest.Wait()
		begin := time.Now()
		if h := r.Probe(t.Context()); !h.Validates || time.Since(begin) != 0 {
			t.Errorf("%+v after %v", h, time.Since(begin))
		}
		cancel()
		all.Wait()
	})
}

// entered is what waits at a gate, by its share.
func entered(ctx context.Context, g *gate, s *share) <-chan error {
	done := make(chan error, 1)
	go func() { done <- g.enter(ctx, s) }()
	synctest.Wait()
	return done
}

// TestGate holds who may pass, and in what order.
func TestGate(t *testing.T) {
	open := func(t *testing.T, what string, done <-chan error, want bool) {
		t.Helper()
		synctest.Wait()
		if got := len(done) == 1; got != want {
			t.Errorf("%s: passed %v, want %v", what, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		// Half of 48 are the reserve; none may have all but an eighth of them.
		g, wide, late, narrow := newGate(48), new(share), new(share), new(share)
		for range 6 {
			open(t, "while others ask", entered(t.Context(), g, new(share)), true)
		}
		for range breadth {
			open(t, "within the breadth", entered(t.Context(), g, wide), true)
		}
		more := entered(t.Context(), g, wide)
		open(t, "beyond the breadth", more, false)
		// 26 are free, 24 of them the reserve.
		for range firsts {
			open(t, "its first", entered(t.Context(), g, late), true)
		}
		open(t, "a fifth of the reserve", entered(t.Context(), g, late), false)
		var others []*share
		for g.free > 0 {
			s := new(share)
			open(t, "first of the reserve", entered(t.Context(), g, s), true)
			others = append(others, s)
		}
		second := entered(t.Context(), g, others[0])
		first := entered(t.Context(), g, narrow)
		open(t, "none is free", first, false)
		g.leave(wide)
		open(t, "the fewest first", first, true)
		open(t, "the fewest first", second, false)
		g.leave(wide)
		open(t, "then the next", second, true)
		open(t, "its own queue last", more, false)
		for wide.held > 0 {
			g.leave(wide)
		}
		open(t, "its own queue", more, true)
	})
}

// TestGateIdle holds that a session alone takes what it needs, up to an eighth
// beyond which it has no more than its breadth.
func TestGateIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGate(1024), new(share)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 500 {
			entered(ctx, g, s)
		}
		if s.held != 128 {
			t.Errorf("%d are held", s.held)
		}
	})
}

// TestGateGivenUp holds that who leaves a queue takes no slot along.
func TestGateGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGate(1), new(share)
		if err := g.enter(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := entered(ctx, g, new(share))
		cancel()
		if err := <-done; !errors.Is(err, errBusy) || len(g.waiting) != 0 {
			t.Errorf("%v, %d wait", err, len(g.waiting))
		}
		g.leave(s)
		if err := g.enter(ctx, s); !errors.Is(err, errBusy) || g.free != 1 {
			t.Errorf("%v, %d are free", err, g.free)
		}
	})
}

// TestGateCrowd holds that under any order of coming, leaving and giving up the
// bounds hold, everyone has a turn and all slots come back.
func TestGateCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots, sessions, each = 12, 20, 40
		g := newGate(slots)
		var all sync.WaitGroup
		for range sessions {
			s := new(share)
			for range each {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Millisecond)
					defer cancel()
					if rand.IntN(2) == 0 {
						ctx = t.Context()
					}
					if g.enter(ctx, s) != nil {
						return
					}
					g.mu.Lock()
					if g.free < 0 || s.held > slots {
						t.Errorf("%d are free, %d are held by one", g.free, s.held)
					}
					g.mu.Unlock()
					<-time.After(time.Duration(rand.IntN(100)) * time.Millisecond)
					g.leave(s)
				})
			}
		}
		all.Wait()
		if g.free != slots || len(g.waiting) != 0 {
			t.Errorf("%d of %d are free, %d wait", g.free, slots, len(g.waiting))
		}
	})
}
