package differential

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// worth is what an answer is worth to a validator that does all it should. They are
// ordered, so that the least of a chain is what the chain is worth.
type worth uint8

const (
	failed worth = iota
	insecure
	secure
)

func (w worth) String() string { return [...]string{"bogus", "insecure", "secure"}[w] }

// style is how a zone denies.
type style uint8

const (
	unsigned style = iota
	byNSEC
	byNSEC3
	byOptOut
	byCompact
)

func (s style) String() string {
	return [...]string{"unsigned", "NSEC", "NSEC3", "NSEC3 with opt-out", "compact"}[s]
}

// question is what is asked; the name is fully qualified and in lower case.
type question struct {
	name  string
	rtype uint16
}

func (q question) String() string { return q.name + " " + dns.Type(q.rtype).String() }

// internet is all zones, and the forged replies that an attacker puts in the place of
// honest ones.
type internet struct {
	t    testing.TB
	now  time.Time
	ring *keyring
	root *zone

	mu     sync.Mutex
	zones  map[string]*zone
	forged map[question]*dns.Msg
	packed map[question][]byte
}

func newInternet(t testing.TB) *internet {
	in := &internet{
		t: t, now: time.Now().Truncate(time.Second), ring: newKeyring(t),
		zones: make(map[string]*zone), forged: make(map[question]*dns.Msg), packed: make(map[question][]byte),
	}
	in.root = in.zone(".", byNSEC)
	in.root.useKeys(in.ring.kskAndZSK(".", dns.ECDSAP256SHA256))
	return in
}

// signer is a key of a zone and what it is used for.
type signer struct {
	rr  *dns.DNSKEY
	key crypto.Signer // nil: it makes signatures that mean nothing
	// keys and data: it signs the DNSKEY RRset, and all else.
	keys, data bool
	// anchored: the parent has a DS of it. hidden: the zone does not publish it.
	anchored, hidden bool
}

// zone is one zone. Its worth is apart from that of the zones above it.
type zone struct {
	in         *internet
	apex       string
	style      style
	parent     *zone
	children   map[string]*zone
	signers    []*signer
	digests    []uint8
	ds         []dns.RR
	iterations uint16
	salt       string
	from, to   time.Duration // of the signatures, from now
	worth      worth
	records    map[string]map[uint16][]dns.RR
	order      *order
	made       map[string]*dns.RRSIG
}

// zone adds one below those that are there.
func (in *internet) zone(apex string, s style) *zone {
	z := &zone{
		in: in, apex: apex, style: s, children: make(map[string]*zone), digests: []uint8{dns.SHA256}, worth: secure,
		from: -24 * time.Hour, to: 13 * 24 * time.Hour, records: make(map[string]map[uint16][]dns.RR), made: make(map[string]*dns.RRSIG),
	}
	if s == unsigned {
		z.worth = insecure
	}
	z.add("@ SOA ns.invalid. hostmaster.invalid. 1 7200 3600 1209600 900\n@ NS ns.invalid.")
	if apex != "." {
		z.parent = in.closest(question{apex, dns.TypeDS})
		z.parent.children[apex] = z
		z.parent.order = nil
	}
	in.zones[apex] = z
	return z
}

// add takes in records in the form of a zone file.
func (z *zone) add(text string) {
	z.in.t.Helper()
	p := dns.NewZoneParser(strings.NewReader("$TTL 3600\n$ORIGIN "+z.apex+"\n"+text+"\n"), z.apex, "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		owner := strings.ToLower(rr.Header().Name)
		if z.records[owner] == nil {
			z.records[owner] = make(map[uint16][]dns.RR)
		}
		z.records[owner][rr.Header().Rrtype] = append(z.records[owner][rr.Header().Rrtype], rr)
	}
	if err := p.Err(); err != nil {
		z.in.t.Fatal(z.apex, err)
	}
	z.order = nil
}

// useKeys gives the zone its keys, and the parent its DS.
func (z *zone) useKeys(list []*signer) {
	z.signers = list
	z.ds = nil
	for _, s := range list {
		if !s.anchored {
			continue
		}
		for _, d := range z.digests {
			z.ds = append(z.ds, dsOf(s.rr, d))
		}
	}
}

// dsOf makes a DS; of digests that nobody knows, one of as many octets.
func dsOf(key *dns.DNSKEY, digest uint8) *dns.DS {
	if ds := key.ToDS(digest); ds != nil {
		ds.Hdr.Ttl = 3600
		return ds
	}
	ds := key.ToDS(dns.SHA256)
	ds.DigestType, ds.Hdr.Ttl = digest, 3600
	return ds
}

// closest is the zone that answers a question: for DS the one above the name.
func (in *internet) closest(q question) *zone {
	for at := q.name; ; at = above(at) {
		if z := in.zones[at]; z != nil && (q.rtype != dns.TypeDS || at != q.name || at == ".") {
			return z
		}
	}
}

// above is the name without its first label.
func above(n string) string {
	if i, end := dns.NextLabel(n, 0); !end {
		return n[i:]
	}
	return "."
}

