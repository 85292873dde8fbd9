package resolve

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/dns"
)

// What to do, said where a server does not validate.
const (
	installResolver = `install a validating resolver on this host (unbound does it out of the box) and set [dns] servers = ["127.0.0.1:53"]`
	giveUpDNSSEC    = `set dnssec = "off" to do without DANE and signals`
)

// signedQuestion is what a validator must prove: every anchor covers the root, and
// Postfix probes for the same (dnssec_probe in postconf(5)).
func signedQuestion() question {
	return question{".", dns.TypeNS, dns.ClassINET}
}

// cachedQuestion is denied with proof by a signed root. Forwarders that pass AD on
// and keep answers (dnsmasq with proxy-dnssec) keep this one, and keep it without
// AD: a signed domain would seem insecure whenever it comes from there.
func cachedQuestion() question {
	return question{".", dns.TypeA, dns.ClassINET}
}

// unsignedQuestions have no proof anywhere, so that AD on their answers shows a
// server that echoes the bit or sets it always. Those of class CH are about the
// server itself. The others are in zones that resolvers serve locally (RFC 6303
// §4.1, RFC 8375 §6) and that the DNS delegates unsigned for those that do not; a
// private root may deny them with proof. "localhost" will not do: systemd-resolved
// answers it with AD, on its own authority.
func unsignedQuestions() []question {
	return []question{
		{"id.server.", dns.TypeTXT, dns.ClassCHAOS},
		{"version.bind.", dns.TypeTXT, dns.ClassCHAOS},
		{"10.in-addr.arpa.", dns.TypeSOA, dns.ClassINET},
		{"home.arpa.", dns.TypeSOA, dns.ClassINET},
	}
}

// probe of mode Off: the server must resolve.
func (unproven) probe(ctx context.Context, r *Resolver, srv *server) ServerHealth {
	_, problem := r.probeRoot(ctx, srv)
	return ServerHealth{Answers: problem == "", Problem: problem}
}

// flaw is what is wrong with a server; the zero value: nothing.
type flaw struct {
	// problem ends a sentence that begins with the server.
	problem string
	// seen: an answer shows it. Else what would show that all is well is missing.
	seen bool
}

// probe of mode TrustAD: AD on the signed root and not on what nobody signs, from
// a server that nobody can speak for on the way.
func (t adTrust) probe(ctx context.Context, r *Resolver, srv *server) ServerHealth {
	var (
		all           sync.WaitGroup
		lies, forgets flaw
	)
	all.Go(func() { lies = r.probeUnsigned(ctx, srv) })
	all.Go(func() { forgets = r.probeCache(ctx, srv) })
	root, problem := r.probeRoot(ctx, srv)
	all.Wait()
	h := ServerHealth{Answers: problem == ""}
	switch {
	case !t.remote && !srv.addr.Addr().IsLoopback():
		// First of all: while it is so, nothing that is mended there helps.
		h.Disproven, h.Problem = true, fmt.Sprintf("%s is not on loopback, so its answers can be forged on the way: %s, or %s, or, where the way is safe, trust_remote = true",
			srv.name, installResolver, giveUpDNSSEC)
	case problem == "" && !root.AuthenticatedData:
		h.Disproven, h.Problem = true, fmt.Sprintf("%s does not validate DNSSEC (no AD on the signed root): switch validation on there (BIND: dnssec-validation auto; systemd-resolved: DNSSEC=yes), or %s, or %s",
			srv.name, installResolver, giveUpDNSSEC)
	case lies.seen:
		h.Disproven, h.Problem = true, fmt.Sprintf("%s %s: %s, or %s", srv.name, lies.problem, installResolver, giveUpDNSSEC)
	case problem != "":
		h.Disproven, h.Problem = forgets.seen, problem
	case lies.problem != "" && !forgets.seen:
		h.Problem = fmt.Sprintf("%s %s: %s, or %s", srv.name, lies.problem, installResolver, giveUpDNSSEC)
	case forgets.problem != "":
		h.Disproven, h.Problem = forgets.seen, fmt.Sprintf("%s %s, or %s, or %s", srv.name, forgets.problem, installResolver, giveUpDNSSEC)
	default:
		h.Validates = true
	}
	return h
}

