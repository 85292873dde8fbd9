package resolve

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// but answers one name otherwise.
func but(name string, other, rest answerer) answerer {
	return func(q *dns.Msg) *dns.Msg {
		if q.Question[0].Name == name {
			return other(q)
		}
		return rest(q)
	}
}

// forgetful keeps the addresses it gave, without the AD bit.
func forgetful(rest answerer) answerer {
	asked := false
	return func(q *dns.Msg) *dns.Msg {
		m := rest(q)
		if q.Question[0].Name == "." && q.Question[0].Qtype == dns.TypeA {
			m.AuthenticatedData, asked = !asked, true
		}
		return m
	}
}

// TestProbe is which servers are believed, by the manner of their kind, and what
// their answers are worth then.
func TestProbe(t *testing.T) {
	unsigned := func(q *dns.Msg) *dns.Msg { return answering(q, rr(t, "mx.example. 60 IN A 192.0.2.1")...) }
	honest := validator(t, unsigned)
	always := func(q *dns.Msg) *dns.Msg { m := forwarder(t, unsigned)(q); m.Rcode = 0; return secure(m) }
	soa := func(signed bool) answerer {
		return func(q *dns.Msg) *dns.Msg {
			m := answering(q, rr(t, q.Question[0].Name+" 60 IN SOA ns. h. 1 1 1 1 1")...)
			m.AuthenticatedData = signed
			return m
		}
	}
	rootDenies := func(q *dns.Msg) *dns.Msg { return secure(soaOf(t, refusing(q, dns.RcodeNameError), ".")) }
	version := func(q *dns.Msg) *dns.Msg { return answering(q, rr(t, `id.server. 0 CH TXT "here"`)...) }
	refused := func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeRefused) }
	for _, tc := range []struct {
		what    string
		server  answerer
		problem string
	}{
		{"validates", honest, ""},
		{"tells its version", but("id.server.", version, honest), ""},
		{"serves empty zones", but("home.arpa.", soa(false), but("10.in-addr.arpa.", soa(false), honest)), ""},
		{"signs its own reverse zone", but("10.in-addr.arpa.", soa(true), honest), ""},
		{"has a root of its own", but("home.arpa.", rootDenies, but("10.in-addr.arpa.", rootDenies, but("id.server.", version, honest))), ""},
		{"is silent about itself", but("id.server.", silent, honest), ""},
		{"forwards", forwarder(t, unsigned), "does not validate DNSSEC"},
		{"sets AD always", always, "sets AD on version.bind."},
		{"sets AD on all zones", but("home.arpa.", soa(true), but("10.in-addr.arpa.", soa(true), honest)), "sets AD on home.arpa."},
		{"sets AD on all zones, and not on its own data", but("id.server.", version, but("home.arpa.", soa(true), but("10.in-addr.arpa.", soa(true), honest))), "sets AD on home.arpa."},
		{"sets AD on its own data", but("id.server.", func(q *dns.Msg) *dns.Msg { return secure(version(q)) }, honest), "sets AD on id.server."},
		{"forwards and tells its version only", but("version.bind.", version, but("home.arpa.", refused, but("10.in-addr.arpa.", refused, honest))), ""},
		{"echoes AD", func(q *dns.Msg) *dns.Msg {
			m := forwarder(t, unsigned)(q)
			m.AuthenticatedData = q.AuthenticatedData
			return m
		}, "sets AD on home.arpa."},
		{"shows nothing", but("home.arpa.", refused, but("10.in-addr.arpa.", refused, honest)), "may be echoing AD"},
		{"forgets AD in its cache", forgetful(honest), "forgets AD in its cache"},
		{"fails for the root", but(".", func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeServerFailure) }, honest), "check its trust anchor, this host's clock"},
		{"refuses the root", but(".", refused, honest), "answers REFUSED: let it serve this host"},
		{"denies the root", but(".", func(q *dns.Msg) *dns.Msg { return secure(soaOf(t, replyTo(q), ".")) }, honest), "knows no root servers"},
		{"refers to the root", but(".", func(q *dns.Msg) *dns.Msg {
			m := replyTo(q)
			m.Ns = rr(t, ". 518400 IN NS a.root-servers.net.")
			return m
		}, honest), "cannot be used (lame)"},
		{"is silent", silent, "gives no answer in 2s"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var net wires
				net.set(one.String(), tc.server)
				r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
				a := r.Session().A(t.Context(), "mx.example")
				h := r.Health()
				if h.Validates != (tc.problem == "") || !strings.Contains(h.Problem, tc.problem) || h.Problem == "" != h.Validates {
					t.Fatalf("%+v", h)
				}
				if !h.Checked.Equal(time.Now()) && tc.server(&dns.Msg{Question: []dns.Question{{Name: "mx.example."}}}) != nil {
					t.Errorf("checked %v, now %v", h.Checked, time.Now())
				}
				if a.Exists() && a.Proof != verdict.Insecure && h.Validates || !h.Validates && a.Proof != verdict.Indeterminate {
					t.Errorf("%+v", a)
				}
			})
		})
	}
}

