package verdict

import (
	"fmt"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/tlsa"
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

// Authentication is what a mail host has to prove itself by to whoever connects to it.
type Authentication struct {
	// Records are its usable TLSA records, all secure, and Base is the TLSA base domain
	// that they are at. Without any, DANE asks for nothing that would prove it.
	Records []tlsa.Record
	Base    string
}

// Authentication reads what was learned of the host as Decide does. The error is a
// *Failure where it is not known whether it has such records, or where it is: then nobody
// should go on as if it had none (RFC 7672 §2.1.2).
func (h *Host) Authentication() (Authentication, error) {
	j := judge(h)
	switch j.class {
	case unreachable, uncertain:
		return Authentication{}, j.failure
	case gone:
		return Authentication{}, &Failure{Remote, "the host has no address"}
	case plain, unusable:
		return Authentication{}, nil
	case usable:
		return Authentication{Records: j.records, Base: j.base}, nil
	}
	panic(fmt.Sprintf("verdict: host class %d", j.class))
}
