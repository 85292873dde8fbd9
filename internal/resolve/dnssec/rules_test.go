package dnssec

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// Helpers that change replies, as an attacker or a bad server on the way does.

// forQuery changes the replies to one question only, every time it is asked.
func forQuery(n string, rrtype uint16, change func(m *dns.Msg)) func(Query, *dns.Msg) *dns.Msg {
	return func(q Query, m *dns.Msg) *dns.Msg {
		if q.Name == n && q.Type == rrtype {
			change(m)
		}
		return m
	}
}

func stripped(m *dns.Msg) {
	m.Answer = without(m.Answer, dns.TypeRRSIG)
	m.Ns = without(m.Ns, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3)
}

func without(rrs []dns.RR, drop ...uint16) []dns.RR {
	return slices.DeleteFunc(slices.Clone(rrs), func(rr dns.RR) bool { return slices.Contains(drop, rr.Header().Rrtype) })
}

// reply is what the world says to a question.
func (w *world) reply(n string, rrtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(n, rrtype)
	w.resolve(m, n, rrtype, 0)
	return m
}

func TestRule01MissingSignaturesAreNeverInsecure(t *testing.T) {
	w := standard(t)
	w.tamper = forQuery("example.com.", dns.TypeMX, stripped)
	refused(t, w.lookup("example.com.", dns.TypeMX), NoSignature)

	for _, n := range []string{"example.com.", "example.net.", "example.org."} {
		// All that the zone says is stripped, but for the chain.
		w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
			if q.Type != dns.TypeDS && q.Type != dns.TypeDNSKEY {
				stripped(m)
			}
			return m
		}
		refused(t, w.lookup("mx1."+n, dns.TypeA), NoSignature)
		refused(t, w.lookup("alias."+n, dns.TypeA), NoSignature)
		refused(t, w.lookup("mx1."+n, dns.TypeTXT), NoDenial)
		refused(t, w.lookup("nowhere."+n, dns.TypeA), NoDenial)
		// The DS is stripped, as if the delegation were not signed.
		w.tamper = forQuery(n, dns.TypeDS, func(m *dns.Msg) {
			m.Answer = nil
			stripped(m)
		})
		refused(t, w.lookup("mx1."+n, dns.TypeA), NoDenial)
		// Its signature is stripped.
		w.tamper = forQuery(n, dns.TypeDS, stripped)
		refused(t, w.lookup("mx1."+n, dns.TypeA), NoSignature)
		// The keys are stripped.
		w.tamper = forQuery(n, dns.TypeDNSKEY, func(m *dns.Msg) { m.Answer = nil })
		refused(t, w.lookup("mx1."+n, dns.TypeA), NoKeys)
	}
}

