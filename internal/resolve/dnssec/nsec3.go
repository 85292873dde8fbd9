package dnssec

import (
	"bytes"
	"crypto/sha1"
	"encoding/base32"
	"encoding/hex"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// hash is an NSEC3 hash. SHA-1 is the only one that there is (RFC 5155 §11).
type hash [sha1.Size]byte

// params are what a chain of NSEC3 records was hashed with (RFC 5155 §3.1).
type params struct {
	iterations uint16
	salt       string
}

// hash is IH(salt, name, iterations) of RFC 5155 §5.
func (p params) hash(n name) hash {
	buf := make([]byte, 0, maxName+len(p.salt))
	h := hash(sha1.Sum(append(append(buf, n...), p.salt...)))
	for range p.iterations {
		h = sha1.Sum(append(append(buf[:0], h[:]...), p.salt...))
	}
	return h
}

// price is how many blocks of SHA-1 a hash takes: a long salt costs as iterations do.
func (p params) price(n name) int {
	blocks := func(octets int) int { return (octets + 1 + 8 + sha1.BlockSize - 1) / sha1.BlockSize }
	return blocks(len(n)+len(p.salt)) + int(p.iterations)*blocks(sha1.Size+len(p.salt))
}

// nsec3 is an NSEC3 record (RFC 5155 §3): no name with a hash between owner and next
// exists in the zone, but for unsigned delegations where optOut says so.
type nsec3 struct {
	owner, next hash
	optOut      bool
	types       types
	ttl         time.Duration
	by          KeyID
	name        string
}

func (rec *nsec3) shows(p verdict.Proof, how string) finding {
	return finding{proof: p, ttl: rec.ttl, by: rec.by, how: how + " (" + rec.name + ")"}
}

// covers compares hashes as octets. The record with the largest hash points to the
// smallest, and one that stands alone to itself.
func (rec *nsec3) covers(h hash) bool {
	after := bytes.Compare(rec.owner[:], h[:]) < 0
	before := bytes.Compare(h[:], rec.next[:]) < 0
	if bytes.Compare(rec.owner[:], rec.next[:]) < 0 {
		return after && before
	}
	return after || before
}

const (
	hashSHA1   = 1
	flagOptOut = 1
)

// readNSEC3 reads a record of the zone. Hash algorithms and flags that nobody has
// defined make it none (RFC 5155 §8.1, §8.2).
func readNSEC3(owner name, rr *dns.NSEC3, zone name) (nsec3, params, bool) {
	if rr.Hash != hashSHA1 || rr.Flags&^flagOptOut != 0 || owner.parent() != zone || owner == root {
		return nsec3{}, params{}, false
	}
	salt, err := hex.DecodeString(rr.Salt)
	if rr.Salt == "-" {
		salt, err = nil, nil
	}
	rec := nsec3{
		optOut: rr.Flags&flagOptOut != 0,
		types:  rr.TypeBitMap,
		name:   string(owner[1 : 1+owner[0]]),
	}
	ok := err == nil && readHash(string(owner[1:1+owner[0]]), &rec.owner) && readHash(rr.NextDomain, &rec.next)
	return rec, params{iterations: rr.Iterations, salt: string(salt)}, ok
}

func readHash(s string, h *hash) bool {
	b, err := base32.HexEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(s))
	return err == nil && copy(h[:], b) == len(h) && len(b) == len(h)
}

// hashChain is the NSEC3 records of one message that were hashed alike.
type hashChain struct {
	params
	zone    name
	records []nsec3
	budget  *Budget
	// exhausted: the budget did not last to compute a hash.
	exhausted bool
}

func (c *hashChain) add(rec nsec3) { c.records = append(c.records, rec) }

func (c *hashChain) hashOf(n name) (hash, bool) {
	if c.exhausted {
		return hash{}, false
	}
	h, ok := c.budget.hash(n, c.params)
	c.exhausted = !ok
	return h, ok
}

