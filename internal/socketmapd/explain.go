package socketmapd

import (
	"context"
	"errors"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/fairqueue"
	"tlsverdict/internal/nexthop"
	"tlsverdict/postfixmap"
)

// ErrBusy: too many reports are being written. It may be asked again.
var ErrBusy = errors.New("too many reports are being written; ask again")

// Explain makes the report that the map json answers with, for others than mail servers:
// within the same limits, and of the same length. fairqueue.WithClient says in ctx who
// asks. Errors are ErrBusy and those of nexthop.Parse, for a key that is no destination.
func (r *Responder) Explain(ctx context.Context, key string) (*explain.Report, error) {
	d, err := nexthop.Parse(key)
	if report := NothingApplies(key, err); report != nil {
		return report, nil
	}
	if err != nil {
		return nil, err
	}
	var report *explain.Report
	err = r.inTurn(ctx, d, func(x *engine.Explanation) error {
		report = r.Report(x)
		return report.Fit(postfixmap.MaxReply)
	})
	return report, err
}

// inTurn has a report written of what is known of a destination in time. To write one takes
// a thousand times as long as to answer with what is known, so that half of the processors
// are for the latter, and of the other half reports take half of the time. Errors are
// ErrBusy, and those of write.
func (r *Responder) inTurn(ctx context.Context, d nexthop.Destination, write func(*engine.Explanation) error) error {
	known, cancel := context.WithTimeout(ctx, r.opt.Deadline)
	x := r.engine.Explain(known, d)
	cancel()
	// That nothing was known in time is worth a report, too.
	turn, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	client := fairqueue.Client(ctx)
	if r.reports.Enter(turn, client) != nil {
		return ErrBusy
	}
	defer r.reports.Leave(client)
	start := time.Now()
	err := write(x)
	rest(ctx, time.Since(start))
	return err
}
