package snippet

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// NewestSendmail is what is assumed where none is installed.
const NewestSendmail = "8.18.2"

// Sendmail is what is known of an installed Sendmail.
type Sendmail struct {
	// Version is what "sendmail -d0.1" says; empty: none is installed.
	Version string
	// Lacks are the compile options that FEATURE(tlsverdict) needs and that are not there.
	Lacks []string
	// DANE: it is built with it.
	DANE bool
	// CF is the directory of its m4 files; empty is /usr/share/sendmail/cf.
	CF string
	// HasSTS: sendmail.mc has FEATURE(sts), in the place of which ours stands.
	HasSTS bool
	// FileMissing: tlsverdict.m4 is not in Shared.
	FileMissing bool
}

// SendmailHasDANE reports whether a release can be built with DANE: from 8.18 on.
func SendmailHasDANE(release string) bool { return !parseVersion(release).before(8, 18, 0) }

const sendmailMC = "/etc/mail/sendmail.mc"

// For is the configuration that has it ask policyd. The error is ErrUnfit.
func (m Sendmail) For(d Daemon) (Snippet, error) {
	d = d.settled()
	if m.Version == "" {
		m.Version, m.DANE = NewestSendmail, true
	}
	if TooOld("sendmail", m.Version) {
		return Snippet{}, fmt.Errorf("%w: Sendmail %s; 8.17 is the first that FEATURE(tlsverdict) works with", ErrUnfit, m.Version)
	}
	if len(m.Lacks) > 0 {
		return Snippet{}, fmt.Errorf("%w: this Sendmail %s is built without %s", ErrUnfit, m.Version, strings.Join(m.Lacks, ", "))
	}
	m.CF = or(m.CF, "/usr/share/sendmail/cf")
	s := Snippet{MTA: "sendmail", Version: m.Version, Then: []string{"make -C /etc/mail", "/etc/init.d/sendmail restart"}}
	s.Notes = append(s.Notes, fmt.Sprintf("Sendmail %s. policyd is asked at %s.", m.Version, d.ask()))
	switch {
	case !m.DANE:
		s.Notes = append(s.Notes, "This Sendmail has no DANE: TLS is demanded where a verdict asks for DANE, with whatever key.")
	case d.noResolver() != "":
		s.Notes = append(s.Notes, d.noResolver()+" Until then TLS is demanded instead, with whatever key.")
	}
	if m.HasSTS {
		s.Notes = append(s.Notes, "The line FEATURE(`sts') in "+sendmailMC+" goes: this feature stands in its place.")
	}
	if d.unix() != "" {
		s.Notes = append(s.Notes, "No directory of the socket's path may be writable for group or others.")
	}
	s.First = m.first()
	s.Parts = append(s.Parts, d.withoutPostfix(m.DANE && d.Resolver.IsValid())...)
	s.Parts = append(s.Parts, part(sendmailMC, "below its other FEATURE lines and above MAILER_DEFINITIONS", "dnl", m.lines(d)...))
	return s, nil
}

// first has the feature where FEATURE looks for it: there alone.
func (m Sendmail) first() []string {
	feature := filepath.Join(m.CF, "feature") + "/"
	if m.FileMissing {
		return []string{"cp contrib/sendmail/tlsverdict.m4 " + feature}
	}
	return []string{"ln -sf " + Shared + "/sendmail/tlsverdict.m4 " + feature}
}

func (m Sendmail) lines(d Daemon) []string {
	lines := []string{
		"define(`confCACERT_PATH', `" + d.CADirectory + "')dnl",
		"define(`confCACERT', `" + d.CAFile + "')dnl",
	}
	if m.DANE {
		dane := "define(`confDANE', `true')dnl"
		if !d.Resolver.IsValid() {
			dane = "dnl " + dane
		}
		lines = append(lines, dane)
	}
	if address := sendmailAddress(d); address != "inet:8461@127.0.0.1" {
		return append(lines, "FEATURE(`tlsverdict', `"+address+"')dnl")
	}
	return append(lines, "FEATURE(`tlsverdict')dnl")
}

// sendmailAddress is an address in Sendmail's spelling.
func sendmailAddress(d Daemon) string {
	if path := d.unix(); path != "" {
		return "local:" + path
	}
	host, port, err := net.SplitHostPort(d.ask().Endpoint())
	if err != nil { // an Address has both
		panic(fmt.Sprintf("snippet: %v: %v", d.ask(), err))
	}
	family := "inet:"
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		family = "inet6:"
	}
	return family + port + "@" + host
}
