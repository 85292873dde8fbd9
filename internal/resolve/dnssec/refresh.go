package dnssec

import (
	"context"
	"sync"
	"time"

	"tlsverdict/internal/verdict"
)

// Bounds of what is learnt ahead of need.
const (
	// mostRefreshes are under way or wait for their time; beyond, a destination pays.
	mostRefreshes = 1024
	// mostRefreshing ask at the same time.
	mostRefreshing = 4
	// refreshTime is how long one may ask.
	refreshTime = 20 * time.Second
	// leastLife is the life of a cut below which it is not worth it.
	leastLife = time.Minute
)

// refresher learns cuts anew that are in use and near their end, so that no destination
// waits for them. Nothing lives longer for it: what it learns has a time of its own, and
// where it learns nothing the cut ends when it must.
type refresher struct {
	up    Upstream
	ctx   context.Context
	stop  context.CancelFunc
	jobs  sync.WaitGroup
	slots chan struct{}

	mu   sync.Mutex
	busy map[name]bool
}

func newRefresher(up Upstream) *refresher {
	r := &refresher{up: up, busy: make(map[name]bool), slots: make(chan struct{}, mostRefreshing)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Close ends what is learnt ahead of need, and waits for it. Sessions go on.
func (v *Validator) Close() {
	if v.ahead == nil {
		return
	}
	v.ahead.mu.Lock()
	v.ahead.stop()
	v.ahead.mu.Unlock()
	v.ahead.jobs.Wait()
}

// used begins to learn a cut anew when it was used in the last tenth of its life.
func (v *Validator) used(c name, got cut) {
	life, left := got.until.Sub(got.born), got.until.Sub(v.now())
	if v.ahead == nil || got.err != nil || life < leastLife || left > life/10 {
		return
	}
	v.ahead.begin(c, func() { v.relearn(c, got.until) })
}

// begin starts a job, unless somebody is at it, or there is no room.
func (r *refresher) begin(c name, job func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[c] || len(r.busy) >= mostRefreshes || r.ctx.Err() != nil {
		return
	}
	r.busy[c] = true
	r.jobs.Go(func() {
		defer r.release(c)
		// What panics here panics in the next lookup, where it is seen.
		defer func() { _ = recover() }()
		job()
	})
}

func (r *refresher) release(c name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, c)
}

// relearn asks at once, and, where the upstream still has the same records in its own
// cache, again as soon as they have ended there.
func (v *Validator) relearn(c name, end time.Time) {
	if v.replace(c, end) {
		return
	}
	select {
	case <-time.After(end.Sub(v.now()) + time.Second): // TTLs are whole seconds
	case <-v.ahead.ctx.Done():
		return
	}
	v.learning(func(ctx context.Context, s *Session) { _, _ = s.zoneOf(ctx, c) })
}

// replace learns a cut beside the one that is known, and reports whether it is good for
// longer.
func (v *Validator) replace(c name, end time.Time) (longer bool) {
	v.learning(func(ctx context.Context, s *Session) {
		got := s.proveAgain(ctx, c)
		longer = got.err == nil && got.until.After(end)
		v.cuts.put(c, got, v.now())
	})
	return longer
}

func (v *Validator) learning(do func(context.Context, *Session)) {
	select {
	case v.ahead.slots <- struct{}{}:
	case <-v.ahead.ctx.Done():
		return
	}
	defer func() { <-v.ahead.slots }()
	ctx, cancel := context.WithTimeout(v.ahead.ctx, refreshTime)
	defer cancel()
	s := v.Session(v.ahead.up)
	defer s.Close()
	do(ctx, s)
}

// proveAgain learns a cut whatever is known of it.
func (s *Session) proveAgain(ctx context.Context, c name) cut {
	if apex, ok := s.v.anchors.closest(c); ok && apex == c {
		return s.proveAnchor(ctx, c)
	}
	above, err := s.zoneOf(ctx, c.parent())
	if err == nil && above.proof != verdict.Secure {
		err = &Error{Why: NoReply, Subject: c.String(), Detail: "no zone above it is secure any more"}
	}
	if err != nil {
		return cut{err: err}
	}
	return s.proveCut(ctx, above, c)
}
