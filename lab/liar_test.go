package lab

import (
	"crypto"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// liar is a resolver in an attacker's hands. It relays each question to an honest
// one, by the transport that it came by, and changes the reply as its lies say.
// The zero value of lies is honesty.
type liar struct {
	ask func(network string, q *dns.Msg) (*dns.Msg, error)

	mu   sync.Mutex
	lies []lie
}

// lie changes an honest reply and reports whether it did. The question is looked
// at only: its CD bit shows policyd, which proves for itself, apart from Postfix.
type lie func(question, reply *dns.Msg) bool

// become changes what the resolver lies about. No lies: it is mended.
func (l *liar) become(lies ...lie) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lies = lies
}

// ServeDNS answers one question.
func (l *liar) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	reply, err := l.ask(w.LocalAddr().Network(), q)
	if err != nil || len(q.Question) != 1 {
		reply = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	reply.Id = q.Id
	l.mu.Lock()
	lies := l.lies
	l.mu.Unlock()
	for _, lie := range lies {
		lie(q, reply)
	}
	if !reply.Response {
		return // dropped
	}
	_ = w.WriteMsg(reply) // a client that is gone asks again
}

// startLiar runs a liar in a namespace, before an honest resolver there.
func startLiar(t *testing.T, n namespace, address, honest string) *liar {
	t.Helper()
	l := &liar{ask: func(network string, q *dns.Msg) (*dns.Msg, error) {
		conn, err := n.dial(network, net.JoinHostPort(honest, "53"))
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		reply, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeWithConn(q, &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize})
		return reply, err
	}}
	at := net.JoinHostPort(address, "53")
	stream, err := n.listen(at)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := n.listenPacket(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{Listener: stream, Handler: l}, {PacketConn: packets, Handler: l}} {
		go server.ActivateAndServe() // ends with its socket
	}
	t.Cleanup(func() { stream.Close(); packets.Close() })
	return l
}

// What a liar may say. Names are in master file form, with the last dot.

// forge answers with other records. Those of one owner and type go into one
// answer; the genuine signature stays beside them, where there is one. A CNAME
// answers every question about its owner, but leaves the delegation alone.
func forge(records ...string) lie {
	var forged []dns.RR
	for _, text := range records {
		forged = append(forged, mustRR(text))
	}
	return func(q, reply *dns.Msg) bool {
		asked := q.Question[0]
		answer := slices.DeleteFunc(slices.Clone(forged), func(rr dns.RR) bool {
			alias := rr.Header().Rrtype == dns.TypeCNAME && asked.Qtype != dns.TypeDS && asked.Qtype != dns.TypeDNSKEY
			return !strings.EqualFold(rr.Header().Name, asked.Name) || rr.Header().Rrtype != asked.Qtype && !alias
		})
		if len(answer) == 0 {
			return false
		}
		for _, rr := range reply.Answer {
			if rr.Header().Rrtype == dns.TypeRRSIG {
				answer = append(answer, rr)
			}
		}
		reply.Rcode, reply.Answer, reply.Ns = dns.RcodeSuccess, answer, nil
		return true
	}
}

// nodata says that an owner has no records of a type. The zone's SOA stays, the
// proof does not: there is none.
func nodata(owner string, rrtype uint16) lie {
	return about(owner, rrtype, func(reply *dns.Msg) {
		reply.Rcode, reply.Answer = dns.RcodeSuccess, nil
		reply.Ns = without(reply.Ns, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3)
	})
}

// nxdomain says, asked for a type, that an owner does not exist.
func nxdomain(owner string, rrtype uint16) lie {
	return about(owner, rrtype, func(reply *dns.Msg) {
		reply.Rcode, reply.Answer = dns.RcodeNameError, nil
		reply.Ns = without(reply.Ns, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3)
	})
}

// servfail fails for one owner and type.
func servfail(owner string, rrtype uint16) lie {
	return about(owner, rrtype, func(reply *dns.Msg) {
		reply.Rcode, reply.Answer, reply.Ns = dns.RcodeServerFailure, nil, nil
	})
}

// dropped never answers a question for one owner and type.
func dropped(owner string, rrtype uint16) lie {
	return about(owner, rrtype, func(reply *dns.Msg) { reply.Response = false })
}

// bare takes the signatures from one set of records.
func bare(owner string, rrtype uint16) lie {
	return about(owner, rrtype, func(reply *dns.Msg) { reply.Answer = without(reply.Answer, dns.TypeRRSIG) })
}

// about changes the reply to one question.
func about(owner string, rrtype uint16, change func(reply *dns.Msg)) lie {
	return func(q, reply *dns.Msg) bool {
		asked := q.Question[0]
		if !strings.EqualFold(asked.Name, owner) || asked.Qtype != rrtype {
			return false
		}
		change(reply)
		return true
	}
}

