package dnssec

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// editSigs changes the signatures of a question's answer.
func editSigs(n string, rrtype uint16, edit func(*dns.RRSIG)) func(Query, *dns.Msg) *dns.Msg {
	return forQuery(n, rrtype, func(m *dns.Msg) {
		for i, rr := range m.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok {
				c := *sig
				edit(&c)
				m.Answer[i] = &c
			}
		}
	})
}

func TestForgedRecords(t *testing.T) {
	for _, zone := range []string{"example.com.", "example.net.", "example.org."} {
		w := standard(t)
		for what, change := range map[string]func(m *dns.Msg){
			"another address": func(m *dns.Msg) { m.Answer[0] = mustRR(t, "mx1."+zone+" 3600 IN A 198.51.100.66") },
			"one more":        func(m *dns.Msg) { m.Answer = append(m.Answer, mustRR(t, "mx1."+zone+" 3600 IN A 198.51.100.66")) },
			"only a new one": func(m *dns.Msg) {
				m.Answer = append([]dns.RR{mustRR(t, "mx1."+zone+" 3600 IN A 198.51.100.66")}, m.Answer[1:]...)
			},
		} {
			w.tamper = forQuery("mx1."+zone, dns.TypeA, change)
			t.Run(what+" "+zone, func(t *testing.T) { refused(t, w.lookup("mx1."+zone, dns.TypeA), BadSignature) })
		}
		// Signed data of another name.
		w.tamper = forQuery("mx1."+zone, dns.TypeA, func(m *dns.Msg) { m.Answer = renamed(w.reply("host.new."+zone, dns.TypeA).Answer, "mx1."+zone) })
		a := w.lookup("mx1."+zone, dns.TypeA)
		if a.Outcome != verdict.Failed {
			t.Errorf("renamed records: %v", a)
		}
		// A TTL may be lower than signed, and counts no more than signed.
		w.tamper = forQuery("mx1."+zone, dns.TypeA, func(m *dns.Msg) {
			for i := range m.Answer {
				m.Answer[i] = dns.Copy(m.Answer[i])
				m.Answer[i].Header().Ttl = 1 << 30
			}
		})
		a = w.lookup("mx1."+zone, dns.TypeA)
		want(t, a, verdict.Found, verdict.Secure)
		if a.TTL != time.Hour {
			t.Errorf("TTL %v, want the original one", a.TTL)
		}
		// Duplicates and letters in upper case change nothing.
		w.tamper = forQuery(zone, dns.TypeMX, func(m *dns.Msg) {
			m.Answer = append(m.Answer, m.Answer[0])
			for i := range m.Answer {
				m.Answer[i] = dns.Copy(m.Answer[i])
				m.Answer[i].Header().Name = strings.ToUpper(zone)
				if mx, ok := m.Answer[i].(*dns.MX); ok {
					mx.Mx = strings.ToUpper(mx.Mx)
				}
			}
		})
		a = w.lookup(zone, dns.TypeMX)
		want(t, a, verdict.Found, verdict.Secure)
		if len(a.Records) != 3 && len(a.Records) != 2 {
			t.Errorf("%d records", len(a.Records))
		}
	}
}

