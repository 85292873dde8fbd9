package daemon

import (
	"context"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"tlsverdict/internal/httpd"
	"tlsverdict/internal/metrics"
	"tlsverdict/internal/store"
)

const (
	// surveyEvery is how often all policies are looked at, at most.
	surveyEvery = time.Minute
	// surveyShare is how many times as long as the last look took the next one is away at
	// least: a look at a million policies takes a second of a processor.
	surveyShare = 50
)

// surveys keeps what the policies came to when they were looked at last.
type surveys struct {
	store *store.Store

	mu   sync.Mutex
	last store.Survey
	at   time.Time
	next time.Time
	busy bool
}

// latest returns what is known, and when it was found; the zero time if it was not yet. Where
// that is old, it has the policies looked at, and does not wait.
func (s *surveys) latest(ctx context.Context) (store.Survey, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy && time.Now().After(s.next) {
		s.busy = true
		go s.look(ctx)
	}
	return s.last, s.at
}

// look looks at all policies.
func (s *surveys) look(ctx context.Context) {
	began := time.Now()
	v, err := s.store.Survey(ctx, began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	s.next = time.Now().Add(max(surveyEvery, surveyShare*time.Since(began)))
	// After an error, which the log has, what was found before is better than half of it.
	if err == nil {
		s.last, s.at = v, began
	}
}

// measured answers scrapes. ctx is the daemon's life.
func (d *daemon) measured(ctx context.Context, server func() httpd.Stats, policies *surveys) http.Handler {
	storePath := d.cfg.Store.Path
	build := buildInfo()
	return metrics.Handler(d.durations, func() metrics.Snapshot {
		s := d.stack.Load()
		snap := metrics.Snapshot{
			Totals: d.totals.with(&d.stack), Server: d.server.Stats(), Connections: d.limits.connections, CacheLimit: s.cfg.Cache.Entries,
			HTTP: server(), Store: d.store.Stats(), History: d.store.HistoryStats(), Health: s.Resolver.Health(), Report: d.readiness(storePath), Build: build,
		}
		snap.Survey, snap.Surveyed = policies.latest(ctx)
		snap.Loaded, snap.Reloaded = d.state.settings()
		return snap
	}, d.log)
}

// buildInfo is what the program was made of, as far as it knows.
func buildInfo() metrics.Build {
	b := metrics.Build{Version: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version, b.Go = info.Main.Version, info.GoVersion
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}