// TestFaultOfSickServer holds that a server which fails its probe is the operator's
// trouble, not the destination's, and that its word about bogus data is not taken.
func TestFaultOfSickServer(t *testing.T) {
	bogus := func(q *dns.Msg) *dns.Msg {
		m := refusing(q, dns.RcodeServerFailure)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeSignatureExpired}}
		return m
	}
	r := resolver(t, Config{Mode: TrustAD, Servers: []netip.AddrPort{run(t, bogus)}})
	if a := r.Session().A(t.Context(), "mx.example"); !a.Broken() || a.Failure.Fault != verdict.Operator || a.Proof != verdict.Indeterminate {
		t.Errorf("%+v: %+v", a, a.Failure)
	}
}

func TestRemoteServer(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.53:53")
	mapped := netip.MustParseAddrPort("[::ffff:127.0.0.1]:53")
	loop6 := netip.MustParseAddrPort("[::1]:53")
	var net wires
	for _, addr := range []netip.AddrPort{far, one, loop6} {
		net.set(addr.String(), validator(t, func(q *dns.Msg) *dns.Msg { return address(t, q, truth) }))
	}
	for _, tc := range []struct {
		addr  netip.AddrPort
		trust bool
		want  verdict.Proof
	}{
		{far, false, verdict.Indeterminate},
		{far, true, verdict.Secure},
		{mapped, false, verdict.Secure},
		{loop6, false, verdict.Secure},
	} {
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, TrustRemote: tc.trust, Servers: []netip.AddrPort{tc.addr}})
		a := r.Session().A(t.Context(), "mx.example")
		h := r.Health()
		if !a.Exists() || a.Proof != tc.want || h.Validates != (tc.want == verdict.Secure) || !h.Servers[0].Answers {
			t.Errorf("%v: %+v, %+v", tc.addr, a, h)
		}
		if tc.want == verdict.Indeterminate && (!strings.Contains(h.Problem, "not on loopback") || !strings.Contains(h.Problem, "unbound") || !strings.Contains(h.Problem, `dnssec = "off"`)) {
			t.Errorf("no way out in %q", h.Problem)
		}
	}
}

func TestProbeOff(t *testing.T) {
	for want, a := range map[string]answerer{
		"":                forwarder(t, silent),
		"answers REFUSED": func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeRefused) },
	} {
		r := resolver(t, Config{Servers: []netip.AddrPort{run(t, a)}})
		if h := r.Probe(t.Context()); h.Validates || !strings.Contains(h.Problem, want) || (h.Problem == "") != h.Servers[0].Answers {
			t.Errorf("%+v", h)
		}
	}
}

// TestProbeExpires holds that a probe is not believed for ever where nobody watches.
func TestProbeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		plain := func(q *dns.Msg) *dns.Msg { return answering(q, rr(t, "mx.example. 60 IN A 192.0.2.1")...) }
		net.set(one.String(), validator(t, plain))
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
		proof := func() verdict.Proof { return r.Session().A(t.Context(), "mx.example").Proof }
		if p := proof(); p != verdict.Insecure {
			t.Fatalf("at first: %v", p)
		}
		net.set(one.String(), forwarder(t, plain))
		<-time.After(probeLife)
		if p := proof(); p != verdict.Indeterminate {
			t.Errorf("later: %v", p)
		}
	})
}

// TestProbeGivenUp holds that a probe is finished for whoever comes next.
func TestProbeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		release := make(chan struct{})
		honest := validator(t, silent)
		net.set(one.String(), func(q *dns.Msg) *dns.Msg { <-release; return honest(q) })
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if h := r.Probe(ctx); h.Validates || !h.Checked.IsZero() {
			t.Errorf("%+v", h)
		}
		close(release)
		synctest.Wait()
		if h := r.Health(); !h.Validates {
			t.Errorf("%+v", h)
		}
	})
}