func TestSignatureFields(t *testing.T) {
	w := standard(t)
	n := "mx1.example.com."
	for _, c := range []struct {
		what string
		why  Why
		edit func(*dns.RRSIG)
	}{
		{"labels fewer", NoDenial, func(s *dns.RRSIG) { s.Labels-- }},
		{"labels of none", NoSignature, func(s *dns.RRSIG) { s.Labels = 0 }},
		{"labels more", NoSignature, func(s *dns.RRSIG) { s.Labels++ }},
		{"signer the parent", NoKey, func(s *dns.RRSIG) { s.SignerName = "com." }},
		{"signer the root", NoKey, func(s *dns.RRSIG) { s.SignerName = "." }},
		{"signer the owner", NoSignature, func(s *dns.RRSIG) { s.SignerName = n }},
		{"signer a suffix of letters", NoSignature, func(s *dns.RRSIG) { s.SignerName = "ample.com." }},
		{"signer elsewhere", NoSignature, func(s *dns.RRSIG) { s.SignerName = "example.net." }},
		{"another tag", NoKey, func(s *dns.RRSIG) { s.KeyTag++ }},
		{"another algorithm", NoKey, func(s *dns.RRSIG) { s.Algorithm = dns.RSASHA256 }},
		{"original TTL", BadSignature, func(s *dns.RRSIG) { s.OrigTtl++ }},
		{"a later end", BadSignature, func(s *dns.RRSIG) { s.Expiration++ }},
		{"past", Expired, func(s *dns.RRSIG) {
			s.Expiration, s.Inception = uint32(w.now.Unix())-100000, uint32(w.now.Unix())-200000
		}},
		{"future", NotYet, func(s *dns.RRSIG) { s.Inception = uint32(w.now.Unix()) + 100000 }},
		{"ends before it begins", BadSignature, func(s *dns.RRSIG) { s.Inception, s.Expiration = s.Expiration, s.Inception }},
		{"empty", BadSignature, func(s *dns.RRSIG) { s.Signature = "" }},
		{"short", BadSignature, func(s *dns.RRSIG) { s.Signature = s.Signature[:len(s.Signature)-4] }},
		{"another type", NoSignature, func(s *dns.RRSIG) { s.TypeCovered = dns.TypeAAAA }},
	} {
		w.tamper = editSigs(n, dns.TypeA, c.edit)
		t.Run(c.what, func(t *testing.T) {
			a := w.lookup(n, dns.TypeA)
			if a.Outcome != verdict.Failed {
				t.Fatalf("believed: %v %v", a.Outcome, a.Proof)
			}
			if a.Err.Why != c.why && c.what != "labels fewer" {
				t.Errorf("%v, want %v", a.Err, c.why)
			}
		})
	}
}

// TestTimeSkew: a tenth of a signature's life is tolerated, at least an hour and at
// most a day.
func TestTimeSkew(t *testing.T) {
	for _, c := range []struct{ life, skew time.Duration }{
		{time.Hour, time.Hour},
		{20 * time.Hour, 2 * time.Hour},
		{30 * 24 * time.Hour, 24 * time.Hour},
	} {
		at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		sig := signature{inception: uint32(at.Unix()), expiration: uint32(at.Add(c.life).Unix())}
		for _, x := range []struct {
			now  time.Time
			want Why
		}{
			{at, Unclassified},
			{at.Add(-c.skew), Unclassified},
			{at.Add(-c.skew - time.Second), NotYet},
			{at.Add(c.life + c.skew), Unclassified},
			{at.Add(c.life + c.skew + time.Second), Expired},
		} {
			if got := sig.inTime(x.now); got != x.want {
				t.Errorf("life %v at %v: %v, want %v", c.life, x.now.Sub(at), got, x.want)
			}
		}
	}
	// Times are numbers of 32 bits that wrap around in 2106.
	wrap := time.Unix(1<<32+1000, 0)
	sig := signature{inception: 1<<32 - 3600, expiration: 5000}
	if got := sig.inTime(wrap); got != Unclassified {
		t.Errorf("across 2106: %v", got)
	}
}