func TestRule02ParentAndChildDenyTheirOwnOnly(t *testing.T) {
	w := standard(t)
	// The parent's NSEC at the cut, replayed to deny what is in the child.
	parent := w.zones["org."].signed([]dns.RR{w.zones["org."].nsecFor("example.org.")})
	for _, rcode := range []int{dns.RcodeSuccess, dns.RcodeNameError} {
		w.tamper = forQuery("mx1.example.org.", dns.TypeA, func(m *dns.Msg) { m.Answer, m.Ns, m.Rcode = nil, parent, rcode })
		refused(t, w.lookup("mx1.example.org.", dns.TypeA), NoDenial)
		w.tamper = forQuery("example.org.", dns.TypeMX, func(m *dns.Msg) { m.Answer, m.Ns, m.Rcode = nil, parent, rcode })
		refused(t, w.lookup("example.org.", dns.TypeMX), NoDenial)
	}
	// The same with NSEC3.
	net := w.zones["net."]
	var proof []dns.RR
	for _, n := range []string{"example.net.", "mx1.example.net.", "*.example.net."} {
		proof = append(proof, net.signed([]dns.RR{net.nsec3For(n)})...)
	}
	w.tamper = forQuery("mx1.example.net.", dns.TypeA, func(m *dns.Msg) { m.Answer, m.Ns, m.Rcode = nil, proof, dns.RcodeNameError })
	refused(t, w.lookup("mx1.example.net.", dns.TypeA), NoDenial)

	// The child's apex NSEC, replayed to deny the DS that is the parent's. It is signed
	// with the child's keys, and the walk has only the parent's; besides, it has the SOA
	// bit.
	child := w.zones["sub.example.com."]
	apex := child.signed([]dns.RR{child.nsecFor("sub.example.com.")})
	w.tamper = forQuery("sub.example.com.", dns.TypeDS, func(m *dns.Msg) { m.Answer, m.Ns = nil, apex })
	refused(t, w.lookup("mx.sub.example.com.", dns.TypeA), NoDenial)
	if (types{dns.TypeNS, dns.TypeSOA}).denies(mustName("sub.example.com."), dns.TypeDS) {
		t.Error("a child's apex denies its DS")
	}

	// The NSEC at a DNAME covers what is below, which the DNAME redirects.
	com := w.zones["example.com."]
	over := com.signed([]dns.RR{com.nsecFor("old.example.com.")})
	w.tamper = forQuery("host.old.example.com.", dns.TypeA, func(m *dns.Msg) {
		m.Answer, m.Rcode = nil, dns.RcodeNameError
		m.Ns = append(over, com.signed([]dns.RR{com.nsecFor("*.example.com.")})...)
	})
	refused(t, w.lookup("host.old.example.com.", dns.TypeA), NoDenial)
}

func TestRule03NoDSWithoutNSIsNoCut(t *testing.T) {
	for _, zone := range []string{"example.com.", "example.net.", "example.org."} {
		w := standard(t)
		// mx1 has no DS and no NS: whoever strips the signature must not gain from the
		// honest denial of its DS.
		w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
			if q.Name == "mx1."+zone && q.Type == dns.TypeA {
				stripped(m)
				m.Answer = append(m.Answer[:0], mustRR(t, q.Name+" 60 IN A 198.51.100.66"))
			}
			return m
		}
		refused(t, w.lookup("mx1."+zone, dns.TypeA), NoSignature)
		if w.count("mx1."+zone, dns.TypeDS) == 0 {
			t.Error("the DS was not asked for")
		}
	}
}

