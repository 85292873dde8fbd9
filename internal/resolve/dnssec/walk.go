package dnssec

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// zone is a zone whose status is known.
type zone struct {
	apex name
	// proof is Secure where keys hold, or Insecure from here on down. It is Indeterminate
	// where no anchor is above: what is answered may be read and proves nothing.
	proof  verdict.Proof
	keys   *keys // nil unless Secure
	parent *zone // nil for an anchored one
	step   Step
	until  time.Time
}

// zoneOf walks from the closest anchor down to the zone that a name is in. Each level
// is a question for DS that the zone above must answer with proof: only a proven lack
// of DS makes what is below insecure, never a lack of signatures (CVE-2023-7008). The
// walk ends at the first insecure zone. With an error it returns how far it came.
func (s *Session) zoneOf(ctx context.Context, n name) (*zone, *Error) {
	apex, ok := s.v.anchors.closest(n)
	if !ok {
		return &zone{apex: root, step: Step{Kind: StepUnknown, Subject: n.String()}, until: s.v.now().Add(time.Hour)}, nil
	}
	if !s.budget.work(times(1+n.labels(), workLabel)) {
		return nil, overWork(subject(n, dns.TypeDS))
	}
	s.sendAhead(ctx, n, apex.labels())
	top := s.v.cuts.get(ctx, apex, s.v.now, func() cut { return s.proveAnchor(ctx, apex) })
	if top.err != nil {
		return nil, top.err
	}
	s.v.used(apex, top)
	z := top.zone
	for _, c := range n.levels(apex.labels()) {
		if z.proof != verdict.Secure {
			break
		}
		above := z
		got := s.v.cuts.get(ctx, c, s.v.now, func() cut { return s.proveCut(ctx, above, c) })
		s.v.used(c, got)
		switch {
		case got.err != nil:
			return z, got.err
		case got.kind == noName:
			return z, nil
		case got.zone != nil:
			z = got.zone
		}
	}
	return z, nil
}

// mostAhead bounds the levels that are asked for before it is known that they matter.
const mostAhead = 5

// sendAhead sends for the DS of every level that is not known, so that a chain of many
// cold levels takes one round.
func (s *Session) sendAhead(ctx context.Context, n name, from int) {
	now := s.v.now()
	if s.v.cuts.unsigned(n, now) {
		return
	}
	sent := 0
	for _, c := range n.levels(from) {
		if sent == mostAhead {
			break
		}
		if !s.v.cuts.known(c, now) {
			s.begin(ctx, question(c, dns.TypeDS, 0))
			sent++
		}
	}
}

// prefetch sends for the DS and DNSKEY of the zones that will probably be needed for a
// question, while the question itself is on its way: those above a host or a service,
// and for other types the name itself.
func (s *Session) prefetch(ctx context.Context, n name, rtype uint16) {
	for n.underscored() {
		n = n.parent()
	}
	if rtype == dns.TypeA || rtype == dns.TypeAAAA || rtype == dns.TypeTLSA || rtype == dns.TypeCNAME || rtype == dns.TypeDS {
		if n.labels() > 2 || rtype == dns.TypeDS {
			n = n.parent()
		}
	}
	apex, ok := s.v.anchors.closest(n)
	now := s.v.now()
	if !ok || s.v.cuts.unsigned(n, now) {
		return
	}
	if !s.v.cuts.known(apex, now) {
		s.begin(ctx, question(apex, dns.TypeDNSKEY, 0))
	}
	sent := 0
	for _, c := range n.levels(apex.labels()) {
		if sent == mostAhead {
			break
		}
		if !c.underscored() && !s.v.cuts.known(c, now) {
			s.begin(ctx, question(c, dns.TypeDS, 0))
			s.begin(ctx, question(c, dns.TypeDNSKEY, 0))
			sent++
		}
	}
}

// tries is how often a question is asked whose replies do not hold.
const tries = 2

