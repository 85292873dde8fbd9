package daemon

import (
	"context"
	"math/rand/v2"
	"sync"

	"tlsverdict/internal/config"
	"tlsverdict/internal/engine"
	"tlsverdict/internal/fleet"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/pin"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
)

// banners learns the pins of mail hosts.
type banners struct {
	client  *probe.Client
	prober  *probe.Prober
	learner *pin.Learner
	visits  visitor
}

// learns reports whether banners are learned. Without DNSSEC they never could be: nobody
// would know whether a host has TLSA records to prove itself by.
func learns(cfg *config.Config) bool {
	rules := cfg.Rules()
	return rules.Banner != verdict.Off && !rules.WithoutDNSSEC
}

// newBanners returns nil where banners are not learned.
func newBanners(visits visitor, st *store.Store, others *fleet.Node) *banners {
	if !learns(visits.cfg) {
		return nil
	}
	b := &banners{client: visits.client(nexthop.SMTPPort), visits: visits}
	b.learner = pin.New(pin.Config{Store: st, Learned: others.PublishPin, Log: visits.log})
	b.prober = probe.New(probe.Config{
		Probe: b.client.Probe, AtOnce: visits.through.probesEach(visits.cfg), Pace: b.learner.Pace(), Done: b.learner.Done, Random: rand.Float64, Log: visits.log,
	})
	b.learner.Prober = b.prober
	return b
}

// ruled is for engine.Config.Ruled.
func (b *banners) ruled(x *engine.Explanation) {
	if b != nil {
		b.learner.Ruled(&x.Facts)
	}
}

// raise has the engine hear of new pins. Nothing is learned before.
func (b *banners) raise(e *engine.Engine) {
	if b != nil {
		b.learner.Raised = e.Raise
	}
}

// domains returns some of those that have a host.
func (b *banners) domains(host string) []string {
	if b == nil {
		return nil
	}
	return b.learner.Domains(host)
}

// renew has the hosts of a destination looked at soon.
func (b *banners) renew(f *verdict.Facts) {
	if b != nil {
		b.prober.Renew(pin.Targets(f)...)
	}
}

// run probes until ctx ends.
func (b *banners) run(ctx context.Context) {
	b.client.Hello = b.visits.helo(ctx)
	var both sync.WaitGroup
	both.Go(func() { b.prober.Run(ctx) })
	b.learner.Run(ctx)
	both.Wait()
}
