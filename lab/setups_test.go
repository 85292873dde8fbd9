package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// setup is one way to run a mail server: which resolver it has, and what policyd
// is told of DNSSEC. One lab goes through all of them, one after another.
type setup struct {
	name     string
	resolver string // what /etc/resolv.conf names, for policyd and for Postfix: local, provider or liar
	dnssec   string // [dns] dnssec
	dane     string // [postfix] dane
	more     string // more of policyd.toml
	prints   bool   // policyd tells Postfix the fingerprints of DANE, and does not leave DANE to it
	lies     []lie  // what liar says from the start on
	says     string // a regular expression that policyd's log matches: what it found out
	acts     func(*lab, *testing.T)
}

// The resolvers that a setup may have.
const (
	// local validates, on the mail server itself.
	local = "127.0.0.1"
	// provider is somebody else's, out in the internet: it hands DNSSEC records on
	// and validates nothing.
	provider = "198.51.100.54"
	// liar is like provider's, until it is told to lie.
	liarAddress = "198.51.100.55"
)

// forgetful makes policyd drop a verdict soon, and so see soon that a resolver is
// mended.
const forgetful = `
[cache]
min_ttl = "1s"
max_ttl = "2s"
`

func setups() []setup {
	return []setup{
		// A validating resolver on the mail server.
		{name: "native", resolver: local, dnssec: "validate", dane: "native", acts: (*lab).everything},
		{name: "auto-native", resolver: local, dnssec: "validate", dane: "auto", acts: (*lab).dane},
		{name: "trust-ad", resolver: local, dnssec: "trust-ad", dane: "native", acts: (*lab).dane},
	}
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
	if err := l.clean(); err != nil {
		t.Fatal(err)
	}
	if s.resolver == local {
		l.dns.startLocal(t.Context(), t, l.mta)
	}
	l.policyd.start(t.Context(), t)
	l.postfix.start(t.Context(), t)
	if s.says != "" {
		err := eventually(t.Context(), func() bool { return regexp.MustCompile("(?i)" + s.says).MatchString(l.policyd.said()) })
		if err != nil {
			t.Errorf("policyd's log does not match %q:\n%s", s.says, l.policyd.said())
		}
	}
}

// clean removes mail, logs and policyd's store, and writes what differs between
// setups. Nothing runs meanwhile.
func (l *lab) clean() error {
	for _, pattern := range []string{
		"var/log/*.log", "var/lib/tlsverdict/*",
		"var/spool/postfix/incoming/*", "var/spool/postfix/active/*", "var/spool/postfix/defer*/*",
	} {
		files, err := filepath.Glob(filepath.Join(l.policyd.root, pattern))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.RemoveAll(f); err != nil {
				return err
			}
		}
	}
	resolvConf := fmt.Sprintf("nameserver %s\noptions edns0 trust-ad\n", l.setup.resolver)
	for file, text := range map[string]string{
		"etc/resolv.conf": resolvConf,
		// smtp(8) is chrooted; Debian's start script makes this copy.
		"var/spool/postfix/etc/resolv.conf": resolvConf,
		"etc/tlsverdict/policyd.toml":       fmt.Sprintf(policydConf, l.setup.dnssec, l.setup.dane, l.setup.more),
	} {
		if err := os.WriteFile(filepath.Join(l.policyd.root, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// in returns a row as it must come out in a setup.
func (o outcome) in(s setup, in *internet) outcome {
	o.setup = s.name
	switch {
	case !s.prints || o.prints == "":
	case o.prints == "TEMP":
		o.reply, o.status, o.log, o.log310, o.host, o.how = "TEMP", "deferred", deferredByPolicy, "", "", ""
	default:
		o.reply = "OK fingerprint match=" + in.fingerprints(o.prints) + " servername=hostname"
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

// colons writes a digest as Postfix's own tools do: AA:BB:CC.
func colons(digest string) string {
	var pairs []string
	for i := 0; i+2 <= len(digest); i += 2 {
		pairs = append(pairs, strings.ToUpper(digest[i:i+2]))
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
	row := outcome{name: "a", reply: "OK dane-only", prints: "key:mx.dane.example AA:BB", status: "sent"}
	if got := row.in(setup{name: "s"}, in); got.recipient() != "a.s@" || got.reply != "OK dane-only" {
		t.Errorf("without fingerprints: %+v", got)
	}
	got := row.in(setup{name: "s", prints: true}, in).reply
	if want := regexp.MustCompile(`^OK fingerprint match=([0-9A-F]{2}:){31}[0-9A-F]{2}\|AA:BB servername=hostname$`); !want.MatchString(got) {
		t.Errorf("with fingerprints: %q", got)
	}
	row.prints = "TEMP"
	if got := row.in(setup{name: "s", prints: true}, in); got.reply != "TEMP" || got.status != "deferred" {
		t.Errorf("where none can be told: %+v", got)
	}
}
