package resolve

import (
	"context"
	"slices"
	"sync"
)

const (
	// breadth is how many questions of one session are on their way at once while
	// others ask too. A domain with seven hosts never notices it; one with thirty
	// silent hosts holds no more than this of what others need.
	breadth = 16
	// firsts is how many questions a session may have on their way even when
	// only the reserve is left: MX and TXT, then the addresses of two hosts.
	firsts = 4
)

// gate bounds the questions on their way, and is fair to those who ask few. While
// seven eighths of its slots are free a session takes what it needs, so that many
// hosts cost no more time than one. Then it has its breadth, until half is left:
// the reserve, which is for the first questions of those that come after, so that
// sessions whose servers keep silent leave room for them. Where even the reserve is
// used up, the next slot goes to the session that holds the fewest.
type gate struct {
	mu    sync.Mutex
	free  int
	slots int
	// waiting are the shares with a queue, in the order in which they came.
	waiting []*share
}

// share is what one session holds of a gate, whose mu guards it. The zero value
// holds nothing.
type share struct {
	held  int
	queue []chan struct{}
}

func newGate(slots int) *gate { return &gate{free: slots, slots: slots} }

// enter waits for a slot, or for the end of ctx, and then returns errBusy. After
// nil, leave must be called.
func (g *gate) enter(ctx context.Context, s *share) error {
	if ctx.Err() != nil {
		return errBusy
	}
	g.mu.Lock()
	// Whoever waits may not have a slot now, or would have been given it.
	if g.may(s) {
		g.give(s)
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	if len(s.queue) == 0 {
		g.waiting = append(g.waiting, s)
	}
	s.queue = append(s.queue, turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.abandon(s, turn)
		return errBusy
	}
}

// leave gives a slot back.
func (g *gate) leave(s *share) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.take(s)
}

// abandon leaves the queue, or gives back what was given at the last moment.
func (g *gate) abandon(s *share, turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(s.queue, turn)
	if i < 0 {
		g.take(s)
		return
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	g.tidy(s)
}

// may reports whether a share can have a slot more. Here and below mu is held.
func (g *gate) may(s *share) bool {
	switch {
	case s.held < firsts:
		return g.free > 0
	case s.held < breadth:
		return g.free > g.slots/2
	}
	return g.free > g.slots-g.slots/8
}

func (g *gate) give(s *share) { g.free--; s.held++ }

func (g *gate) take(s *share) {
	g.free++
	s.held--
	for next := g.next(); next != nil; next = g.next() {
		g.give(next)
		close(next.queue[0])
		next.queue = next.queue[1:]
		g.tidy(next)
	}
}

// next is the share that can have a slot and holds the fewest, or nil.
func (g *gate) next() *share {
	var best *share
	for _, s := range g.waiting {
		if g.may(s) && (best == nil || s.held < best.held) {
			best = s
		}
	}
	return best
}

func (g *gate) tidy(s *share) {
	if len(s.queue) > 0 {
		return
	}
	s.queue = nil
	if i := slices.Index(g.waiting, s); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}
