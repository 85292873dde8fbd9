package differential

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// order is the names of a zone, for its denials. It is made when it is first needed.
type order struct {
	names  []string        // owners, cuts among them, in canonical order
	exists map[string]bool // those and what is between them and the apex
	hashes []string        // of the NSEC3 chain, in order
	types  map[string][]uint16
}

// typeNXNAME in a bitmap says that the name does not exist (RFC 9824 §2).
const typeNXNAME = 128

// inOrder compares names as RFC 4034 §6.1 does; those here have plain labels only.
func inOrder(a, b string) int {
	as, bs := dns.SplitDomainName(a), dns.SplitDomainName(b)
	slices.Reverse(as)
	slices.Reverse(bs)
	return slices.Compare(as, bs)
}

func (z *zone) ordered() *order {
	if z.order != nil {
		return z.order
	}
	o := &order{exists: make(map[string]bool), types: make(map[string][]uint16)}
	for n := range z.records {
		o.names = append(o.names, n)
	}
	for n := range z.children {
		o.names = append(o.names, n)
	}
	slices.SortFunc(o.names, inOrder)
	o.names = slices.Compact(o.names)
	for _, n := range o.names {
		for at := n; !o.exists[at]; at = above(at) {
			o.exists[at] = true
			if at == z.apex {
				break
			}
		}
	}
	if z.style == byNSEC3 || z.style == byOptOut {
		z.hashAll(o)
	}
	z.order = o
	return o
}

// hashAll makes the NSEC3 chain: without unsigned delegations where they are opted out,
// and what exists only because of them.
func (z *zone) hashAll(o *order) {
	for _, n := range o.names {
		if child := z.children[n]; z.style == byOptOut && child != nil && child.ds == nil {
			continue
		}
		o.types[z.hash(n)] = z.typesAt(n)
		for at := n; at != z.apex; {
			at = above(at)
			if _, ok := o.types[z.hash(at)]; !ok {
				o.types[z.hash(at)] = z.typesAt(at)
			}
		}
	}
	for h := range o.types {
		o.hashes = append(o.hashes, h)
	}
	slices.Sort(o.hashes)
}

func (z *zone) hash(n string) string {
	return strings.ToLower(dns.HashName(n, dns.SHA1, z.iterations, z.salt))
}

// typesAt is the bitmap of a name, empty for an empty non-terminal.
func (z *zone) typesAt(n string) []uint16 {
	var list []uint16
	for t := range z.records[n] {
		list = append(list, t)
	}
	child := z.children[n]
	switch {
	case n == z.apex:
		list = append(list, dns.TypeDNSKEY)
		if z.style == byNSEC3 || z.style == byOptOut {
			list = append(list, dns.TypeNSEC3PARAM)
		}
	case child != nil:
		list = []uint16{dns.TypeNS}
		if child.ds != nil {
			list = append(list, dns.TypeDS)
		}
	}
	hashed := z.style == byNSEC3 || z.style == byOptOut
	if len(list) > 0 && (child == nil || child.ds != nil || !hashed) {
		list = append(list, dns.TypeRRSIG)
	}
	if !hashed {
		list = append(list, dns.TypeNSEC)
	}
	slices.Sort(list)
	return list
}

// encloser is the closest name that exists at or above a name.
func (z *zone) encloser(n string) string {
	for !z.ordered().exists[n] {
		n = above(n)
	}
	return n
}

func wildcardAt(n string) string { return "*." + strings.TrimPrefix(n, ".") }

// denyName proves that a name does not exist, and neither does a wildcard for it.
func (z *zone) denyName(m *dns.Msg, n string) {
	m.Rcode = dns.RcodeNameError
	z.addSOA(m)
	switch z.style {
	case byCompact:
		m.Rcode = dns.RcodeSuccess
		z.deny(m, compact(n, []uint16{dns.TypeRRSIG, dns.TypeNSEC, typeNXNAME}))
	case byNSEC:
		z.deny(m, z.nsecAt(n))
		z.deny(m, z.nsecAt(wildcardAt(z.encloser(n))))
	case byNSEC3, byOptOut:
		z.closest(m, n)
		z.deny(m, z.nsec3At(wildcardAt(z.encloser(n))))
	}
}

