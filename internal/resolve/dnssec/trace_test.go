package dnssec

import (
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestChainReadsAsOperatorsSpeak holds what the steps of a proof say.
func TestChainReadsAsOperatorsSpeak(t *testing.T) {
	w := standard(t)
	text := func(a Answer) string {
		var lines []string
		for _, s := range a.Chain() {
			lines = append(lines, regexp.MustCompile(`\b[0-9]+/ECDSAP256SHA256`).ReplaceAllString(s.String(), "KEY"))
		}
		return strings.Join(lines, "\n")
	}
	for _, c := range []struct {
		n      string
		rrtype uint16
		want   string
	}{
		{"alias.example.com.", dns.TypeA, `
. DNSKEY: a trust anchor matches, signed by KEY
com. DNSKEY: a DS of zone . matches, signed by KEY, KEY
example.com. DNSKEY: a DS of zone com. matches, signed by KEY, KEY
alias.example.com.: alias, secure, signed by KEY (CNAME mx1.example.com.)
mx1.example.com. A: records, secure, signed by KEY`},
		{"plain.org.", dns.TypeMX, `
. DNSKEY: a trust anchor matches, signed by KEY
org. DNSKEY: a DS of zone . matches, signed by KEY, KEY
plain.org. DS: insecure delegation, says zone org., signed by KEY (NSEC at the name (plain.org.))
plain.org. MX: records, insecure`},
		{"nowhere.example.com.", dns.TypeTLSA, `
. DNSKEY: a trust anchor matches, signed by KEY
com. DNSKEY: a DS of zone . matches, signed by KEY, KEY
example.com. DNSKEY: a DS of zone com. matches, signed by KEY, KEY
nowhere.example.com. TLSA: denied, secure, signed by KEY (nxdomain: NSEC that covers the name, and one that covers the wildcard *.example.com. (x.non.terminal.example.com.))`},
	} {
		want := strings.ReplaceAll(strings.TrimPrefix(c.want, "\n"), "x.non.terminal", nsecOwner(w, "nowhere.example.com."))
		if got := text(w.lookup(c.n, c.rrtype)); got != want {
			t.Errorf("%s %s:\n%s\nwant:\n%s", c.n, typeName(c.rrtype), got, want)
		}
	}
	// Where it broke.
	w.tamper = forQuery("example.com.", dns.TypeDNSKEY, stripped)
	got := text(w.lookup("mx1.example.com.", dns.TypeA))
	for _, part := range []string{"com. DNSKEY: a DS of zone . matches", "example.com. DNSKEY: broken (not signed)"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in:\n%s", part, got)
		}
	}
}

func nsecOwner(w *world, n string) string {
	return strings.TrimSuffix(w.zones["example.com."].nsecFor(n).Header().Name, ".example.com.")
}

func TestErrorsSayWhy(t *testing.T) {
	w := standard(t)
	w.tamper = forQuery("example.com.", dns.TypeMX, stripped)
	err := w.lookup("example.com.", dns.TypeMX).Err
	if got := err.Error(); got != "dnssec: example.com. MX: not signed" || err.Why.ExtendedError() != 10 {
		t.Errorf("%q %d", got, err.Why.ExtendedError())
	}
	for w := Unclassified; w <= Loop; w++ {
		if strings.HasPrefix(w.String(), "why(") {
			t.Errorf("reason %d has no words", w)
		}
	}
	if got := Why(99).String(); got != "why(99)" {
		t.Error(got)
	}
}
