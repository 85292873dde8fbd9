package dnssec

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// canned is an upstream whose replies are made before the clock runs.
type canned struct {
	w       *world
	replies map[Query]*dns.Msg
}

func (c *canned) Exchange(ctx context.Context, q Query) (*dns.Msg, error) {
	if m := c.replies[q]; m != nil {
		return m, nil
	}
	m, err := c.w.Exchange(ctx, q)
	if err == nil {
		c.replies[q] = m
	}
	return m, err
}

// oneByOne keeps the replies of a session that asks from several goroutines apart.
type oneByOne struct {
	up   Upstream
	gate chan struct{}
}

func (o *oneByOne) Exchange(ctx context.Context, q Query) (*dns.Msg, error) {
	o.gate <- struct{}{}
	defer func() { <-o.gate }()
	return o.up.Exchange(ctx, q)
}

func cannedOf(w *world) Upstream {
	return &oneByOne{up: &canned{w: w, replies: make(map[Query]*dns.Msg)}, gate: make(chan struct{}, 1)}
}

// destination asks what a DANE domain with two hosts takes.
func destination(b *testing.B, s *Session, zone string) {
	defer s.Close()
	for _, q := range []struct {
		n string
		t uint16
	}{
		{zone, dns.TypeMX},
		{"mx1." + zone, dns.TypeA},
		{"mx1." + zone, dns.TypeAAAA},
		{"_25._tcp.mx1." + zone, dns.TypeTLSA},
		{"mx3." + zone, dns.TypeA},
		{"mx3." + zone, dns.TypeAAAA},
		{"_25._tcp.mx3." + zone, dns.TypeTLSA},
	} {
		if a := s.Lookup(context.Background(), q.n, q.t); a.Proof != verdict.Secure {
			b.Fatalf("%s %s: %v %v", q.n, typeName(q.t), a.Proof, a.Err)
		}
	}
}

func danesworld(b *testing.B) *world {
	w := standard(b)
	for _, zone := range []string{"example.com.", "example.net."} {
		z := w.zones[zone]
		z.add("mx3 A 192.0.2.3")
		z.add("_25._tcp.mx3 TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	}
	return w
}

// BenchmarkDestination is the processor time of a DANE domain with two hosts, whose zones
// are known (warm) or not (cold), ECDSA P-256.
func BenchmarkDestination(b *testing.B) {
	for _, zone := range []string{"example.com.", "example.net."} {
		w := danesworld(b)
		up := cannedOf(w)
		v := w.validator()
		destination(b, v.Session(up), zone)
		b.Run("warm/"+zone, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				destination(b, v.Session(up), zone)
			}
		})
		b.Run("cold/"+zone, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				destination(b, w.validator().Session(up), zone)
			}
		})
	}
}

// attack is one destination that is meant to cost much: all that is asked of it.
type attack struct {
	w    *world
	asks []Query
	// known is a validator that others have taught; nil: one that knows nothing.
	known *Validator
}

