package resolve

import (
	"crypto"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/resolve/dnssec"
)

// rootKey signs for the root, which is all the zone that these tests have.
type rootKey struct {
	key *dns.DNSKEY
	own crypto.Signer
}

func newRootKey(t testing.TB) rootKey {
	t.Helper()
	k := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	own, err := k.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	return rootKey{k, own.(crypto.Signer)}
}

// anchors trusts the key.
func (k rootKey) anchors(t testing.TB) *dnssec.Anchors {
	t.Helper()
	a, err := dnssec.ParseAnchors([]byte(k.key.String()))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sign adds the signature of each RRset, valid for a day around now.
func (k rootKey) sign(t testing.TB, rrs []dns.RR, now time.Time) []dns.RR {
	type id struct {
		name   string
		rrtype uint16
	}
	sets := make(map[id][]dns.RR)
	var order []id
	for _, rr := range rrs {
		i := id{dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype}
		if sets[i] == nil {
			order = append(order, i)
		}
		sets[i] = append(sets[i], rr)
	}
	all := slices.Clone(rrs)
	for _, i := range order {
		sig := &dns.RRSIG{
			Hdr:       dns.RR_Header{Ttl: sets[i][0].Header().Ttl},
			Inception: uint32(now.Add(-12 * time.Hour).Unix()), Expiration: uint32(now.Add(12 * time.Hour).Unix()),
			KeyTag: k.key.KeyTag(), SignerName: ".", Algorithm: k.key.Algorithm,
		}
		if err := sig.Sign(k.own, sets[i]); err != nil {
			t.Fatal(err)
		}
		all = append(all, sig)
	}
	return all
}

// signed serves a root zone that holds all the records, signed at a time, with its
// keys, and NSEC records that deny what there is not (RFC 9824 §2). Names below
// "unsigned." are in a zone of their own, which nobody signs.
func (k rootKey) signed(t testing.TB, at func() time.Time, more []*dns.DNSKEY, lines ...string) answerer {
	unsigned := func(name string) bool { return dns.IsSubDomain("unsigned.", name) }
	holds := zone(t, append(lines, ". 518400 IN NS a.root-servers.net.")...)
	return func(q *dns.Msg) *dns.Msg {
		want := q.Question[0]
		want.Name = dns.CanonicalName(want.Name)
		if want.Name == "." && want.Qtype == dns.TypeDNSKEY {
			keys := []dns.RR{k.key}
			for _, other := range more {
				keys = append(keys, other)
			}
			return answering(q, k.sign(t, keys, at())...)
		}
		m := holds(q)
		if unsigned(want.Name) && !(want.Name == "unsigned." && want.Qtype == dns.TypeDS) {
			return m
		}
		m.Rcode = dns.RcodeSuccess
		m.Answer = k.sign(t, m.Answer, at())
		if len(m.Answer) == 0 {
			deny := &dns.NSEC{
				Hdr:        dns.RR_Header{Name: want.Name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 300},
				NextDomain: `\000.` + want.Name, TypeBitMap: []uint16{dns.TypeRRSIG, dns.TypeNSEC},
			}
			switch want.Name {
			case ".":
				deny.NextDomain, deny.TypeBitMap = `\000.`, []uint16{dns.TypeNS, dns.TypeSOA, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeDNSKEY}
			case "unsigned.":
				deny.TypeBitMap = []uint16{dns.TypeNS, dns.TypeRRSIG, dns.TypeNSEC}
			}
			m.Ns = k.sign(t, append(m.Ns, deny), at())
		}
		return m
	}
}

// stripped passes on what a server says without what proves it.
func stripped(next answerer) answerer {
	return func(q *dns.Msg) *dns.Msg {
		m := next(q)
		proves := func(rr dns.RR) bool {
			switch rr.Header().Rrtype {
			case dns.TypeRRSIG, dns.TypeNSEC:
				return true
			}
			return false
		}
		m.Answer, m.Ns = slices.DeleteFunc(m.Answer, proves), slices.DeleteFunc(m.Ns, proves)
		return m
	}
}

// record notes the questions.
type record struct {
	mu   sync.Mutex
	asks []*dns.Msg
}

func (r *record) over(next answerer) answerer {
	return func(q *dns.Msg) *dns.Msg {
		r.mu.Lock()
		r.asks = append(r.asks, q.Copy())
		r.mu.Unlock()
		return next(q)
	}
}

func (r *record) all() []*dns.Msg {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asks)
}

func (r *record) of(name string, rrtype uint16) []*dns.Msg {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*dns.Msg
	for _, m := range r.asks {
		if m.Question[0].Name == name && m.Question[0].Qtype == rrtype {
			found = append(found, m)
		}
	}
	return found
}

// proving returns a resolver of mode Validate over some servers.
func proving(t testing.TB, k rootKey, servers ...answerer) *Resolver {
	t.Helper()
	cfg := Config{Mode: Validate, Anchors: k.anchors(t)}
	for _, a := range servers {
		cfg.Servers = append(cfg.Servers, run(t, a))
	}
	r := resolver(t, cfg)
	t.Cleanup(r.Close)
	return r
}

func list(servers ...netip.AddrPort) []netip.AddrPort { return servers }

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
