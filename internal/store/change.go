package store

import (
	"sync/atomic"
	"time"

	"tlsverdict/internal/mtasts"
)

// change is what is to happen to one domain's record.
type change struct {
	kind   kind
	cached mtasts.Cached // put
	at     time.Time     // touch
	// read orders changes that wait by when they were last read, or made.
	read *atomic.Uint64
}

type kind uint8

const (
	put kind = iota + 1
	touch
	remove
)

// apply returns the policy after the change.
func (c change) apply(old mtasts.Cached, found bool) (mtasts.Cached, bool) {
	switch c.kind {
	case put:
		return c.cached, true
	case touch:
		if !found {
			return mtasts.Cached{}, false
		}
		return old.AfterUse(c.at), true
	case remove:
		return mtasts.Cached{}, false
	}
	panic("store: a change that does nothing")
}

// after returns the one change that does what first and then c do.
func (c change) after(first change) change {
	if c.kind != touch || first.kind == touch {
		return c
	}
	if cached, found := c.apply(first.cached, first.kind == put); found {
		return change{kind: put, cached: cached}
	}
	return first
}

// cost returns about how many octets a change takes in memory.
func (c change) cost() int {
	const fixed, perLine = 512, 48
	n := fixed
	for _, line := range c.cached.Policy.Lines {
		n += len(line) + perLine
	}
	return n
}