// keytrap: many keys of one tag, and many signatures that name it (CVE-2023-50387).
func keytrap(b testing.TB, make func(w *world) *fakeKey) attack {
	w := standard(b)
	z := w.zones["example.com."]
	good := make(w)
	z.keys = []*fakeKey{good}
	// Keys that share a tag: words of the key are swapped, which the checksum does not see.
	var twins []dns.RR
	raw, err := base64.StdEncoding.DecodeString(good.rr.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 40 {
		k := *good.rr
		c := append([]byte(nil), raw...)
		j := len(c)/2&^1 - 2*i // inside the modulus
		c[j], c[j+1], c[j+2], c[j+3] = c[j+2], c[j+3], c[j], c[j+1]
		k.PublicKey = base64.StdEncoding.EncodeToString(c)
		twins = append(twins, &k)
	}
	var asks []Query
	for i := range MaxQueries {
		z.add(fmt.Sprintf("h%d A 192.0.2.1", i))
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.example.com.", i), Type: dns.TypeA})
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		switch {
		case q.Name == "example.com." && q.Type == dns.TypeDNSKEY:
			keys := append([]dns.RR{}, z.get("example.com.", dns.TypeDNSKEY)...)
			m.Answer = z.signed(append(keys, twins...))
		case strings.HasPrefix(q.Name, "h") && q.Type == dns.TypeA:
			for _, rr := range m.Answer {
				if sig, ok := rr.(*dns.RRSIG); ok {
					for i := range 100 {
						c := *sig
						c.OrigTtl += uint32(i) + 1
						m.Answer = append([]dns.RR{&c}, m.Answer...)
					}
					break
				}
			}
		}
		return m
	}
	return attack{w: w, asks: asks}
}

// manySignatures: all of them good, of the dearest kinds.
func manySignatures(b testing.TB, make func(w *world) *fakeKey) attack {
	w := standard(b)
	z := w.zones["example.com."]
	z.keys = []*fakeKey{make(w)}
	var asks []Query
	for i := range MaxQueries {
		z.add(fmt.Sprintf("h%d A 192.0.2.1", i))
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.example.com.", i), Type: dns.TypeA})
	}
	return attack{w: w, asks: asks}
}

// deepNames: names of many labels in a zone with many iterations and a long salt
// (CVE-2023-50868).
func deepNames(b testing.TB, iterations uint16, salt string) attack {
	w := standard(b)
	z := w.zones["example.net."]
	z.iterations, z.salt = iterations, salt
	var asks []Query
	for i := range MaxQueries {
		asks = append(asks, Query{Name: fmt.Sprintf("n%d.%sexample.net.", i, strings.Repeat("a.", 100)), Type: dns.TypeA})
	}
	return attack{w: w, asks: asks}
}

// bigSets: signatures over records that fill a message.
func bigSets(b testing.TB, make func(w *world) *fakeKey, forge bool) attack {
	w := standard(b)
	z := w.zones["example.com."]
	z.keys = []*fakeKey{make(w)}
	var asks []Query
	for i := range MaxQueries {
		for j := range 230 {
			z.add(fmt.Sprintf("h%d TXT \"%d %s\"", i, j, strings.Repeat("x", 245)))
		}
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.example.com.", i), Type: dns.TypeTXT})
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if q.Type == dns.TypeTXT && forge {
			for _, rr := range m.Answer {
				if sig, ok := rr.(*dns.RRSIG); ok {
					for i := range 10 {
						c := *sig
						c.OrigTtl += uint32(i) + 1
						m.Answer = append([]dns.RR{&c}, m.Answer...)
					}
					break
				}
			}
		}
		return m
	}
	return attack{w: w, asks: asks}
}

// manyDS: hundreds of DS of one tag, and as many keys of it.
func manyDS(b testing.TB) attack {
	a := keytrap(b, func(w *world) *fakeKey { return w.rsa4096("example.com.") })
	com, keys := a.w.zones["com."], a.w.tamper
	good := a.w.zones["example.com."].keys[0].rr.ToDS(dns.SHA256)
	var rrs []dns.RR
	for i := range 800 {
		ds := *good
		ds.Digest = fmt.Sprintf("%064x", i)
		rrs = append(rrs, &ds)
	}
	signed := com.signed(append(rrs, good))
	a.w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if q.Name == "example.com." && q.Type == dns.TypeDS {
			m.Answer = signed
		}
		return keys(q, m)
	}
	return a
}

// crowds: replies of an unsigned zone that are full of addresses.
func crowds(b testing.TB) attack {
	w := standard(b)
	var rrs []dns.RR
	for i := range 3800 {
		rrs = append(rrs, mustRR(b, fmt.Sprintf("x. 60 IN A 10.0.%d.%d", i>>8, i&255)))
	}
	var asks []Query
	for i := range MaxQueries {
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.plain.org.", i), Type: dns.TypeA})
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if q.Type == dns.TypeA {
			m.Rcode, m.Ns, m.Answer = dns.RcodeSuccess, nil, renamed(rrs, q.Name)
		}
		return m
	}
	return attack{w: w, asks: asks}
}

// oneCrowd: aliases that lead to the same large signed set, each time.
func oneCrowd(b testing.TB) attack {
	w := standard(b)
	z := w.zones["example.com."]
	for i := range 3500 {
		z.add(fmt.Sprintf("crowd A 10.0.%d.%d", i>>8, i&255))
	}
	var asks []Query
	for i := range MaxQueries {
		z.add(fmt.Sprintf("h%d CNAME crowd", i))
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.example.com.", i), Type: dns.TypeA})
	}
	return attack{w: w, asks: asks}
}

