package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"tlsverdict/internal/verdict"
)

var one, two, three = netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("127.0.0.2:53"), netip.MustParseAddrPort("127.0.0.3:53")

func silent(*dns.Msg) *dns.Msg { return nil }

func TestBudget(t *testing.T) {
	r := trusting(t, func(q *dns.Msg) *dns.Msg { return address(t, q, truth) })
	s := r.Session()
	for i := range Budget {
		if a := s.A(t.Context(), fmt.Sprintf("mx%d.example", i)); !a.Exists() {
			t.Fatalf("question %d: %+v", i, a.Failure)
		}
	}
	a := s.A(t.Context(), "last.example")
	if !a.Broken() || a.Failure.Fault != verdict.Ours || !strings.Contains(a.Failure.Detail, "too many questions") || s.Asked() != Budget {
		t.Errorf("%+v %v after %d", a, a.Failure, s.Asked())
	}
	if a := s.A(t.Context(), "mx0.example"); !a.Exists() {
		t.Error("an answer that is known needs no budget")
	}
	if a := r.Session().A(t.Context(), "last.example"); !a.Exists() {
		t.Error("a session spends the budget of another")
	}
}

// TestOneFlight holds that equal questions of a session are sent once, also while
// the first is on its way, whatever their spelling.
func TestOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		var asked atomic.Int64
		release := make(chan struct{})
		net.set(one.String(), validator(t, func(q *dns.Msg) *dns.Msg {
			asked.Add(1)
			<-release
			return address(t, q, truth)
		}))
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
		s := r.Session()
		var all sync.WaitGroup
		for i := range 20 {
			name := "mx.example"
			if i%2 == 0 {
				name = "MX.example."
			}
			all.Go(func() {
				if a := s.A(t.Context(), name); !a.Exists() || a.Proof != verdict.Secure {
					t.Errorf("%+v", a)
				}
			})
		}
		synctest.Wait()
		close(release)
		all.Wait()
		s.A(t.Context(), "mx.example")
		if asked.Load() != 1 || s.Asked() != 1 {
			t.Errorf("sent %d times, counted %d", asked.Load(), s.Asked())
		}
	})
}

// TestAbandoned holds that the asker who gives up takes nobody along, and leaves no
// answer behind.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		var tries atomic.Int64
		net.set(one.String(), validator(t, func(q *dns.Msg) *dns.Msg {
			if tries.Add(1) == 1 {
				return nil
			}
			return address(t, q, truth)
		}))
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
		s := r.Session()
		r.Probe(t.Context())
		reason := errors.New("the client went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		var first, second verdict.Answer[netip.Addr]
		var all sync.WaitGroup
		all.Go(func() { first = s.A(ctx, "mx.example") })
		synctest.Wait()
		all.Go(func() { second = s.A(t.Context(), "mx.example") })
		synctest.Wait()
		begin := time.Now()
		cancel(reason)
		all.Wait()
		if !first.Broken() || first.Failure.Detail != "gave up on mx.example A, unanswered by 127.0.0.1:53: the client went away" {
			t.Errorf("first: %+v", first.Failure)
		}
		if !second.Exists() || time.Since(begin) != 0 {
			t.Errorf("second: %+v after %v", second, time.Since(begin))
		}
	})
}

// TestWaiterLeaves holds that one who only waits can leave at once.
func TestWaiterLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		net.set(one.String(), validator(t, silent))
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
		s := r.Session()
		r.Probe(t.Context())
		var all sync.WaitGroup
		all.Go(func() { s.A(t.Context(), "mx.example") })
		synctest.Wait()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if a := s.A(ctx, "mx.example"); !a.Broken() || time.Since(begin) != 100*time.Millisecond {
			t.Errorf("%+v after %v", a, time.Since(begin))
		}
		all.Wait()
	})
}

// TestInflight holds that no more questions are on their way than configured, and
// that waiting for a slot ends with the context and is not held against the server.
func TestInflight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		var now, most atomic.Int64
		release := make(chan struct{})
		net.set(one.String(), validator(t, func(q *dns.Msg) *dns.Msg {
			most.Store(max(most.Load(), now.Add(1)))
			<-release
			now.Add(-1)
			return address(t, q, truth)
		}))
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}, MaxInflight: 3, Timeout: time.Minute})
		r.Probe(t.Context())
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				if a := r.Session().A(t.Context(), fmt.Sprintf("mx%d.example", i)); !a.Exists() {
					t.Errorf("%+v", a)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := r.Session()
		if a := s.A(ctx, "late.example"); !a.Broken() || a.Failure.Fault != verdict.Ours || s.Asked() != 0 {
			t.Errorf("%+v", a)
		}
		if r.servers()[0].lapsed(time.Now()) {
			t.Error("the server is blamed")
		}
		close(release)
		all.Wait()
		if most.Load() != 3 {
			t.Errorf("%d at once", most.Load())
		}
	})
}

