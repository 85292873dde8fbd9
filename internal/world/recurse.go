package world

import (
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// request is a question as one resolver was asked it.
type request struct {
	name      string
	rrtype    uint16
	server    string
	behaviour Behaviour
	do, cd    bool
}

// validates reports whether what is bogus is withheld.
func (r request) validates() bool { return r.behaviour == Validating && !r.cd }

// finding is what recursion came to.
type finding struct {
	answer, authority []dns.RR
	rcode             int
	secure            bool
	why               string
	delay             time.Duration
	silent            bool
}

// recurse finds the answer to a question as a recursive resolver does. d.mu is held.
func (d *DNS) recurse(r request) finding {
	f := finding{secure: true}
	name := r.name
	for range maxChain {
		z := d.home(name, r.rrtype)
		status, delay := z.statusFor(name, r.rrtype)
		f.delay += delay
		if d.spoilt(r, z, name) && (status.Kind == Secure || status.Kind == Insecure) {
			status.Kind = Bogus
		}
		if stop := f.fail(status, r); stop {
			return f
		}
		p := d.look(z, name, r)
		if p.err != nil {
			return finding{rcode: dns.RcodeServerFailure, why: p.err.Error()}
		}
		if status.Kind == Bogus {
			p.answer, p.authority = spoil(p.answer), spoil(p.authority)
		}
		if a := d.attackOn(r.server, name, r.rrtype); a != nil {
			p = a.on(p)
			if !r.do {
				p.answer, p.authority = plain(p.answer), plain(p.authority)
			}
		}
		f.secure = f.secure && status.Kind == Secure && d.chained(z) && !p.open
		f.answer = append(f.answer, p.answer...)
		f.authority = append(f.authority, p.authority...)
		f.rcode = p.rcode
		if p.next == "" {
			return f
		}
		name = p.next
	}
	return finding{rcode: dns.RcodeServerFailure}
}

// plain is without what only those see who set DO.
func plain(rrs []dns.RR) []dns.RR {
	return drop[*dns.NSEC3](drop[*dns.NSEC](drop[*dns.RRSIG](rrs)))
}

// statusFor is the status of what a zone answers: of an alias, where the type has no
// status of its own.
func (z *zone) statusFor(name string, rrtype uint16) (Status, time.Duration) {
	if _, special := z.special[rrset{name, rrtype}]; !special && len(z.records[rrset{name, dns.TypeCNAME}]) > 0 {
		rrtype = dns.TypeCNAME
	}
	return z.statusOf(name, rrtype)
}

// fail applies a status that ends recursion.
func (f *finding) fail(status Status, r request) bool {
	switch status.Kind {
	case Bogus:
		if !r.validates() {
			// Nobody looks at the signatures.
			return false
		}
		*f = finding{rcode: dns.RcodeServerFailure, why: "signature does not hold", delay: f.delay}
	case ServFail:
		*f = finding{rcode: dns.RcodeServerFailure, delay: f.delay}
	case Refused:
		*f = finding{rcode: dns.RcodeRefused, delay: f.delay}
	case Timeout:
		*f = finding{silent: true}
	case Secure, Insecure, Slow:
		return false
	}
	return true
}

// above returns a zone and those above it.
func (d *DNS) above(z *zone) []*zone {
	all := []*zone{z}
	for z.apex != "." {
		z = d.find(up(z.apex))
		all = append(all, z)
	}
	return all
}

// chained reports whether a zone and all above it are signed, in a way that resolvers
// can check.
func (d *DNS) chained(z *zone) bool {
	return !slices.ContainsFunc(d.above(z), func(z *zone) bool { return !z.signed || !z.signing.known() })
}

// spoilt reports whether a resolver that validates finds an answer bogus for what is
// wrong around it: attackers between it and the zones, and signatures whose time it is
// not.
func (d *DNS) spoilt(r request, z *zone, name string) bool {
	if !r.validates() {
		return false
	}
	if d.chained(z) && d.attacks[target{"", name, r.rrtype}] != nil {
		return true
	}
	all := d.above(z)
	for _, at := range slices.Backward(all) {
		if d.attacks[target{"", at.apex, dns.TypeDS}] != nil || d.attacks[target{"", at.apex, dns.TypeDNSKEY}] != nil {
			return true
		}
		if !at.signed || !at.signing.known() {
			return false
		}
		from, to := at.signing.times(d.now())
		if here := time.Now(); at.status.Kind == Bogus || here.Before(from) || here.After(to) {
			return true
		}
	}
	return false
}

// piece is what one zone answers.
type piece struct {
	answer, authority []dns.RR
	rcode             int
	// next is the name that an alias leads to.
	next string
	// open: the denial rests on an opt-out span.
	open bool
	err  error
}

// look answers from one zone.
func (d *DNS) look(z *zone, name string, r request) piece {
	w := writer{d: d, z: z, do: r.do && z.signed}
	if r.behaviour == StripsAll && (r.rrtype == dns.TypeDS || r.rrtype == dns.TypeDNSKEY) {
		w.authority(z.soa())
		return w.piece
	}
	if rr := z.redirection(name); rr != nil {
		w.answer([]dns.RR{rr}, rr.Hdr.Name)
		w.next = strings.TrimSuffix(name, rr.Hdr.Name) + dns.CanonicalName(rr.Target)
		w.piece.answer = append(w.piece.answer, &dns.CNAME{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: rr.Hdr.Ttl}, Target: w.next,
		})
		if r.rrtype == dns.TypeCNAME {
			w.next = ""
		}
		return w.piece
	}
	source, c := name, d.chainOf(z)
	if !c.exists(name) {
		source = c.wildcard(name)
	}
	rrs, err := d.records(z, source, r.rrtype)
	if err != nil {
		return piece{err: err}
	}
	if links := z.records[rrset{source, dns.TypeCNAME}]; len(rrs) == 0 && len(links) > 0 {
		rrs = links
		w.next = dns.CanonicalName(links[0].(*dns.CNAME).Target)
	}
	if len(rrs) > 0 {
		w.answer(rrs, name)
		return w.piece
	}
	if !c.exists(source) {
		w.rcode = dns.RcodeNameError
	}
	w.deny(name, source)
	return w.piece
}

