package milterd

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"time"

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

// why returns the reason of a verdict, or asks for it if there is room. There is no queue:
// to be refused without a reason is better than to wait for it.
func (s *Server) why(ctx context.Context, set *Settings, d nexthop.Destination, v Verdict) string {
	if known := s.reasons.of(d, v); known != "" {
		return known
	}
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
		s.reasons.keep(d, v, t)
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

const (
	// reasonTime is how long a reason is told again without asking: mail that is
	// refused comes in numbers, and a report is costly.
	reasonTime = time.Minute
	// maxReasons bounds the reasons that are kept.
	maxReasons = 4096
)

// reasons are those that were told lately. The zero value has none.
type reasons struct {
	mu   sync.Mutex
	told map[reasonOf]reason
}

type reasonOf struct {
	dest         nexthop.Destination
	name, source string
}

type reason struct {
	text  string
	until time.Time
}

// of returns the reason for a verdict on a destination; empty if it is not known.
func (r *reasons) of(d nexthop.Destination, v Verdict) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.told[reasonOf{d, v.Name, v.Source}]; time.Now().Before(known.until) {
		return known.text
	}
	return ""
}

func (r *reasons) keep(d nexthop.Destination, v Verdict, text string) {
	if text == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if len(r.told) >= maxReasons {
		maps.DeleteFunc(r.told, func(_ reasonOf, old reason) bool { return now.After(old.until) })
	}
	if r.told == nil || len(r.told) >= maxReasons {
		r.told = make(map[reasonOf]reason)
	}
	r.told[reasonOf{d, v.Name, v.Source}] = reason{text, now.Add(reasonTime)}
}
