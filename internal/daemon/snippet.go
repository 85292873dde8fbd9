package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"tlsverdict/internal/config"
	"tlsverdict/internal/exim"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/program"
	"tlsverdict/internal/sendmail"
	"tlsverdict/internal/snippet"
	"tlsverdict/postfixmap"
)

// SnippetRequest is which snippet to make.
type SnippetRequest struct {
	// MTA is "postfix", "exim" or "sendmail".
	MTA string
	// Version is the one to make it for, whatever is installed; empty: that one, or the
	// newest where there is none.
	Version string
	// Address is where policyd is asked.
	Address postfixmap.Address
}

// Snippet is the configuration that has a mail server of this machine ask policyd. Errors
// are snippet.ErrUnfit, or say why a mail server that is here could not be asked.
func Snippet(ctx context.Context, cfg *config.Config, m program.Machine, r SnippetRequest) (snippet.Snippet, error) {
	d := forSnippet(cfg, r.Address)
	d.CAFile, d.CADirectory = certificates(m)
	d.Resolver = resolverHere(m)
	var s snippet.Snippet
	var err error
	var installed bool
	switch r.MTA {
	case "exim":
		installed, s, err = eximSnippet(ctx, m, d, r.Version)
	case "sendmail":
		installed, s, err = sendmailSnippet(ctx, m, d, r.Version)
	default:
		installed, s, err = postfixSnippet(ctx, hostOf(m), d, r.Version)
	}
	if err == nil && !installed && r.Version == "" {
		s.Notes = append([]string{"There is none on this host; this is for the newest. --version names another."}, s.Notes...)
	}
	return s, err
}

// forSnippet is what of policyd's settings a snippet depends on.
func forSnippet(cfg *config.Config, address postfixmap.Address) snippet.Daemon {
	return snippet.Daemon{
		Address: address, Config: cfg.File,
		DANE: cfg.Postfix.DANE.String(), ResolverNamed: cfg.Postfix.DANEResolver.IsValid(),
		Implicit: snippet.Implicit{On: cfg.Signals.Implicit.On, AsksPostfix: cfg.Signals.Implicit.Own.Ask, Transport: cfg.Signals.Implicit.Transport},
	}
}

// hostOf is a machine as package postfix wants it.
func hostOf(m program.Machine) postfix.Host {
	return postfix.Host{Root: m.Root, Path: m.Path, Run: m.Runner}
}

// certificates are where distributions have those of public CAs: Debian and SUSE, Fedora,
// older SUSE, Alpine and the BSDs. Empty where none is found.
func certificates(m program.Machine) (file, directory string) {
	for _, at := range [][2]string{
		{"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs"},
		{"/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/tls/certs"},
		{"/etc/ssl/ca-bundle.pem", "/etc/ssl/certs"},
		{"/etc/ssl/cert.pem", "/etc/ssl/certs"},
	} {
		if info, err := m.Stat(at[0]); err == nil && info.Mode().IsRegular() {
			return at[0], at[1]
		}
	}
	return "", ""
}

// resolverHere is the resolver on this host that resolv.conf names; invalid where any that
// it names is elsewhere.
func resolverHere(m program.Machine) netip.Addr {
	servers, err := (postfix.Setup{ResolvConf: m.At("/etc/resolv.conf")}).Resolvers()
	if err != nil {
		return netip.Addr{}
	}
	for _, s := range servers {
		if !s.Addr().IsLoopback() {
			return netip.Addr{}
		}
	}
	return servers[0].Addr()
}

// lines are what to put in main.cf, for the Postfix of this host or, where there is none
// or it does not answer at once, for any.
func (m *mta) lines(ctx context.Context, d snippet.Daemon) string {
	if m.needsDigest(ctx) {
		d.Fingerprints = true
	}
	ctx, cancel := context.WithTimeout(ctx, printLook)
	defer cancel()
	d.CAFile, d.CADirectory = certificates(program.Machine{Root: m.host.Root})
	_, s, err := postfixSnippet(ctx, m.host, d, "")
	if err != nil || s.Version == snippet.NewestPostfix {
		s, err = snippet.Postfix{Version: snippet.AnyPostfix, Chrooted: debianLike(m.host)}.For(d)
	}
	if err != nil {
		return fmt.Sprintf("# %v\n", err)
	}
	s.Notes = nil
	return strings.TrimLeft(s.Text(), "\n")
}

func postfixSnippet(ctx context.Context, h postfix.Host, d snippet.Daemon, version string) (bool, snippet.Snippet, error) {
	p := snippet.Postfix{Version: version, Chrooted: debianLike(h)}
	setup, err := h.Examine(ctx)
	if err != nil && version == "" {
		return false, snippet.Snippet{}, err
	}
	installed := setup.Version != ""
	if installed {
		p = snippet.Postfix{
			Version: setup.Version, Chrooted: setup.Chrooted, Queue: setup.Queue, Digest: setup.Digest,
			Level: setup.Level, PolicyMaps: setup.PolicyMaps, TransportMaps: setup.TransportMaps,
		}
		if version != "" {
			p.Version = version
		}
	}
	s, err := p.For(d)
	return installed, s, err
}

// debianLike reports whether smtp(8) would be chrooted, were Postfix installed here.
func debianLike(h postfix.Host) bool {
	_, err := program.Machine{Root: h.Root}.Stat("/etc/debian_version")
	return err == nil
}

func eximSnippet(ctx context.Context, m program.Machine, d snippet.Daemon, version string) (bool, snippet.Snippet, error) {
	x := snippet.Exim{Version: version, TLS: true, DANE: true}
	setup, err := exim.Examine(ctx, m)
	if err != nil && version == "" {
		return false, snippet.Snippet{}, err
	}
	installed := setup.Version != ""
	if installed {
		x = eximFacts(setup)
		if version != "" {
			x.Version = version
		}
	}
	_, err = m.Stat(snippet.Shared + "/exim/macros")
	x.FilesMissing = installed && err != nil
	s, err := x.For(d)
	return installed, s, err
}

// eximFacts are what of an Exim's settings a snippet depends on.
func eximFacts(setup exim.Setup) snippet.Exim {
	x := snippet.Exim{Version: setup.Version, TLS: setup.TLS != "", DANE: setup.DANE, Config: setup.Config}
	switch {
	case setup.Debian.Split:
		x.Layout = snippet.DebianSplit
	case setup.Debian != exim.Debian{}:
		x.Layout = snippet.DebianUnsplit
	default:
		if i := setup.Remote(); i >= 0 {
			x.Router, x.Domains = setup.Routers[i].Name, setup.Routers[i].Options["domains"]
		}
	}
	x.Smarthost, x.Port = setup.Debian.Smarthost, setup.Debian.Port
	return x
}

func sendmailSnippet(ctx context.Context, m program.Machine, d snippet.Daemon, version string) (bool, snippet.Snippet, error) {
	f := snippet.Sendmail{Version: version, DANE: version != "" && snippet.SendmailHasDANE(version)}
	setup, err := sendmail.Examine(ctx, m)
	if err != nil && version == "" {
		return false, snippet.Snippet{}, err
	}
	installed := setup.Version != ""
	if installed && version == "" {
		f = snippet.Sendmail{Version: setup.Version, Lacks: setup.Lacks(), DANE: setup.Compiled["DANE"], CF: setup.CFDir, HasSTS: setup.STS}
	}
	_, err = m.Stat(snippet.Shared + "/sendmail/tlsverdict.m4")
	f.FileMissing = installed && err != nil
	s, err := f.For(d)
	return installed, s, err
}
