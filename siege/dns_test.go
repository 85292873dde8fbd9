package siege

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// mood is how the resolver behaves to all questions.
type mood int32

const (
	well    mood = iota
	dead         // nobody listens: the kernel says so
	silent       // questions are taken and never answered
	lying        // every answer is another question's, or garbage
	failing      // SERVFAIL
)

// resolver is a name server that a test has in its hand. It knows these names, each
// with any label N in front of it that has no dot:
//
//	N.none.example   an MX host with an address, unsigned
//	N.dane.example   the same with TLSA records, in one signed zone: dane-only
//	N.own.example    as dane.example, but each N is a signed zone of its own
//	N.sts.example    unsigned, with an MTA-STS policy at 127.0.0.2, or, where N begins
//	                 with "bad", at 127.0.0.3
//	N.slow.example   signed, with no TLSA records, and each answer takes as long as
//	                 slow says
//
// and what probes ask for. Everything else does not exist. The root and "example" are
// signed; see zoneKey.
type resolver struct {
	udp *net.UDPConn
	tcp net.Listener

	mood  atomic.Int32
	loss  atomic.Int64 // in percent
	slow  atomic.Int64 // a duration, for slow.example
	delay atomic.Int64 // a duration, for everything
	ttl   atomic.Uint32
	// id is that of all MTA-STS records.
	id atomic.Int64

	asked    atomic.Int64
	underWay atomic.Int64
	most     atomic.Int64 // under way at once

	mu      sync.Mutex
	seconds map[int64]int // questions in each second since 1970
}

func serveDNS(t *testing.T) *resolver {
	t.Helper()
	must(t, signer.make())
	r := newResolver()
	r.listen(t)
	t.Cleanup(r.close)
	return r
}

func newResolver() *resolver {
	r := &resolver{seconds: make(map[int64]int)}
	r.ttl.Store(3600)
	r.id.Store(1)
	return r
}

func (r *resolver) listen(t *testing.T) {
	t.Helper()
	addr := net.UDPAddrFromAddrPort(mustAddrPort(dnsAddress))
	var err error
	r.udp, err = net.ListenUDP("udp", addr)
	must(t, err)
	_ = r.udp.SetReadBuffer(8 << 20)
	r.tcp, err = net.Listen("tcp", dnsAddress)
	must(t, err)
	for range 2 {
		go r.serve(r.udp)
	}
	go r.serveTCP(r.tcp)
}

func (r *resolver) close() {
	_ = r.udp.Close()
	_ = r.tcp.Close()
}

// be changes the mood. To be dead, the sockets are closed.
func (r *resolver) be(t *testing.T, m mood) {
	t.Helper()
	was := mood(r.mood.Swap(int32(m)))
	switch {
	case m == dead && was != dead:
		r.close()
	case m != dead && was == dead:
		r.listen(t)
	}
}

func (r *resolver) serve(conn *net.UDPConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(buf[:n]) != nil || len(q.Question) != 1 {
			continue
		}
		r.note()
		if rand.Int64N(100) < r.loss.Load() {
			continue
		}
		r.later(q, func(reply []byte) {
			// What is lost on the way back is lost too.
			if rand.Int64N(100) >= r.loss.Load() {
				_, _ = conn.WriteToUDPAddrPort(reply, from)
			}
		})
	}
}

// note counts a question.
func (r *resolver) note() {
	r.asked.Add(1)
	r.mu.Lock()
	r.seconds[time.Now().Unix()]++
	r.mu.Unlock()
}

// busiest is the most questions in one second since a time.
func (r *resolver) busiest(since time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	most := 0
	for second, n := range r.seconds {
		if second >= since.Unix() {
			most = max(most, n)
		}
	}
	return most
}

// later answers, at once or after the delay that there is.
func (r *resolver) later(q *dns.Msg, send func([]byte)) {
	now := r.underWay.Add(1)
	for most := r.most.Load(); now > most && !r.most.CompareAndSwap(most, now); most = r.most.Load() {
	}
	delay := time.Duration(r.delay.Load())
	if strings.HasSuffix(strings.ToLower(q.Question[0].Name), ".slow.example.") {
		delay += time.Duration(r.slow.Load())
	}
	answer := func() {
		defer r.underWay.Add(-1)
		if reply := r.reply(q); reply != nil {
			send(reply)
		}
	}
	if mood(r.mood.Load()) == silent {
		// It counts as under way for as long as the one who asks waits.
		time.AfterFunc(2*time.Second, func() { r.underWay.Add(-1) })
		return
	}
	if delay == 0 {
		answer()
		return
	}
	time.AfterFunc(delay, answer)
}

func (r *resolver) reply(q *dns.Msg) []byte {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	switch mood(r.mood.Load()) {
	case failing:
		m.Rcode = dns.RcodeServerFailure
	case lying:
		switch rand.IntN(3) {
		case 0:
			m.Question[0].Name = "other." + m.Question[0].Name
		case 1:
			m.Id++
		default:
			return []byte("\x00\x00\xff\xff this is no answer")
		}
	default:
		if r.fill(m, q.IsEdns0() != nil && q.IsEdns0().Do()) != nil {
			m.Rcode = dns.RcodeServerFailure
		}
	}
	if q.IsEdns0() != nil {
		m.SetEdns0(1232, q.IsEdns0().Do())
	}
	wire, err := m.Pack()
	if err != nil {
		return nil
	}
	return wire
}

