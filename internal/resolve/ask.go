package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

var (
	errLame    = errors.New("lame")
	errRcode   = errors.New("refused")
	errFailing = errors.New("failing")
	errStale   = errors.New("stale answer")
)

// lapse is a try that gave no answer.
type lapse struct {
	kind   error
	fault  verdict.Fault
	proof  verdict.Proof
	detail string
}

// ask puts a question to the servers and reads the answer; judge says what it is
// worth.
func (s *Session) ask(ctx context.Context, q question, f *flight, judge func(*server, *dns.Msg) verdict.Proof) result {
	var res result
	lost := s.consult(ctx, inquiry{question: q, bits: s.r.scheme.bits(), servers: s.r.order()}, f, func(srv *server, m *dns.Msg) (err error) {
		if res, err = interpret(q, m); err == nil {
			res.proof = judge(srv, m)
		}
		return err
	})
	if lost != nil {
		return *lost
	}
	return res
}

// inquiry is a question with how it is asked, and whom, in this order.
type inquiry struct {
	question
	bits    queryBits
	servers []*server
	// doubted are servers whose answer to this question did not hold.
	doubted []*server
}

// packet is the query for one server. One that is asked again is asked without CD: if
// it validates, it then gives no answer that it holds to be bogus, and looks for a
// better one (RFC 4035 §4.7).
func (in inquiry) packet(srv *server) []byte {
	bits := in.bits
	if slices.Contains(in.doubted, srv) {
		bits.header &^= bitCD
	}
	return in.query(bits)
}

// consult puts a question to the servers, until one sends a reply that read accepts,
// and then returns nil. A server that keeps silent is asked twice, the second time
// after all others. After SERVFAIL one more server is asked, since the first may be
// sick, but only one whose word is worth as much: a server that does not validate must
// not overrule one that says bogus.
func (s *Session) consult(ctx context.Context, in inquiry, f *flight, read func(*server, *dns.Msg) error) *result {
	var lapses []lapse
	failing, validated := 0, false
	queue := in.servers
	all := len(queue)
	for i := 0; i < len(queue) && failing < 2; i++ {
		srv := queue[i]
		if validated && !s.r.vouches(srv) {
			continue
		}
		miss := s.try(ctx, srv, in, f, read)
		if miss == nil {
			return nil
		}
		if ctx.Err() != nil {
			lost := gaveUp(ctx, in.question, f)
			return &lost
		}
		lapses = append(lapses, *miss)
		switch miss.kind {
		case errBudget:
			lost := summary(lapses)
			return &lost
		case errFailing:
			failing++
			validated = validated || s.r.vouches(srv)
		case errSilent:
			if i < all {
				queue = append(queue, srv)
			}
		}
	}
	lost := summary(lapses)
	return &lost
}

// order returns the servers: those that pass their probe first, then those without a
// recent lapse, then as configured.
func (r *Resolver) order() []*server {
	now := r.now()
	rank := func(srv *server) int {
		n := 0
		if !srv.health().Validates {
			n += 2
		}
		if srv.lapsed(now) {
			n++
		}
		return n
	}
	servers := slices.Clone(r.servers())
	slices.SortStableFunc(servers, func(a, b *server) int { return cmp.Compare(rank(a), rank(b)) })
	return servers
}

// try asks one server once.
func (s *Session) try(ctx context.Context, srv *server, in inquiry, f *flight, read func(*server, *dns.Msg) error) *lapse {
	m, err := s.r.question(ctx, srv, in, s.errand(f, srv))
	if err != nil && ctx.Err() != nil {
		// The server had less than its time, and is not to blame.
		srv.replies[Unsent].Add(1)
		return &lapse{kind: errBusy}
	}
	if err == nil {
		err = read(srv, m)
	}
	srv.replies[replyOf(err)].Add(1)
	if err != nil {
		return s.r.miss(srv, m, err)
	}
	srv.excuse()
	return nil
}

// question sends one question to one server and returns a reply with NOERROR or
// NXDOMAIN. With errFailing, errStale and errRcode the reply is returned as well.
func (r *Resolver) question(ctx context.Context, srv *server, in inquiry, on errand) (*dns.Msg, error) {
	packet, err := r.exchange(ctx, srv, in.packet(srv), on)
	if err != nil {
		return nil, err
	}
	m, err := parse(packet)
	if err != nil {
		return nil, err
	}
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		if outlived(m) {
			return m, errStale
		}
		return m, nil
	case dns.RcodeServerFailure:
		return m, errFailing
	}
	return m, errRcode
}

// miss says what a failed try means, and lets the server be tried last for a while
// where it is to blame.
func (r *Resolver) miss(srv *server, m *dns.Msg, err error) *lapse {
	switch {
	case errors.Is(err, errBudget):
		r.counts.questions.Add(1)
		return &lapse{kind: errBudget, fault: verdict.Ours, detail: fmt.Sprintf("%v (%d)", errBudget, Budget)}
	case errors.Is(err, errFailing):
		return r.servfail(srv, m)
	case errors.Is(err, errStale):
		return &lapse{kind: errFailing, fault: srv.remoteUnlessSick(), detail: "a stale answer from " + srv.name + explain(m)}
	case errors.Is(err, errSilent):
		srv.blame(r.now())
		return &lapse{
			kind: errSilent, fault: srv.remoteUnlessSick(),
			detail: fmt.Sprintf("%v from %s in %v", err, srv.name, r.timeout),
		}
	case errors.Is(err, errRcode):
		srv.blame(r.now())
		return &lapse{kind: errRcode, fault: verdict.Operator, detail: rcode(m) + " from " + srv.name + explain(m)}
	case errors.Is(err, errLame):
		srv.blame(r.now())
		return &lapse{kind: errLame, fault: verdict.Operator, detail: srv.name + " does not resolve for us: it only refers elsewhere"}
	case errors.Is(err, errUnreachable):
		srv.blame(r.now())
		return &lapse{kind: errUnreachable, fault: verdict.Operator, detail: srv.name + " is " + printable(err.Error())}
	}
	return &lapse{kind: errMalformed, fault: srv.remoteUnlessSick(), detail: printable(err.Error()) + " from " + srv.name}
}

