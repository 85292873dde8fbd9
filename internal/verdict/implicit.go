package verdict

import (
	"fmt"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
)

// Implicit TLS is TLS from the first byte, on a port of its own. A domain promises it
// by naming every MX host "smtps-...". It is an upgrade and no demand: a port that does
// not work leaves what the ladder demands on port 25, and nothing less.

// maxImplicit is how many MX hosts a domain may have to be looked at: the hosts beyond
// it are not judged either.
const maxImplicit = 30

// Promised returns the MX hosts, each once, where all of them promise implicit TLS in
// a way that is believed, and nil otherwise: as the prefix itself it counts only where
// the MX records are secure and every host has it (see package signal).
func (f *Facts) Promised() []string {
	r := &f.Rules
	if r.ImplicitPort == 0 || r.Prefix != Enforce || r.WithoutDNSSEC || f.Destination.Host ||
		f.MX.Outcome != Found || f.MX.Proof != Secure {
		return nil
	}
	d := decision{f: f}
	names := d.mxNames()
	if len(names) > maxImplicit || len(names) != len(writable(names)) {
		return nil
	}
	for _, name := range names {
		if signal.ParsePrefix(name) != signal.SMTPS {
			return nil
		}
	}
	return names
}

// implicit are the hosts of Beside.Implicit.
func (d *decision) implicit(v Verdict) []string {
	port := d.f.Destination.Port
	if !demandsTLS(v) || d.f.Own != "" || port != nexthop.SMTPPort && port != d.f.Rules.ImplicitPort {
		return nil
	}
	return d.f.Promised()
}

// demandsTLS reports whether no host may get mail without TLS. An operator's own words
// are not judged: nothing is looked up for them either.
func demandsTLS(v Verdict) bool {
	switch v.(type) {
	case Encrypt, STS, WebPKI, DANEOnly, Fingerprint:
		return true
	case NoPolicy, DANE, Defer, Fixed:
		return false
	}
	panic(fmt.Sprintf("verdict: whether a verdict of type %T demands TLS", v))
}

// wrapped raises what is demanded on the port of implicit TLS. There the MTA begins
// with TLS whatever the verdict, so that a lax one would only be a contradiction, with
// which Postfix defers. An override stands, unless it is such a contradiction itself.
func (d *decision) wrapped(v Verdict, source Source) (Verdict, Source) {
	if port := d.f.Rules.ImplicitPort; port == 0 || d.f.Destination.Port != port {
		return v, source
	}
	switch v := v.(type) {
	case NoPolicy:
		d.say(ImplicitPort, d.name(), "")
		if source == FromNothing {
			source = FromImplicitTLS
		}
		return Encrypt{}, source
	case DANE:
		// Of the hosts without TLSA records "dane" demands nothing.
		d.say(ImplicitPort, d.name(), "")
		return DANEOnly{}, source
	case Fixed:
		if v.Level == "none" || v.Level == "may" {
			d.say(ImplicitPort, d.name(), "")
			return Encrypt{}, source
		}
		return v, source
	case Encrypt, STS, WebPKI, DANEOnly, Fingerprint, Defer:
		return v, source
	}
	panic(fmt.Sprintf("verdict: what a verdict of type %T is on the port of implicit TLS", v))
}
