package dnssec

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// Answer is the answer to one question, with its proof.
type Answer struct {
	// Outcome is Found, NXDomain or NoData where it is known, else Failed.
	Outcome verdict.Outcome
	// Proof is what the answer is worth: of an alias chain, what its weakest link is.
	// Indeterminate where no trust anchor is above a name.
	// Of a failure: Bogus where signatures that are required do not hold, Insecure where
	// the addresses of a name in an unsigned zone are not to be had, else Indeterminate.
	Proof verdict.Proof
	// Records are of the type asked for, each once, with the owner at the end of the
	// alias chain; empty unless Found. Others may hold the same: they are not to be
	// changed.
	Records []dns.RR
	// Canonical is the name at the end of the alias chain, fully qualified and in lower
	// case; empty when the name is no alias.
	Canonical string
	// TTL is how long the answer may be kept.
	TTL time.Duration
	// Err is why there is no answer; nil unless Failed.
	Err *Error

	links []link
}

// Chain lists the steps of the proof from the anchors to the answer, or to where it
// broke.
func (a Answer) Chain() []Step { return chain(a.links) }

// lookup is a question on its way along its aliases.
type lookup struct {
	s     *Session
	rtype uint16
	// proof, ttl and links are of all that was followed so far.
	proof verdict.Proof
	ttl   time.Duration
	links []link
	// aliases counts the links, and seen are the names on the way.
	aliases int
	seen    []name
}

// Lookup answers a question with its proof. The type is none of the meta types, and
// not RRSIG, NSEC or NSEC3, which have no answers of their own.
func (s *Session) Lookup(ctx context.Context, question string, rrtype uint16) Answer {
	n, err := parseName(question)
	switch {
	case err != nil:
		return (&lookup{}).fail(nil, &Error{Why: Malformed, Subject: "the question", Detail: err.Error()})
	case unanswerable(rrtype):
		return (&lookup{}).fail(nil, &Error{Why: Malformed, Subject: subject(n, rrtype), Detail: "nobody answers questions of this type with proof"})
	}
	if !s.budget.work(workLookup + times(n.labels(), workLabel)) {
		return (&lookup{}).fail(nil, overWork(subject(n, rrtype)))
	}
	s.prefetch(ctx, n, rrtype)
	l := &lookup{s: s, rtype: rrtype, proof: verdict.Secure, ttl: forever, seen: []name{n}}
	for {
		a, next := l.resolve(ctx, n)
		if next == "" {
			return s.unpromised(ctx, l.seen[0], a, rrtype)
		}
		n = next
	}
}

// unpromised says of a failed address lookup that the name is in a zone which is proven
// unsigned, where it is: then the host has no records that could be secure, also while its
// own servers are dead. The walk needs what prefetch has sent for, and no more, so that
// nobody waits for it.
func (s *Session) unpromised(ctx context.Context, n name, a Answer, rrtype uint16) Answer {
	if a.Err == nil || a.Err.Why != NoReply || rrtype != dns.TypeA && rrtype != dns.TypeAAAA {
		return a
	}
	if n.labels() > 2 {
		n = n.parent()
	}
	if z, err := s.zoneOf(ctx, n); err == nil && z.proof == verdict.Insecure {
		a.Proof = verdict.Insecure
	}
	return a
}

// unanswerable reports the types that no RRset of a zone has or that prove others: what
// does not list them in its bitmap would deny them (RFC 4035 §2.2).
func unanswerable(rrtype uint16) bool {
	switch rrtype {
	case dns.TypeNone, dns.TypeOPT, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
		return true
	}
	return 128 <= rrtype && rrtype <= 255
}

// resolve asks for one name and reads the reply as far as it goes. Where that is not
// the end, it returns the name to go on with.
func (l *lookup) resolve(ctx context.Context, n name) (Answer, name) {
	var first Answer
	var doubted []*message
	for again := 0; again < tries; {
		q := question(n, l.rtype, again)
		m, err := l.s.ask(ctx, q)
		if err != nil {
			if again > 0 {
				return first, ""
			}
			return l.fail(nil, err), ""
		}
		try := l.clone()
		a, next := try.read(ctx, m, n)
		if a.Err == nil || a.Err.passing() && again == 0 {
			if a.Err == nil {
				l.s.excuse(doubted)
			}
			*l = *try
			return a, next
		}
		doubted = append(doubted, m)
		if first.Err == nil {
			first = a
			l.refresh(a)
		}
		if a.Err.Anchor || a.Err.passing() {
			break
		}
		if !l.s.disown(q) {
			again++
		}
	}
	return first, ""
}

func (l *lookup) clone() *lookup {
	c := *l
	c.links = slices.Clone(l.links)
	c.seen = slices.Clone(l.seen)
	return &c
}

// staleAfter is the age from which keys are learnt anew when something does not hold:
// the zone may have changed them sooner than its TTL says.
const staleAfter = 30 * time.Second

func (l *lookup) refresh(a Answer) {
	if len(a.links) == 0 {
		return
	}
	if z := a.links[len(a.links)-1].zone; z != nil {
		l.s.v.cuts.forget(z.apex, l.s.v.now().Add(-staleAfter))
	}
}

