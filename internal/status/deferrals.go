package status

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// MaxDeferrals is how many destinations are remembered that mail waits or waited for.
const MaxDeferrals = 500

// Deferrals remembers which destinations mail waits for. The zero value is ready; it is
// safe for concurrent use.
type Deferrals struct {
	mu      sync.Mutex
	known   map[string]*Deferral
	dropped uint64
}

// Deferred takes note that a destination is deferred at d.Last. First, Times and Over of d
// are not read.
func (l *Deferrals) Deferred(d Deferral) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.known[d.Destination]
	if old == nil {
		l.makeRoom()
		old = &Deferral{}
		l.known[d.Destination] = old
	}
	if old.First.IsZero() || !old.Over.IsZero() {
		old.First, old.Times = d.Last, 0
	}
	d.First, d.Times, d.Over = old.First, old.Times+1, time.Time{}
	*old = d
}

// Passed takes note that a destination is not deferred.
func (l *Deferrals) Passed(destination string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.known[destination]; d != nil && d.Over.IsZero() {
		d.Over = at
	}
}

// makeRoom drops one where there are as many as are kept: the one that is over and was
// seen least lately, else the one that was seen least lately.
func (l *Deferrals) makeRoom() {
	if l.known == nil {
		l.known = make(map[string]*Deferral)
	}
	if len(l.known) < MaxDeferrals {
		return
	}
	var oldest *Deferral
	for _, d := range l.known {
		if oldest == nil || newer(oldest, d) < 0 {
			oldest = d
		}
	}
	if oldest.Over.IsZero() {
		l.dropped++
	}
	delete(l.known, oldest.Destination)
}

// newer orders those that are not over before the others, and the newest first.
func newer(a, b *Deferral) int {
	if open := a.Over.IsZero(); open != b.Over.IsZero() {
		if open {
			return -1
		}
		return 1
	}
	return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Destination, b.Destination))
}

// Inherit takes what another list has, which this one succeeds.
func (l *Deferrals) Inherit(from *Deferrals) {
	list, dropped := from.List()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.dropped = make(map[string]*Deferral, len(list)), dropped
	for i := range list {
		l.known[list[i].Destination] = &list[i]
	}
}

// List returns what is known, what mail still waits for first and the newest first of
// each, and how many had to make room while mail waited for them.
func (l *Deferrals) List() (list []Deferral, leftOut uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list = make([]Deferral, 0, len(l.known))
	for _, d := range l.known {
		list = append(list, *d)
	}
	slices.SortFunc(list, func(a, b Deferral) int { return newer(&a, &b) })
	return list, l.dropped
}
