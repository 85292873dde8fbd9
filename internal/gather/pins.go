package gather

import (
	"context"

	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
)

// Pins knows what the banners of mail hosts promised.
type Pins interface {
	// Pin returns what is kept for a host, ended or not, and waits for nothing. After an
	// error it is not known whether there is anything.
	Pin(host string) (p signal.Pin, found bool, err error)
}

// askPins begins to ask the fleet about hosts of which no pin holds here, and returns how to
// wait for it.
func (g *Gatherer) askPins(ctx context.Context, f *verdict.Facts) (wait func()) {
	if g.Fleet == nil {
		return func() {}
	}
	var unknown []string
	now := g.now()
	for _, host := range f.Pinnable() {
		if p, found, err := g.Pins.Pin(host); err == nil && !(found && p.Holds(now)) {
			unknown = append(unknown, host)
		}
	}
	if len(unknown) == 0 {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer g.recovered(func() {})
		g.Fleet.LearnPins(ctx, unknown)
	}()
	return func() { <-done }
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
