package dnssec

import (
	"encoding/base64"
	"fmt"
	"strings"
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
	return attack{w: w, asks: asks}
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
	return attack{w: w, asks: asks}
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
	return attack{w: w, asks: asks}
}

// mixed spends a part of each kind: answers and big sets signed with the dearest kind of
// key, and then denials of deep names in the same zone, for as many questions as there are.
func mixed(b testing.TB, iterations uint16, salt string, answers, crowds int) attack {
	a := deepNames(b, iterations, salt).p384("example.net.")
	z := a.w.zones["example.net."]
	var asks []Query
	for i := range answers {
		z.add(fmt.Sprintf("h%d A 192.0.2.1", i))
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.example.net.", i), Type: dns.TypeA})
	}
	for i := range crowds {
		for j := range 120 {
			z.add(fmt.Sprintf("t%d TXT \"%d %s\"", i, j, strings.Repeat("\\255", 245)))
		}
		asks = append(asks, Query{Name: fmt.Sprintf("t%d.example.net.", i), Type: dns.TypeTXT})
	}
	a.asks = append(asks, a.asks...)
	return a
}

// replays: chains of aliases from wildcards in one message, of which each link looks at the
// same denials, as many as are looked at; and before them a mix of what is dear.
func replays(b testing.TB, zone string, answers int) attack {
	w := standard(b)
	a := attack{w: w}
	a.p384(zone)
	z := w.zones[zone]
	deep := strings.Repeat("a.", 90)
	for i := range answers {
		z.add(fmt.Sprintf("h%d A 192.0.2.1", i))
		a.asks = append(a.asks, Query{Name: fmt.Sprintf("h%d.%s", i, zone), Type: dns.TypeA})
	}
	for i := range maxDenials {
		z.add(fmt.Sprintf("f%d A 192.0.2.1", i))
	}
	for i := range MaxLinks - 1 {
		z.add(fmt.Sprintf("*.%sw%d CNAME n.%sw%d", deep, i, deep, i+1))
	}
	z.add(fmt.Sprintf("*.%sw%d A 192.0.2.1", deep, MaxLinks-1))
	for i := range MaxQueries {
		a.asks = append(a.asks, Query{Name: fmt.Sprintf("n%d.%sw0.%s", i, deep, zone), Type: dns.TypeA})
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if strings.HasPrefix(q.Name, "n") && q.Type == dns.TypeA {
			for i := 0; len(m.Ns) < 2*maxDenials && i < maxDenials; i++ {
				z.denyNames(m, fmt.Sprintf("f%d.%s", i, zone))
			}
		}
		return m
	}
	return a
}

// deepHosts: names of as many labels as there can be, which exist, in zones that other
// destinations have made known.
func deepHosts(b testing.TB) attack {
	w := standard(b)
	z := w.zones["example.com."]
	a := attack{w: w}
	deep := strings.Repeat("a.", 110)
	for i := range MaxQueries {
		z.add(fmt.Sprintf("h%d.%s A 192.0.2.1", i, strings.TrimSuffix(deep, ".")))
		a.asks = append(a.asks, Query{Name: fmt.Sprintf("h%d.%sexample.com.", i, deep), Type: dns.TypeA})
	}
	// The signature names a zone further down, so that the walk goes all the way.
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if q.Type == dns.TypeA && len(m.Answer) == 2 {
			sig := *m.Answer[1].(*dns.RRSIG)
			sig.SignerName = q.Name
			m.Answer = append([]dns.RR{&sig}, m.Answer...)
		}
		return m
	}
	a.known = w.validator()
	for at := z.apex; len(at) <= len(deep)+len(z.apex); at = "a." + at {
		s := a.known.Session(w)
		if _, err := s.zoneOf(b.Context(), mustName(at)); err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
	return a
}

// longOwners: as many records as fit under a name of the largest size, whose letters are
// written as numbers.
func longOwners(b testing.TB, zone string) attack {
	w := standard(b)
	z := w.zones[zone]
	a := attack{w: w}
	label := strings.Repeat("\\200", 60) + "."
	for i := range 4 {
		n := fmt.Sprintf("\\20%d.%s%s%s", i, label, label, label)
		for j := range 1400 {
			z.add(fmt.Sprintf("%s MX %d %s%s%sexample", strings.TrimSuffix(n, "."), j, label, label, label))
		}
		a.asks = append(a.asks, Query{Name: n + zone, Type: dns.TypeMX})
	}
	return a
}

// TestWhatFits: so many hosts of a destination, each with its addresses and TLSA, nothing
// of it known, in zones of each kind that good ones are.
func TestWhatFits(t *testing.T) {
	for _, c := range []struct {
		what      string
		zone      string
		algorithm uint8
		adjust    func(z *fakeZone)
		least     int
	}{
		{what: "P-256", zone: "example.com.", algorithm: dns.ECDSAP256SHA256, least: 30},
		{what: "Ed25519", zone: "example.com.", algorithm: dns.ED25519, least: 30},
		{what: "NSEC3 with 50 iterations", zone: "example.net.", algorithm: dns.ECDSAP256SHA256, adjust: func(z *fakeZone) { z.iterations, z.salt = 50, "aabbccdd" }, least: 20},
		{what: "NSEC3 with none", zone: "example.net.", algorithm: dns.ECDSAP256SHA256, least: 30},
		{what: "P-384", zone: "example.com.", algorithm: dns.ECDSAP384SHA384, least: 14},
		{what: "P-384 and NSEC3", zone: "example.net.", algorithm: dns.ECDSAP384SHA384, least: 14},
	} {
		w := standard(t)
		z := w.zones[c.zone]
		z.keys = []*fakeKey{w.key(c.zone, c.algorithm, 257)}
		if c.adjust != nil {
			c.adjust(z)
		}
		for i := range 40 {
			z.add(fmt.Sprintf("h%d A 192.0.2.1", i))
			if i%2 == 0 {
				z.add(fmt.Sprintf("_25._tcp.h%d TLSA 3 1 1 00", i))
			}
		}
		s := w.validator().Session(w)
		defer s.Close()
		fits := 0
		fit := func(n string, rrtype uint16) bool {
			a := s.Lookup(t.Context(), n, rrtype)
			if a.Err != nil && a.Err.Why != OverBudget {
				t.Fatal(a.Err)
			}
			return a.Err == nil
		}
		fit(c.zone, dns.TypeMX)
		for ; fits < 40; fits++ {
			host := fmt.Sprintf("h%d.%s", fits, c.zone)
			if !fit(host, dns.TypeA) || !fit(host, dns.TypeAAAA) || !fit("_25._tcp."+host, dns.TypeTLSA) {
				break
			}
			if fits+1 == c.least {
				t.Logf("%s: %d hosts take %+v", c.what, fits+1, s.Spent())
			}
		}
		t.Logf("%s: %d hosts fit; spent %+v", c.what, fits, s.Spent())
		if fits < c.least {
			t.Errorf("%s: %d hosts fit, want %d", c.what, fits, c.least)
		}
	}
}
