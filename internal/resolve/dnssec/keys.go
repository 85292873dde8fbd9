package dnssec

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// KeyID names a key as operators do. It is no identity: keys may share a tag.
type KeyID struct {
	Tag       uint16
	Algorithm uint8
}

// String reads "20326/RSASHA256".
func (k KeyID) String() string { return fmt.Sprintf("%d/%s", k.Tag, algorithmName(k.Algorithm)) }

// key is one DNSKEY that may sign (RFC 4034 §2.1).
type key struct {
	tag       uint16
	algorithm uint8
	flags     uint16
	rdata     []byte
	// load decodes the key when it is first needed: a set may hold many keys, of
	// which one or two are used.
	load func() (verifier, error)
}

// keys is the proven keys of a zone.
type keys struct {
	zone  name
	list  []*key
	suite *suite
}

const (
	protocolDNSSEC = 3 // RFC 4034 §2.1.2
	flagsOf        = 4 // octets before the key itself: flags, protocol, algorithm
)

// readKeys decodes a DNSKEY RRset. Keys that may not sign are left out: those
// without the zone flag or of another protocol (RFC 4034 §2.1), revoked ones
// (RFC 5011 §2.1), and those of other algorithms.
func (s *suite) readKeys(set *rrset, b *Budget) (*keys, *Error) {
	if err := set.canonical(b); err != nil {
		return nil, set.unordered(err)
	}
	if len(set.rdata) > maxKeys {
		return nil, &Error{Why: BadSignature, Subject: set.String(), Detail: fmt.Sprintf("%d keys in one set, at most %d are looked at", len(set.rdata), maxKeys)}
	}
	all := &keys{zone: set.owner, suite: s}
	for _, rd := range set.rdata {
		k, protocol := readKey(rd)
		if k == nil || protocol != protocolDNSSEC || k.flags&dns.ZONE == 0 || k.flags&dns.REVOKE != 0 || !s.supports(k.algorithm) {
			continue
		}
		read := s.keys[k.algorithm]
		k.load = sync.OnceValues(func() (verifier, error) { return read(k.rdata[flagsOf:]) })
		all.list = append(all.list, k)
	}
	return all, nil
}

func readKey(rdata []byte) (k *key, protocol uint8) {
	if len(rdata) < flagsOf {
		return nil, 0
	}
	return &key{tag: keyTag(rdata), algorithm: rdata[3], flags: binary.BigEndian.Uint16(rdata), rdata: rdata}, rdata[2]
}

// keyTag is the checksum of RFC 4034 appendix B.
func keyTag(rdata []byte) uint16 {
	var sum uint32
	for i, c := range rdata {
		if i&1 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	return uint16(sum + sum>>16&0xffff)
}

// prove validates the DNSKEY RRset of a zone: a key that a DS matches must have
// signed it (RFC 4035 §5.2). What flags a key has besides the zone flag does not
// matter, and neither do DS records that match nothing, as in the middle of a
// rollover. usable holds DS records of supported kinds only, at least one.
func (s *suite) prove(set *rrset, usable []delegationSigner, now time.Time, b *Budget) (*keys, seal, *Error) {
	all, err := s.readKeys(set, b)
	if err != nil {
		return nil, seal{}, err
	}
	matched := &keys{zone: set.owner, suite: s}
	digests := 0
	for _, k := range all.list {
		for i := range usable {
			ds := &usable[i]
			if ds.tag != k.tag || ds.algorithm != k.algorithm {
				continue
			}
			if digests++; digests > maxDigests {
				break
			}
			if !b.work(workDigest) {
				return nil, seal{}, overWork(set.String())
			}
			if ds.matches(set.owner, k) {
				matched.list = append(matched.list, k)
				break
			}
		}
	}
	if len(matched.list) == 0 {
		return nil, seal{}, &Error{
			Why: NoKey, Subject: set.String(),
			Detail: fmt.Sprintf("none of %d keys matches the DS (%s)", len(set.rdata), tagsOf(usable)),
		}
	}
	proof, err := set.verify(matched, now, b)
	if err != nil {
		return nil, seal{}, err
	}
	return all, proof, nil
}

// weight is about how many octets the keys take in memory.
func (z *keys) weight() int {
	n := 0
	for _, k := range z.list {
		n += 3*len(k.rdata) + 600
	}
	return n
}
