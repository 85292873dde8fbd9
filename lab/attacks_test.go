package lab

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// attackTable is docs/attacks.md as it was written down before anything was attacked.
// Each cell has assaults, whose letters must be those of the cell, or a reason to have
// none.
func attackTable() []attackRow {
	return []attackRow{
		{"strip", "STARTTLS is stripped from the answer to EHLO", cells{"dane": "D", "sts": "D", "first": "D C", "prefix": "D", "txt": "D", "rr": "D", "banner": "D"}},
		{"mx", "the MX is forged, or renamed", cells{"dane": "D", "sts": "D", "first": "D C", "prefix": "D", "txt": "D", "rr": "D", "banner": "C"}},
		{"lookups", "lookups are answered with SERVFAIL, or dropped", cells{"dane": "D", "sts": "D", "first": "C", "prefix": "D", "txt": "D", "rr": "D", "banner": "D"}},
		{"untrusted", "somebody in between, with a certificate that nobody trusts", cells{"dane": "D", "sts": "D", "first": "D C", "prefix": "D", "txt": "D C", "rr": "D C", "banner": "D"}},
		{"misissued", "somebody in between, with a certificate for the right name that a trusted CA issued by mistake", cells{"dane": "D", "sts": "C", "first": "C", "prefix": "C", "txt": "C", "rr": "C", "banner": "C"}},
		{"policy", "the policy host is blocked", cells{
			"dane": "DANE has no policy host", "sts": "D", "first": "C", "prefix": "there is no policy host", "txt": "there is no policy host", "rr": "there is no policy host", "banner": "there is no policy host",
		}},
		{"port26", "connections to port 26 are reset", cells{
			"dane": "no `smtps-` name", "sts": "no `smtps-` name", "first": "no `smtps-` name", "prefix": "D", "txt": "no `smtps-` name", "rr": "no `smtps-` name", "banner": "no `smtps-` name",
		}},
		{"dnssec", "signatures, or the DS record, are stripped from answers", cells{
			"dane": "D", "sts": "MTA-STS needs no DNSSEC", "first": "MTA-STS needs no DNSSEC", "prefix": "D", "txt": "D", "rr": "D", "banner": "pins need no DNSSEC",
		}},
		{"false", "a false signal is injected", cells{"dane": "D", "sts": "D", "first": "D", "prefix": "D", "txt": "D", "rr": "D", "banner": "D"}},
	}
}

type attackRow struct {
	name, title string
	cells       cells
}

// cells are the letters of a row by signal, each once, or the reason for none.
type cells map[string]string

// attackedSignals are the columns of the table, from left to right.
func attackedSignals() []attackedSignal {
	return []attackedSignal{
		{"dane", "DANE"},
		{"sts", "MTA-STS, policy known"},
		{"first", "MTA-STS, first contact"},
		{"prefix", "`smtps-` or `starttls-`, signed"},
		{"txt", "TXT record, signed"},
		{"rr", "RR type, signed"},
		{"banner", "banner, host pinned"},
	}
}

type attackedSignal struct{ name, title string }

// A letter is what an attack comes to.
const (
	harmless = "D" // mail waits, or gets safely to the genuine host
	reached  = "C" // clear text, or somebody else has it
)

// assault is one mail to a domain that is attacked. Its situation is named
// ATTACK-SIGNAL, or ATTACK-SIGNAL-VARIANT, and so is its domain.
type assault struct {
	situation
	attack, signal string
	letter         string
	only           string // "where ...", in a cell that has both letters
	victim         victim
	host           string // which is the only one of the victim
	does           []string
	lies           func(l *lab) []lie
	says           *string // the banner that somebody on the way writes
	unasked        bool    // nobody asks what is lied about
}

// What somebody in between does.
const (
	strips    = "cleartext"
	resets    = "resets" // port 26
	untrusts  = "private"
	misissues = "trusted"
	// warm is that the domain was known before the attack began.
	warm = "warm"
	// pinned is the same where the verdict was that of the pin then, and is another now.
	pinned = "pinned"
)

// victim describes a domain, in the form of testdata/internet.txtar.
type victim func(domain string) string

// zoned is a domain with one MX host.
func zoned(signed, host, kind string, records ...string) victim {
	return func(domain string) string {
		return fmt.Sprintf("-- %s %s --\n@ MX 10 %s\n%[3]s HOST %s\n%s\n", domain, signed, host, kind,
			strings.ReplaceAll(strings.Join(records, "\n"), "DOMAIN", domain))
	}
}