// TestFailOver is which servers are asked, in which order, and what comes of it.
func TestFailOver(t *testing.T) {
	good := func(q *dns.Msg) *dns.Msg { return address(t, q, truth) }
	servfail := func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeServerFailure) }
	refused := func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeRefused) }
	for _, tc := range []struct {
		what    string
		servers []answerer
		order   string
		want    string
		took    time.Duration
	}{
		{"first answers", []answerer{validator(t, good), validator(t, good)}, "1", "found secure", 0},
		{"first is silent", []answerer{validator(t, silent), validator(t, good)}, "12", "found secure", 2 * time.Second},
		{"first refuses", []answerer{validator(t, refused), validator(t, good)}, "12", "found secure", 0},
		{"first is sick", []answerer{validator(t, servfail), validator(t, good)}, "12", "found secure", 0},
		{"one second opinion", []answerer{validator(t, servfail), validator(t, servfail), validator(t, good)}, "12", "SERVFAIL from 127.0.0.1:53 (broken or bogus); SERVFAIL from 127.0.0.2:53 (broken or bogus)", 0},
		{"not from one that does not validate", []answerer{forwarder(t, good), validator(t, servfail)}, "2", "SERVFAIL from 127.0.0.2:53 (broken or bogus)", 0},
		{"validators first", []answerer{forwarder(t, good), validator(t, good)}, "2", "found secure", 0},
		{"the other as a last resort", []answerer{forwarder(t, good), validator(t, refused)}, "21", "found indeterminate", 0},
		{"all silent", []answerer{validator(t, silent), validator(t, silent)}, "1212", "no answer from 127.0.0.1:53 in 2s; no answer from 127.0.0.2:53 in 2s", 8 * time.Second},
		{"all refuse", []answerer{validator(t, refused), validator(t, refused)}, "12", "REFUSED from 127.0.0.1:53; REFUSED from 127.0.0.2:53", 0},
		{"one alone is asked twice", []answerer{validator(t, silent)}, "11", "no answer from 127.0.0.1:53 in 2s", 4 * time.Second},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var net wires
				var mu sync.Mutex
				var order strings.Builder
				addrs := []netip.AddrPort{one, two, three}[:len(tc.servers)]
				for i, a := range tc.servers {
					net.set(addrs[i].String(), func(q *dns.Msg) *dns.Msg {
						if q.Question[0].Name == "mx.example." {
							mu.Lock()
							fmt.Fprint(&order, i+1)
							mu.Unlock()
						}
						return a(q)
					})
				}
				r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: addrs})
				r.Probe(t.Context())
				begin := time.Now()
				a := r.Session().A(t.Context(), "mx.example")
				mu.Lock()
				defer mu.Unlock()
				got := fmt.Sprint(a.Outcome, " ", a.Proof)
				if a.Broken() {
					got = a.Failure.Detail
				}
				if got != tc.want || order.String() != tc.order || time.Since(begin) != tc.took {
					t.Errorf("%s by %s in %v", got, order.String(), time.Since(begin))
				}
			})
		})
	}
}

// TestPenalty holds that a server which was silent is tried last for half a minute.
func TestPenalty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		good := func(q *dns.Msg) *dns.Msg { return address(t, q, truth) }
		net.set(one.String(), validator(t, silent))
		net.set(two.String(), validator(t, good))
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one, two}})
		r.Probe(t.Context())
		took := func() time.Duration {
			begin := time.Now()
			if a := r.Session().A(t.Context(), "mx.example"); !a.Exists() {
				t.Fatalf("%+v", a)
			}
			return time.Since(begin)
		}
		if first, second := took(), took(); first != 2*time.Second || second != 0 {
			t.Errorf("%v, then %v", first, second)
		}
		timer := time.NewTimer(penalty)
		<-timer.C
		if again := took(); again != 2*time.Second {
			t.Errorf("after the penalty: %v", again)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Servers: []netip.AddrPort{{}}},
		{Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}},
		{Servers: []netip.AddrPort{one}, Mode: 9},
		{Servers: []netip.AddrPort{one}, Timeout: -1},
		{Servers: []netip.AddrPort{one}, MaxInflight: -1},
	} {
		if _, err := New(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// TestOff holds that nothing is proven, nothing probed, and AD not asked for.
func TestOff(t *testing.T) {
	r := resolver(t, Config{Servers: []netip.AddrPort{run(t, func(q *dns.Msg) *dns.Msg {
		if q.AuthenticatedData || q.Question[0].Name == "." {
			t.Errorf("asked %v", q)
		}
		return address(t, q, truth)
	})}})
	if a := r.Session().A(t.Context(), "mx.example"); !a.Exists() || a.Proof != verdict.Indeterminate {
		t.Errorf("%+v", a)
	}
	if h := r.Health(); h.Validates || h.Problem != "" || !h.Checked.IsZero() {
		t.Errorf("%+v", h)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
