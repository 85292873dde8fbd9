package resolve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

const truth, forged = "192.0.2.1", "192.0.2.66"

func address(t testing.TB, q *dns.Msg, ip string) *dns.Msg {
	return secure(answering(q, rr(t, q.Question[0].Name+" 60 IN A "+ip)...))
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// scripted returns a resolver over one server that passes the probe and handles
// all else as script says; udp tells how the question came.
func scripted(t *testing.T, timeout time.Duration, script func(w dns.ResponseWriter, q *dns.Msg, udp bool)) *Resolver {
	honest := validator(t, func(*dns.Msg) *dns.Msg { return nil })
	addr := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if m := honest(q); m != nil {
			_ = w.WriteMsg(m)
			return
		}
		script(w, q, w.RemoteAddr().Network() == "udp")
	})
	return resolver(t, Config{Mode: TrustAD, Servers: []netip.AddrPort{addr}, Timeout: timeout})
}

// TestStray holds that packets which do not answer the question change nothing,
// whatever they are, while the true answer is still to come.
func TestStray(t *testing.T) {
	for what, stray := range map[string]func(q *dns.Msg) []byte{
		"empty":   func(*dns.Msg) []byte { return []byte{} },
		"garbage": func(*dns.Msg) []byte { return []byte(strings.Repeat("\xff", 600)) },
		"header":  func(q *dns.Msg) []byte { return packed(t, address(t, q, forged))[:12] },
		"ID":      func(q *dns.Msg) []byte { m := address(t, q, forged); m.Id++; return packed(t, m) },
		"name": func(q *dns.Msg) []byte {
			m := address(t, q, forged)
			m.Question[0].Name = "other.example."
			return packed(t, m)
		},
		"type": func(q *dns.Msg) []byte {
			m := address(t, q, forged)
			m.Question[0].Qtype = dns.TypeMX
			return packed(t, m)
		},
		"class":       func(q *dns.Msg) []byte { m := address(t, q, forged); m.Question[0].Qclass = 3; return packed(t, m) },
		"query":       func(q *dns.Msg) []byte { m := address(t, q, forged); m.Response = false; return packed(t, m) },
		"opcode":      func(q *dns.Msg) []byte { m := address(t, q, forged); m.Opcode = dns.OpcodeNotify; return packed(t, m) },
		"no question": func(q *dns.Msg) []byte { m := address(t, q, forged); m.Question = nil; return packed(t, m) },
		"two questions": func(q *dns.Msg) []byte {
			m := address(t, q, forged)
			m.Question = append(m.Question, m.Question[0])
			return packed(t, m)
		},
		"SERVFAIL of another": func(q *dns.Msg) []byte { m := refusing(q, dns.RcodeServerFailure); m.Id ^= 0x8000; return packed(t, m) },
		"truncated of another": func(q *dns.Msg) []byte {
			m := replyTo(q)
			m.Id ^= 1
			m.Truncated = true
			return packed(t, m)
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := scripted(t, 10*time.Second, func(w dns.ResponseWriter, q *dns.Msg, _ bool) {
				_, _ = w.Write(stray(q.Copy()))
				_ = w.WriteMsg(address(t, q, truth))
			})
			s := r.Session()
			if a := s.A(t.Context(), "mx.example"); fmt.Sprint(a.Records) != "["+truth+"]" || s.Asked() != 1 {
				t.Fatalf("%+v after %d questions", a, s.Asked())
			}
		})
	}
}