// The victims. The policy host of a blockable one is up until it is attacked.
func withDANE() victim {
	return zoned("signed", "mx", "self-signed", "_25._tcp.mx TLSA 3 1 1 OF mx.DOMAIN")
}
func withSTS() victim       { return policied("up") }
func blockableSTS() victim  { return policied("blocked") }
func withPrefix() victim    { return zoned("signed", "smtps-mx", "trusted") }
func withPort26() victim    { return zoned("signed", "smtps-mx", "trusted port26") }
func withBanner() victim    { return zoned("", "mx", "trusted banner") }
func plainUnsigned() victim { return zoned("", "mx", "trusted") }
func plainSigned() victim   { return zoned("signed", "mx", "trusted") }

func policied(reach string) victim {
	return func(domain string) string {
		return plainUnsigned()(domain) + fmt.Sprintf("-- policy %s %s --\nversion: STSv1\nmode: enforce\nmx: mx.%[1]s\nmax_age: 86400\n", domain, reach)
	}
}

const (
	strictTLS  = "v=SMTPSTRICT1; tls=required"
	strictAuth = "v=SMTPSTRICT1; tls=required; auth=webpki"
)

func withTXT(payload string) victim {
	return zoned("signed", "mx", "trusted", `_smtp-strict TXT "`+payload+`"`)
}

func withRR(payload string) victim {
	return zoned("signed", "mx", "trusted", "@ "+strictRR(payload))
}

// strictRR is the record type with a payload, in the form of RFC 3597 §5.
func strictRR(payload string) string {
	data := append([]byte{byte(len(payload))}, payload...)
	return fmt.Sprintf(`TYPE65400 \# %d %s`, len(data), hex.EncodeToString(data))
}

const typeStrict = 65400

// assaultOn begins an assault: NAME is ATTACK-SIGNAL-VARIANT.
func assaultOn(name, title string, v victim, verdict string) assault {
	words := strings.SplitN(name, "-", 3)
	a := assault{attack: words[0], signal: words[1], victim: v, letter: harmless}
	domain := name + ".example"
	a.host = "mx." + domain
	if strings.Contains(v(domain), "smtps-mx HOST") {
		a.host = "smtps-mx." + domain
	}
	a.situation = situation{
		name: name, title: title, when: "attack", to: one(domain), verdict: one(verdict), ends: everywhere(waits),
	}
	return a
}

// by has somebody in between do something.
func (a assault) by(does ...string) assault { a.does = append(slices.Clone(a.does), does...); return a }

// saying has a banner replaced.
func (a assault) saying(banner string) assault { a.says = &banner; return a }

// lying has DNS answers forged.
func (a assault) lying(lies func(*lab) []lie) assault { a.lies = lies; return a }

// where tells which of the cell's assaults have its letter.
func (a assault) where(only string) assault { a.only = only; return a }

// sent has the mail end with a host, and that is as it should be.
func (a assault) sent(n need, protection string) assault {
	a.needs, a.situation.by, a.ends = one(n), one(a.host), everywhere(to(protection, a.host))
	return a
}

// lost has the mail end in the wrong hands.
func (a assault) lost(n need, protection string) assault {
	a = a.sent(n, protection)
	a.letter = reached
	return a
}

// lostTo is the same where these are of another host.
func (a assault) lostTo(host string, n need, protection string) assault {
	genuine := a.host
	a.host = host
	a = a.lost(n, protection)
	a.host = genuine
	return a
}

// domain is in master file form.
func (a assault) domain() string { return a.to[0] + "." }

func lie1(l lie) func(*lab) []lie { return func(*lab) []lie { return []lie{l} } }

// toImpostor forges the MX of a domain.
func toImpostor(name string) lie { return forge(name + ".example. 60 MX 10 mx.impostor.example.") }

// renamed forges the MX of a domain: another name, the same addresses.
func renamed(name, host, as string) func(*lab) []lie {
	return func(l *lab) []lie {
		domain := name + ".example."
		h, as := l.internet.host(host+"."+name+".example"), as+"."+domain
		return []lie{forge(domain+" 60 MX 10 "+as, as+" 60 A "+h.ipv4(), as+" 60 AAAA "+h.ipv6())}
	}
}

