package daemon

import (
	"context"
	"log/slog"

	"tlsverdict/internal/config"
	"tlsverdict/internal/gather"
	"tlsverdict/internal/lint"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/survey"
	"tlsverdict/internal/verdict"
)

// Lint looks at what the owner of a domain published, in this process, and returns what
// there is to say of it. The settings are those of the resolver and of MTA-STS; which
// signals the operator believes does not matter here.
func Lint(ctx context.Context, cfg *config.Config, through Network, d nexthop.Destination) ([]lint.Finding, error) {
	log := slog.New(slog.DiscardHandler)
	r, err := newResolver(cfg, through, log)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := newFetcher(cfg, through, r)
	if err != nil {
		return nil, err
	}
	g := &gather.Gatherer{
		Open:    func() gather.Session { return r.Session() },
		Rules:   verdict.Rules{WithoutDNSSEC: cfg.DNS.DNSSEC == config.DNSSECOff, Prefix: verdict.Enforce},
		Trouble: func() string { return r.Health().Problem },
		Log:     log,
	}
	s := &survey.Surveyor{
		Facts:  g.Facts,
		Open:   func() survey.Session { return r.Session() },
		Policy: f.Look,
		RRType: uint16(cfg.Signals.RRType),
	}
	return lint.Check(s.Look(ctx, d)), nil
}
