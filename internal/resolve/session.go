package resolve

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// Session asks the questions of one destination: they share one budget, and an
// equal question is sent once, whoever asks it and when. It is safe for
// concurrent use. It holds what it learnt for as long as it lives, so it is
// closed and dropped when the destination is decided.
type Session struct {
	r     *Resolver
	asked atomic.Int64
	share share
	// prover is nil unless answers are proven here.
	prover *dnssec.Session

	mu      sync.Mutex
	flights map[question]*flight
	senders senders
	// active are the lookups under way; closed says that there shall be no more.
	active int
	closed bool
}

// flight is a question on its way, or its answer when done is closed.
type flight struct {
	done   chan struct{}
	result result
	// at is the server that was sent the question last; nil before the first.
	at atomic.Pointer[server]
}

// Session begins a destination. It must be closed.
func (r *Resolver) Session() *Session {
	s := &Session{r: r, flights: make(map[question]*flight)}
	if v, ok := r.scheme.(validating); ok {
		s.prover = v.Session(upstream{s})
	}
	return s
}

// Close ends the questions that were sent ahead of need. A lookup that is under way
// ends by its own context; one that begins later fails.
func (s *Session) Close() {
	s.mu.Lock()
	s.closed = true
	idle := s.active == 0
	s.mu.Unlock()
	if idle && s.prover != nil {
		s.prover.Close()
	}
}

// enter begins a lookup, unless the session is closed; the function that it returns
// ends it.
func (s *Session) enter() (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.active++
	return func() {
		s.mu.Lock()
		s.active--
		last := s.closed && s.active == 0
		s.mu.Unlock()
		if last && s.prover != nil {
			s.prover.Close()
		}
	}
}

// Asked returns how many questions were sent upstream so far, retries and TCP
// included; it never exceeds Budget.
func (s *Session) Asked() int { return int(s.asked.Load()) }

// errand is on whose account a question is sent.
type errand struct {
	share *share
	// spend is called before each packet; false ends the try with errBudget.
	spend func() bool
}

// free is the errand of a probe: it has no budget, and waits for nobody's other
// questions.
func free() errand { return errand{new(share), func() bool { return true }} }

// errand is that of a flight to a server.
func (s *Session) errand(f *flight, srv *server) errand {
	return errand{&s.share, func() bool {
		if !s.spend() {
			return false
		}
		f.at.Store(srv)
		return true
	}}
}

// spend takes one question from the budget and reports whether there was one.
func (s *Session) spend() bool {
	for {
		n := s.asked.Load()
		if n >= Budget {
			return false
		}
		if s.asked.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// MX asks for the mail exchangers of a domain, in the order of the answer.
func (s *Session) MX(ctx context.Context, name string) verdict.Answer[verdict.MX] {
	return typed(s.lookup(ctx, name, dns.TypeMX), readMX)
}

// A asks for the IPv4 addresses of a host.
func (s *Session) A(ctx context.Context, name string) verdict.Answer[netip.Addr] {
	return typed(s.lookup(ctx, name, dns.TypeA), readA)
}

// AAAA asks for the IPv6 addresses of a host. An IPv4-mapped one stays as it is.
func (s *Session) AAAA(ctx context.Context, name string) verdict.Answer[netip.Addr] {
	return typed(s.lookup(ctx, name, dns.TypeAAAA), readAAAA)
}

// TLSA asks for the TLSA records of a name such as "_25._tcp.mx.example.com".
func (s *Session) TLSA(ctx context.Context, name string) verdict.Answer[tlsa.Record] {
	return typed(s.lookup(ctx, name, dns.TypeTLSA), readTLSA)
}

// TXT asks for the TXT records of a name. The strings of one record are joined
// without spaces (RFC 8461 §3.1); they hold any octets and are not safe to print.
func (s *Session) TXT(ctx context.Context, name string) verdict.Answer[string] {
	return typed(s.lookup(ctx, name, dns.TypeTXT), readTXT)
}

// Private asks for records of a type that has no name, such as one from the range for
// private use (RFC 6895 §3.1). Each is the octets of its data.
func (s *Session) Private(ctx context.Context, name string, rrtype uint16) verdict.Answer[string] {
	return typed(s.lookup(ctx, name, rrtype), readOctets)
}

// CNAME asks for the alias itself, at this name only, so that its own proof is
// learnt apart from that of its target (RFC 7672 §2.2.2). Its one record is the
// target; Canonical stays empty.
func (s *Session) CNAME(ctx context.Context, name string) verdict.Answer[string] {
	return typed(s.lookup(ctx, name, dns.TypeCNAME), readCNAME)
}

// lookup answers a question from the session, or joins the flight that is on
// its way, or sends it. A flight that ended because its first asker gave up is
// flown again for the others.
func (s *Session) lookup(ctx context.Context, name string, rrtype uint16) result {
	if kindOf(name) != hostish {
		return unaskable(name, rrtype)
	}
	leave := s.enter()
	if leave == nil {
		return failed(verdict.Ours, "nobody waits for the answer any more")
	}
	defer leave()
	q := newQuestion(name, rrtype)
	for {
		s.mu.Lock()
		f := s.flights[q]
		if f == nil {
			return s.fly(ctx, q)
		}
		s.mu.Unlock()
		select {
		case <-f.done:
			if !f.result.abandoned || ctx.Err() != nil {
				return f.result
			}
		case <-ctx.Done():
			return gaveUp(ctx, q, f)
		}
	}
}

// byRule is how long the answer about a name that is not asked for holds: it will
// never be another, but the set it stands in may change.
const byRule = time.Hour

// unaskable answers for a name that is no host's. One that no zone can have has no
// records of any type, such as TLSA records of a host whose own name is as long as
// can be: the rules of the DNS prove it. One that a zone can have, but no host (white
// space, U-labels), has no addresses as far as mail goes: no MTA connects to it, and
// no certificate names it. So an MX record with such a name is one of a host that
// does not exist, and mail need not wait for it. Of other records nothing is known
// there, and to call TLSA records absent that may exist would be a downgrade.
func unaskable(name string, rrtype uint16) result {
	k := kindOf(name)
	if k == impossible || k == foreign && (rrtype == dns.TypeA || rrtype == dns.TypeAAAA) {
		return result{outcome: verdict.NXDomain, proof: verdict.Secure, ttl: byRule}
	}
	return failed(verdict.Remote, "not a host name: "+printable(name))
}

// fly finds the answer for everyone who asks a question. It is entered with s.mu held.
func (s *Session) fly(ctx context.Context, q question) result {
	f := &flight{done: make(chan struct{})}
	s.flights[q] = f
	s.mu.Unlock()
	f.result = s.answer(ctx, q, f)
	if f.result.abandoned {
		s.mu.Lock()
		delete(s.flights, q)
		s.mu.Unlock()
	} else {
		s.r.counts.proofs[f.result.proof].Add(1)
	}
	close(f.done)
	return f.result
}

// answer is what is kept of a host, or else learnt now.
func (s *Session) answer(ctx context.Context, q question, f *flight) result {
	if s.prover == nil {
		return s.r.scheme.answer(ctx, s, q, f)
	}
	now := s.r.now()
	if known, ok := s.r.kept.get(q, now); ok {
		return known
	}
	res := s.r.scheme.answer(ctx, s, q, f)
	s.r.kept.keep(q, res, now)
	return res
}
