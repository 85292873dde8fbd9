package dnssec

import (
	"context"
	"crypto"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// TestPublishedExamples are the keys, digests and signatures that the standards print:
// RFC 6605 §6.1 and §6.2, RFC 8080 §6.1.
func TestPublishedExamples(t *testing.T) {
	for _, c := range []struct{ key, ds, record, sig string }{
		{
			"example.net. 3600 IN DNSKEY 257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edb krSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
			"example.net. 3600 IN DS 55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1 e2770ce6d6e37df61d17",
			"www.example.net. 3600 IN A 192.0.2.1",
			"www.example.net. 3600 IN RRSIG A 13 3 3600 20100909100439 20100812100439 55648 example.net. qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXA yGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==",
		},
		{
			"example.net. 3600 IN DNSKEY 257 3 14 xKYaNhWdGOfJ+nPrL8/arkwf2EY3MDJ+SErKivBVSum1 w/egsXvSADtNJhyem5RCOpgQ6K8X1DRSEkrbYQ+OB+v8 /uX45NBwY8rp65F6Glur8I/mlVNgF6W/qTI37m40",
			"example.net. 3600 IN DS 10771 14 4 72d7b62976ce06438e9c0bf319013cf801f09ecc84b8 d7e9495f27e305c6a9b0563a9b5f4d288405c3008a94 6df983d6",
			"www.example.net. 3600 IN A 192.0.2.1",
			"www.example.net. 3600 IN RRSIG A 14 3 3600 20100909102025 20100812102025 10771 example.net. /L5hDKIvGDyI1fcARX3z65qrmPsVz73QD1Mr5CEqOiLP 95hxQouuroGCeZOvzFaxsT8Glr74hbavRKayJNuydCuz WTSSPdz7wnqXL5bdcJzusdnI0RSMROxxwGipWcJm",
		},
		{
			"example.com. 3600 IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
			"example.com. 3600 IN DS 3613 15 2 3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79 a304b",
			"example.com. 3600 IN MX 10 mail.example.com.",
			"example.com. 3600 IN RRSIG MX 15 2 3600 1440021600 1438207200 3613 example.com. oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3f x8A4M3e23mRZ9VrbpMngwcrqNAg==",
		},
	} {
		key := mustRR(t, c.key)
		zone := mustName(key.Header().Name)
		ks, err := algorithms().readKeys(&rrset{owner: zone, rtype: dns.TypeDNSKEY, rrs: []dns.RR{key}}, new(Budget))
		if err != nil {
			t.Fatal(err)
		}
		rd, bad := rdataOf(mustRR(t, c.ds))
		if ds := readDS(rd); bad != nil || !ds.matches(zone, ks.list[0]) {
			t.Errorf("%s does not match its key", c.ds)
		}
		set := sets([]dns.RR{mustRR(t, c.record), mustRR(t, c.sig)})[0]
		at := time.Unix(int64(set.sigs[0].inception), 0).Add(time.Hour)
		if _, err := set.verify(ks, at, new(Budget)); err != nil {
			t.Errorf("%s: %v", c.sig, err)
		}
		set.sigs[0].octets[9] ^= 1
		if _, err := set.verify(ks, at, new(Budget)); err == nil {
			t.Errorf("%s holds with a bit changed", c.sig)
		}
	}
}

// TestLeastTTLOfASet: records of one set with different TTLs are an error of a server,
// and the least one counts (RFC 2181 §5).
func TestLeastTTLOfASet(t *testing.T) {
	if seconds(1<<31) != 0 || seconds(1<<31-1) != forever {
		t.Error("a TTL with the top bit is not zero (RFC 2181 §8)")
	}
	for _, n := range []string{"example.com.", "plain.org."} {
		w := standard(t)
		w.tamper = forQuery(n, dns.TypeMX, func(m *dns.Msg) {
			m.Answer[1] = dns.Copy(m.Answer[1])
			m.Answer[1].Header().Ttl = 60
		})
		a := w.lookup(n, dns.TypeMX)
		if a.Outcome != verdict.Found || a.TTL != time.Minute {
			t.Errorf("%v, TTL %v", a.Outcome, a.TTL)
		}
	}
}

// TestTTLOfAliases: the least on the way counts.
func TestTTLOfAliases(t *testing.T) {
	for _, zone := range []string{"example.com.", "plain.org."} {
		w := standard(t)
		z := w.zones[zone]
		z.add("short 60 CNAME mx1")
		z.add("long CNAME brief")
		z.add("brief 120 A 192.0.2.5")
		for n, want := range map[string]time.Duration{"short.": time.Minute, "long.": 2 * time.Minute} {
			if a := w.lookup(n+zone, dns.TypeA); a.Outcome != verdict.Found || a.TTL != want {
				t.Errorf("%s%s: %v, TTL %v, want %v", n, zone, a.Outcome, a.TTL, want)
			}
		}
	}
}

// TestUnsignedRepliesMustBeClear: where nobody signs, a reply may at least not contradict
// itself, and a pointer to other servers is no denial.
func TestUnsignedRepliesMustBeClear(t *testing.T) {
	w := standard(t)
	ns := mustRR(t, "plain.org. 60 IN NS ns.plain.org.")
	for what, c := range map[string]struct {
		why    Why
		change func(m *dns.Msg)
	}{
		"records with NXDOMAIN": {Malformed, func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }},
		"a referral":            {NoReply, func(m *dns.Msg) { m.Answer, m.Ns = nil, []dns.RR{ns} }},
		"nothing at all":        {NoReply, func(m *dns.Msg) { m.Answer, m.Ns, m.RecursionAvailable = nil, nil, false }},
	} {
		w.tamper = forQuery("www.plain.org.", dns.TypeA, c.change)
		t.Run(what, func(t *testing.T) { refused(t, w.lookup("www.plain.org.", dns.TypeA), c.why) })
	}
	// A resolver that leaves the SOA out says that there is nothing, and not for how long.
	w.tamper = forQuery("www.plain.org.", dns.TypeA, func(m *dns.Msg) { m.Answer, m.Ns = nil, nil })
	a := w.lookup("www.plain.org.", dns.TypeA)
	want(t, a, verdict.NoData, verdict.Insecure)
	if a.TTL != 0 {
		t.Errorf("TTL %v", a.TTL)
	}
}

