package milterd

import (
	"fmt"

	"github.com/d--j/go-milter"

	"tlsverdict/internal/nexthop"
)

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
