package dnssec

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// world is signed zones and a recursive resolver in front of them, with CD set: it
// answers as the zones are, whatever they are worth.
type world struct {
	t     testing.TB
	now   time.Time
	zones map[string]*fakeZone
	// tamper, where it is set, may change any reply.
	tamper func(q Query, m *dns.Msg) *dns.Msg

	mu    sync.Mutex
	asked []Query
	sigs  map[string]*dns.RRSIG

	hashed map[string]string
}

// style is how a zone denies.
type style int

const (
	byNSEC style = iota
	byNSEC3
	byOptOut
	byCompact
	unsigned
)

// fakeKey is a key of a zone: what it signs, and whether the parent has a DS for it.
type fakeKey struct {
	rr     *dns.DNSKEY
	signer crypto.Signer
	noDS   bool
	// keysOnly signs the DNSKEY RRset, dataOnly all else; neither: both.
	keysOnly, dataOnly, silent bool
}

type fakeZone struct {
	w          *world
	apex       string
	style      style
	keys       []*fakeKey
	records    map[string]map[uint16][]dns.RR
	digests    []uint8
	ahead      *dns.DS // in the parent, without its key
	iterations uint16
	salt       string
	from, to   time.Duration // of signatures, from now
	fixed      *time.Time    // the time of signing, where the clock is changed after it
}

func newWorld(t testing.TB) *world {
	return &world{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), zones: make(map[string]*fakeZone), sigs: make(map[string]*dns.RRSIG), hashed: make(map[string]string)}
}

// key makes a key with both roles.
func (w *world) key(zone string, algorithm uint8, flags uint16) *fakeKey {
	w.t.Helper()
	bits := map[uint8]int{dns.ECDSAP256SHA256: 256, dns.ECDSAP384SHA384: 384, dns.ED25519: 256, dns.RSASHA256: 1024, dns.RSASHA512: 1024, dns.RSASHA1: 1024}[algorithm]
	rr := &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600}, Flags: flags, Protocol: 3, Algorithm: algorithm}
	private, err := rr.Generate(bits)
	if err != nil {
		w.t.Fatal(err)
	}
	return &fakeKey{rr: rr, signer: private.(crypto.Signer)}
}

// zone adds a zone with a KSK and a ZSK of P-256, and the records of a zone file.
func (w *world) zone(apex string, s style, text string) *fakeZone {
	w.t.Helper()
	z := &fakeZone{w: w, apex: apex, style: s, records: make(map[string]map[uint16][]dns.RR), digests: []uint8{dns.SHA256}, from: -24 * time.Hour, to: 13 * 24 * time.Hour}
	if s != unsigned {
		ksk, zsk := w.key(apex, dns.ECDSAP256SHA256, 257), w.key(apex, dns.ECDSAP256SHA256, 256)
		ksk.keysOnly, zsk.dataOnly, zsk.noDS = true, true, true
		z.keys = []*fakeKey{ksk, zsk}
	}
	z.add(apex + " 3600 IN SOA ns.invalid. hostmaster.invalid. 1 7200 3600 1209600 900")
	z.add(apex + " 3600 IN NS ns.invalid.")
	for line := range strings.Lines(text) {
		z.add(line)
	}
	w.zones[apex] = z
	return z
}

func (z *fakeZone) add(line string) {
	z.w.t.Helper()
	rr, err := dns.NewRR("$TTL 3600\n$ORIGIN " + z.apex + "\n" + strings.TrimSpace(line))
	if err != nil {
		z.w.t.Fatal(err)
	}
	if rr == nil {
		return
	}
	owner := strings.ToLower(rr.Header().Name)
	if z.records[owner] == nil {
		z.records[owner] = make(map[uint16][]dns.RR)
	}
	z.records[owner][rr.Header().Rrtype] = append(z.records[owner][rr.Header().Rrtype], rr)
}