// assaults are all there are, in the order of the table.
func assaults() []assault {
	return slices.Concat(assaultsStripped(), assaultsMX(), assaultsLookups(), assaultsBetween(untrusts), assaultsBetween(misissues),
		assaultsPolicy(), assaultsPort26(), assaultsDNSSEC(), assaultsFalse())
}

const (
	bySTS    = "secure by mta-sts"
	byDANE   = "dane-only by dane"
	byPrefix = "secure by prefix"
	byTXT    = "encrypt by txt"
	byRR     = "encrypt by rr"
	byBanner = "secure by banner"
	byNone   = "none by none"
	byNobody = "defer"
)

func assaultsStripped() []assault {
	return []assault{
		assaultOn("strip-dane", "", withDANE(), byDANE).by(strips),
		assaultOn("strip-sts", "", withSTS(), bySTS).by(strips, warm),
		assaultOn("strip-first", "", withSTS(), bySTS).by(strips).where("if the policy can be fetched"),
		assaultOn("strip-first-blocked", "the policy host is blocked, too", blockableSTS(), byNone).by(strips).lost(delivery, clear).where("if not"),
		assaultOn("strip-prefix", "", withPrefix(), byPrefix).by(strips),
		assaultOn("strip-txt", "", withTXT(strictTLS), byTXT).by(strips),
		assaultOn("strip-rr", "", withRR(strictTLS), byRR).by(strips),
		assaultOn("strip-banner", "", withBanner(), byBanner).by(strips, warm),
		assaultOn("strip-banner-too", "the banner is stripped, too", withBanner(), byBanner).by(strips, warm).saying(""),
	}
}

func assaultsMX() []assault {
	return []assault{
		assaultOn("mx-dane", "an impostor's host for the genuine one", withDANE(), byNobody).lying(lie1(toImpostor("mx-dane"))),
		assaultOn("mx-sts", "an impostor's host for the genuine one", withSTS(), bySTS).by(warm).lying(lie1(toImpostor("mx-sts"))),
		assaultOn("mx-first", "an impostor's host for the genuine one", withSTS(), bySTS).lying(lie1(toImpostor("mx-first"))).where("if the policy can be fetched"),
		assaultOn("mx-first-suppressed", "an impostor's host for the genuine one; the TXT record of MTA-STS is suppressed, too", withSTS(), byNone).lying(func(*lab) []lie {
			return []lie{toImpostor("mx-first-suppressed"), nxdomain("_mta-sts.mx-first-suppressed.example.", dns.TypeTXT)}
		}).lostTo("mx.impostor.example", delivery, encrypted).where("if the TXT record is suppressed, too"),
		assaultOn("mx-prefix", "`smtps-mx` is renamed to `x7gh3`, with the same addresses", withPrefix(), byNobody).lying(renamed("mx-prefix", "smtps-mx", "x7gh3")),
		assaultOn("mx-txt", "an impostor's host for the genuine one", withTXT(strictTLS), byNobody).lying(lie1(toImpostor("mx-txt"))),
		assaultOn("mx-rr", "an impostor's host for the genuine one", withRR(strictTLS), byNobody).lying(lie1(toImpostor("mx-rr"))),
		assaultOn("mx-banner", "an impostor's host, which is not pinned, for the genuine one", withBanner(), byNone).by(pinned).lying(lie1(toImpostor("mx-banner"))).lostTo("mx.impostor.example", delivery, encrypted),
	}
}

// assaultsLookups strips STARTTLS besides: the lookup alone gains an attacker nothing.
func assaultsLookups() []assault {
	var all []assault
	for _, how := range []struct {
		variant, title string
		lie            func(string, uint16) lie
	}{{"", "SERVFAIL", servfail}, {"-drop", "no answer", dropped}} {
		of := func(signal, what, owner string, rrtype uint16, v victim, verdict string) assault {
			name := "lookups-" + signal + how.variant
			return assaultOn(name, how.title+" for "+what, v, verdict).by(strips).lying(lie1(how.lie(owner+name+".example.", rrtype)))
		}
		all = append(all,
			of("dane", "the TLSA records", "_25._tcp.mx.", dns.TypeTLSA, withDANE(), byNobody),
			of("sts", "the TXT record of MTA-STS", "_mta-sts.", dns.TypeTXT, withSTS(), bySTS).by(warm),
			of("first", "the TXT record of MTA-STS", "_mta-sts.", dns.TypeTXT, withSTS(), byNone).lost(delivery, clear),
			of("prefix", "the MX records", "", dns.TypeMX, withPrefix(), byNobody),
			of("txt", "the TXT record", "_smtp-strict.", dns.TypeTXT, withTXT(strictTLS), byNobody),
			of("rr", "the record", "", typeStrict, withRR(strictTLS), byNobody),
			of("banner", "the MX records", "", dns.TypeMX, withBanner(), byNobody).by(pinned),
		)
	}
	return all
}

