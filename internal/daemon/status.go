package daemon

import (
	"context"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/engine"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/fairqueue"
	"tlsverdict/internal/history"
	"tlsverdict/internal/readiness"
	"tlsverdict/internal/socketmapd"
	"tlsverdict/internal/status"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
	"tlsverdict/internal/version"
)

// latestChanges is how many changes of verdicts the status page shows.
const latestChanges = 100

// page is the status page, which records answers from now on until ctx ends.
func (d *daemon) page(ctx context.Context, policies *surveys) http.Handler {
	recorder := status.NewRecorder(d.answered)
	go recorder.Run(ctx)
	started := time.Now().UTC()
	// Without a name the page has none.
	host, _ := os.Hostname()
	build, _ := debug.ReadBuildInfo()
	program := version.Of(build)
	// The store is that of the start, whatever a reload says.
	inMemory := d.cfg.Store.Path == ""
	return status.New(status.Options{
		Snapshot: func() status.Snapshot {
			s := d.snapshot(d.stack.Load())
			s.Host, s.Version, s.Started, s.Hour, s.Day = host, program, started, recorder.Hour(), recorder.Day()
			s.Store.Memory = inMemory
			s.Policies = dangers(policies.latest(ctx))
			return s
		},
		Explain: d.explain,
		Log:     d.log,
	})
}

// answered counts what mail servers were told of destinations, by verdict.
func (d *daemon) answered() status.Counts {
	var out status.Counts
	for kind, n := range d.totals.with(&d.stack).Answers {
		if !socketmapd.ForMail(kind.Map) {
			continue
		}
		if k, ok := status.ParseKind(kind.Outcome); ok {
			out[k] += n
		}
	}
	return out
}

// explain answers the box of the status page.
func (d *daemon) explain(ctx context.Context, dest string) (*explain.Report, error) {
	return d.stack.Load().Responder.Explain(fairqueue.WithClient(ctx, "the status page"), dest)
}

// snapshot is what the page shows of a stack, and of what all stacks share.
func (d *daemon) snapshot(s *Stack) status.Snapshot {
	totals, server, kept := d.totals.with(&d.stack), d.server.Stats(), d.store.Stats()
	out := status.Snapshot{
		Time: time.Now().UTC(), Observe: s.cfg.Mode == verdict.Observe,
		Cache: status.Cache{
			Entries: totals.Engine.Entries, Room: s.cfg.Cache.Entries, Hits: totals.Engine.Hits, Misses: totals.Engine.Misses,
			Refreshes: totals.Engine.Refreshes, Busy: totals.Engine.Busy, Panics: totals.Engine.Panics,
		},
		Connections: status.Connection{
			Open: server.Open, Room: d.limits.connections, Requests: server.Requests, Shed: server.Shed, Refused: server.Refused,
			Malformed: server.Malformed, Unfinished: server.Unfinished, Unread: server.Unread,
		},
		Store: status.Store{Durable: kept.Durable, Waiting: kept.Waiting, Failures: kept.Failures},
		Pins:  status.Pins{On: s.banners != nil, Hosts: kept.Pins},
	}
	out.DNSSEC, out.Upstreams = d.upstreams(s)
	out.Deferrals, out.DeferralsLeftOut = s.waits.List()
	out.Changes = d.changes(s.cfg)
	return out
}

// upstreams is how the resolvers were when they were looked at last.
func (d *daemon) upstreams(s *Stack) (status.DNSSEC, []status.Upstream) {
	h := s.Resolver.Health()
	f := readiness.Facts{Resolver: h}
	d.state.tell(&f)
	if h.Checked.IsZero() && !f.Resolver.Checked.IsZero() {
		// After a reload, until they are looked at again, it is what was known before.
		h = f.Resolver
	}
	proof := status.DNSSEC{Mode: s.cfg.DNS.DNSSEC.String(), Works: h.Validates, Warnings: h.Warnings, Checked: h.Checked.UTC()}
	if !h.Validates {
		proof.Problem = h.Problem
	}
	list := make([]status.Upstream, 0, len(h.Servers))
	for _, srv := range h.Servers {
		list = append(list, status.Upstream{
			Address: srv.Addr.String(), Answers: srv.Answers, Validates: srv.Validates, Problem: srv.Problem, Checked: srv.Checked.UTC(),
		})
	}
	return proof, list
}

// changes are the latest of verdicts.
func (d *daemon) changes(cfg *config.Config) status.Changes {
	var out status.Changes
	if cfg.Store.History == 0 {
		out.Problem = "No history is kept: [store] history is 0."
	}
	out.Downgrades = len(d.store.Changes(history.Filter{Downgrades: true, Since: time.Now().Add(-24 * time.Hour)}))
	for _, c := range d.store.Changes(history.Filter{Max: latestChanges}) {
		change := status.Change{Time: c.Time.UTC(), Destination: c.Dest, Before: c.Before.String(), After: c.After.String(), Downgrade: c.Downgrade}
		if n := len(c.Codes); n > 0 {
			change.Reason = verdict.Reason{Code: c.Codes[n-1]}.Text()
		}
		out.List = append(out.List, change)
	}
	return out
}

// dangers is what the policies came to, and when that was.
func dangers(v store.Survey, at time.Time) status.Policies {
	out := status.Policies{Expired: v.Expired, Failing: v.Failing, Checked: at.UTC()}
	if at.IsZero() {
		out.Checked = time.Time{}
	}
	for _, n := range v.Policies {
		out.Kept += n
	}
	for _, c := range v.Soonest {
		out.List = append(out.List, status.Policy{
			Domain: c.Domain, Mode: c.Policy.Mode.String(), Fetched: c.Fetched.UTC(), Expires: c.Expires().UTC(),
			Failures: c.Failures, Failure: c.LastFailure, Failed: c.FailedAt.UTC(), NextTry: c.NextTry.UTC(),
		})
	}
	return out
}

// follow has a list of deferrals follow what is ruled.
func follow(l *status.Deferrals, x *engine.Explanation) {
	dest := x.Facts.Destination.String()
	v, waits := x.InForce.Verdict.(verdict.Defer)
	if !waits {
		l.Passed(dest, x.Facts.Now.UTC())
		return
	}
	d := status.Deferral{Destination: dest, Text: v.Text, Fault: v.Fault.String(), Last: x.Facts.Now.UTC()}
	if n := len(x.Ruling.Reasons); n > 0 {
		d.Reason = string(x.Ruling.Reasons[n-1].Code)
	}
	l.Deferred(d)
}