// read follows the aliases in one reply to the records, or to their denial. What does
// not hold at the end of aliases is asked for by its own name.
func (l *lookup) read(ctx context.Context, m *message, start name) (Answer, name) {
	n := start
	for {
		if set := m.answer.find(n, l.rtype); set != nil && !l.s.stands(m, set) {
			return l.records(ctx, m, set, start)
		}
		next, p := l.alias(ctx, m, n)
		if next == "" && p.err == nil {
			return l.absent(ctx, m, n, start)
		}
		if p.err != nil {
			if n != start {
				return Answer{}, n
			}
			return l.fail(p.zone, p.err), ""
		}
		l.take(p, Step{Kind: StepAlias, Subject: n.String(), Detail: p.how})
		if l.rtype == dns.TypeCNAME {
			return l.synthesised(n, next), ""
		}
		if l.aliases++; l.aliases > MaxLinks || slices.Contains(l.seen, next) {
			return l.fail(nil, &Error{Why: Loop, Subject: subject(l.seen[0], l.rtype), Detail: "at " + next.String()}), ""
		}
		l.seen = append(l.seen, next)
		n = next
	}
}

// take adds a proven piece.
func (l *lookup) take(p piece, step Step) {
	l.proof = verdict.Least(l.proof, p.proof)
	l.ttl = min(l.ttl, p.ttl)
	step.Proof, step.Expires = p.proof, p.expires
	if p.zone.proof == verdict.Secure {
		step.Zone, step.Keys = p.zone.apex.String(), []KeyID{p.by}
	}
	l.links = append(l.links, link{zone: p.zone, step: step})
}

// fail ends the lookup. What holds of a broken proof is kept for people.
func (l *lookup) fail(z *zone, err *Error) Answer {
	a := Answer{Outcome: verdict.Failed, Err: err, links: slices.Clone(l.links)}
	if err.Bogus() && z != nil && z.proof == verdict.Secure {
		a.Proof = verdict.Bogus // elsewhere nobody promised signatures: of a loop, say
	}
	a.links = append(a.links, link{zone: z, step: Step{Kind: StepBroken, Subject: err.Subject, Proof: a.Proof, Detail: err.brief()}})
	return a
}

// brief is the error without its subject.
func (e *Error) brief() string {
	s := e.Why.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (l *lookup) answer(outcome verdict.Outcome, n name) Answer {
	a := Answer{Outcome: outcome, Proof: l.proof, TTL: l.ttl, links: l.links}
	if n != l.seen[0] {
		a.Canonical = n.String()
	}
	return a
}

// records ends the lookup with the RRset that was asked for.
func (l *lookup) records(ctx context.Context, m *message, set *rrset, start name) (Answer, name) {
	p := l.s.prove(ctx, m, set)
	if p.err == nil && p.zone.proof != verdict.Secure && m.rcode == dns.RcodeNameError {
		p.err = &Error{Why: Malformed, Subject: set.String(), Detail: "NXDOMAIN with records"}
	}
	if p.err != nil {
		if set.owner != start {
			return Answer{}, set.owner
		}
		return l.fail(p.zone, p.err), ""
	}
	records, err := set.distinct(&l.s.budget)
	if err != nil {
		return l.fail(p.zone, err), ""
	}
	l.take(p, Step{Kind: StepRecords, Subject: set.String(), Detail: p.how})
	a := l.answer(verdict.Found, set.owner)
	a.Records = records
	return a, ""
}

// distinct returns the records without duplicates, in the order of the reply
// (RFC 2181 §5).
func (set *rrset) distinct(b *Budget) ([]dns.RR, *Error) {
	switch err := set.canonical(b); {
	case errors.Is(err, errBudget):
		return nil, overWork(set.String())
	case err == nil && len(set.rdata) == len(set.rrs):
		return slices.Clone(set.rrs), nil
	}
	// It is rare enough to be worked out again.
	if !b.work(set.toOrder()) {
		return nil, overWork(set.String())
	}
	kept := make([]dns.RR, 0, len(set.rrs))
	seen := make(map[string]bool, len(set.rrs))
	for _, rr := range set.rrs {
		rd, err := rdataOf(rr)
		if err == nil && seen[string(rd)] {
			continue
		}
		kept = append(kept, rr)
		seen[string(rd)] = true
	}
	return kept, nil
}

// absent ends the lookup with a denial.
func (l *lookup) absent(ctx context.Context, m *message, n, start name) (Answer, name) {
	p := l.s.deny(ctx, m, n, l.rtype)
	if p.err != nil {
		if n != start {
			return Answer{}, n
		}
		return l.fail(p.zone, p.err), ""
	}
	if p.zone.proof != verdict.Secure {
		// Nothing is signed here: what a server means must at least be clear.
		switch {
		case n != start && !m.hasSOA && m.rcode == dns.RcodeSuccess:
			return Answer{}, n // it may have stopped on the way
		case m.referral || !m.hasSOA && !m.recursive:
			return l.fail(p.zone, &Error{Why: NoReply, Subject: subject(n, l.rtype), Detail: "the server only refers elsewhere"}), ""
		}
	}
	l.take(p, Step{Kind: StepDenial, Subject: subject(n, l.rtype), Detail: p.outcome.String() + join(p.how)})
	return l.answer(p.outcome, n), ""
}

func join(how string) string {
	if how == "" {
		return ""
	}
	return ": " + how
}