// unsigned takes the signatures and proofs out of every answer about a name and
// what is below it, and nothing else.
func unsigned(name string) lie {
	return func(q, reply *dns.Msg) bool {
		if !dns.IsSubDomain(name, q.Question[0].Name) {
			return false
		}
		n := len(reply.Answer) + len(reply.Ns)
		reply.Answer = without(reply.Answer, dns.TypeRRSIG)
		reply.Ns = without(reply.Ns, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3)
		return len(reply.Answer)+len(reply.Ns) != n
	}
}

// stripped is a resolver that knows nothing of DNSSEC: no DO, no AD, no record of
// a type that DNSSEC brought.
func stripped() lie {
	types := []uint16{dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeDS, dns.TypeDNSKEY}
	return func(q, reply *dns.Msg) bool {
		reply.AuthenticatedData = false
		if opt := reply.IsEdns0(); opt != nil {
			opt.SetDo(false)
		}
		reply.Answer, reply.Ns, reply.Extra = without(reply.Answer, types...), without(reply.Ns, types...), without(reply.Extra, types...)
		return true
	}
}

// flagged sets AD on everything.
func flagged() lie {
	return func(q, reply *dns.Msg) bool {
		reply.AuthenticatedData = true
		return true
	}
}

// toMTA lies to Postfix only. policyd asks with CD set, because it does not need
// another's validation, and hears the truth.
func toMTA(l lie) lie {
	return func(q, reply *dns.Msg) bool { return !q.CheckingDisabled && l(q, reply) }
}

// resigned answers for a zone with a key of the liar's own: it is the DNSKEY set,
// and signs that and what records forge. Only the parent's DS gives it away.
func resigned(zone string, records ...string) lie {
	l, _ := takenOver(zone, records)
	return l
}

// usurped does the same and replaces the DS, too, beside the parent's signature.
func usurped(zone string, records ...string) lie {
	l, key := takenOver(zone, records)
	ds := forge(key.ToDS(dns.SHA256).String())
	return func(q, reply *dns.Msg) bool { return l(q, reply) || ds(q, reply) }
}

func takenOver(zone string, records []string) (lie, *dns.DNSKEY) {
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		panic(err) // a programmer's error: the algorithm is known
	}
	forged := forge(append(records, key.String())...)
	return func(q, reply *dns.Msg) bool {
		if !forged(q, reply) {
			return false
		}
		reply.Answer = without(reply.Answer, dns.TypeRRSIG)
		reply.Answer = append(reply.Answer, signature(key, private.(crypto.Signer), reply.Answer))
		return true
	}, key
}

func signature(key *dns.DNSKEY, private crypto.Signer, set []dns.RR) *dns.RRSIG {
	now := time.Now()
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Ttl: 60},
		Algorithm: key.Algorithm, KeyTag: key.KeyTag(), SignerName: key.Hdr.Name,
		Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(time.Hour).Unix()),
	}
	if err := sig.Sign(private, set); err != nil {
		panic(err) // a programmer's error: what cannot be signed is no set
	}
	return sig
}

// counted notes how often a lie is told.
func counted(l lie, n *atomic.Int32) lie {
	return func(q, reply *dns.Msg) bool {
		lied := l(q, reply)
		if lied {
			n.Add(1)
		}
		return lied
	}
}

// without returns the records that have none of the types.
func without(records []dns.RR, types ...uint16) []dns.RR {
	return slices.DeleteFunc(slices.Clone(records), func(rr dns.RR) bool { return slices.Contains(types, rr.Header().Rrtype) })
}

// mustRR parses a record of this package's own tables.
func mustRR(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(fmt.Sprintf("%q: %v", text, err))
	}
	return rr
}

// honestly answers as a small signed zone does.
func honestly(_ string, q *dns.Msg) (*dns.Msg, error) {
	reply := new(dns.Msg).SetReply(q)
	reply.SetEdns0(1232, true)
	const sig = " 13 2 60 20300101000000 20260101000000 1 a.example. Zm9v"
	switch q.Question[0].Qtype {
	case dns.TypeMX:
		reply.Answer = []dns.RR{mustRR("a.example. 60 MX 10 mx.a.example."), mustRR("a.example. 60 RRSIG MX" + sig)}
	default:
		reply.Ns = []dns.RR{mustRR("a.example. 60 SOA ns.example. h.example. 1 1 1 1 1"), mustRR("a.example. 60 NSEC \\000.a.example. MX RRSIG NSEC")}
	}
	return reply, nil
}

