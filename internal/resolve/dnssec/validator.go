package dnssec

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Query is one question to an upstream.
type Query struct {
	// Name is fully qualified and in lower case, in the form of a zone file.
	Name string
	Type uint16
	// Again is how many replies to this question did not hold: 0 for the first. The
	// upstream that sent those should not be asked once more, or without CD, since
	// with it a cache may hand out what it holds to be bogus.
	Again int
}

// Upstream asks recursive name servers. Queries carry RD, DO and CD (RFC 4035 §3.2.1,
// §3.2.2), and the reply must have been held against the question. An implementation
// retries and fails over as it sees fit; it returns an error where there is no reply
// with NOERROR or NXDOMAIN. It is called from several goroutines at once, and must
// return when ctx ends. The reply is not changed.
type Upstream interface {
	Exchange(ctx context.Context, q Query) (*dns.Msg, error)
}

// Config is what a Validator needs. The zero value works: the root's anchors.
type Config struct {
	// Anchors are trusted without proof. nil: BuiltIn.
	Anchors *Anchors
	// SHA1 accepts signatures of RSASHA1 and RSASHA1-NSEC3-SHA1. Without it, zones that
	// have no other are insecure (RFC 9905 §2).
	SHA1 bool
	// CacheOctets is about how much memory the cache of keys and delegations may take.
	// 0: 32 MiB, enough for some twenty thousand signed domains.
	CacheOctets int
	// Clock tells the time; nil: time.Now.
	Clock func() time.Time
}

const defaultCache = 32 << 20

// Validator proves answers. It keeps zone cuts and keys, and nothing else: answers are
// the caller's to keep. It is safe for concurrent use.
type Validator struct {
	anchors *Anchors
	suite   *suite
	now     func() time.Time
	cuts    *cuts

	mu       sync.Mutex
	warnings map[name][]Warning
}

// New returns a validator. It asks nothing.
func New(cfg Config) *Validator {
	v := &Validator{anchors: cfg.Anchors, suite: algorithms(), now: cfg.Clock, warnings: make(map[name][]Warning)}
	if v.anchors == nil {
		v.anchors = BuiltIn()
	}
	if v.now == nil {
		v.now = time.Now
	}
	if cfg.SHA1 {
		v.suite.acceptSHA1()
	}
	limit := cfg.CacheOctets
	if limit <= 0 {
		limit = defaultCache
	}
	v.cuts = newCuts(limit)
	return v
}

// Warnings returns what the last validated key sets of the anchored zones say about
// the anchors, in the order of zones. It is empty until one was validated.
func (v *Validator) Warnings() []Warning {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []Warning
	for _, list := range v.warnings {
		all = append(all, list...)
	}
	slices.SortStableFunc(all, func(a, b Warning) int { return strings.Compare(a.Zone, b.Zone) })
	return all
}

// Session is the questions of one destination: they share one budget, and an equal
// question is sent once. It is safe for concurrent use. It holds what it learnt for as
// long as it lives, so it is closed and dropped when the destination is decided.
type Session struct {
	v      *Validator
	up     Upstream
	budget Budget

	// ahead are the questions that were sent before it is known that they matter.
	ahead sync.WaitGroup

	mu    sync.Mutex
	asked map[Query]*flight
	stops []context.CancelFunc
}

// flight is a question on its way, or its reply when done is closed.
type flight struct {
	done chan struct{}
	msg  message
	err  *Error
	// abandoned: who asked gave up, which says nothing to others.
	abandoned bool
}

// Session begins a destination. It should be closed.
func (v *Validator) Session(up Upstream) *Session {
	return &Session{v: v, up: up, asked: make(map[Query]*flight)}
}

// Spent returns what the destination has cost so far.
func (s *Session) Spent() Spent { return s.budget.Spent() }

// question names a question to the upstream.
func question(n name, rtype uint16, again int) Query {
	return Query{Name: n.String(), Type: rtype, Again: again}
}

// ask returns the reply to a question: one that came, or is on its way, or is sent for
// now.
func (s *Session) ask(ctx context.Context, q Query) (*message, *Error) {
	for {
		f, mine := s.join(q)
		if mine {
			s.fly(ctx, q, f)
			return &f.msg, f.err
		}
		select {
		case <-f.done:
			if !f.abandoned {
				return &f.msg, f.err
			}
		case <-ctx.Done():
			return nil, &Error{Why: NoReply, Subject: q.subject(), Detail: "gave up", Err: context.Cause(ctx)}
		}
	}
}

// Close ends the questions that were sent ahead and turned out not to matter, and waits
// for them. No lookup may be under way.
func (s *Session) Close() {
	s.mu.Lock()
	stops := s.stops
	s.stops = nil
	s.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	s.ahead.Wait()
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

func (s *Session) join(q Query) (f *flight, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.asked[q]; f == nil {
		f, mine = &flight{done: make(chan struct{})}, true
		s.asked[q] = f
	}
	return f, mine
}

func (s *Session) fly(ctx context.Context, q Query, f *flight) {
	f.msg, f.err = s.exchange(ctx, q)
	if f.err != nil && ctx.Err() != nil {
		f.abandoned = true
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
		return message{}, &Error{Why: OverBudget, Subject: q.subject(), Detail: fmt.Sprintf("more than %d questions", MaxQueries), Err: errBudget}
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
	return index(m), nil
}

func (q Query) matches(got dns.Question) bool {
	return got.Qtype == q.Type && got.Qclass == dns.ClassINET && strings.EqualFold(got.Name, q.Name)
}

// Check finds out whether validation works at all through the upstream: the keys of the
// topmost anchored zone must hold, and so must a denial by that zone. It learns the keys
// anew where what is known of them is older than half a minute. nil: it works. Otherwise
// the reason tells what to mend: NoSignature, NoKey and NoDenial a name server that strips
// DNSSEC, Expired and NotYet this host's clock, BadSignature anchors that are out of date
// or a server that lies, NoReply a server that does not answer.
func (s *Session) Check(ctx context.Context) *Error {
	top := s.v.anchors.top()
	s.v.cuts.forget(top, s.v.now().Add(-staleAfter))
	// Nobody has these records at the top of a zone, so that it must be denied.
	a := s.Lookup(ctx, top.String(), dns.TypeHINFO)
	if a.Err == nil {
		return nil
	}
	if e := a.Err; e.Bogus() {
		e = e.copy()
		e.Anchor = true
		return e
	}
	return a.Err
}
