package resolve

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// counting counts the questions for a type, those about the root left out.
func counting(n *atomic.Int64, rrtype uint16, next answerer) answerer {
	return func(q *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype == rrtype && q.Question[0].Name != "." {
			n.Add(1)
		}
		return next(q)
	}
}

// TestKept: a second destination at the same host asks for its own records only, and
// never uses what is past half its life.
func TestKept(t *testing.T) {
	k := newRootKey(t)
	var asked, mx, clock atomic.Int64
	start := time.Now()
	now := func() time.Time { return start.Add(time.Duration(clock.Load())) }
	truth := k.signed(t, func() time.Time { return start }, nil, "mx.example. 100 IN A 192.0.2.1", "example. 100 IN MX 10 mx.example.")
	addr := run(t, counting(&asked, dns.TypeA, counting(&mx, dns.TypeMX, truth)))
	r := resolver(t, Config{Mode: Validate, Anchors: k.anchors(t), Servers: list(addr), Clock: now})
	t.Cleanup(r.Close)
	tests := []struct {
		after time.Duration
		ttl   time.Duration
		asked int64
	}{
		{0, 100 * time.Second, 1},
		{30 * time.Second, 70 * time.Second, 1},
		{49 * time.Second, 51 * time.Second, 1},
		{50 * time.Second, 100 * time.Second, 2},
		{99 * time.Second, 51 * time.Second, 2},
		// The clock was set back: nothing is known of what was before.
		{-time.Hour, 100 * time.Second, 3},
	}
	for i, tt := range tests {
		clock.Store(int64(tt.after))
		s := r.Session()
		s.MX(t.Context(), "example")
		a := s.A(t.Context(), "mx.example")
		s.Close()
		if !a.Exists() || a.Proof != verdict.Secure || a.TTL != tt.ttl || asked.Load() != tt.asked || mx.Load() != int64(i+1) {
			t.Errorf("after %v: %+v, asked for %d times, for MX %d times", tt.after, a, asked.Load(), mx.Load())
		}
	}
}

// TestNotKept: nothing that failed, has no proof or no time is used again; nor what
// another one proved, whose word may be found to be worth nothing.
func TestNotKept(t *testing.T) {
	k := newRootKey(t)
	truth := k.signed(t, time.Now, nil, "mx.example. 100 IN A 192.0.2.1")
	believed := validator(t, zone(t, "mx.example. 100 IN A 192.0.2.1"))
	for name, tt := range map[string]struct {
		mode Mode
		a    answerer
	}{
		"SERVFAIL": {Validate, func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeServerFailure) }},
		"bogus":    {Validate, lying(truth)},
		"unproven": {Validate, stripped(truth)},
		"TTL 0":    {Validate, k.signed(t, time.Now, nil, "mx.example. 0 IN A 192.0.2.1")},
		"trust-ad": {TrustAD, believed},
		"off":      {Off, believed},
	} {
		var asked atomic.Int64
		r := resolver(t, Config{Mode: tt.mode, Anchors: k.anchors(t), Servers: list(run(t, counting(&asked, dns.TypeA, tt.a)))})
		for range 3 {
			s := r.Session()
			s.A(t.Context(), "mx.example")
			s.Close()
		}
		r.Close()
		if n := asked.Load(); n < 3 {
			t.Errorf("%s: asked for %d times", name, n)
		}
	}
}

// TestKeptIsBounded: and what is used stays.
func TestKeptIsBounded(t *testing.T) {
	k, now := newKept(100_000), time.Now()
	q := func(i int) question { return newQuestion(fmt.Sprintf("mx%d.example", i), dns.TypeA) }
	one := result{outcome: verdict.Found, proof: verdict.Secure, ttl: time.Hour, records: rr(t, "mx.example. 100 IN A 192.0.2.1")}
	k.keep(q(-1), one, now)
	for i := range 10_000 {
		k.keep(q(i), one, now)
		if _, ok := k.get(q(-1), now); !ok {
			t.Fatalf("what is in use is gone after %d others", i)
		}
	}
	size := 0
	for _, m := range []map[question]keptAnswer{k.younger, k.older} {
		for _, a := range m {
			size += a.octets()
		}
	}
	if size > 100_000 {
		t.Errorf("%d octets are kept", size)
	}
}