// denyType proves that a name, or the wildcard that stands for it, lacks a type.
func (z *zone) denyType(m *dns.Msg, n, source string) {
	z.addSOA(m)
	switch z.style {
	case byCompact:
		types := z.typesAt(source)
		if len(z.records[source]) == 0 && z.children[source] == nil {
			types = []uint16{dns.TypeRRSIG, dns.TypeNSEC}
		}
		z.deny(m, compact(n, types))
	case byNSEC:
		z.deny(m, z.nsecAt(n))
		if source != n {
			z.deny(m, z.nsecAt(source))
		}
	case byNSEC3, byOptOut:
		if _, ok := z.ordered().types[z.hash(n)]; ok {
			z.deny(m, z.nsec3At(n))
			return
		}
		z.closest(m, n)
		if source != n {
			z.deny(m, z.nsec3At(source))
		}
	}
}

// denyExact proves that the name beside a wildcard does not exist.
func (z *zone) denyExact(m *dns.Msg, n string) {
	switch z.style {
	case byNSEC:
		z.deny(m, z.nsecAt(n))
	case byNSEC3, byOptOut:
		z.deny(m, z.nsec3At(nextCloser(n, z.encloser(n))))
	}
}

// nextCloser is the encloser with one label more of the name (RFC 5155 §8.3).
func nextCloser(n, encloser string) string {
	for above(n) != encloser {
		n = above(n)
	}
	return n
}

// closest adds the closest encloser proof (RFC 5155 §8.3) of what the chain holds.
func (z *zone) closest(m *dns.Msg, n string) {
	for at := n; at != z.apex; at = above(at) {
		if _, ok := z.ordered().types[z.hash(above(at))]; ok {
			z.deny(m, z.nsec3At(above(at)))
			z.deny(m, z.nsec3At(at))
			return
		}
	}
}

func (z *zone) addSOA(m *dns.Msg) {
	m.Ns = append(m.Ns, z.sealed(z.records[z.apex][dns.TypeSOA])...)
}

// deny adds a record with its signatures, once.
func (z *zone) deny(m *dns.Msg, rr dns.RR) {
	if !slices.ContainsFunc(m.Ns, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
		m.Ns = append(m.Ns, z.sealed([]dns.RR{rr})...)
	}
}

// nsecAt is the record that matches a name or covers it.
func (z *zone) nsecAt(n string) dns.RR {
	names := z.ordered().names
	i, here := slices.BinarySearchFunc(names, n, inOrder)
	if !here {
		i = (i + len(names) - 1) % len(names)
	}
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: names[i], Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 900},
		NextDomain: names[(i+1)%len(names)], TypeBitMap: z.typesAt(names[i]),
	}
}

// compact is an NSEC made for one name (RFC 9824 §2).
func compact(n string, types []uint16) dns.RR {
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: n, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 900},
		NextDomain: `\000.` + strings.TrimPrefix(n, "."), TypeBitMap: types,
	}
}

// nsec3At is the record that matches a name or covers it.
func (z *zone) nsec3At(n string) dns.RR {
	o := z.ordered()
	i, here := slices.BinarySearch(o.hashes, z.hash(n))
	if !here {
		i = (i + len(o.hashes) - 1) % len(o.hashes)
	}
	rr := &dns.NSEC3{
		Hdr:  dns.RR_Header{Name: o.hashes[i] + "." + strings.TrimPrefix(z.apex, "."), Rrtype: dns.TypeNSEC3, Class: dns.ClassINET, Ttl: 900},
		Hash: dns.SHA1, Iterations: z.iterations, SaltLength: uint8(len(z.salt) / 2), Salt: z.salt,
		HashLength: 20, NextDomain: strings.ToUpper(o.hashes[(i+1)%len(o.hashes)]), TypeBitMap: o.types[o.hashes[i]],
	}
	if z.style == byOptOut {
		rr.Flags = 1
	}
	return rr
}