func TestForgedDenials(t *testing.T) {
	for _, zone := range []string{"example.com.", "example.net.", "example.org."} {
		w := standard(t)
		z := w.zones[zone]
		// An honest denial of another name or type, replayed for a name that exists.
		for _, other := range []string{"nowhere." + zone, "zzz." + zone, "aaa." + zone, "*." + zone, "x.mx1." + zone, "alias." + zone, zone, "non.terminal." + zone} {
			for _, rcode := range []int{dns.RcodeSuccess, dns.RcodeNameError} {
				w.tamper = forQuery("mx1."+zone, dns.TypeA, func(m *dns.Msg) {
					m.Answer, m.Rcode = nil, rcode
					z.deny(m, other, other)
					m.Rcode = rcode
				})
				t.Run(fmt.Sprintf("mx1.%s by %s rcode %d", zone, other, rcode), func(t *testing.T) {
					refused(t, w.lookup("mx1."+zone, dns.TypeA), NoDenial)
				})
			}
		}
		// An alias is not denied by what lists it.
		w.tamper = forQuery("alias."+zone, dns.TypeA, func(m *dns.Msg) {
			m.Answer = nil
			z.deny(m, "alias."+zone, "alias."+zone)
		})
		refused(t, w.lookup("alias."+zone, dns.TypeA), NoDenial)
		// Each part of a denial is needed.
		whole := w.reply("nowhere."+zone, dns.TypeA).Ns
		for i, rr := range whole {
			if rr.Header().Rrtype == dns.TypeRRSIG || rr.Header().Rrtype == dns.TypeSOA {
				continue
			}
			w.tamper = forQuery("nowhere."+zone, dns.TypeA, func(m *dns.Msg) {
				m.Ns = append(slices.Clone(whole[:i]), whole[i+1:]...)
			})
			refused(t, w.lookup("nowhere."+zone, dns.TypeA), NoDenial)
			// And its bits.
			w.tamper = forQuery("nowhere."+zone, dns.TypeA, func(m *dns.Msg) {
				m.Ns = slices.Clone(whole)
				switch n := dns.Copy(rr).(type) {
				case *dns.NSEC:
					n.TypeBitMap = []uint16{dns.TypeNSEC}
					m.Ns[i] = n
				case *dns.NSEC3:
					n.Flags ^= 1
					m.Ns[i] = n
				}
			})
			refused(t, w.lookup("nowhere."+zone, dns.TypeA), BadSignature)
		}
	}
}

// TestOptOutIsNotSecure: an opt-out span never proves what it covers, and never makes a
// signed name insecure.
func TestOptOutIsNotSecure(t *testing.T) {
	w := standard(t)
	com := w.zones["com."]
	want(t, w.lookup("plain.com.", dns.TypeMX), verdict.Found, verdict.Insecure)
	// The span that covers plain.com., replayed for example.com., which has its own record.
	w.tamper = forQuery("example.com.", dns.TypeDS, func(m *dns.Msg) {
		m.Answer = nil
		com.deny(m, "plain.com.", "plain.com.")
	})
	refused(t, w.lookup("example.com.", dns.TypeMX), NoDenial)
	// The record that matches example.com. lists DS.
	w.tamper = forQuery("example.com.", dns.TypeDS, func(m *dns.Msg) {
		m.Answer = nil
		com.deny(m, "example.com.", "example.com.")
	})
	refused(t, w.lookup("example.com.", dns.TypeMX), NoDenial)
	// Without the encloser's record, nothing is shown.
	w.tamper = forQuery("plain.com.", dns.TypeDS, func(m *dns.Msg) {
		m.Ns = slices.DeleteFunc(m.Ns, func(rr dns.RR) bool {
			return strings.HasPrefix(rr.Header().Name, com.hash("com."))
		})
	})
	if a := w.lookup("plain.com.", dns.TypeMX); a.Outcome != verdict.Failed && com.hash("com.") != "" {
		// The same record may cover the name, too; then nothing was taken away.
		if len(w.reply("plain.com.", dns.TypeDS).Ns) > 4 {
			t.Errorf("believed: %v", a)
		}
	}
}

