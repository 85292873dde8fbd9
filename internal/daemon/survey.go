package daemon

import (
	"context"
	"log/slog"

	"tlsverdict/internal/config"
	"tlsverdict/internal/gather"
	"tlsverdict/internal/lint"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/survey"
	"tlsverdict/internal/verdict"
)

// Lint looks at what the owner of a domain published, in this process, and returns what
// there is to say of it. The settings are those of the resolver, of MTA-STS and of probes;
// which signals the operator believes does not matter here.
func Lint(ctx context.Context, cfg *config.Config, through Network, d nexthop.Destination) ([]lint.Finding, error) {
	return surveyed(ctx, cfg, through, func(s *survey.Surveyor, _ visitor) lint.Evidence { return s.Look(ctx, d) })
}

// LintProbing is Lint, and connects to the mail hosts, each once or, where it promises
// implicit TLS, twice.
func LintProbing(ctx context.Context, cfg *config.Config, through Network, d nexthop.Destination) ([]lint.Finding, error) {
	return surveyed(ctx, cfg, through, func(s *survey.Surveyor, v visitor) lint.Evidence {
		s.Roots, s.ImplicitPort = v.roots, cfg.Signals.Implicit.Port
		// A client each: several names of one host are looked at all the same.
		name := v.helo(ctx)
		s.Probe = func(ctx context.Context, t probe.Target) probe.Result {
			client := v.client(t.Port)
			client.Hello = name
			return client.Probe(ctx, t)
		}
		return s.Look(ctx, d)
	})
}

// surveyed makes a Surveyor, has it used, and judges what it found.
func surveyed(ctx context.Context, cfg *config.Config, through Network, use func(*survey.Surveyor, visitor) lint.Evidence) ([]lint.Finding, error) {
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
	return lint.Check(use(s, visitor{cfg, through, r, f.Roots, log, new(probe.Visits)})), nil
}
