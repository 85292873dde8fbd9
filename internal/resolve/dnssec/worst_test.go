package dnssec

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/miekg/dns"
)

// bigKeySet: as many keys as are looked at, all of one tag and of the largest size, with
// as many DS, and a signature by the one that comes last; where that is too many, one
// more.
func bigKeySet(b testing.TB, count int) attack {
	w := standard(b)
	z := w.zones["example.com."]
	good := w.rsa4096("example.com.")
	z.keys = []*fakeKey{good}
	raw, err := base64.StdEncoding.DecodeString(good.rr.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	var twins, all []dns.RR
	for i := range count - 1 {
		k, c := *good.rr, append([]byte(nil), raw...)
		j := len(c)/2&^1 - 2*i
		c[j], c[j+1], c[j+2], c[j+3] = c[j+2], c[j+3], c[j], c[j+1]
		k.PublicKey = base64.StdEncoding.EncodeToString(c)
		twins = append(twins, &k)
		all = append(all, k.ToDS(dns.SHA384))
	}
	keys := z.signed(append(twins, good.rr))
	ds := w.zones["com."].signed(append(all, good.rr.ToDS(dns.SHA384)))
	var asks []Query
	for i := range MaxQueries {
		z.add(fmt.Sprintf("h%d A 192.0.2.1", i))
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.example.com.", i), Type: dns.TypeA})
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		switch q {
		case Query{Name: "example.com.", Type: dns.TypeDNSKEY}, Query{Name: "example.com.", Type: dns.TypeDNSKEY, Again: 1}:
			m.Answer = keys
		case Query{Name: "example.com.", Type: dns.TypeDS}, Query{Name: "example.com.", Type: dns.TypeDS, Again: 1}:
			m.Answer = ds
		}
		return m
	}
	return attack{w, asks}
}

// longAliases: as many links as are followed, each from one zone to another whose keys are
// not known, with signatures of the dearest kind.
func longAliases(b testing.TB) attack {
	w := standard(b)
	var asks []Query
	for i := range 12 {
		for link := range MaxLinks + 1 {
			z := w.zone(fmt.Sprintf("z%d-%d.org.", i, link), byNSEC, fmt.Sprintf("h CNAME h.z%d-%d.org.", i, link+1))
			z.keys = []*fakeKey{w.key(z.apex, dns.ECDSAP384SHA384, 257)}
		}
		asks = append(asks, Query{Name: fmt.Sprintf("h.z%d-0.org.", i), Type: dns.TypeA})
	}
	return attack{w, asks}
}

// manySeals: before each good signature as many that do not hold as are tried.
func manySeals(b testing.TB) attack {
	w := standard(b)
	z := w.zones["example.com."]
	z.keys = []*fakeKey{w.key("example.com.", dns.ECDSAP384SHA384, 257)}
	var asks []Query
	for i := range MaxQueries {
		z.add(fmt.Sprintf("h%d A 192.0.2.1", i))
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.example.com.", i), Type: dns.TypeA})
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if sig, ok := m.Answer[len(m.Answer)-1].(*dns.RRSIG); ok && q.Type == dns.TypeA {
			for i := range maxTried - 1 {
				c := *sig
				c.OrigTtl += uint32(i) + 1
				m.Answer = append([]dns.RR{&c}, m.Answer...)
			}
		}
		return m
	}
	return attack{w, asks}
}
