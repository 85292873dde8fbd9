package dnssec

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// rrset is the records of one owner and type in one section of a message, with the
// signatures that cover them.
type rrset struct {
	owner name
	rtype uint16
	rrs   []dns.RR
	sigs  []signature

	once  sync.Once // messages are shared by the questions of a session
	rdata [][]byte  // canonical, in order, each once
	err   error
}

// signature is an RRSIG (RFC 4034 §3.1).
type signature struct {
	algorithm  uint8
	labels     uint8
	ttl        uint32
	expiration uint32
	inception  uint32
	tag        uint16
	signer     name
	octets     []byte
}

// section is the RRsets of one section of a message, in order.
type section []*rrset

// message is what the proofs read of a reply. The additional section is no part of
// it: nothing there is evidence (RFC 4035 §5.3.1 needs a signed RRset, and whoever
// answers chooses what to add).
type message struct {
	rcode             int
	answer, authority section
	referral          bool // NS and no SOA in the authority section
	soa               time.Duration
	hasSOA            bool
	recursive         bool
}

func index(m *dns.Msg) message {
	msg := message{rcode: m.Rcode, recursive: m.RecursionAvailable || m.Authoritative}
	msg.answer, msg.authority = sets(m.Answer), sets(m.Ns)
	for _, set := range msg.authority {
		switch rr := set.rrs[0].(type) {
		case *dns.SOA:
			msg.hasSOA = true
			msg.soa = min(set.ttl(), seconds(rr.Minttl)) // RFC 2308 §5
		case *dns.NS:
			msg.referral = true
		}
	}
	msg.referral = msg.referral && !msg.hasSOA
	return msg
}

type setID struct {
	owner name
	rtype uint16
}

// sets groups records. Signatures without records are dropped: they prove nothing.
func sets(rrs []dns.RR) section {
	var all section
	byID := make(map[setID]*rrset, len(rrs))
	at := func(owner name, rtype uint16) *rrset {
		set := byID[setID{owner, rtype}]
		if set == nil {
			set = &rrset{owner: owner, rtype: rtype}
			byID[setID{owner, rtype}] = set
			all = append(all, set)
		}
		return set
	}
	for _, rr := range rrs {
		h := rr.Header()
		owner, err := parseName(h.Name)
		if err != nil || h.Class != dns.ClassINET {
			continue
		}
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			set := at(owner, h.Rrtype)
			set.rrs = append(set.rrs, rr)
			continue
		}
		if s, ok := readSignature(sig); ok {
			set := at(owner, sig.TypeCovered)
			set.sigs = append(set.sigs, s)
		}
	}
	return slices.DeleteFunc(all, func(set *rrset) bool { return len(set.rrs) == 0 })
}

func readSignature(rr *dns.RRSIG) (signature, bool) {
	signer, err := parseName(rr.SignerName)
	octets, err2 := base64.StdEncoding.DecodeString(rr.Signature)
	return signature{
		algorithm: rr.Algorithm, labels: rr.Labels, ttl: rr.OrigTtl,
		expiration: rr.Expiration, inception: rr.Inception, tag: rr.KeyTag,
		signer: signer, octets: octets,
	}, err == nil && err2 == nil
}

// find returns the RRset of an owner and type, or nil.
func (s section) find(owner name, rtype uint16) *rrset {
	for _, set := range s {
		if set.rtype == rtype && set.owner == owner {
			return set
		}
	}
	return nil
}

func (set *rrset) String() string { return subject(set.owner, set.rtype) }

// subject names a question or an RRset: "example.com. MX".
func subject(n name, rtype uint16) string { return n.String() + " " + typeName(rtype) }

func typeName(rtype uint16) string {
	if s, ok := dns.TypeToString[rtype]; ok {
		return s
	}
	return fmt.Sprintf("TYPE%d", rtype) // RFC 3597 §5
}

// ttl is the least of the records'.
func (set *rrset) ttl() time.Duration {
	least := forever
	for _, rr := range set.rrs {
		least = min(least, seconds(rr.Header().Ttl))
	}
	return least
}

const forever = time.Duration(1<<31-1) * time.Second