// probeCache asks twice for what is proven, the second time surely from a cache. That
// it could not see how the cache behaves is wrong too: a cache that forgets AD would
// make signed domains look unsigned.
func (r *Resolver) probeCache(ctx context.Context, srv *server) flaw {
	for range 2 {
		m, err := r.patiently(ctx, srv, cachedQuestion())
		switch {
		case errors.Is(err, errSilent):
			return flaw{problem: fmt.Sprintf("gives no answer in %v to one of the questions that show whether it validates: check that it can reach the internet", r.timeout)}
		case err != nil && m != nil:
			return flaw{problem: fmt.Sprintf("answers %s%s to one of the questions that show whether it validates: check its trust anchor, this host's clock, and its way to the internet", rcode(m), explain(m))}
		case err != nil:
			return flaw{problem: fmt.Sprintf("cannot be examined (%s): check that a resolver runs there", printable(err.Error()))}
		case !m.AuthenticatedData:
			return flaw{"forgets AD in its cache, so that signed domains look unsigned: switch that cache off (dnsmasq: cache-size=0) or let it validate (dnsmasq: dnssec)", true}
		}
	}
	return flaw{}
}

// patiently asks once more where the first packet may have been lost: a resolver
// that has just started is slow, and a probe must not judge by half of what it asked.
func (r *Resolver) patiently(ctx context.Context, srv *server, q question) (*dns.Msg, error) {
	in := inquiry{question: q, bits: r.scheme.bits()}
	m, err := r.question(ctx, srv, in, free())
	if errors.Is(err, errSilent) {
		m, err = r.question(ctx, srv, in, free())
	}
	return m, err
}

// probeRoot asks for the servers of the root. It returns what is wrong, or "".
func (r *Resolver) probeRoot(ctx context.Context, srv *server) (*dns.Msg, string) {
	m, err := r.patiently(ctx, srv, signedQuestion())
	var res result
	if err == nil {
		res, err = interpret(signedQuestion(), m)
	}
	switch {
	case err == nil && len(res.records) > 0:
		return m, ""
	case err == nil:
		return nil, srv.name + " knows no root servers: check its way to the internet"
	case errors.Is(err, errFailing), errors.Is(err, errStale):
		return nil, fmt.Sprintf("%s fails for the root itself (%s%s): check its trust anchor, this host's clock, and the resolver's way to the internet",
			srv.name, rcode(m), explain(m))
	case errors.Is(err, errRcode):
		return nil, fmt.Sprintf("%s answers %s%s: let it serve this host, or name another in [dns] servers", srv.name, rcode(m), explain(m))
	case errors.Is(err, errSilent):
		return nil, fmt.Sprintf("%s gives no answer in %v: check that a resolver runs there and can reach the internet", srv.name, r.timeout)
	}
	return nil, fmt.Sprintf("%s cannot be used (%s): check that a resolver runs there, or name another in [dns] servers", srv.name, printable(err.Error()))
}

// probeUnsigned returns what is wrong with a server's use of the AD bit.
func (r *Resolver) probeUnsigned(ctx context.Context, srv *server) flaw {
	questions := unsignedQuestions()
	found := make([]adUse, len(questions))
	var all sync.WaitGroup
	for i, q := range questions {
		all.Go(func() {
			if m, err := r.patiently(ctx, srv, q); err == nil {
				found[i] = useOfAD(q, m)
			}
		})
	}
	all.Wait()
	return judgeAD(questions, found)
}

// judgeAD weighs what the unsigned questions showed. AD on the server's own data is
// a lie, whatever else is right. Of the zones one may be signed by a site for
// itself, so that only AD on every one that was answered is, and is seen to be where
// all were. A server that answers none of the questions shows nothing, and nothing is
// not enough.
func judgeAD(questions []question, found []adUse) flaw {
	honest, honestZone, lie, lyingZone, seen := false, false, "", "", true
	for i, use := range found {
		chaos := questions[i].class == dns.ClassCHAOS
		seen = seen && (chaos || use == adLie)
		switch {
		case use == adHonest:
			honest = true
			honestZone = honestZone || !chaos
		case use == adLie && chaos:
			lie = questions[i].name
		case use == adLie:
			lyingZone = questions[i].name
		}
	}
	if lie != "" {
		seen = true
	} else if !honestZone {
		lie = lyingZone
	}
	switch {
	case lie != "":
		return flaw{"sets AD on " + lie + ", which nobody signs, so its AD proves nothing", seen}
	case !honest:
		return flaw{problem: "answers nothing that nobody signs (id.server, version.bind, 10.in-addr.arpa, home.arpa), so that it may be echoing AD"}
	}
	return flaw{}
}

// adUse is what an answer to a question that nobody can prove shows of a server.
type adUse uint8

const (
	adUnknown adUse = iota
	adHonest
	adLie
)

// useOfAD allows AD on a denial that comes from a signed ancestor, as on a network
// with a root of its own, which has no "arpa".
func useOfAD(q question, m *dns.Msg) adUse {
	if !m.AuthenticatedData {
		return adHonest
	}
	if q.class == dns.ClassINET && len(m.Answer) == 0 {
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok && below(q.name, lower(soa.Hdr.Name)) {
				return adUnknown
			}
		}
	}
	return adLie
}