// TestTTLOfDenials: the least of the denial's own and the SOA's two (RFC 9077 §3).
func TestTTLOfDenials(t *testing.T) {
	edit := func(m *dns.Msg, nsec, soa, minimum uint32) {
		for i := range m.Ns {
			m.Ns[i] = dns.Copy(m.Ns[i])
			switch rr := m.Ns[i].(type) {
			case *dns.NSEC, *dns.NSEC3:
				rr.Header().Ttl = nsec
			case *dns.SOA:
				rr.Hdr.Ttl, rr.Minttl = soa, minimum
			}
		}
	}
	for _, zone := range []string{"example.com.", "example.net.", "plain.org."} {
		for _, c := range []struct{ nsec, soa, minimum uint32 }{{60, 900, 900}, {900, 60, 900}, {900, 900, 60}} {
			if zone == "plain.org." {
				c.nsec = 900
			}
			w := standard(t)
			n := "nowhere." + zone
			w.tamper = forQuery(n, dns.TypeMX, func(m *dns.Msg) { edit(m, c.nsec, c.soa, c.minimum) })
			want := time.Duration(min(c.nsec, c.soa, c.minimum)) * time.Second
			if a := w.lookup(n, dns.TypeMX); a.Outcome != verdict.NXDomain || a.TTL != want {
				t.Errorf("%s %+v: %v, TTL %v", n, c, a.Outcome, a.TTL)
			}
		}
	}
}

// TestDNAMEThatMakesTooLongAName has no answer (RFC 6672 §2.2).
func TestDNAMEThatMakesTooLongAName(t *testing.T) {
	w := standard(t)
	z := w.zones["example.com."]
	z.add("long DNAME " + strings.Repeat("abcdefghi.", 20) + "example.com.")
	n := strings.Repeat("abcdefghi.", 5) + "long.example.com."
	long := z.signed(z.get("long.example.com.", dns.TypeDNAME))
	s := w.validator().Session(upstreamFunc(func(ctx context.Context, q Query) (*dns.Msg, error) {
		if q.Name != n || q.Type != dns.TypeA {
			return w.Exchange(ctx, q)
		}
		m := bare(q)
		m.Answer = long
		return m, nil
	}))
	defer s.Close()
	refused(t, s.Lookup(t.Context(), n, dns.TypeA), Malformed)
}