// servfail reads SERVFAIL: all that a validator says about bogus data to those who
// do not set CD (RFC 4035 §5.5), unless it adds why (RFC 8914 §4).
func (r *Resolver) servfail(srv *server, m *dns.Msg) *lapse {
	l := &lapse{kind: errFailing, fault: srv.remoteUnlessSick(), detail: rcode(m) + " from " + srv.name}
	code, why := extended(m)
	switch {
	case bogusCode(code) && r.vouches(srv):
		l.proof = verdict.Bogus
		l.detail += " (bogus: " + why + ")"
	case why != "":
		l.detail += " (" + why + ")"
	case r.vouches(srv):
		l.detail += " (broken or bogus)"
	}
	if policyCode(code) {
		l.fault = verdict.Operator
	}
	return l
}

// summary makes one failure of all lapses. That the remote side is broken or bogus
// counts more than what else went wrong on the way to learn it.
func summary(lapses []lapse) result {
	res := failed(verdict.Operator, "")
	details := make([]string, 0, len(lapses))
	for i, l := range lapses {
		if i == 0 || l.kind == errBudget || l.kind == errFailing {
			res.failure.Fault = l.fault
		}
		if l.proof == verdict.Bogus {
			res.proof = verdict.Bogus
		}
		if !slices.Contains(details, l.detail) {
			details = append(details, l.detail)
		}
	}
	res.failure.Detail = strings.Join(details, "; ")
	return res
}

// gaveUp is the failure of a question whose asker ended it: of whoever was waited
// for. That a server which is well does not answer in time is the destination's, or
// else everyone could make this program report its own failure by keeping silent.
func gaveUp(ctx context.Context, q question, f *flight) result {
	srv := f.at.Load()
	if srv == nil {
		return abandoned(ctx, verdict.Ours, fmt.Sprintf("%v before it was sent", q))
	}
	return abandoned(ctx, srv.remoteUnlessSick(), fmt.Sprintf("%v, unanswered by %s", q, srv.name))
}

func abandoned(ctx context.Context, fault verdict.Fault, what string) result {
	res := failed(fault, fmt.Sprintf("gave up on %s: %v", what, context.Cause(ctx)))
	res.abandoned = true
	return res
}

func rcode(m *dns.Msg) string {
	if m.Rcode == dns.RcodeBadVers {
		return "BADVERS" // the library's table has TSIG's name for the number
	}
	if s, ok := dns.RcodeToString[m.Rcode]; ok {
		return s
	}
	return fmt.Sprintf("rcode %d", m.Rcode)
}

// explain returns an extended error in parentheses, or nothing.
func explain(m *dns.Msg) string {
	if _, why := extended(m); why != "" {
		return " (" + why + ")"
	}
	return ""
}

const noCode = 1<<16 - 1 // reserved for private use (RFC 8914 §5.2)

// extended returns the extended DNS error of a reply that matters most, and what
// it says. Its text comes from anywhere, so it is cut and made printable.
func extended(m *dns.Msg) (uint16, string) {
	opt := m.IsEdns0()
	if opt == nil {
		return noCode, ""
	}
	code, why := uint16(noCode), ""
	for _, o := range opt.Option {
		ede, ok := o.(*dns.EDNS0_EDE)
		if !ok || why != "" && !bogusCode(ede.InfoCode) {
			continue
		}
		code, why = ede.InfoCode, dns.ExtendedErrorCodeToString[ede.InfoCode]
		if why == "" {
			why = fmt.Sprintf("extended error %d", ede.InfoCode)
		}
		if ede.ExtraText != "" {
			why += ": " + printable(ede.ExtraText)
		}
		if bogusCode(code) {
			break
		}
	}
	return code, why
}

// outlived reports whether an answer, or a denial, was kept beyond its time since no
// new one could be had (RFC 8914 §4.4, §4.20). Nothing stale is taken: withdrawn TLSA
// records would make mail fail, and a denial that a new record has ended would let it
// out unprotected, for as long as someone keeps the zone's servers out of reach.
func outlived(m *dns.Msg) bool {
	opt := m.IsEdns0()
	return opt != nil && slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool {
		ede, ok := o.(*dns.EDNS0_EDE)
		return ok && (ede.InfoCode == dns.ExtendedErrorCodeStaleAnswer || ede.InfoCode == dns.ExtendedErrorCodeStaleNXDOMAINAnswer)
	})
}

// bogusCode reports whether an extended error says that validation failed
// (RFC 8914 §4.7 to §4.13, and 25, "signature expired before valid").
func bogusCode(code uint16) bool {
	return dns.ExtendedErrorCodeDNSBogus <= code && code <= dns.ExtendedErrorCodeNSECMissing ||
		code == dns.ExtendedErrorCodeSignatureExpiredBeforeValid
}

// policyCode reports whether an extended error says that the resolver was told not
// to answer (RFC 8914 §4.16 to §4.19).
func policyCode(code uint16) bool {
	return dns.ExtendedErrorCodeBlocked <= code && code <= dns.ExtendedErrorCodeProhibited
}
