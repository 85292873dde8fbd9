package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/verdict"
)

// validating is mode Validate.
type validating struct {
	*dnssec.Validator
	// anchors are for the validators of probes: each has its own, so that what one
	// server says of the root is not held against the others.
	anchors *dnssec.Anchors
}

func newValidating(r *Resolver, anchors *dnssec.Anchors) validating {
	return validating{dnssec.New(dnssec.Config{Anchors: anchors, Clock: r.now, Refresh: background{r}}), anchors}
}

// CD keeps a validating server from answering SERVFAIL where its own view differs,
// and DO brings the signatures along (RFC 4035 §3.2.1, §3.2.2).
func (validating) bits() queryBits { return queryBits{header: bitCD, edns: flagDO} }

// answer proves the answer to a question. Where validation does not work at all, its
// records are handed out unproven: whoever needs a proof waits, and whoever does not,
// such as MTA-STS (RFC 8461 §2), goes on.
func (validating) answer(ctx context.Context, s *Session, q question, f *flight) result {
	a := s.prover.Lookup(ctx, q.name, q.rrtype)
	var res result
	switch {
	case a.Err == nil:
		res = result{outcome: a.Outcome, proof: a.Proof, records: a.Records, ttl: a.TTL}
		if a.Canonical != "" {
			res.canonical = hostName(a.Canonical)
		}
	case (a.Err.Anchor || a.Err.Bogus() && s.r.sick()) && ctx.Err() == nil:
		res = unproven{}.answer(ctx, s, q, f)
	default:
		res = s.r.failure(a.Err)
		res.proof = a.Proof
		res.abandoned = ctx.Err() != nil && !a.Err.Bogus()
	}
	a.Records = nil // res has them; who keeps the trail need not keep them twice
	res.trail = trail{a}
	return res
}

// sick reports that every server was probed, and that none passes. Then what does not
// hold says nothing about a destination, also where the keys of the root are known from
// before.
func (r *Resolver) sick() bool {
	for _, srv := range r.servers() {
		if h := srv.health(); h.Validates || h.Checked.IsZero() {
			return false
		}
	}
	return true
}

// failure says what a lookup that has failed means, and whose fault it is.
func (r *Resolver) failure(e *dnssec.Error) result {
	var upstream *verdict.Failure
	switch {
	case errors.As(e, &upstream):
		return failed(upstream.Fault, printable(e.Subject)+": "+upstream.Detail)
	case e.Bogus():
		return failed(verdict.Remote, "bogus: "+oneLine(e.Error()))
	case e.Why == dnssec.OverBudget:
		r.counts.validation.Add(1)
		return failed(verdict.Ours, oneLine(e.Error()))
	case e.Anchor:
		return failed(verdict.Operator, oneLine(e.Error()))
	}
	// Nobody knows at which server it was.
	fault := verdict.Operator
	for _, srv := range r.servers() {
		if srv.remoteUnlessSick() == verdict.Remote {
			fault = verdict.Remote
		}
	}
	return failed(fault, oneLine(e.Error()))
}

// trail tells how an answer was proven.
type trail struct{ answer dnssec.Answer }

// Steps implements verdict.Trail.
func (t trail) Steps() []string {
	var lines []string
	for _, step := range t.answer.Chain() {
		lines = append(lines, oneLine(step.String()))
	}
	return lines
}

// Signatures implements verdict.Trail.
func (t trail) Signatures() []verdict.Signature {
	var list []verdict.Signature
	for _, step := range t.answer.Chain() {
		if !step.Expires.IsZero() {
			list = append(list, verdict.Signature{Subject: oneLine(step.Subject), Expires: step.Expires})
		}
	}
	return list
}

// upstream lets a session's validator ask the name servers.
type upstream struct{ s *Session }

// Exchange implements dnssec.Upstream. What did not hold is asked for at another
// server, which then comes first in the whole session, or at the same one in another
// way.
func (u upstream) Exchange(ctx context.Context, q dnssec.Query) (*dns.Msg, error) {
	in := inquiry{question: question{q.Name, q.Type, dns.ClassINET}, bits: u.s.r.scheme.bits()}
	if q.Again > 0 {
		in.doubted = u.s.doubt(in.question)
	}
	in.servers = u.s.trusted(u.s.r.order())
	var reply *dns.Msg
	lost := u.s.consult(ctx, in, new(flight), func(srv *server, m *dns.Msg) error {
		u.s.sent(in.question, srv)
		reply = m
		return nil
	})
	if lost != nil {
		return nil, lost.failure
	}
	return reply, nil
}

// senders are who answered the questions of a session's validator. A Session's mu
// guards them.
type senders struct {
	of map[question][]*server
	// doubted sent what did not hold.
	doubted map[*server]bool
}

