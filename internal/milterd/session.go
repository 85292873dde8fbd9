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

// learn asks for the destinations that are not known yet, all at once, for a time.
func (s *session) learn(m milter.Modifier, dests []nexthop.Destination, patience time.Duration) {
	var missing []nexthop.Destination
	for _, d := range dests {
		if _, ok := s.known[d]; !ok {
			if s.known == nil {
				s.known = make(map[nexthop.Destination]answer)
			}
			s.known[d] = answer{err: ErrNoVerdict}
			missing = append(missing, d)
		}
	}
	if len(missing) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(s.server.background, patience)
	defer cancel()
	progress := time.NewTicker(progressTime)
	defer progress.Stop()
	answers := s.askAll(ctx, missing)
	for waiting := len(missing); waiting > 0; {
		select {
		case a := <-answers:
			waiting--
			s.known[a.dest] = a.answer
			if a.err != nil {
				s.unknown(a.dest, a.err)
			}
		case <-ctx.Done():
			// Whoever asks may be slower to give up than it should.
			s.unknown(missing[0], context.Cause(ctx))
			return
		case <-progress.C:
			// An older MTA does not know the word; it waits, or does not.
			_ = m.Progress()
		}
	}
}

// unknown counts and tells that a destination has no verdict.
func (s *session) unknown(d nexthop.Destination, err error) {
	s.server.counters.unknown.Add(1)
	s.server.seldom.Do(func() { s.server.log.Warn("no verdict can be had", "dest", d.String(), "error", err) })
}

type answered struct {
	dest nexthop.Destination
	answer
}

// askAll asks for each destination; the channel gets as many answers.
func (s *session) askAll(ctx context.Context, dests []nexthop.Destination) <-chan answered {
	answers := make(chan answered, len(dests))
	queue := make(chan nexthop.Destination, len(dests))
	for _, d := range dests {
		queue <- d
	}
	close(queue)
	set := s.set
	work := func() {
		for d := range queue {
			v, err := s.server.ask(ctx, set, d)
			answers <- answered{d, answer{verdict: v, err: err}}
		}
	}
	for range min(len(dests), maxAsking) {
		if !s.server.spawn(work) {
			for d := range queue {
				answers <- answered{d, answer{err: ErrNoVerdict}}
			}
		}
	}
	return answers
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

// EndOfMessage decides on what is left, and writes the header.
func (s *session) EndOfMessage(m milter.Modifier) (resp *milter.Response, err error) {
	defer s.rescue(&resp)
	defer s.reset()
	if s.set == nil {
		return milter.RespTempFail, nil
	}
	s.msg.Complete = true
	s.learn(m, s.needed(), s.set.Deadline)
	d := s.atEnd(m)
	switch d.Action {
	case Reject, Tempfail:
		return reply(d), nil
	case Hold:
		if refused := s.hold(m, d); refused != nil {
			return refused, nil
		}
	case Pass, Annotate:
	}
	s.annotate(m)
	return milter.RespAccept, nil
}

// open returns the rule for a recipient, and whether he is to be decided on at the end.
func (s *session) open(r *recipient) (*Rule, bool) {
	rule := s.set.Rules.Match(&s.msg, r.address)
	return rule, !r.decided && (rule != nil || s.msg.DemandsTLS())
}

// needed lists the destinations that the decisions at the end rest on.
func (s *session) needed() []nexthop.Destination {
	var all []nexthop.Destination
	for i := range s.rcpts {
		if _, open := s.open(&s.rcpts[i]); open {
			all = append(all, s.rcpts[i].hop.dests...)
		}
	}
	return all
}

// atEnd decides on the recipients that are undecided, and on the message. One that
// must be refused refuses all: SMTP has one answer for a message.
func (s *session) atEnd(m milter.Modifier) Decision {
	if worst := s.settle(); worst != nil && worst.decision.Text != "" && s.explain(worst) {
		// One reason is told, that of the answer: others with the same next hop
		// have it too.
		s.settle()
	}
	ds := make([]Decision, len(s.rcpts))
	for i := range s.rcpts {
		r := &s.rcpts[i]
		if rule, open := s.open(r); open {
			s.record(r, rule, r.decision, m)
		}
		ds[i] = r.decision
	}
	return Worst(ds)
}

// settle decides on the recipients that are undecided, and returns the first of whom
// most is prevented; nil if nothing is.
func (s *session) settle() *recipient {
	var worst *recipient
	for i := range s.rcpts {
		r := &s.rcpts[i]
		if rule, open := s.open(r); open {
			r.decision = s.decide(r, rule)
		}
		if r.decision.Action != Pass && (worst == nil || r.decision.Action > worst.decision.Action) {
			worst = r
		}
	}
	return worst
}

// hold puts the message on hold. An MTA that cannot is told to have the sender try
// again: what must not leave must not be accepted.
func (s *session) hold(m milter.Modifier, d Decision) *milter.Response {
	err := m.Quarantine(d.Text)
	if err == nil {
		return nil
	}
	s.server.seldom.Do(func() {
		s.server.log.Warn("the MTA cannot do what a rule asks for", "action", Hold.String(), "error", err)
	})
	d.Action, d.Code, d.Status = Tempfail, 451, "4.7.10"
	return reply(d)
}

// annotate removes headers that pretend to be ours, and writes ours.
func (s *session) annotate(m milter.Modifier) {
	if s.set.Header == "" {
		return
	}
	// From the last to the first: MTAs differ in whether one that was removed counts.
	for i := s.forged; i > 0; i-- {
		if err := m.ChangeHeader(i, s.set.Header, ""); err != nil {
			s.server.seldom.Do(func() {
				s.server.log.Warn("the MTA cannot do what a rule asks for", "action", "remove a header", "error", err)
			})
			return
		}
		s.server.counters.forged.Add(1)
	}
	var all []nexthop.Destination
	for i := range s.rcpts[:min(len(s.rcpts), maxAnnotations)] {
		all = append(all, s.rcpts[i].hop.dests...)
	}
	s.learn(m, all, min(s.set.Deadline, annotateTime))
	told := make(map[string]bool)
	for i := range s.rcpts {
		r := &s.rcpts[i]
		text := s.annotation(r)
		if told[text] || len(told) == maxAnnotations {
			continue
		}
		told[text] = true
		if err := m.AddHeader(s.set.Header, text); err != nil {
			s.server.seldom.Do(func() {
				s.server.log.Warn("the MTA cannot do what a rule asks for", "action", "add a header", "error", err)
			})
			return
		}
	}
}

// annotation is the value of the header for a recipient's next hop.
func (s *session) annotation(r *recipient) string {
	text := r.hop.text
	if w, err := s.weakest(&r.hop); err != nil {
		text += "; verdict=unknown"
	} else {
		text += fmt.Sprintf("; verdict=%s; source=%s; protection=%s", w.verdict.Name, w.verdict.Source, w.verdict.Level)
	}
	if s.msg.RequireTLS {
		text += "; requiretls"
	}
	if s.msg.TLSOptional() {
		text += "; tls-required=no"
	}
	if r.decision.Action == Annotate || r.decision.Action == Hold {
		text += "; unmet"
	}
	return line("%s", text)
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
