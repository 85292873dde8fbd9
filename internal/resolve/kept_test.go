package resolve

import (
	"fmt"
	"net/netip"
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
	var asked, mx atomic.Int64
	var clock atomic.Int64
	records := zone(t, "mx.example. 100 IN A 192.0.2.1", "example. 100 IN MX 10 mx.example.")
	addr := run(t, counting(&asked, dns.TypeA, counting(&mx, dns.TypeMX, validator(t, func(q *dns.Msg) *dns.Msg { return secure(records(q)) }))))
	start := time.Now()
	r := resolver(t, Config{Mode: TrustAD, Servers: list(addr), Clock: func() time.Time { return start.Add(time.Duration(clock.Load())) }})
	look := func() (verdict.Answer[netip.Addr], verdict.Answer[netip.Addr]) {
		s := r.Session()
		defer s.Close()
		s.MX(t.Context(), "example")
		return s.A(t.Context(), "mx.example"), s.AAAA(t.Context(), "mx.example")
	}
	tests := []struct {
		after time.Duration
		ttl   time.Duration
		asked int64
	}{
		{0, 100 * time.Second, 1}, {30 * time.Second, 70 * time.Second, 1}, {49 * time.Second, 51 * time.Second, 1},
		{50 * time.Second, 100 * time.Second, 2}, {99 * time.Second, 51 * time.Second, 2},
		// The clock was set back: nothing is known of what was before.
		{-time.Hour, 100 * time.Second, 3},
	}
	for i, tt := range tests {
		clock.Store(int64(tt.after))
		a, aaaa := look()
		if !a.Exists() || a.Proof != verdict.Secure || a.TTL != tt.ttl || !aaaa.Absent() || asked.Load() != tt.asked || mx.Load() != int64(i+1) {
			t.Errorf("after %v: A %+v, AAAA %v, asked for %d times, for MX %d times", tt.after, a, aaaa.Outcome, asked.Load(), mx.Load())
		}
	}
}

// TestNotKept: nothing that failed, or has no proof, is used again.
func TestNotKept(t *testing.T) {
	for name, a := range map[string]answerer{
		"SERVFAIL": validator(t, func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeServerFailure) }),
		"unproven": forwarder(t, zone(t, "mx.example. 100 IN A 192.0.2.1")),
		"TTL 0":    validator(t, zone(t, "mx.example. 0 IN A 192.0.2.1")),
	} {
		var asked atomic.Int64
		r := resolver(t, Config{Mode: TrustAD, Servers: list(run(t, counting(&asked, dns.TypeA, a)))})
		for range 3 {
			s := r.Session()
			s.A(t.Context(), "mx.example")
			s.Close()
		}
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