func TestLies(t *testing.T) {
	for _, c := range []struct {
		name  string
		lie   lie
		qtype uint16
		want  string // rcode, then the types of answer and authority
		lied  bool
	}{
		{"nothing", func(q, reply *dns.Msg) bool { return false }, dns.TypeMX, "NOERROR MX RRSIG /", false},
		{"forge", forge("a.example. 60 MX 1 x.example."), dns.TypeMX, "NOERROR MX=x.example. RRSIG /", true},
		{"forge another type", forge("a.example. 60 A 192.0.2.1"), dns.TypeMX, "NOERROR MX RRSIG /", false},
		{"forge out of nothing", forge("a.example. 60 A 192.0.2.1"), dns.TypeA, "NOERROR A /", true},
		{"forge a CNAME", forge("a.example. 60 CNAME x.example."), dns.TypeA, "NOERROR CNAME /", true},
		{"nodata", nodata("A.example.", dns.TypeMX), dns.TypeMX, "NOERROR /", true},
		{"nodata keeps SOA", nodata("a.example.", dns.TypeTLSA), dns.TypeTLSA, "NOERROR / SOA", true},
		{"nodata elsewhere", nodata("b.example.", dns.TypeMX), dns.TypeMX, "NOERROR MX RRSIG /", false},
		{"nxdomain", nxdomain("a.example.", dns.TypeMX), dns.TypeMX, "NXDOMAIN /", true},
		{"servfail", servfail("a.example.", dns.TypeMX), dns.TypeMX, "SERVFAIL /", true},
		{"bare", bare("a.example.", dns.TypeMX), dns.TypeMX, "NOERROR MX /", true},
		{"unsigned", unsigned("a.example."), dns.TypeMX, "NOERROR MX /", true},
		{"unsigned elsewhere", unsigned("b.example."), dns.TypeMX, "NOERROR MX RRSIG /", false},
		{"stripped", stripped(), dns.TypeMX, "NOERROR MX /", true},
		{"stripped denial", stripped(), dns.TypeTLSA, "NOERROR / SOA", true},
		{"flagged", flagged(), dns.TypeMX, "NOERROR ad MX RRSIG /", true},
		{"to the MTA only", toMTA(nxdomain("a.example.", dns.TypeMX)), dns.TypeMX, "NOERROR MX RRSIG /", false},
		{"resigned", resigned("a.example.", "a.example. 60 MX 1 x.example."), dns.TypeMX, "NOERROR MX=x.example. RRSIG /", true},
		{"usurped", usurped("a.example."), dns.TypeDS, "NOERROR DS /", true},
		{"resigned keys", resigned("a.example."), dns.TypeDNSKEY, "NOERROR DNSKEY RRSIG /", true},
	} {
		l, told := &liar{ask: honestly}, new(atomic.Int32)
		l.become(counted(c.lie, told))
		q := new(dns.Msg).SetQuestion("a.example.", c.qtype)
		q.CheckingDisabled = true
		w := &recorder{}
		l.ServeDNS(w, q)
		if got := summary(w.reply); got != c.want || told.Load() == 1 != c.lied {
			t.Errorf("%s: %s, told %d times; want %s, lied=%v", c.name, got, told.Load(), c.want, c.lied)
		}
	}
}

// TestToMTA holds that the two askers are told apart by CD.
func TestToMTA(t *testing.T) {
	l := &liar{ask: honestly}
	l.become(toMTA(nxdomain("a.example.", dns.TypeMX)))
	w := &recorder{}
	l.ServeDNS(w, new(dns.Msg).SetQuestion("a.example.", dns.TypeMX))
	if w.reply.Rcode != dns.RcodeNameError {
		t.Errorf("Postfix is told %s", summary(w.reply))
	}
}

// TestResigned holds that the forged signature is right in itself.
func TestResigned(t *testing.T) {
	l := &liar{ask: honestly}
	l.become(resigned("a.example.", "a.example. 60 MX 1 x.example."))
	answer := func(qtype uint16) []dns.RR {
		w := &recorder{}
		l.ServeDNS(w, new(dns.Msg).SetQuestion("a.example.", qtype))
		return w.reply.Answer
	}
	keys, mx := answer(dns.TypeDNSKEY), answer(dns.TypeMX)
	for _, set := range [][]dns.RR{keys, mx} {
		if err := set[1].(*dns.RRSIG).Verify(keys[0].(*dns.DNSKEY), set[:1]); err != nil {
			t.Errorf("%s: %v", set[0], err)
		}
	}
}

// summary writes a reply in short.
func summary(m *dns.Msg) string {
	words := []string{dns.RcodeToString[m.Rcode]}
	if m.AuthenticatedData {
		words = append(words, "ad")
	}
	for _, rr := range m.Answer {
		word := dns.TypeToString[rr.Header().Rrtype]
		if mx, ok := rr.(*dns.MX); ok && mx.Mx != "mx.a.example." {
			word += "=" + mx.Mx
		}
		words = append(words, word)
	}
	words = append(words, "/")
	for _, rr := range m.Ns {
		words = append(words, dns.TypeToString[rr.Header().Rrtype])
	}
	return strings.Join(words, " ")
}

// recorder keeps the one reply that is written to it.
type recorder struct {
	dns.ResponseWriter
	reply *dns.Msg
}

func (w *recorder) LocalAddr() net.Addr { return &net.UDPAddr{} }

func (w *recorder) WriteMsg(m *dns.Msg) error {
	w.reply = m
	return nil
}
