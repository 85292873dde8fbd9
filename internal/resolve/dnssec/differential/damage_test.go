package differential

import (
	"encoding/base64"
	"encoding/hex"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// forgery is a reply under the hands of an attacker who has seen all that the zones of
// the specimen ever said, and has no key of theirs.
type forgery struct {
	*generator
	sp *specimen
	q  question
	m  *dns.Msg
}

// damage is one way to spoil a reply. Some leave it as good as it was: those must be
// believed still.
type damage struct {
	name string
	// at is the question whose reply is spoilt, OWNER/TYPE; "": any.
	at string
	do func(f *forgery)
	// harmless: what is left must be believed all the same.
	harmless bool
}

// damages are all of them.
func damages() []damage {
	all := slices.Concat(signatureDamages(), recordDamages(), denialDamages(), delegationDamages(), replays())
	for _, d := range harmless() {
		d.harmless = true
		all = append(all, d)
	}
	return all
}

// each calls edit with a copy of each record in place of it; nil drops it.
func (f *forgery) each(section *[]dns.RR, edit func(dns.RR) dns.RR) {
	var out []dns.RR
	for _, rr := range *section {
		if rr = edit(dns.Copy(rr)); rr != nil {
			out = append(out, rr)
		}
	}
	*section = out
}

func isType(rr dns.RR, types ...uint16) bool { return slices.Contains(types, rr.Header().Rrtype) }

func drop(types ...uint16) func(dns.RR) dns.RR {
	return func(rr dns.RR) dns.RR {
		if isType(rr, types...) {
			return nil
		}
		return rr
	}
}

// sigs edits the signatures of both sections: all, or now and then one.
func (f *forgery) sigs(edit func(*dns.RRSIG)) {
	one, i := f.rand.IntN(4), 0
	change := func(rr dns.RR) dns.RR {
		if sig, ok := rr.(*dns.RRSIG); ok {
			if i++; one > 0 || i == 1 {
				edit(sig)
			}
		}
		return rr
	}
	f.each(&f.m.Answer, change)
	f.each(&f.m.Ns, change)
}

func (f *forgery) flipped(b []byte) []byte {
	b = slices.Clone(b)
	if len(b) > 0 {
		b[f.rand.IntN(len(b))] ^= 1 << f.rand.IntN(8)
	}
	return b
}

func signatureDamages() []damage {
	sig := func(name string, edit func(f *forgery, s *dns.RRSIG)) damage {
		return damage{name: name, do: func(f *forgery) { f.sigs(func(s *dns.RRSIG) { edit(f, s) }) }}
	}
	return []damage{
		{name: "signatures stripped", do: func(f *forgery) {
			f.each(&f.m.Answer, drop(dns.TypeRRSIG))
			f.each(&f.m.Ns, drop(dns.TypeRRSIG))
		}},
		{name: "signatures of the answer stripped", do: func(f *forgery) { f.each(&f.m.Answer, drop(dns.TypeRRSIG)) }},
		{name: "signatures of the denial stripped", do: func(f *forgery) { f.each(&f.m.Ns, drop(dns.TypeRRSIG)) }},
		{name: "all of DNSSEC stripped", do: func(f *forgery) {
			f.each(&f.m.Answer, drop(dns.TypeRRSIG))
			f.each(&f.m.Ns, drop(dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3))
		}},
		sig("bit of a signature flipped", func(f *forgery, s *dns.RRSIG) {
			raw, _ := base64.StdEncoding.DecodeString(s.Signature)
			s.Signature = base64.StdEncoding.EncodeToString(f.flipped(raw))
		}),
		sig("signature cut short", func(_ *forgery, s *dns.RRSIG) { s.Signature = s.Signature[:len(s.Signature)-4] }),
		sig("signature empty", func(_ *forgery, s *dns.RRSIG) { s.Signature = "" }),
		sig("another signer", func(f *forgery, s *dns.RRSIG) {
			s.SignerName = pick(f.rand, ".", f.sp.top, "other."+f.sp.top, "sub."+f.sp.dom.apex, "plain."+f.sp.dom.apex, s.Hdr.Name, "m."+f.sp.top)
		}),
		sig("another key tag", func(_ *forgery, s *dns.RRSIG) { s.KeyTag ^= 0x55 }),
		sig("another algorithm", func(f *forgery, s *dns.RRSIG) {
			s.Algorithm = pick[uint8](f.rand, 1, 5, 8, 13, 15, 16, 253, 0)
		}),
		sig("fewer labels", func(_ *forgery, s *dns.RRSIG) { s.Labels-- }),
		sig("no labels", func(_ *forgery, s *dns.RRSIG) { s.Labels = 0 }),
		sig("more labels", func(_ *forgery, s *dns.RRSIG) { s.Labels++ }),
		sig("original TTL edited", func(f *forgery, s *dns.RRSIG) { s.OrigTtl += uint32(1 + f.rand.IntN(9999)) }),
		sig("expiration edited", func(f *forgery, s *dns.RRSIG) { s.Expiration += uint32(1 + f.rand.IntN(1e6)) }),
		sig("inception edited", func(f *forgery, s *dns.RRSIG) { s.Inception -= uint32(1 + f.rand.IntN(1e6)) }),
		sig("of another type", func(f *forgery, s *dns.RRSIG) { s.TypeCovered = pick(f.rand, dns.TypeA, dns.TypeTXT, dns.TypeNSEC) }),
		{name: "expired", do: func(f *forgery) { f.resign(-20*24*time.Hour, -10*24*time.Hour) }},
		{name: "not yet valid", do: func(f *forgery) { f.resign(10*24*time.Hour, 20*24*time.Hour) }},
		{name: "ends before it begins", do: func(f *forgery) { f.resign(24*time.Hour, -24*time.Hour) }},
	}
}

// resign replaces every signature by the same for another time, as its zone would have
// made it then.
func (f *forgery) resign(from, to time.Duration) {
	for _, section := range []*[]dns.RR{&f.m.Answer, &f.m.Ns} {
		f.each(section, func(rr dns.RR) dns.RR {
			sig, ok := rr.(*dns.RRSIG)
			if !ok {
				return rr
			}
			z := f.in.zones[sig.SignerName]
			for _, s := range z.signers {
				if s.rr.KeyTag() != sig.KeyTag || s.rr.Algorithm != sig.Algorithm || s.key == nil {
					continue
				}
				set := covered(*section, sig)
				if sig.Labels < signedLabels(sig.Hdr.Name) { // as the wildcard was signed
					set = renamed(set, wildcardAt(lastLabels(sig.Hdr.Name, int(sig.Labels))))
				}
				return renamed([]dns.RR{z.sign(s, set, from, to)}, sig.Hdr.Name)[0]
			}
			return rr
		})
	}
}

func lastLabels(n string, count int) string {
	for dns.CountLabel(n) > count {
		n = above(n)
	}
	return n
}

// covered is the RRset of a signature.
func covered(section []dns.RR, sig *dns.RRSIG) []dns.RR {
	var set []dns.RR
	for _, rr := range section {
		if isType(rr, sig.TypeCovered) && strings.EqualFold(rr.Header().Name, sig.Hdr.Name) {
			set = append(set, rr)
		}
	}
	return set
}

func recordDamages() []damage {
	return []damage{
		{name: "records edited", do: func(f *forgery) { f.each(&f.m.Answer, f.edited) }},
		{name: "record added", do: func(f *forgery) {
			if len(f.m.Answer) > 0 && !isType(f.m.Answer[0], dns.TypeCNAME, dns.TypeDNAME) {
				f.m.Answer = append([]dns.RR{f.edited(dns.Copy(f.m.Answer[0]))}, f.m.Answer...)
			}
		}},
		{name: "record removed", do: func(f *forgery) {
			if len(f.m.Answer) > 2 {
				f.m.Answer = f.m.Answer[1:]
			}
		}},
		{name: "forged without signature", do: func(f *forgery) {
			f.m.Rcode, f.m.Ns = dns.RcodeSuccess, nil
			f.m.Answer = []dns.RR{f.parse(f.q.name + " 3600 IN A 198.51.100.66")}
		}},
		{name: "alias without signature", do: func(f *forgery) {
			target := pick(f.rand, "mx1.bare."+f.sp.top, "mx1."+f.sp.dom.apex, "mx1.other."+f.sp.top)
			f.m = f.in.honest(question{target, f.q.rtype}).Copy()
			f.m.Question[0] = dns.Question{Name: f.q.name, Qtype: f.q.rtype, Qclass: dns.ClassINET}
			f.m.Answer = append([]dns.RR{f.parse(f.q.name + " 3600 IN CNAME " + target)}, f.m.Answer...)
		}},
		{name: "alias with an empty signature", do: func(f *forgery) {
			target := "mx1.other." + f.sp.top
			f.m = f.in.honest(question{target, f.q.rtype}).Copy()
			f.m.Question[0] = dns.Question{Name: f.q.name, Qtype: f.q.rtype, Qclass: dns.ClassINET}
			alias := f.parse(f.q.name + " 3600 IN CNAME " + target)
			sig := *f.sp.dom.sign(f.sp.dom.signers[0], []dns.RR{alias}, f.sp.dom.from, f.sp.dom.to)
			sig.Signature = ""
			f.m.Answer = append([]dns.RR{alias, &sig}, f.m.Answer...)
		}},
		{name: "alias with another target", do: func(f *forgery) {
			f.each(&f.m.Answer, func(rr dns.RR) dns.RR {
				switch rr := rr.(type) {
				case *dns.CNAME:
					rr.Target = "mx1.bare." + f.sp.top
				case *dns.DNAME:
					rr.Target = "bare." + f.sp.top
				}
				return rr
			})
		}},
		{name: "synthesised alias edited", at: "host.old/A", do: func(f *forgery) {
			f.each(&f.m.Answer, func(rr dns.RR) dns.RR {
				if c, ok := rr.(*dns.CNAME); ok {
					c.Target = pick(f.rand, "mx1.bare."+f.sp.top, "mx1."+f.sp.dom.apex)
				}
				return rr
			})
		}},
		{name: "DNAME withheld", at: "host.old/A", do: func(f *forgery) { f.each(&f.m.Answer, drop(dns.TypeDNAME)) }},
		{name: "answer moved to the authority section", do: func(f *forgery) {
			f.m.Ns, f.m.Answer = slices.Concat(f.m.Answer, f.m.Ns), nil
		}},
		{name: "answer emptied", do: func(f *forgery) { f.m.Answer = nil }},
		{name: "all emptied", do: func(f *forgery) { f.m.Answer, f.m.Ns = nil, nil }},
		{name: "many forged signatures before the good one", do: func(f *forgery) {
			var forged []dns.RR
			for _, rr := range f.m.Answer {
				if sig, ok := rr.(*dns.RRSIG); ok && len(forged) == 0 {
					for i := range pick(f.rand, 1, 2, 7, 12, 40) {
						c := *sig
						c.OrigTtl += uint32(i) + 1
						forged = append(forged, &c)
					}
				}
			}
			f.m.Answer = append(forged, f.m.Answer...)
		}},
	}
}

func (f *forgery) parse(s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		f.in.t.Fatal(err)
	}
	return rr
}

