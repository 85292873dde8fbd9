package signal

import "time"

// Pin is what is kept of a host whose banner was believed.
type Pin struct {
	// Host is its name, in lower case, as A-labels and without a trailing dot.
	Host string
	// Pattern and IncludeSubDomains are those of the banner that was seen last. A pin is
	// about Host, whatever else they cover.
	Pattern           Pattern
	IncludeSubDomains bool
	// Learned is when the host was pinned, Seen when its banner was last believed. Both
	// are zero where that cannot be read any longer.
	Learned, Seen time.Time
	// Until is when the pin ends.
	Until time.Time
}

// Holds reports whether the pin is in force.
func (p *Pin) Holds(now time.Time) bool { return now.Before(p.Until) }

// Renewed returns the pin of a host after a banner of it was believed. It never ends
// sooner than before: a banner comes in clear text, and who could shorten a pin by it could
// end it. A max-age of 0 changes nothing, and pins nothing.
func (p Pin) Renewed(b *Banner, now time.Time) Pin {
	if b.MaxAge <= 0 {
		return p
	}
	if !p.Holds(now) {
		p.Learned = now
	}
	p.Pattern, p.IncludeSubDomains, p.Seen = b.Pattern, b.IncludeSubDomains, now
	if until := now.Add(min(b.MaxAge, MaxAge)); until.After(p.Until) {
		p.Until = until
	}
	return p
}

// String writes the directive as it was last seen, without max-age; "" where that cannot
// be read any longer.
func (p *Pin) String() string {
	if p.Pattern.Host == "" {
		return ""
	}
	s := directive + p.Pattern.String()
	if p.IncludeSubDomains {
		s += "; includeSubDomains"
	}
	return s
}
