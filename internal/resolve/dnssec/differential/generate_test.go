package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// specimen is one top-level domain and what is below it, with the questions about it.
type specimen struct {
	top  string
	kind string
	// dom is the zone that varies; the others are there to be led to and borrowed from.
	dom   *zone
	zones []*zone
	asks  []question
	// damaged: a reply is forged, in a way that leaves nothing to believe.
	damaged bool
	// sampled: it is for the validator that is asked now and then only.
	sampled bool
}

// contents are the records of every zone below a specimen's own; TOP is its top.
const contents = `
@ MX 10 mx1
@ MX 20 mx1.bare.TOP
@ A 192.0.2.80
@ TXT "v=spf1 -all"
mx1 A 192.0.2.1
mx1 A 192.0.2.2
mx1 AAAA 2001:db8::1
_25._tcp.mx1 TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
_25._tcp.mx1 TLSA 2 0 1 1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
MiXed A 192.0.2.3
MiXed MX 10 MX1
mx2 A 192.0.2.4
alias CNAME mx1
two CNAME alias
three CNAME Two
into CNAME a.wild
dangling CNAME nowhere
hollow CNAME deep.ent
across CNAME mx1.other.TOP
away CNAME mx1.bare.TOP
back CNAME through.bare.TOP
through CNAME mx1.dom.TOP
inside CNAME host.old
*.wild A 192.0.2.7
*.wild TXT "wild"
*.cwild CNAME mx1
*.far CNAME mx1.other.TOP
under.tree.wild A 192.0.2.8
under.tree.wild MX 10 mx1
very.deep.ent A 192.0.2.10
old DNAME new
host.new A 192.0.2.9
x.y.new TXT "below"
gone DNAME other.TOP
lost DNAME bare.TOP
loop1 CNAME loop2
loop2 CNAME loop1
long8 CNAME long7
long7 CNAME long6
long6 CNAME long5
long5 CNAME long4
long4 CNAME long3
long3 CNAME long2
long2 CNAME long1
long1 CNAME mx1
long9 CNAME long8
`

// choices are what is asked about such a zone: owner and type.
var choices = strings.Fields(`@/MX @/A @/AAAA @/TXT @/TLSA @/NS @/SOA @/DNSKEY @/DS
	mx1/A mx1/AAAA mx1/MX mx1/DS mx1/CNAME _25._tcp.mx1/TLSA _25._tcp.mx1/A _tcp.mx1/TLSA _tcp.mx1/DS mixed/A mixed/MX mx2/AAAA _25._tcp.mx2/TLSA
	alias/A alias/AAAA alias/TXT alias/CNAME alias/DS two/A three/A into/A into/MX dangling/A dangling/CNAME hollow/A hollow/MX
	across/A across/CNAME away/A away/CNAME away/MX back/A back/CNAME inside/A
	nowhere/A nowhere/DS a.b.c.nowhere/TLSA aaa/A zzz/MX _25._tcp.nowhere/TLSA
	a.wild/A a.wild/TXT a.wild/MX a.wild/CNAME a.wild/DS b.c.wild/A *.wild/A *.wild/MX wild/A tree.wild/A x.tree.wild/A y.under.tree.wild/A under.tree.wild/A under.tree.wild/MX
	a.cwild/A a.cwild/CNAME a.cwild/TXT a.b.cwild/AAAA a.far/A
	ent/A deep.ent/TXT very.deep.ent/A x.ent/A x.deep.ent/A
	old/DNAME old/A host.old/A host.old/CNAME host.old/DS x.y.old/TXT x.old/A mx1.gone/A mx1.gone/MX mx1.lost/A nowhere.lost/A a.wild.gone/A
	long8/A long1/A sub/DS sub/MX mx1.sub/A _25._tcp.mx1.sub/TLSA nowhere.sub/A a.wild.sub/A plain/DS plain/MX mx1.plain/A nowhere.plain/A
	deeper.cut/DS deeper.cut/MX cut/A cut/DS`) // never changed

// rollup are layouts of keys: those of an ordinary zone, and each phase of a rollover.
// Every one of them is in order: some path of trust holds.
func rollup() []string {
	return []string{
		"ksk and zsk", "csk", "csk with flags 256", "two ksk", "stand-by ds", "pre-publish", "double signature", "double ds",
		"ds of a zsk", "two algorithms", "two algorithms, one ds", "two algorithms, one signs", "one supported", "revoked beside", "three zsk",
	}
}

