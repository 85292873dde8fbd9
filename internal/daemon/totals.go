package daemon

import (
	"sync"
	"sync/atomic"

	"tlsverdict/internal/metrics"
	"tlsverdict/internal/probe"
)

// totals adds up what the stacks of all configurations have counted, so that no counter
// falls at a reload.
type totals struct {
	mu sync.Mutex
	// retiring are stacks that may still count, past is what those before them have counted.
	retiring map[*Stack]bool
	past     metrics.Totals
}

// succeed puts a stack in another's place, which goes on to count. Nobody who adds up sees
// the other neither here nor there.
func (t *totals) succeed(force *atomic.Pointer[Stack], next *Stack) (old *Stack) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retiring == nil {
		t.retiring = make(map[*Stack]bool)
	}
	old = force.Swap(next)
	t.retiring[old] = true
	return old
}

// close takes note that a stack counts no more.
func (t *totals) close(s *Stack) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.past = s.totals().Plus(t.past)
	delete(t.retiring, s)
}

// with returns the sum of everything, with what the stack in force keeps now.
func (t *totals) with(force *atomic.Pointer[Stack]) metrics.Totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.past
	for s := range t.retiring {
		sum = s.totals().Plus(sum)
	}
	return force.Load().totals().Plus(sum)
}

// totals is what a stack has counted.
func (s *Stack) totals() metrics.Totals {
	t := metrics.Totals{
		Answers: s.Responder.Answers(), Engine: s.Engine.Stats(), Resolve: s.Resolver.Stats(), Fetches: s.fetches(), Fleet: s.fleet.Stats(),
	}
	if s.ports != nil {
		t.Probes = s.ports.prober.Stats()
	}
	if b := s.banners; b != nil {
		t.Probes, t.Pins = both(t.Probes, b.prober.Stats()), b.learner.Stats()
	}
	return t
}

// both adds the counters of two probers.
func both(a, b probe.Stats) probe.Stats {
	return probe.Stats{
		Probes: a.Probes + b.Probes, Good: a.Good + b.Good, Refused: a.Refused + b.Refused,
		Targets: a.Targets + b.Targets, Running: a.Running + b.Running,
	}
}
