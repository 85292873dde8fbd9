package resolve

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

func chain(n int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("c%d.example. 60 IN CNAME c%d.example.", i, i+1))
	}
	return lines
}

// TestAnswers is what one reply of a validating server means for an A question.
func TestAnswers(t *testing.T) {
	const soa = "example. 3600 IN SOA ns. h. 1 7200 3600 1209600 300"
	for _, tc := range []struct {
		what      string
		ask       string
		rcode     int
		answer    []string
		authority []string
		want      verdict.Outcome
		records   string
		canonical string
		ttl       time.Duration
		detail    string
	}{
		{what: "record", answer: []string{"c0.example. 60 IN A 192.0.2.1"}, want: verdict.Found, records: "192.0.2.1", ttl: time.Minute},
		{what: "upper case owner", answer: []string{"C0.EXAMPLE. 60 IN A 192.0.2.1"}, want: verdict.Found, records: "192.0.2.1", ttl: time.Minute},
		{what: "upper case question", ask: "C0.Example.", answer: []string{"c0.example. 60 IN A 192.0.2.1"}, want: verdict.Found, records: "192.0.2.1", ttl: time.Minute},
		{what: "least TTL of a set", answer: []string{"c0.example. 60 IN A 192.0.2.1", "c0.example. 30 IN A 192.0.2.2"}, want: verdict.Found, records: "192.0.2.1 192.0.2.2", ttl: 30 * time.Second},
		{what: "TTL with the top bit", answer: []string{"c0.example. 2147483648 IN A 192.0.2.1"}, want: verdict.Found, records: "192.0.2.1"},
		{what: "alias", answer: []string{"c0.example. 20 IN CNAME B.example.", "b.example. 60 IN A 192.0.2.1"}, want: verdict.Found, records: "192.0.2.1", canonical: "b.example", ttl: 20 * time.Second},
		{what: "alias out of order", answer: []string{"b.example. 60 IN A 192.0.2.1", "c0.example. 90 IN CNAME b.example."}, want: verdict.Found, records: "192.0.2.1", canonical: "b.example", ttl: time.Minute},
		{what: "the longest chain", answer: append(chain(8), "c8.example. 60 IN A 192.0.2.1"), want: verdict.Found, records: "192.0.2.1", canonical: "c8.example", ttl: time.Minute},
		{what: "too long a chain", answer: append(chain(9), "c9.example. 60 IN A 192.0.2.1"), want: verdict.Failed, detail: "CNAMEs, or a loop"},
		{what: "loop", answer: []string{"c0.example. 60 IN CNAME b.example.", "b.example. 60 IN CNAME c0.example."}, want: verdict.Failed, detail: "loop"},
		{what: "loop of one", answer: []string{"c0.example. 60 IN CNAME c0.example."}, want: verdict.Failed, detail: "loop"},
		{what: "two aliases", answer: []string{"c0.example. 60 IN CNAME b.example.", "c0.example. 60 IN CNAME d.example.", "b.example. 60 IN A 192.0.2.1"}, want: verdict.Failed, detail: "two targets"},
		{what: "one alias twice", answer: []string{"c0.example. 60 IN CNAME b.example.", "c0.example. 60 IN CNAME B.example.", "b.example. 60 IN A 192.0.2.1"}, want: verdict.Found, records: "192.0.2.1", canonical: "b.example", ttl: time.Minute},
		{what: "DNAME and its CNAME", answer: []string{"example. 60 IN DNAME test.", "c0.example. 0 IN CNAME c0.test.", "c0.test. 60 IN A 192.0.2.1"}, want: verdict.Found, records: "192.0.2.1", canonical: "c0.test"},
		{what: "DNAME alone", answer: []string{"example. 60 IN DNAME test."}, authority: []string{soa}, want: verdict.Failed, detail: "DNAME"},
		{what: "records of another name", answer: []string{"b.example. 60 IN A 192.0.2.6"}, authority: []string{soa}, want: verdict.NoData, ttl: 5 * time.Minute},
		{what: "records of another type", answer: []string{"c0.example. 60 IN AAAA 2001:db8::1"}, authority: []string{soa}, want: verdict.NoData, ttl: 5 * time.Minute},
		{what: "records of another class", answer: []string{"c0.example. 60 CH A 192.0.2.6"}, authority: []string{soa}, want: verdict.NoData, ttl: 5 * time.Minute},
		{what: "a chain that begins elsewhere", answer: []string{"b.example. 60 IN CNAME d.example.", "d.example. 60 IN A 192.0.2.6"}, authority: []string{soa}, want: verdict.NoData, ttl: 5 * time.Minute},
		{what: "no data", authority: []string{soa}, want: verdict.NoData, ttl: 5 * time.Minute},
		{what: "no data, SOA with the lesser TTL", authority: []string{"example. 7 IN SOA ns. h. 1 7200 3600 1209600 300"}, want: verdict.NoData, ttl: 7 * time.Second},
		{what: "no data without SOA", want: verdict.NoData},
		{what: "SOA of a stranger", authority: []string{"test. 3600 IN SOA ns. h. 1 7200 3600 1209600 300"}, want: verdict.NoData},
		{what: "no such name", rcode: dns.RcodeNameError, authority: []string{soa}, want: verdict.NXDomain, ttl: 5 * time.Minute},
		{what: "alias to nothing", rcode: dns.RcodeNameError, answer: []string{"c0.example. 20 IN CNAME b.example."}, authority: []string{soa}, want: verdict.NXDomain, canonical: "b.example", ttl: 20 * time.Second},
		{what: "alias to no data", answer: []string{"c0.example. 20 IN CNAME b.example."}, authority: []string{soa}, want: verdict.NoData, canonical: "b.example", ttl: 20 * time.Second},
		{what: "half a chain", answer: []string{"c0.example. 20 IN CNAME b.example."}, want: verdict.Failed, detail: "without its end"},
		{what: "NXDOMAIN with records", rcode: dns.RcodeNameError, answer: []string{"c0.example. 60 IN A 192.0.2.1"}, want: verdict.Failed, detail: "NXDOMAIN with records"},
		{what: "referral", authority: []string{"example. 60 IN NS ns.example."}, want: verdict.Failed, detail: "refers elsewhere"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			answer, authority := rr(t, tc.answer...), rr(t, tc.authority...)
			r := trusting(t, func(q *dns.Msg) *dns.Msg {
				m := secure(answering(q, answer...))
				m.Rcode, m.Ns = tc.rcode, authority
				m.Extra = append(m.Extra, rr(t, "c0.example. 60 IN A 192.0.2.66")...)
				return m
			})
			ask := tc.ask
			if ask == "" {
				ask = "c0.example"
			}
			a := r.Session().A(t.Context(), ask)
			if a.Outcome != tc.want || a.Canonical != tc.canonical || a.TTL != tc.ttl {
				t.Fatalf("got %+v", a)
			}
			var records []string
			for _, ip := range a.Records {
				records = append(records, ip.String())
			}
			if got := strings.Join(records, " "); got != tc.records {
				t.Errorf("records %q, want %q", got, tc.records)
			}
			if tc.want == verdict.Failed {
				if a.Proof != verdict.Indeterminate || !strings.Contains(a.Failure.Detail, tc.detail) || !strings.Contains(a.Failure.Detail, "127.0.0.1:") {
					t.Errorf("proof %v, failure %+v", a.Proof, a.Failure)
				}
			} else if a.Proof != verdict.Secure || a.Failure != nil {
				t.Errorf("proof %v, failure %v", a.Proof, a.Failure)
			}
		})
	}
}