// proveAnchor validates the keys of an anchored zone. Whatever fails here fails for
// every destination, and says nothing about any of them.
func (s *Session) proveAnchor(ctx context.Context, apex name) cut {
	usable := s.v.suite.usable(s.v.anchors.zones[apex])
	if len(usable) == 0 {
		// RFC 4035 §5.2 has a zone insecure whose DS nobody can check. An anchor is no DS:
		// the operator says that the zone is signed, and all below would lose its proof.
		err := &Error{Why: NoAnchor, Subject: subject(apex, dns.TypeDNSKEY), Anchor: true, Detail: "no trust anchor has a supported algorithm and digest (" + tagsOf(s.v.anchors.zones[apex]) + ")"}
		return cut{err: err, until: s.until(anchorLife)}
	}
	ks, proof, err := s.proveKeys(ctx, apex, usable)
	if err != nil {
		err.Anchor = true
		return cut{err: err, until: s.until(anchorLife)}
	}
	z := &zone{apex: apex, proof: verdict.Secure, keys: ks, until: s.until(proof.ttl)}
	z.step = Step{Kind: StepAnchor, Subject: subject(apex, dns.TypeDNSKEY), Zone: apex.String(), Keys: []KeyID{proof.by}, Proof: verdict.Secure, Expires: proof.expires}
	return cut{kind: signedCut, zone: z, until: z.until}
}

// proveKeys asks for the DNSKEY RRset of a zone and validates it.
func (s *Session) proveKeys(ctx context.Context, apex name, usable []delegationSigner) (ks *keys, proof seal, err *Error) {
	err = s.insist(ctx, question(apex, dns.TypeDNSKEY, 0), func(m *message) (err *Error) {
		set := m.answer.find(apex, dns.TypeDNSKEY)
		if set == nil {
			return &Error{Why: NoKeys, Subject: subject(apex, dns.TypeDNSKEY), Detail: "there is none, but there are DS (" + tagsOf(usable) + ")"}
		}
		if ks, proof, err = s.v.suite.prove(set, usable, s.v.now(), &s.budget); err == nil {
			s.v.note(set)
		}
		return err
	})
	return ks, proof, err
}

// note reviews the anchors of a zone whose keys were just validated.
func (v *Validator) note(set *rrset) {
	if _, anchored := v.anchors.zones[set.owner]; !anchored {
		return
	}
	found := v.anchors.review(set)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.warnings[set.owner] = found
}

func (e *Error) copy() *Error {
	c := *e
	return &c
}

// proveCut finds out whether a zone begins at a name in or below a secure zone. What
// does not hold is asked for once more, elsewhere.
func (s *Session) proveCut(ctx context.Context, above *zone, c name) cut {
	var got cut
	err := s.insist(ctx, question(c, dns.TypeDS, 0), func(m *message) *Error {
		got = s.readCut(ctx, above, m, c)
		return got.err
	})
	if err != nil {
		return cut{err: err, until: s.until(bogusLife)}
	}
	return got
}

// readCut says what the reply to a question for DS shows.
func (s *Session) readCut(ctx context.Context, above *zone, m *message, c name) cut {
	if set := m.answer.find(c, dns.TypeDS); set != nil {
		return s.signedCut(ctx, above, set)
	}
	if set := m.redirect(c, above.apex); set != nil {
		return s.aliasCut(above, m, set)
	}
	d, err := m.denials(above.keys, s.v.now(), &s.budget)
	if err != nil {
		return cut{err: err}
	}
	kind, f := d.delegation(c)
	f.ttl = m.negativeTTL(f.ttl, s.v.now())
	switch kind {
	case noCut, noName:
		return cut{kind: kind, until: s.until(f.ttl)}
	case unsignedCut:
		return s.unsignedAt(above, c, f)
	}
	return cut{err: d.why(c, dns.TypeDS)}
}

// aliasCut reads an alias that stands where DS was asked for. A name that is an alias is
// no zone cut (RFC 1034 §3.6.2), though there may be cuts below; below a DNAME there is
// nothing (RFC 6672 §2.4). One that was expanded from a wildcard says so only of names
// that do not exist, or else whoever replays it could hide a delegation.
func (s *Session) aliasCut(above *zone, m *message, set *rrset) cut {
	p := s.sealed(above, m, set)
	switch {
	case p.err != nil:
		return cut{err: p.err}
	case p.expanded && set.rtype == dns.TypeDNAME:
		return cut{err: &Error{Why: BadSignature, Subject: set.String(), Detail: expandedDNAME}}
	case p.proof == verdict.Insecure:
		return s.unsignedAt(above, set.owner, finding{proof: p.proof, ttl: p.ttl, by: p.by, how: p.how})
	case set.rtype == dns.TypeDNAME:
		return cut{kind: noName, until: s.until(p.ttl)}
	}
	return cut{kind: noCut, until: s.until(p.ttl)}
}