// edited changes what a record says.
func (f *forgery) edited(rr dns.RR) dns.RR {
	switch rr := rr.(type) {
	case *dns.A:
		rr.A = net.IPv4(198, 51, 100, byte(f.rand.IntN(256)))
	case *dns.AAAA:
		rr.AAAA = slices.Clone(rr.AAAA)
		rr.AAAA[15] ^= 66
	case *dns.MX:
		rr.Mx = "mx1.bare." + f.sp.top
	case *dns.TXT:
		rr.Txt = []string{"v=spf1 +all"}
	case *dns.TLSA:
		raw, _ := hex.DecodeString(rr.Certificate)
		rr.Certificate = hex.EncodeToString(f.flipped(raw))
	case *dns.DS:
		raw, _ := hex.DecodeString(rr.Digest)
		rr.Digest = hex.EncodeToString(f.flipped(raw))
	case *dns.DNSKEY:
		raw, _ := base64.StdEncoding.DecodeString(rr.PublicKey)
		rr.PublicKey = base64.StdEncoding.EncodeToString(f.flipped(raw))
	case *dns.CNAME:
		rr.Target = "x" + rr.Target
	case *dns.NS:
		rr.Ns = "ns.bare." + f.sp.top
	}
	return rr
}

func denialDamages() []damage {
	nsec3 := func(name string, edit func(f *forgery, n *dns.NSEC3)) damage {
		return damage{name: name, do: func(f *forgery) {
			f.each(&f.m.Ns, func(rr dns.RR) dns.RR {
				if n, ok := rr.(*dns.NSEC3); ok {
					edit(f, n)
				}
				return rr
			})
		}}
	}
	return []damage{
		nsec3("NSEC3 iterations edited", func(f *forgery, n *dns.NSEC3) { n.Iterations = pick[uint16](f.rand, 51, 151, 2501, 65535) }),
		nsec3("NSEC3 salt edited", func(_ *forgery, n *dns.NSEC3) { n.Salt, n.SaltLength = "00", 1 }),
		nsec3("NSEC3 opt-out set", func(_ *forgery, n *dns.NSEC3) { n.Flags ^= 1 }),
		nsec3("NSEC3 hash algorithm edited", func(_ *forgery, n *dns.NSEC3) { n.Hash = 6 }),
		nsec3("NSEC3 next edited", func(_ *forgery, n *dns.NSEC3) { n.NextDomain = strings.Repeat("V", 32) }),
		{name: "bitmap edited", do: func(f *forgery) {
			f.each(&f.m.Ns, func(rr dns.RR) dns.RR {
				switch n := rr.(type) {
				case *dns.NSEC:
					n.TypeBitMap = pick(f.rand, []uint16{dns.TypeNSEC}, []uint16{dns.TypeNS, dns.TypeNSEC}, []uint16{dns.TypeNSEC, typeNXNAME})
				case *dns.NSEC3:
					n.TypeBitMap = pick(f.rand, nil, []uint16{dns.TypeNS})
				}
				return rr
			})
		}},
		{name: "NSEC next edited", do: func(f *forgery) {
			f.each(&f.m.Ns, func(rr dns.RR) dns.RR {
				if n, ok := rr.(*dns.NSEC); ok {
					n.NextDomain = f.sp.dom.apex
				}
				return rr
			})
		}},
		{name: "part of the denial withheld", do: func(f *forgery) { f.withhold() }},
		{name: "denial withheld", do: func(f *forgery) { f.each(&f.m.Ns, drop(dns.TypeNSEC, dns.TypeNSEC3)) }},
		{name: "authority section withheld", do: func(f *forgery) { f.m.Ns = nil }},
		{name: "another rcode", do: func(f *forgery) { f.m.Rcode ^= dns.RcodeNameError }},
		{name: "SOA withheld", do: func(f *forgery) { f.each(&f.m.Ns, drop(dns.TypeSOA)) }},
		{name: "referral in place of the answer", do: func(f *forgery) {
			f.m.Rcode, f.m.Answer = dns.RcodeSuccess, nil
			f.m.Ns = []dns.RR{f.parse(f.sp.dom.apex + " 3600 IN NS ns.bare." + f.sp.top)}
		}},
	}
}