// TestWrongSource holds that the right packet from the wrong address is not read.
func TestWrongSource(t *testing.T) {
	r := scripted(t, 10*time.Second, func(w dns.ResponseWriter, q *dns.Msg, _ bool) {
		liar, err := net.Dial("udp", w.RemoteAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer liar.Close()
		_, _ = liar.Write(packed(t, address(t, q, forged)))
		_ = w.WriteMsg(address(t, q, truth))
	})
	if a := r.Session().A(t.Context(), "mx.example"); fmt.Sprint(a.Records) != "["+truth+"]" {
		t.Fatalf("%+v", a)
	}
}

// TestFresh holds that queries come from ports and with IDs of their own, and as
// RFC 6840 §5.7 wants them.
func TestFresh(t *testing.T) {
	var mu sync.Mutex
	ports, ids := map[string]bool{}, map[uint16]bool{}
	r := scripted(t, 0, func(w dns.ResponseWriter, q *dns.Msg, _ bool) {
		mu.Lock()
		defer mu.Unlock()
		ports[w.RemoteAddr().String()], ids[q.Id] = true, true
		opt := q.IsEdns0()
		if !q.RecursionDesired || !q.AuthenticatedData || q.CheckingDisabled || opt == nil || opt.UDPSize() != 1232 || opt.Do() || opt.Version() != 0 {
			t.Errorf("query %v", q)
		}
		_ = w.WriteMsg(address(t, q, truth))
	})
	const n = 50
	s := r.Session()
	for i := range n {
		s.A(t.Context(), fmt.Sprintf("mx%d.example", i))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ports) < n*8/10 || len(ids) < n*9/10 {
		t.Errorf("%d ports and %d IDs in %d queries", len(ports), len(ids), n)
	}
}

// TestTCP holds that a truncated or too large reply is asked for again over TCP,
// and that what comes there is checked as well.
func TestTCP(t *testing.T) {
	big := func(q *dns.Msg) *dns.Msg {
		m := address(t, q, truth)
		for i := range 200 {
			m.Answer = append(m.Answer, rr(t, fmt.Sprintf("%s 60 IN A 198.51.100.%d", q.Question[0].Name, i))...)
		}
		return m
	}
	short := func(q *dns.Msg) *dns.Msg { m := address(t, q, forged); m.Truncated = true; return m }
	for _, tc := range []struct {
		what     string
		udp, tcp func(q *dns.Msg) *dns.Msg
		records  int
		detail   string
	}{
		{"truncated", short, big, 201, ""},
		{"oversize", big, big, 201, ""},
		{"truncated twice", short, short, 0, "truncated"},
		{"another question", short, func(q *dns.Msg) *dns.Msg {
			m := big(q)
			m.Question[0].Name = "other.example."
			return m
		}, 0, "to another question"},
		{"another ID", short, func(q *dns.Msg) *dns.Msg { m := big(q); m.Id++; return m }, 0, "to another question"},
		{"hung up", short, func(*dns.Msg) *dns.Msg { return nil }, 0, "unreachable: EOF over TCP after a truncated reply"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			r := scripted(t, 0, func(w dns.ResponseWriter, q *dns.Msg, udp bool) {
				script := tc.tcp
				if udp {
					script = tc.udp
				}
				if m := script(q); m != nil {
					_ = w.WriteMsg(m)
				} else {
					_ = w.Close()
				}
			})
			s := r.Session()
			a := s.A(t.Context(), "mx.example")
			if len(a.Records) != tc.records || s.Asked() != 2 || tc.records == 0 && !strings.Contains(a.Failure.Detail, tc.detail) {
				t.Fatalf("%+v, %v after %d questions", a, a.Failure, s.Asked())
			}
		})
	}
}

// TestEndsEarly holds that a reply with fewer records than it counts is refused:
// the library reads it without a word.
func TestEndsEarly(t *testing.T) {
	r := scripted(t, 0, func(w dns.ResponseWriter, q *dns.Msg, _ bool) {
		b := packed(t, address(t, q, truth))
		b[7] = 2
		_, _ = w.Write(b)
	})
	if a := r.Session().A(t.Context(), "mx.example"); !a.Broken() || !strings.Contains(a.Failure.Detail, "malformed reply: it ends early") {
		t.Fatalf("%+v", a)
	}
}

