package probe

import (
	"cmp"
	"container/heap"
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"tlsverdict/internal/verdict"
)

const (
	// DefaultAtOnce bounds the probes under way.
	DefaultAtOnce = 16
	// maxTargets bounds what is remembered.
	maxTargets = 10_000
	// paceEvery is the least time between the beginnings of two probes.
	paceEvery = 250 * time.Millisecond
	// goodFor is how long a host that has proved itself is believed.
	goodFor = time.Hour
	// freshAfter is how old a good result must be for Renew.
	freshAfter = time.Minute
	// failedPause is the time from the first probe that a host fails to the next;
	// it doubles up to longestPause. What was our own fault is tried again after the
	// former.
	failedPause  = 5 * time.Minute
	longestPause = 4 * time.Hour
)

// Pace is how often hosts are probed. The zero value is what suits those who rely on the
// latest result.
type Pace struct {
	// Good returns how long a host that has proved itself is believed; nil means an hour.
	// It is probed again after half to three quarters of that.
	Good func(*Result) time.Duration
	// Failed is the time from the first probe that a host fails to the next, and Longest
	// the most that it grows to; 0 means 5 minutes, and 4 hours.
	Failed, Longest time.Duration
}

// Config is what a Prober works with.
type Config struct {
	// Probe makes one probe; Client has it. Required.
	Probe func(context.Context, Target) Result
	// AtOnce bounds the probes under way; 0 means DefaultAtOnce.
	AtOnce int
	Pace   Pace
	// Done is told of each result, whatever came of it. It must not wait. Optional.
	Done func(Result)
	// Random returns a number from 0 up to 1, for the times of probes. Required.
	Random func() float64
	// Log is required.
	Log *slog.Logger
}

// Prober keeps what is known of hosts and has it renewed. It is safe for concurrent use.
// Nothing is probed but while Run runs.
type Prober struct {
	cfg  Config
	wake chan struct{}

	mu    sync.RWMutex
	known map[Target]*entry
	// believed are the hosts that are, with what is due first at its top; crowd has the
	// others, by owner. The former go first: strangers' hosts, of which there can be many,
	// must not make them wait until they are believed no longer.
	believed queue
	crowd    crowd
	// groups are the owners of hosts, sizes the same, the largest first.
	groups map[string]*group
	sizes  sizes
	// idle are the hosts that nobody wants, in the order in which they became so.
	idle    list.List
	running int
	// next is when the next probe may begin.
	next time.Time
	// full is when it was last said that there are too many hosts.
	full time.Time

	counts counters
}

type counters struct{ probes, good, refused atomic.Uint64 }

// Stats is a snapshot of a Prober's counters.
type Stats struct {
	// Probes that came to a result, and Good ones among them; Refused are hosts for
	// which there was no place.
	Probes, Good, Refused uint64
	// Targets is how many hosts are remembered, Running how many are being probed.
	Targets, Running int
}

// New returns a Prober; Run has it work.
func New(cfg Config) *Prober {
	if cfg.AtOnce <= 0 {
		cfg.AtOnce = DefaultAtOnce
	}
	if cfg.Pace.Good == nil {
		cfg.Pace.Good = func(*Result) time.Duration { return goodFor }
	}
	cfg.Pace.Failed = cmp.Or(cfg.Pace.Failed, failedPause)
	cfg.Pace.Longest = cmp.Or(cfg.Pace.Longest, longestPause)
	return &Prober{cfg: cfg, wake: make(chan struct{}, 1), known: make(map[Target]*entry), groups: make(map[string]*group)}
}

// Good reports whether a host has proved itself lately enough to be believed. It counts
// as interest in the host.
func (p *Prober) Good(t Target) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n := p.known[t]
	if n == nil {
		return false
	}
	now := time.Now()
	n.wanted.Store(now.UnixNano())
	return now.Before(n.until)
}

// Want notes interest in hosts: they are probed unless they are believed, or failed
// lately. It does not wait.
func (p *Prober) Want(targets ...Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, t := range targets {
		if n := p.get(t, now); n != nil && n.idle != nil {
			p.setBusy(n)
			p.schedule(n, later(now, n.notBefore))
		}
	}
}

// Renew is Want, and has those that are believed probed again soon: somebody is about to
// rely on them.
func (p *Prober) Renew(targets ...Target) {
	p.Want(targets...)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, t := range targets {
		n := p.known[t]
		if n == nil || n.running || !now.Before(n.until) {
			continue
		}
		if soon := later(now, n.notBefore); soon.Before(n.due) {
			p.schedule(n, soon)
		}
	}
}

// State returns what is known of a host.
func (p *Prober) State(t Target) State {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n := p.known[t]
	if n == nil {
		return State{}
	}
	s := State{Probed: n.last != nil, Until: n.until, Good: time.Now().Before(n.until)}
	if n.last != nil {
		s.Last = *n.last
	}
	if !n.running && n.idle == nil {
		s.Next = n.due
	}
	return s
}