// anchors are the DS of the root's keys.
func (w *world) anchors() *Anchors {
	w.t.Helper()
	text := ""
	for _, ds := range w.zones["."].ds() {
		text += ds.String() + "\n"
	}
	a, err := ParseAnchors([]byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) validator() *Validator {
	return New(Config{Anchors: w.anchors(), Clock: func() time.Time { return w.now }})
}

func (w *world) lookup(n string, rrtype uint16) Answer { return w.ask(w.validator(), n, rrtype) }

// ask is a destination of one question.
func (w *world) ask(v *Validator, n string, rrtype uint16) Answer {
	s := v.Session(w)
	defer s.Close()
	return s.Lookup(context.Background(), n, rrtype)
}

// count tells how often a question was asked.
func (w *world) count(n string, rrtype uint16) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := 0
	for _, q := range w.asked {
		if q.Name == n && q.Type == rrtype {
			c++
		}
	}
	return c
}

// Exchange answers as a resolver does, over the wire's form.
func (w *world) Exchange(ctx context.Context, q Query) (*dns.Msg, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.asked = append(w.asked, q)
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Type)
	m.Response, m.RecursionAvailable = true, true
	w.resolve(m, q.Name, q.Type, 0)
	if w.tamper != nil {
		if m = w.tamper(q, m); m == nil {
			return nil, io.ErrUnexpectedEOF
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil, err
	}
	m = new(dns.Msg)
	return m, m.Unpack(packed)
}

// zoneFor is the zone that has a name, and for DS its parent.
func (w *world) zoneFor(n string, rrtype uint16) *fakeZone {
	for labels := dns.Split(n); ; labels = labels[1:] {
		at := "."
		if len(labels) > 0 {
			at = n[labels[0]:]
		}
		if z := w.zones[at]; z != nil && (rrtype != dns.TypeDS || at != n || at == ".") {
			return z
		}
		if len(labels) == 0 {
			return nil
		}
	}
}

func (w *world) resolve(m *dns.Msg, n string, rrtype uint16, depth int) {
	z := w.zoneFor(n, rrtype)
	if depth > 20 {
		return // as far as it goes
	}
	if z == nil {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	for at := n; at != z.apex && at != "."; {
		_, at, _ = strings.Cut(at, ".")
		if at == "" {
			at = "."
		}
		if dname := z.get(at, dns.TypeDNAME); dname != nil {
			m.Answer = append(m.Answer, z.signed(dname)...)
			target := strings.TrimSuffix(n, at) + dname[0].(*dns.DNAME).Target
			m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: n, Rrtype: dns.TypeCNAME, Class: 1, Ttl: 3600}, Target: target})
			w.resolve(m, target, rrtype, depth+1)
			return
		}
	}
	source := n
	if !z.exists(n) {
		source = "*." + strings.TrimPrefix(z.encloser(n), ".")
		if !z.exists(source) {
			m.Rcode = dns.RcodeNameError
			z.deny(m, n, source)
			return
		}
	}
	rrs := z.get(source, rrtype)
	cname := z.get(source, dns.TypeCNAME)
	if rrs == nil && cname != nil {
		rrs = cname
	}
	if rrs == nil {
		z.deny(m, n, source)
		return
	}
	if z.style == byCompact {
		rrs = renamed(rrs, n) // who signs on the fly expands before
	}
	m.Answer = append(m.Answer, renamed(z.signed(rrs), n)...)
	if source != n && z.style != byCompact {
		z.denyNames(m, n)
	}
	if c, ok := rrs[0].(*dns.CNAME); ok && rrtype != dns.TypeCNAME {
		w.resolve(m, c.Target, rrtype, depth+1)
	}
}

func renamed(rrs []dns.RR, n string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = n
	}
	return out
}

// get returns an RRset, the DNSKEY and DS among them.
func (z *fakeZone) get(n string, rrtype uint16) []dns.RR {
	switch child := z.w.zones[n]; {
	case rrtype == dns.TypeDNSKEY && n == z.apex:
		var rrs []dns.RR
		for _, k := range z.keys {
			rrs = append(rrs, k.rr)
		}
		return rrs
	case rrtype == dns.TypeDS && child != nil && n != z.apex:
		return child.ds()
	}
	return z.records[n][rrtype]
}

func (z *fakeZone) ds() []dns.RR {
	var rrs []dns.RR
	if z.ahead != nil {
		rrs = append(rrs, z.ahead)
	}
	for _, k := range z.keys {
		for _, d := range z.digests {
			if !k.noDS {
				rrs = append(rrs, k.rr.ToDS(d))
			}
		}
	}
	return rrs
}

