package world

import (
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// typeNXNAME is what compact denial lists at a name that does not exist
// (RFC 9824 §2).
const typeNXNAME uint16 = 128

// node is a name of a zone that has records, or where another zone begins.
type node struct {
	name  string
	types []uint16 // without those of denial and signatures
	// cut: another zone begins here; open: an unsigned one.
	cut, open bool
}

// chain is what a zone's denials are made of. It is worked out anew when any zone
// changes.
type chain struct {
	nodes []node
	// hashes are sorted, and what each stands for is in hashed.
	hashes []string
	hashed map[string]node
}

// exists is true of empty non-terminals, too.
func (c *chain) exists(name string) bool {
	return slices.ContainsFunc(c.nodes, func(n node) bool { return dns.IsSubDomain(name, n.name) })
}

// wildcard returns the wildcard that would answer for a name that does not exist.
func (c *chain) wildcard(name string) string {
	for name != "." && !c.exists(name) {
		name = up(name)
	}
	return below("*", name)
}

// hashedEncloser returns the closest name that has a hash in the chain, and, unless
// that is the name itself, the one a label longer. An unsigned delegation in an
// opt-out zone has none (RFC 5155 §8.6), nor has a name outside of the zone.
func (z *zone) hashedEncloser(c *chain, name string) (closest, next string) {
	for closest = name; closest != "." && c.hashed[z.hashName(closest)].name == ""; closest = up(closest) {
		next = closest
	}
	return closest, next
}

// up returns the name above.
func up(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

func below(label, name string) string {
	if name == "." {
		return label + "."
	}
	return label + "." + name
}

// inOrder is the canonical order of names (RFC 4034 §6.1), of lower case.
func inOrder(a, b string) int {
	la, lb := dns.SplitDomainName(a), dns.SplitDomainName(b)
	slices.Reverse(la)
	slices.Reverse(lb)
	return slices.Compare(la, lb)
}

// chainOf lists the names of a zone.
func (d *DNS) chainOf(z *zone) *chain {
	if z.chain != nil {
		return z.chain
	}
	types := map[string][]uint16{z.apex: {dns.TypeSOA}}
	if z.signed {
		types[z.apex] = append(types[z.apex], dns.TypeDNSKEY)
	}
	for key := range z.records {
		// What is below a cut belongs to the zone there.
		if d.find(key.name) == z {
			types[key.name] = append(types[key.name], key.rrtype)
		}
	}
	c := &chain{hashed: make(map[string]node)}
	for name, list := range types {
		slices.Sort(list)
		c.nodes = append(c.nodes, node{name: name, types: slices.Compact(list)})
	}
	for apex, child := range d.zones {
		if apex == z.apex || d.home(apex, dns.TypeDS) != z {
			continue
		}
		n := node{name: apex, types: []uint16{dns.TypeNS}, cut: true, open: !child.signed}
		if !n.open {
			n.types = append(n.types, dns.TypeDS)
		}
		c.nodes = append(c.nodes, n)
	}
	slices.SortFunc(c.nodes, func(a, b node) int { return inOrder(a.name, b.name) })
	if z.signing.style == byNSEC3 || z.signing.style == byOptOut {
		z.hash(c)
	}
	z.chain = c
	return c
}

// hash adds the hashed names, those of empty non-terminals among them
// (RFC 5155 §7.1).
func (z *zone) hash(c *chain) {
	for _, n := range c.nodes {
		if n.open && z.signing.style == byOptOut {
			continue
		}
		c.hashed[z.hashName(n.name)] = n
		for name := n.name; name != z.apex; {
			name = up(name)
			if h := z.hashName(name); c.hashed[h].name == "" {
				c.hashed[h] = node{name: name}
			}
		}
	}
	c.hashes = slices.Sorted(maps.Keys(c.hashed))
}

func (z *zone) hashName(name string) string {
	return dns.HashName(name, dns.SHA1, z.signing.iterations, z.signing.salt)
}

// proof is denial records, each an RRset of its own.
type proof struct {
	records []dns.RR
	// open: they rest on an opt-out span, in which unsigned zones may be.
	open bool
}

func (p *proof) add(rr dns.RR) {
	if !slices.ContainsFunc(p.records, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
		p.records = append(p.records, rr)
	}
}

// denial is the proof that a name lacks a type, or does not exist. source is where
// the types are to be found: the name itself, or a wildcard, which may not exist.
func (d *DNS) denial(z *zone, name, source string) proof {
	c := d.chainOf(z)
	var p proof
	switch z.signing.style {
	case byNSEC:
		p.add(z.nsec(c, name))
		p.add(z.nsec(c, source))
	case byCompact:
		p.add(z.compact(c, name, source))
	case byNSEC3, byOptOut:
		closest, next := z.hashedEncloser(c, name)
		if next == "" {
			p.add(z.nsec3(c, name))
			p.open = z.signing.style != byOptOut && z.signing.hides()
			break
		}
		p.add(z.nsec3(c, closest))
		p.add(z.nsec3(c, next))
		if name != source {
			p.add(z.nsec3(c, source))
		}
		p.open = z.signing.hides()
	}
	return p
}

// expansion is the proof that a name which a wildcard answers for does not exist.
func (d *DNS) expansion(z *zone, name string) proof {
	c := d.chainOf(z)
	var p proof
	switch z.signing.style {
	case byNSEC:
		p.add(z.nsec(c, name))
	case byNSEC3, byOptOut:
		_, next := z.hashedEncloser(c, name)
		p.add(z.nsec3(c, next))
		p.open = z.signing.hides()
	case byCompact:
		// Who signs on demand expands first.
	}
	return p
}

// nsec returns the record at a name, or the one that covers it.
func (z *zone) nsec(c *chain, name string) dns.RR {
	i, exact := slices.BinarySearchFunc(c.nodes, name, func(n node, name string) int { return inOrder(n.name, name) })
	if !exact {
		i--
	}
	i = (i + len(c.nodes)) % len(c.nodes)
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: c.nodes[i].name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: z.ttl},
		NextDomain: c.nodes[(i+1)%len(c.nodes)].name,
		TypeBitMap: bitmap(c.nodes[i].types, dns.TypeNSEC, dns.TypeRRSIG),
	}
}

