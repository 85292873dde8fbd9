package socketmapd

import (
	"hash/maphash"
	"sync/atomic"

	"tlsverdict/internal/engine"
	"tlsverdict/postfixmap"
)

// recent are answers to questions that came lately. Few domains take most of the mail:
// for those the key is not read, the verdict not searched for and the line not spelled
// again, and nothing is allocated, so that a collection of garbage that is under way does
// not ask for help. Each answer holds as long as its verdict does.
type recent struct {
	seed  maphash.Seed
	slots [recentSlots]slot
}

const (
	recentSlots = 16384
	// longestAnswer is the length of the longest question, and line, that is kept, in
	// octets.
	longestAnswer = 512
)

// slot has the answer to one question, of all that fall on it.
type slot struct {
	held atomic.Pointer[answer]
	// last is a mark of the last question that was not that one.
	last atomic.Uint32
}

// answer does not change.
type answer struct {
	mapName, key string
	hold         *engine.Hold
	line
}

// line is what is answered, and the counter of such answers.
type line struct {
	text string
	cell int
}

func newRecent() *recent { return &recent{seed: maphash.MakeSeed()} }

// place is a slot with the question that it was found by.
type place struct {
	*slot
	mark uint32
}

// slot returns that of a question.
func (r *recent) slot(req postfixmap.Request) place {
	h := maphash.Bytes(r.seed, req.Key) + maphash.Bytes(r.seed, req.Map)
	return place{&r.slots[h%recentSlots], uint32(h>>32) | 1}
}

// answer returns what is kept for the question, or nil.
func (p place) answer(req postfixmap.Request) *answer {
	a := p.held.Load()
	if a == nil || a.key != string(req.Key) || a.mapName != string(req.Map) { // compared where they are
		return nil
	}
	return a
}

// again reports whether the question was also the last one that had no answer here: one
// that comes only once is not worth a place.
func (p place) again() bool { return p.last.Swap(p.mark) == p.mark }

// keep puts an answer in place of the one that is there.
func (p place) keep(req postfixmap.Request, hold *engine.Hold, l line) {
	if len(req.Key)+len(req.Map) <= longestAnswer && len(l.text) <= longestAnswer {
		p.held.Store(&answer{mapName: string(req.Map), key: string(req.Key), hold: hold, line: l})
	}
}
