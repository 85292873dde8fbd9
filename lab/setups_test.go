package lab

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// setup is one way to run a mail server: which resolver it has, and what policyd
// is told of DNSSEC. One lab goes through all of them, one after another.
type setup struct {
	name     string
	resolver string // what /etc/resolv.conf names, for policyd and for the mail server
	here     string // what the resolver on the mail server does: nothing, validates, forwards
	upstream string // more of its configuration: whom it asks
	dnssec   string // [dns] dnssec
	dane     string // [postfix] dane
	more     string // more of policyd.toml
	signals  string // more of its [signals]
	lies     []lie  // what the liar says from the start on
	prints   bool   // policyd tells Postfix the fingerprints of DANE, and does not leave DANE to it
	says     string // a regular expression that policyd's log matches: what it found out
	// Of Postfix: smtp(8) has no chroot, and asks over a unix socket.
	unchrooted bool
	tlsrpt     bool   // it reports what it sends (RFC 8460), from 3.10 on
	milter     bool   // mail passes through the milter first
	implicit   bool   // it asks for transports, and knows the one for port 26
	stock      string // it is as its distribution installs it; in which way
	kept       bool   // nothing is installed: the setup before has left it so
	shown      bool   // docs/mta-outcomes.md has what it comes to
	alone      bool   // it takes long, and has a machine of its own beside the others
	acts       func(*lab, *testing.T)
}

// Where a setup's resolver is.
const (
	// local is on the mail server itself.
	local = "127.0.0.1"
	// provider is somebody else's, out in the internet: it hands DNSSEC records on
	// and validates nothing.
	provider = "198.51.100.54"
	// lying does the same, until it is told to lie.
	lying = "198.51.100.55"
)

// What a resolver on the mail server does: unbound's module-config.
const (
	nothing   = ""
	validates = "validator iterator"
	forwards  = "iterator" // signatures too, but says nothing of what they are worth
)

// forgetful makes policyd drop a verdict soon, and so see soon that a resolver is
// mended.
const forgetful = `
[cache]
min_ttl = "1s"
max_ttl = "2s"
`

// What policyd finds out about Postfix's resolver, with dane = "auto", and about its
// own.
const (
	saysNative    = `DANE is left to Postfix" because="its resolver validates: 127\.0\.0\.1:53"`
	saysElsewhere = `DANE is answered as fingerprints" because="Postfix's resolver \S+ is not on this host"`
	saysForwards  = `DANE is answered as fingerprints" because="Postfix's resolver 127\.0\.0\.1:53 does not validate`
	saysMisled    = `level=ERROR msg="DANE is left to Postfix, as configured, and it cannot do it`
	saysStripped  = `answers that pass through 198\.51\.100\.55:53 cannot be validated .* let it pass DNSSEC records on`
	saysUnsigned  = `answers that pass through 198\.51\.100\.55:53 cannot be validated .* it does not pass DNSSEC records on`
)

// setups returns those of a machine.
func (b box) setups() []setup {
	return slices.Concat(b.programSetups(), b.snippetSetups(), b.attackSetups())
}