func TestAliasLoops(t *testing.T) {
	w := standard(t)
	refused(t, w.lookup("loop1.example.com.", dns.TypeA), Loop)
	refused(t, w.lookup("loop1.plain.org.", dns.TypeA), Loop)
	z := w.zones["example.com."]
	for i := range 12 {
		z.add(fmt.Sprintf("c%d CNAME c%d", i, i+1))
	}
	z.add("c12 A 192.0.2.77")
	refused(t, w.lookup("c0.example.com.", dns.TypeA), Loop)
	want(t, w.lookup("c4.example.com.", dns.TypeA), verdict.Found, verdict.Secure)
	refused(t, w.lookup("c3.example.com.", dns.TypeA), Loop)
	// A server that gives one link at a time.
	w.tamper = func(_ Query, m *dns.Msg) *dns.Msg {
		if len(m.Answer) > 2 && m.Answer[0].Header().Rrtype == dns.TypeCNAME {
			m.Answer, m.Ns = m.Answer[:2], nil
		}
		return m
	}
	want(t, w.lookup("c4.example.com.", dns.TypeA), verdict.Found, verdict.Secure)
	refused(t, w.lookup("c0.example.com.", dns.TypeA), Loop)
	// A DNAME into itself.
	z.add("d DNAME d.d")
	refused(t, w.lookup("x.d.example.com.", dns.TypeA), Loop)
}

// TestAlgorithms signs a zone with every supported kind of key.
func TestAlgorithms(t *testing.T) {
	big1 := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 32), big.NewInt(1))
	for _, c := range []struct {
		what  string
		make  func(w *world) *fakeKey
		proof verdict.Proof
	}{
		{"P-256", func(w *world) *fakeKey { return w.key("example.com.", dns.ECDSAP256SHA256, 257) }, verdict.Secure},
		{"P-384", func(w *world) *fakeKey { return w.key("example.com.", dns.ECDSAP384SHA384, 257) }, verdict.Secure},
		{"Ed25519", func(w *world) *fakeKey { return w.key("example.com.", dns.ED25519, 257) }, verdict.Secure},
		{"RSASHA256", func(w *world) *fakeKey { return w.key("example.com.", dns.RSASHA256, 257) }, verdict.Secure},
		{"RSASHA512", func(w *world) *fakeKey { return w.key("example.com.", dns.RSASHA512, 257) }, verdict.Secure},
		{"RSA with 2^32+1", func(w *world) *fakeKey { return w.bigRSA("example.com.", 1024, big1) }, verdict.Secure},
		{"RSA of 2048 with 2^32+1", func(w *world) *fakeKey { return w.bigRSA("example.com.", 2048, big1) }, verdict.Secure},
		{"RSA of 1024 with 3", func(w *world) *fakeKey { return w.bigRSA("example.com.", 1024, big.NewInt(3)) }, verdict.Secure},
		{"RSA of 4096", func(w *world) *fakeKey { return w.rsa4096("example.com.") }, verdict.Secure},
		{"RSA of 512", func(w *world) *fakeKey { return w.bigRSA("example.com.", 512, big.NewInt(65537)) }, verdict.Bogus},
		{"RSA with 65 bits of exponent", func(w *world) *fakeKey {
			return w.bigRSA("example.com.", 1024, new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 64), big.NewInt(13)))
		}, verdict.Bogus},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := standard(t)
			w.zones["example.com."].keys = []*fakeKey{c.make(w)}
			a := w.lookup("example.com.", dns.TypeMX)
			if a.Proof != c.proof {
				t.Errorf("%v %v (%v)", a.Outcome, a.Proof, a.Err)
			}
			if c.proof != verdict.Secure {
				return
			}
			w.tamper = editSigs("example.com.", dns.TypeMX, func(s *dns.RRSIG) {
				s.Signature = strings.Repeat("A", 8) + s.Signature[8:]
			})
			refused(t, w.lookup("example.com.", dns.TypeMX), BadSignature)
		})
	}
}

