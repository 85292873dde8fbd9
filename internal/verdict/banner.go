package verdict

import (
	"fmt"
	"time"

	"tlsverdict/internal/nexthop"
)

// A banner is not read on the way to a verdict: a probe read it before, and what it
// promised is kept as a pin of the host (package pin). Pins only ever raise a verdict. They
// are about MX names, however these were learned: whoever can forge MX records leads to a
// host of his own, which is the limit of this signal (see package signal).

// Pin is what is kept of a host's banner.
type Pin struct {
	// Host is an MX name, in lower case.
	Host string
	// Until is when the pin ends; the zero time where there is none.
	Until time.Time
	// Banner is its directive, as it was last seen: "strict-tls=*.example.com".
	Banner string
	// Failure says why it is not known whether there is one; nil where it is.
	Failure *Failure
}

// maxPinned is how many MX hosts a domain may have to be looked at, as for maxImplicit.
const maxPinned = maxImplicit

// Pinnable returns the MX names that pins count for, each once, in order of preference;
// nil where none counts: the signal is off, there are no MX names that may be read, or the
// port is not that on which banners are read.
func (f *Facts) Pinnable() []string {
	r := &f.Rules
	if r.Banner == Off || r.WithoutDNSSEC || f.active() != nil || !f.ofSMTP() {
		return nil
	}
	if !f.Destination.Host && (f.MX.Broken() || f.MX.Proof == Indeterminate || f.Gone()) {
		return nil
	}
	d := decision{f: f}
	names := d.mxNames()
	if len(names) > maxPinned {
		return nil
	}
	return names
}

// ofSMTP reports whether the port is that of SMTP, on which banners are read, or that of
// implicit TLS, where no less must be demanded.
func (f *Facts) ofSMTP() bool {
	port := f.Destination.Port
	return port == nexthop.SMTPPort || f.Rules.ImplicitPort != 0 && port == f.Rules.ImplicitPort
}

// banner reads the pins. A domain is strict when all of its MX hosts are pinned.
func (d *decision) banner() finding {
	f := d.f
	if f.Rules.Banner == Off || f.unprovenHost() {
		return finding{}
	}
	names := f.Pinnable()
	if len(names) == 0 {
		return finding{}
	}
	says := func(v Verdict, c Code, detail string) finding {
		return finding{v, FromBanner, Reason{c, d.name(), detail}}
	}
	pinned, failure := 0, (*Failure)(nil)
	for i, name := range names {
		p := f.pin(i, name)
		switch {
		case f.Now.Before(p.Until):
			pinned++
			if f.Rules.Banner == Enforce {
				d.also.add(p.Until.Sub(f.Now))
			}
		case p.Failure != nil:
			pinned++ // perhaps
			failure = p.Failure
		}
	}
	switch {
	case pinned == 0:
		return finding{}
	case pinned < len(names):
		return says(nil, BannerSome, fmt.Sprintf("%d of %d", pinned, len(names)))
	case failure != nil && f.Rules.Banner == Observe:
		return says(nil, BannerFailed, failure.Detail)
	case failure != nil:
		// To go on as if there were no pin would hand the mail to whoever can damage
		// a file.
		return says(d.failed("whether the MX hosts of "+d.name()+" are pinned is not known", failure), BannerFailed, failure.Detail)
	case f.Rules.Banner == Observe:
		return says(nil, BannerObserved, "")
	}
	return says(WebPKI{Hosts: names}, BannerAll, "")
}

// pin is the fact about one name. What was never asked for is not absent.
func (f *Facts) pin(i int, name string) *Pin {
	if i >= len(f.Pins) || f.Pins[i].Host != name {
		panic("verdict: a decision on a pin that was never asked for: " + name)
	}
	return &f.Pins[i]
}

// last is rung 9: pins, and the two records. Pins are known without waiting; where they
// demand a certificate there is nothing left to be demanded.
func (d *decision) last() (Verdict, Source) {
	pins := d.banner()
	if authenticates(pins.verdict) {
		d.reasons = append(d.reasons, pins.reason)
		return pins.verdict, pins.source
	}
	said := d.reasons
	v, source := d.records()
	switch {
	case pins.reason.Code == "":
		return v, source
	case outranks(pins.verdict, v):
		d.reasons = append(d.reasons, pins.reason)
		return pins.verdict, pins.source
	}
	// The decisive reason comes last.
	d.reasons = append(append(said[:len(said):len(said)], pins.reason), d.reasons[len(said):]...)
	return v, source
}

// ofBanner is the sentence of a code about pins.
func (c Code) ofBanner() string {
	switch c {
	case BannerAll:
		return "every MX host is pinned by its banner"
	case BannerObserved:
		return "every MX host is pinned by its banner, which is only observed here"
	case BannerSome:
		return "only some MX hosts are pinned by their banner: the others may be used without"
	case BannerFailed:
		return "whether every MX host is pinned by its banner is not known"
	}
	panic(fmt.Sprintf("verdict: reason %q has no sentence", string(c)))
}
