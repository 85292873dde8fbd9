package dnssec

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// flight is a question on its way, or its reply when done is closed.
type flight struct {
	owner *Session // who sent it
	done  chan struct{}
	msg   message
	err   *Error
	// abandoned: who sent it gave up or ran out of means, which says nothing to others.
	abandoned bool
	// panicked is what a defect left behind. It is for the lookup that asks, not for a
	// goroutine that nobody watches.
	panicked error
}

// shareFor is how long a reply is handed to other sessions that ask the same.
const shareFor = 5 * time.Second

// commons are the questions about zone cuts that live sessions have sent: those are the
// same for every destination below, and when many begin at once nobody knows them yet.
// The zero value is empty.
type commons struct {
	mu      sync.Mutex
	flights map[Query]*flight
}

// offer returns the flight that someone else has, or takes this one.
func (c *commons) offer(q Query, f *flight, now time.Time) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.flights[q]; other != nil && other.fresh(now) {
		return other
	}
	if c.flights == nil {
		c.flights = make(map[Query]*flight)
	}
	c.flights[q] = f
	return nil
}

func (c *commons) withdraw(q Query, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[q] == f {
		delete(c.flights, q)
	}
}

// fresh reports a flight that is on its way, or has only just ended.
func (f *flight) fresh(now time.Time) bool {
	select {
	case <-f.done:
		return now.Sub(f.msg.at) < shareFor
	default:
		return true
	}
}

// question names a question to the upstream.
func question(n name, rtype uint16, again int) Query {
	return Query{Name: n.String(), Type: rtype, Again: again}
}

// ofCuts reports a question that other destinations ask, too.
func (q Query) ofCuts() bool { return q.Type == dns.TypeDS || q.Type == dns.TypeDNSKEY }

// ask returns the reply to a question: one that came, or is on its way, or is sent for
// now. That another session failed says nothing about this one.
func (s *Session) ask(ctx context.Context, q Query) (*message, *Error) {
	for ctx.Err() == nil || s.landed(q) {
		f, mine := s.join(q)
		if mine {
			s.fly(ctx, q, f)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			continue
		}
		switch {
		case f.owner != s && f.err != nil:
			s.disown(q)
		case f.panicked != nil:
			panic(f.panicked)
		case mine || !f.abandoned:
			return &f.msg, f.err
		}
	}
	return nil, &Error{Why: NoReply, Subject: q.subject(), Detail: "gave up", Err: context.Cause(ctx)}
}

// landed reports that the reply to a question is there, so that who has no more time to
// wait can read it.
func (s *Session) landed(q Query) bool {
	s.mu.Lock()
	f := s.asked[q]
	s.mu.Unlock()
	if f == nil {
		return false
	}
	select {
	case <-f.done:
		return !f.abandoned
	default:
		return false
	}
}

// insist asks until a reply holds, each time elsewhere, and returns why the first did
// not: in doubt where it could not be asked elsewhere. A reply that another session asked
// for is not counted: its upstream does not know whom this one should avoid.
func (s *Session) insist(ctx context.Context, q Query, holds func(*message) *Error) *Error {
	var first *Error
	var doubted []*message
	for q.Again = 0; q.Again < tries; {
		m, err := s.ask(ctx, q)
		if err == nil {
			if err = holds(m); err == nil {
				s.excuse(doubted)
				return nil
			}
			doubted = append(doubted, m)
		}
		if first == nil {
			first = err.copy()
		}
		first.doubtful = first.doubtful || err.doubtful || err.passing()
		if err.passing() {
			break
		}
		if !s.disown(q) {
			q.Again++
		}
	}
	return first
}

// excuse gives the failures of replies back in whose place another holds.
func (s *Session) excuse(doubted []*message) {
	for _, m := range doubted {
		s.budget.excuse(m)
	}
}

// begin sends a question whose reply will be asked for later.
func (s *Session) begin(ctx context.Context, q Query) {
	f, mine := s.join(q)
	if !mine {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	s.mu.Lock()
	s.stops = append(s.stops, stop)
	s.mu.Unlock()
	s.ahead.Go(func() {
		defer stop()
		s.fly(ctx, q, f)
	})
}

// join returns the flight of a question; mine reports that the caller must fly it.
func (s *Session) join(q Query) (f *flight, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.asked[q]; f != nil {
		return f, false
	}
	f = &flight{owner: s, done: make(chan struct{})}
	if q.ofCuts() && !s.alone[q] {
		if other := s.v.commons.offer(q, f, s.v.now()); other != nil {
			s.asked[q] = other
			return other, false
		}
	}
	s.asked[q] = f
	return f, true
}

// disown lets go of a reply that another session asked for, so that this one asks by
// itself. It reports whether there was one.
func (s *Session) disown(q Query) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.asked[q]
	if f == nil || f.owner == s {
		return false
	}
	delete(s.asked, q)
	s.alone[q] = true
	return true
}

func (s *Session) fly(ctx context.Context, q Query, f *flight) {
	defer func() {
		if p := recover(); p != nil {
			f.panicked = fmt.Errorf("dnssec: %s: panic: %v\n%s", q.subject(), p, debug.Stack())
			f.err = &Error{Why: NoReply, Subject: q.subject(), Detail: "a defect of this program"}
		}
		s.land(ctx, q, f)
	}()
	f.msg, f.err = s.exchange(ctx, q)
}

// land ends a flight. Nobody else gets what has failed.
func (s *Session) land(ctx context.Context, q Query, f *flight) {
	if f.err != nil {
		f.abandoned = ctx.Err() != nil || f.err.Why == OverBudget
		s.v.commons.withdraw(q, f)
	}
	if f.abandoned {
		s.mu.Lock()
		delete(s.asked, q)
		s.mu.Unlock()
	}
	close(f.done)
}

func (q Query) subject() string { return q.Name + " " + typeName(q.Type) }

var errNoReply = errors.New("the upstream returned nothing")

// exchange asks the upstream. The reply is held against the question once more: to
// prove another name's records would prove too much.
func (s *Session) exchange(ctx context.Context, q Query) (message, *Error) {
	if !s.budget.query() {
		return message{}, &Error{Why: OverBudget, Subject: q.subject(), Detail: fmt.Sprintf("more than %d questions, or too much work", MaxQueries), Err: errBudget}
	}
	m, err := s.up.Exchange(ctx, q)
	switch {
	case err != nil:
		return message{}, &Error{Why: NoReply, Subject: q.subject(), Err: err}
	case m == nil:
		return message{}, &Error{Why: NoReply, Subject: q.subject(), Err: errNoReply}
	case !m.Response || len(m.Question) != 1 || !q.matches(m.Question[0]):
		return message{}, &Error{Why: NoReply, Subject: q.subject(), Detail: "the reply is to another question"}
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return message{}, &Error{Why: NoReply, Subject: q.subject(), Detail: "the reply has rcode " + dns.RcodeToString[m.Rcode]}
	}
	if !s.budget.records(m.Answer, m.Ns) {
		return message{}, &Error{Why: OverBudget, Subject: q.subject(), Detail: fmt.Sprintf("more than %d records, or too much work", MaxRecords), Err: errBudget}
	}
	return index(m, s.v.now()), nil
}

func (q Query) matches(got dns.Question) bool {
	asked, err1 := parseName(q.Name)
	n, err2 := parseName(got.Name)
	return err1 == nil && err2 == nil && n == asked && got.Qtype == q.Type && got.Qclass == dns.ClassINET
}
