package snippet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"tlsverdict/postfixmap"
)

// ErrUnfit: this mail server cannot do what a verdict demands. There is nothing to paste.
var ErrUnfit = errors.New("snippet: cannot ask policyd")

// Shared is where packages put the files of contrib that a mail server reads.
const Shared = "/usr/share/tlsverdict"

// Daemon is what a mail server's configuration depends on of policyd's.
type Daemon struct {
	// Address is where policyd is asked. The zero Address is DefaultAddress.
	Address postfixmap.Address
	// Implicit is TLS from the first octet on.
	Implicit Implicit
	// Config is the file that policyd reads its settings from.
	Config string
	// DANE is [postfix] dane: "auto", "native" or "fingerprint"; empty is "auto".
	DANE string
	// ResolverNamed: [postfix] dane_resolver is set.
	ResolverNamed bool
	// Fingerprints: DANE is answered as those.
	Fingerprints bool
	// Resolver is the one on this host that /etc/resolv.conf names; invalid where it names
	// one elsewhere.
	Resolver netip.Addr
	// CAFile has the certificates of public CAs, CADirectory the same one a file; empty is
	// where Debian has them.
	CAFile, CADirectory string
}

// Implicit is [signals] implicit_tls.
type Implicit struct {
	// On is whether it is.
	On bool
	// AsksPostfix: which domains the mail server has a way of its own for is asked of
	// Postfix.
	AsksPostfix bool
	// Transport is the name in master.cf.
	Transport string
}

// Where Debian has them, and policyd listens.
const (
	DefaultAddress   = "inet:127.0.0.1:8461"
	defaultConfig    = "/etc/tlsverdict/policyd.toml"
	defaultCAFile    = "/etc/ssl/certs/ca-certificates.crt"
	defaultCADir     = "/etc/ssl/certs"
	defaultTransport = "tls26"
)

// Snippet is what to paste for one mail server.
type Snippet struct {
	// MTA is "postfix", "exim" or "sendmail", Version the one that this is for.
	MTA     string `json:"mta"`
	Version string `json:"version"`
	// Notes are to be read before.
	Notes []string `json:"notes"`
	// First are commands to run before anything is pasted, Then those to run after it.
	First []string `json:"first"`
	Parts []Part   `json:"parts"`
	Then  []string `json:"then"`
}

// Part is what goes to one place.
type Part struct {
	// File is absolute. Where is the place in it.
	File  string `json:"file"`
	Where string `json:"where"`
	Lines []Line `json:"lines"`
	// comment begins a comment in this file.
	comment string
}

// Line is one setting; one may have several lines of a file.
type Line struct {
	Text string `json:"text"`
	// Why stands above it as a comment. A line without Text is a comment alone.
	Why string `json:"why,omitempty"`
}

// Text is the snippet for people and their clipboards.
func (s Snippet) Text() string {
	var b strings.Builder
	mark := "#"
	if s.MTA == "sendmail" {
		mark = "dnl"
	}
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "%s %s\n", mark, note)
	}
	for _, command := range s.First {
		fmt.Fprintf(&b, "%s First: %s\n", mark, command)
	}
	for _, p := range s.Parts {
		fmt.Fprintf(&b, "\n%s %s, %s:\n", p.comment, p.File, p.Where)
		for _, l := range p.Lines {
			b.WriteString(l.in(p.comment))
		}
	}
	if len(s.Then) > 0 {
		b.WriteByte('\n')
	}
	for _, command := range s.Then {
		fmt.Fprintf(&b, "%s Then: %s\n", mark, command)
	}
	return b.String()
}