func TestTypes(t *testing.T) {
	r := trusting(t, zone(t,
		"example. 60 IN MX 10 MX1.Example.",
		"example. 60 IN MX 20 .",
		`example. 60 IN MX 30 a\032b\".example.`,
		"mx1.example. 60 IN A 192.0.2.1",
		"mx1.example. 60 IN AAAA 2001:db8::1",
		"_25._tcp.mx1.example. 60 IN TLSA 3 1 1 00ff",
		"_25._tcp.mx1.example. 60 IN TLSA 2 0 0 ",
		`_mta-sts.example. 60 IN TXT "v=STSv1; " "id=1;"`,
		`_mta-sts.example. 60 IN TXT "\"\\\000\255"`,
		"alias.example. 60 IN CNAME MX1.example.",
		`example. 60 IN TYPE65400 \# 4 00ff5c0a`,
		`example. 60 IN TYPE65400 \# 0`,
	))
	s, ctx := r.Session(), t.Context()
	check := func(got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	check(s.MX(ctx, "example").Records, []verdict.MX{{Preference: 10, Host: "mx1.example"}, {Preference: 20}, {Preference: 30, Host: `a\032b\034.example`}})
	check(s.A(ctx, "mx1.example").Records, []netip.Addr{netip.MustParseAddr("192.0.2.1")})
	check(s.AAAA(ctx, "mx1.example").Records, []netip.Addr{netip.MustParseAddr("2001:db8::1")})
	check(s.TLSA(ctx, "_25._tcp.mx1.example").Records, []tlsa.Record{
		{Usage: 3, Selector: 1, Matching: 1, Data: []byte{0, 255}}, {Usage: 2, Data: []byte{}},
	})
	check(s.TXT(ctx, "_mta-sts.example").Records, []string{"v=STSv1; id=1;", "\"\\\x00\xff"})
	check(s.Private(ctx, "example", 65400).Records, []string{"\x00\xff\\\n", ""})
	check(s.Private(ctx, "example", 65401).Outcome, verdict.NoData)
	check(newQuestion("example", 65400).String(), "example TYPE65400")
	check(s.CNAME(ctx, "alias.example").Records, []string{"mx1.example"})
	check(s.CNAME(ctx, "alias.example").Canonical, "")
	check(s.CNAME(ctx, "mx1.example").Outcome, verdict.NoData)
	check(s.MX(ctx, "nothing.example").Outcome, verdict.NXDomain)
	check(s.A(ctx, "mx1.example").Proof, verdict.Insecure)
}

// TestMalformedRecord holds that one bad record spoils its set, which would
// otherwise look complete.
func TestMalformedRecord(t *testing.T) {
	r := trusting(t, func(q *dns.Msg) *dns.Msg {
		h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
		data := map[uint16]string{dns.TypeTLSA: "0301", dns.TypeMX: "000a"}[h.Rrtype]
		return secure(answering(q, &dns.RFC3597{Hdr: h, Rdata: data}))
	})
	s, ctx := r.Session(), t.Context()
	for what, failure := range map[string]*verdict.Failure{
		"MX":    s.MX(ctx, "example").Failure,
		"A":     s.A(ctx, "example").Failure,
		"AAAA":  s.AAAA(ctx, "example").Failure,
		"TLSA":  s.TLSA(ctx, "example").Failure,
		"TXT":   s.TXT(ctx, "example").Failure,
		"CNAME": s.CNAME(ctx, "example").Failure,
	} {
		if failure == nil || !strings.Contains(failure.Detail, "malformed") {
			t.Errorf("%s: %v", what, failure)
		}
	}
}

func TestNames(t *testing.T) {
	asked := make(chan string, 100)
	r := trusting(t, func(q *dns.Msg) *dns.Msg {
		asked <- q.Question[0].Name
		return secure(answering(q, rr(t, "b.example. 60 IN A 192.0.2.1")...))
	})
	absent := func(outcome verdict.Outcome, proof verdict.Proof, ttl time.Duration) bool {
		return outcome == verdict.NXDomain && proof == verdict.Secure && ttl == time.Hour
	}
	broken := func(f *verdict.Failure) bool { return f != nil && strings.Contains(f.Detail, "not a host name") }
	for _, name := range []string{
		"..", "a..b", ".a", "a..", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a", "_25._tcp." + strings.Repeat("a.", 122) + "a",
		strings.Repeat(`\255`, 64), strings.Repeat(`\255.`, 127) + "a", strings.Repeat("a b.", 80) + "a", strings.Repeat("a", 1<<20),
	} {
		s, ctx := r.Session(), t.Context()
		a, l := s.A(ctx, name), s.TLSA(ctx, name)
		if !absent(a.Outcome, a.Proof, a.TTL) || !absent(l.Outcome, l.Proof, l.TTL) {
			t.Errorf("%.20q cannot exist: %+v, %+v", name, a, l)
		}
	}
	for _, name := range []string{
		"a b", `a\032b`, "bücher.example", `b\195\188cher.example`, "a\nb", "*.example", "a/b", `a\`, `\`, `a\046b`,
		strings.Repeat(`\255`, 63), strings.Repeat(`\255.`, 126) + "a",
	} {
		s, ctx := r.Session(), t.Context()
		a, aaaa, l := s.A(ctx, name), s.AAAA(ctx, name), s.TLSA(ctx, name)
		if !absent(a.Outcome, a.Proof, a.TTL) || !absent(aaaa.Outcome, aaaa.Proof, aaaa.TTL) || !broken(l.Failure) {
			t.Errorf("%q is no host: %+v, %+v", name, a, l)
		}
	}
	for _, name := range []string{"", "."} {
		if a := r.Session().A(t.Context(), name); !broken(a.Failure) {
			t.Errorf("%q: %+v", name, a)
		}
	}
	if len(asked) > 0 {
		t.Errorf("%q was asked", <-asked)
	}
	for _, name := range []string{
		"a", "a.", "_25._tcp.A-1.example", "xn--a.example", strings.Repeat("a", 63), strings.Repeat("a.", 126) + "a",
	} {
		r.Session().A(t.Context(), name)
		if want := strings.ToLower(strings.TrimSuffix(name, ".")) + "."; len(asked) != 1 || <-asked != want {
			t.Errorf("%q was not asked as %q", name, want)
		}
	}
}

func TestLookupAddrs(t *testing.T) {
	r := trusting(t, func(q *dns.Msg) *dns.Msg {
		name, v6 := q.Question[0].Name, q.Question[0].Qtype == dns.TypeAAAA
		switch {
		case strings.HasPrefix(name, "v4") && v6, strings.HasPrefix(name, "v6") && !v6, strings.HasPrefix(name, "broken"):
			return refusing(q, dns.RcodeServerFailure)
		case strings.HasPrefix(name, "none"), strings.HasPrefix(name, "half") && v6:
			return soaOf(t, replyTo(q), "example.")
		case strings.HasPrefix(name, "half"):
			return refusing(q, dns.RcodeServerFailure)
		case v6:
			return answering(q, rr(t, name+" 60 IN AAAA 2001:db8::1")...)
		}
		return answering(q, rr(t, name+" 60 IN A 192.0.2.1")...)
	})
	for host, want := range map[string]string{
		"both.example":   "[192.0.2.1 2001:db8::1] <nil>",
		"v4.example":     "[192.0.2.1] <nil>",
		"v6.example":     "[2001:db8::1] <nil>",
		"none.example":   "[] resolve: no address: none.example",
		"half.example":   "[] resolve: lookup failed: A half.example: SERVFAIL",
		"broken.example": "[] resolve: lookup failed: A broken.example: SERVFAIL",
		"not a name":     "[] resolve: no address: not a name",
	} {
		addrs, err := r.LookupAddrs(t.Context(), host)
		if got := fmt.Sprint(addrs, err); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}