// Stats returns the counters.
func (p *Prober) Stats() Stats {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return Stats{
		Probes: p.counts.probes.Load(), Good: p.counts.good.Load(), Refused: p.counts.refused.Load(),
		Targets: len(p.known), Running: p.running,
	}
}

// Run probes until ctx ends; then the probes under way are given up, and it waits for
// them.
func (p *Prober) Run(ctx context.Context) {
	var under sync.WaitGroup
	defer under.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for {
			n, wait := p.take()
			if n == nil {
				timer.Reset(wait)
				break
			}
			under.Go(func() { p.one(ctx, n) })
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// one probes a host and keeps what came of it.
func (p *Prober) one(ctx context.Context, n *entry) {
	r := p.probe(ctx, n.target)
	kept := r
	kept.Chain, kept.Greeting = nil, "" // of many hosts it would be much
	change := p.keep(n, &kept, p.life(&r))
	p.say(ctx, &r, change)
	r.Chain = nil
	if p.cfg.Done != nil && (r.Err == nil || r.Err.again == 0) {
		p.cfg.Done(r)
	}
}

// life is how long a good result is believed.
func (p *Prober) life(r *Result) time.Duration {
	if r.Err != nil {
		return 0
	}
	return p.cfg.Pace.Good(r)
}

// probe has a defect spoil one probe, and not the process: what is read there is what
// strangers send.
func (p *Prober) probe(ctx context.Context, t Target) (r Result) {
	began := time.Now()
	defer func() {
		if defect := recover(); defect != nil {
			p.cfg.Log.Error("a defect in tlsverdict spoils a probe", "host", t.Host, "panic", defect, "stack", string(debug.Stack()))
			r = Result{Target: t, Began: began, Err: &Error{Stage: Internal, Fault: verdict.Ours, Detail: "internal error"}}
		}
	}()
	return p.cfg.Probe(ctx, t)
}

// say writes the record of a probe. That a host does what it did is no news, and that one
// of all mail servers has no STARTTLS is none either.
func (p *Prober) say(ctx context.Context, r *Result, changed bool) {
	if r.Err != nil && r.Err.again > 0 || ctx.Err() != nil {
		return
	}
	level := slog.LevelDebug
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("host", r.Target.Host), slog.Int("port", int(r.Target.Port)), slog.String("kind", r.Target.Kind.String()))
	if r.Err == nil {
		attrs = append(attrs, slog.Bool("good", true), slog.String("by", r.By.String()))
	} else {
		attrs = append(attrs, slog.Bool("good", false), slog.String("stage", r.Err.Stage.String()), slog.String("fault", r.Err.Fault.String()), slog.String("error", r.Err.Detail))
	}
	if r.Address.IsValid() {
		attrs = append(attrs, slog.String("address", r.Address.String()))
	}
	if changed && r.Target.Kind == Implicit {
		level = slog.LevelInfo
		if r.Err != nil {
			level = severity(r.Err.Fault)
		}
	}
	attrs = append(attrs, slog.Duration("took", r.Took.Round(time.Millisecond)))
	p.cfg.Log.LogAttrs(ctx, level, "probe", attrs...)
}

// severity is the level of a failure, by who can mend it.
func severity(f verdict.Fault) slog.Level {
	switch f {
	case verdict.Ours:
		return slog.LevelError
	case verdict.Operator:
		return slog.LevelWarn
	case verdict.Remote:
		return slog.LevelInfo
	}
	panic(fmt.Sprintf("probe: fault %v", f))
}

// entry is what is remembered of a host. All but wanted is under Prober.mu.
type entry struct {
	target Target
	// wanted is when somebody last wanted it, in nanoseconds since 1970.
	wanted atomic.Int64
	last   *Result
	// until is the end of the belief in it.
	until time.Time
	// began is when its last probe did; notBefore when the next may.
	began, notBefore time.Time
	// due is when it is looked at next: probed, or forgotten if it is idle.
	due time.Time
	// idle is its place in Prober.idle, nil where it is not in there: somebody wants it.
	idle *list.Element
	// group is its owner's, and seen its place there since stamp, when it was wanted.
	group *group
	seen  *list.Element
	stamp int64
	// running: it is being probed, and in no queue.
	running  bool
	failures int
	// waits counts how often its address had been visited a moment before.
	waits int
	// in is the queue that it is in, at place.
	in    *queue
	place int
}

// queue is a heap of entries by what is due.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	n := x.(*entry)
	n.place = len(*q)
	*q = append(*q, n)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	n := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return n
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// get returns what is remembered of a host that somebody wants now, or makes it: then it
// is idle. nil: there is no place.
func (p *Prober) get(t Target, now time.Time) *entry {
	n := p.known[t]
	if n == nil {
		if len(p.known) >= maxTargets && !p.evict(t) {
			p.refuse(t, now)
			return nil
		}
		n = p.enter(t, now)
	}
	n.wanted.Store(now.UnixNano())
	return n
}

// refuse says, once a minute, that there are too many hosts.
func (p *Prober) refuse(t Target, now time.Time) {
	p.counts.refused.Add(1)
	if now.Sub(p.full) < time.Minute {
		return
	}
	p.full = now
	p.cfg.Log.Warn("too many hosts are to be probed; some are not", "host", t.Host, "hosts", len(p.known), "refused", p.counts.refused.Load())
}

// schedule puts an entry in its queue, to be looked at when it is due.
func (p *Prober) schedule(n *entry, due time.Time) {
	p.unschedule(n)
	n.due = due
	n.in = &n.group.waiting
	if n.last != nil && n.last.Err == nil && n.idle == nil {
		n.in = &p.believed
	}
	heap.Push(n.in, n)
	if n.in != &p.believed {
		p.settle(n.group)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Prober) unschedule(n *entry) {
	if n.in != nil {
		heap.Remove(n.in, n.place)
		n.in = nil
		p.settle(n.group)
	}
}

// take returns the host to be probed now, or how long to wait for one. What nobody wants
// any longer becomes idle, and is then forgotten.
func (p *Prober) take() (*entry, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for {
		n, wait := p.first(now)
		switch {
		case n == nil:
			return nil, wait
		case n.idle != nil:
			p.forget(n)
		case !n.began.IsZero() && n.wanted.Load() <= n.began.UnixNano():
			p.rest(n, now)
		case p.running >= p.cfg.AtOnce:
			return nil, long // who ends wakes
		case p.next.After(now):
			return nil, p.next.Sub(now)
		default:
			p.next = now.Add(paceEvery)
			if n.in == &n.group.waiting {
				n.group.served = now
			}
			p.unschedule(n)
			n.running, n.began = true, now
			p.running++
			return n, 0
		}
	}
}

// long is a wait for something that wakes.
const long = time.Hour

// first is what is due first, of those that are believed if there is one, or how long it
// is until something is.
func (p *Prober) first(now time.Time) (n *entry, wait time.Duration) {
	var heads []*entry
	if len(p.believed) > 0 {
		heads = append(heads, p.believed[0])
	}
	if len(p.crowd) > 0 {
		heads = append(heads, p.crowd[0].waiting[0])
	}
	wait = long
	for _, n := range heads {
		left := n.due.Sub(now)
		if left <= 0 {
			return n, 0
		}
		wait = min(wait, left)
	}
	return nil, wait
}

// rest has an entry be forgotten later: while it is remembered that a host failed, it is
// not probed too often, and while one is believed, it need not be probed anew.
func (p *Prober) rest(n *entry, now time.Time) {
	p.setIdle(n)
	end := n.until
	if !now.Before(end) {
		end = later(now, n.began.Add(p.cfg.Pace.Longest))
	}
	p.schedule(n, end)
}

// keep takes the result of a probe over, and reports whether it is news.
func (p *Prober) keep(n *entry, r *Result, life time.Duration) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.running = false
	p.running--
	now := time.Now()
	if r.Err != nil && r.Err.again > 0 {
		// Whoever wanted it has had nothing yet.
		n.began = time.Time{}
		// Where many names lead to one address they come in turn, and not all at once
		// again and again.
		p.schedule(n, now.Add(r.Err.again+p.part(visitEvery<<min(n.waits, 6))))
		n.waits++
		return false
	}
	n.waits = 0
	p.counts.probes.Add(1)
	good, before := r.Err == nil, now.Before(n.until)
	changed = n.last == nil || good != (n.last.Err == nil)
	switch {
	case good:
		p.counts.good.Add(1)
		n.failures, n.last = 0, r
		n.until, n.notBefore = n.began.Add(life), n.began.Add(freshAfter)
		p.schedule(n, n.began.Add(life/2+p.part(life/4)))
	case r.Err.Silent() && before:
		// It says nothing of the host.
		n.notBefore = now.Add(freshAfter)
		p.schedule(n, now.Add(p.cfg.Pace.Failed+p.part(p.cfg.Pace.Failed/2)))
		changed = true
	default:
		if !r.Err.Silent() {
			n.failures++
		}
		n.last, n.until = r, time.Time{}
		pause := min(p.cfg.Pace.Failed<<min(max(n.failures-1, 0), 10), p.cfg.Pace.Longest)
		n.notBefore = now.Add(pause + p.part(pause/2))
		p.schedule(n, n.notBefore)
	}
	return changed
}

// part returns a random part of a duration, so that what began together does not go on
// together.
func (p *Prober) part(d time.Duration) time.Duration {
	return time.Duration(p.cfg.Random() * float64(d))
}