// TestPublicExponent holds the big-integer way against the library's.
func TestPublicExponent(t *testing.T) {
	w := newWorld(t)
	k := w.bigRSA("example.", 1024, big.NewInt(65537))
	for k.signer.(bigRSA).n.Bit(1022) == 1 { // leave room above the modulus
		k = w.bigRSA("example.", 1024, big.NewInt(65537))
	}
	sum := make([]byte, 32)
	sig, err := k.signer.Sign(nil, sum, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	key := rsaKey{n: k.signer.(bigRSA).n, e: k.signer.(bigRSA).e, hash: crypto.SHA256}
	if err = key.exponentiate(sum, sig); err != nil {
		t.Error(err)
	}
	for i := range sig {
		bad := slices.Clone(sig)
		bad[i] ^= 1
		if key.exponentiate(sum, bad) == nil {
			t.Errorf("octet %d does not matter", i)
		}
	}
	if key.exponentiate(sum, append([]byte{0}, sig...)) == nil {
		t.Error("a longer signature is accepted")
	}
	// The same number once more around the modulus, where it still has its size.
	for i := 0; ; i++ {
		sum[0], sum[1] = byte(i), byte(i>>8)
		if sig, err = k.signer.Sign(nil, sum, crypto.SHA256); err != nil || i == 1<<16-1 {
			t.Fatal(err)
		}
		if over := new(big.Int).Add(new(big.Int).SetBytes(sig), key.n); over.BitLen() <= 1024 {
			if key.exponentiate(sum, over.FillBytes(make([]byte, 128))) == nil {
				t.Error("a signature above the modulus is accepted")
			}
			break
		}
	}
}

// TestRollovers goes through the phases of RFC 6781 §4.1.
func TestRollovers(t *testing.T) {
	const zone = "example.com."
	type keys = []*fakeKey
	role := func(k *fakeKey, f func(*fakeKey)) *fakeKey { f(k); return k }
	idle := func(k *fakeKey) { k.silent = true }
	noDS := func(k *fakeKey) { k.noDS = true }
	for what, phase := range map[string]func(w *world) keys{
		"double signature": func(w *world) keys {
			return keys{w.key(zone, dns.ECDSAP256SHA256, 257), role(w.key(zone, dns.ECDSAP256SHA256, 257), noDS)}
		},
		"pre-published key": func(w *world) keys {
			return keys{w.key(zone, dns.ECDSAP256SHA256, 257), role(role(w.key(zone, dns.ECDSAP256SHA256, 256), noDS), idle)}
		},
		"DS before the key": func(w *world) keys {
			z := w.zones[zone]
			z.ahead = w.key(zone, dns.ECDSAP256SHA256, 257).rr.ToDS(dns.SHA256)
			return keys{w.key(zone, dns.ECDSAP256SHA256, 257)}
		},
		"old key withdrawn, DS still there": func(w *world) keys {
			z := w.zones[zone]
			z.ahead = z.keys[0].rr.ToDS(dns.SHA256)
			return keys{w.key(zone, dns.ECDSAP256SHA256, 257)}
		},
		"two DS, both sign": func(w *world) keys {
			return keys{w.key(zone, dns.ECDSAP256SHA256, 257), w.key(zone, dns.ECDSAP256SHA256, 257)}
		},
		"algorithm, signatures first": func(w *world) keys {
			return keys{w.key(zone, dns.RSASHA256, 257), role(w.key(zone, dns.ED25519, 257), noDS)}
		},
		"algorithm, both DS": func(w *world) keys {
			return keys{w.key(zone, dns.RSASHA256, 257), w.key(zone, dns.ED25519, 257)}
		},
		"algorithm, old DS gone": func(w *world) keys {
			return keys{role(w.key(zone, dns.RSASHA256, 257), noDS), w.key(zone, dns.ED25519, 257)}
		},
		"old key revoked": func(w *world) keys {
			return keys{role(w.key(zone, dns.ECDSAP256SHA256, 257|dns.REVOKE), noDS), w.key(zone, dns.ECDSAP256SHA256, 257)}
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := standard(t)
			w.zones[zone].keys = phase(w)
			want(t, w.lookup(zone, dns.TypeMX), verdict.Found, verdict.Secure)
			want(t, w.lookup("nowhere."+zone, dns.TypeMX), verdict.NXDomain, verdict.Secure)
		})
	}
	// Keys that change before their TTL is over are learnt anew.
	w := standard(t)
	v := w.validator()
	want(t, w.ask(v, zone, dns.TypeMX), verdict.Found, verdict.Secure)
	w.zones[zone].keys = keys{w.key(zone, dns.ECDSAP256SHA256, 257)}
	w.now = w.now.Add(time.Minute)
	want(t, w.ask(v, zone, dns.TypeMX), verdict.Found, verdict.Secure)
}

