package dnssec

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestCanonicalOrder is the example of RFC 4034 §6.1.
func TestCanonicalOrder(t *testing.T) {
	list := []string{`example.`, `a.example.`, `yljkjljk.a.example.`, `Z.a.example.`, `zABC.a.EXAMPLE.`, `z.example.`, `\001.z.example.`, `*.z.example.`, `\200.z.example.`}
	for i, a := range list {
		for j, b := range list {
			got := compare(mustName(a), mustName(b))
			if got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}

func TestNames(t *testing.T) {
	n := mustName("Mx.Example.COM")
	for _, c := range []struct {
		got, want any
	}{
		{n.String(), "mx.example.com."},
		{n.labels(), 3},
		{n.parent().String(), "example.com."},
		{n.suffix(1).String(), "com."},
		{n.suffix(0).String(), "."},
		{n.suffix(9).String(), "mx.example.com."},
		{n.within(mustName("example.com.")), true},
		{n.within(mustName("ample.com.")), false},
		{n.within(root), true},
		{n.within(n), true},
		{n.below(n), false},
		{mustName("example.com.").within(n), false},
		// A dot or a length octet inside a label ends no label.
		{mustName(`a\.example.com.`).within(mustName("example.com.")), false},
		{mustName(`x\007example.com.`).within(mustName("example.com.")), false},
		{common(n, mustName("a.b.example.com.")).String(), "example.com."},
		{common(n, mustName("example.org.")).String(), "."},
		{root.parent() == root, true},
		{mustName("*.example.com.").signedLabels(), 2},
		{mustName("a.*.example.com.").signedLabels(), 4},
		{mustName("_25._tcp.mx.").underscored(), true},
		{root.underscored(), false},
	} {
		if c.got != c.want {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
	for _, s := range []string{"a..b.", string(bytes.Repeat([]byte("a"), 64)) + ".", string(bytes.Repeat([]byte("abcdefg."), 33))} {
		if n, err := parseName(s); err == nil {
			t.Errorf("%q is a name: %q", s, n)
		}
	}
}

// FuzzNames holds that order, ancestry and spelling agree with each other.
func FuzzNames(f *testing.F) {
	f.Add("a.example.com.", "example.com.")
	f.Add(`\000.a.`, `a\.b.c.`)
	f.Add(".", "*.")
	f.Fuzz(func(t *testing.T, s, u string) {
		a, err1 := parseName(s)
		b, err2 := parseName(u)
		if err1 != nil || err2 != nil {
			return
		}
		if again, err := parseName(a.String()); err != nil || again != a {
			t.Errorf("%q is spelled %q", a, a.String())
		}
		if compare(a, b) != -compare(b, a) || (compare(a, b) == 0) != (a == b) {
			t.Errorf("order of %q and %q", a, b)
		}
		c := common(a, b)
		if !a.within(c) || !b.within(c) || c.labels() > min(a.labels(), b.labels()) {
			t.Errorf("%q and %q have %q in common", a, b, c)
		}
		if a.below(b) && compare(a, b) <= 0 {
			t.Errorf("%q is below %q and not after it", a, b)
		}
	})
}

// TestNSECCovers holds the record's arithmetic against the plain order.
func TestNSECCovers(t *testing.T) {
	var all []name
	for _, s := range []string{"example.", "a.example.", "b.a.example.", "c.example.", "d.c.example.", "*.e.example.", "z.example."} {
		all = append(all, mustName(s))
	}
	probes := append(slices.Clone(all), mustName("aa.example."), mustName("x.b.a.example."), mustName("zz.example."), mustName("d.example."), mustName(`\000.example.`))
	for i := range all {
		rec := nsec{owner: all[i], next: all[(i+1)%len(all)]}
		for _, p := range probes {
			want := compare(all[i], p) < 0 && (i == len(all)-1 || compare(p, all[i+1]) < 0)
			if rec.covers(p) != want {
				t.Errorf("%v to %v covers %v: %v", rec.owner, rec.next, p, !want)
			}
		}
	}
	alone := nsec{owner: all[0], next: all[0]}
	if alone.covers(all[0]) || !alone.covers(all[1]) {
		t.Error("the only name of a zone")
	}
}

// TestNSEC3Covers: the edges, the last record and one that stands alone.
func TestNSEC3Covers(t *testing.T) {
	at := func(b byte) (h hash) { h[0] = b; return h }
	for _, c := range []struct {
		owner, next, probe byte
		want               bool
	}{
		{10, 20, 15, true},
		{10, 20, 10, false},
		{10, 20, 20, false},
		{10, 20, 5, false},
		{10, 20, 25, false},
		{200, 10, 250, true},
		{200, 10, 5, true},
		{200, 10, 10, false},
		{200, 10, 200, false},
		{200, 10, 100, false},
		{50, 50, 50, false},
		{50, 50, 51, true},
		{50, 50, 49, true},
	} {
		rec := nsec3{owner: at(c.owner), next: at(c.next)}
		if rec.covers(at(c.probe)) != c.want {
			t.Errorf("%d to %d covers %d: %v", c.owner, c.next, c.probe, !c.want)
		}
	}
}

// TestNSEC3Hash holds the hash against the library's, and RFC 5155 appendix A.
func TestNSEC3Hash(t *testing.T) {
	var h hash
	if !readHash("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom", &h) || (params{iterations: 12, salt: "\xaa\xbb\xcc\xdd"}).hash(mustName("example.")) != h {
		t.Error("the hash of example.")
	}
	for _, s := range []string{"", "0p9mhaveqvm6t7vbl5lop2u3t2rp3to", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tomaa", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"} {
		if readHash(s, &h) {
			t.Errorf("%q is a hash", s)
		}
	}
}

// TestSignedDataIsTheLibrarys: where the library gets it right, both build the same.
func TestSignedDataIsTheLibrarys(t *testing.T) {
	w := newWorld(t)
	z := w.zone("example.", byNSEC, "")
	k := z.keys[1]
	for _, text := range []string{
		"Example. 300 IN MX 10 MX.Example.", "example. IN SOA A.b. C.d. 1 2 3 4 5", `x.example. IN TXT "a\"b" "\000\255"`, "a.example. IN SRV 1 2 3 Host.Example.",
		"a.example. IN NAPTR 1 2 \"s\" \"x\" \"\" Repl.Example.", "a.example. IN RP Box.Example. Txt.Example.", "*.example. IN A 192.0.2.1", "a.example. IN CAA 0 issue \"ca.example\"",
		"a.example. IN PX 10 Map.Example. X400.Example.", "a.example. IN TYPE65400 \\# 3 010203", "a.example. IN HINFO \"CPU\" \"Os\"", "a.example. IN PTR Host.Example.",
	} {
		rr := mustRR(t, text)
		other := dns.Copy(rr)
		rrs := []dns.RR{rr, other}
		set := &rrset{owner: mustName(rr.Header().Name), rtype: rr.Header().Rrtype, rrs: rrs}
		rand.Shuffle(len(rrs), func(i, j int) { rrs[i], rrs[j] = rrs[j], rrs[i] })
		sig, ok := readSignature(z.sign(k, rrs[:1]))
		if !ok {
			t.Fatal("no signature")
		}
		set.sigs = []signature{sig}
		read, err := algorithms().readKeys(&rrset{owner: mustName("example."), rtype: dns.TypeDNSKEY, rrs: []dns.RR{k.rr}}, new(Budget))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = set.verify(read, w.now, new(Budget)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestLevels(t *testing.T) {
	deepest := name(strings.Repeat("\x01a", 127)) + root
	for _, c := range []struct {
		n     name
		count int
	}{{root, 0}, {root, 3}, {mustName("a.b.example."), 0}, {mustName("a.b.example."), 1}, {mustName("a.b.example."), 3}, {mustName("a.b.example."), 4}, {deepest, 1}} {
		var want []name
		for depth := c.count + 1; depth <= c.n.labels(); depth++ {
			want = append(want, c.n.suffix(depth))
		}
		if got := c.n.levels(c.count); !slices.Equal(got, want) {
			t.Errorf("%v below %d labels: %v", c.n, c.count, got)
		}
	}
}
