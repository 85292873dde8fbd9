package daemon

import (
	"context"
	"log/slog"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/doctor"
	"tlsverdict/internal/program"
)

// Examine looks at what the verdicts of a configuration stand on at this host, and at
// its mail servers. What cannot be looked at is said in the evidence.
func Examine(ctx context.Context, cfg *config.Config, through Network) doctor.Evidence {
	e := doctor.Evidence{Now: time.Now()}
	e.Host = examineHost(ctx, cfg, through)
	h := through.machine()
	e.MTAs = doctor.LookAtMTAs(ctx, program.Machine{Root: h.Root, Path: h.Path, Runner: h.Run})
	return e
}

// examineHost looks at the ground.
func examineHost(ctx context.Context, cfg *config.Config, through Network) doctor.Host {
	var h doctor.Host
	r, err := newResolver(cfg, through, slog.New(slog.DiscardHandler))
	if err != nil {
		h.NoResolvers = err.Error()
		return h
	}
	defer r.Close()
	for _, s := range r.Probe(ctx).Servers {
		h.Resolvers = append(h.Resolvers, doctor.Resolver{Address: s.Addr.String(), Answers: s.Answers, Proves: s.Validates, Problem: s.Problem})
	}
	return h
}