// TestOversizeSets: sets that no one has for good are refused, and cost little.
func TestOversizeSets(t *testing.T) {
	w := standard(t)
	z := w.zones["example.com."]
	for range maxKeys {
		k := w.key("example.com.", dns.ED25519, 256)
		k.noDS, k.silent = true, true
		z.keys = append(z.keys, k)
	}
	refused(t, w.lookup("example.com.", dns.TypeMX), BadSignature)

	// A DS set of hundreds, of which the last one is right.
	w = standard(t)
	com := w.zones["com."]
	good := w.zones["example.com."].ds()[0].(*dns.DS)
	var rrs []dns.RR
	for i := range 300 {
		ds := *good
		ds.Digest = fmt.Sprintf("%064x", i)
		rrs = append(rrs, &ds)
	}
	w.tamper = forQuery("example.com.", dns.TypeDS, func(m *dns.Msg) { m.Answer = com.signed(append(rrs, good)) })
	refused(t, w.lookup("example.com.", dns.TypeMX), NoKey)
}

// TestBudgetIsShared: what one destination costs is bounded, and running out is no
// verdict and is not remembered.
func TestBudgetIsShared(t *testing.T) {
	w := standard(t)
	z := w.zones["example.com."]
	v := w.validator()
	s := v.Session(w)
	defer s.Close()
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		for i, rr := range m.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok && strings.HasPrefix(q.Name, "n") && q.Type == dns.TypeA {
				c := *sig
				c.OrigTtl++
				m.Answer[i] = &c
			}
		}
		return m
	}
	for i := range 40 {
		z.add(fmt.Sprintf("n%d A 192.0.2.1", i))
	}
	var last Answer
	for i := range 40 {
		last = s.Lookup(t.Context(), fmt.Sprintf("n%d.example.com.", i), dns.TypeA)
		if last.Outcome != verdict.Failed {
			t.Fatalf("believed: %v", last)
		}
	}
	if got := s.Spent(); got.Failures > MaxFailures || got.Queries > MaxQueries {
		t.Errorf("spent %+v", got)
	}
	if last.Err.Why != OverBudget || last.Proof != verdict.Indeterminate {
		t.Errorf("%v %v", last.Proof, last.Err)
	}
	// The next destination is not affected.
	s.Close()
	w.tamper = nil
	want(t, w.ask(v, "n1.example.com.", dns.TypeA), verdict.Found, verdict.Secure)

	// Queries are bounded, too.
	s = v.Session(w)
	defer s.Close()
	for i := range MaxQueries + 10 {
		last = s.Lookup(t.Context(), fmt.Sprintf("q%d.example.com.", i), dns.TypeA)
	}
	if got := s.Spent(); got.Queries != MaxQueries || last.Err == nil || last.Err.Why != OverBudget || !errors.Is(last.Err, errBudget) {
		t.Errorf("spent %+v, last %v", got, last.Err)
	}
}

