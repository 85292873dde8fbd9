package dnssec

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// piece is what one RRset or denial came to.
type piece struct {
	zone  *zone
	proof verdict.Proof
	ttl   time.Duration
	by    KeyID
	how   string
	// expires: see seal.
	expires time.Time
	// expanded: the RRset comes from a wildcard.
	expanded bool
	// outcome is of a denial.
	outcome verdict.Outcome
	err     *Error
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
			return s.insecure(z, set.ttl(s.v.now()))
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
		return s.insecure(z, set.ttl(s.v.now()))
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
	p := piece{zone: z, proof: verdict.Secure, ttl: proof.ttl, by: proof.by, expires: proof.expires}
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
		ttl = m.negativeTTL(forever, s.v.now())
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
	return piece{zone: z, proof: f.proof, ttl: m.negativeTTL(f.ttl, s.v.now()), by: f.by, how: f.how, outcome: outcome}
}