// assaultsBetween have somebody read what passes, with a certificate.
func assaultsBetween(certificate string) []assault {
	attack := map[string]string{untrusts: "untrusted", misissues: "misissued"}[certificate]
	of := func(signal, title string, v victim, verdict string) assault {
		return assaultOn(attack+"-"+signal, title, v, verdict).by(certificate)
	}
	const public, auth = "`tls=required`", "`tls=required; auth=webpki`"
	all := []assault{
		of("dane", "", withDANE(), byDANE),
		of("sts", "", withSTS(), bySTS).by(warm),
		of("first", "", withSTS(), bySTS),
		of("prefix", "", withPrefix(), byPrefix),
		of("txt-auth", auth, withTXT(strictAuth), "secure by txt"),
		of("rr-auth", auth, withRR(strictAuth), "secure by rr"),
		of("banner", "", withBanner(), byBanner).by(warm),
	}
	if certificate == untrusts {
		all[2] = all[2].where("if the policy can be fetched")
		all[4], all[5] = all[4].where("with `auth=webpki`"), all[5].where("with `auth=webpki`")
		all = append(all, of("first-blocked", "the policy host is blocked, too", blockableSTS(), byNone).lost(delivery, encrypted).where("if not"))
	} else {
		for i := 1; i < len(all); i++ {
			all[i] = all[i].lost(authenticity, authenticated)
		}
	}
	return append(all,
		of("txt", public, withTXT(strictTLS), byTXT).lost(encryption, encrypted).where("without"),
		of("rr", public, withRR(strictTLS), byRR).lost(encryption, encrypted).where("without"))
}

func assaultsPolicy() []assault {
	return []assault{
		assaultOn("policy-sts", "STARTTLS is stripped, too", blockableSTS(), bySTS).by(strips, warm),
		assaultOn("policy-first", "STARTTLS is stripped, too", blockableSTS(), byNone).by(strips).lost(delivery, clear),
	}
}

func assaultsPort26() []assault {
	used := assaultOn("port26-prefix-used", "it was in use until then", withPort26(), byPrefix).by(resets, warm)
	used.needs, used.situation.by = one(authenticity), one(used.host)
	used.ends["sendmail"] = to(authenticated, used.host) // on port 25, as ever
	return []assault{
		assaultOn("port26-prefix", "from the first contact on", withPort26(), byPrefix).by(resets).sent(authenticity, authenticated),
		assaultOn("port26-prefix-strip", "from the first contact on; STARTTLS is stripped on port 25, too", withPort26(), byPrefix).by(resets, strips),
		used,
	}
}

// assaultsDNSSEC forge and strip what the missing proof would make believed.
func assaultsDNSSEC() []assault {
	var all []assault
	for _, how := range []struct {
		variant, title string
		lies           func(domain string) []lie
	}{
		{"", "no signatures", func(domain string) []lie { return []lie{unsigned(domain)} }},
		{"-ds", "no DS record, and no signatures", func(domain string) []lie { return []lie{nodata(domain, dns.TypeDS), unsigned(domain)} }},
	} {
		of := func(signal string, v victim) assault {
			name := "dnssec-" + signal + how.variant
			a := assaultOn(name, how.title+"; the MX is forged", v, byNobody)
			return a.lying(func(*lab) []lie { return append(how.lies(a.domain()), toImpostor(name)) })
		}
		all = append(all, of("dane", withDANE()), of("prefix", withPrefix()), of("txt", withTXT(strictTLS)), of("rr", withRR(strictTLS)))
	}
	return all
}

