package milterd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/d--j/go-milter"

	"tlsverdict/internal/nexthop"
)

const (
	// maxRecipients is how many recipients of a message are remembered.
	maxRecipients = 20_000
	// maxAsking bounds the questions that one message has under way.
	maxAsking = 16
	// progressTime is how often an MTA that waits is told that work goes on.
	progressTime = 5 * time.Second
	// annotateTime is how long a message waits for verdicts that only its header
	// tells of.
	annotateTime = 2 * time.Second
	// explainTime is how long a refusal waits for its reason.
	explainTime = 3 * time.Second
	// maxAnnotations is how many next hops of a message are told of in its header.
	maxAnnotations = 100
)

// session is one milter connection. The library calls its methods one at a time.
type session struct {
	milter.NoOpMilter
	server *Server

	set   *Settings
	msg   Message
	rcpts []recipient
	// known are the verdicts of this message.
	known map[nexthop.Destination]answer
	// ahead are the destinations that were asked for ahead of time.
	ahead map[nexthop.Destination]bool
	// forged counts the headers that have the name of ours.
	forged int
}

// recipient is one that the MTA was not told to refuse.
type recipient struct {
	address string
	hop     hop
	// decided says that decision stands.
	decided  bool
	decision Decision
}

type answer struct {
	verdict Verdict
	err     error
	// explained says that the reason was asked for.
	explained bool
}

// rescue turns a panic into a temporary failure: a defect here must not end the
// connections beside.
func (s *session) rescue(resp **milter.Response) {
	if p := recover(); p != nil {
		s.server.panicked(p)
		*resp = milter.RespTempFail
	}
}

// MailFrom begins a message.
func (s *session) MailFrom(from, args string, m milter.Modifier) (resp *milter.Response, err error) {
	defer s.rescue(&resp)
	s.reset()
	s.set = s.server.settings.Load()
	s.server.counters.messages.Add(1)
	user := m.Get(milter.MacroAuthAuthen)
	s.msg = Message{
		Sender: from, User: user,
		Authenticated: user != "" || m.Get(milter.MacroAuthType) != "",
		RequireTLS:    requireTLS(args),
	}
	return milter.RespContinue, nil
}

// requireTLS looks for the parameter of MAIL FROM, which has no value (RFC 8689 §2).
func requireTLS(args string) bool {
	for _, arg := range strings.Fields(args) {
		if strings.EqualFold(arg, "REQUIRETLS") {
			return true
		}
	}
	return false
}

func (s *session) reset() {
	s.msg, s.rcpts, s.known, s.ahead, s.forged = Message{}, nil, nil, nil, 0
}

// RcptTo refuses a recipient where that is decided already and the MTA can do it.
func (s *session) RcptTo(to, _ string, m milter.Modifier) (resp *milter.Response, err error) {
	defer s.rescue(&resp)
	if s.set == nil {
		return milter.RespTempFail, nil
	}
	s.server.counters.recipients.Add(1)
	e := envelope{address: to, host: m.Get(milter.MacroRcptHost)}
	e.mailer, e.told = m.GetEx(milter.MacroRcptMailer)
	e.told = e.told && e.mailer != ""
	h := s.set.hop(e)
	if h.local {
		s.server.counters.local.Add(1)
		return milter.RespContinue, nil
	}
	if len(s.rcpts) >= maxRecipients {
		return reply(Decision{Action: Tempfail, Code: 452, Status: "4.5.3", Text: "too many recipients"}), nil
	}
	r := recipient{address: to, hop: h}
	// The local submission of Postfix names no mailer, and tries for ever
	// again when a recipient is refused: there the message is, at its end.
	if e.told {
		if refused := s.early(&r, m); refused != nil {
			return refused, nil
		}
	}
	s.lookAhead(&r)
	s.rcpts = append(s.rcpts, r)
	return milter.RespContinue, nil
}

// lookAhead asks, once, for verdicts that nobody waits for yet: the end of the message
// may need them, and the MTA asks for them when it sends the mail on.
func (s *session) lookAhead(r *recipient) {
	if !s.set.Prefetch {
		return
	}
	for _, d := range r.hop.dests {
		if _, ok := s.known[d]; ok || s.ahead[d] {
			continue
		}
		if s.ahead == nil {
			s.ahead = make(map[nexthop.Destination]bool)
		}
		s.ahead[d] = true
		s.server.prefetch(s.set, d)
	}
}

