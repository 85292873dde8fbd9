package dnssec

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

const (
	root2017 = "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
	root2024 = "683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16"
	// The root's key of 2017 itself.
	key2017 = "AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU="
)

func TestParseAnchors(t *testing.T) {
	for what, text := range map[string]string{
		"records":       ". IN DS 20326 8 2 " + root2017 + "\n. IN DS 38696 8 2 " + root2024 + "\n",
		"with a TTL":    ".\t172800\tIN\tDS\t20326 8 2 " + strings.ToLower(root2017),
		"comments":      "; anchors {of the root}\n. DS 20326 8 2 " + root2017 + " ; id\n",
		"a key":         ". IN DNSKEY 257 3 8 " + key2017 + " ;{id = 20326 (ksk), size = 2048b}",
		"autotrust":     "; autotrust trust anchor file\n;;id: . 1\n.\t86400\tIN\tDNSKEY\t257 3 8 " + key2017 + " ;{id = 20326 (ksk), size = 2048b} ;;state=2 [  VALID  ] ;;count=0\n",
		"trust-anchors": "// of the root\ntrust-anchors {\n\t. initial-ds 20326 8 2 \"" + root2017[:32] + "\n " + root2017[32:] + "\";\n};\n",
		"static":        "/* bind */ \ntrust-anchors { \".\" static-key 257 3 8 \"" + key2017[:60] + "\n" + key2017[60:] + "\"; };",
		"managed-keys":  "managed-keys {\n\".\" initial-key 257 3 8 \"" + key2017 + "\";\n};",
		"trusted-keys":  "trusted-keys {\n\".\" 257 3 8 \"" + key2017 + "\";\n};",
	} {
		a, err := ParseAnchors([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if len(a.zones[root]) == 0 || a.zones[root][0].tag != 20326 {
			t.Errorf("%s: %v", what, a.zones)
		}
		// A key says the same as its DS.
		key := mustRR(t, ". IN DNSKEY 257 3 8 "+key2017)
		rd, err := rdataOf(key)
		if err != nil {
			t.Fatal(err)
		}
		k, _ := readKey(rd)
		if !a.zones[root][0].matches(root, k) {
			t.Errorf("%s does not match the key", what)
		}
	}
	for what, text := range map[string]string{
		"empty":           "",
		"comments only":   "; nothing\n",
		"another type":    ". IN NS a.root-servers.net.",
		"another class":   ". CH DS 20326 8 2 " + root2017,
		"half a record":   ". IN DS 20326",
		"no hex":          ". IN DS 20326 8 2 XYZ",
		"an empty digest": ". IN DS 20326 8 2 ",
		"a revoked key":   ". IN DNSKEY 385 3 8 " + key2017,
		"too long":        strings.Repeat(" ", maxAnchorText+1),
		"an include":      "$INCLUDE /etc/passwd\n",
	} {
		if _, err := ParseAnchors([]byte(text)); !errors.Is(err, ErrAnchors) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// What could never match is refused with words that say which record it is and what it
	// should be.
	good := ". IN DS 38696 8 2 " + root2024 + "\n"
	for text, words := range map[string][]string{
		good + ". IN DS 20326 8 2 " + root2017[:16]: {"20326 8 2 " + root2017[:16], "32 octets", "has 8"},
		good + ". IN DS 20326 8 1 " + root2017:      {"20326 8 1", "20 octets", "has 32"},
		good + "example. IN DS 1 13 4 " + root2017:  {"example.", "1 13 4", "48 octets", "has 32"},
		". IN DS 1 16 2 " + root2017:                {"1 16 2", "supported", "ED448"},
		". IN DS 20326 8 3 " + root2017:             {"20326 8 3", "supported", "SHA-256"},
		". IN DNSKEY 257 3 16 " + key2017:           {"16 2 (ED448) of zone .", "supported"},
		good + ". IN DNSKEY 257 3 8 AwEAAQ==":       {"257 3 8 AwEAAQ==", "malformed"},
		good + ". IN DNSKEY 257 3 13 " + key2017:    {"257 3 13", "malformed"},
		good + ". IN DNSKEY 257 4 8 " + key2017:     {"257 4 8", "protocol 3"},
		good + ". IN DNSKEY 1 3 8 " + key2017:       {"1 3 8", "zone flag"},
	} {
		_, err := ParseAnchors([]byte(text))
		if !errors.Is(err, ErrAnchors) {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, w := range words {
			if got := strings.Join(strings.Fields(err.Error()), " "); !strings.Contains(got, w) {
				t.Errorf("%q does not say %q", got, w)
			}
		}
	}
	// One that cannot be used does no harm beside one that can, nor does one that a setting
	// allows.
	for _, text := range []string{good + ". IN DS 1 16 2 " + root2017, good + ". IN DS 1 8 200 AB", ". IN DS 1 5 1 " + root2017[:40]} {
		if _, err := ParseAnchors([]byte(text)); err != nil {
			t.Error(err)
		}
	}
	if got := len(BuiltIn().zones[root]); got != 2 {
		t.Errorf("%d built-in anchors", got)
	}
}

func FuzzParseAnchors(f *testing.F) {
	f.Add([]byte(rootAnchors))
	f.Add([]byte("trust-anchors { . initial-ds 20326 8 2 \"AB\"; };"))
	f.Add([]byte("trusted-keys {\n\".\" 257 3 8 \"AwEAAQ==\";\n};"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAnchors(text)
		if (a == nil) != (err != nil) || err != nil && !errors.Is(err, ErrAnchors) {
			t.Errorf("%v %v", a, err)
		}
	})
}

func TestAnchorWarnings(t *testing.T) {
	w := standard(t)
	v := w.validator()
	lookup := func() { want(t, w.ask(v, "com.", dns.TypeSOA), verdict.Found, verdict.Secure) }
	lookup()
	if got := v.Warnings(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	// A key comes that no anchor knows; later the old one is revoked.
	z := w.zones["."]
	next := w.key(".", dns.ECDSAP256SHA256, 257)
	next.keysOnly, next.noDS = true, true
	z.keys = append(z.keys, next)
	w.now = w.now.Add(2 * time.Hour)
	lookup()
	if got := v.Warnings(); len(got) != 1 || got[0].Notice != Unknown || got[0].Key.Tag != next.rr.KeyTag() || got[0].Zone != "." {
		t.Errorf("%v", got)
	}
	w = standard(t)
	z = w.zones["."]
	next = w.key(".", dns.ECDSAP256SHA256, 257)
	next.keysOnly = true
	z.keys = append(z.keys, next)
	v = w.validator() // knows both
	old := z.keys[0]
	tag := old.rr.KeyTag()
	revoked := *old.rr
	revoked.Flags |= dns.REVOKE
	z.keys[0] = &fakeKey{rr: &revoked, signer: old.signer, keysOnly: true}
	lookup()
	if got := v.Warnings(); len(got) != 1 || got[0].Notice != Revoked || got[0].Key.Tag != tag {
		t.Errorf("%v", got)
	}
	if s := v.Warnings()[0].String(); !strings.Contains(s, "revoked") {
		t.Error(s)
	}
}

// TestIslands: with anchors below the root only, nothing is known of other names, and
// the closest anchor counts.
func TestIslands(t *testing.T) {
	w := standard(t)
	text := ""
	for _, zone := range []string{"example.com.", "sub.example.com."} {
		for _, ds := range w.zones[zone].ds() {
			text += ds.String() + "\n"
		}
	}
	a, err := ParseAnchors([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v := New(Config{Anchors: a, Clock: func() time.Time { return w.now }})
	ask := func(n string, rrtype uint16) Answer { return w.ask(v, n, rrtype) }
	want(t, ask("example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	want(t, ask("mx.sub.example.com.", dns.TypeA), verdict.Found, verdict.Secure)
	want(t, ask("mx.plain.example.com.", dns.TypeA), verdict.Found, verdict.Insecure)
	want(t, ask("example.net.", dns.TypeMX), verdict.Found, verdict.Indeterminate)
	want(t, ask("across.example.com.", dns.TypeA), verdict.Found, verdict.Indeterminate)
	want(t, ask("nowhere.example.net.", dns.TypeA), verdict.NXDomain, verdict.Indeterminate)
	// The parent of an anchored zone has nothing to say in it.
	z := w.zones["example.com."]
	w.tamper = forQuery("nowhere.sub.example.com.", dns.TypeA, func(m *dns.Msg) {
		m.Ns, m.Rcode = nil, dns.RcodeSuccess
		z.deny(m, "nowhere.example.com.", "*.example.com.")
	})
	refused(t, ask("nowhere.sub.example.com.", dns.TypeA), NoDenial)
	// Nor do its signatures count there.
	w.tamper = forQuery("mx.sub.example.com.", dns.TypeA, func(m *dns.Msg) {
		m.Answer = z.signed([]dns.RR{mustRR(t, "mx.sub.example.com. 60 IN A 198.51.100.66")})
	})
	refused(t, ask("mx.sub.example.com.", dns.TypeA), NoSignature)
	// Nor do its aliases, signed or not.
	for _, owner := range []string{"example.com.", "com."} {
		w.tamper = forQuery("mx.sub.example.com.", dns.TypeA, func(m *dns.Msg) {
			target := strings.TrimSuffix("mx.sub.example.com.", owner) + "plain.org."
			m.Answer = append([]dns.RR{
				mustRR(t, owner+" 60 IN DNAME plain.org."), mustRR(t, "mx.sub.example.com. 60 IN CNAME "+target),
			}, mustRR(t, target+" 60 IN A 198.51.100.66"))
		})
		refused(t, ask("mx.sub.example.com.", dns.TypeA), NoSignature)
	}
	w.tamper = nil
	// The parent's word on its DS counts all the same.
	want(t, ask("sub.example.com.", dns.TypeDS), verdict.Found, verdict.Secure)
	// Anchors of unsupported algorithms only: nothing can be proven, and to call all of it
	// insecure would take the proof from every destination, without a word.
	a, err = ParseAnchors([]byte(". IN DS 1 5 2 " + root2017))
	if err != nil {
		t.Fatal(err)
	}
	v = New(Config{Anchors: a, Clock: func() time.Time { return w.now }})
	got := ask("example.com.", dns.TypeMX)
	want(t, got, verdict.Failed, verdict.Indeterminate)
	s := v.Session(w)
	defer s.Close()
	if err := s.Check(t.Context()); err == nil || !err.Anchor || !got.Err.Anchor || err.Why != NoAnchor || err.Bogus() {
		t.Errorf("%v", err)
	}
}

// TestAnchoredZones: an operator must be told of what the anchors do not reach.
func TestAnchoredZones(t *testing.T) {
	a, err := ParseAnchors([]byte("sub.dane.example. IN DS 1 8 2 " + root2017 + "\nDANE.example. IN DS 1 8 2 " + root2017 + "\nexample.net. IN DS 1 8 2 " + root2017))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(a.Zones(), " "); got != "dane.example. sub.dane.example. example.net." {
		t.Error(got)
	}
	if got := BuiltIn().Zones(); len(got) != 1 || got[0] != "." {
		t.Error(got)
	}
	for n, covered := range map[string]bool{
		"dane.example": true, "mx.Dane.example.": true, "example.net.": true,
		"example.": false, "xdane.example.": false, "example.com.": false, ".": false, "a..b": false,
	} {
		if a.Covers(n) != covered {
			t.Errorf("%s: %v", n, !covered)
		}
	}
	if !BuiltIn().Covers("example.com") || !BuiltIn().Covers(".") {
		t.Error("the root's anchors do not reach everything")
	}
}
