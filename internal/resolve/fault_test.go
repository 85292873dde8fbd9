package resolve

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// TestGaveUp is whose fault it is that a question was not answered in time: that of
// whoever was waited for. A destination must not be able to write errors of this
// program by keeping silent.
func TestGaveUp(t *testing.T) {
	healthy, sick := validator(t, silent), silent
	for _, tc := range []struct {
		what    string
		server  answerer
		slots   int
		ahead   int
		expired bool
		want    verdict.Fault
		detail  string
	}{
		{"a tarpit", healthy, 0, 0, false, verdict.Remote, "gave up on last.example A, unanswered by 127.0.0.1:53: context deadline exceeded"},
		{"a server that fails its probe", sick, 0, 0, false, verdict.Operator, "gave up on last.example A, unanswered by 127.0.0.1:53: "},
		{"no slot", healthy, 1, 1, false, verdict.Ours, "gave up on last.example A before it was sent: "},
		{"no time", healthy, 0, 0, true, verdict.Ours, "gave up on last.example A before it was sent: "},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var net wires
				net.set(one.String(), tc.server)
				r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}, MaxInflight: tc.slots})
				r.Probe(t.Context())
				bg, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for i := range tc.ahead {
					all.Go(func() { r.Session().A(bg, fmt.Sprintf("mx%d.example", i)) })
				}
				synctest.Wait()
				ctx, end := context.WithTimeout(t.Context(), time.Second)
				if tc.expired {
					end()
				}
				s := r.Session()
				var joined verdict.Answer[netip.Addr]
				var both sync.WaitGroup
				both.Go(func() { joined = s.A(ctx, "last.example") })
				a := s.A(ctx, "last.example")
				both.Wait()
				for _, f := range []*verdict.Failure{a.Failure, joined.Failure} {
					if f == nil || f.Fault != tc.want || !strings.HasPrefix(f.Detail, tc.detail) {
						t.Errorf("%+v", f)
					}
				}
				if !a.Broken() || r.servers()[0].lapsed(r.now()) {
					t.Errorf("%+v, or a server is blamed for what it had no time for", a)
				}
				end()
				cancel()
				all.Wait()
			})
		})
	}
}

// TestGaveUpOnProbe holds that a server which is slow to be probed is the operator's.
func TestGaveUpOnProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		net.set(one.String(), silent)
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a := r.Session().A(ctx, "mx.example")
		if !a.Broken() || a.Failure.Fault != verdict.Operator || !strings.HasPrefix(a.Failure.Detail, "gave up on mx.example A while the name servers were probed: ") {
			t.Errorf("%+v", a.Failure)
		}
		<-time.After(time.Minute) // until the probe has ended
	})
}

// stale marks a reply as one from beyond its time.
func stale(m *dns.Msg, codes ...uint16) *dns.Msg {
	m.SetEdns0(1232, false)
	for _, code := range codes {
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: code})
	}
	return m
}

// TestStale holds that what a resolver kept beyond its time neither shows records
// nor denies them, and that another server is asked.
func TestStale(t *testing.T) {
	found := func(q *dns.Msg) *dns.Msg {
		data := map[uint16]string{dns.TypeTLSA: "TLSA 3 1 1 00", dns.TypeA: "A 192.0.2.1", dns.TypeMX: "MX 10 mx.example."}[q.Question[0].Qtype]
		return secure(answering(q, rr(t, q.Question[0].Name+" 30 IN "+data)...))
	}
	denied := func(q *dns.Msg) *dns.Msg { return secure(soaOf(t, refusing(q, dns.RcodeNameError), ".")) }
	for _, tc := range []struct {
		what   string
		server answerer
		detail string
	}{
		{"records", func(q *dns.Msg) *dns.Msg { return stale(found(q), dns.ExtendedErrorCodeStaleAnswer) }, "a stale answer from 127.0.0.1:53 (Stale Answer)"},
		{"no data", func(q *dns.Msg) *dns.Msg {
			return stale(secure(soaOf(t, replyTo(q), ".")), dns.ExtendedErrorCodeStaleAnswer)
		}, "a stale answer"},
		{"no such name", func(q *dns.Msg) *dns.Msg { return stale(denied(q), dns.ExtendedErrorCodeStaleNXDOMAINAnswer) }, "a stale answer"},
		{"behind another code", func(q *dns.Msg) *dns.Msg {
			return stale(denied(q), dns.ExtendedErrorCodeOther, dns.ExtendedErrorCodeStaleNXDOMAINAnswer)
		}, "a stale answer"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var net wires
				net.set(one.String(), validator(t, tc.server))
				net.set(two.String(), validator(t, found))
				r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
				s, ctx := r.Session(), t.Context()
				for what, f := range map[string]*verdict.Failure{
					"TLSA": s.TLSA(ctx, "_25._tcp.mx.example").Failure, "A": s.A(ctx, "mx.example").Failure, "MX": s.MX(ctx, "example").Failure,
				} {
					if f == nil || f.Fault != verdict.Remote || !strings.HasPrefix(f.Detail, tc.detail) {
						t.Errorf("%s: %+v", what, f)
					}
				}
				r = resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one, two}})
				if a := r.Session().TLSA(ctx, "_25._tcp.mx.example"); !a.Exists() || a.Proof != verdict.Secure {
					t.Errorf("with a second server: %+v", a.Failure)
				}
			})
		})
	}
}
