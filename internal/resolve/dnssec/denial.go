package dnssec

import (
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// denial is the NSEC and NSEC3 records of one zone in one message whose signatures
// hold: all that can deny anything.
type denial struct {
	zone   name
	most   uint16 // iterations
	nsecs  []nsec
	chains []hashChain
	budget *Budget
	taken  int // records
	// costly is an NSEC3 with more iterations than are acted upon.
	costly *nsec3
	// broken is what is wrong with the first record whose signature does not hold.
	broken *Error
}

// finding is what a proof of denial shows.
type finding struct {
	// proof is Secure, or Insecure where the denial leaves open whether there is an
	// unsigned delegation. Indeterminate: nothing is shown.
	proof verdict.Proof
	ttl   time.Duration
	by    KeyID
	how   string
}

func (f finding) shown() bool { return f.proof != verdict.Indeterminate }

// denials verifies the denial records of a message that the zone signed. Records of
// other zones are passed over: they belong to other links of an alias chain. One
// whose signature does not hold is passed over too, since others may suffice.
func (m *message) denials(z *keys, now time.Time, b *Budget) (denial, *Error) {
	d := denial{zone: z.zone, most: z.suite.iterations, budget: b}
	if !b.work(times(len(m.authority), workSet)) {
		return d, overWork("the denial by zone " + z.zone.String())
	}
	looked := 0
	for _, set := range m.authority {
		if set.rtype != dns.TypeNSEC && set.rtype != dns.TypeNSEC3 || !slices.Contains(set.signers(), z.zone) {
			continue
		}
		if looked++; looked > maxDenials {
			break
		}
		proof, err := set.verify(z, now, b)
		switch {
		case err != nil && err.Why == OverBudget:
			return d, err
		case err != nil:
			if d.broken == nil {
				d.broken = err
			}
		case proof.encloser != "":
			// An expanded NSEC would deny names all over the zone (CVE-2017-15105).
		case !d.add(set, proof):
			return d, overWork(set.String())
		}
	}
	return d, nil
}

// add takes a record in. More than one NSEC or NSEC3 with the same owner name is
// against the rules, and any of them is as true as the other. It reports whether the means
// lasted.
func (d *denial) add(set *rrset, proof seal) bool {
	for _, rr := range set.rrs {
		if d.taken++; d.taken > maxDenials {
			return true
		}
		if !d.budget.work(workDenial) {
			return false
		}
		switch rr := rr.(type) {
		case *dns.NSEC:
			if n, ok := readNSEC(set.owner, rr, d.zone); ok {
				n.ttl, n.by = proof.ttl, proof.by
				d.nsecs = append(d.nsecs, n)
			}
		case *dns.NSEC3:
			n, p, ok := readNSEC3(set.owner, rr, d.zone)
			if !ok {
				continue
			}
			n.ttl, n.by = proof.ttl, proof.by
			// The iterations are acted upon only now that they are known to be the
			// zone's own (RFC 9276 §3.2): who edits them must not gain anything.
			if p.iterations > d.most {
				d.costly = &n
				continue
			}
			d.chain(p).add(n)
		}
	}
	return true
}

func (d *denial) chain(p params) *hashChain {
	for i := range d.chains {
		if d.chains[i].params == p {
			return &d.chains[i]
		}
	}
	d.chains = append(d.chains, hashChain{params: p, zone: d.zone, budget: d.budget})
	return &d.chains[len(d.chains)-1]
}

// each asks the NSEC records and then every NSEC3 chain for a proof. Without one, a
// costly chain proves that the zone does not want to be validated.
func (d *denial) each(byNSEC func() finding, byNSEC3 func(*hashChain) finding) finding {
	var f finding
	if len(d.nsecs) > 0 {
		f = byNSEC()
	}
	for i := range d.chains {
		if f.shown() {
			break
		}
		f = byNSEC3(&d.chains[i])
	}
	if !f.shown() && d.costly != nil {
		return finding{proof: verdict.Insecure, ttl: d.costly.ttl, by: d.costly.by, how: fmt.Sprintf("NSEC3 with more than %d iterations", d.most)}
	}
	return f
}

// noData: the name exists without the type, or a wildcard without it stands for the
// name.
func (d *denial) noData(n name, rtype uint16) finding {
	return d.each(
		func() finding { return d.noDataNSEC(n, rtype) },
		func(c *hashChain) finding { return c.noData(n, rtype) },
	)
}

// nameError: neither the name nor a wildcard for it exists.
func (d *denial) nameError(n name) finding {
	return d.each(
		func() finding { return d.nameErrorNSEC(n) },
		func(c *hashChain) finding { return c.nameError(n) },
	)
}

// expanded: the name does not exist, and its closest encloser is the one that a
// wildcard was expanded at (RFC 4035 §5.3.4, RFC 5155 §8.8).
func (d *denial) expanded(n, encloser name) finding {
	return d.each(
		func() finding { return d.expandedNSEC(n, encloser) },
		func(c *hashChain) finding { return c.expanded(n, encloser) },
	)
}

// why explains a denial that was not shown.
func (d *denial) why(n name, rtype uint16) *Error {
	for i := range d.chains {
		if d.chains[i].exhausted {
			return &Error{Why: OverBudget, Subject: subject(n, rtype), Detail: "too many NSEC3 hashes", Err: errBudget}
		}
	}
	switch {
	case d.broken != nil:
		return &Error{Why: d.broken.Why, Subject: subject(n, rtype), Detail: "of the denial, " + d.broken.Subject + ": " + d.broken.Detail}
	case len(d.nsecs)+len(d.chains) == 0:
		return &Error{Why: NoDenial, Subject: subject(n, rtype), Detail: "no NSEC or NSEC3 of zone " + d.zone.String()}
	}
	return &Error{Why: NoDenial, Subject: subject(n, rtype), Detail: "the NSEC or NSEC3 records of zone " + d.zone.String() + " do not show it"}
}

// types is the type bitmap of an NSEC or NSEC3 (RFC 4034 §4.1.2).
type types []uint16

func (t types) has(rtype uint16) bool { return slices.Contains(t, rtype) }

// delegates reports the parent's side of a zone cut: NS and no SOA. It says nothing
// of what is below, and of the name itself only whether there is a DS (RFC 6840 §4.1).
func (t types) delegates() bool { return t.has(dns.TypeNS) && !t.has(dns.TypeSOA) }

// veils reports that names below the owner are not this zone's to deny, as they are
// delegated or redirected (RFC 6840 §4.1, RFC 6672 §5.3.4.1).
func (t types) veils() bool { return t.delegates() || t.has(dns.TypeDNAME) }

// denies reports whether the bitmap of a name denies a type there.
func (t types) denies(n name, rtype uint16) bool {
	if t.has(rtype) || t.has(dns.TypeCNAME) {
		return false
	}
	if rtype == dns.TypeDS {
		return !t.has(dns.TypeSOA) || n == root // the child's own apex knows no DS
	}
	return !t.delegates()
}

// cutKind is what a DS question showed of a name.
type cutKind uint8

const (
	// unknownCut: nothing was shown.
	unknownCut cutKind = iota
	// signedCut: a zone begins here, with DS.
	signedCut
	// unsignedCut: an unsigned zone begins here, or may begin here.
	unsignedCut
	// noCut: the name is of the zone above it; cuts may be below.
	noCut
	// noName: there is nothing here and below, hence no cut.
	noName
)

// delegation reads the denial of a DS. Only the NS bit shows that there is a cut: to
// read a DS NODATA without it as an insecure delegation would let anyone cut a signed
// zone into unsigned pieces.
func (d *denial) delegation(n name) (cutKind, finding) {
	// A bitmap that lists DS proves nothing here: the records were withheld.
	if t, f := d.at(n); f.shown() && !t.has(dns.TypeDS) && (!t.has(dns.TypeSOA) || n == root) {
		if t.has(dns.TypeNS) {
			return unsignedCut, f
		}
		return noCut, f
	} else if f.shown() {
		return unknownCut, finding{}
	}
	if f := d.noData(n, dns.TypeDS); f.shown() {
		if f.proof == verdict.Insecure {
			return unsignedCut, f
		}
		return noCut, f
	}
	f := d.nameError(n)
	switch f.proof {
	case verdict.Secure:
		return noName, f
	case verdict.Insecure:
		return unsignedCut, f
	}
	return unknownCut, f
}

// at returns the bitmap of the record for exactly this name.
func (d *denial) at(n name) (types, finding) {
	if rec := d.match(n); rec != nil {
		return rec.types, rec.shows(verdict.Secure, "NSEC at the name")
	}
	for i := range d.chains {
		if rec := d.chains[i].match(n); rec != nil {
			return rec.types, rec.shows(verdict.Secure, "NSEC3 that matches the name")
		}
	}
	return nil, finding{}
}