// assaultsFalse inject signals that would keep mail from a domain, or take a policy
// from it.
func assaultsFalse() []assault {
	record := func(text string) func(*lab) []lie { return lie1(forge(text)) }
	const digest = " 60 TLSA 3 1 1 ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	unsigned := assaultOn("false-dane", "a TLSA record in an unsigned domain, where nobody even asks for it", plainUnsigned(), byNone).lying(record("_25._tcp.mx.false-dane.example."+digest)).sent(delivery, encrypted)
	unsigned.unasked = true
	const txt = ` 60 TXT "` + strictAuth + `"`
	return []assault{
		unsigned,
		assaultOn("false-dane-signed", "a TLSA record in a signed domain", plainSigned(), byNobody).lying(record("_25._tcp.mx.false-dane-signed.example." + digest)),
		assaultOn("false-sts", "a new id, and a policy host that says `mode: none` without the domain's certificate; STARTTLS is stripped, too", withSTS(), bySTS).by(strips, warm).lying(falsePolicy("false-sts")),
		assaultOn("false-first", "an id, and a policy host without the domain's certificate, whose policy lists no host of the domain", plainUnsigned(), byNone).lying(falsePolicy("false-first")).sent(delivery, encrypted),
		assaultOn("false-prefix", "the MX of an unsigned domain is renamed to `starttls-x`", plainUnsigned(), byNone).lying(renamed("false-prefix", "mx", "starttls-x")).sent(delivery, encrypted),
		assaultOn("false-prefix-signed", "the MX of a signed domain is renamed to `starttls-x`", plainSigned(), byNobody).lying(renamed("false-prefix-signed", "mx", "starttls-x")),
		assaultOn("false-txt", "a record in an unsigned domain", plainUnsigned(), byNone).lying(record("_smtp-strict.false-txt.example."+txt)).sent(delivery, encrypted),
		assaultOn("false-txt-signed", "a record in a signed domain", plainSigned(), byNobody).lying(record("_smtp-strict.false-txt-signed.example." + txt)),
		assaultOn("false-rr", "a record in an unsigned domain", plainUnsigned(), byNone).lying(record("false-rr.example. 60 "+strictRR(strictAuth))).sent(delivery, encrypted),
		assaultOn("false-rr-signed", "a record in a signed domain", plainSigned(), byNobody).lying(record("false-rr-signed.example. 60 " + strictRR(strictAuth))),
		assaultOn("false-banner", "for a host without a certificate that anybody trusts", zoned("", "mx", "self-signed"), byNone).saying(promise("mx.false-banner.example")).sent(delivery, encrypted),
		assaultOn("false-banner-end", "the pinned host's is replaced by `max-age=0`; STARTTLS is stripped, too", withBanner(), byBanner).by(strips, warm).saying("strict-tls=mx.false-banner-end.example; max-age=0"),
	}
}

// falsePolicy leads to a policy host in the wrong hands.
func falsePolicy(name string) func(*lab) []lie {
	return lie1(forge("_mta-sts."+name+`.example. 60 TXT "v=STSv1; id=666;"`, "mta-sts."+name+".example. 60 A "+policyFalse))
}

// TestAttackTable holds that the assaults come to what the table says, and that each is
// as safe as its verdict demands.
func TestAttackTable(t *testing.T) {
	letters := map[string][]string{}
	for _, a := range assaults() {
		cell := a.attack + "-" + a.signal
		letters[cell] = append(letters[cell], a.letter)
		for _, m := range attackedServers() {
			if err := a.permits(m, 0, a.ends.of(m)); err != nil {
				t.Errorf("%s, %s: %v", a.name, m.name, err)
			}
		}
	}
	for _, row := range attackTable() {
		for _, signal := range attackedSignals() {
			cell := row.name + "-" + signal.name
			got := letters[cell]
			slices.Sort(got)
			slices.Reverse(got)
			want := row.cells[signal.name]
			if !isLetters(want) && want != "" {
				want = "" // a reason
			} else if want == "" {
				t.Errorf("%s has neither a letter nor a reason", cell)
			}
			if got := strings.Join(slices.Compact(got), " "); got != want {
				t.Errorf("%s: the assaults come to %q, want %q", cell, got, want)
			}
			delete(letters, cell)
		}
	}
	for cell := range letters {
		t.Errorf("%s is not in the table", cell)
	}
}

func isLetters(cell string) bool {
	return slices.Contains([]string{harmless, reached, harmless + " " + reached}, cell)
}
