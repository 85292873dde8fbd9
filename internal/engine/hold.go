package engine

import (
	"sync/atomic"
	"time"

	"tlsverdict/internal/nexthop"
)

// Hold is a known verdict at hand, for those who are asked for it again and again and
// would search for it each time. It is safe for concurrent use.
type Hold struct {
	engine *Engine
	dest   nexthop.Destination
	entry  *entry
	// used is when the cache was last told that the verdict is in use.
	used atomic.Int64
}

// useEvery is how often that is: the cache gives up first what is not in use.
const useEvery = time.Second

// Hold returns the verdict that is in force, if one is known, or nil. It never waits.
func (e *Engine) Hold(d nexthop.Destination) *Hold {
	n, now, ok := e.cache.get(d)
	if !ok {
		return nil
	}
	h := &Hold{engine: e, dest: d, entry: n}
	h.used.Store(int64(now))
	return h
}

// Ruled is the verdict.
func (h *Hold) Ruled() Ruled { return h.engine.ruled(h.entry) }

// Hit is as Cached: it reports whether the verdict is still what Cached would return, and
// counts as a question for it.
func (h *Hold) Hit() bool {
	now := h.engine.clock()
	if now >= h.entry.until || h.entry.renewal.Load() == gone {
		return false
	}
	if now-time.Duration(h.used.Load()) >= useEvery {
		h.used.Store(int64(now))
		h.engine.cache.get(h.dest)
	}
	h.engine.hit(h.dest, h.entry, now)
	return true
}
