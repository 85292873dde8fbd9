package daemon

import (
	"context"
	"log/slog"
	"sync"

	"tlsverdict/internal/config"
	"tlsverdict/internal/impact"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/store"
)

// ruleAtOnce is how many domains are worked out at once for Rulings: enough to keep the
// network busy, and little to a resolver that mail also needs.
const ruleAtOnce = 32

// Rulings works out the verdicts on domains in this process, and tells of each as it comes,
// one at a time, in no particular order. It returns early, with the error, when ctx ends or
// tell fails. Names that are no domains are told of as unruled.
func Rulings(ctx context.Context, cfg *config.Config, through Network, domains []string, tell func(domain string, r impact.Ruled) error) error {
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open("", log)
	if err != nil {
		return err
	}
	// What is demanded is asked, not what this host's Postfix can be told of it.
	own := *cfg
	own.Postfix.DANE = config.DANENative
	stack, err := NewStack(&own, st, through, log)
	if err != nil {
		return err
	}
	defer func() {
		stack.Close()
		// A store in memory has nothing to lose.
		_ = st.Close()
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		next    = make(chan string)
	)
	for range ruleAtOnce {
		workers.Go(func() {
			for domain := range next {
				r := rule(ctx, stack, domain)
				if ctx.Err() != nil {
					return // what comes of a lookup that was given up is no verdict
				}
				mu.Lock()
				err := tell(domain, r)
				mu.Unlock()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, domain := range domains {
		select {
		case next <- domain:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

func rule(ctx context.Context, s *Stack, domain string) impact.Ruled {
	d, err := nexthop.Parse(domain)
	if err != nil {
		return impact.Ruled{}
	}
	r := s.Engine.Rule(ctx, d)
	return impact.Ruled{Verdict: r.Verdict, Source: r.Source}
}