// TestWatch follows a server through its life: late, well, no longer validating,
// well again. Only the changes are logged.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		var out bytes.Buffer
		r := resolver(t, Config{
			Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one},
			Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Watch(ctx) }()
		step := func(d time.Duration, want string, validates bool) {
			t.Helper()
			<-time.After(d)
			synctest.Wait()
			got := out.String()
			out.Reset()
			if want == "" && got != "" || !strings.Contains(got, want) || strings.Count(got, "\n") > 1 || r.Health().Validates != validates {
				t.Errorf("logged %q, want %q; %+v", got, want, r.Health())
			}
		}
		step(time.Millisecond, `level=ERROR msg="no name server can be relied on" problem="127.0.0.1:53 cannot be used`, false)
		net.set(one.String(), validator(t, silent))
		step(firstPause, "level=INFO msg=\"name servers are well\" validates=true", true)
		step(time.Hour, "", true)
		net.set(one.String(), forwarder(t, silent))
		step(healthyPause, "does not validate DNSSEC", false)
		step(time.Hour, "", false)
		net.set(one.String(), validator(t, silent))
		step(sickPause, "name servers are well", true)
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestWatchOneOfTwo holds that a bad server among good ones is said, at a lower level.
func TestWatchOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		var out bytes.Buffer
		net.set(one.String(), forwarder(t, silent))
		net.set(two.String(), validator(t, silent))
		r := resolver(t, Config{
			Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one, two},
			Log: slog.New(slog.NewTextHandler(&out, nil)),
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Watch(ctx); err != context.DeadlineExceeded {
			t.Errorf("ended with %v", err)
		}
		if h := r.Health(); !h.Validates || h.Problem == "" || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "level=WARN") {
			t.Errorf("%+v, %s", h, out.String())
		}
	})
}

// TestProbeDisproves holds what was seen of a server apart from what could not be seen:
// the one shows that it does not validate, the other nothing.
func TestProbeDisproves(t *testing.T) {
	honest := validator(t, silent)
	failing := func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeServerFailure) }
	signed := func(q *dns.Msg) *dns.Msg {
		return secure(answering(q, rr(t, q.Question[0].Name+" 60 IN SOA ns. h. 1 1 1 1 1")...))
	}
	version := func(q *dns.Msg) *dns.Msg { return secure(answering(q, rr(t, `id.server. 0 CH TXT "here"`)...)) }
	forgets := func(q *dns.Msg) *dns.Msg { m := honest(q); m.AuthenticatedData = false; return m }
	rootType := func(rrtype uint16, other, rest answerer) answerer {
		return func(q *dns.Msg) *dns.Msg {
			if q.Question[0].Name == "." && q.Question[0].Qtype == rrtype {
				return other(q)
			}
			return rest(q)
		}
	}
	noZone := func(rest answerer) answerer {
		return but("home.arpa.", failing, but("10.in-addr.arpa.", failing, but("id.server.", failing, but("version.bind.", failing, rest))))
	}
	for _, tc := range []struct {
		what   string
		server answerer
		seen   bool
	}{
		{"forwards", forwarder(t, silent), true},
		{"forwards, and answers nothing else", noZone(forwarder(t, silent)), true},
		{"sets AD on its own data", but("id.server.", version, honest), true},
		{"sets AD on its own data, and fails for the root", but("id.server.", version, but(".", failing, honest)), true},
		{"sets AD on all zones", but("home.arpa.", signed, but("10.in-addr.arpa.", signed, honest)), true},
		{"signs one zone, and the other is lost", but("home.arpa.", silent, but("10.in-addr.arpa.", signed, honest)), false},
		{"signs one zone, and fails for the other", but("home.arpa.", failing, but("10.in-addr.arpa.", signed, honest)), false},
		{"forgets AD", rootType(dns.TypeA, forgets, honest), true},
		{"forgets AD, and shows nothing else", noZone(rootType(dns.TypeA, forgets, honest)), true},
		{"forgets AD, and fails for the root", rootType(dns.TypeNS, failing, rootType(dns.TypeA, forgets, honest)), true},
		{"fails for the root", but(".", failing, honest), false},
		{"is silent about the root", but(".", silent, honest), false},
		{"fails for one question", rootType(dns.TypeA, failing, honest), false},
		{"drops one question", rootType(dns.TypeA, silent, honest), false},
		{"drops the other", rootType(dns.TypeNS, silent, honest), false},
		{"refuses", func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeRefused) }, false},
		{"is silent", silent, false},
		{"shows nothing", noZone(honest), false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var net wires
			net.set(one.String(), tc.server)
			r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
			if h := r.Probe(t.Context()).Servers[0]; h.Validates || h.Disproven != tc.seen || h.Problem == "" {
				t.Errorf("%s: %+v", tc.what, h)
			}
		})
	}
	var net wires
	net.set(one.String(), honest)
	far := netip.MustParseAddrPort("192.0.2.53:53")
	r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one, far}})
	if h := r.Probe(t.Context()).Servers; !h[0].Validates || h[0].Disproven || !h[1].Disproven {
		t.Errorf("%+v", h)
	}
}

