package dnssec

import (
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// typeNXNAME in a bitmap says that the name does not exist (RFC 9824 §2).
const typeNXNAME = 128

// nsec is an NSEC record (RFC 4034 §4.1) of the zone: no name between owner and next
// exists there.
type nsec struct {
	owner, next name
	types       types
	ttl         time.Duration
	by          KeyID
}

func readNSEC(owner name, rr *dns.NSEC, zone name) (nsec, bool) {
	next, err := parseName(rr.NextDomain)
	n := nsec{owner: owner, next: next, types: rr.TypeBitMap}
	return n, err == nil && owner.within(zone) && next.within(zone)
}

func (rec *nsec) shows(p verdict.Proof, how string) finding {
	return finding{proof: p, ttl: rec.ttl, by: rec.by, how: how + " (" + rec.owner.String() + ")"}
}

// covers reports whether the name falls between owner and next. The last record of a
// zone points back to the apex.
func (rec *nsec) covers(n name) bool {
	after := compare(rec.owner, n) < 0
	if compare(rec.owner, rec.next) < 0 {
		return after && compare(n, rec.next) < 0
	}
	return after || compare(n, rec.next) < 0 // below the apex: never
}

// emptyNonTerminal reports that the name has no records of its own, but names below
// it do: the next name is one of them.
func (rec *nsec) emptyNonTerminal(n name) bool { return rec.next.below(n) }

// encloser is the closest encloser of a name that the record covers: of all names
// that exist, its neighbours share most with it.
func (rec *nsec) encloser(n name) name {
	a, b := common(n, rec.owner), common(n, rec.next)
	if len(b) > len(a) {
		return b
	}
	return a
}

func (d *denial) match(n name) *nsec {
	for i := range d.nsecs {
		if d.nsecs[i].owner == n {
			return &d.nsecs[i]
		}
	}
	return nil
}

// cover finds the record that denies a name. One whose owner is delegated or
// redirected cannot deny what is below its owner, which is another's to say.
func (d *denial) cover(n name) *nsec {
	if !n.within(d.zone) {
		return nil
	}
	for i := range d.nsecs {
		rec := &d.nsecs[i]
		if rec.covers(n) && !(rec.types.veils() && n.below(rec.owner)) {
			return rec
		}
	}
	return nil
}

func (d *denial) noDataNSEC(n name, rtype uint16) finding {
	if rec := d.match(n); rec != nil {
		if rec.types.denies(n, rtype) {
			return rec.shows(verdict.Secure, "NSEC at the name without the type")
		}
		return finding{}
	}
	rec := d.cover(n)
	switch {
	case rec == nil:
		return finding{}
	case rec.emptyNonTerminal(n):
		return rec.shows(verdict.Secure, "NSEC that shows an empty non-terminal")
	}
	wildcard, ok := rec.encloser(n).wildcard()
	if !ok {
		return finding{}
	}
	at := d.match(wildcard)
	if at == nil {
		// The wildcard may be an empty non-terminal itself.
		if at = d.cover(wildcard); at == nil || !at.emptyNonTerminal(wildcard) {
			return finding{}
		}
	} else if !at.types.denies(wildcard, rtype) {
		return finding{}
	}
	f := rec.shows(verdict.Secure, "NSEC that covers the name, and one that shows the wildcard "+wildcard.String()+" without the type")
	f.ttl = min(f.ttl, at.ttl)
	return f
}

func (d *denial) nameErrorNSEC(n name) finding {
	if rec := d.match(n); rec != nil {
		if rec.types.has(typeNXNAME) {
			return rec.shows(verdict.Secure, "NSEC with NXNAME")
		}
		return finding{}
	}
	rec := d.cover(n)
	if rec == nil || rec.emptyNonTerminal(n) {
		return finding{}
	}
	wildcard, ok := rec.encloser(n).wildcard()
	if !ok {
		return rec.shows(verdict.Secure, "NSEC that covers the name")
	}
	if d.match(wildcard) != nil {
		return finding{}
	}
	no := d.cover(wildcard)
	if no == nil || no.emptyNonTerminal(wildcard) {
		return finding{}
	}
	f := rec.shows(verdict.Secure, "NSEC that covers the name, and one that covers the wildcard "+wildcard.String())
	f.ttl = min(f.ttl, no.ttl)
	return f
}

// expandedNSEC demands that the closest encloser is the one the signature names: a
// wildcard higher up does not stand for the name (RFC 4592 §3.3.1).
func (d *denial) expandedNSEC(n, encloser name) finding {
	if d.match(n) != nil {
		return finding{}
	}
	rec := d.cover(n)
	if rec == nil || rec.emptyNonTerminal(n) || rec.encloser(n) != encloser {
		return finding{}
	}
	return rec.shows(verdict.Secure, "NSEC that covers the name beside the wildcard")
}