// programSetups are all but those of the attacks: every one for Postfix, which is tested
// in breadth. The others differ in how they enforce a verdict, not in how policyd finds
// it.
func (b box) programSetups() []setup {
	table := setup{name: "table", resolver: local, here: validates, dnssec: "validate", dane: "native", alone: true, shown: true, acts: (*lab).table}
	implicit := setup{
		name: "implicit", resolver: local, here: validates, dnssec: "validate", dane: "native", signals: "implicit_tls = \"on\"\nimplicit_tls_turn = \"0s\"",
		implicit: true, alone: true, shown: true, acts: (*lab).implicitly,
	}
	filtered := setup{name: "milter", resolver: local, here: validates, dnssec: "validate", dane: "native", milter: true, shown: true, acts: (*lab).filtered}
	switch b.server() {
	case "exim":
		implicit.signals += "\nimplicit_tls_own = []" // there is no Postfix to ask
		// Debian's configuration, put together from many files or from one.
		split, unsplit := table, table
		split.name, split.alone, split.shown, split.acts = "split", false, false, (*lab).some
		unsplit.name, unsplit.alone, unsplit.shown, unsplit.acts = "unsplit", false, false, (*lab).some
		return []setup{
			table, implicit, split, unsplit,
			{name: "own", resolver: local, here: validates, dnssec: "validate", dane: "native", acts: (*lab).eximsOwn},
			{name: "doctor", resolver: local, here: validates, dnssec: "validate", dane: "native", acts: (*lab).doctored},
			{name: "deceived", resolver: lying, dnssec: "validate", dane: "native", lies: liesToExim(), acts: (*lab).deceived},
		}
	case "sendmail":
		own := table
		own.name, own.alone, own.shown, own.acts = "own", false, false, (*lab).sendmailsOwn
		treated := own
		treated.name, treated.acts = "doctor", (*lab).doctored
		return []setup{table, filtered, own, treated}
	}
	all := []setup{
		// A validating resolver on the mail server.
		{name: "native", resolver: local, here: validates, dnssec: "validate", dane: "native", acts: (*lab).everything},
		{name: "auto-native", resolver: local, here: validates, dnssec: "validate", dane: "auto", says: saysNative, acts: (*lab).dane},
		{name: "trust-ad", resolver: local, here: validates, dnssec: "trust-ad", dane: "native", acts: (*lab).dane},
		{name: "unchrooted", resolver: local, here: validates, dnssec: "validate", dane: "auto", unchrooted: true, says: saysNative, acts: (*lab).dane},
		// None.
		{name: "fingerprint", resolver: provider, dnssec: "validate", dane: "fingerprint", prints: true, acts: (*lab).everything},
		{name: "auto-fingerprint", resolver: provider, dnssec: "validate", dane: "auto", prints: true, says: saysElsewhere, acts: (*lab).dane},
		// One that does not validate.
		{name: "auto-forwarder", resolver: local, here: forwards, dnssec: "validate", dane: "auto", prints: true, says: saysForwards, acts: (*lab).dane},
		// One that lies.
		{name: "flagged", resolver: lying, dnssec: "validate", dane: "auto", lies: []lie{flagged()}, prints: true, says: saysElsewhere, acts: (*lab).dane},
		{name: "misled", resolver: lying, dnssec: "validate", dane: "native", lies: []lie{flagged()}, says: saysMisled, acts: (*lab).misled},
		{name: "stripped", resolver: lying, dnssec: "validate", dane: "fingerprint", lies: []lie{stripped()}, more: forgetful, prints: true, says: saysStripped, acts: (*lab).stripped},
		{name: "unsigned", resolver: lying, dnssec: "validate", dane: "fingerprint", lies: []lie{unsigned(".")}, more: forgetful, prints: true, says: saysUnsigned, acts: (*lab).stripped},
		{name: "forged", resolver: lying, dnssec: "validate", dane: "fingerprint", lies: []lie{flagged()}, more: forgetful, prints: true, acts: (*lab).forged},
	}
	all = append(all, table, filtered, implicit)
	all = append(all, setup{name: "doctor", resolver: local, here: validates, dnssec: "validate", dane: "auto", alone: true, acts: (*lab).doctored})
	if b.version() != "3.7" {
		all = append(all, setup{name: "lint", resolver: local, here: validates, dnssec: "validate", dane: "native", acts: (*lab).linted})
		all = append(all, setup{name: "tlsrpt", resolver: local, here: validates, dnssec: "validate", dane: "native", tlsrpt: true, acts: (*lab).reported})
		all = append(all, setup{name: "tlsrpt-may", resolver: local, here: validates, dnssec: "validate", dane: "native", tlsrpt: true, more: "report_level = \"may\"\n", acts: (*lab).reported})
	}
	return all
}

// start makes the mail server anew as a setup says: nothing of an earlier one is
// left but the binaries. What runs ends with the test.
func (l *lab) start(t *testing.T, s setup) {
	t.Helper()
	l.setup = s
	for _, h := range l.internet.hosts {
		h.become(h.described)
	}
	l.liar.become(s.lies...)
	l.servePolicies(t)
	if err := l.install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.here != nothing {
		l.dns.startLocal(t, l.mta, s.here, s.upstream)
	}
	l.policyd.start(t.Context(), t)
	if s.milter {
		l.milter = l.startMilter(t.Context(), t)
	}
	l.program.start(t.Context(), t)
	if s.says != "" {
		err := eventually(t.Context(), func() bool { return regexp.MustCompile("(?i)" + s.says).MatchString(l.policyd.said()) })
		if err != nil {
			t.Errorf("policyd's log does not match %q:\n%s", s.says, l.policyd.said())
		}
	}
}