// get returns the RRset at a name, or nil. DS and DNSKEY are made of the keys.
func (z *zone) get(owner string, rtype uint16) []dns.RR {
	switch {
	case rtype == dns.TypeDNSKEY && owner == z.apex:
		var rrs []dns.RR
		for _, s := range z.signers {
			if !s.hidden {
				rrs = append(rrs, s.rr)
			}
		}
		return rrs
	case rtype == dns.TypeDS:
		if child := z.children[owner]; child != nil {
			return child.ds
		}
		return nil
	}
	return z.records[owner][rtype]
}

// sealed returns an RRset with its signatures.
func (z *zone) sealed(rrs []dns.RR) []dns.RR {
	out := slices.Clone(rrs)
	isKeys := rrs[0].Header().Rrtype == dns.TypeDNSKEY
	for _, s := range z.signers {
		if !s.hidden && (isKeys && s.keys || !isKeys && s.data) {
			out = append(out, z.sign(s, rrs, z.from, z.to))
		}
	}
	return out
}

// sign makes one signature, once, that holds from one time until another.
func (z *zone) sign(s *signer, rrs []dns.RR, from, to time.Duration) *dns.RRSIG {
	z.in.t.Helper()
	id := fmt.Sprint(s.rr.Algorithm, s.rr.PublicKey, from, to, rrs)
	if sig := z.made[id]; sig != nil {
		return sig
	}
	h := rrs[0].Header()
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Name: h.Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: h.Ttl}, TypeCovered: h.Rrtype, OrigTtl: h.Ttl,
		Algorithm: s.rr.Algorithm, KeyTag: s.rr.KeyTag(), SignerName: z.apex, Labels: signedLabels(h.Name),
		Inception: uint32(z.in.now.Add(from).Unix()), Expiration: uint32(z.in.now.Add(to).Unix()),
	}
	if s.key == nil {
		sig.Signature = meaningless()
	} else if err := sig.Sign(s.key, rrs); err != nil {
		z.in.t.Fatal(z.apex, err)
	}
	z.made[id] = sig
	return sig
}

func signedLabels(owner string) uint8 {
	n := dns.CountLabel(owner)
	if strings.HasPrefix(owner, "*.") {
		n--
	}
	return uint8(n)
}

// keyring makes keys. RSA keys are few, since they take long to make.
type keyring struct {
	t   testing.TB
	rsa map[int]*signer
}

func newKeyring(t testing.TB) *keyring {
	k := &keyring{t: t, rsa: make(map[int]*signer)}
	for _, bits := range []int{1024, 1536, 2048} {
		k.rsa[bits] = k.generate(".", dns.RSASHA256, bits)
	}
	return k
}

func (k *keyring) generate(zone string, algorithm uint8, bits int) *signer {
	k.t.Helper()
	for {
		rr := &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600}, Flags: 257, Protocol: 3, Algorithm: algorithm}
		private, err := rr.Generate(bits)
		if err != nil {
			k.t.Fatal(err)
		}
		if !mayHaveTagZero(*rr) {
			return &signer{rr: rr, key: private.(crypto.Signer)}
		}
	}
}

// mayHaveTagZero reports a key that would have the tag 0 in one of the ways in which
// keys are used here: the library does not sign with such keys.
func mayHaveTagZero(rr dns.DNSKEY) bool {
	own := rr.Algorithm
	for _, rr.Flags = range []uint16{1, 256, 257, 257 | dns.REVOKE} {
		for _, rr.Algorithm = range []uint8{own, dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512} {
			if rr.KeyTag() == 0 {
				return true
			}
		}
	}
	return false
}

// key makes a key that does nothing yet. turn tells the RSA keys of one zone apart.
func (k *keyring) key(zone string, algorithm uint8, turn int) *signer {
	switch algorithm {
	case dns.ECDSAP256SHA256, dns.ED25519:
		return k.generate(zone, algorithm, 256)
	case dns.ECDSAP384SHA384:
		return k.generate(zone, algorithm, 384)
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512:
		from := k.rsa[[]int{1024, 2048, 1536}[turn%3]]
		rr := *from.rr
		rr.Hdr.Name, rr.Algorithm = zone, algorithm
		return &signer{rr: &rr, key: from.key}
	}
	rr := *k.generate(zone, dns.ED25519, 256).rr
	rr.Algorithm = algorithm
	if algorithm == dns.PRIVATEDNS {
		rr.PublicKey = meaningless()
	}
	return &signer{rr: &rr}
}

// meaningless is a key or a signature that nobody can make anything of. It begins with
// the name of the algorithm's owner, as PRIVATEDNS wants it (RFC 4034, appendix A.1.1).
func meaningless() string {
	return base64.StdEncoding.EncodeToString([]byte("\x07example\x00" + strings.Repeat("nobody can check this", 3)))
}

func (k *keyring) ksk(zone string, algorithm uint8, turn int) *signer {
	s := k.key(zone, algorithm, turn)
	s.keys, s.anchored = true, true
	return s
}

func (k *keyring) zsk(zone string, algorithm uint8, turn int) *signer {
	s := k.key(zone, algorithm, turn)
	s.rr.Flags, s.data = 256, true
	return s
}

func (k *keyring) kskAndZSK(zone string, algorithm uint8) []*signer {
	return []*signer{k.ksk(zone, algorithm, 1), k.zsk(zone, algorithm, 0)}
}