// compact returns a record that denies all but the name itself.
func (z *zone) compact(c *chain, name, source string) dns.RR {
	types := []uint16{}
	if i := slices.IndexFunc(c.nodes, func(n node) bool { return n.name == source }); i >= 0 {
		types = c.nodes[i].types
	} else if !c.exists(source) {
		types = append(types, typeNXNAME)
	}
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: z.ttl},
		NextDomain: below(`\000`, name),
		TypeBitMap: bitmap(types, dns.TypeNSEC, dns.TypeRRSIG),
	}
}

// nsec3 returns the record for the hash of a name, or the one that covers it.
func (z *zone) nsec3(c *chain, name string) dns.RR {
	i, exact := slices.BinarySearch(c.hashes, z.hashName(name))
	if !exact {
		i--
	}
	i = (i + len(c.hashes)) % len(c.hashes)
	n := c.hashed[c.hashes[i]]
	types := n.types
	if len(types) > 0 && !n.open {
		types = bitmap(types, dns.TypeRRSIG)
	}
	rr := &dns.NSEC3{
		Hdr:  dns.RR_Header{Name: below(strings.ToLower(c.hashes[i]), z.apex), Rrtype: dns.TypeNSEC3, Class: dns.ClassINET, Ttl: z.ttl},
		Hash: dns.SHA1, Iterations: z.signing.iterations, SaltLength: uint8(len(z.signing.salt) / 2), Salt: z.signing.salt,
		HashLength: 20, NextDomain: c.hashes[(i+1)%len(c.hashes)], TypeBitMap: types,
	}
	if z.signing.style == byOptOut {
		rr.Flags = 1
	}
	return rr
}

// bitmap returns types and more types, sorted.
func bitmap(types []uint16, more ...uint16) []uint16 {
	all := slices.Concat(types, more)
	slices.Sort(all)
	return slices.Compact(all)
}