// layout makes the keys of a zone.
func (z *zone) layout(kind string, algorithm, second uint8) {
	k, list := z.in.ring, []*signer(nil)
	switch kind {
	case "ksk and zsk":
		list = k.kskAndZSK(z.apex, algorithm)
	case "csk", "csk with flags 256":
		csk := k.ksk(z.apex, algorithm, 0)
		csk.data = true
		if kind != "csk" {
			csk.rr.Flags = 256
		}
		list = []*signer{csk}
	case "two ksk":
		list = append(k.kskAndZSK(z.apex, algorithm), k.ksk(z.apex, algorithm, 2))
	case "stand-by ds":
		list = append(k.kskAndZSK(z.apex, algorithm), k.ksk(z.apex, algorithm, 2))
		list[2].hidden = true
	case "pre-publish":
		list = append(k.kskAndZSK(z.apex, algorithm), k.zsk(z.apex, algorithm, 2))
		list[2].data = false
	case "double signature":
		list = append(k.kskAndZSK(z.apex, algorithm), k.zsk(z.apex, algorithm, 2))
	case "double ds":
		list = append(k.kskAndZSK(z.apex, algorithm), k.ksk(z.apex, algorithm, 2))
		list[2].keys = false
	case "ds of a zsk":
		zsk := k.zsk(z.apex, algorithm, 0)
		zsk.keys, zsk.anchored = true, true
		list = []*signer{zsk, k.zsk(z.apex, algorithm, 1)}
		list[1].data = false
	case "three zsk":
		list = append(k.kskAndZSK(z.apex, algorithm), k.zsk(z.apex, algorithm, 2), k.zsk(z.apex, algorithm, 1))
		list[3].data = false
	default:
		list = z.layoutOfTwo(kind, algorithm, second)
	}
	z.useKeys(list)
}

// layoutOfTwo are those with two algorithms, or a revoked key.
func (z *zone) layoutOfTwo(kind string, algorithm, second uint8) []*signer {
	k := z.in.ring
	list := append(k.kskAndZSK(z.apex, algorithm), k.kskAndZSK(z.apex, second)...)
	switch kind {
	case "two algorithms":
	case "two algorithms, one ds":
		list[2].anchored = false
	case "two algorithms, one signs":
		// RFC 4035 §2.2 forbids it to zones, and RFC 6840 §5.11 has validators accept it.
		list[2].keys, list[3].data = false, false
	case "one supported":
		list = append(k.kskAndZSK(z.apex, algorithm), k.kskAndZSK(z.apex, dns.PRIVATEDNS)...)
	case "revoked beside":
		list = list[:3]
		list[2] = k.ksk(z.apex, algorithm, 2)
		list[2].anchored = false
		list[2].rr.Flags |= dns.REVOKE
	default:
		panic("differential: no layout " + kind)
	}
	return list
}