// fill answers truly.
func (r *resolver) fill(m *dns.Msg, do bool) error {
	q := m.Question[0]
	name, ttl := dns.CanonicalName(q.Name), r.ttl.Load()
	if q.Qclass == dns.ClassCHAOS {
		m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{"siege"}})
		return nil
	}
	apex := zoneOf(name)
	if q.Qtype == dns.TypeDS && name == apex && name != "." {
		_, parent, _ := strings.Cut(name, ".")
		apex = zoneOf(parent)
	}
	m.AuthenticatedData = signedZone(apex) && !m.CheckingDisabled
	do = do && signedZone(apex)
	set, section := []dns.RR{r.record(name, apex, q)}, &m.Answer
	if set[0] == nil {
		set, section = []dns.RR{soa(apex, ttl)}, &m.Ns
		if zoneOf(name) == "." && name != "." && !do {
			m.Rcode = dns.RcodeNameError
		}
	}
	if !do {
		*section = append(*section, set...)
		return nil
	}
	sets := [][]dns.RR{set}
	if section == &m.Ns {
		sets = append(sets, []dns.RR{denial(name, ttl, r.types(name)...)})
	}
	for _, set := range sets {
		signed, err := signer.sign(apex, set...)
		if err != nil {
			return err
		}
		*section = append(*section, signed...)
	}
	return nil
}

// types are what a denial says that a name has.
func (r *resolver) types(name string) []uint16 {
	types := []uint16{dns.TypeRRSIG, dns.TypeNSEC}
	switch apex := zoneOf(name); {
	case name == apex && !signedZone(apex):
		types = append(types, dns.TypeNS)
	case name == apex:
		types = append(types, dns.TypeNS, dns.TypeSOA, dns.TypeDNSKEY)
	case apex == ".":
		types = append(types, typeNXNAME)
	}
	for _, t := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeTXT, dns.TypeTLSA} {
		if r.record(name, zoneOf(name), dns.Question{Name: name, Qtype: t}) != nil {
			types = append(types, t)
		}
	}
	slices.Sort(types)
	return types
}

// zoneOf returns the zone that a name is in.
func zoneOf(name string) string {
	for _, zone := range []string{"none.example.", "dane.example.", "sts.example.", "slow.example.", "own.example."} {
		if !dns.IsSubDomain(zone, name) {
			continue
		}
		if zone != "own.example." || name == zone {
			return zone
		}
		labels := dns.SplitDomainName(name)
		return labels[len(labels)-3] + "." + zone
	}
	if name == "example." {
		return name
	}
	return "."
}

// signedZone reports whether a zone is signed.
func signedZone(apex string) bool { return apex != "none.example." && apex != "sts.example." }

// record is the one record that a name has for a type in a zone, or nil.
func (r *resolver) record(name, zone string, q dns.Question) dns.RR {
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: r.ttl.Load()}
	switch {
	case h.Rrtype == dns.TypeDNSKEY && name == zone && signedZone(zone):
		return signer.at(zone)
	case h.Rrtype == dns.TypeDS && name == zoneOf(name) && name != zone && signedZone(name):
		return signer.delegation(name)
	case h.Rrtype == dns.TypeNS && name == ".":
		return &dns.NS{Hdr: h, Ns: "a.root-servers.net."}
	case zone == "." || zone == "example.":
		return nil
	}
	labels := dns.SplitDomainName(name)
	labels = labels[:len(labels)-2] // without those of none.example and its like
	if len(labels) == 0 {
		return nil
	}
	first := labels[0]
	switch {
	case h.Rrtype == dns.TypeMX && len(labels) == 1:
		return &dns.MX{Hdr: h, Preference: 10, Mx: "mx." + name}
	case h.Rrtype == dns.TypeA && first == "mx":
		return &dns.A{Hdr: h, A: net.IPv4(192, 0, 2, 1)}
	case h.Rrtype == dns.TypeTLSA && (zone == "dane.example." || strings.HasSuffix(zone, ".own.example.")) && first == "_25":
		return &dns.TLSA{Hdr: h, Usage: 3, Selector: 1, MatchingType: 1, Certificate: hex.EncodeToString(make([]byte, 32))}
	case h.Rrtype == dns.TypeTXT && zone == "sts.example." && first == "_mta-sts":
		return &dns.TXT{Hdr: h, Txt: []string{fmt.Sprintf("v=STSv1; id=%d;", r.id.Load())}}
	case h.Rrtype == dns.TypeA && first == "mta-sts" && len(labels) == 2 && strings.HasPrefix(labels[1], "bad"):
		return &dns.A{Hdr: h, A: net.IPv4(127, 0, 0, 3)}
	case h.Rrtype == dns.TypeA && first == "mta-sts" && zone == "sts.example.":
		return &dns.A{Hdr: h, A: net.IPv4(127, 0, 0, 2)}
	}
	return nil
}

func soa(zone string, ttl uint32) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "ns." + strings.TrimPrefix(zone, "."), Mbox: "root." + strings.TrimPrefix(zone, "."), Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}
}

func (r *resolver) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			conn := &dns.Conn{Conn: c}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			q, err := conn.ReadMsg()
			if err != nil || len(q.Question) != 1 {
				return
			}
			r.note()
			if reply := r.reply(q); reply != nil && mood(r.mood.Load()) != silent {
				_, _ = conn.Write(reply)
			}
		}()
	}
}
