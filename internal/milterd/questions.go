package milterd

import (
	"context"
	"fmt"
	"runtime/debug"

	"tlsverdict/internal/nexthop"
)

// prefetch asks for a destination in the background, if there is room.
func (s *Server) prefetch(set *Settings, d nexthop.Destination) {
	select {
	case s.ahead <- struct{}{}:
	default:
		s.counters.unprefetched.Add(1)
		return
	}
	s.counters.prefetched.Add(1)
	started := s.spawn(func() {
		defer func() { <-s.ahead }()
		ctx, cancel := context.WithTimeout(s.background, set.Deadline)
		defer cancel()
		s.warm(ctx, set, d)
	})
	if !started {
		<-s.ahead
	}
}

// warm has a verdict worked out. Who needs it asks again, and sees the error.
func (s *Server) warm(ctx context.Context, set *Settings, d nexthop.Destination) {
	defer s.survive(nil)
	_ = set.Asker.Warm(ctx, d)
}

// ask asks for one destination.
func (s *Server) ask(ctx context.Context, set *Settings, d nexthop.Destination) (v Verdict, err error) {
	defer s.survive(&err)
	s.counters.asked.Add(1)
	return set.Asker.Ask(ctx, d)
}

// why asks for the reason of a verdict, if there is room. There is no queue: to be
// refused without a reason is better than to wait for it.
func (s *Server) why(ctx context.Context, set *Settings, d nexthop.Destination, v Verdict) string {
	select {
	case s.explaining <- struct{}{}:
	default:
		s.counters.unexplained.Add(1)
		return ""
	}
	text := make(chan string, 1)
	started := s.spawn(func() {
		defer func() { <-s.explaining }()
		// Also when there is none, so that nobody waits for it.
		defer close(text)
		defer s.survive(nil)
		text <- set.Asker.Why(ctx, d, v)
	})
	if !started {
		<-s.explaining
		return ""
	}
	s.counters.explained.Add(1)
	select {
	case t := <-text:
		return t
	case <-ctx.Done():
		return ""
	}
}

// survive turns a panic of an Asker into an error, if there is a place for one: it
// happens in a goroutine in which it would end the process.
func (s *Server) survive(err *error) {
	p := recover()
	if p == nil {
		return
	}
	s.panicked(p)
	if err != nil {
		*err = ErrNoVerdict
	}
}

// panicked counts and tells what was recovered.
func (s *Server) panicked(p any) {
	s.counters.panics.Add(1)
	s.log.Error("a callback of the milter panicked; the mail is deferred", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}
