package dnssec

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// tampering is a lookup, the question on its way whose reply is tampered with, and what
// is true.
type tampering struct {
	n       string
	rrtype  uint16
	reply   Query
	outcome verdict.Outcome
	records string
}

// tamperings are answers and denials of every form, and the chain to them.
func tamperings(w *world) []tampering {
	var all []tampering
	add := func(n string, rrtype uint16, q Query) {
		a := w.lookup(n, rrtype)
		if a.Proof != verdict.Secure {
			w.t.Fatalf("%s %s: %v (%v)", n, typeName(rrtype), a.Proof, a.Err)
		}
		all = append(all, tampering{n, rrtype, q, a.Outcome, recordsOf(a)})
	}
	for _, zone := range []string{"example.com.", "example.net."} {
		for _, q := range []Query{
			{Name: zone, Type: dns.TypeMX},
			{Name: "mx1." + zone, Type: dns.TypeA},
			{Name: "mx1." + zone, Type: dns.TypeTXT},
			{Name: "nowhere." + zone, Type: dns.TypeA},
			{Name: "_tcp.mx1." + zone, Type: dns.TypeTLSA},
			{Name: "_25._tcp.mx1." + zone, Type: dns.TypeTLSA},
			{Name: "_443._tcp.mx1." + zone, Type: dns.TypeTLSA},
			{Name: "one.wild." + zone, Type: dns.TypeA},
			{Name: "one.wild." + zone, Type: dns.TypeMX},
			{Name: "x.tree.wild." + zone, Type: dns.TypeA},
			{Name: "alias." + zone, Type: dns.TypeA},
			{Name: "across." + zone, Type: dns.TypeA},
			{Name: "one.cwild." + zone, Type: dns.TypeA},
			{Name: "host.old." + zone, Type: dns.TypeA},
			{Name: "other.old." + zone, Type: dns.TypeA},
			{Name: zone, Type: dns.TypeDS},
		} {
			add(q.Name, q.Type, q)
		}
		for _, at := range []string{".", zone, zone[strings.IndexByte(zone, '.')+1:]} {
			add("mx1."+zone, dns.TypeA, Query{Name: at, Type: dns.TypeDNSKEY})
			if at != "." {
				add("mx1."+zone, dns.TypeA, Query{Name: at, Type: dns.TypeDS})
			}
		}
	}
	add("mx.sub.example.com.", dns.TypeA, Query{Name: "sub.example.com.", Type: dns.TypeDS})
	return all
}

// recordsOf writes the records without TTLs, in order; letters in names do not differ.
func recordsOf(a Answer) string {
	var list []string
	for _, rr := range a.Records {
		rr = lowerNames(dns.Copy(rr))
		rr.Header().Name, rr.Header().Ttl, rr.Header().Rdlength = strings.ToLower(rr.Header().Name), 0, 0
		list = append(list, rr.String())
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// edit changes a reply as each group of four octets says: bits in its wire form, or
// which records it has, where, and of what other reply.
func edit(m *dns.Msg, other []dns.RR, edits []byte) *dns.Msg {
	m = m.Copy()
	for len(edits) >= 4 {
		kind, at, value := edits[0], int(edits[1])<<8|int(edits[2]), edits[3]
		edits = edits[4:]
		section := &m.Answer
		if at&1 == 1 {
			section = &m.Ns
		}
		pick := func(rrs []dns.RR) int { return at >> 1 % len(rrs) }
		switch kind % 8 {
		case 0, 1, 2:
			packed, err := m.Pack()
			if err != nil || len(packed) <= 12 {
				return m
			}
			packed[12+at%(len(packed)-12)] ^= value
			changed := new(dns.Msg)
			if changed.Unpack(packed) == nil {
				m = changed
			}
		case 3:
			if len(*section) > 0 {
				i := pick(*section)
				*section = slices.Delete(*section, i, i+1)
			}
		case 4:
			*section = append(*section, dns.Copy(other[pick(other)]))
		case 5:
			m.Answer, m.Ns = m.Ns, m.Answer
		case 6:
			m.Rcode = int(value) % 2 * dns.RcodeNameError
		case 7:
			if len(*section) > 0 {
				i := pick(*section)
				rr := dns.Copy((*section)[i])
				rr.Header().Name = other[int(value)%len(other)].Header().Name
				(*section)[i] = rr
			}
		}
	}
	return m
}

// FuzzTamper changes the honest reply to one question of a lookup. What comes out is the
// truth, or nothing: never other records, another outcome, or less than secure.
func FuzzTamper(f *testing.F) {
	w := standard(f)
	all := tamperings(w)
	replies := make([]*dns.Msg, len(all))
	var pool []dns.RR
	for i, c := range all {
		m := w.reply(c.reply.Name, c.reply.Type)
		m.Response = true
		replies[i] = m
		pool = append(append(pool, m.Answer...), m.Ns...)
	}
	for _, n := range []string{"plain.example.com.", "sub.example.com.", "plain.com.", "example.net."} {
		pool = append(pool, w.reply(n, dns.TypeDS).Ns...)
	}
	for i := range all {
		f.Add(uint16(i), []byte{})
		f.Add(uint16(i), []byte{0, 0, byte(3 * i), 1})
		f.Add(uint16(i), []byte{3, 0, byte(i), 0, 4, 0, byte(5 * i), 0})
		f.Add(uint16(i), []byte{6, 0, 0, 1, 5, 0, 0, 0})
	}
	v := w.validator()
	f.Fuzz(func(t *testing.T, which uint16, edits []byte) {
		w.t = t
		at := int(which) % len(all)
		c := all[at]
		v := v
		if c.reply.Type == dns.TypeDS || c.reply.Type == dns.TypeDNSKEY {
			v = w.validator() // the way there is walked anew
		}
		s := v.Session(&replacing{w: w, q: c.reply, m: edit(replies[at], pool, edits[:min(len(edits), 64)])})
		defer s.Close()
		a := s.Lookup(context.Background(), c.n, c.rrtype)
		if a.Outcome == verdict.Failed {
			return
		}
		if a.Proof != verdict.Secure || a.Outcome != c.outcome || recordsOf(a) != c.records {
			t.Errorf("%s %s by %s: believed %v %v\n%s\nwant %v\n%s\n%v", c.n, typeName(c.rrtype), c.reply.subject(), a.Outcome, a.Proof, recordsOf(a), c.outcome, c.records, a.Chain())
		}
	})
}