// sent notes who answered a question.
func (s *Session) sent(q question, srv *server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.senders.of == nil {
		s.senders.of = make(map[question][]*server)
	}
	if !slices.Contains(s.senders.of[q], srv) {
		s.senders.of[q] = append(s.senders.of[q], srv)
	}
}

// doubt notes that what was answered to a question does not hold, and returns who
// answered it.
func (s *Session) doubt(q question) []*server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.senders.doubted == nil {
		s.senders.doubted = make(map[*server]bool)
	}
	for _, srv := range s.senders.of[q] {
		s.senders.doubted[srv] = true
	}
	return slices.Clone(s.senders.of[q])
}

// trusted puts the servers last whose answers did not hold.
func (s *Session) trusted(servers []*server) []*server {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(servers, func(a, b *server) int {
		switch {
		case s.senders.doubted[a] == s.senders.doubted[b]:
			return 0
		case s.senders.doubted[b]:
			return -1
		}
		return 1
	})
	return servers
}

// background is the upstream of what is learnt ahead of need, on nobody's account.
type background struct{ r *Resolver }

// Exchange implements dnssec.Upstream. Nobody remembers who sent what did not hold: it
// is taken to be whoever is the first.
func (u background) Exchange(ctx context.Context, q dnssec.Query) (*dns.Msg, error) {
	s := &Session{r: u.r, flights: make(map[question]*flight)}
	if q.Again > 0 {
		asked := question{q.Name, q.Type, dns.ClassINET}
		order := u.r.order()
		for _, srv := range order[:min(q.Again, len(order))] {
			s.sent(asked, srv)
		}
	}
	return upstream{s}.Exchange(ctx, q)
}

// single is the upstream of a probe: one server, no budget.
type single struct {
	r   *Resolver
	srv *server
}

// Exchange implements dnssec.Upstream.
func (u single) Exchange(ctx context.Context, q dnssec.Query) (*dns.Msg, error) {
	return u.r.patiently(ctx, u.srv, question{q.Name, q.Type, dns.ClassINET})
}

// probe of mode Validate: the keys of the topmost anchored zone must hold, and so must
// a denial by it, from what this one server passes on.
func (v validating) probe(ctx context.Context, r *Resolver, srv *server) ServerHealth {
	var (
		both    sync.WaitGroup
		problem string
	)
	both.Go(func() { _, problem = r.probeRoot(ctx, srv) })
	own := dnssec.New(dnssec.Config{Anchors: v.anchors, Clock: r.now})
	s := own.Session(single{r, srv})
	defer s.Close()
	e := s.Check(ctx)
	both.Wait()
	h := ServerHealth{Answers: problem == "", Problem: problem}
	for _, w := range own.Warnings() {
		h.Warnings = append(h.Warnings, w.String()+wayOut(w))
	}
	switch {
	case problem != "":
	case e != nil:
		h.Problem = fmt.Sprintf("answers that pass through %s cannot be validated (%s): %s", srv.name, oneLine(e.Error()), remedy(e, srv, r.now()))
	default:
		h.Validates = true
	}
	return h
}

// remedy says what to do where validation does not work.
func remedy(e *dnssec.Error, srv *server, now time.Time) string {
	switch e.Why {
	case dnssec.Expired, dnssec.NotYet:
		return fmt.Sprintf("check this host's clock, which says %s", now.UTC().Format(time.RFC3339))
	case dnssec.NoSignature, dnssec.NoDenial:
		return "it does not pass DNSSEC records on: let it (dnsmasq: proxy-dnssec; systemd-resolved: ask another than its stub), or name another in [dns] servers, or " + giveUpDNSSEC
	case dnssec.NoKeys:
		return "it passes no keys of the root on: let it pass DNSSEC records on, or name another in [dns] servers, or " + giveUpDNSSEC
	case dnssec.NoKey:
		return "the keys of the root that it passes on do not match a trust anchor: renew them (Debian: apt upgrade dns-root-data; or [dns] trust_anchors; then reload), or, if they are up to date, distrust it and name another in [dns] servers"
	case dnssec.NoAnchor:
		return "no server can help: none of the trust anchors is of a kind that can be checked here; name others in [dns] trust_anchors, or leave it out, then reload"
	case dnssec.BadSignature:
		return "what it sends of the root is not what the root's keys have signed: distrust it, and name another in [dns] servers"
	}
	return fmt.Sprintf("check that %s answers questions for DNSKEY, over TCP too, or name another in [dns] servers", srv.name)
}

func wayOut(w dnssec.Warning) string {
	if w.Notice == dnssec.Revoked {
		return ": remove it, and make sure that another anchor is there (Debian: apt upgrade dns-root-data; or [dns] trust_anchors; then reload)"
	}
	return ": it may be the next one; renew the anchors before it takes over (Debian: apt upgrade dns-root-data; or [dns] trust_anchors; then reload)"
}