// withhold drops one NSEC or NSEC3 with its signatures.
func (f *forgery) withhold() {
	var owners []string
	for _, rr := range f.m.Ns {
		if isType(rr, dns.TypeNSEC, dns.TypeNSEC3) {
			owners = append(owners, rr.Header().Name)
		}
	}
	if len(owners) == 0 {
		return
	}
	gone := pick(f.rand, owners...)
	f.each(&f.m.Ns, func(rr dns.RR) dns.RR {
		if rr.Header().Name == gone && isType(rr, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeRRSIG) {
			return nil
		}
		return rr
	})
}

func delegationDamages() []damage {
	var list []damage
	for _, at := range []string{"@/DS", "sub/DS"} {
		list = append(
			list,
			damage{name: "DS stripped at " + at, at: at, do: func(f *forgery) { f.m.Answer = nil }},
			damage{name: "DS denied by another's denial at " + at, at: at, do: func(f *forgery) {
				f.deniedBy(pick(f.rand, "bare."+f.sp.top, "x.bare."+f.sp.top, "plain."+f.sp.dom.apex, "nowhere."+f.sp.top, "nowhere."+f.sp.dom.apex, "mx1."+f.sp.dom.apex, "_tcp.mx1."+f.sp.dom.apex, "ent."+f.sp.dom.apex, f.sp.dom.apex))
			}},
			damage{name: "DS denied by the child at " + at, at: at, do: func(f *forgery) {
				z := f.in.zones[f.q.name]
				f.m.Answer, f.m.Ns = nil, nil
				z.denyType(f.m, z.apex, z.apex)
			}},
			damage{name: "DS of the attacker at " + at, at: at, do: func(f *forgery) {
				f.m.Answer = []dns.RR{dsOf(f.in.ring.ksk(f.q.name, dns.ECDSAP256SHA256, 0).rr, dns.SHA256)}
			}},
			damage{name: "NXDOMAIN for DS at " + at, at: at, do: func(f *forgery) { f.m.Rcode, f.m.Answer = dns.RcodeNameError, nil }},
			damage{name: "alias in place of DS at " + at, at: at, do: func(f *forgery) {
				f.m.Answer = f.in.honest(question{"alias." + f.sp.dom.apex, dns.TypeCNAME}).Answer
			}},
		)
	}
	return append(
		list,
		damage{name: "keys stripped", at: "@/DNSKEY", do: func(f *forgery) { f.m.Answer = nil }},
		damage{name: "keys removed, signature kept", at: "@/DNSKEY", do: func(f *forgery) { f.each(&f.m.Answer, drop(dns.TypeDNSKEY)) }},
		damage{name: "one key removed", at: "@/DNSKEY", do: func(f *forgery) { f.m.Answer = f.m.Answer[1:] }},
		damage{name: "key of the attacker added", at: "@/DNSKEY", do: func(f *forgery) {
			f.m.Answer = append(f.m.Answer, f.in.ring.ksk(f.q.name, dns.ECDSAP256SHA256, 0).rr)
		}},
		damage{name: "keys of the attacker", at: "@/DNSKEY", do: func(f *forgery) {
			evil := f.in.ring.ksk(f.q.name, dns.ECDSAP256SHA256, 0)
			f.m.Answer = []dns.RR{evil.rr, f.sp.dom.sign(evil, []dns.RR{evil.rr}, -time.Hour, time.Hour)}
		}},
		damage{name: "insecure delegation without its denial", at: "plain/DS", do: func(f *forgery) { f.m.Ns = nil }},
		damage{name: "insecure delegation, denial of another", at: "plain/DS", do: func(f *forgery) {
			f.deniedBy(pick(f.rand, "mx1."+f.sp.dom.apex, "ent."+f.sp.dom.apex, "nowhere."+f.sp.dom.apex, "deeper.cut."+f.sp.dom.apex))
		}},
	)
}