// names are the owners in the zone, cuts among them, sorted; what is below a cut is
// not of the zone.
func (z *fakeZone) names() []string {
	var all []string
	for n := range z.records {
		all = append(all, n)
	}
	for apex := range z.w.zones {
		if parent := z.w.zoneFor(apex, dns.TypeDS); parent == z && apex != z.apex {
			all = append(all, apex)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return compare(mustName(a), mustName(b)) })
	return slices.Compact(all)
}

func mustName(s string) name {
	n, err := parseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func (z *fakeZone) types(n string) []uint16 {
	var list []uint16
	for t := range z.records[n] {
		list = append(list, t)
	}
	child := z.w.zones[n]
	if n == z.apex {
		list = append(list, dns.TypeDNSKEY)
	} else if child != nil {
		list = []uint16{dns.TypeNS}
		if child.ds() != nil {
			list = append(list, dns.TypeDS)
		}
	}
	if child == nil || n == z.apex || child.ds() != nil || z.style == byNSEC || z.style == byCompact {
		list = append(list, dns.TypeRRSIG)
	}
	if z.style == byNSEC || z.style == byCompact {
		list = append(list, dns.TypeNSEC)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// exists is true of empty non-terminals, too.
func (z *fakeZone) exists(n string) bool {
	return slices.ContainsFunc(z.names(), func(at string) bool { return dns.IsSubDomain(n, at) })
}

func (z *fakeZone) encloser(n string) string {
	for !z.exists(n) {
		_, n, _ = strings.Cut(n, ".")
		if n == "" {
			return "."
		}
	}
	return n
}

// deny adds the SOA and the proof that a name, or the wildcard for it, lacks a type or
// does not exist.
func (z *fakeZone) deny(m *dns.Msg, n, source string) {
	m.Ns = append(m.Ns, z.signed(z.records[z.apex][dns.TypeSOA])...)
	if z.style == byCompact {
		m.Rcode = dns.RcodeSuccess
		if z.exists(source) {
			z.addOnce(m, z.compactFor(n, z.types(source)))
		} else {
			z.addOnce(m, z.compactFor(n, nil))
		}
		return
	}
	z.denyNames(m, n)
	if source != n {
		z.denyNames(m, source)
	}
}

// denyNames adds the records that match or cover a name.
func (z *fakeZone) denyNames(m *dns.Msg, n string) {
	switch z.style {
	case byNSEC:
		z.addOnce(m, z.nsecFor(n))
	case byNSEC3, byOptOut:
		for at := n; ; {
			z.addOnce(m, z.nsec3For(at))
			if _, here := z.hashes()[z.hash(at)]; here || at == z.apex {
				return
			}
			if _, at, _ = strings.Cut(at, "."); at == "" {
				at = "."
			}
		}
	}
}

func (z *fakeZone) addOnce(m *dns.Msg, rr dns.RR) {
	for _, have := range m.Ns {
		if dns.IsDuplicate(have, rr) {
			return
		}
	}
	m.Ns = append(m.Ns, z.signed([]dns.RR{rr})...)
}

func (z *fakeZone) nsecFor(n string) dns.RR {
	names := z.names()
	i := len(names) - 1
	for j, at := range names {
		if compare(mustName(at), mustName(n)) <= 0 {
			i = j
		}
	}
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: names[i], Rrtype: dns.TypeNSEC, Class: 1, Ttl: 900},
		NextDomain: names[(i+1)%len(names)], TypeBitMap: z.types(names[i]),
	}
}

// compactFor is RFC 9824: an NSEC at any name, up to the one right after it.
func (z *fakeZone) compactFor(n string, list []uint16) dns.RR {
	switch {
	case slices.Contains(z.names(), n):
		list = z.types(n)
	case z.exists(n):
		list = []uint16{dns.TypeRRSIG, dns.TypeNSEC}
	case list == nil:
		list = []uint16{dns.TypeRRSIG, dns.TypeNSEC, typeNXNAME}
	}
	return &dns.NSEC{Hdr: dns.RR_Header{Name: n, Rrtype: dns.TypeNSEC, Class: 1, Ttl: 900}, NextDomain: `\000.` + strings.TrimPrefix(n, "."), TypeBitMap: list}
}

func (z *fakeZone) hash(n string) string {
	id := n + " " + z.salt + " " + strconv.Itoa(int(z.iterations))
	h := z.w.hashed[id]
	if h == "" {
		h = strings.ToLower(dns.HashName(n, dns.SHA1, z.iterations, z.salt))
		z.w.hashed[id] = h
	}
	return h
}

// hashes maps the hashes of the chain to types.
func (z *fakeZone) hashes() map[string][]uint16 {
	all := make(map[string][]uint16)
	for _, n := range z.names() {
		if child := z.w.zones[n]; z.style == byOptOut && child != nil && n != z.apex && child.ds() == nil {
			continue
		}
		all[z.hash(n)] = append([]uint16{}, z.types(n)...)
		for at := n; at != z.apex; {
			if _, at, _ = strings.Cut(at, "."); at == "" {
				at = "."
			}
			if all[z.hash(at)] == nil {
				all[z.hash(at)] = append([]uint16{}, z.types0(at)...)
			}
		}
	}
	return all
}

// types0 is empty for empty non-terminals.
func (z *fakeZone) types0(n string) []uint16 {
	if z.records[n] == nil {
		return nil
	}
	return z.types(n)
}

func (z *fakeZone) nsec3For(n string) dns.RR {
	all := z.hashes()
	var order []string
	for h := range all {
		order = append(order, h)
	}
	slices.Sort(order)
	i := len(order) - 1
	for j, h := range order {
		if h <= z.hash(n) {
			i = j
		}
	}
	owner := order[i] + "." + z.apex
	if z.apex == "." {
		owner = order[i] + "."
	}
	rr := &dns.NSEC3{
		Hdr:  dns.RR_Header{Name: owner, Rrtype: dns.TypeNSEC3, Class: 1, Ttl: 900},
		Hash: dns.SHA1, Iterations: z.iterations, SaltLength: uint8(len(z.salt) / 2), Salt: z.salt,
		HashLength: 20, NextDomain: strings.ToUpper(order[(i+1)%len(order)]), TypeBitMap: all[order[i]],
	}
	if z.style == byOptOut {
		rr.Flags = 1
	}
	return rr
}

// signed returns an RRset with its signatures, which are made once.
func (z *fakeZone) signed(rrs []dns.RR) []dns.RR {
	z.w.t.Helper()
	out := slices.Clone(rrs)
	for _, k := range z.keys {
		isKeys := rrs[0].Header().Rrtype == dns.TypeDNSKEY
		if k.silent || k.keysOnly && !isKeys || k.dataOnly && isKeys {
			continue
		}
		out = append(out, z.sign(k, rrs))
	}
	return out
}

func (z *fakeZone) sign(k *fakeKey, rrs []dns.RR) *dns.RRSIG {
	z.w.t.Helper()
	at := z.w.now
	if z.fixed != nil {
		at = *z.fixed
	}
	id := k.rr.PublicKey + z.from.String() + z.to.String()
	for _, rr := range rrs {
		id += rr.String()
	}
	if sig := z.w.sigs[id]; sig != nil {
		return sig
	}
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Ttl: rrs[0].Header().Ttl}, Algorithm: k.rr.Algorithm, KeyTag: k.rr.KeyTag(), SignerName: z.apex,
		Inception: uint32(at.Add(z.from).Unix()), Expiration: uint32(at.Add(z.to).Unix()),
	}
	if err := sig.Sign(k.signer, rrs); err != nil {
		z.w.t.Fatal(err)
	}
	z.w.sigs[id] = sig
	return sig
}

