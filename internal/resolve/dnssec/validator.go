package dnssec

import (
	"context"
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
	// 0: 32 MiB, enough for some fifteen thousand signed domains.
	CacheOctets int
	// Refresh asks for keys and delegations that are in use and about to end, before a
	// destination has to wait for them; nil: nobody does. The Validator is then to be
	// closed.
	Refresh Upstream
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
	commons commons
	ahead   *refresher // nil: nothing is learnt ahead of need

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
	if cfg.Refresh != nil {
		v.ahead = newRefresher(cfg.Refresh)
	}
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

// Forgive forgets which delegations did not hold: the upstream is another now, or has
// been mended.
func (v *Validator) Forgive() { v.cuts.forgive() }

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
	// alone are the questions that are not left to other sessions.
	alone map[Query]bool
	stops []context.CancelFunc
}

// Session begins a destination. It must be closed.
func (v *Validator) Session(up Upstream) *Session {
	return &Session{v: v, up: up, asked: make(map[Query]*flight), alone: make(map[Query]bool)}
}

// Spent returns what the destination has cost so far.
func (s *Session) Spent() Spent { return s.budget.Spent() }

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
	s.mu.Lock()
	defer s.mu.Unlock()
	for q, f := range s.asked {
		if f.owner == s && q.ofCuts() {
			s.v.commons.withdraw(q, f)
		}
	}
}

// Check finds out whether validation works at all through the upstream: the keys of the
// topmost anchored zone must hold, and so must a denial by that zone. It learns the keys
// anew where what is known of them is older than half a minute. nil: it works. Otherwise
// the reason tells what to mend: NoSignature, NoKeys and NoDenial a name server that strips
// DNSSEC, NoKey anchors that are out of date or a server that lies, NoAnchor anchors that
// cannot be used here, Expired and NotYet this host's clock, BadSignature a server that
// lies, NoReply one that does not answer.
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
