package world

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// target is a question at a resolver, or at all of them ("") as it comes to them from
// the zones.
type target struct {
	server, name string
	rrtype       uint16
}

// attack is what is done to the answer to one question.
type attack struct {
	d *DNS
	// records take the place of the real ones.
	records []dns.RR
	// denied: there are none, with this rcode; by is whose NSEC or NSEC3 are added.
	denied bool
	rcode  int
	by     *zone
	// signer signs what is there.
	signer *zone
	// replayed is an answer of before, or of another name.
	replayed *piece
	edits    []edit
	// unsigned and unproven: without signatures, without NSEC and NSEC3.
	unsigned, unproven bool
	name               string
}

// edit changes a number, or a signer's name, in records that have such a thing.
type edit struct {
	field  string
	number int
	name   string
}

// Attack does something to the answers to a question, until Mend. Words are
//
//	forge [SERVER] NAME TYPE DATA       such records, under the real signatures; a second
//	                                    one is added to the first
//	forge [SERVER] NAME TYPE nodata     no records, and no proof of that
//	forge [SERVER] NAME TYPE nxdomain   the same with another rcode
//	forge [SERVER] NAME TYPE nodata by ZONE   with the NSEC or NSEC3 that this zone has
//	                                    nearest to the name (nxdomain likewise)
//	sign [SERVER] NAME TYPE ZONE        what is there is signed by this zone
//	strip [SERVER] NAME TYPE rrsig      without signatures
//	strip [SERVER] NAME TYPE denial     without NSEC and NSEC3
//	edit [SERVER] NAME TYPE FIELD VALUE in every record that has it: algorithm, labels,
//	                                    iterations, signer
//	replay [SERVER] NAME TYPE           what is answered now stays, signatures and all
//	replay [SERVER] NAME TYPE OTHER     the real answer for another name, under this one
//
// With a SERVER ("127.0.0.1:53") the resolver there does it. Without one it is done
// between the zones and all resolvers, where one that validates sees that it is bogus.
func (d *DNS) Attack(words ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(words) == 0 {
		return errors.New("world: no attack")
	}
	t, rest, err := parseTarget(words[1:])
	if err != nil {
		return err
	}
	a := d.attacks[t]
	if a == nil {
		a = &attack{d: d, name: t.name}
	}
	switch words[0] {
	case "forge":
		err = a.forge(t, rest)
	case "sign":
		a.signer, err = d.zoneNamed(rest)
	case "strip":
		err = a.strip(rest)
	case "edit":
		err = a.edit(rest)
	case "replay":
		err = a.replay(t, rest)
	default:
		err = fmt.Errorf("world: unknown attack %q", words[0])
	}
	if err == nil {
		d.attacks[t] = a
	}
	return err
}

// Mend ends the attacks on a question, "[SERVER] NAME TYPE", or without words all.
func (d *DNS) Mend(words ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(words) == 0 {
		clear(d.attacks)
		return nil
	}
	t, _, err := parseTarget(words)
	if err == nil && d.attacks[t] == nil {
		err = fmt.Errorf("world: nobody attacks %q", words)
	}
	delete(d.attacks, t)
	return err
}

func parseTarget(words []string) (t target, rest []string, err error) {
	if len(words) > 0 {
		if _, err := netip.ParseAddrPort(words[0]); err == nil {
			t.server, words = words[0], words[1:]
		}
	}
	if len(words) < 2 || !dns.IsFqdn(words[0]) || typeOf(words[1]) == 0 {
		return t, nil, fmt.Errorf("world: want \"[SERVER] NAME. TYPE ...\", not %q", words)
	}
	t.name, t.rrtype = dns.CanonicalName(words[0]), typeOf(words[1])
	return t, words[2:], nil
}

func (d *DNS) zoneNamed(words []string) (*zone, error) {
	if len(words) == 1 {
		if z := d.zones[dns.CanonicalName(words[0])]; z != nil && z.signed {
			return z, nil
		}
	}
	return nil, fmt.Errorf("world: want a signed zone, not %q", words)
}

func (a *attack) forge(t target, words []string) (err error) {
	if len(words) == 0 {
		return errors.New("world: forge what?")
	}
	if words[0] == "nodata" || words[0] == "nxdomain" {
		a.denied, a.rcode = true, map[string]int{"nxdomain": dns.RcodeNameError}[words[0]]
		if len(words) > 1 {
			if words[1] != "by" {
				return fmt.Errorf("world: want \"by ZONE\", not %q", words[1:])
			}
			a.by, err = a.d.zoneNamed(words[2:])
		}
		return err
	}
	line := fmt.Sprintf("%s %v %s", t.name, dns.Type(t.rrtype), strings.Join(words, " "))
	rr, err := a.d.home(t.name, t.rrtype).parse(a.d.fill.Replace(line))
	a.records = append(a.records, rr)
	return err
}