// install writes the configuration of the mail server and of policyd.
func (l *lab) install(ctx context.Context) error {
	if l.setup.kept {
		return errors.Join(l.remove("var/log/*.log", "var/lib/tlsverdict/*"), l.program.clean())
	}
	return errors.Join(l.program.install(ctx, l.setup), l.clean())
}

// clean removes mail, logs and policyd's store, and writes what differs between
// setups. Nothing runs meanwhile.
func (l *lab) clean() error {
	err := errors.Join(l.remove("var/log/*.log", "var/lib/tlsverdict/*"), l.program.clean())
	resolvConf := fmt.Sprintf("nameserver %s\noptions edns0 trust-ad\n", l.setup.resolver)
	sockets := ""
	if l.server() == "postfix" {
		sockets = `, "unix:/var/spool/postfix/private/tlsverdict"`
		// smtp(8) is chrooted; Debian's start script makes this copy.
		err = errors.Join(err, l.write(map[string]string{"var/spool/postfix/etc/resolv.conf": resolvConf}))
	}
	return errors.Join(err, l.write(map[string]string{
		"etc/resolv.conf":             resolvConf,
		"etc/tlsverdict/policyd.toml": fmt.Sprintf(policydConf, sockets, l.setup.dnssec, l.setup.dane, l.setup.more, l.setup.signals),
	}))
}

// in returns a row as it must come out in a setup.
func (o outcome) in(s setup, in *internet) outcome {
	o.setup = s.name
	switch {
	case !s.prints || o.prints == "":
	case o.prints == "TEMP":
		o.reply, o.status, o.log, o.log310, o.host, o.how = "TEMP", "deferred", deferredByPolicy, "", "", ""
	default:
		prints, sni, _ := strings.Cut(o.prints, " sni:")
		o.reply = "OK fingerprint match=" + in.fingerprints(prints) + " servername=hostname"
		if sni != "" {
			o.how = "sni=" + sni
		}
	}
	return o
}

// fingerprints turns "key:HOST" and "certificate:HOST" into digests; other words
// are taken as they are.
func (in *internet) fingerprints(words string) string {
	var all []string
	for _, w := range strings.Fields(words) {
		kind, name, _ := strings.Cut(w, ":")
		selectors := map[string]string{"certificate": "0", "key": "1"}
		if h := in.host(name); h != nil && selectors[kind] != "" {
			digest, err := association(h, "3", selectors[kind], "1")
			if err != nil {
				return err.Error() // equal to no answer
			}
			w = colons(digest)
		}
		all = append(all, w)
	}
	return strings.Join(all, "|")
}

// colons writes a digest in hexadecimal as a policy line has it: aa:bb:cc.
func colons(digest string) string {
	var pairs []string
	for pair := range slices.Chunk([]byte(digest), 2) {
		pairs = append(pairs, string(pair))
	}
	return strings.Join(pairs, ":")
}

func TestOutcomeInSetup(t *testing.T) {
	ca, err := newAuthorities()
	if err != nil {
		t.Fatal(err)
	}
	in, err := readInternet("testdata/internet.txtar", ca)
	if err != nil {
		t.Fatal(err)
	}
	row := outcome{name: "a", reply: "OK dane-only", prints: "key:mx.dane.example aa:bb", status: "sent"}
	if got := row.in(setup{name: "s"}, in); got.recipient() != "a.s@" || got.reply != "OK dane-only" {
		t.Errorf("without fingerprints: %+v", got)
	}
	got := row.in(setup{name: "s", prints: true}, in).reply
	if want := regexp.MustCompile(`^OK fingerprint match=([0-9a-f]{2}:){31}[0-9a-f]{2}\|aa:bb servername=hostname$`); !want.MatchString(got) {
		t.Errorf("with fingerprints: %q", got)
	}
	row.prints = "TEMP"
	if got := row.in(setup{name: "s", prints: true}, in); got.reply != "TEMP" || got.status != "deferred" {
		t.Errorf("where none can be told: %+v", got)
	}
}