// unsignedAt is a cut to an unsigned zone, as a denial of DS shows it.
func (s *Session) unsignedAt(above *zone, c name, f finding) cut {
	step := Step{Kind: StepUnsigned, Subject: subject(c, dns.TypeDS), Zone: above.apex.String(), Keys: []KeyID{f.by}, Proof: verdict.Insecure, Detail: f.how}
	z := &zone{apex: c, proof: verdict.Insecure, parent: above, step: step, until: s.until(f.ttl)}
	return cut{kind: unsignedCut, zone: z, until: z.until}
}

// mostLife bounds how long a cut is believed, whatever its TTL and signatures say.
const mostLife = 24 * time.Hour

func (s *Session) until(ttl time.Duration) time.Time { return s.v.now().Add(min(ttl, mostLife)) }

// negativeTTL bounds the TTL of a denial by that of the SOA, where there is one. The
// SOA itself is not proven, so that it may only shorten it (RFC 9077 §3).
func (m *message) negativeTTL(ttl time.Duration, now time.Time) time.Duration {
	if m.hasSOA {
		ttl = min(ttl, aged(m.soa, m.at, now))
	}
	return ttl
}

// redirect returns the CNAME at a name, or a DNAME above it and inside a zone.
func (m *message) redirect(n, zone name) *rrset {
	if set := m.answer.find(n, dns.TypeCNAME); set != nil && len(set.sigs) > 0 {
		return set
	}
	if set := m.dname(n); set != nil && set.owner.within(zone) {
		return set
	}
	return nil
}

// dname returns the DNAME that is closest above a name, or nil.
func (m *message) dname(n name) *rrset {
	var best *rrset
	for _, set := range m.answer {
		if set.rtype == dns.TypeDNAME && n.below(set.owner) && (best == nil || set.owner.below(best.owner)) {
			best = set
		}
	}
	return best
}

// signedCut follows a DS RRset to the keys of the child.
func (s *Session) signedCut(ctx context.Context, above *zone, set *rrset) cut {
	proof, err := set.verify(above.keys, s.v.now(), &s.budget)
	if err != nil {
		return cut{err: err}
	}
	if proof.encloser != "" {
		return cut{err: &Error{Why: BadSignature, Subject: set.String(), Detail: "a delegation that was expanded from a wildcard"}}
	}
	all := make([]delegationSigner, 0, len(set.rdata)) // in order, since a signature holds
	for _, rd := range set.rdata {
		all = append(all, readDS(rd))
	}
	z := &zone{apex: set.owner, parent: above, until: s.until(proof.ttl)}
	usable := s.v.suite.usable(all)
	if len(usable) == 0 {
		z.proof = verdict.Insecure
		z.step = Step{
			Kind: StepUnsigned, Subject: set.String(), Zone: above.apex.String(), Keys: []KeyID{proof.by}, Proof: verdict.Insecure,
			Detail: fmt.Sprintf("no DS of %d has a supported algorithm and digest", len(all)),
		}
		return cut{kind: unsignedCut, zone: z, until: z.until}
	}
	ks, own, err := s.proveKeys(ctx, set.owner, usable)
	if err != nil {
		return cut{err: err}
	}
	z.proof, z.keys = verdict.Secure, ks
	z.until = s.until(min(proof.ttl, own.ttl))
	z.step = Step{
		Kind: StepDelegation, Subject: subject(set.owner, dns.TypeDNSKEY), Zone: above.apex.String(),
		Keys: []KeyID{proof.by, own.by}, Proof: verdict.Secure, Expires: earlier(proof.expires, own.expires),
	}
	return cut{kind: signedCut, zone: z, until: z.until}
}
