package daemon

import (
	"log/slog"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/history"
	"tlsverdict/internal/store"
)

// chronicle has the store note what becomes of verdicts, and says what is weakened.
type chronicle struct {
	store *store.Store
	log   *slog.Logger
}

// ruled is for engine.Config.Ruled. A ruling that did not replace an earlier one, because a
// failure is behind it, is no change: what is answered counts.
func (c chronicle) ruled(x *engine.Explanation) {
	change := c.store.Note(history.Observation{
		Time: x.Facts.Now, Dest: x.Facts.Destination.String(), Verdict: x.InForce.Verdict, Source: x.InForce.Source,
		Until: x.InForce.Until, Reasons: x.Ruling.Reasons, Provisional: x.Ruling.Provisional,
	})
	if change == nil || !change.Downgrade {
		return
	}
	last := ""
	if n := len(change.Codes); n > 0 {
		last = string(change.Codes[n-1])
	}
	attrs := []any{
		"dest", change.Dest, "before", change.Before.Verdict, "before_source", change.Before.Source,
		"after", change.After.Verdict, "after_source", change.After.Source, "cause", string(change.Cause), "reason", last,
	}
	if !change.Waited.IsZero() {
		attrs = append(attrs, "deferred_since", change.Waited.UTC().Format(time.RFC3339))
	}
	c.log.Warn("a destination is promised less than before", attrs...)
}

// Changes implements control.Backend.
func (d *daemon) Changes(f history.Filter) []history.Change { return d.store.Changes(f) }

// States implements control.Backend.
func (d *daemon) States(name string) []history.State { return d.store.States(name) }
