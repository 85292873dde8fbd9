package dnssec

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

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
	for why, code := range map[Why]uint16{NoKey: 9, NoKeys: 9, NoAnchor: 5, Loop: 6, NoReply: 22, OverBudget: 0} {
		if got := why.ExtendedError(); got != code || strings.HasPrefix(why.String(), "why(") {
			t.Errorf("%v: %d", why, got)
		}
	}
	for why, bogus := range map[Why]bool{NoKey: true, NoKeys: true, NoAnchor: false, NoReply: false} {
		if (&Error{Why: why}).Bogus() != bogus {
			t.Errorf("%v: bogus is %v", why, !bogus)
		}
	}
	if got := Why(99).String(); got != "why(99)" {
		t.Error(got)
	}
}

// TestTextsAreForPeople: whatever a name, a server or a file holds, one line of bounded
// length can be printed of it.
func TestTextsAreForPeople(t *testing.T) {
	long := mustName(strings.Repeat(strings.Repeat(`\255`, 63)+".", 3) + strings.Repeat(`\000`, 61) + ".")
	for _, text := range []string{
		(&Error{Why: BadSignature, Subject: subject(long, dns.TypeA), Detail: long.String() + long.String()}).Error(),
		(&Error{Why: NoReply, Subject: "x.", Err: errors.New("\x1b[31m\r\n\u202e\xff" + strings.Repeat("é", 900))}).Error(),
		Step{Kind: StepRecords, Subject: subject(long, dns.TypeA), Detail: "\n" + long.String()}.String(),
	} {
		if len(text) > mostText+3 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%d octets: %q", len(text), text)
		}
	}
}

// TestUnanswerableTypes: a bitmap lists none of them, so that it would deny them.
func TestUnanswerableTypes(t *testing.T) {
	w := standard(t)
	for _, rrtype := range []uint16{0, dns.TypeOPT, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, typeNXNAME, dns.TypeTSIG, dns.TypeAXFR, dns.TypeANY} {
		refused(t, w.lookup("mx1.example.com.", rrtype), Malformed)
	}
	if len(w.asked) > 0 {
		t.Errorf("asked %v", w.asked)
	}
}