// dropping keeps silent to the first questions of a name and type, and n of them.
func dropping(name string, rrtype uint16, n int64, rest answerer) answerer {
	var dropped atomic.Int64
	return func(q *dns.Msg) *dns.Msg {
		if q.Question[0].Name == name && q.Question[0].Qtype == rrtype && dropped.Add(1) <= n {
			return nil
		}
		return rest(q)
	}
}

// TestProbeLoss holds that packets which are lost during a probe never make a
// server look better than it is, and that one lost packet makes none look worse.
func TestProbeLoss(t *testing.T) {
	unsigned := func(q *dns.Msg) *dns.Msg { return answering(q, rr(t, "mx.example. 60 IN A 192.0.2.1")...) }
	honest := validator(t, unsigned)
	echo := func(q *dns.Msg) *dns.Msg {
		m := forwarder(t, unsigned)(q)
		if q.Question[0].Name == "version.bind." {
			m = answering(q, rr(t, `version.bind. 0 CH TXT "1"`)...)
		}
		m.AuthenticatedData = q.AuthenticatedData && q.Question[0].Qclass == dns.ClassINET
		return m
	}
	for _, tc := range []struct {
		what    string
		server  answerer
		problem string
	}{
		{"one of the cache", dropping(".", dns.TypeA, 1, honest), ""},
		{"two of the cache", dropping(".", dns.TypeA, 2, honest), "gives no answer in 2s to one of the questions"},
		{"one of a forgetful cache", dropping(".", dns.TypeA, 1, forgetful(honest)), "forgets AD in its cache"},
		{"two of a forgetful cache", dropping(".", dns.TypeA, 2, forgetful(honest)), "gives no answer in 2s to one of the questions"},
		{"the cache refuses", func(q *dns.Msg) *dns.Msg {
			if q.Question[0].Name == "." && q.Question[0].Qtype == dns.TypeA {
				return refusing(q, dns.RcodeRefused)
			}
			return honest(q)
		}, "to one of the questions"},
		{"one of each zone", dropping("home.arpa.", dns.TypeSOA, 1, dropping("10.in-addr.arpa.", dns.TypeSOA, 1, echo)), "sets AD on home.arpa."},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var net wires
				net.set(one.String(), tc.server)
				r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{one}})
				h := r.Probe(t.Context())
				if h.Validates != (tc.problem == "") || !strings.Contains(h.Problem, tc.problem) {
					t.Errorf("%+v", h)
				}
			})
		})
	}
}

// TestRemoteServerFirst holds that a server which is not on loopback is told that
// first, whatever else is wrong with it: as long as it is so, nothing else helps.
func TestRemoteServerFirst(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.53:53")
	for what, a := range map[string]answerer{
		"refuses":       func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeRefused) },
		"knows no root": func(q *dns.Msg) *dns.Msg { return soaOf(t, replyTo(q), ".") },
		"forwards":      forwarder(t, silent),
	} {
		var net wires
		net.set(far.String(), a)
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{far}})
		h := r.Probe(t.Context())
		if !strings.HasPrefix(h.Problem, far.String()+" is not on loopback") || !strings.Contains(h.Problem, "trust_remote = true") || h.Servers[0].Answers != (what == "forwards") {
			t.Errorf("%s: %+v", what, h)
		}
	}
}
