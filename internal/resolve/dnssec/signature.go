package dnssec

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// seal is what a signature that holds says of its RRset.
type seal struct {
	// ttl is the least of the records' TTL, the original TTL and the time until the
	// signature expires (RFC 4035 §5.3.3).
	ttl time.Duration
	// encloser is the closest encloser where the RRset was expanded from the wildcard
	// below it (RFC 4035 §5.3.4): the name itself must still be proven not to exist.
	// Empty otherwise.
	encloser name
	by       KeyID
	// expires is the signature's own time, before any tolerance.
	expires time.Time
}

// verify checks that one signature of the RRset holds: of this zone exactly, by one
// of its keys, now. One suffices (RFC 6840 §5.11 allows it, RFC 4035 §5.3.3).
func (set *rrset) verify(z *keys, now time.Time, b *Budget) (seal, *Error) {
	if !b.work(workVerify + times(len(set.sigs), workSet)) {
		return seal{}, overWork(set.String())
	}
	best := &Error{Why: NoSignature, Subject: set.String()}
	if len(set.sigs) > 0 {
		best.Detail = "no RRSIG of zone " + z.zone.String()
	}
	tried := 0
	for i := range set.sigs {
		sig := &set.sigs[i]
		if !set.mayBeSignedBy(sig, z.zone) {
			continue
		}
		if why := sig.refused(z, now); why != Unclassified {
			if closer(why, best.Why) { // thousands may be refused: words are for one
				best = &Error{Why: why, Subject: best.Subject, Detail: sig.complaint(why, now)}
			}
			continue
		}
		if tried++; tried > maxTried {
			return seal{}, &Error{Why: BadSignature, Subject: best.Subject, Detail: fmt.Sprintf("gave up after %d RRSIGs", maxTried)}
		}
		k, err := set.tryKeys(sig, z, b)
		if err == nil {
			return set.sealedBy(sig, k, now), nil
		}
		if err.Why == OverBudget {
			return seal{}, err
		}
		if closer(err.Why, best.Why) {
			best = err
		}
	}
	return seal{}, best
}

// mayBeSignedBy holds the conditions of RFC 4035 §5.3.1 that do not depend on keys
// or time.
func (set *rrset) mayBeSignedBy(sig *signature, zone name) bool {
	if sig.signer != zone || !set.owner.within(zone) || int(sig.labels) > set.owner.signedLabels() {
		return false
	}
	if int(sig.labels) < zone.signedLabels() {
		return false // a wildcard above the zone
	}
	switch set.rtype {
	case dns.TypeDS:
		return set.owner != zone // the parent's, RFC 4035 §2.4
	case dns.TypeDNSKEY, dns.TypeSOA:
		return set.owner == zone
	}
	return true
}

// refused says why a signature need not be checked at all, or Unclassified.
func (sig *signature) refused(z *keys, now time.Time) Why {
	if !z.suite.supports(sig.algorithm) {
		return NoKey
	}
	why := sig.inTime(now)
	if why == Malformed {
		return BadSignature
	}
	return why
}

// complaint puts refused in words.
func (sig *signature) complaint(why Why, now time.Time) string {
	switch why {
	case NoKey:
		return "signed with " + algorithmName(sig.algorithm) + " only, which is not supported"
	case Expired:
		return "expired at " + serialTime(sig.expiration, now)
	case NotYet:
		return "valid from " + serialTime(sig.inception, now)
	}
	return "expires before it begins"
}

const (
	leastSkew = time.Hour
	mostSkew  = 24 * time.Hour
)

// inTime holds the time against the signature's, in the arithmetic of RFC 4034
// §3.1.5. Clocks differ: a tenth of the signature's life is tolerated on both ends,
// at least an hour and at most a day.
func (sig *signature) inTime(now time.Time) Why {
	life := int64(int32(sig.expiration - sig.inception))
	if life < 0 {
		return Malformed
	}
	skew := min(max(life/10, int64(leastSkew/time.Second)), int64(mostSkew/time.Second))
	at := uint32(now.Unix())
	switch {
	case int64(int32(at-sig.inception)) < -skew:
		return NotYet
	case int64(int32(at-sig.expiration)) > skew:
		return Expired
	}
	return Unclassified
}

// serialTime writes a time that is 32 bits wide, as the one closest to now.
func serialTime(t uint32, now time.Time) string {
	at := now.Add(time.Duration(int32(t-uint32(now.Unix()))) * time.Second)
	return at.UTC().Format(time.RFC3339)
}

