package dnssec

import (
	"encoding/base64"
	"slices"
	"time"

	"github.com/miekg/dns"
)

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
	at                time.Time // when it came: TTLs count from then
}

func index(m *dns.Msg, at time.Time) message {
	msg := message{rcode: m.Rcode, recursive: m.RecursionAvailable || m.Authoritative, at: at}
	msg.answer, msg.authority = sets(m.Answer), sets(m.Ns)
	for _, set := range slices.Concat(msg.answer, msg.authority) {
		set.at = at
	}
	for _, set := range msg.authority {
		switch rr := set.rrs[0].(type) {
		case *dns.SOA:
			msg.hasSOA = true
			msg.soa = min(set.ttl(at), seconds(rr.Minttl)) // RFC 2308 §5
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
	var owner name
	var err error
	last := ""
	for _, rr := range rrs {
		h := rr.Header()
		if h.Name != last || last == "" { // most have the owner of the one before
			owner, err = parseName(h.Name)
			last = h.Name
		}
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