// seconds reads a TTL; one with the top bit set is zero (RFC 2181 §8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// signers returns the names that could be the zone of the RRset, as its signatures
// name them, the deepest first: the zone is the owner or above it, and for DS above
// it (RFC 4035 §5.3.1, §2.4). That a signature names a zone is no proof: it only
// says where to look.
func (set *rrset) signers() []name {
	var zones []name
	for _, sig := range set.sigs {
		if set.owner.within(sig.signer) && (set.rtype != dns.TypeDS || set.owner != sig.signer) && !slices.Contains(zones, sig.signer) {
			zones = append(zones, sig.signer)
		}
	}
	slices.SortFunc(zones, func(a, b name) int { return b.labels() - a.labels() })
	return zones
}

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
}

// verify checks that one signature of the RRset holds: of this zone exactly, by one
// of its keys, now. One suffices (RFC 6840 §5.11 allows it, RFC 4035 §5.3.3).
func (set *rrset) verify(z *keys, now time.Time, b *Budget) (seal, *Error) {
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
		if why, detail := sig.refused(z, now); why != Unclassified {
			best = worse(best, why, detail)
			continue
		}
		if tried++; tried > maxTried {
			return seal{}, worse(best, BadSignature, fmt.Sprintf("gave up after %d RRSIGs", maxTried))
		}
		k, err := set.tryKeys(sig, z, b)
		if err == nil {
			return set.sealedBy(sig, k, now), nil
		}
		if err.Why == OverBudget {
			return seal{}, err
		}
		best = worse(best, err.Why, err.Detail)
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
func (sig *signature) refused(z *keys, now time.Time) (Why, string) {
	if !z.suite.supports(sig.algorithm) {
		return NoKey, "signed with " + algorithmName(sig.algorithm) + " only, which is not supported"
	}
	switch why := sig.inTime(now); why {
	case Expired:
		return why, "expired at " + serialTime(sig.expiration, now)
	case NotYet:
		return why, "valid from " + serialTime(sig.inception, now)
	case Malformed:
		return BadSignature, "expires before it begins"
	}
	return Unclassified, ""
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
			if data, err = set.signedData(sig); err != nil {
				return nil, &Error{Why: Malformed, Subject: set.String(), Detail: err.Error()}
			}
		}
		id := sha256.Sum256(slices.Concat(k.rdata, data, sig.octets))
		known, ok := b.check(id, v.price()+len(data)/priceOctets)
		if !ok {
			return nil, &Error{Why: OverBudget, Subject: set.String(), Detail: "too many signatures to check", Err: errBudget}
		}
		if known {
			return k, nil
		}
		err = v.verify(data, sig.octets)
		b.checked(id, err)
		if err == nil {
			return k, nil
		}
		last = &Error{Why: BadSignature, Subject: set.String(), Detail: fmt.Sprintf("key %d (%s) of zone %s: %v", k.tag, algorithmName(k.algorithm), z.zone, err)}
	}
	return nil, last
}

func (set *rrset) sealedBy(sig *signature, k *key, now time.Time) seal {
	left := time.Duration(int32(sig.expiration-uint32(now.Unix()))) * time.Second
	s := seal{
		ttl: max(0, min(set.ttl(), seconds(sig.ttl), left)),
		by:  KeyID{Tag: k.tag, Algorithm: k.algorithm},
	}
	if int(sig.labels) < set.owner.signedLabels() {
		s.encloser = set.owner.suffix(int(sig.labels))
	}
	return s
}

// worse keeps of two failures the one that came closer to holding: it is what there
// is to mend.
func worse(e *Error, why Why, detail string) *Error {
	rank := func(w Why) int {
		return slices.Index([]Why{NoSignature, NoKey, NotYet, Expired, Malformed, BadSignature}, w)
	}
	if rank(why) < rank(e.Why) {
		return e
	}
	return &Error{Why: why, Subject: e.Subject, Detail: detail}
}

