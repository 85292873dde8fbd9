package world

import (
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// style is how a zone denies.
type style uint8

const (
	byNSEC style = iota
	byNSEC3
	byOptOut
	byCompact
)

// signing is how a zone is signed.
type signing struct {
	style      style
	iterations uint16
	salt       string
	algorithm  uint8
	digest     uint8
	// single: one key with both roles; else a KSK and a ZSK.
	single bool
	// spare is how many more keys there are, which sign nothing.
	spare int
	// from and to are when signatures hold, where the zone was signed once. Zero: it
	// is signed anew all the time, as most are.
	from, to time.Time
}

func defaultSigning() signing {
	return signing{algorithm: dns.ECDSAP256SHA256, digest: dns.SHA256}
}

// option reads a word of a zone line.
func (s *signing) option(word string, now time.Time) error {
	name, value, _ := strings.Cut(word, "=")
	styles := map[string]style{"nsec": byNSEC, "nsec3": byNSEC3, "opt-out": byOptOut, "compact": byCompact}
	if st, ok := styles[word]; ok {
		s.style = st
		return nil
	}
	n, err := 0, error(nil)
	switch name {
	case "csk":
		s.single = true
		return nil
	case "salt":
		s.salt = value
		_, err = hex.DecodeString(value)
	case "signed":
		err = s.window(value, now)
	case "iterations":
		n, err = number(value, math.MaxUint16)
		s.iterations = uint16(n)
	case "algorithm":
		n, err = number(value, math.MaxUint8)
		s.algorithm = uint8(n)
	case "digest":
		n, err = number(value, math.MaxUint8)
		s.digest = uint8(n)
	case "keys":
		s.spare, err = number(value, 500)
	default:
		err = errors.New("unknown")
	}
	if err != nil {
		return fmt.Errorf("world: option %q: %w", word, err)
	}
	return nil
}

func number(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err == nil && (n < 0 || n > most) {
		err = fmt.Errorf("not in 0 to %d", most)
	}
	return n, err
}

// window reads "-24h..+2h" or "always".
func (s *signing) window(text string, now time.Time) error {
	if text == "always" {
		s.from, s.to = time.Time{}, time.Time{}
		return nil
	}
	a, b, _ := strings.Cut(text, "..")
	from, err := time.ParseDuration(a)
	if err != nil {
		return err
	}
	to, err := time.ParseDuration(b)
	if err == nil && to <= from {
		err = errors.New("it ends before it begins")
	}
	s.from, s.to = now.Add(from), now.Add(to)
	return err
}

// resign is how often a zone that is signed all the time gets new signatures. They
// begin a day before, as clocks differ, and last for two weeks.
const resign = 7 * 24 * time.Hour

// times are when signatures that are made now begin and end.
func (s *signing) times(now time.Time) (from, to time.Time) {
	if !s.to.IsZero() {
		return s.from, s.to
	}
	at := now.Truncate(resign)
	return at.Add(-24 * time.Hour), at.Add(2 * resign)
}

// known reports whether validators of today can check the signatures (RFC 9904 §3).
func (s *signing) known() bool {
	return slices.Contains([]uint8{
		dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519,
	}, s.algorithm) && slices.Contains([]uint8{dns.SHA1, dns.SHA256, dns.SHA384}, s.digest)
}

// hides reports whether a denial leaves open what is there: in an opt-out span, or for
// more iterations than validators are willing to make (RFC 9276 §3.2).
func (s *signing) hides() bool { return s.style == byOptOut || s.iterations > 50 }

// key is a key of a zone.
type key struct {
	rr *dns.DNSKEY
	// signer is nil where the algorithm is one that nobody here knows.
	signer crypto.Signer
	// entry: the parent has a DS for it, and it signs the keys; data: it signs the rest.
	entry, data bool
}

func newKey(apex string, algorithm uint8, flags uint16) (key, error) {
	rr := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: apex, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: flags, Protocol: 3, Algorithm: algorithm,
	}
	bits := map[uint8]int{
		dns.ECDSAP256SHA256: 256, dns.ECDSAP384SHA384: 384, dns.ED25519: 256,
		dns.RSASHA1: 1024, dns.RSASHA1NSEC3SHA1: 1024, dns.RSASHA256: 1024, dns.RSASHA512: 1024,
	}[algorithm]
	if bits == 0 {
		rr.PublicKey = noise(57)
		return key{rr: rr}, nil
	}
	private, err := rr.Generate(bits)
	if err != nil {
		return key{}, fmt.Errorf("world: key of %s: %w", apex, err)
	}
	return key{rr: rr, signer: private.(crypto.Signer)}, nil
}