// manyChains: denials that are full of NSEC3 with a salt each, all of them signed.
func manyChains(b testing.TB) attack {
	w := standard(b)
	z := w.zones["example.net."]
	owner := z.nsec3For("example.net.").Header().Name
	var rrs []dns.RR
	for i := range 700 {
		rrs = append(rrs, mustRR(b, fmt.Sprintf("%s 900 IN NSEC3 1 0 1 %04x %s A", owner, i, strings.Repeat("0", 32))))
	}
	signed := z.signed(rrs)
	var asks []Query
	for i := range MaxQueries {
		asks = append(asks, Query{Name: fmt.Sprintf("n%d.%sexample.net.", i, strings.Repeat("a.", 100)), Type: dns.TypeA})
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if q.Type == dns.TypeA {
			m.Ns = signed
		}
		return m
	}
	return attack{w: w, asks: asks}
}

// junk: replies that are full of signatures of which none can hold.
func junk(b testing.TB) attack {
	w := standard(b)
	var asks []Query
	for i := range MaxQueries {
		asks = append(asks, Query{Name: fmt.Sprintf("h%d.example.com.", i), Type: dns.TypeA})
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if q.Type == dns.TypeA {
			m.Rcode, m.Ns, m.Answer = dns.RcodeSuccess, nil, []dns.RR{mustRR(b, q.Name+" 60 IN A 192.0.2.1")}
			for i := range 1400 {
				m.Answer = append(m.Answer, &dns.RRSIG{
					Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeRRSIG, Class: 1, Ttl: 60}, TypeCovered: dns.TypeA, Algorithm: 13, Labels: 3,
					SignerName: "example.com.", KeyTag: uint16(i), Expiration: 1, Signature: "AAAA",
				})
			}
		}
		return m
	}
	return attack{w: w, asks: asks}
}

// processorTime is what this process has used: other processes do not count.
func processorTime(b testing.TB) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// ready makes the replies and returns what a destination does that asks all of it.
func (a attack) ready() func() Spent {
	up := cannedOf(a.w)
	run := func() Spent {
		v := a.known
		if v == nil {
			v = a.w.validator()
		}
		s := v.Session(up)
		defer s.Close()
		for _, q := range a.asks {
			s.Lookup(context.Background(), q.Name, q.Type)
		}
		return s.Spent()
	}
	run()
	run()
	return run
}

// p384 signs a zone with the dearest kind of key.
func (a attack) p384(zone string) attack {
	a.w.zones[zone].keys = []*fakeKey{a.w.key(zone, dns.ECDSAP384SHA384, 257)}
	return a
}

// TestWorstIsBounded: no destination costs more than 50 ms of processor time.
func TestWorstIsBounded(t *testing.T) {
	for what, a := range map[string]attack{
		"deep names":   deepNames(t, 0, "").p384("example.net."),
		"big sets":     bigSets(t, func(w *world) *fakeKey { return w.key("example.com.", dns.ECDSAP384SHA384, 257) }, false),
		"crowds":       crowds(t),
		"one crowd":    oneCrowd(t),
		"many chains":  manyChains(t),
		"junk":         junk(t),
		"good, and so": manySignatures(t, func(w *world) *fakeKey { return w.key("example.com.", dns.ECDSAP384SHA384, 257) }),
		"mixed":        mixed(t, 50, strings.Repeat("ab", 255), 35, 5),
		"mixed 0":      mixed(t, 0, "", 35, 0),
		"replays":      replays(t, "example.net.", 30),
		"deep hosts":   deepHosts(t),
		"long owners":  longOwners(t, "example.com."),
	} {
		if strings.Contains("crowds one crowd junk", what) {
			a.asks = a.asks[:20] // the first ones use up all that there is
		}
		run := a.ready()
		best, limit := time.Hour, 50*time.Millisecond*raceFactor
		for range 10 { // other processes disturb the first ones
			if best < limit {
				break
			}
			before := processorTime(t)
			spent := run()
			best = min(best, processorTime(t)-before)
			if spent.Records > MaxRecords || spent.Queries > MaxQueries {
				t.Errorf("%s: spent %+v", what, spent)
			}
		}
		t.Logf("%s: %v", what, best)
		if best > limit {
			t.Errorf("%s takes %v", what, best)
		}
	}
}