// standard is a small internet: a signed root and top-level domains of every style.
func standard(t testing.TB) *world {
	w := newWorld(t)
	w.zone(".", byNSEC, "")
	w.zone("com.", byOptOut, "")
	w.zone("org.", byNSEC, "")
	w.zone("net.", byNSEC3, "")
	mail := `
@ MX 10 mx1
@ MX 20 mx2.plain.org.
@ TXT "v=spf1 -all"
mx1 A 192.0.2.1
mx1 AAAA 2001:db8::1
_25._tcp.mx1 TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
alias CNAME mx1
away CNAME www.plain.org.
across CNAME mx1.example.net.
*.wild A 192.0.2.7
*.wild TXT "wild"
*.cwild CNAME mx1
under.tree.wild A 192.0.2.8
old DNAME new
host.new A 192.0.2.9
empty.non.terminal A 192.0.2.10
loop1 CNAME loop2
loop2 CNAME loop1`
	w.zone("example.com.", byNSEC, mail)
	w.zone("example.net.", byNSEC3, mail)
	w.zone("example.org.", byCompact, mail)
	opt := w.zone("optout.org.", byOptOut, mail)
	opt.iterations, opt.salt = 5, "aabbccdd"
	w.zone("plain.com.", unsigned, mail)
	w.zone("plain.org.", unsigned, mail+"\nwww A 192.0.2.20\nmx2 A 192.0.2.21")
	w.zone("plain.net.", unsigned, mail)
	w.zone("sub.example.com.", byNSEC, "@ MX 10 mx\nmx A 192.0.2.30")
	w.zone("plain.example.com.", unsigned, "@ MX 10 mx\nmx A 192.0.2.31")
	return w
}