// noise is base64 of n octets that mean nothing.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

// keySet returns the keys of a signed zone, which are made when they are needed.
func (z *zone) keySet() ([]key, error) {
	if z.keys != nil {
		return z.keys, nil
	}
	roles := []struct {
		flags       uint16
		entry, data bool
	}{{257, true, false}, {256, false, true}}
	if z.signing.single {
		roles = roles[:1]
		roles[0].data = true
	}
	var keys []key
	for _, role := range roles {
		k, err := newKey(z.apex, z.signing.algorithm, role.flags)
		if err != nil {
			return nil, err
		}
		k.entry, k.data = role.entry, role.data
		keys = append(keys, k)
	}
	for range z.signing.spare {
		k, err := newKey(z.apex, z.signing.algorithm, 256)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	z.keys = keys
	return keys, nil
}

// signer makes signatures, each once.
type signer struct {
	made map[string]*dns.RRSIG
}

// sign returns the signatures of a zone over an RRset at a time.
func (s *signer) sign(z *zone, rrs []dns.RR, now time.Time) ([]dns.RR, error) {
	keys, err := z.keySet()
	if err != nil {
		return nil, err
	}
	var sigs []dns.RR
	isKeys := rrs[0].Header().Rrtype == dns.TypeDNSKEY
	for _, k := range keys {
		if isKeys && !k.entry || !isKeys && !k.data {
			continue
		}
		sig, err := s.signature(z, k, rrs, now)
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, sig)
	}
	return sigs, nil
}

func (s *signer) signature(z *zone, k key, rrs []dns.RR, now time.Time) (*dns.RRSIG, error) {
	from, to := z.signing.times(now)
	var id strings.Builder
	fmt.Fprintf(&id, "%s %d %d %s", z.apex, from.Unix(), to.Unix(), k.rr.PublicKey)
	for _, rr := range rrs {
		id.WriteString("\n" + rr.String())
	}
	if sig := s.made[id.String()]; sig != nil {
		return sig, nil
	}
	h := rrs[0].Header()
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Name: h.Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: h.Ttl},
		Algorithm: k.rr.Algorithm, KeyTag: k.rr.KeyTag(), SignerName: z.apex,
		Inception: uint32(from.Unix()), Expiration: uint32(to.Unix()),
	}
	if k.signer == nil {
		sig.TypeCovered, sig.OrigTtl, sig.Labels, sig.Signature = h.Rrtype, h.Ttl, uint8(dns.CountLabel(h.Name)), noise(114)
	} else if err := sig.Sign(k.signer, rrs); err != nil {
		return nil, fmt.Errorf("world: signature of %s: %w", z.apex, err)
	}
	s.made[id.String()] = sig
	return sig, nil
}

// spoil returns records whose signatures do not hold.
func spoil(rrs []dns.RR) []dns.RR {
	return editEach(rrs, func(sig *dns.RRSIG) {
		b, _ := base64.StdEncoding.DecodeString(sig.Signature)
		b[len(b)-1] ^= 1
		sig.Signature = base64.StdEncoding.EncodeToString(b)
	})
}

// editEach returns records of which those of one type are changed copies.
func editEach[T dns.RR](rrs []dns.RR, change func(T)) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		if _, ok := rr.(T); ok {
			rr = dns.Copy(rr)
			change(rr.(T))
		}
		out[i] = rr
	}
	return out
}

// delegation returns the DS records of a signed zone, as its parent has them.
func (z *zone) delegation(ttl uint32) ([]dns.RR, error) {
	keys, err := z.keySet()
	if err != nil {
		return nil, err
	}
	var all []dns.RR
	for _, k := range keys {
		if !k.entry {
			continue
		}
		ds := k.rr.ToDS(dns.SHA256)
		if known := k.rr.ToDS(z.signing.digest); known != nil {
			ds = known
		}
		ds.DigestType, ds.Hdr.Ttl = z.signing.digest, ttl
		all = append(all, ds)
	}
	return all, nil
}