// match returns the record of a name that exists, or nil.
func (c *hashChain) match(n name) *nsec3 {
	if h, ok := c.hashOf(n); ok {
		for i := range c.records {
			if c.records[i].owner == h {
				return &c.records[i]
			}
		}
	}
	return nil
}

// cover returns the record that denies a name, or nil.
func (c *hashChain) cover(n name) *nsec3 {
	if h, ok := c.hashOf(n); ok {
		for i := range c.records {
			if c.records[i].covers(h) {
				return &c.records[i]
			}
		}
	}
	return nil
}

// enclosure is a closest encloser proof (RFC 5155 §8.3).
type enclosure struct {
	encloser name
	at       *nsec3 // matches the encloser
	cover    *nsec3 // covers the next closer name
}

// enclose proves the closest encloser of a name that does not match itself: an
// ancestor that exists, with the name one label longer that does not. An encloser
// that is delegated or redirected encloses nothing of this zone.
func (c *hashChain) enclose(n name) (enclosure, bool) {
	if !n.within(c.zone) {
		return enclosure{}, false
	}
	for closer := n; closer != c.zone && !c.exhausted; closer = closer.parent() {
		at := c.match(closer.parent())
		if at == nil {
			continue
		}
		e := enclosure{encloser: closer.parent(), at: at, cover: c.cover(closer)}
		return e, e.cover != nil && !at.types.veils()
	}
	return enclosure{}, false
}

// proof of a closest encloser: what an opt-out span covers may be an unsigned
// delegation (RFC 5155 §9.2).
func (e *enclosure) proof() verdict.Proof {
	if e.cover.optOut {
		return verdict.Insecure
	}
	return verdict.Secure
}

func (e *enclosure) shows(how string) finding {
	if e.cover.optOut {
		how += ", in an opt-out span"
	}
	f := e.cover.shows(e.proof(), how)
	f.ttl = min(f.ttl, e.at.ttl)
	return f
}

// noData holds RFC 5155 §8.5 to §8.7.
func (c *hashChain) noData(n name, rtype uint16) finding {
	if rec := c.match(n); rec != nil {
		if rec.types.denies(n, rtype) {
			return rec.shows(verdict.Secure, "NSEC3 that matches the name without the type")
		}
		return finding{}
	}
	e, ok := c.enclose(n)
	if !ok {
		return finding{}
	}
	if wildcard, fits := e.encloser.wildcard(); fits {
		if at := c.match(wildcard); at != nil {
			if !at.types.denies(wildcard, rtype) {
				return finding{}
			}
			f := e.shows("NSEC3 closest encloser proof, and one at the wildcard " + wildcard.String() + " without the type")
			f.ttl = min(f.ttl, at.ttl)
			return f
		}
	}
	// An unsigned delegation needs no record of its own, nor does an empty
	// non-terminal above one (RFC 5155 §8.6, §7.1).
	if e.cover.optOut {
		return e.shows("NSEC3 closest encloser proof")
	}
	return finding{}
}

// nameError holds RFC 5155 §8.4.
func (c *hashChain) nameError(n name) finding {
	if c.match(n) != nil {
		return finding{}
	}
	e, ok := c.enclose(n)
	if !ok {
		return finding{}
	}
	if wildcard, fits := e.encloser.wildcard(); fits {
		no := c.cover(wildcard)
		if no == nil {
			return finding{}
		}
		f := e.shows("NSEC3 closest encloser proof, and one that covers the wildcard " + wildcard.String())
		f.ttl = min(f.ttl, no.ttl)
		return f
	}
	return e.shows("NSEC3 closest encloser proof")
}

// expanded holds RFC 5155 §8.8: the signature names the closest encloser, and the
// next closer name must not exist.
func (c *hashChain) expanded(n, encloser name) finding {
	closer := n.suffix(encloser.labels() + 1)
	rec := c.cover(closer)
	if rec == nil || closer == encloser {
		return finding{}
	}
	f := enclosure{encloser: encloser, at: rec, cover: rec}
	return f.shows("NSEC3 that covers the next closer name beside the wildcard")
}