// tryKeys checks a signature with the zone's keys of its tag. Tags are no
// identities: several keys may share one (RFC 4034 §5.3.1, KeyTrap).
func (set *rrset) tryKeys(sig *signature, z *keys, b *Budget) (*key, *Error) {
	last := &Error{
		Why: NoKey, Subject: set.String(),
		Detail: fmt.Sprintf("no key %d (%s) in zone %s", sig.tag, algorithmName(sig.algorithm), z.zone),
	}
	var data []byte
	tried := 0
	for _, k := range z.list {
		if k.tag != sig.tag || k.algorithm != sig.algorithm {
			continue
		}
		if tried++; tried > maxCollisions {
			last.Detail = fmt.Sprintf("more than %d keys with tag %d", maxCollisions, sig.tag)
			return nil, last
		}
		v, err := k.load()
		if err != nil {
			last = &Error{Why: NoKey, Subject: set.String(), Detail: fmt.Sprintf("key %d (%s) of zone %s: %v", k.tag, algorithmName(k.algorithm), z.zone, err)}
			continue
		}
		if data == nil {
			if data, err = set.signedData(sig, b); err != nil {
				return nil, set.unordered(err)
			}
		}
		id := sha256.Sum256(slices.Concat(k.rdata, data, sig.octets))
		known, ok := b.check(id, v.price(), len(data))
		if !ok {
			return nil, &Error{Why: OverBudget, Subject: set.String(), Detail: "too many signatures to check", Err: errBudget}
		}
		if known == good {
			return k, nil
		}
		err = errSignature
		if known == unchecked {
			err = v.verify(data, sig.octets)
			b.checked(id, set, err)
		}
		if err == nil {
			return k, nil
		}
		last = &Error{Why: BadSignature, Subject: set.String(), Detail: fmt.Sprintf("key %d (%s) of zone %s: %v", k.tag, algorithmName(k.algorithm), z.zone, err)}
	}
	return nil, last
}

// unordered says why a set has no canonical form.
func (set *rrset) unordered(err error) *Error {
	if errors.Is(err, errBudget) {
		return overWork(set.String())
	}
	return &Error{Why: Malformed, Subject: set.String(), Detail: err.Error()}
}

// overWork is the end of a destination that costs too much.
func overWork(subject string) *Error {
	return &Error{Why: OverBudget, Subject: subject, Detail: "too much work", Err: errBudget}
}

func (set *rrset) sealedBy(sig *signature, k *key, now time.Time) seal {
	left := time.Duration(int32(sig.expiration-uint32(now.Unix()))) * time.Second
	s := seal{
		ttl: max(0, min(set.ttl(now), aged(seconds(sig.ttl), set.at, now), left)),
		by:  KeyID{Tag: k.tag, Algorithm: k.algorithm},

		expires: now.Add(left).Truncate(time.Second),
	}
	if int(sig.labels) < set.owner.signedLabels() {
		s.encloser = set.owner.suffix(int(sig.labels))
	}
	return s
}

// closer reports which of two failures came closer to holding: it is what there is to
// mend.
func closer(why, than Why) bool {
	rank := func(w Why) int {
		switch w {
		case NoKey:
			return 1
		case NotYet:
			return 2
		case Expired:
			return 3
		case Malformed:
			return 4
		case BadSignature:
			return 5
		}
		return 0
	}
	return rank(why) > rank(than)
}

// signedData is what the signature was made over (RFC 4034 §3.1.8.1, RFC 4035
// §5.3.2): the RRSIG's own data, then each record in canonical form and order, with
// the original TTL and the wildcard's name where it was expanded.
func (set *rrset) signedData(sig *signature, b *Budget) ([]byte, error) {
	if err := set.canonical(b); err != nil {
		return nil, err
	}
	owner := set.owner
	if int(sig.labels) < owner.signedLabels() {
		owner, _ = owner.suffix(int(sig.labels)).wildcard() // shorter than what it replaces
	}
	size := 18 + len(sig.signer)
	for _, rd := range set.rdata {
		size += len(owner) + 10 + len(rd)
	}
	if !b.work(times(size, workData)) {
		return nil, errBudget
	}
	d := make([]byte, 0, size)
	d = binary.BigEndian.AppendUint16(d, set.rtype)
	d = append(d, sig.algorithm, sig.labels)
	d = binary.BigEndian.AppendUint32(d, sig.ttl)
	d = binary.BigEndian.AppendUint32(d, sig.expiration)
	d = binary.BigEndian.AppendUint32(d, sig.inception)
	d = binary.BigEndian.AppendUint16(d, sig.tag)
	d = append(d, sig.signer...)
	for _, rd := range set.rdata {
		d = append(d, owner...)
		d = binary.BigEndian.AppendUint16(d, set.rtype)
		d = binary.BigEndian.AppendUint16(d, dns.ClassINET)
		d = binary.BigEndian.AppendUint32(d, sig.ttl)
		d = binary.BigEndian.AppendUint16(d, uint16(len(rd)))
		d = append(d, rd...)
	}
	return d, nil
}