// BenchmarkWorst is the processor time that one destination can cause. The replies are
// made before; to read and to group the records counts.
func BenchmarkWorst(b *testing.B) {
	exponent := new(big.Int).SetUint64(1<<64 - 59)
	for what, make := range map[string]func() attack{
		"keytrap-rsa4096": func() attack {
			return keytrap(b, func(w *world) *fakeKey { return w.rsa4096("example.com.") })
		},
		"keytrap-rsa2048-exponent64": func() attack {
			return keytrap(b, func(w *world) *fakeKey { return w.bigRSA("example.com.", 2048, exponent) })
		},
		"good-p384": func() attack {
			return manySignatures(b, func(w *world) *fakeKey { return w.key("example.com.", dns.ECDSAP384SHA384, 257) })
		},
		"good-rsa4096": func() attack {
			return manySignatures(b, func(w *world) *fakeKey { return w.rsa4096("example.com.") })
		},
		"good-rsa2048-exponent64": func() attack {
			return manySignatures(b, func(w *world) *fakeKey { return w.bigRSA("example.com.", 2048, exponent) })
		},
		"nsec3-p384": func() attack {
			return deepNames(b, 0, "").p384("example.net.")
		},
		"nsec3-50":      func() attack { return deepNames(b, 50, "") },
		"nsec3-0":       func() attack { return deepNames(b, 0, "") },
		"nsec3-50-salt": func() attack { return deepNames(b, 50, strings.Repeat("ab", 255)) },
		"big-sets-forged": func() attack {
			return bigSets(b, func(w *world) *fakeKey { return w.key("example.com.", dns.ECDSAP256SHA256, 257) }, true)
		},
		"big-sets-p384": func() attack {
			return bigSets(b, func(w *world) *fakeKey { return w.key("example.com.", dns.ECDSAP384SHA384, 257) }, false)
		},
		"many-ds":           func() attack { return manyDS(b) },
		"crowds":            func() attack { return crowds(b) },
		"one-crowd":         func() attack { return oneCrowd(b) },
		"many-chains":       func() attack { return manyChains(b) },
		"junk":              func() attack { return junk(b) },
		"keys-64":           func() attack { return bigKeySet(b, maxKeys) },
		"keys-65":           func() attack { return bigKeySet(b, maxKeys+1) },
		"aliases":           func() attack { return longAliases(b) },
		"mixed":             func() attack { return mixed(b, 50, strings.Repeat("ab", 255), 35, 0) },
		"mixed-sets":        func() attack { return mixed(b, 50, strings.Repeat("ab", 255), 35, 5) },
		"mixed-50":          func() attack { return mixed(b, 50, "", 35, 5) },
		"mixed-0":           func() attack { return mixed(b, 0, "", 35, 0) },
		"mixed-replays":     func() attack { return replays(b, "example.net.", 30) },
		"replays-nsec":      func() attack { return replays(b, "example.com.", 0) },
		"deep-hosts":        func() attack { return deepHosts(b) },
		"long-owners":       func() attack { return longOwners(b, "example.com.") },
		"long-owners-plain": func() attack { return longOwners(b, "plain.com.") },
		"seals":             func() attack { return manySeals(b) },
	} {
		b.Run(what, func(b *testing.B) {
			run := make().ready()
			b.ReportAllocs()
			var spent Spent
			before, runs := processorTime(b), 0
			for b.Loop() {
				spent = run()
				runs++
			}
			b.ReportMetric((processorTime(b)-before).Seconds()*1e3/float64(runs), "cpu-ms/op")
			b.ReportMetric(float64(spent.Checks), "checks")
			b.ReportMetric(float64(spent.Failures), "failures")
			b.ReportMetric(float64(spent.Hashes), "hashes")
			b.ReportMetric(float64(spent.Queries), "queries")
		})
	}
}