// want holds an answer against what it must be.
func want(t *testing.T, a Answer, outcome verdict.Outcome, proof verdict.Proof) {
	t.Helper()
	if a.Outcome != outcome || a.Proof != proof {
		t.Errorf("got %v %v (%v), want %v %v\n%v", a.Outcome, a.Proof, a.Err, outcome, proof, a.Chain())
	}
	if (a.Err != nil) != (a.Outcome == verdict.Failed) {
		t.Errorf("%v with error %v", a.Outcome, a.Err)
	}
}

// refused demands that nothing was believed, for this reason.
func refused(t *testing.T, a Answer, why Why) {
	t.Helper()
	if a.Outcome != verdict.Failed || a.Proof == verdict.Secure || a.Proof == verdict.Insecure && a.Err.Why != NoReply {
		t.Fatalf("believed: %v %v\n%v", a.Outcome, a.Proof, a.Chain())
	}
	if a.Err.Why != why {
		t.Errorf("refused for %v (%v), want %v", a.Err.Why, a.Err, why)
	}
}

// bigRSA is an RSA key with any exponent.
type bigRSA struct{ n, e, d *big.Int }

func (w *world) bigRSA(zone string, bits int, e *big.Int) *fakeKey {
	w.t.Helper()
	one := big.NewInt(1)
	for {
		p, err1 := rand.Prime(rand.Reader, bits/2)
		q, err2 := rand.Prime(rand.Reader, bits/2)
		if err1 != nil || err2 != nil {
			w.t.Fatal(err1, err2)
		}
		n := new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		if d == nil || n.BitLen() != bits {
			continue
		}
		return rsaFake(zone, bigRSA{n, e, d})
	}
}

// rsa4096 reads a key that takes long to make.
func (w *world) rsa4096(zone string) *fakeKey {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "rsa4096.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	var k bigRSA
	lines := strings.Fields(string(text[strings.IndexByte(string(text), '\n'):]))
	for i, into := range []**big.Int{&k.n, &k.e, &k.d} {
		*into, _ = new(big.Int).SetString(lines[i], 16)
	}
	return rsaFake(zone, k)
}

func rsaFake(zone string, k bigRSA) *fakeKey {
	exp := k.e.Bytes()
	rr := &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: 1, Ttl: 3600}, Flags: 257, Protocol: 3, Algorithm: dns.RSASHA256}
	rr.PublicKey = base64.StdEncoding.EncodeToString(append(append([]byte{byte(len(exp))}, exp...), k.n.Bytes()...))
	return &fakeKey{rr: rr, signer: k}
}

func (k bigRSA) Public() crypto.PublicKey { return &rsa.PublicKey{N: k.n, E: 3} }

func (k bigRSA) Sign(_ io.Reader, sum []byte, opts crypto.SignerOpts) ([]byte, error) {
	size := (k.n.BitLen() + 7) / 8
	em := make([]byte, size)
	tail := append(digestInfo(opts.HashFunc()), sum...)
	em[1] = 1
	for i := 2; i < size-len(tail)-1; i++ {
		em[i] = 0xff
	}
	copy(em[size-len(tail):], tail)
	return new(big.Int).Exp(new(big.Int).SetBytes(em), k.d, k.n).FillBytes(make([]byte, size)), nil
}