// early decides on a recipient with what is known before the headers, and returns the
// refusal, if it is one whatever headers will come.
func (s *session) early(r *recipient, m milter.Modifier) *milter.Response {
	rules := s.set.Rules.May(&s.msg, r.address)
	rule := rules[len(rules)-1]
	r.decided = len(rules) == 1
	if rule == nil && !s.msg.DemandsTLS() {
		return nil
	}
	s.learn(m, r.hop.dests, s.set.Deadline)
	d := s.decide(r, rule)
	for _, other := range rules {
		if s.decide(r, other).Action != d.Action {
			return nil
		}
	}
	refused := d.Action == Reject || d.Action == Tempfail
	if !refused && !r.decided {
		return nil
	}
	if d.Text != "" && s.explain(r) {
		d = s.decide(r, rule)
	}
	s.record(r, rule, d, m)
	if refused {
		return reply(d)
	}
	r.decision = d
	return nil
}

// decide decides on a recipient whose verdicts are known.
func (s *session) decide(r *recipient, rule *Rule) Decision {
	w, err := s.weakest(&r.hop)
	return Decide(Question{
		Hop: r.hop.text, Rule: rule, RequireTLS: s.msg.DemandsTLS(),
		Verdict: w.verdict, Err: err, OnError: s.set.OnError,
	})
}

// explain learns why the verdict on a recipient's next hop is what it is, once for
// each destination, and reports whether it learnt anything.
func (s *session) explain(r *recipient) bool {
	w, err := s.weakest(&r.hop)
	a := s.known[w.dest]
	private := w.verdict.Waits && w.verdict.Fault != faultRemote
	if err != nil || r.hop.literal || a.explained || w.verdict.Why != "" || private {
		return false
	}
	ctx, cancel := context.WithTimeout(s.server.background, min(explainTime, s.set.Deadline))
	defer cancel()
	a.verdict.Why, a.explained = s.server.why(ctx, s.set, w.dest, a.verdict), true
	s.known[w.dest] = a
	return a.verdict.Why != ""
}

// record counts and logs what was decided about a recipient.
func (s *session) record(r *recipient, rule *Rule, d Decision, m milter.Modifier) {
	s.server.counters.count(d.Action)
	level := slog.LevelInfo
	if d.Action == Pass {
		level = slog.LevelDebug
	}
	ctx := s.server.background
	if !s.server.log.Enabled(ctx, level) {
		return
	}
	w, _ := s.weakest(&r.hop)
	ruleLine := 0
	if rule != nil {
		ruleLine = rule.Line
	}
	s.server.log.LogAttrs(ctx, level, "recipient judged", slog.String("action", d.Action.String()),
		slog.String("dest", r.hop.text), slog.String("verdict", w.verdict.Name), slog.String("source", w.verdict.Source),
		slog.Int("rule", ruleLine), slog.Bool("requiretls", s.msg.RequireTLS), slog.String("queue_id", m.Get(milter.MacroQueueId)),
		slog.String("status", d.Status), slog.String("text", d.Text))
}

// judged is a verdict and whose it is.
type judged struct {
	verdict Verdict
	dest    nexthop.Destination
}

// weakest is the weakest verdict that holds for a hop: the MTA may use any of its
// hosts.
func (s *session) weakest(h *hop) (judged, error) {
	if h.err != nil {
		return judged{}, fmt.Errorf("%w: %w", ErrNoVerdict, h.err)
	}
	var worst judged
	for i, d := range h.dests {
		a, ok := s.known[d]
		if !ok {
			return judged{}, ErrNoVerdict
		}
		switch {
		case a.err != nil:
			return judged{}, a.err
		case i == 0 || a.verdict.Level < worst.verdict.Level || a.verdict.Waits && !worst.verdict.Waits:
			worst = judged{a.verdict, d}
		}
	}
	if h.literal {
		worst.verdict = Verdict{Name: "none", Source: "none", Why: "an address literal: nothing in DNS speaks for it"}
	}
	return worst, nil
}

// Header looks at one header field.
func (s *session) Header(name, value string, _ milter.Modifier) (resp *milter.Response, err error) {
	defer s.rescue(&resp)
	if s.set != nil {
		if s.set.Header != "" && strings.EqualFold(strings.TrimSpace(name), s.set.Header) {
			s.forged++
		}
		s.set.Rules.See(&s.msg, name, value)
	}
	return milter.RespContinue, nil
}

// Abort ends a message without an end.
func (s *session) Abort(milter.Modifier) error {
	s.reset()
	return nil
}

// reply is a decision as the MTA passes it on.
func reply(d Decision) *milter.Response {
	resp, err := milter.RejectWithCodeAndReason(d.Code, d.Status+" "+d.Text)
	if err != nil {
		// The codes and texts of Decide are always taken.
		panic(err)
	}
	return resp
}
