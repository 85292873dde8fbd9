package milterd

import (
	"context"
	"time"

	"github.com/d--j/go-milter"

	"tlsverdict/internal/nexthop"
)

// learn asks for the destinations that are not known yet, all at once, for a time.
func (s *session) learn(m milter.Modifier, dests []nexthop.Destination, patience time.Duration) {
	var missing []nexthop.Destination
	for _, d := range dests {
		if _, ok := s.known[d]; !ok {
			if s.known == nil {
				s.known = make(map[nexthop.Destination]answer)
			}
			s.known[d] = answer{err: ErrNoVerdict}
			missing = append(missing, d)
		}
	}
	if len(missing) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(s.server.background, patience)
	defer cancel()
	progress := time.NewTicker(progressTime)
	defer progress.Stop()
	answers := s.askAll(ctx, missing)
	for waiting := len(missing); waiting > 0; {
		select {
		case a := <-answers:
			waiting--
			s.known[a.dest] = a.answer
			if a.err != nil {
				s.unknown(a.dest, a.err)
			}
		case <-ctx.Done():
			// Whoever asks may be slower to give up than it should.
			s.unknown(missing[0], context.Cause(ctx))
			return
		case <-progress.C:
			// An older MTA does not know the word; it waits, or does not.
			_ = m.Progress()
		}
	}
}

// unknown counts and tells that a destination has no verdict.
func (s *session) unknown(d nexthop.Destination, err error) {
	s.server.counters.unknown.Add(1)
	s.server.seldom.Do(func() { s.server.log.Warn("no verdict can be had", "dest", d.String(), "error", err) })
}

type answered struct {
	dest nexthop.Destination
	answer
}

// askAll asks for each destination; the channel gets as many answers.
func (s *session) askAll(ctx context.Context, dests []nexthop.Destination) <-chan answered {
	answers := make(chan answered, len(dests))
	queue := make(chan nexthop.Destination, len(dests))
	for _, d := range dests {
		queue <- d
	}
	close(queue)
	set := s.set
	work := func() {
		for d := range queue {
			v, err := s.server.ask(ctx, set, d)
			answers <- answered{d, answer{verdict: v, err: err}}
		}
	}
	for range min(len(dests), maxAsking) {
		if !s.server.spawn(work) {
			for d := range queue {
				answers <- answered{d, answer{err: ErrNoVerdict}}
			}
		}
	}
	return answers
}
