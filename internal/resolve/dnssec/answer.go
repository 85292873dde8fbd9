package dnssec

import (
	"bytes"
	"context"
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
	// Of a failure: Bogus where signatures that are required do not hold, else
	// Indeterminate.
	Proof verdict.Proof
	// Records are of the type asked for, each once, with the owner at the end of the
	// alias chain; empty unless Found.
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

// piece is what one RRset or denial came to.
type piece struct {
	zone  *zone
	proof verdict.Proof
	ttl   time.Duration
	by    KeyID
	how   string
	// expanded: the RRset comes from a wildcard.
	expanded bool
	// outcome is of a denial.
	outcome verdict.Outcome
	err     *Error
}

// Lookup answers a question with its proof. The type is none of the meta types, and
// not RRSIG, NSEC or NSEC3, which have no answers of their own.
func (s *Session) Lookup(ctx context.Context, question string, rrtype uint16) Answer {
	n, err := parseName(question)
	if err != nil {
		return (&lookup{}).fail(nil, &Error{Why: Malformed, Subject: "the question", Detail: err.Error()})
	}
	s.prefetch(ctx, n, rrtype)
	l := &lookup{s: s, rtype: rrtype, proof: verdict.Secure, ttl: forever, seen: []name{n}}
	for {
		a, next := l.resolve(ctx, n)
		if next == "" {
			return a
		}
		n = next
	}
}

// resolve asks for one name and reads the reply as far as it goes. Where that is not
// the end, it returns the name to go on with.
func (l *lookup) resolve(ctx context.Context, n name) (Answer, name) {
	var first Answer
	for again := range tries {
		m, err := l.s.ask(ctx, question(n, l.rtype, again))
		if err != nil {
			if again > 0 {
				return first, ""
			}
			return l.fail(nil, err), ""
		}
		try := l.clone()
		a, next := try.read(ctx, m, n)
		if a.Err == nil || a.Err.passing() && again == 0 {
			*l = *try
			return a, next
		}
		if again == 0 {
			first = a
			l.refresh(a)
		}
		if a.Err.Anchor || a.Err.passing() {
			break
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
		if set := m.answer.find(n, l.rtype); set != nil && !m.stands(set) {
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

// stands reports a CNAME that only stands for a DNAME: it is not signed, and follows
// from what is.
func (m *message) stands(set *rrset) bool {
	return set.rtype == dns.TypeCNAME && len(set.sigs) == 0 && m.dname(set.owner) != nil
}

// take adds a proven piece.
func (l *lookup) take(p piece, step Step) {
	l.proof = verdict.Least(l.proof, p.proof)
	l.ttl = min(l.ttl, p.ttl)
	step.Proof = p.proof
	if p.zone.proof == verdict.Secure {
		step.Zone, step.Keys = p.zone.apex.String(), []KeyID{p.by}
	}
	l.links = append(l.links, link{zone: p.zone, step: step})
}

// fail ends the lookup. What holds of a broken proof is kept for people.
func (l *lookup) fail(z *zone, err *Error) Answer {
	a := Answer{Outcome: verdict.Failed, Err: err, links: slices.Clone(l.links)}
	if err.Bogus() {
		a.Proof = verdict.Bogus
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
	l.take(p, Step{Kind: StepRecords, Subject: set.String(), Detail: p.how})
	a := l.answer(verdict.Found, set.owner)
	a.Records = set.distinct()
	return a, ""
}

// distinct returns the records without duplicates, in the order of the reply
// (RFC 2181 §5).
func (set *rrset) distinct() []dns.RR {
	var kept []dns.RR
	var seen [][]byte
	for _, rr := range set.rrs {
		rd, err := rdataOf(rr)
		if err == nil && slices.ContainsFunc(seen, func(b []byte) bool { return bytes.Equal(b, rd) }) {
			continue
		}
		kept, seen = append(kept, rr), append(seen, rd)
	}
	return kept
}

// synthesised is the CNAME that a DNAME stands for, where it was asked for.
func (l *lookup) synthesised(n, target name) Answer {
	a := l.answer(verdict.Found, n)
	a.Records = []dns.RR{&dns.CNAME{
		Hdr:    dns.RR_Header{Name: n.String(), Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: uint32(l.ttl / time.Second)},
		Target: target.String(),
	}}
	return a
}

// alias returns where a name leads, with proof; "" without an error where it is none.
// A CNAME that a DNAME stands for is not signed (RFC 6672 §5.3.1): it is worked out
// anew, and what the reply says must be the same.
func (l *lookup) alias(ctx context.Context, m *message, n name) (name, piece) {
	cname, dname := m.answer.find(n, dns.TypeCNAME), m.dname(n)
	if cname == nil && dname == nil {
		return "", piece{}
	}
	target, err := name(""), (*Error)(nil)
	if cname != nil {
		if target, err = cname.target(); err != nil {
			return "", piece{err: err}
		}
	}
	if dname == nil || cname != nil && !m.stands(cname) {
		p := l.s.prove(ctx, m, cname)
		p.how = "CNAME " + target.String()
		return target, p
	}
	substitute, err := dname.substitute(n)
	switch {
	case err != nil:
		return "", piece{err: err}
	case cname != nil && target != substitute:
		return "", piece{err: &Error{Why: BadSignature, Subject: cname.String(), Detail: "it is not what the DNAME at " + dname.owner.String() + " makes of it"}}
	}
	p := l.s.prove(ctx, m, dname)
	if p.err == nil && p.expanded {
		// What such a one would redirect is not defined anywhere.
		p.err = &Error{Why: BadSignature, Subject: dname.String(), Detail: "a DNAME that was expanded from a wildcard"}
	}
	p.how = "DNAME at " + dname.owner.String() + ", hence CNAME " + substitute.String()
	return substitute, p
}

// target returns where a CNAME or DNAME RRset leads. Two that differ are none
// (RFC 2181 §10.1, RFC 6672 §2.4).
func (set *rrset) target() (name, *Error) {
	var to name
	for _, rr := range set.rrs {
		s := ""
		switch rr := rr.(type) {
		case *dns.CNAME:
			s = rr.Target
		case *dns.DNAME:
			s = rr.Target
		}
		n, err := parseName(s)
		if s == "" || err != nil || to != "" && to != n {
			return "", &Error{Why: Malformed, Subject: set.String(), Detail: "without a target, or with two"}
		}
		to = n
	}
	return to, nil
}

// substitute replaces the DNAME's owner at the end of a name (RFC 6672 §2.2).
func (set *rrset) substitute(n name) (name, *Error) {
	to, err := set.target()
	if err != nil {
		return "", err
	}
	n = n[:len(n)-len(set.owner)] + to
	if len(n) > maxName {
		return "", &Error{Why: Malformed, Subject: set.String(), Detail: "the name that it makes is too long"}
	}
	return n, nil
}

// prove says what an RRset of the answer section is worth. Its signatures say in which
// zone to look; what they say is believed only when the walk from the anchor finds that
// zone. Where it does not, or nothing holds, the walk goes on to the owner itself, since
// an unsigned delegation on the way makes signatures meaningless.
func (s *Session) prove(ctx context.Context, m *message, set *rrset) piece {
	place := set.owner
	if set.rtype == dns.TypeDS {
		place = place.parent()
	}
	var failed *Error
	if zones := set.signers(); len(zones) > 0 && s.v.anchors.govern(zones[0], place) {
		z, err := s.zoneOf(ctx, zones[0])
		if err != nil {
			return piece{zone: z, err: err}
		}
		if z.proof != verdict.Secure {
			return s.insecure(z, set.ttl())
		}
		if z.apex == zones[0] {
			p := s.sealed(z, m, set)
			if p.err == nil || p.err.passing() || place == z.apex {
				return p
			}
			failed = p.err
		}
	}
	z, err := s.zoneOf(ctx, place)
	if err != nil {
		return piece{zone: z, err: err}
	}
	if z.proof != verdict.Secure {
		return s.insecure(z, set.ttl())
	}
	p := s.sealed(z, m, set)
	if p.err != nil && failed != nil {
		p.err = failed
	}
	return p
}

// insecure is what is learnt of an unsigned zone; it lasts no longer than the proof
// that the zone is unsigned.
func (s *Session) insecure(z *zone, ttl time.Duration) piece {
	return piece{zone: z, proof: z.proof, ttl: max(0, min(ttl, z.until.Sub(s.v.now())))}
}

// sealed verifies an RRset with the keys of a zone, and that the name of a wildcard
// expansion does not exist itself.
func (s *Session) sealed(z *zone, m *message, set *rrset) piece {
	proof, err := set.verify(z.keys, s.v.now(), &s.budget)
	if err != nil {
		return piece{zone: z, err: err}
	}
	p := piece{zone: z, proof: verdict.Secure, ttl: proof.ttl, by: proof.by}
	if proof.encloser == "" {
		return p
	}
	d, err := m.denials(z.keys, s.v.now(), &s.budget)
	if err != nil {
		return piece{zone: z, err: err}
	}
	f := d.expanded(set.owner, proof.encloser)
	if !f.shown() {
		err = d.why(set.owner, set.rtype)
		err.Detail = "expanded from a wildcard, without proof that the name does not exist: " + err.Detail
		return piece{zone: z, err: err}
	}
	p.expanded = true
	p.proof, p.ttl, p.how = f.proof, min(p.ttl, f.ttl), "wildcard; "+f.how
	return p
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

// deny says what the lack of records in a reply is worth. As in prove, the signatures
// say where to look.
func (s *Session) deny(ctx context.Context, m *message, n name, rtype uint16) piece {
	place := n
	if rtype == dns.TypeDS && n != root {
		place = n.parent()
	}
	var failed *Error
	if hint := m.denier(n, rtype); hint != "" && s.v.anchors.govern(hint, place) {
		z, err := s.zoneOf(ctx, hint)
		if err != nil {
			return piece{zone: z, err: err}
		}
		if z.proof != verdict.Secure {
			return s.undenied(z, m)
		}
		if z.apex == hint {
			p := s.denied(z, m, n, rtype)
			if p.err == nil || p.err.passing() || place == z.apex {
				return p
			}
			failed = p.err
		}
	}
	z, err := s.zoneOf(ctx, place)
	if err != nil {
		return piece{zone: z, err: err}
	}
	if z.proof != verdict.Secure {
		return s.undenied(z, m)
	}
	p := s.denied(z, m, n, rtype)
	if p.err != nil && failed != nil {
		p.err = failed
	}
	return p
}

// denier is the deepest zone that the signatures of a denial name, or "".
func (m *message) denier(n name, rtype uint16) name {
	best := name("")
	for _, set := range m.authority {
		if set.rtype != dns.TypeNSEC && set.rtype != dns.TypeNSEC3 && set.rtype != dns.TypeSOA {
			continue
		}
		for _, z := range set.signers() {
			if n.within(z) && (rtype != dns.TypeDS || z != n || n == root) && (best == "" || z.below(best)) {
				best = z
			}
		}
	}
	return best
}

// undenied is a denial in an unsigned zone: the rcode says all there is.
func (s *Session) undenied(z *zone, m *message) piece {
	ttl := time.Duration(0) // without an SOA it is not to be kept (RFC 2308 §5)
	if m.hasSOA {
		ttl = m.soa
	}
	p := s.insecure(z, ttl)
	p.outcome = verdict.NoData
	if m.rcode == dns.RcodeNameError {
		p.outcome = verdict.NXDomain
	}
	return p
}

// denied holds a reply without records against the NSEC or NSEC3 of a zone. What they
// show is the answer, whatever the rcode says, which nobody signs: servers are known
// that deny the existence of empty non-terminals.
func (s *Session) denied(z *zone, m *message, n name, rtype uint16) piece {
	d, err := m.denials(z.keys, s.v.now(), &s.budget)
	if err != nil {
		return piece{zone: z, err: err}
	}
	outcome, f := verdict.NoData, finding{}
	if m.rcode == dns.RcodeNameError {
		outcome, f = verdict.NXDomain, d.nameError(n)
	}
	if !f.shown() {
		// Only a full proof overrules the rcode, not one that leaves something open.
		outcome, f = verdict.NoData, d.noData(n, rtype)
		if m.rcode == dns.RcodeNameError && f.proof == verdict.Insecure {
			f = finding{}
		}
	}
	if !f.shown() && m.rcode == dns.RcodeSuccess {
		if outcome, f = verdict.NXDomain, d.nameError(n); f.proof == verdict.Insecure {
			f = finding{}
		}
	}
	if !f.shown() {
		return piece{zone: z, err: d.why(n, rtype)}
	}
	return piece{zone: z, proof: f.proof, ttl: m.negativeTTL(f.ttl), by: f.by, how: f.how, outcome: outcome}
}