// deniedBy puts the honest denial of a name in the place of the reply.
func (f *forgery) deniedBy(n string) {
	m := f.in.honest(question{n, dns.TypeDS}).Copy()
	if n == f.sp.dom.apex {
		m = f.in.honest(question{n, dns.TypeHINFO}).Copy()
	}
	f.m.Answer, f.m.Ns = nil, m.Ns
	f.m.Rcode = pick(f.rand, dns.RcodeSuccess, m.Rcode)
}

func replays() []damage {
	return []damage{
		{name: "reply to another question", do: func(f *forgery) {
			m := f.in.honest(f.sp.dom.ask(pick(f.rand, choices...))).Copy()
			f.m.Answer, f.m.Ns, f.m.Rcode = m.Answer, m.Ns, m.Rcode
		}},
		{name: "denial of another question", do: func(f *forgery) {
			m := f.in.honest(f.sp.dom.ask(pick(f.rand, choices...))).Copy()
			f.m.Answer, f.m.Ns, f.m.Rcode = nil, m.Ns, pick(f.rand, m.Rcode, dns.RcodeSuccess, dns.RcodeNameError)
		}},
		{name: "records under another name", do: func(f *forgery) {
			m := f.in.honest(question{pick(f.rand, "mx1.", "mx2.", "", "very.deep.ent.", "mx1.sub.") + f.sp.dom.apex, f.q.rtype})
			f.m.Answer, f.m.Ns, f.m.Rcode = renamed(m.Answer, f.q.name), m.Ns, m.Rcode
		}},
		{name: "wildcard for a name that exists", do: func(f *forgery) {
			// The wildcard's records, with what denies another name beside it.
			z, w := f.sp.dom, "*.wild."+f.sp.dom.apex
			n := pick(f.rand, "under.tree.wild.", "x.tree.wild.", "tree.wild.", "mx1.") + z.apex
			rrs := z.get(w, dns.TypeA)
			f.m = new(dns.Msg)
			f.m.SetQuestion(f.q.name, f.q.rtype)
			f.m.Response, f.m.RecursionAvailable = true, true
			f.m.Answer = renamed(z.sealed(rrs), n)
			z.denyExact(f.m, pick(f.rand, "a.wild.", "zzz.wild.")+z.apex)
			if f.q.name != n {
				f.m.Answer = append([]dns.RR{f.parse(f.q.name + " 3600 IN CNAME " + n)}, f.m.Answer...)
			}
		}},
		{name: "wildcard without its denial", do: func(f *forgery) {
			if len(f.m.Answer) > 0 && strings.Contains(f.q.name, "wild.") {
				f.m.Ns = nil
			}
		}},
		{name: "wildcard for a name below one that exists", at: "x.tree.wild/A", do: func(f *forgery) {
			z := f.sp.dom
			f.m.Rcode, f.m.Ns = dns.RcodeSuccess, nil
			f.m.Answer = renamed(z.sealed(z.get("*.wild."+z.apex, dns.TypeA)), f.q.name)
			if z.style == byNSEC || z.style == byNSEC3 || z.style == byOptOut {
				z.denyExact(f.m, f.q.name)
			}
		}},
		{name: "wildcard withheld", at: "zzz.wild/A", do: func(f *forgery) {
			// All that denies the name, and of the wildcard nothing, or that it exists.
			z := f.sp.dom
			f.m.Answer, f.m.Ns, f.m.Rcode = nil, nil, dns.RcodeNameError
			z.addSOA(f.m)
			switch z.style {
			case byNSEC:
				z.deny(f.m, z.nsecAt(f.q.name))
				if f.rand.IntN(2) == 0 {
					z.deny(f.m, z.nsecAt("*.wild."+z.apex))
				}
			case byNSEC3, byOptOut:
				z.closest(f.m, f.q.name)
				if f.rand.IntN(2) == 0 {
					z.deny(f.m, z.nsec3At("*.wild."+z.apex))
				}
			}
		}},
		{name: "denial of a wildcard under the name", at: "under.tree.wild/MX", do: func(f *forgery) {
			// An NSEC at a wildcard, renamed to the name: its label count shows it.
			if z := f.sp.dom; z.style == byNSEC {
				f.m.Answer, f.m.Ns, f.m.Rcode = nil, nil, dns.RcodeSuccess
				z.addSOA(f.m)
				f.m.Ns = append(f.m.Ns, renamed(z.sealed([]dns.RR{z.nsecAt("*.wild." + z.apex)}), f.q.name)...)
			}
		}},
		{name: "denial by an ancestor", do: func(f *forgery) {
			f.m.Answer, f.m.Ns, f.m.Rcode = nil, nil, pick(f.rand, dns.RcodeSuccess, dns.RcodeNameError)
			top := f.in.zones[f.sp.top]
			top.addSOA(f.m)
			if top.style == byNSEC {
				top.deny(f.m, top.nsecAt(f.sp.dom.apex))
				top.deny(f.m, top.nsecAt(f.q.name))
				top.deny(f.m, top.nsecAt(wildcardAt(top.apex)))
				return
			}
			for _, n := range []string{top.apex, f.sp.dom.apex, f.q.name, wildcardAt(top.apex), wildcardAt(f.sp.dom.apex)} {
				top.deny(f.m, top.nsec3At(n))
			}
		}},
		{name: "medley of all that was ever signed", do: func(f *forgery) { f.medley() }},
		{name: "medley with the records", do: func(f *forgery) {
			answer, rcode := f.m.Answer, f.m.Rcode
			f.medley()
			f.m.Answer, f.m.Rcode = answer, rcode
		}},
	}
}