// generator makes specimens. Its choices depend on the seed only.
type generator struct {
	in    *internet
	rand  *rand.Rand
	count int
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// begin makes a specimen with zones that are in order.
func (g *generator) begin(kind string) *specimen {
	g.count++
	sp := &specimen{top: fmt.Sprintf("c%d.", g.count), kind: kind, sampled: g.count%4 == 0}
	top := g.in.zone(sp.top, pick(g.rand, byNSEC, byNSEC, byNSEC3, byNSEC3, byOptOut))
	top.layout(pick(g.rand, "csk", "ksk and zsk"), pick[uint8](g.rand, dns.ECDSAP256SHA256, dns.ED25519), 0)
	sp.zones = []*zone{top}
	sp.dom = g.below(sp, "dom", pick(g.rand, byNSEC, byNSEC3, byOptOut, byCompact))
	g.vary(sp.dom)
	other := g.below(sp, "other", pick(g.rand, byNSEC, byNSEC3, byCompact))
	other.layout("csk", dns.ED25519, 0)
	g.below(sp, "bare", unsigned)
	sub := g.below(sp, "sub.dom", pick(g.rand, byNSEC, byNSEC3))
	sub.layout("csk", dns.ECDSAP256SHA256, 0)
	g.below(sp, "plain.dom", unsigned)
	g.below(sp, "deeper.cut.dom", unsigned)
	return sp
}

func (g *generator) below(sp *specimen, label string, s style) *zone {
	z := g.in.zone(label+"."+sp.top, s)
	z.add(strings.ReplaceAll(contents, "TOP", sp.top))
	sp.zones = append(sp.zones, z)
	return z
}

// vary chooses keys and parameters for a zone that is in order.
func (g *generator) vary(z *zone) {
	supported := []uint8{dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519}
	z.digests = pick(g.rand, []uint8{dns.SHA256}, []uint8{dns.SHA256}, []uint8{dns.SHA384}, []uint8{dns.SHA1, dns.SHA256}, []uint8{dns.SHA1}, []uint8{dns.SHA256, 200})
	first := pick(g.rand, supported...)
	second := first
	for second == first {
		second = pick(g.rand, supported...)
	}
	z.layout(pick(g.rand, rollup()...), first, second)
	z.iterations = pick[uint16](g.rand, 0, 0, 0, 0, 1, 5, 50)
	z.salt = pick(g.rand, "", "", "aabbccdd", strings.Repeat("5a", 64))
}

// choose picks questions about the varied zone.
func (g *generator) choose(sp *specimen, n int) {
	for _, i := range g.rand.Perm(len(choices))[:n] {
		sp.asks = append(sp.asks, sp.dom.ask(choices[i]))
	}
}

// ask reads OWNER/TYPE.
func (z *zone) ask(s string) question {
	owner, rtype, _ := strings.Cut(s, "/")
	q := question{owner + "." + z.apex, dns.StringToType[rtype]}
	if owner == "@" {
		q.name = z.apex
	}
	return q
}

// sound is a specimen without damage.
func (g *generator) sound() *specimen {
	sp := g.begin("sound")
	g.choose(sp, 10)
	return sp
}

// standings are zones that are what they are worth by the way they are signed.
func standings() []string {
	return []string{
		"expired", "expired within tolerance", "not yet valid", "not yet valid within tolerance",
		"51 iterations", "150 iterations", "151 iterations", "2500 iterations",
		"RSASHA1", "RSASHA1-NSEC3-SHA1", "algorithm 16 without meaning", "algorithm 253", "algorithm 12",
		"unknown digest only", "DS of another key", "DS with another tag", "DS with another algorithm", "SHA-256 wrong beside SHA-1", "SHA-1 wrong beside SHA-256",
		"SHA-384 wrong beside SHA-256", "no DS", "only the ZSK signs the keys", "KSK signs nothing", "keys not published", "revoked key", "no zone flag", "protocol 2",
		"DS of nothing that signs", "eight links", "nine links", "loop",
	}
}

// standing is a specimen whose zone is built in one of these ways.
func (g *generator) standing(kind string) *specimen {
	sp := g.begin(kind)
	z := sp.dom
	if strings.Contains(kind, "iterations") {
		z.style = pick(g.rand, byNSEC3, byOptOut)
		_, _ = fmt.Sscanf(kind, "%d", &z.iterations)
	}
	switch kind {
	case "expired":
		z.from, z.to, z.worth = -30*24*time.Hour, -10*24*time.Hour, failed
	case "expired within tolerance":
		z.from, z.to = -20*24*time.Hour, -time.Hour
	case "not yet valid":
		z.from, z.to, z.worth = 10*24*time.Hour, 20*24*time.Hour, failed
	case "not yet valid within tolerance":
		z.from, z.to = time.Hour, 20*24*time.Hour
	case "RSASHA1":
		z.oldAlgorithm(dns.RSASHA1)
	case "RSASHA1-NSEC3-SHA1":
		z.oldAlgorithm(dns.RSASHA1NSEC3SHA1)
	case "algorithm 16 without meaning":
		z.oldAlgorithm(dns.ED448)
	case "algorithm 253":
		z.oldAlgorithm(dns.PRIVATEDNS)
	case "algorithm 12":
		z.oldAlgorithm(dns.ECCGOST)
	case "eight links":
		sp.asks = []question{z.ask("long8/A"), z.ask("long8/CNAME"), z.ask("long7/TXT")}
	case "nine links":
		sp.asks = []question{z.ask("long9/A"), z.ask("long9/TXT")}
	case "loop":
		sp.asks = []question{z.ask("loop1/A"), z.ask("loop2/MX")}
	default:
		if !strings.Contains(kind, "iterations") {
			z.breakDelegation(kind)
		}
	}
	z.order, z.parent.order = nil, nil
	if sp.asks == nil {
		g.choose(sp, 6)
	}
	return sp
}

func (z *zone) oldAlgorithm(a uint8) {
	z.worth = insecure
	z.layout("ksk and zsk", a, 0)
}

// breakDelegation spoils the DS, or the keys that they stand for.
func (z *zone) breakDelegation(kind string) {
	z.digests = []uint8{dns.SHA256}
	z.layout("ksk and zsk", dns.ECDSAP256SHA256, 0)
	z.worth = failed
	ksk, zsk := z.signers[0], z.signers[1]
	ds := z.ds[0].(*dns.DS)
	wrong := dsOf(z.in.ring.ksk(z.apex, dns.ECDSAP256SHA256, 0).rr, dns.SHA256)
	switch kind {
	case "unknown digest only":
		z.worth, ds.DigestType = insecure, 200
	case "no DS":
		z.worth, z.ds = insecure, nil
	case "DS of another key":
		ds.Digest = wrong.Digest
	case "DS with another tag":
		ds.KeyTag++
	case "DS with another algorithm":
		ds.Algorithm = dns.RSASHA256
	case "SHA-256 wrong beside SHA-1":
		ds.Digest = wrong.Digest
		z.ds = append(z.ds, dsOf(ksk.rr, dns.SHA1))
	case "SHA-1 wrong beside SHA-256":
		old := dsOf(ksk.rr, dns.SHA1)
		old.Digest = dsOf(zsk.rr, dns.SHA1).Digest
		z.ds, z.worth = append(z.ds, old), secure
	case "SHA-384 wrong beside SHA-256":
		next := dsOf(ksk.rr, dns.SHA384)
		next.Digest = dsOf(zsk.rr, dns.SHA384).Digest
		z.ds, z.worth = append(z.ds, next), secure
	case "only the ZSK signs the keys":
		ksk.keys, zsk.keys = false, true
	case "KSK signs nothing":
		ksk.keys = false
	case "keys not published":
		ksk.hidden, zsk.hidden = true, true
	case "DS of nothing that signs":
		z.signers = append(z.signers, z.in.ring.ksk(z.apex, dns.ECDSAP256SHA256, 0))
		z.signers[2].keys = false
		z.ds = []dns.RR{dsOf(z.signers[2].rr, dns.SHA256)}
	case "revoked key":
		ksk.rr.Flags |= dns.REVOKE
		z.ds = []dns.RR{dsOf(ksk.rr, dns.SHA256)}
	case "no zone flag":
		ksk.rr.Flags = 1
		z.ds = []dns.RR{dsOf(ksk.rr, dns.SHA256)}
	case "protocol 2":
		ksk.rr.Protocol = 2
		z.ds = []dns.RR{dsOf(ksk.rr, dns.SHA256)}
	default:
		panic("differential: no standing " + kind)
	}
}

// damaged is a specimen with one reply forged: to the question, or to one of those that
// its proof stands on. It returns nil where the damage does not apply.
func (g *generator) damaged(d damage) *specimen {
	sp := g.begin(d.name)
	for range 12 {
		asked := sp.dom.ask(pick(g.rand, choices...))
		at := asked
		switch {
		case d.at != "":
			at = sp.dom.ask(d.at)
			if at.rtype != dns.TypeDS && at.rtype != dns.TypeDNSKEY || g.rand.IntN(3) == 0 {
				asked = at // nothing else would lead there
			}
		case g.rand.IntN(5) == 0:
			at = sp.dom.ask(pick(g.rand, "@/DS", "@/DNSKEY", "sub/DS", "plain/DS"))
		}
		f := &forgery{generator: g, sp: sp, q: at, m: g.in.honest(at).Copy()}
		before := f.m.String()
		if d.do(f); f.m.String() == before {
			continue
		}
		g.in.forged[at] = f.m
		sp.asks, sp.damaged = []question{asked}, !d.harmless
		for _, more := range []string{"mx1/A", "@/MX", "mx1.sub/A", "mx1.plain/A"} {
			if q := sp.dom.ask(more); at != asked && q != asked && !slices.Contains(sp.asks, q) && g.rand.IntN(2) == 0 {
				sp.asks = append(sp.asks, q)
			}
		}
		return sp
	}
	return nil
}
