package config

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// Implicit is how TLS from the first byte is used, on a port of its own.
type Implicit struct {
	// On has hosts probed, and the map transport answer.
	On bool
	// Port is where, 1 to 65535 but not 25.
	Port uint16
	// Transport is the name in master.cf that replies have.
	Transport string
	// Turn is for how long in each hour mail goes to port 25 all the same, 0 to 30
	// minutes; 0: never.
	Turn time.Duration
	// Own are the domains that the MTA has a way of its own for.
	Own OwnDomains
}

// OwnDomains are domains that an MTA has a way of its own for: its own mailboxes, a relay
// host, an entry of its transport table. The zero value is none.
type OwnDomains struct {
	// Ask has the Postfix on this host asked.
	Ask bool
	// Names are the domains, as A-labels; with a dot in front those below it.
	Names []string
}

// Has reports whether a domain, in lower case and as A-labels, is among Names.
func (o OwnDomains) Has(domain string) bool {
	return slices.ContainsFunc(o.Names, func(name string) bool {
		return domain == name || name[0] == '.' && strings.HasSuffix(domain, name)
	})
}

// Probe is how mail servers are connected to.
type Probe struct {
	// Source are the addresses to connect from, at most one of each family.
	Source []netip.Addr
	// Helo is the name that this host gives itself; empty: it is found out.
	Helo string
}

func probeKeys() []key[Config] {
	return []key[Config]{
		bind("signals.implicit_tls", `"off"`, func(c *Config) *bool { return &c.Signals.Implicit.On },
			oneOf(word[bool]{"off", false}, word[bool]{"on", true})),
		bind("signals.implicit_tls_port", `26`, func(c *Config) *uint16 { return &c.Signals.Implicit.Port }, otherPort),
		bind("signals.implicit_tls_transport", `"tls26"`, func(c *Config) *string { return &c.Signals.Implicit.Transport }, transport),
		bind("signals.implicit_tls_turn", `"15m"`, func(c *Config) *time.Duration { return &c.Signals.Implicit.Turn }, duration(0, 30*time.Minute)),
		bind("signals.implicit_tls_own", `"auto"`, func(c *Config) *OwnDomains { return &c.Signals.Implicit.Own }, ownDomains),
		bind("probe.source", `[]`, func(c *Config) *[]netip.Addr { return &c.Probe.Source }, sources),
		bind("probe.helo", `""`, func(c *Config) *string { return &c.Probe.Helo }, hostName),
	}
}

// otherPort reads a port that is not that of SMTP, where TLS cannot come first.
func otherPort(v any) (uint16, error) {
	n, err := integer(1, 65535)(v)
	if err == nil && n == nexthop.SMTPPort {
		err = errors.New("on port 25 TLS does not come first")
	}
	return uint16(n), err
}

// isService reports whether Postfix takes a text for the name of a service in master.cf, as
// far as anybody would name one so: letters and digits, and after the first "_", "." and "-".
func isService(text string) bool {
	const most = 63
	for i, c := range []byte(text) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return text != "" && len(text) <= most
}

// transport reads the name of a transport in master.cf. The ones that are there as
// installed do not begin with TLS, or do not send mail.
func transport(v any) (string, error) {
	text, ok := v.(string)
	if !ok || !isService(text) {
		return "", errors.New(`want the name of a transport in master.cf, such as "tls26"`)
	}
	for _, other := range []string{"smtp", "relay", "local", "virtual", "lmtp", "error", "retry", "discard"} {
		if text == other {
			return "", errors.New("this transport of Postfix does not begin with TLS: add one to master.cf that does")
		}
	}
	return text, nil
}

// ownDomains reads "auto", or a list of domains.
func ownDomains(v any) (OwnDomains, error) {
	if v == "auto" {
		return OwnDomains{Ask: true}, nil
	}
	if _, ok := v.([]any); !ok {
		return OwnDomains{}, errors.New(`want "auto", or a list of domains, such as ["example.com", ".example.com"]`)
	}
	names, err := list(plainDomain)(v)
	return OwnDomains{Names: names}, err
}

// plainDomain reads a domain, or with a dot in front all that are below it.
func plainDomain(v any) (string, error) {
	text, _ := v.(string)
	name, below := strings.CutPrefix(text, ".")
	name, err := nexthop.Normalize(name)
	if err != nil || isLiteral(name) {
		return "", errors.New(`want a domain, such as "example.com", or ".example.com" for all names below it`)
	}
	if below {
		name = "." + name
	}
	return name, nil
}

// sources reads addresses to connect from.
func sources(v any) ([]netip.Addr, error) {
	seen := map[bool]bool{}
	return list(func(v any) (netip.Addr, error) {
		text, _ := v.(string)
		addr, err := netip.ParseAddr(text)
		switch {
		case err != nil || addr.Is4In6() || addr.IsUnspecified() || addr.IsMulticast():
			return addr, errors.New(`want an address of this host, such as "192.0.2.1" or "2001:db8::1"`)
		case seen[addr.Is4()]:
			return addr, errors.New("one IPv4 and one IPv6 address are all that can be used")
		}
		seen[addr.Is4()] = true
		return addr, nil
	})(v)
}

// hostName reads the full name of a host, or none.
func hostName(v any) (string, error) {
	if v == "" {
		return "", nil
	}
	text, _ := v.(string)
	name, err := nexthop.Normalize(text)
	if err != nil || !strings.Contains(name, ".") || isLiteral(name) {
		return "", errors.New(`want the full name of this host, such as "mail.example.com", or ""`)
	}
	return name, nil
}

// checkImplicit warns where implicit TLS is switched on in vain.
func (r *reader) checkImplicit(c *Config) {
	const path = "signals.implicit_tls"
	switch {
	case !c.Signals.Implicit.On || r.wrong(path, "signals.prefix", "dns.dnssec"):
	case c.DNS.DNSSEC == DNSSECOff:
		r.warn(path, `signals.implicit_tls = "on" does nothing with dns.dnssec = "off": the promise is believed in signed zones only`)
	case c.Signals.Prefix != verdict.Enforce:
		r.warn(path, `signals.implicit_tls = "on" does nothing unless signals.prefix is "enforce": it is part of that promise`)
	}
}