// medley makes a reply of honest RRsets at random, each with its signatures.
func (f *forgery) medley() {
	f.m.Answer, f.m.Ns, f.m.Rcode = nil, nil, pick(f.rand, dns.RcodeSuccess, dns.RcodeSuccess, dns.RcodeNameError)
	for range 2 + f.rand.IntN(4) {
		m := f.in.honest(f.sp.dom.ask(pick(f.rand, choices...))).Copy()
		if f.rand.IntN(3) == 0 {
			m = f.in.honest(question{pick(f.rand, "mx1.other.", "nowhere.other.", "other.", "nowhere.", "bare.", "mx1.bare.") + f.sp.top, f.q.rtype}).Copy()
		}
		f.m.Ns = append(f.m.Ns, m.Ns...)
		if f.rand.IntN(3) == 0 {
			f.m.Answer = append(f.m.Answer, m.Answer...)
		}
	}
	f.m.Answer, f.m.Ns = dns.Dedup(f.m.Answer, nil), dns.Dedup(f.m.Ns, nil)
}

func harmless() []damage {
	return []damage{
		{name: "letters in upper case", do: func(f *forgery) {
			for _, section := range []*[]dns.RR{&f.m.Answer, &f.m.Ns} {
				f.each(section, func(rr dns.RR) dns.RR {
					rr.Header().Name = strings.ToUpper(rr.Header().Name)
					return rr
				})
			}
		}},
		{name: "records twice", do: func(f *forgery) { f.m.Answer = slices.Concat(f.m.Answer, f.m.Answer) }},
		{name: "records in another order", do: func(f *forgery) {
			f.rand.Shuffle(len(f.m.Answer), func(i, j int) { f.m.Answer[i], f.m.Answer[j] = f.m.Answer[j], f.m.Answer[i] })
			f.rand.Shuffle(len(f.m.Ns), func(i, j int) { f.m.Ns[i], f.m.Ns[j] = f.m.Ns[j], f.m.Ns[i] })
		}},
		{name: "TTL raised", do: func(f *forgery) { f.ttls(1 << 30) }},
		{name: "TTL zero", do: func(f *forgery) { f.ttls(0) }},
		{name: "junk in the authority section", do: func(f *forgery) {
			f.m.Ns = append(f.m.Ns, f.parse("mx1."+f.sp.dom.apex+" 3600 IN A 198.51.100.66"), f.parse(f.sp.dom.apex+" 3600 IN NS ns.bare."+f.sp.top))
		}},
		{name: "junk in the additional section", do: func(f *forgery) {
			f.m.Extra = append(f.m.Extra, f.parse("mx1."+f.sp.dom.apex+" 3600 IN A 198.51.100.66"))
		}},
		{name: "junk in the answer section", do: func(f *forgery) {
			f.m.Answer = append(f.m.Answer, f.parse("unasked."+f.sp.dom.apex+" 3600 IN A 198.51.100.66"))
		}},
		{name: "one forged signature more", do: func(f *forgery) {
			for _, rr := range f.m.Answer {
				if sig, ok := rr.(*dns.RRSIG); ok {
					c := *sig
					c.OrigTtl++
					f.m.Answer = append(f.m.Answer, &c)
					return
				}
			}
		}},
	}
}

func (f *forgery) ttls(ttl uint32) {
	for _, section := range []*[]dns.RR{&f.m.Answer, &f.m.Ns} {
		f.each(section, func(rr dns.RR) dns.RR {
			rr.Header().Ttl = ttl
			return rr
		})
	}
}