func mustRR(t testing.TB, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func TestRule04WalkThroughEmptyNonTerminals(t *testing.T) {
	for _, zone := range []string{"example.com.", "example.net.", "example.org."} {
		w := standard(t)
		// Unsigned, so that the walk goes to the very name, through _tcp.mx1.
		n := "_25._tcp.mx1." + zone
		w.tamper = forQuery(n, dns.TypeTLSA, stripped)
		refused(t, w.lookup(n, dns.TypeTLSA), NoSignature)
		if w.count("_tcp.mx1."+zone, dns.TypeDS) == 0 {
			t.Error("the walk did not pass the empty non-terminal")
		}
	}
	// The record that proves one need not be owned by an ancestor.
	w := standard(t)
	a := w.lookup("_tcp.mx1.example.com.", dns.TypeTLSA)
	want(t, a, verdict.NoData, verdict.Secure)
	steps := a.Chain()
	if last := steps[len(steps)-1]; !strings.Contains(last.Detail, "empty non-terminal") {
		t.Errorf("denied by %v", last)
	}
	// A server that says NXDOMAIN for it does not change what is proven.
	w.tamper = forQuery("_tcp.mx1.example.com.", dns.TypeTLSA, func(m *dns.Msg) { m.Rcode = dns.RcodeNameError })
	want(t, w.lookup("_tcp.mx1.example.com.", dns.TypeTLSA), verdict.NoData, verdict.Secure)
}

func TestRule05OnlyKeysThatADSMatchesSignTheKeys(t *testing.T) {
	// A key that is in the set, but that no DS matches, signs the set with an intruder's
	// key in it.
	w := standard(t)
	z := w.zones["example.com."]
	zsk, intruder := z.keys[1], w.key("example.com.", dns.ECDSAP256SHA256, 257)
	zsk.dataOnly, zsk.keysOnly, intruder.noDS = false, false, true
	z.keys[0].silent = true
	z.keys = append(z.keys, intruder)
	refused(t, w.lookup("example.com.", dns.TypeMX), NoKey)

	// A zone with one key that does it all, with and without the SEP flag.
	for _, flags := range []uint16{256, 257} {
		w = standard(t)
		w.zones["example.com."].keys = []*fakeKey{w.key("example.com.", dns.ECDSAP256SHA256, flags)}
		want(t, w.lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	}
	// Two key-signing keys with a DS each, of which one signs.
	w = standard(t)
	z = w.zones["example.com."]
	second := w.key("example.com.", dns.ECDSAP256SHA256, 257)
	second.silent = true
	z.keys = append(z.keys, second)
	want(t, w.lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	// A revoked key signs nothing, though a DS matches it.
	w = standard(t)
	w.zones["example.com."].keys = []*fakeKey{w.key("example.com.", dns.ECDSAP256SHA256, 257|dns.REVOKE)}
	refused(t, w.lookup("example.com.", dns.TypeMX), NoKey)
	// Nor does one that is no zone key.
	w = standard(t)
	w.zones["example.com."].keys = []*fakeKey{w.key("example.com.", dns.ECDSAP256SHA256, 1)}
	refused(t, w.lookup("example.com.", dns.TypeMX), NoKey)
	// Nor one of another protocol.
	w = standard(t)
	k := w.key("example.com.", dns.ECDSAP256SHA256, 257)
	k.rr.Protocol = 4
	w.zones["example.com."].keys = []*fakeKey{k}
	refused(t, w.lookup("example.com.", dns.TypeMX), NoKey)
}

func TestRule06WildcardAtTheClosestEncloser(t *testing.T) {
	for _, zone := range []string{"example.com.", "example.net."} {
		w := standard(t)
		z := w.zones[zone]
		// under.tree.wild exists: the wildcard above must not stand for it, whatever
		// denial comes along.
		n := "under.tree.wild." + zone
		replay := func(deny ...string) func(m *dns.Msg) {
			return func(m *dns.Msg) {
				m.Answer = renamed(z.signed(z.get("*.wild."+zone, dns.TypeA)), n)
				for _, d := range deny {
					z.denyNames(m, d)
				}
			}
		}
		for _, deny := range [][]string{nil, {"nowhere." + zone}, {"one.wild." + zone}, {"x.tree.wild." + zone}, {n}, {"tree.wild." + zone}} {
			w.tamper = forQuery(n, dns.TypeA, replay(deny...))
			refused(t, w.lookup(n, dns.TypeA), NoDenial)
		}
		// A name below another that exists: that one encloses it, not the wildcard's parent.
		n = "x.tree.wild." + zone
		w.tamper = forQuery(n, dns.TypeA, replay(n))
		refused(t, w.lookup(n, dns.TypeA), NoDenial)
		// A wildcard's NSEC under another name would deny names all over the zone.
		if z.style == byNSEC {
			w.tamper = forQuery("one.wild."+zone, dns.TypeA, func(m *dns.Msg) {
				nsec := renamed(z.signed([]dns.RR{z.nsecFor("*.wild." + zone)}), "one.wild."+zone)
				m.Answer, m.Ns, m.Rcode = nil, nsec, dns.RcodeSuccess
			})
			refused(t, w.lookup("one.wild."+zone, dns.TypeA), NoDenial)
		}
	}
}

// TestRule06NoDelegationFromAWildcard: a DS of the wildcard would give any name the
// wildcard's keys.
func TestRule06NoDelegationFromAWildcard(t *testing.T) {
	w := standard(t)
	com := w.zones["com."]
	ds := renamed(w.zones["example.com."].ds(), "*.com.")
	w.tamper = forQuery("example.com.", dns.TypeDS, func(m *dns.Msg) { m.Answer = renamed(com.signed(ds), "example.com.") })
	refused(t, w.lookup("example.com.", dns.TypeMX), BadSignature)
}

func TestRule07CompactDenialIsOrdinary(t *testing.T) {
	w := standard(t)
	want(t, w.lookup("nowhere.example.org.", dns.TypeA), verdict.NoData, verdict.Secure)
	want(t, w.lookup("_25._tcp.mx9.example.org.", dns.TypeTLSA), verdict.NoData, verdict.Secure)
	// A server that restores the rcode says what NXNAME says.
	w.tamper = forQuery("nowhere.example.org.", dns.TypeA, func(m *dns.Msg) { m.Rcode = dns.RcodeNameError })
	want(t, w.lookup("nowhere.example.org.", dns.TypeA), verdict.NXDomain, verdict.Secure)
	// Without NXNAME the name is there, whatever the rcode says.
	w.tamper = forQuery("mx1.example.org.", dns.TypeTXT, func(m *dns.Msg) { m.Rcode = dns.RcodeNameError })
	want(t, w.lookup("mx1.example.org.", dns.TypeTXT), verdict.NoData, verdict.Secure)
}

func TestRule08OneValidPathSuffices(t *testing.T) {
	w := standard(t)
	z := w.zones["example.com."]
	// DS of two algorithms; the second one's key is published and signs nothing.
	idle := w.key("example.com.", dns.ED25519, 257)
	idle.silent = true
	z.keys = append(z.keys, idle)
	want(t, w.lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	// A signature of an algorithm that is not supported, and one that is broken, beside a
	// good one.
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		for _, rr := range slices.Clone(m.Answer) {
			if sig, ok := rr.(*dns.RRSIG); ok && q.Name == "example.com." {
				other, bad := *sig, *sig
				other.Algorithm = dns.ED448
				bad.Signature = "AAAA" + bad.Signature[4:]
				m.Answer = append([]dns.RR{&other, &bad}, m.Answer...)
			}
		}
		return m
	}
	want(t, w.lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
}

func TestRule09UnsupportedIsInsecureAndBrokenIsBogus(t *testing.T) {
	ds := func(records ...string) *world {
		w := standard(t)
		var rrs []dns.RR
		for _, r := range records {
			rrs = append(rrs, mustRR(t, "example.com. 3600 IN DS "+r))
		}
		com := w.zones["com."]
		w.tamper = forQuery("example.com.", dns.TypeDS, func(m *dns.Msg) { m.Answer = com.signed(rrs) })
		return w
	}
	sum32, sum48 := strings.Repeat("ab", 32), strings.Repeat("ab", 48)
	for _, r := range [][]string{
		{"1 16 2 " + sum32},                       // Ed448
		{"1 12 2 " + sum32},                       // GOST
		{"1 13 3 " + sum32},                       // a digest of GOST
		{"1 253 2 " + sum32},                      // a private algorithm
		{"1 5 2 " + sum32},                        // RSASHA1
		{"1 16 2 " + sum32, "1 17 2 " + sum32},    // two of them
		{"1 13 200 " + sum32, "1 200 2 " + sum32}, // supported halves
		{"1 1 1 " + strings.Repeat("ab", 20), "1 3 1 " + strings.Repeat("ab", 20)},
	} {
		want(t, ds(r...).lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Insecure)
	}
	for _, r := range [][]string{
		{"1 13 2 " + sum32},
		{"1 13 4 " + sum48},
		{"1 13 2 " + sum32, "1 16 2 " + sum32},
		{"1 8 2 " + sum32},
		{"1 13 1 " + strings.Repeat("ab", 20)},
	} {
		refused(t, ds(r...).lookup("example.com.", dns.TypeMX), NoKey)
	}
	// A downgrade: the zone has a supported DS, and the records come with a signature of
	// another algorithm only.
	w := standard(t)
	w.tamper = forQuery("example.com.", dns.TypeMX, func(m *dns.Msg) {
		for _, rr := range m.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok {
				sig.Algorithm = dns.ED448
			}
		}
	})
	refused(t, w.lookup("example.com.", dns.TypeMX), NoKey)
}

func TestRule10IterationsCountOnceTheyAreSigned(t *testing.T) {
	w := standard(t)
	edit := func(q Query, m *dns.Msg) *dns.Msg {
		for i, rr := range m.Ns {
			if n, ok := rr.(*dns.NSEC3); ok && strings.HasSuffix(n.Hdr.Name, ".example.net.") {
				c := *n
				c.Iterations = 500
				m.Ns[i] = &c
			}
		}
		return m
	}
	w.tamper = edit
	refused(t, w.lookup("nowhere.example.net.", dns.TypeA), BadSignature)
	refused(t, w.lookup("mx1.example.net.", dns.TypeTXT), BadSignature)

	for _, iterations := range []uint16{MaxIterations, MaxIterations + 1, 500} {
		w = standard(t)
		w.zones["example.net."].iterations = iterations
		proof := verdict.Insecure
		if iterations <= MaxIterations {
			proof = verdict.Secure
		}
		want(t, w.lookup("nowhere.example.net.", dns.TypeA), verdict.NXDomain, proof)
		want(t, w.lookup("mx1.example.net.", dns.TypeTXT), verdict.NoData, proof)
		want(t, w.lookup("one.wild.example.net.", dns.TypeA), verdict.Found, proof)
		want(t, w.lookup("mx1.example.net.", dns.TypeA), verdict.Found, verdict.Secure)
	}
}

func TestRule11WhereValidationCannotWork(t *testing.T) {
	ctx := context.Background()
	check := func(w *world, v *Validator) *Error {
		s := v.Session(w)
		defer s.Close()
		return s.Check(ctx)
	}
	w := standard(t)
	if err := check(w, w.validator()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		why    Why
		change func(w *world)
	}{
		{"strips signatures", NoSignature, func(w *world) {
			w.tamper = func(_ Query, m *dns.Msg) *dns.Msg { stripped(m); return m }
		}},
		{"knows no DNSKEY", NoKeys, func(w *world) {
			w.tamper = func(q Query, m *dns.Msg) *dns.Msg { m.Answer = without(m.Answer, dns.TypeDNSKEY); return m }
		}},
		{"strips denials", NoDenial, func(w *world) {
			w.tamper = func(q Query, m *dns.Msg) *dns.Msg { m.Ns = nil; return m }
		}},
		{"does not answer", NoReply, func(w *world) { w.tamper = func(Query, *dns.Msg) *dns.Msg { return nil } }},
		{"refuses", NoReply, func(w *world) {
			w.tamper = func(_ Query, m *dns.Msg) *dns.Msg { m.Rcode = dns.RcodeRefused; return m }
		}},
		{"the clock is late", NotYet, func(w *world) { w.now = w.now.Add(-90 * 24 * time.Hour) }},
		{"the clock is early", Expired, func(w *world) { w.now = w.now.Add(90 * 24 * time.Hour) }},
	} {
		w = standard(t)
		anchors := w.anchors()
		_ = w.reply("example.com.", dns.TypeMX)
		signedNow(w)
		c.change(w)
		v := New(Config{Anchors: anchors, Clock: func() time.Time { return w.now }})
		err := check(w, v)
		if err == nil || err.Why != c.why {
			t.Errorf("%s: %v, want %v", c.what, err, c.why)
			continue
		}
		// Of a destination it says nothing: neither bogus nor insecure.
		if c.why == NoDenial {
			continue
		}
		a := w.ask(v, "example.com.", dns.TypeMX)
		want(t, a, verdict.Failed, verdict.Indeterminate)
		if c.why != NoReply && !a.Err.Anchor {
			t.Errorf("%s: %v is not said to be at the anchor", c.what, a.Err)
		}
	}
	// Other anchors.
	w = standard(t)
	v := New(Config{Clock: func() time.Time { return w.now }})
	if err := check(w, v); err == nil || err.Why != NoKey || !err.Anchor {
		t.Errorf("with other anchors: %v", err)
	}
}

// signedNow makes all signatures before the clock is changed.
func signedNow(w *world) {
	now := w.now
	for _, z := range w.zones {
		z.fixed = &now
	}
}

func TestRule12AdditionalDataIsNoEvidence(t *testing.T) {
	w := standard(t)
	// Signatures, keys, denials and DS in the additional section, and DS in the
	// authority section, prove nothing.
	move := func(m *dns.Msg) {
		m.Extra = append(m.Extra, m.Answer...)
		m.Extra = append(m.Extra, m.Ns...)
		m.Answer, m.Ns = without(m.Answer, dns.TypeRRSIG), nil
	}
	w.tamper = forQuery("example.com.", dns.TypeMX, move)
	refused(t, w.lookup("example.com.", dns.TypeMX), NoSignature)
	w.tamper = forQuery("nowhere.example.com.", dns.TypeA, move)
	refused(t, w.lookup("nowhere.example.com.", dns.TypeA), NoDenial)
	w.tamper = forQuery("example.com.", dns.TypeDNSKEY, func(m *dns.Msg) { m.Extra, m.Answer = m.Answer, nil })
	refused(t, w.lookup("example.com.", dns.TypeMX), NoKeys)
	w.tamper = forQuery("example.com.", dns.TypeDS, func(m *dns.Msg) { m.Ns, m.Answer = m.Answer, nil })
	refused(t, w.lookup("example.com.", dns.TypeMX), NoDenial)
	// Records in the authority section are no answer.
	w.tamper = forQuery("example.com.", dns.TypeMX, func(m *dns.Msg) { m.Ns, m.Answer = m.Answer, nil })
	refused(t, w.lookup("example.com.", dns.TypeMX), NoDenial)
	// What is added does no harm either.
	w.tamper = forQuery("example.com.", dns.TypeMX, func(m *dns.Msg) {
		m.Extra = append(m.Extra, mustRR(t, "example.com. 60 IN MX 1 evil.invalid."))
		m.Ns = append(m.Ns, mustRR(t, "example.com. 60 IN NS evil.invalid."))
	})
	a := w.lookup("example.com.", dns.TypeMX)
	want(t, a, verdict.Found, verdict.Secure)
	if len(a.Records) != 2 {
		t.Errorf("%v", a.Records)
	}
}

func TestRule13EveryAliasHasItsOwnProof(t *testing.T) {
	w := standard(t)
	z := w.zones["example.com."]
	z.add("first CNAME back.plain.org.")
	w.zones["plain.org."].add("back CNAME mx1.example.com.")
	// Secure, insecure, secure: insecure, with the canonical name of the end.
	a := w.lookup("first.example.com.", dns.TypeA)
	want(t, a, verdict.Found, verdict.Insecure)
	if a.Canonical != "mx1.example.com." {
		t.Errorf("canonical name %q", a.Canonical)
	}
	// The alias itself is secure.
	want(t, w.lookup("first.example.com.", dns.TypeCNAME), verdict.Found, verdict.Secure)
	// An unsigned alias in a signed zone.
	w.tamper = forQuery("alias.example.com.", dns.TypeA, func(m *dns.Msg) {
		m.Answer = append([]dns.RR{mustRR(t, "alias.example.com. 60 IN CNAME www.plain.org.")}, w.reply("www.plain.org.", dns.TypeA).Answer...)
	})
	refused(t, w.lookup("alias.example.com.", dns.TypeA), NoSignature)
	// A DNAME whose CNAME leads elsewhere.
	w.tamper = forQuery("host.old.example.com.", dns.TypeA, func(m *dns.Msg) {
		for _, rr := range m.Answer {
			if c, ok := rr.(*dns.CNAME); ok {
				c.Target = "www.plain.org."
			}
		}
	})
	refused(t, w.lookup("host.old.example.com.", dns.TypeA), BadSignature)
	// One without its CNAME is worked out.
	w.tamper = forQuery("host.old.example.com.", dns.TypeA, func(m *dns.Msg) { m.Answer = without(m.Answer, dns.TypeCNAME) })
	a = w.lookup("host.old.example.com.", dns.TypeA)
	want(t, a, verdict.Found, verdict.Secure)
	if a.Canonical != "host.new.example.com." {
		t.Errorf("canonical name %q", a.Canonical)
	}
	// A DNAME without its signature.
	w.tamper = forQuery("host.old.example.com.", dns.TypeA, stripped)
	refused(t, w.lookup("host.old.example.com.", dns.TypeA), NoSignature)
	// A chain that ends in a forgery, whose honest end is known under its own name.
	w.tamper = forQuery("alias.example.com.", dns.TypeA, func(m *dns.Msg) {
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				a.A[15&(len(a.A)-1)] ^= 1
			}
		}
	})
	a = w.lookup("alias.example.com.", dns.TypeA)
	want(t, a, verdict.Found, verdict.Secure)
	if got := a.Records[0].(*dns.A).A.String(); got != "192.0.2.1" {
		t.Errorf("address %s", got)
	}
}

func TestRule14BadRepliesAreAskedForElsewhere(t *testing.T) {
	for _, c := range []struct {
		n      string
		rrtype uint16
	}{{".", dns.TypeDNSKEY}, {"com.", dns.TypeDS}, {"com.", dns.TypeDNSKEY}, {"example.com.", dns.TypeDS}, {"example.com.", dns.TypeDNSKEY}, {"example.com.", dns.TypeMX}} {
		w := standard(t)
		w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
			if q.Name == c.n && q.Type == c.rrtype && q.Again == 0 {
				stripped(m)
			}
			return m
		}
		want(t, w.lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
		if got := w.count(c.n, c.rrtype); got != 2 {
			t.Errorf("%s %s was asked %d times", c.n, typeName(c.rrtype), got)
		}
		// Where the second way does not answer, the first one's failure stands.
		w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
			if q.Name == c.n && q.Type == c.rrtype {
				if q.Again > 0 {
					return nil
				}
				stripped(m)
			}
			return m
		}
		refused(t, w.lookup("example.com.", dns.TypeMX), NoSignature)
	}
}

func TestRule15SHA1(t *testing.T) {
	w := standard(t)
	w.zones["example.com."].keys = []*fakeKey{w.key("example.com.", dns.RSASHA1, 257)}
	want(t, w.lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Insecure)
	v := New(Config{Anchors: w.anchors(), SHA1: true, Clock: func() time.Time { return w.now }})
	want(t, w.ask(v, "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)

	// A digest of SHA-1 will do alone, and is ignored beside one of SHA-2.
	w = standard(t)
	z := w.zones["example.com."]
	z.digests = []uint8{dns.SHA1}
	want(t, w.lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	com := w.zones["com."]
	good := z.ds()[0].(*dns.DS)
	wrong := *good
	wrong.DigestType, wrong.Digest = dns.SHA256, strings.Repeat("ab", 32)
	w.tamper = forQuery("example.com.", dns.TypeDS, func(m *dns.Msg) { m.Answer = com.signed([]dns.RR{good, &wrong}) })
	refused(t, w.lookup("example.com.", dns.TypeMX), NoKey)
}
