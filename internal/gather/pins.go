package gather

import (
	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
)

// Pins knows what the banners of mail hosts promised.
type Pins interface {
	// Pin returns what is kept for a host, ended or not, and waits for nothing. After an
	// error it is not known whether there is anything.
	Pin(host string) (p signal.Pin, found bool, err error)
}

// pins fills in what is kept of the MX hosts.
func (g *Gatherer) pins(f *verdict.Facts) {
	for _, host := range f.Pinnable() {
		fact := verdict.Pin{Host: host}
		p, found, err := g.Pins.Pin(host)
		switch {
		case err != nil:
			fact.Failure = &verdict.Failure{Fault: verdict.Ours, Detail: err.Error()}
		case found:
			fact.Until, fact.Banner = p.Until, p.String()
		}
		f.Pins = append(f.Pins, fact)
	}
}
