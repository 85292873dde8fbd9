package dnssec

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// stands reports a CNAME that only stands for a DNAME: it is not signed, and follows
// from what is.
func (s *Session) stands(m *message, set *rrset) bool {
	return set.rtype == dns.TypeCNAME && len(set.sigs) == 0 && s.redirection(m, set.owner) != nil
}

// redirection returns the DNAME that is closest above a name, or nil. Where an anchored
// zone is between the two, what is above has nothing to say: an unsigned zone there could
// else redirect what is signed.
func (s *Session) redirection(m *message, n name) *rrset {
	if set := m.dname(n); set != nil && s.v.anchors.govern(set.owner, n) {
		return set
	}
	return nil
}

// synthesised is the CNAME that a DNAME stands for, where it was asked for.
func (l *lookup) synthesised(n, target name) Answer {
	a := l.answer(verdict.Found, n)
	a.Records = []dns.RR{&dns.CNAME{
		Hdr:    dns.RR_Header{Name: n.String(), Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: uint32(l.ttl / time.Second)},
		Target: target.String(),
	}}
	return a
}

// alias returns where a name leads, with proof; "" without an error where it is none.
// A CNAME that a DNAME stands for is not signed (RFC 6672 §5.3.1): it is worked out
// anew, and what the reply says must be the same.
func (l *lookup) alias(ctx context.Context, m *message, n name) (name, piece) {
	cname, dname := m.answer.find(n, dns.TypeCNAME), l.s.redirection(m, n)
	if cname == nil && dname == nil {
		return "", piece{}
	}
	target, err := name(""), (*Error)(nil)
	if cname != nil {
		if target, err = cname.target(); err != nil {
			return "", piece{err: err}
		}
	}
	if dname == nil || cname != nil && !l.s.stands(m, cname) {
		p := l.s.prove(ctx, m, cname)
		p.how = "CNAME " + target.String()
		return target, p
	}
	substitute, err := dname.substitute(n)
	switch {
	case err != nil:
		return "", piece{err: err}
	case cname != nil && target != substitute:
		return "", piece{err: &Error{Why: BadSignature, Subject: cname.String(), Detail: "it is not what the DNAME at " + dname.owner.String() + " makes of it"}}
	}
	p := l.s.prove(ctx, m, dname)
	if p.err == nil && p.expanded {
		// What such a one would redirect is not defined anywhere.
		p.err = &Error{Why: BadSignature, Subject: dname.String(), Detail: expandedDNAME}
	}
	p.how = "DNAME at " + dname.owner.String() + ", hence CNAME " + substitute.String()
	return substitute, p
}

const expandedDNAME = "a DNAME that was expanded from a wildcard"

// target returns where a CNAME or DNAME RRset leads. Two that differ are none
// (RFC 2181 §10.1, RFC 6672 §2.4).
func (set *rrset) target() (name, *Error) {
	var to name
	for _, rr := range set.rrs {
		s := ""
		switch rr := rr.(type) {
		case *dns.CNAME:
			s = rr.Target
		case *dns.DNAME:
			s = rr.Target
		}
		n, err := parseName(s)
		if s == "" || err != nil || to != "" && to != n {
			return "", &Error{Why: Malformed, Subject: set.String(), Detail: "without a target, or with two"}
		}
		to = n
	}
	return to, nil
}

// substitute replaces the DNAME's owner at the end of a name (RFC 6672 §2.2).
func (set *rrset) substitute(n name) (name, *Error) {
	to, err := set.target()
	if err != nil {
		return "", err
	}
	n = n[:len(n)-len(set.owner)] + to
	if len(n) > maxName {
		return "", &Error{Why: Malformed, Subject: set.String(), Detail: "the name that it makes is too long"}
	}
	return n, nil
}