// TestOneLiarDoesNotUseUpTheFailures: the server that is asked first damages every reply,
// and another does not.
func TestOneLiarDoesNotUseUpTheFailures(t *testing.T) {
	for _, zone := range []string{"example.com.", "example.net."} {
		w := standard(t)
		z := w.zones[zone]
		for i := range 2 * MaxFailures {
			z.add(fmt.Sprintf("h%d A 192.0.2.1", i))
		}
		w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
			if q.Again > 0 {
				return m
			}
			for _, section := range [][]dns.RR{m.Answer, m.Ns} {
				for i, rr := range section {
					if sig, ok := rr.(*dns.RRSIG); ok {
						c := *sig
						c.OrigTtl++
						section[i] = &c
					}
				}
			}
			return m
		}
		s := w.validator().Session(w)
		defer s.Close()
		for i := range 2 * MaxFailures {
			want(t, s.Lookup(t.Context(), fmt.Sprintf("h%d.%s", i, zone), dns.TypeA), verdict.Found, verdict.Secure)
		}
		want(t, s.Lookup(t.Context(), "nowhere."+zone, dns.TypeA), verdict.NXDomain, verdict.Secure)
		if got := s.Spent(); got.Failures != 0 || got.Checks < 4*MaxFailures {
			t.Errorf("spent %+v", got)
		}
	}
}

// TestManyHosts: a destination with many hosts, as good zones have, fits the budget.
func TestManyHosts(t *testing.T) {
	for _, zone := range []string{"example.com.", "example.net.", "example.org."} {
		w := standard(t)
		z := w.zones[zone]
		for i := range 25 {
			z.add(fmt.Sprintf("host%d A 192.0.2.1", i))
			if i%2 == 0 {
				z.add(fmt.Sprintf("_25._tcp.host%d TLSA 3 1 1 00", i))
			}
		}
		s := w.validator().Session(w)
		defer s.Close()
		for i := range 25 {
			host := fmt.Sprintf("host%d.%s", i, zone)
			for _, q := range []struct {
				n string
				t uint16
			}{{host, dns.TypeA}, {host, dns.TypeAAAA}, {"_25._tcp." + host, dns.TypeTLSA}} {
				if a := s.Lookup(context.Background(), q.n, q.t); a.Proof != verdict.Secure {
					t.Fatalf("%s %s: %v %v (%v); spent %+v", q.n, typeName(q.t), a.Outcome, a.Proof, a.Err, s.Spent())
				}
			}
		}
		t.Logf("%s: %+v", zone, s.Spent())
	}
}

// TestThirtyAliasedHosts: the largest destination that is worth the name, with every
// host an alias into another zone, and nothing known.
func TestThirtyAliasedHosts(t *testing.T) {
	for _, other := range []string{"example.net.", "optout.org.", "plain.net."} {
		w := standard(t)
		s := w.validator().Session(w)
		defer s.Close()
		ask := func(n string, rrtype uint16) {
			if a := s.Lookup(t.Context(), n, rrtype); a.Outcome == verdict.Failed {
				t.Fatalf("%s %s: %v; spent %+v", n, typeName(rrtype), a.Err, s.Spent())
			}
		}
		for i := range 30 {
			w.zones["example.com."].add(fmt.Sprintf("h%d CNAME r%d.%s", i, i, other))
			w.zones[other].add(fmt.Sprintf("r%d A 192.0.2.1", i))
		}
		ask("example.com.", dns.TypeMX)
		for i := range 30 {
			for _, q := range []Query{{Name: "h%d.example.com.", Type: dns.TypeA}, {Name: "h%d.example.com.", Type: dns.TypeAAAA}, {Name: "_25._tcp.r%d." + other, Type: dns.TypeTLSA}, {Name: "_25._tcp.h%d.example.com.", Type: dns.TypeTLSA}} {
				ask(fmt.Sprintf(q.Name, i), q.Type)
			}
		}
		t.Logf("%s: %+v of %v", other, s.Spent(), MaxWork)
	}
}

