package bench

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// upstream is a validating resolver of the whole population, on loopback: it computes
// each answer from the name asked, so that there may be any number of domains.
type upstream struct {
	server *dns.Server
	addr   netip.AddrPort
	delay  time.Duration
	asked  atomic.Int64
}

// startUpstream starts one whose answers take a time.
func startUpstream(delay time.Duration) (*upstream, error) {
	return startUpstreamAt("127.0.0.1:0", delay)
}

func startUpstreamAt(at string, delay time.Duration) (*upstream, error) {
	conn, err := net.ListenPacket("udp", at)
	if err != nil {
		return nil, err
	}
	u := &upstream{addr: netip.MustParseAddrPort(conn.LocalAddr().String()), delay: delay}
	u.server = &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(u.serve)}
	go func() { _ = u.server.ActivateAndServe() }()
	return u, nil
}

func (u *upstream) stop() { _ = u.server.Shutdown() }

func (u *upstream) serve(w dns.ResponseWriter, query *dns.Msg) {
	u.asked.Add(1)
	m := reply(query)
	if u.delay == 0 {
		_ = w.WriteMsg(m)
		return
	}
	time.AfterFunc(u.delay, func() { _ = w.WriteMsg(m) })
}

// longLived is the TTL of all answers, in seconds: nothing ends while it is measured.
const longLived = 86400

func reply(query *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(query)
	m.RecursionAvailable = true
	q := query.Question[0]
	if query.IsEdns0() != nil {
		m.SetEdns0(1232, false)
	}
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass, Ttl: longLived}
	i := number(q.Name)
	switch {
	case q.Qclass == dns.ClassCHAOS:
		m.Answer = []dns.RR{&dns.TXT{Hdr: header, Txt: []string{"bench"}}}
		return m
	case i < 0:
		// The root is signed, what a probe asks for besides is not.
		m.AuthenticatedData = q.Name == "."
		if q.Name == "." && q.Qtype == dns.TypeNS {
			m.Answer = []dns.RR{&dns.NS{Hdr: header, Ns: "a.root-servers.invalid."}}
		}
	default:
		m.AuthenticatedData = kindOf(i) == dane
		if rr := record(i, q, header); rr != nil {
			m.Answer = []dns.RR{rr}
		}
	}
	if len(m.Answer) == 0 {
		apex := "."
		if i >= 0 {
			apex = "example."
		}
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: apex, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: longLived},
			Ns:  "ns.invalid.", Mbox: "root.invalid.", Serial: 1, Refresh: 7200, Retry: 3600, Expire: 1209600, Minttl: longLived,
		}}
	}
	return m
}

// record is what the DNS has at a name of the population, if anything.
func record(i int, q dns.Question, header dns.RR_Header) dns.RR {
	apex := strings.HasPrefix(q.Name, "mail-domain-")
	switch {
	case q.Qtype == dns.TypeMX && apex:
		return &dns.MX{Hdr: header, Preference: 10, Mx: "mx1." + q.Name}
	case q.Qtype == dns.TypeA && strings.HasPrefix(q.Name, "mx1."):
		return &dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 1)}
	case q.Qtype == dns.TypeTLSA && kindOf(i) == dane:
		return &dns.TLSA{Hdr: header, Usage: 3, Selector: 1, MatchingType: 1, Certificate: strings.Repeat("5a", 32)}
	case q.Qtype == dns.TypeTXT && kindOf(i) == sts && strings.HasPrefix(q.Name, "_mta-sts."):
		return &dns.TXT{Hdr: header, Txt: []string{"v=STSv1; id=20260101;"}}
	}
	return nil
}

// TestUpstream: the answers are as the kinds want them.
func TestUpstream(t *testing.T) {
	u, err := startUpstream(0)
	if err != nil {
		t.Fatal(err)
	}
	defer u.stop()
	for _, tc := range []struct {
		name   string
		rrtype uint16
		found  bool
		secure bool
	}{
		{".", dns.TypeNS, true, true},
		{".", dns.TypeA, false, true},
		{"home.arpa.", dns.TypeSOA, false, false},
		{domain(3) + ".", dns.TypeMX, true, true},
		{"_25._tcp.mx1." + domain(3) + ".", dns.TypeTLSA, true, true},
		{"_mta-sts." + domain(3) + ".", dns.TypeTXT, false, true},
		{domain(5) + ".", dns.TypeMX, true, false},
		{"_mta-sts." + domain(5) + ".", dns.TypeTXT, true, false},
		{"_mta-sts." + domain(0) + ".", dns.TypeTXT, false, false},
	} {
		m, err := dns.Exchange(new(dns.Msg).SetQuestion(tc.name, tc.rrtype), u.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if (len(m.Answer) == 1) != tc.found || m.AuthenticatedData != tc.secure {
			t.Errorf("%s %s: %d answers, AD %v", tc.name, dns.TypeToString[tc.rrtype], len(m.Answer), m.AuthenticatedData)
		}
	}
}
