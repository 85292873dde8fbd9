package engine

import (
	"maps"
	"sync"

	"tlsverdict/internal/verdict"
)

// RulingKind is what rulings are counted by. There are few: the verdicts' names, and the
// sources.
type RulingKind struct {
	// Verdict is its name; "override" for an operator's own words.
	Verdict string
	Source  verdict.Source
}

// DeferralKind is what deferrals are counted by.
type DeferralKind struct {
	Reason verdict.Code
	Fault  verdict.Fault
}

// rulings counts what was worked out.
type rulings struct {
	mu     sync.Mutex
	kinds  map[RulingKind]uint64
	defers map[DeferralKind]uint64
}

func (r *rulings) count(x *verdict.Ruling) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kinds == nil {
		r.kinds, r.defers = make(map[RulingKind]uint64), make(map[DeferralKind]uint64)
	}
	r.kinds[RulingKind{CountedAs(x.Verdict), x.Source}]++
	if v, ok := x.Verdict.(verdict.Defer); ok {
		r.defers[DeferralKind{x.Reasons[len(x.Reasons)-1].Code, v.Fault}]++
	}
}

// copy returns the counters as they are.
func (r *rulings) copy() (map[RulingKind]uint64, map[DeferralKind]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.kinds), maps.Clone(r.defers)
}

// CountedAs is the word under which a verdict is counted: its name, or "override" for an
// operator's own words, of which there may be any number.
func CountedAs(v verdict.Verdict) string {
	if _, fixed := v.(verdict.Fixed); fixed {
		return "override"
	}
	return v.Name()
}
