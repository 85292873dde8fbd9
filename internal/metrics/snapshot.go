package metrics

import (
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/fleet"
	"tlsverdict/internal/history"
	"tlsverdict/internal/httpd"
	"tlsverdict/internal/pin"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/readiness"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/socketmapd"
	"tlsverdict/internal/store"
	"tlsverdict/postfixmap"
)

// Snapshot is what policyd counts, at one time.
type Snapshot struct {
	Totals
	// Server is the socketmap server, and Connections how many it takes.
	Server      postfixmap.Stats
	Connections int
	// CacheLimit is how many verdicts may be kept.
	CacheLimit int
	HTTP       httpd.Stats
	Store      store.Stats
	// History is of what became of verdicts.
	History history.Stats
	// Survey is what the policies came to when they were looked at; Surveyed is zero where
	// they were not yet.
	Survey   store.Survey
	Surveyed time.Time
	Health   resolve.Health
	Report   readiness.Report
	// Loaded is when the configuration in force was read, and Reloaded says that the last
	// reload was not refused.
	Loaded   time.Time
	Reloaded bool
	Build    Build
}

// Build is what the program was made of.
type Build struct{ Version, Revision, Go string }

// Totals are counters that begin anew with each configuration. Those of several are added.
type Totals struct {
	Answers map[socketmapd.AnswerKind]uint64
	Engine  engine.Stats
	Resolve resolve.Stats
	// Fetches are policy fetches by result.
	Fetches map[string]uint64
	Fleet   fleet.Stats
	Probes  probe.Stats
	Pins    pin.Stats
}

// Plus returns the sum. What is no counter, such as the verdicts that are kept, is that of t.
func (t Totals) Plus(past Totals) Totals {
	t.Answers = sum(t.Answers, past.Answers)
	e, p := &t.Engine, past.Engine
	e.Hits, e.Misses, e.Joined, e.Lost = e.Hits+p.Hits, e.Misses+p.Misses, e.Joined+p.Joined, e.Lost+p.Lost
	e.Flights, e.Refreshes, e.Busy, e.Panics = e.Flights+p.Flights, e.Refreshes+p.Refreshes, e.Busy+p.Busy, e.Panics+p.Panics
	e.Observed, e.Evicted = e.Observed+p.Observed, e.Evicted+p.Evicted
	e.Rulings, e.Deferrals, e.Signals = sum(e.Rulings, p.Rulings), sum(e.Deferrals, p.Deferrals), sum(e.Signals, p.Signals)
	t.Resolve.Questions = sum(t.Resolve.Questions, past.Resolve.Questions)
	t.Resolve.Proofs = sum(t.Resolve.Proofs, past.Resolve.Proofs)
	t.Resolve.OverQuestions += past.Resolve.OverQuestions
	t.Resolve.OverValidation += past.Resolve.OverValidation
	t.Fleet = fleets(t.Fleet, past.Fleet)
	t.Fetches = sum(t.Fetches, past.Fetches)
	t.Probes.Probes += past.Probes.Probes
	t.Probes.Good += past.Probes.Good
	t.Probes.Refused += past.Probes.Refused
	t.Pins.Banners += past.Pins.Banners
	t.Pins.Believed += past.Pins.Believed
	t.Pins.Pinned += past.Pins.Pinned
	return t
}

// fleets adds counters.
func fleets(f, past fleet.Stats) fleet.Stats {
	f.Asked, f.Failed, f.Found, f.Taken = f.Asked+past.Asked, f.Failed+past.Failed, f.Found+past.Found, f.Taken+past.Taken
	f.Foreign, f.Published, f.Healed, f.Dropped = f.Foreign+past.Foreign, f.Published+past.Published, f.Healed+past.Healed, f.Dropped+past.Dropped
	f.Connected += past.Connected
	return f
}

// sum adds counters, key by key.
func sum[K comparable](a, b map[K]uint64) map[K]uint64 {
	out := make(map[K]uint64, max(len(a), len(b)))
	for _, m := range []map[K]uint64{a, b} {
		for k, n := range m {
			out[k] += n
		}
	}
	return out
}
