package dnssec

import (
	"context"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// cut is what was proven of a name: whether a zone begins there, and with what keys.
type cut struct {
	kind cutKind
	// zone is the zone that begins here; nil for noCut and noName.
	zone *zone
	err  *Error
	// until is when it must be learnt anew. Nothing is used after that.
	born, until time.Time
}

// bogusLife is how long a broken delegation is remembered (RFC 4035 §4.7): long
// enough that it costs little, short enough that mending it shows.
const bogusLife = 45 * time.Second

// anchorLife is how long it is remembered that an anchored zone does not hold: everything
// waits for it, so that mending it should show at once.
const anchorLife = 2 * time.Second

// cuts remembers zone cuts by name, one flight each.
type cuts struct {
	mu      sync.Mutex
	entries map[name]*entry
	weight  int
	limit   int
}

// entry is a cut that is being learnt, or known when done is closed.
type entry struct {
	done   chan struct{}
	cut    cut
	weight int
	// orphaned: who learnt it gave up or ran out of means, which says nothing to others.
	orphaned bool
}

const entryWeight = 500 // octets, about, with its share of the map

func newCuts(limit int) *cuts {
	return &cuts{entries: make(map[name]*entry), limit: limit}
}

// passing reports what says nothing to others.
func (c *cut) passing() bool { return c.err != nil && (c.err.doubtful || c.err.passing()) }

// get returns what is known of a name, or lets learn find out for all who ask. That
// another asker had no reply says nothing: its upstream, or its share of it, failed.
func (c *cuts) get(ctx context.Context, n name, now func() time.Time, learn func() cut) cut {
	for {
		e, mine := c.join(n, now())
		if mine {
			c.learn(ctx, n, e, now, learn)
			return e.cut
		}
		select {
		case <-e.done:
		case <-ctx.Done():
			select {
			case <-e.done: // who has no more time to wait may read what is known
			default:
				return cut{err: gaveUp(ctx, n)}
			}
		}
		switch {
		case e.orphaned:
		case e.cut.passing():
			got := learn()
			c.put(n, got, now())
			return got
		default:
			return e.cut
		}
	}
}

// learn fills in an entry. It is settled whatever happens, since others wait for it.
func (c *cuts) learn(ctx context.Context, n name, e *entry, now func() time.Time, learn func() cut) {
	e.cut = cut{err: &Error{Why: NoReply, Subject: subject(n, dns.TypeDS), Detail: "a defect of this program"}}
	e.orphaned = true
	defer func() { c.settle(n, e, now()) }()
	e.cut = learn()
	e.orphaned = e.cut.err != nil && (ctx.Err() != nil || e.cut.err.Why == OverBudget)
}

// put keeps what was learnt outside a flight, unless someone knows better.
func (c *cuts) put(n name, got cut, now time.Time) {
	if got.err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[n]; old != nil {
		if old.weight == 0 || !old.cut.until.Before(got.until) {
			return
		}
		c.drop(n, old)
	}
	e := &entry{done: make(chan struct{}), cut: got}
	c.entries[n] = e
	c.keep(n, e, now)
	close(e.done)
}

func gaveUp(ctx context.Context, n name) *Error {
	return &Error{Why: NoReply, Subject: subject(n, dns.TypeDS), Detail: "gave up", Err: context.Cause(ctx)}
}

// join returns the entry of a name; mine reports that the caller must settle it.
func (c *cuts) join(n name, now time.Time) (e *entry, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e = c.entries[n]; e != nil && !e.stale(now) {
		return e, false
	}
	if e != nil {
		c.drop(n, e)
	}
	e = &entry{done: make(chan struct{})}
	c.entries[n] = e
	return e, true
}

// stale reports an entry that is known and over its time.
func (e *entry) stale(now time.Time) bool {
	select {
	case <-e.done:
		return e.cut.over(now)
	default:
		return false
	}
}

// over reports that the cut's time has passed, by the clock that only goes forward or by
// the one on the wall: the first stands still while a machine sleeps, and the second may
// be set. One that goes back to before the cut was learnt says nothing of its age.
func (c *cut) over(now time.Time) bool {
	wall := now.Round(0)
	return !now.Before(c.until) || !wall.Before(c.until.Round(0)) || wall.Before(c.born.Round(0))
}

// settle keeps what was learnt, or, where nothing was, forgets that it was asked.
func (c *cuts) settle(n name, e *entry, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.cut.passing() {
		delete(c.entries, n)
	} else {
		c.keep(n, e, now)
	}
	close(e.done)
}

func (c *cuts) keep(n name, e *entry, now time.Time) {
	e.cut.born = now
	e.weight = e.cut.weight(n)
	c.weight += e.weight
	c.shrink(n, now)
}

// weight is about how many octets the cut takes in memory.
func (c *cut) weight(n name) int {
	w := entryWeight + 2*len(n)
	if c.zone != nil {
		w += len(c.zone.step.Subject) + len(c.zone.step.Zone) + len(c.zone.step.Detail)
		if c.zone.keys != nil {
			w += c.zone.keys.weight()
		}
	}
	if c.err != nil {
		w += len(c.err.Subject) + len(c.err.Detail)
	}
	return w
}

// shrink makes room: what is over its time goes first, then any but the top-level
// domains that there are, which everyone needs.
func (c *cuts) shrink(keep name, now time.Time) {
	if c.weight <= c.limit {
		return
	}
	for n, e := range c.entries {
		if n != keep && e.weight > 0 && e.stale(now) {
			c.drop(n, e)
		}
	}
	for n, e := range c.entries {
		if c.weight <= c.limit*9/10 {
			return
		}
		if n != keep && e.weight > 0 && (n.labels() > 1 || e.cut.zone == nil) {
			c.drop(n, e)
		}
	}
}

// forgive drops what did not hold.
func (c *cuts) forgive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, e := range c.entries {
		if e.weight > 0 && e.cut.err != nil {
			c.drop(n, e)
		}
	}
}

func (c *cuts) drop(n name, e *entry) {
	c.weight -= e.weight
	delete(c.entries, n)
}

// forget drops what was learnt of a name before a time, so that it is learnt anew.
func (c *cuts) forget(n name, before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[n]; e != nil && e.weight > 0 && e.cut.born.Before(before) {
		c.drop(n, e)
	}
}

// known reports that a name is known, or being learnt.
func (c *cuts) known(n name, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[n]
	return e != nil && !e.stale(now)
}

// unsigned returns whether the name is at or below a cut that is known to be unsigned,
// so that nothing about it need be asked.
func (c *cuts) unsigned(n name, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; ; n = n.parent() {
		if e := c.entries[n]; e != nil && e.weight > 0 && !e.stale(now) && e.cut.kind == unsignedCut {
			return true
		}
		if n == root {
			return false
		}
	}
}