// TestReplayedWildcardHidesNoCut: an alias that was expanded from a wildcard is honest of
// names that do not exist. Replayed where a zone begins, it must not be taken for the
// proof that none does, which would be remembered for its TTL.
func TestReplayedWildcardHidesNoCut(t *testing.T) {
	for _, parent := range []string{"example.com.", "example.net.", "optout.org."} {
		w := standard(t)
		z := w.zones[parent]
		cut := "cut.cwild." + parent
		w.zone(cut, byNSEC, "@ A 192.0.2.40")
		replay := renamed(z.signed(z.get("*.cwild."+parent, dns.TypeCNAME)), cut)
		for what, deny := range map[string]string{"without a denial": "", "with another one": "nowhere." + parent, "with that of a neighbour": "cuz.cwild." + parent, "with its own": cut} {
			w.tamper = forQuery(cut, dns.TypeDS, func(m *dns.Msg) {
				m.Answer, m.Ns = replay, nil
				if deny != "" {
					z.denyNames(m, deny)
				}
			})
			v := w.validator()
			// The child's answer lacks its signature, so that the walk must find the cut.
			full := w.tamper
			w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
				if q.Type == dns.TypeA {
					stripped(m)
				}
				return full(q, m)
			}
			t.Run(what+" "+parent, func(t *testing.T) {
				refused(t, w.ask(v, cut, dns.TypeA), NoDenial)
			})
			w.tamper = nil
			w.now = w.now.Add(bogusLife + time.Second)
			want(t, w.ask(v, cut, dns.TypeA), verdict.Found, verdict.Secure)
		}
		// Of a name that does not exist it is honest.
		one := "one.cwild." + parent
		w.tamper = forQuery(one, dns.TypeTXT, func(m *dns.Msg) { m.Answer = nil })
		if a := w.lookup(one, dns.TypeTXT); a.Outcome == verdict.Found {
			t.Errorf("%v", a)
		}
	}
}

// TestAliasesWhereDSIsAsked: what a DNAME and an expanded alias show of zone cuts.
func TestAliasesWhereDSIsAsked(t *testing.T) {
	// Below a DNAME nothing is asked for.
	w := standard(t)
	w.tamper = forQuery("a.host.old.example.com.", dns.TypeA, func(m *dns.Msg) {
		m.Answer, m.Ns = []dns.RR{mustRR(t, "a.host.old.example.com. 60 IN A 198.51.100.66")}, nil
	})
	refused(t, w.lookup("a.host.old.example.com.", dns.TypeA), NoSignature)
	s := w.validator().Session(w)
	defer s.Close()
	if z, err := s.zoneOf(t.Context(), mustName("a.b.c.d.e.f.g.h.old.example.com.")); err != nil || z.apex != mustName("example.com.") {
		t.Errorf("%v %v", z, err)
	}
	if got := w.count("a.b.c.d.e.f.g.h.old.example.com.", dns.TypeDS); got != 0 {
		t.Errorf("a name below a DNAME was asked for %d times", got)
	}
	// A DNAME that was expanded from a wildcard shows nothing.
	z := w.zones["example.com."]
	z.add("*.dwild DNAME new")
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if q.Name == "x.y.dwild.example.com." {
			m.Answer, m.Rcode = renamed(z.signed(z.get("*.dwild.example.com.", dns.TypeDNAME)), "y.dwild.example.com."), dns.RcodeSuccess
			z.denyNames(m, "y.dwild.example.com.")
			if q.Type == dns.TypeA {
				m.Answer = []dns.RR{mustRR(t, "x.y.dwild.example.com. 60 IN A 198.51.100.66")}
			}
		}
		return m
	}
	refused(t, w.lookup("x.y.dwild.example.com.", dns.TypeA), BadSignature)
	// In an opt-out span, a name that a wildcard stands for may be an unsigned delegation.
	w = standard(t)
	w.tamper = forQuery("one.cwild.optout.org.", dns.TypeA, func(m *dns.Msg) {
		m.Answer, m.Ns = []dns.RR{mustRR(t, "one.cwild.optout.org. 60 IN A 192.0.2.66")}, nil
	})
	want(t, w.lookup("one.cwild.optout.org.", dns.TypeA), verdict.Found, verdict.Insecure)
}
