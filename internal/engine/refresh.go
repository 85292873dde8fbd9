package engine

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
)

// Refresher fetches MTA-STS policies again when their time has come, off the
// request path (RFC 8461 §3.3, §10.2).
type Refresher struct {
	// Due returns up to max domains whose policy should be fetched at now.
	Due func(now time.Time, max int) []string
	// Refresh fetches one, and reports whether the policy demands something else
	// than before. It remembers the outcome, so that the domain is not due again
	// at once.
	Refresh func(ctx context.Context, domain string) (changed bool, err error)
	// Changed is told of each domain whose policy changed.
	Changed func(domain string)
	Log     *slog.Logger
}

const (
	refreshEvery    = time.Minute
	refreshBatch    = 256
	refreshAtOnce   = 8
	refreshDeadline = 30 * time.Second
)

// Run refreshes until ctx ends. It makes a pass at once: policies may have come
// due while the daemon was down.
func (r *Refresher) Run(ctx context.Context) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		r.pass(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pass refreshes what is due, a batch at a time. A batch that brings the same
// domains again ends the pass: their outcome could not be stored.
func (r *Refresher) pass(ctx context.Context) {
	seen := make(map[string]bool)
	for ctx.Err() == nil {
		var todo []string
		for _, domain := range r.Due(time.Now(), refreshBatch) {
			if !seen[domain] {
				seen[domain] = true
				todo = append(todo, domain)
			}
		}
		if len(todo) == 0 {
			return
		}
		var g errgroup.Group
		g.SetLimit(refreshAtOnce)
		for _, domain := range todo {
			g.Go(func() error {
				r.one(ctx, domain)
				return nil
			})
		}
		// The functions return no error.
		_ = g.Wait()
	}
}

func (r *Refresher) one(ctx context.Context, domain string) {
	defer func() {
		if p := recover(); p != nil {
			r.Log.Error("a defect in tlsverdict spoils the refresh of a policy", "domain", domain, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, refreshDeadline)
	defer cancel()
	changed, err := r.Refresh(ctx, domain)
	if err != nil {
		// RFC 8461 §3.3: the failure is worth an alert, the policy still holds.
		r.Log.Warn("an MTA-STS policy could not be refreshed; the cached one holds until it expires", "domain", domain, "error", err)
		return
	}
	if changed {
		r.Changed(domain)
	}
}
