package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// Warnings returns what works but is probably not what was meant, sorted by
// line. Whether an override has ended is judged at now.
func (c *Config) Warnings(now time.Time) []Problem {
	ws := slices.Clone(c.warnings)
	for i := range c.Overrides.entries {
		o := &c.Overrides.entries[i]
		if ended(&o.Override, now) {
			ws = append(ws, Problem{
				c.File, o.Line, overrideTable + ".until",
				"the [[override]] for " + o.Domain + " ended at " + o.Until.Format(time.RFC3339) + ": delete it or move the date",
			})
		}
	}
	ws.sort()
	return ws
}

// check looks at settings together. Those that were wrong by themselves have
// their default here.
func (r *reader) check(c *Config) {
	r.checkListen(c)
	r.checkServers(c)
	r.checkSignals(c)
	r.checkImplicit(c)
	r.checkTimes(c)
	r.checkDANE(c)
	r.checkOverrides(c)
	r.checkImplicitPort(c)
	r.checkShared(c)
	r.checkHTTP(c)
	for i, p := range c.MTASTS.AllowNetworks {
		if p.Bits() == 0 {
			r.warn(entry("mta_sts.allow_networks", i), "mta_sts.allow_networks: %q lets policy hosts have any address: "+
				"a policy can then make this host fetch from its own networks", p)
		}
	}
}

func (r *reader) checkListen(c *Config) {
	const path = "socketmap.listen"
	if len(c.Socketmap.Listen) == 0 {
		r.fail(path, "socketmap.listen = []: want at least one address")
	}
	for i, a := range c.Socketmap.Listen {
		if a.Network() == "tcp" && !localListener(a) {
			r.warn(entry(path, i), "socketmap.listen: %q is reachable from other hosts: the protocol has no authentication, "+
				"anyone who reaches it may ask and make this host look things up", a)
		}
	}
}

// localListener reports whether only this host can reach an inet listener.
func localListener(a postfixmap.Address) bool {
	if addr, err := netip.ParseAddrPort(a.Endpoint()); err == nil {
		return addr.Addr().Unmap().IsLoopback()
	}
	host, _, err := net.SplitHostPort(a.Endpoint())
	return err == nil && host == "localhost"
}

// checkServers guards the one assumption under "trust-ad": that nobody sits
// between the resolver and this process, and so can set the AD bit himself
// (RFC 4035 §4.9.3).
func (r *reader) checkServers(c *Config) {
	const path = "dns.servers"
	if c.DNS.TrustRemote && c.DNS.DNSSEC != DNSSECTrustAD && !r.wrong("dns.dnssec") {
		r.warn("dns.trust_remote", `dns.trust_remote = true does nothing with dns.dnssec = "%v": no AD bit is believed`, c.DNS.DNSSEC)
	}
	if c.DNS.TrustAnchors != "" && c.DNS.DNSSEC != DNSSECValidate && !r.wrong("dns.dnssec") {
		r.warn("dns.trust_anchors", `dns.trust_anchors does nothing with dns.dnssec = "%v"`, c.DNS.DNSSEC)
	}
	if c.DNS.DNSSEC != DNSSECTrustAD || r.wrong(path, "dns.dnssec", "dns.trust_remote") {
		return
	}
	for i, s := range c.DNS.Servers {
		if s.Addr().IsLoopback() {
			continue
		}
		if c.DNS.TrustRemote {
			r.warn(entry(path, i), "dns.servers: %q is not on this host: whoever is on the way to it can forge every DNSSEC proof", s)
			continue
		}
		r.fail(entry(path, i), `dns.servers: %q is not on this host, and dns.dnssec = "trust-ad" believes what comes from it: `+
			`run a validating resolver here, or write dns.trust_remote = true if the way to it is safe, or dns.dnssec = "off"`, s)
	}
}

func (r *reader) checkSignals(c *Config) {
	if c.DNS.DNSSEC != DNSSECOff {
		return
	}
	if c.MTASTS.Mode == verdict.Off {
		r.warn("dns.dnssec", `dns.dnssec = "off" and mta_sts.mode = "off": no signal is left, only overrides decide`)
		return
	}
	r.warn("dns.dnssec", `dns.dnssec = "off": no DANE and no signals from DNS, only MTA-STS`)
}

// checkDANE warns of a resolver that nobody looks at, and of one that can never be
// believed: Postfix asks for the AD bit alone (RFC 4035 §4.9.3).
func (r *reader) checkDANE(c *Config) {
	const path = "postfix.dane_resolver"
	s := c.Postfix.DANEResolver
	switch {
	case !s.IsValid() || r.wrong(path, "postfix.dane"):
	case c.Postfix.DANE == DANEFingerprint:
		r.warn(path, `postfix.dane_resolver = "%s" is not looked at with postfix.dane = "fingerprint"`, s)
	case !s.Addr().IsLoopback():
		r.warn(path, `postfix.dane_resolver = "%s" is not on this host: what it validates can be forged on the way to Postfix, `+
			`so that postfix.dane = "auto" comes to "fingerprint"`, s)
	}
}

func (r *reader) checkTimes(c *Config) {
	if c.Cache.MinTTL > c.Cache.MaxTTL && !r.wrong("cache.min_ttl", "cache.max_ttl") {
		at := r.first("cache.min_ttl", "cache.max_ttl")
		r.fail(at, `cache.min_ttl = "%s" is above cache.max_ttl = "%s"`, writeDuration(c.Cache.MinTTL), writeDuration(c.Cache.MaxTTL))
	}
	for _, t := range []struct {
		path string
		d    time.Duration
	}{{"dns.timeout", c.DNS.Timeout}, {"mta_sts.timeout", c.MTASTS.Timeout}} {
		if t.d >= c.Socketmap.Deadline {
			r.warn(r.first(t.path, "socketmap.deadline"), `%s = "%s" is not below socketmap.deadline = "%s": `+
				"whoever asks first is told to come back, even where an answer comes in time",
				t.path, writeDuration(t.d), writeDuration(c.Socketmap.Deadline))
		}
	}
}

// checkOverrides warns of policies that make an older Postfix defer all mail of
// the destination: an attribute that it does not know is an error to it.
func (r *reader) checkOverrides(c *Config) {
	for i := range c.Overrides.entries {
		if o := &c.Overrides.entries[i]; o.since > postfixmap.V3_4 {
			r.warnings = append(r.warnings, Problem{
				r.file, o.Line, overrideTable + ".policy",
				fmt.Sprintf("the [[override]] for %s needs Postfix %v: older ones defer its mail", o.Domain, o.since),
			})
		}
	}
}

// checkImplicitPort warns of the ports of users' mail: a server there greets everybody, and
// refuses for good the mail of whoever does not log in, which a probe cannot always see.
func (r *reader) checkImplicitPort(c *Config) {
	const key = "signals.implicit_tls_port"
	if port := c.Signals.Implicit.Port; c.Signals.Implicit.On && (port == 465 || port == 587) {
		r.warnings = append(r.warnings, Problem{
			r.file, r.places[key], key,
			fmt.Sprintf("port %d is for users who log in: a server that takes no mail from others there has it returned to its sender", port),
		})
	}
}

// first returns the first of some paths that the file has.
func (r *reader) first(paths ...string) string {
	for _, p := range paths {
		if _, ok := r.places[p]; ok {
			return p
		}
	}
	return paths[0]
}

// wrong reports whether one of some keys was refused already: what it has now is
// not what the file says, and comparing it with others would mislead.
func (r *reader) wrong(paths ...string) bool {
	return slices.ContainsFunc(r.problems, func(p Problem) bool { return slices.Contains(paths, p.Key) })
}