// in is a line in a file with comments of a kind.
func (l Line) in(comment string) string {
	var b strings.Builder
	if l.Why != "" {
		fmt.Fprintf(&b, "%s %s\n", comment, l.Why)
	}
	if l.Text != "" {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// part is a part with lines of which nothing is to be said.
func part(file, where, comment string, lines ...string) Part {
	p := Part{File: file, Where: where, comment: comment}
	for _, l := range lines {
		p.Lines = append(p.Lines, Line{Text: l})
	}
	return p
}

// settled is the daemon with what is missing filled in.
func (d Daemon) settled() Daemon {
	if d.Address == (postfixmap.Address{}) {
		// It parses.
		d.Address, _ = postfixmap.ParseAddress(DefaultAddress)
	}
	d.Config = or(d.Config, defaultConfig)
	d.CAFile = or(d.CAFile, defaultCAFile)
	d.CADirectory = or(d.CADirectory, defaultCADir)
	d.Implicit.Transport = or(d.Implicit.Transport, defaultTransport)
	return d
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// ask is the address for who asks on this host: one that stands for every address of it
// becomes loopback.
func (d Daemon) ask() postfixmap.Address {
	host, port, err := net.SplitHostPort(d.Address.Endpoint())
	if d.Address.Network() != "tcp" || err != nil {
		return d.Address
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || !addr.IsUnspecified() {
		return d.Address
	}
	loopback := "127.0.0.1"
	if addr.Is6() {
		loopback = "::1"
	}
	// It was an address before.
	a, _ := postfixmap.ParseAddress("inet:" + net.JoinHostPort(loopback, port))
	return a
}

// unix is the path of the socket that policyd listens on, "" where it is none.
func (d Daemon) unix() string {
	if d.Address.Network() == "unix" {
		return d.Address.Endpoint()
	}
	return ""
}

// withoutPostfix are the settings of policyd that its own look at Postfix would find
// out: how DANE is done (native: the mail server looks TLSA up itself) and what has a way
// of its own.
func (d Daemon) withoutPostfix(dane bool) []Part {
	var parts []Part
	if d.DANE == "" || d.DANE == "auto" {
		switch {
		case !dane:
			parts = append(parts, Part{File: d.Config, Where: "in its section [postfix], in the place of dane", comment: "#", Lines: []Line{
				{Text: "[postfix]\ndane = \"native\"", Why: "There is no DANE here, and policyd need not look for it."},
			}})
		case !d.ResolverNamed:
			address := d.Resolver
			if !address.IsValid() {
				address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
			parts = append(parts, part(d.Config, "in its section [postfix], in the place of dane_resolver", "#",
				"[postfix]", "dane_resolver = "+strconv.Quote(address.String())))
		}
	}
	if d.Implicit.On && d.Implicit.AsksPostfix {
		parts = append(parts, Part{File: d.Config, Where: "in its section [signals], in the place of implicit_tls_own", comment: "#", Lines: []Line{
			{Text: "[signals]\nimplicit_tls_own = []", Why: "Its own routers come first: there is no Postfix to ask which domains are its own."},
		}})
	}
	return parts
}

// noResolver says what is missing for DANE, "" where nothing is.
func (d Daemon) noResolver() string {
	if d.Resolver.IsValid() {
		return ""
	}
	return "/etc/resolv.conf does not name a resolver on this host. DANE needs one that validates: apt install unbound."
}

// TooOld reports whether a release of a mail server is older than the oldest that can ask
// policyd: Postfix 3.4, Exim 4.96, Sendmail 8.17. One that cannot be read is.
func TooOld(mta, release string) bool {
	oldest := map[string]version{"postfix": {3, 4, 0}, "exim": {4, 96, 0}, "sendmail": {8, 17, 0}}[mta]
	return parseVersion(release).before(oldest[0], oldest[1], oldest[2])
}

// version is a release, as numbers.
type version [3]int

// parseVersion reads the numbers that a version begins with: "3.10.13", "4.98.2",
// "8.17.1.9", "3.12-20260101". What is no number counts as 0.
func parseVersion(s string) version {
	var v version
	for i := range v {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		n, err := strconv.Atoi(s[:digits])
		if err != nil {
			return v
		}
		v[i] = n
		if s = s[digits:]; !strings.HasPrefix(s, ".") {
			return v
		}
		s = s[1:]
	}
	return v
}

// before reports whether a release is older than another.
func (v version) before(major, minor, patch int) bool {
	for i, n := range [3]int{major, minor, patch} {
		if v[i] != n {
			return v[i] < n
		}
	}
	return false
}