// TestWhoMaySign what: RFC 4035 §5.3.1, and §2.4 for DS.
func TestWhoMaySign(t *testing.T) {
	const zone = "example.com."
	for _, c := range []struct {
		owner  string
		rtype  uint16
		signer string
		labels uint8
		want   bool
	}{
		{"mx.example.com.", dns.TypeA, zone, 3, true},
		{"mx.example.com.", dns.TypeA, zone, 2, true}, // of a wildcard
		{"mx.example.com.", dns.TypeA, zone, 1, false},
		{"mx.example.com.", dns.TypeA, zone, 4, false},
		{"mx.example.com.", dns.TypeA, "com.", 3, false},
		{"mx.example.org.", dns.TypeA, zone, 3, false},
		{"mxexample.com.", dns.TypeA, zone, 2, false},
		{"*.example.com.", dns.TypeA, zone, 2, true},
		{"*.example.com.", dns.TypeA, zone, 3, false},
		{"sub.example.com.", dns.TypeDS, zone, 3, true},
		{zone, dns.TypeDS, zone, 2, false},
		{zone, dns.TypeDNSKEY, zone, 2, true},
		{"sub.example.com.", dns.TypeDNSKEY, zone, 3, false},
		{zone, dns.TypeSOA, zone, 2, true},
		{"sub.example.com.", dns.TypeSOA, zone, 3, false},
	} {
		set := &rrset{owner: mustName(c.owner), rtype: c.rtype}
		if got := set.mayBeSignedBy(&signature{signer: mustName(c.signer), labels: c.labels}, mustName(zone)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestSizesOfRSAKeys: what is too small can be forged, what is too large costs too much.
func TestSizesOfRSAKeys(t *testing.T) {
	read := rsaKeys(crypto.SHA256, minModulus)
	for bits, want := range map[int]error{1023: errKeySize, 1024: nil, 3072: nil, 4096: nil, 4097: errKeySize, 4160: errKeySize, 1 << 16: errKey} {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		n.SetBit(n, 0, 1)
		if _, err := read(append([]byte{3, 1, 0, 1}, n.Bytes()...)); !errors.Is(err, want) {
			t.Errorf("%d bits: %v, want %v", bits, err, want)
		}
		n.SetBit(n, 0, 0)
		if _, err := read(append([]byte{3, 1, 0, 1}, n.Bytes()...)); err == nil {
			t.Errorf("an even modulus of %d bits is a key", bits)
		}
	}
	for _, key := range [][]byte{nil, {0}, {0, 0}, {0, 0, 0}, {1}, {1, 3}, {3, 1, 0, 1}, {255, 1}} {
		if _, err := read(key); !errors.Is(err, errKey) {
			t.Errorf("%v: %v", key, err)
		}
	}
}

// TestOtherClasses: records of another class are none of ours.
func TestOtherClasses(t *testing.T) {
	w := standard(t)
	w.tamper = forQuery("mx1.example.com.", dns.TypeA, func(m *dns.Msg) {
		for i, rr := range m.Answer {
			m.Answer[i] = dns.Copy(rr)
			m.Answer[i].Header().Class = dns.ClassCHAOS
		}
	})
	refused(t, w.lookup("mx1.example.com.", dns.TypeA), NoDenial)
}

// TestUnknownTypes have a name and a form of their own (RFC 3597 §5).
func TestUnknownTypes(t *testing.T) {
	w := standard(t)
	w.zones["example.com."].add(`new TYPE65400 \# 3 010203`)
	a := w.lookup("new.example.com.", 65400)
	want(t, a, verdict.Found, verdict.Secure)
	if got := subject(mustName("new.example.com."), 65400); got != "new.example.com. TYPE65400" {
		t.Error(got)
	}
}