// TestFailures is what each way to fail is called and whose fault it is.
func TestFailures(t *testing.T) {
	ede := func(m *dns.Msg, code uint16, text string) *dns.Msg {
		m.SetEdns0(1232, false)
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther}, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
		return m
	}
	servfail := func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeServerFailure) }
	for _, tc := range []struct {
		what   string
		reply  answerer
		fault  verdict.Fault
		proof  verdict.Proof
		detail string
	}{
		{"SERVFAIL", servfail, verdict.Remote, verdict.Indeterminate, "SERVFAIL from 192.0.2.53:53 (broken or bogus)"},
		{"SERVFAIL with AD", func(q *dns.Msg) *dns.Msg { return secure(servfail(q)) }, verdict.Remote, verdict.Indeterminate, "SERVFAIL from 192.0.2.53:53 (broken or bogus)"},
		{"bogus", func(q *dns.Msg) *dns.Msg { return ede(servfail(q), 6, "no SEP\nmatching \xff") }, verdict.Remote, verdict.Bogus, `SERVFAIL from 192.0.2.53:53 (bogus: DNSSEC Bogus: no SEP\010matching \255)`},
		{"expired", func(q *dns.Msg) *dns.Msg { return ede(servfail(q), 7, "") }, verdict.Remote, verdict.Bogus, "SERVFAIL from 192.0.2.53:53 (bogus: Signature Expired)"},
		{"servers down", func(q *dns.Msg) *dns.Msg { return ede(servfail(q), 22, strings.Repeat("x", 500)) }, verdict.Remote, verdict.Indeterminate, "SERVFAIL from 192.0.2.53:53 (Other)"},
		{"blocked", func(q *dns.Msg) *dns.Msg {
			m := ede(refusing(q, dns.RcodeRefused), 15, "")
			m.IsEdns0().Option = m.IsEdns0().Option[1:]
			return m
		}, verdict.Operator, verdict.Indeterminate, "REFUSED from 192.0.2.53:53 (Blocked)"},
		{"REFUSED", func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeRefused) }, verdict.Operator, verdict.Indeterminate, "REFUSED from 192.0.2.53:53"},
		{"FORMERR", func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeFormatError) }, verdict.Operator, verdict.Indeterminate, "FORMERR from 192.0.2.53:53"},
		{"extended", func(q *dns.Msg) *dns.Msg {
			m := ede(replyTo(q), 0, "")
			m.Rcode = dns.RcodeBadVers
			return m
		}, verdict.Operator, verdict.Indeterminate, "BADVERS from 192.0.2.53:53 (Other)"},
		{"no recursion", func(q *dns.Msg) *dns.Msg { m := replyTo(q); m.RecursionAvailable = false; return m }, verdict.Operator, verdict.Indeterminate, "192.0.2.53:53 does not resolve for us"},
		{"silence", func(*dns.Msg) *dns.Msg { return nil }, verdict.Remote, verdict.Indeterminate, "no answer from 192.0.2.53:53 in 2s"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var net wires
				net.set("192.0.2.53:53", validator(t, tc.reply))
				r := resolver(t, Config{Mode: TrustAD, TrustRemote: true, Dial: net.dial, Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}})
				a := r.Session().MX(t.Context(), "example")
				if !a.Broken() || a.Proof != tc.proof || a.Failure.Fault != tc.fault || !strings.HasPrefix(a.Failure.Detail, tc.detail) {
					t.Fatalf("%+v: %+v", a, a.Failure)
				}
			})
		})
	}
}

func TestUnreachable(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(pc.LocalAddr().String())
	pc.Close()
	r := resolver(t, Config{Mode: TrustAD, Servers: []netip.AddrPort{addr}})
	a := r.Session().MX(t.Context(), "example")
	if !a.Broken() || a.Failure.Fault != verdict.Operator || a.Failure.Detail != addr.String()+" is unreachable: read: connection refused" {
		t.Errorf("%+v: %+v", a, a.Failure)
	}
	if h := r.Health(); h.Validates || !strings.Contains(h.Problem, "check that a resolver runs there") {
		t.Errorf("%+v", h)
	}
}

// TestLate holds that an answer after its try's time-out is not taken, and that the
// second try is.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net wires
		var tries atomic.Int64
		net.set("127.0.0.1:53", validator(t, func(q *dns.Msg) *dns.Msg {
			if tries.Add(1) == 1 {
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				<-ctx.Done()
				return address(t, q, forged)
			}
			return address(t, q, truth)
		}))
		r := resolver(t, Config{Mode: TrustAD, Dial: net.dial, Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}})
		begin := time.Now()
		s := r.Session()
		a := s.A(t.Context(), "mx.example")
		defer func() { <-time.After(2 * time.Second) }() // until the late answer is written
		if fmt.Sprint(a.Records) != "["+truth+"]" || time.Since(begin) != 2*time.Second || s.Asked() != 2 {
			t.Fatalf("%+v in %v after %d questions", a, time.Since(begin), s.Asked())
		}
	})
}
