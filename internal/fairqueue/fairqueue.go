// Package fairqueue shares a bounded number of places out among clients, so that one
// who asks for all he can get leaves the others theirs.
//
//	q := fairqueue.New(512, 8192)
//	if err := q.Enter(ctx, client); err != nil {
//		return err // too many wait, or ctx has ended
//	}
//	defer q.Leave(client)
//
// A client is a name, such as an address. Three rules:
//
//   - A client may take a place as long as it holds less than three times as many as
//     are free (dynamic thresholds, as switches share out their buffers). So one alone
//     has three quarters, and some greedy ones leave a place for one who has none.
//   - A place that comes free goes to the waiting client that holds the fewest, and
//     among equals to the one that was served longest ago.
//   - Where as many wait as may, a newcomer takes the place of the last one of the
//     client that has most waiting, unless that is its own.
//
// WithClient and Client carry the name through a context, from where it is known to
// where something is shared out. The name "" is the program itself.
//
// # Limits
//
// Those behind one name are one client: among them, first come is first served.
// Finding who is next visits every waiting client, not everyone who waits.
package fairqueue

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrFull: too many wait already. Nothing was taken; it may be tried again later.
var ErrFull = errors.New("fairqueue: too many are waiting")

// headroom is how many times as many places as are free a client may hold.
const headroom = 3

// Queue is some places and who has them. New makes one; it is safe for concurrent use.
type Queue struct {
	most int // may wait

	mu      sync.Mutex
	free    int
	waiting int
	// shares are the clients that hold something or wait; queued those that wait, in
	// the order in which they began to.
	shares map[string]*share
	queued []*share
}

// share is what one client has. Its waiters are told nil for a place, or ErrFull.
type share struct {
	held    int
	waiters []chan error
}

// New returns a queue for so many places (at least 1), where so many may wait.
func New(places, waiting int) *Queue {
	return &Queue{free: max(places, 1), most: waiting, shares: make(map[string]*share)}
}

// Enter waits for a place. After nil, Leave must be called with the same name. Errors:
// ErrFull, or the cause of ctx's end.
func (q *Queue) Enter(ctx context.Context, client string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	q.mu.Lock()
	s := q.shares[client]
	if s == nil {
		s = new(share)
		q.shares[client] = s
	}
	// Whoever waits may not have a place now, or would have been given it.
	if len(s.waiters) == 0 && q.may(s) {
		q.give(s)
		q.mu.Unlock()
		return nil
	}
	if q.waiting >= q.most && !q.displace(s) {
		q.forget(client, s)
		q.mu.Unlock()
		return ErrFull
	}
	turn := make(chan error, 1)
	if len(s.waiters) == 0 {
		q.queued = append(q.queued, s)
	}
	s.waiters = append(s.waiters, turn)
	q.waiting++
	q.mu.Unlock()
	select {
	case err := <-turn:
		return err
	case <-ctx.Done():
		return q.abandon(ctx, client, turn)
	}
}

// abandon leaves the queue, or gives back what was given at the last moment.
func (q *Queue) abandon(ctx context.Context, client string, turn chan error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.shares[client]
	if s != nil {
		if i := slices.Index(s.waiters, turn); i >= 0 {
			q.drop(s, i)
			q.forget(client, s)
			return context.Cause(ctx)
		}
	}
	if err := <-turn; err == nil {
		q.leave(client)
	}
	return context.Cause(ctx)
}

// Leave gives a place back.
func (q *Queue) Leave(client string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave(client)
}

// Here and below mu is held.
func (q *Queue) leave(client string) {
	s := q.shares[client]
	if s == nil || s.held == 0 {
		panic("fairqueue: " + client + " leaves without having entered")
	}
	q.free++
	s.held--
	q.forget(client, s)
	for next := q.next(); next != nil; next = q.next() {
		turn := next.waiters[0]
		q.drop(next, 0)
		q.give(next)
		if i := slices.Index(q.queued, next); i >= 0 {
			q.queued = append(slices.Delete(q.queued, i, i+1), next)
		}
		turn <- nil
	}
}

func (q *Queue) may(s *share) bool { return s.held < headroom*q.free }

func (q *Queue) give(s *share) { q.free--; s.held++ }

// next is the waiting client that may have a place and holds the fewest, or nil.
func (q *Queue) next() *share {
	var best *share
	for _, s := range q.queued {
		if q.may(s) && (best == nil || s.held < best.held) {
			best = s
		}
	}
	return best
}

// displace refuses the last waiter of the client that has most of them, for the sake of
// one who would not have as many.
func (q *Queue) displace(newcomer *share) bool {
	longest := newcomer
	for _, s := range q.queued {
		if len(s.waiters) > len(longest.waiters) {
			longest = s
		}
	}
	if len(longest.waiters) <= len(newcomer.waiters)+1 {
		return false
	}
	last := len(longest.waiters) - 1
	turn := longest.waiters[last]
	q.drop(longest, last)
	turn <- ErrFull
	return true
}

// drop takes a waiter out.
func (q *Queue) drop(s *share, i int) {
	s.waiters = slices.Delete(s.waiters, i, i+1)
	q.waiting--
	if len(s.waiters) == 0 {
		s.waiters = nil
		q.queued = slices.DeleteFunc(q.queued, func(other *share) bool { return other == s })
	}
}

// forget drops a client that has nothing.
func (q *Queue) forget(client string, s *share) {
	if s.held == 0 && len(s.waiters) == 0 {
		delete(q.shares, client)
	}
}

type clientKey struct{}

// WithClient returns a context that says for whom something is done.
func WithClient(ctx context.Context, client string) context.Context {
	return context.WithValue(ctx, clientKey{}, client)
}

// Client returns for whom something is done; "": for the program itself.
func Client(ctx context.Context) string {
	client, _ := ctx.Value(clientKey{}).(string)
	return client
}