// signedData is what the signature was made over (RFC 4034 §3.1.8.1, RFC 4035
// §5.3.2): the RRSIG's own data, then each record in canonical form and order, with
// the original TTL and the wildcard's name where it was expanded.
func (set *rrset) signedData(sig *signature) ([]byte, error) {
	if err := set.canonical(); err != nil {
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
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint16(b, set.rtype)
	b = append(b, sig.algorithm, sig.labels)
	b = binary.BigEndian.AppendUint32(b, sig.ttl)
	b = binary.BigEndian.AppendUint32(b, sig.expiration)
	b = binary.BigEndian.AppendUint32(b, sig.inception)
	b = binary.BigEndian.AppendUint16(b, sig.tag)
	b = append(b, sig.signer...)
	for _, rd := range set.rdata {
		b = append(b, owner...)
		b = binary.BigEndian.AppendUint16(b, set.rtype)
		b = binary.BigEndian.AppendUint16(b, dns.ClassINET)
		b = binary.BigEndian.AppendUint32(b, sig.ttl)
		b = binary.BigEndian.AppendUint16(b, uint16(len(rd)))
		b = append(b, rd...)
	}
	return b, nil
}

// canonical fills in rdata (RFC 4034 §6.2, §6.3).
func (set *rrset) canonical() error {
	set.once.Do(func() {
		all := make([][]byte, 0, len(set.rrs))
		for _, rr := range set.rrs {
			rd, err := rdataOf(rr)
			if err != nil {
				set.err = err
				return
			}
			all = append(all, rd)
		}
		slices.SortFunc(all, bytes.Compare)
		set.rdata = slices.CompactFunc(all, bytes.Equal)
	})
	return set.err
}

// rdataOf packs a record's data without compression.
func rdataOf(rr dns.RR) ([]byte, error) {
	rr = lowerNames(rr)
	buf := make([]byte, dns.Len(rr)+maxName)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil, err
	}
	start := 0
	for start < end && buf[start] != 0 {
		start += int(buf[start]) + 1
	}
	if start += 1 + 10; start > end {
		return nil, errName
	}
	return buf[start:end:end], nil
}

// lowerNames returns the record with the names in its data in lower case, for the
// types that RFC 4034 §6.2 lists, as RFC 6840 §5.1 corrects it.
func lowerNames(rr dns.RR) dns.RR {
	switch rr.(type) {
	case *dns.NS, *dns.MD, *dns.MF, *dns.CNAME, *dns.SOA, *dns.MB, *dns.MG, *dns.MR, *dns.PTR, *dns.MINFO,
		*dns.MX, *dns.RP, *dns.AFSDB, *dns.RT, *dns.PX, *dns.NAPTR, *dns.KX, *dns.SRV, *dns.DNAME:
	default:
		return rr
	}
	rr = dns.Copy(rr)
	for _, s := range namesIn(rr) {
		*s = dns.CanonicalName(*s)
	}
	return rr
}

func namesIn(rr dns.RR) []*string {
	switch rr := rr.(type) {
	case *dns.NS:
		return []*string{&rr.Ns}
	case *dns.MD:
		return []*string{&rr.Md}
	case *dns.MF:
		return []*string{&rr.Mf}
	case *dns.CNAME:
		return []*string{&rr.Target}
	case *dns.SOA:
		return []*string{&rr.Ns, &rr.Mbox}
	case *dns.MB:
		return []*string{&rr.Mb}
	case *dns.MG:
		return []*string{&rr.Mg}
	case *dns.MR:
		return []*string{&rr.Mr}
	case *dns.PTR:
		return []*string{&rr.Ptr}
	case *dns.MINFO:
		return []*string{&rr.Rmail, &rr.Email}
	case *dns.MX:
		return []*string{&rr.Mx}
	case *dns.RP:
		return []*string{&rr.Mbox, &rr.Txt}
	case *dns.AFSDB:
		return []*string{&rr.Hostname}
	case *dns.RT:
		return []*string{&rr.Host}
	case *dns.PX:
		return []*string{&rr.Map822, &rr.Mapx400}
	case *dns.NAPTR:
		return []*string{&rr.Replacement}
	case *dns.KX:
		return []*string{&rr.Exchanger}
	case *dns.SRV:
		return []*string{&rr.Target}
	case *dns.DNAME:
		return []*string{&rr.Target}
	}
	return nil
}
