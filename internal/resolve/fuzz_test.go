package resolve

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// FuzzReply reads any packet as the reply to a question. Nothing may panic; what
// answers must repeat the question; and what is found must be of the type and
// class asked for, and owned by the question's name or the end of its chain.
func FuzzReply(f *testing.F) {
	questions := []question{
		{"mx.example.", dns.TypeA, dns.ClassINET},
		{"mx.example.", dns.TypeAAAA, dns.ClassINET},
		{"example.", dns.TypeMX, dns.ClassINET},
		{"_25._tcp.mx.example.", dns.TypeTLSA, dns.ClassINET},
		{"_mta-sts.example.", dns.TypeTXT, dns.ClassINET},
		{"mx.example.", dns.TypeCNAME, dns.ClassINET},
		{".", dns.TypeNS, dns.ClassINET},
	}
	for i, q := range questions {
		for _, data := range []string{"192.0.2.1", "2001:db8::1", "10 mx.example.", "3 1 1 00", `"v=STSv1; id=1;" "\""`, "b.example.", "a.root-servers.net."} {
			r, err := dns.NewRR(q.name + " 60 IN " + dns.TypeToString[q.rrtype] + " " + data)
			if err != nil {
				continue
			}
			m := new(dns.Msg)
			m.SetQuestion(q.name, q.rrtype)
			m.Response, m.AuthenticatedData, m.RecursionAvailable = true, true, true
			m.Answer = []dns.RR{r}
			f.Add(uint8(i), packed(f, m)[2:])
			alias := append(rr(f, q.name+" 60 IN CNAME b.example.", "b.example. 60 IN CNAME "+q.name), r)
			m.Answer = alias
			f.Add(uint8(i), packed(f, m)[2:])
			m.Answer = nil
			m.Rcode = dns.RcodeNameError
			f.Add(uint8(i), packed(f, soaOf(f, m, "example."))[2:])
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 6, ExtraText: "x"}}
			f.Add(uint8(i), packed(f, m)[2:])
		}
	}
	srv := newServer(one)
	srv.state.Store(&ServerHealth{Answers: true, Validates: true})
	r, err := New(Config{Servers: []netip.AddrPort{one}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, which uint8, tail []byte) {
		q := questions[int(which)%len(questions)]
		query := q.query(queryBits{header: bitAD})
		packet := append(append([]byte(nil), query[:2]...), tail...)
		if !answers(query, packet) {
			return
		}
		m, err := parse(packet)
		if err != nil {
			checkLine(t, r.miss(srv, nil, err).detail)
			return
		}
		if len(m.Question) != 1 || lower(m.Question[0].Name) != q.name || m.Question[0].Qtype != q.rrtype || m.Id != uint16(query[0])<<8|uint16(query[1]) {
			t.Fatalf("%v taken for %v", m.Question, q)
		}
		checkLine(t, r.miss(srv, m, errFailing).detail)
		checkLine(t, r.miss(srv, m, errRcode).detail)
		checkLine(t, r.miss(srv, m, errStale).detail)
		outlived(m)
		useOfAD(q, m)
		res, err := interpret(q, m)
		if err != nil {
			checkLine(t, r.miss(srv, m, err).detail)
			return
		}
		checkResult(t, q, res)
	})
}

func checkLine(t *testing.T, s string) {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			t.Fatalf("%q is not fit to print", s)
		}
	}
}

func checkHost(t *testing.T, s string) {
	for i := range len(s) {
		if c := s[i]; !hostOctet(c) && c != '.' && c != '\\' || 'A' <= c && c <= 'Z' {
			t.Fatalf("host %q", s)
		}
	}
	if kind := kindOf(s); kind == hostish && strings.Contains(s, `\`) || kind == impossible {
		t.Fatalf("%q is of kind %d", s, kind)
	}
}

func checkResult(t *testing.T, q question, res result) {
	if res.outcome == verdict.Found != (len(res.records) > 0) || res.proof != verdict.Indeterminate || res.ttl < 0 {
		t.Fatalf("%+v", res)
	}
	checkHost(t, res.canonical)
	owner := hostName(q.name)
	if res.canonical != "" {
		owner = res.canonical
	}
	for _, r := range res.records {
		if h := r.Header(); h.Rrtype != q.rrtype || h.Class != q.class || hostName(h.Name) != owner {
			t.Fatalf("%v found for %v at %q", r, q, owner)
		}
	}
	for _, mx := range typed(res, readMX).Records {
		checkHost(t, mx.Host)
	}
	for _, target := range typed(res, readCNAME).Records {
		checkHost(t, target)
	}
	for _, ip := range append(typed(res, readA).Records, typed(res, readAAAA).Records...) {
		if !ip.IsValid() {
			t.Fatal("an address that is none")
		}
	}
	typed(res, readTLSA)
	typed(res, readTXT)
}

// FuzzUnescape holds that a character string comes out as its octets went in.
func FuzzUnescape(f *testing.F) {
	for _, seed := range []string{"", `a"b\c`, "\x00\xff\n", `\065`, "v=STSv1; id=1;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 255 {
			return
		}
		wire := append([]byte{byte(len(s))}, s...)
		r, _, err := dns.UnpackRRWithHeader(dns.RR_Header{Name: ".", Rrtype: dns.TypeTXT, Class: 1, Rdlength: uint16(len(wire))}, wire, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := readTXT(r); !ok || got != s {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

// FuzzSystem holds that any file gives at most three servers that can be asked.
func FuzzSystem(f *testing.F) {
	f.Add("nameserver 127.0.0.1\nnameserver fe80::1%eth0\n")
	f.Add("# nothing\nnameserver\nnameserver x\n;nameserver 192.0.2.1")
	f.Fuzz(func(t *testing.T, s string) {
		servers, err := parseSystem(strings.NewReader(s))
		if len(servers) > 3 || err != nil && len(s) < 1<<16 {
			t.Fatalf("%v, %v", servers, err)
		}
		for _, addr := range servers {
			if !addr.IsValid() || addr.Port() != 53 {
				t.Fatalf("%v", addr)
			}
		}
	})
}

// FuzzName holds that what is asked for fits into a query, and that without escapes
// exactly those names are called impossible that do not.
func FuzzName(f *testing.F) {
	for _, seed := range []string{
		"", ".", "mx.example.com", "_25._tcp.mx.example.", "a..b", ".a", "a..", `a\032b.example`, `a\`, "a b", "b\xc3\xbccher.example",
		strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 127) + "a", strings.Repeat(`\255`, 64),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k := kindOf(s)
		size, err := dns.PackDomainName(dns.Fqdn(s), make([]byte, 300), 0, nil, false)
		if k == hostish {
			q := newQuestion(s, dns.TypeA)
			m := new(dns.Msg)
			if e := m.Unpack(q.query(queryBits{})); e != nil || m.Question[0].Name != q.name || err != nil {
				t.Fatalf("%q: %v, %v", s, e, err)
			}
		}
		if k != nameless && !strings.Contains(s, `\`) && (k == impossible) != (err != nil || size > 255) {
			t.Fatalf("%q is of kind %d: %d octets, %v", s, k, size, err)
		}
	})
}