func (a *attack) strip(words []string) error {
	switch strings.Join(words, " ") {
	case "rrsig":
		a.unsigned = true
	case "denial":
		a.unproven = true
	default:
		return fmt.Errorf("world: strip rrsig or denial, not %q", words)
	}
	return nil
}

func (a *attack) edit(words []string) error {
	if len(words) != 2 || !slices.Contains([]string{"algorithm", "labels", "iterations", "signer"}, words[0]) {
		return fmt.Errorf("world: edit algorithm, labels, iterations or signer, not %q", words)
	}
	e := edit{field: words[0], name: dns.CanonicalName(words[1])}
	var err error
	if e.field != "signer" {
		e.number, err = number(words[1], 1<<16-1)
	}
	a.edits = append(a.edits, e)
	return err
}

func (a *attack) replay(t target, words []string) error {
	from := t.name
	if len(words) > 0 {
		from = dns.CanonicalName(words[0])
	}
	r := request{name: from, rrtype: t.rrtype, do: true}
	p := a.d.look(a.d.home(from, t.rrtype), from, r)
	for i, rr := range p.answer {
		if rr.Header().Name == from {
			p.answer[i] = renamed([]dns.RR{rr}, t.name)[0]
		}
	}
	a.replayed = &p
	return p.err
}

// attackOn returns what is done to an answer, or nil. A resolver's own attack comes
// first.
func (d *DNS) attackOn(server, name string, rrtype uint16) *attack {
	if a := d.attacks[target{server, name, rrtype}]; a != nil {
		return a
	}
	return d.attacks[target{"", name, rrtype}]
}

// on does it.
func (a *attack) on(p piece) piece {
	if a.replayed != nil {
		p = *a.replayed
	}
	if len(a.records) > 0 {
		p.answer = append(slices.Clone(a.records), keep[*dns.RRSIG](p.answer)...)
		p.authority, p.rcode, p.next = nil, dns.RcodeSuccess, ""
	}
	if a.denied {
		p = piece{rcode: a.rcode, authority: []dns.RR{a.d.find(a.name).soa()}}
		if a.by != nil {
			w := writer{d: a.d, z: a.by, do: true}
			w.authority(a.by.soa())
			w.prove(a.d.denial(a.by, a.name, a.name))
			p.authority = w.piece.authority
		}
	}
	if a.signer != nil {
		rrs := drop[*dns.RRSIG](p.answer)
		w := writer{d: a.d, z: a.signer, do: true}
		p.answer = append(rrs, w.signatures(rrs)...)
	}
	for _, e := range a.edits {
		p.answer, p.authority = e.on(p.answer), e.on(p.authority)
	}
	if a.unsigned {
		p.answer, p.authority = drop[*dns.RRSIG](p.answer), drop[*dns.RRSIG](p.authority)
	}
	if a.unproven {
		p.authority = drop[*dns.NSEC](drop[*dns.NSEC3](p.authority))
	}
	return p
}

func (e edit) on(rrs []dns.RR) []dns.RR {
	switch e.field {
	case "algorithm":
		rrs = editEach(rrs, func(rr *dns.RRSIG) { rr.Algorithm = uint8(e.number) })
		rrs = editEach(rrs, func(rr *dns.DS) { rr.Algorithm = uint8(e.number) })
		return editEach(rrs, func(rr *dns.DNSKEY) { rr.Algorithm = uint8(e.number) })
	case "labels":
		return editEach(rrs, func(rr *dns.RRSIG) { rr.Labels = uint8(e.number) })
	case "iterations":
		return editEach(rrs, func(rr *dns.NSEC3) { rr.Iterations = uint16(e.number) })
	case "signer":
		return editEach(rrs, func(rr *dns.RRSIG) { rr.SignerName = e.name })
	}
	return rrs
}

func keep[T dns.RR](rrs []dns.RR) []dns.RR {
	return slices.DeleteFunc(slices.Clone(rrs), func(rr dns.RR) bool { _, ok := rr.(T); return !ok })
}

func drop[T dns.RR](rrs []dns.RR) []dns.RR {
	return slices.DeleteFunc(slices.Clone(rrs), func(rr dns.RR) bool { _, ok := rr.(T); return ok })
}