// redirection returns the DNAME above a name.
func (z *zone) redirection(name string) *dns.DNAME {
	for name != z.apex {
		name = up(name)
		if rrs := z.records[rrset{name, dns.TypeDNAME}]; len(rrs) > 0 {
			return rrs[0].(*dns.DNAME)
		}
	}
	return nil
}

// records returns an RRset of a zone, those among them that stand in no zone file.
func (d *DNS) records(z *zone, name string, rrtype uint16) ([]dns.RR, error) {
	switch {
	case rrtype == dns.TypeSOA && name == z.apex:
		return []dns.RR{z.soa()}, nil
	case rrtype == dns.TypeDNSKEY && name == z.apex && z.signed:
		keys, err := z.keySet()
		var rrs []dns.RR
		for _, k := range keys {
			rrs = append(rrs, k.rr)
		}
		return rrs, err
	case rrtype == dns.TypeDS && d.zones[name] != nil && d.zones[name] != z && d.zones[name].signed:
		return d.zones[name].delegation(z.ttl)
	}
	return z.records[rrset{name, rrtype}], nil
}

// writer adds what a zone answers, with signatures where they are wanted.
type writer struct {
	d  *DNS
	z  *zone
	do bool
	piece
}

func (w *writer) signatures(rrs []dns.RR) []dns.RR {
	if !w.do || w.err != nil {
		return nil
	}
	sigs, err := w.d.signer.sign(w.z, rrs, w.d.now())
	w.err = err
	return sigs
}

// answer adds an RRset under a name, which is another one than its own where a
// wildcard is expanded.
func (w *writer) answer(rrs []dns.RR, name string) {
	expanded := rrs[0].Header().Name != name
	if expanded && w.z.signing.style == byCompact {
		rrs = renamed(rrs, name)
	}
	w.piece.answer = append(w.piece.answer, renamed(rrs, name)...)
	w.piece.answer = append(w.piece.answer, renamed(w.signatures(rrs), name)...)
	if expanded && w.z.signed {
		p := w.d.expansion(w.z, name)
		w.open = p.open
		w.prove(p)
	}
}

func (w *writer) authority(rr dns.RR) {
	w.piece.authority = append(w.piece.authority, rr)
	w.piece.authority = append(w.piece.authority, w.signatures([]dns.RR{rr})...)
}

func (w *writer) prove(p proof) {
	if !w.do {
		return
	}
	for _, rr := range p.records {
		w.authority(rr)
	}
}

// deny adds a denial, with SOA.
func (w *writer) deny(name, source string) {
	w.authority(w.z.soa())
	if !w.z.signed {
		return
	}
	if w.do && w.z.signing.style == byCompact {
		w.rcode = dns.RcodeSuccess
	}
	p := w.d.denial(w.z, name, source)
	w.open = p.open
	w.prove(p)
}

// renamed returns copies under another name.
func renamed(rrs []dns.RR, name string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = rr
		if rr.Header().Name != name {
			out[i] = dns.Copy(rr)
			out[i].Header().Name = name
		}
	}
	return out
}
