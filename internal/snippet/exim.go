package snippet

import (
	"fmt"
	"strings"
)

// NewestExim is what is assumed where none is installed.
const NewestExim = "4.100.1"

// Layout is how an Exim is configured.
type Layout string

const (
	// OneFile: as Exim's manual has it. The zero Layout is this one.
	OneFile Layout = "file"
	// DebianSplit and DebianUnsplit: by Debian's update-exim4.conf, from many files or
	// from a template.
	DebianSplit   Layout = "split"
	DebianUnsplit Layout = "unsplit"
)

// Exim is what is known of an installed Exim.
type Exim struct {
	// Version is what "exim -bV" says; empty: none is installed.
	Version string
	Layout  Layout
	// Config is the configuration where it is OneFile; empty is /etc/exim4/exim4.conf.
	Config string
	// Router is the one for remote domains, Domains its option "domains"; empty where
	// they are not known. For OneFile.
	Router, Domains string
	// Smarthost and Port are where all mail goes, on Debian; empty: to MX hosts.
	Smarthost, Port string
	// TLS and DANE: it is built with them. What is not installed is.
	TLS, DANE bool
	// FilesMissing: contrib's files are not in Shared.
	FilesMissing bool
}

const (
	eximSplit    = "/etc/exim4/conf.d/"
	eximMacros   = "/etc/exim4/exim4.conf.localmacros"
	eximTemplate = "/etc/exim4/exim4.conf.template"
	eximFiles    = Shared + "/exim/"
)

// For is the configuration that has it ask policyd. The error is ErrUnfit.
func (x Exim) For(d Daemon) (Snippet, error) {
	d = d.settled()
	if x.Version == "" {
		x.Version, x.TLS, x.DANE = NewestExim, true, true
	}
	if TooOld("exim", x.Version) {
		return Snippet{}, fmt.Errorf("%w: Exim %s; 4.96 is the first that contrib's files work with", ErrUnfit, x.Version)
	}
	if !x.TLS || !x.DANE {
		return Snippet{}, fmt.Errorf("%w: this Exim %s is built without TLS or without DANE; exim -bV lists both where they are", ErrUnfit, x.Version)
	}
	s := Snippet{MTA: "exim", Version: x.Version, First: []string{}}
	s.Notes = append(s.Notes, fmt.Sprintf("Exim %s, %s. policyd is asked at %s.", x.Version, x.layout(), d.ask()))
	if x.FilesMissing {
		s.First = append(s.First, "mkdir -p "+Shared+" && cp -r contrib/exim "+Shared+"/")
	}
	if n := d.noResolver(); n != "" {
		s.Notes = append(s.Notes, n)
	} else {
		s.Notes = append(s.Notes, "/etc/resolv.conf also needs a line \"options edns0 trust-ad\": without it Exim does no DANE.")
	}
	if d.unix() != "" {
		s.Notes = append(s.Notes, "root and Exim's own user must be able to write to that socket.")
	}
	s.Parts = d.withoutPostfix(true)
	switch x.Layout {
	case DebianSplit:
		s.Parts = append(s.Parts,
			part(eximSplit+"main/05_tlsverdict", "a file of its own", "#", append(x.macros(d), include("debian/main"))...),
			part(eximSplit+"router/190_tlsverdict", "a file of its own", "#", include("debian/router")),
			part(eximSplit+"transport/40_tlsverdict", "a file of its own", "#", include("debian/transport")))
		s.Then = []string{"update-exim4.conf", "systemctl restart exim4"}
	case DebianUnsplit:
		s.Parts = append(s.Parts,
			part(eximMacros, "at its end", "#", append(x.macros(d), include("debian/main"))...),
			part(eximTemplate, `in front of ".ifdef DCconfig_internet" below "begin routers"`, "#", include("debian/router")),
			part(eximTemplate, `below "begin transports"`, "#", include("debian/transport")))
		s.Then = []string{"update-exim4.conf", "systemctl restart exim4"}
	default:
		x.inOneFile(&s, d)
	}
	return s, nil
}

// inOneFile adds the parts for a configuration that only its owner knows.
func (x Exim) inOneFile(s *Snippet, d Daemon) {
	config := or(x.Config, "/etc/exim4/exim4.conf")
	router := `the router for remote domains, which has "driver = dnslookup"`
	if x.Router != "" {
		router = fmt.Sprintf("%q, the router for remote domains", x.Router+":")
	}
	s.Parts = append(s.Parts,
		part(config, "near its top", "#", append(x.macros(d), include("macros"))...),
		part(config, `below "begin routers", in front of `+router, "#", include("routers")),
		part(config, `below "begin transports"`, "#", include("transports")))
	s.Then = []string{"exim -bV", "systemctl restart exim4"}
}

func include(file string) string { return ".include " + eximFiles + file }

func (x Exim) layout() string {
	switch x.Layout {
	case DebianSplit:
		return "configured by Debian's files in /etc/exim4/conf.d"
	case DebianUnsplit:
		return "configured by Debian's template"
	}
	return "configured by one file"
}

// macros are the settings that are not as contrib's files have them.
func (x Exim) macros(d Daemon) []string {
	var lines []string
	if policyd := or(d.unix(), d.ask().String()); policyd != DefaultAddress {
		lines = append(lines, "TLSVERDICT_POLICYD = "+policyd)
	}
	if x.Domains != "" && strings.Join(strings.Fields(x.Domains), "") != "!+local_domains" {
		lines = append(lines, "TLSVERDICT_DOMAINS = "+x.Domains)
	}
	if x.Smarthost != "" {
		lines = append(lines, "TLSVERDICT_SMARTHOST = "+x.Smarthost)
		if x.Port != "" {
			lines = append(lines, "TLSVERDICT_SMARTPORT = "+x.Port)
		}
	} else if d.Implicit.On {
		lines = append(lines, "TLSVERDICT_SMTPS = yes")
	}
	return lines
}
