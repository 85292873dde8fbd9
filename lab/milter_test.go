package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// milterConf is the milter's configuration in the lab: one rule for each action.
const milterConf = `[process]
landlock = "on"

[log]
level = "debug"

[annotate]
header = "X-TLS-Verdict"

[[require]]
sender = "milter-reject*@sender.example"
minimum = "authenticated"
action = "reject"

[[require]]
sender = "milter-tempfail*@sender.example"
minimum = "authenticated"
action = "tempfail"

[[require]]
sender = "milter-hold*@sender.example"
minimum = "authenticated"
action = "hold"

[[require]]
sender = "milter-annotate*@sender.example"
minimum = "authenticated"
action = "annotate"

[[require]]
sender = "milter-blind*@sender.example"
minimum = "authenticated"
`

const milterLog = "var/log/milter.log"

// startMilter runs the milter, waits until it takes connections, and returns it.
func (b box) startMilter(ctx context.Context, t *testing.T) *exec.Cmd {
	t.Helper()
	if err := b.write(map[string]string{"etc/tlsverdict/milter.toml": milterConf + milterRules}); err != nil {
		t.Fatal(err)
	}
	c := b.spawn(ctx, t, milterLog, "milter", "serve", "--config", "/etc/tlsverdict/milter.toml")
	ready := false
	err := eventually(ctx, func() bool {
		conn, err := b.mta.dial("tcp", "127.0.0.1:8463")
		if ready = err == nil; ready {
			conn.Close()
		}
		return ready || !alive(c.Process.Pid)
	})
	if !ready {
		t.Fatalf("the milter does not start: %v\n%s", err, tail(b.path(milterLog), 40))
	}
	return c
}

// milterServer is a mail server that speaks to milters.
type milterServer interface {
	mailServer

	// kept is what its log says of a sender's message that no delivery was tried of:
	// held, until somebody releases it; waits, to be judged by the milter again; "" is
	// neither.
	kept(sender string) string

	// release lets go all that is held.
	release(ctx context.Context) error

	// about returns the lines of its log about the mail from a sender, those of
	// delivery attempts aside.
	about(sender string) []string
}

// petition is a message that the milter judges: a situation, and how it comes in.
type petition struct {
	situation
	local  bool   // handed to the sendmail command
	header string // a regular expression: what the message that is delivered has in its header
}

// The ends of a message that is not taken. The sender still has it: nothing is lost.
const (
	refused  = "refused 550 5.7.10"
	putOff   = "refused 451 4.7.10"
	unknown  = "refused 451 4.4.3" // no verdict can be had
	noMilter = "no milter"         // Exim speaks to none
	held     = "held"
)

const marked = `(?m)^X-TLS-Verdict: plain\.example; verdict=none; source=none; protection=none; unmet\r?$`

// petitions are the rows about the milter. The mail goes to a domain that promises
// nothing, and to one with MTA-STS.
func petitions() []petition {
	row := func(name, title string, local bool, ends, later byServer) petition {
		return petition{
			situation: situation{
				name: name, title: title, when: "milter", from: name + "@sender.example", to: []string{"plain.example", "sts.example"},
				verdict: []string{"none by none", "secure by mta-sts"}, needs: []need{delivery, authenticity},
				by: []string{"mx.plain.example", "mx.sts.example"}, ends: ends, later: later, mayReturn: true,
			},
			local: local,
		}
	}
	clear, safe := to(clear, "mx.plain.example"), to(authenticated, "mx.sts.example")
	all := []petition{
		row("milter-reject", "the milter rejects: `action = \"reject\"`", false, everywhere(refused, safe), nil),
		row("milter-tempfail", "the milter defers: `action = \"tempfail\"`", false, everywhere(putOff, safe), nil),
		row("milter-hold", "the milter holds: `action = \"hold\"`, then an operator releases it", false, everywhere(held, held), everywhere(clear, safe)),
		row("milter-annotate", "the milter marks: `action = \"annotate\"`", false, everywhere(clear, safe), nil),
		row("milter-reject-local", "handed to sendmail(1) on the host, the milter rejects", true, byServer{"": returned + "; " + returned, "sendmail": returned + "; " + safe}, nil),
		row("milter-tempfail-local", "handed to sendmail(1) on the host, the milter defers", true, byServer{"": waits + "; " + waits, "sendmail": waits + "; " + safe}, nil),
		row("milter-hold-local", "handed to sendmail(1) on the host, the milter holds, then an operator releases it", true, everywhere(held, held), everywhere(clear, safe)),
		row("milter-annotate-local", "handed to sendmail(1) on the host, the milter marks", true, everywhere(clear, safe), nil),
	}
	for i, p := range all {
		if strings.HasPrefix(p.name, "milter-annotate") {
			all[i].header = marked
		}
		all[i].ends["exim"] = noMilter
		if p.later != nil {
			all[i].later["exim"] = noMilter
		}
	}
	return all
}

// blindPetitions are those that nobody can judge: the mail server itself puts them off.
func blindPetitions() []petition {
	row := func(name, title string, ends byServer) petition {
		ends["exim"] = noMilter
		return petition{situation: situation{
			name: name, title: title, when: name, from: name + "@sender.example", to: []string{"plain.example"},
			verdict: one("none by none"), ends: ends,
		}}
	}
	return []petition{
		row("milter-blind", "policyd is down, and a rule of the milter applies", everywhere(unknown)),
		row("milter-gone", "the milter is down", byServer{"": "refused 451 4.7.1", "sendmail": "refused 451 4.3.2"}),
	}
}

// filtered goes through what the milter does.
func (l *lab) filtered(t *testing.T) {
	rows := petitions()
	receipts := make([]receipt, len(rows))
	for i, p := range rows {
		receipts[i] = l.petition(t, p)
	}
	for i, p := range rows {
		t.Run(p.name, func(t *testing.T) { l.concludePetition(t, p, receipts[i], p.ends.of(l.box)) })
	}
	if err := l.program.(milterServer).release(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, p := range rows {
		if p.later != nil {
			t.Run(p.name+"-released", func(t *testing.T) { l.concludePetition(t, p, receipts[i], p.later.of(l.box)) })
		}
	}
	l.ruled(t)
	l.blinded(t)
}

// unfiltered notes for a mail server that speaks to no milter that this is so: its own
// account of what it is built with does not have the word.
func (l *lab) unfiltered(t *testing.T) {
	if _, ok := l.program.(milterServer); ok {
		return
	}
	built, err := l.run(t.Context(), "/usr/sbin/exim4", "-bV")
	if err != nil || strings.Contains(strings.ToLower(built), "milter") {
		t.Errorf("a milter is spoken to: %v\n%s", err, built)
	}
	for _, p := range slices.Concat(petitions(), blindPetitions()) {
		l.page.note(p.name, l.box, []string{})
	}
}

// blinded kills policyd, and then the milter: what comes in meanwhile is put off.
func (l *lab) blinded(t *testing.T) {
	for i, kill := range []func(){
		func() { l.policyd.kill(t) },
		func() { l.policyd.start(t.Context(), t); killed(t, l.milter) },
	} {
		kill()
		p := blindPetitions()[i]
		t.Run(p.name, func(t *testing.T) { l.concludePetition(t, p, l.petition(t, p), p.ends.of(l.box)) })
	}
}

// petition hands a message over, with a header that somebody has forged.
func (l *lab) petition(t *testing.T, p petition) receipt {
	t.Helper()
	recipients, header := p.recipients(l.setup), "Subject: lab\nX-TLS-Verdict: forged"
	if p.local {
		if err := l.submit(t.Context(), p.from, header+"\n\nhello\n", recipients...); err != nil {
			t.Logf("%s: sendmail(1) says %v", p.name, err)
		}
		return receipt{}
	}
	r, err := hand(t.Context(), l.dial, letter{sender: p.from, recipients: recipients, header: header})
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return r
}

// concludePetition waits until a message has come to the end that is wanted, and
// compares it with what the mail hosts saw.
func (l *lab) concludePetition(t *testing.T, p petition, r receipt, want string) {
	t.Helper()
	server := l.program.(milterServer)
	recipients := p.recipients(l.setup)
	var got string
	_ = eventually(t.Context(), func() bool {
		var ends []string
		for i, recipient := range recipients {
			ends = append(ends, l.endOfPetition(p, r, i, recipient))
		}
		got = strings.Join(ends, "; ")
		return got == want
	})
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for i, end := range strings.Split(got, "; ") {
		if err := errors.Join(p.permits(l.box, i, end), l.compareWitness(recipients[i], end), l.compareHeader(p, recipients[i])); err != nil {
			t.Errorf("%s: %v", recipients[i], err)
		}
	}
	if want == p.ends.of(l.box) {
		if strings.HasPrefix(want, "refused") { // answered first, logged then
			_ = eventually(t.Context(), func() bool { return len(server.about(p.from)) > 0 })
		}
		l.page.note(p.name, l.box, append(server.about(p.from), l.lines(recipients)...))
	}
	if t.Failed() {
		t.Logf("answered: %+v\nlog:\n  %s\nmilter:\n%s", r, strings.Join(server.about(p.from), "\n  "), tail(l.path(milterLog), 20))
		l.reportMail(t, recipients[0], p.to[0])
	}
}

// endOfPetition is what has become of a message for one recipient: what was answered,
// else what the log says.
func (l *lab) endOfPetition(p petition, r receipt, i int, recipient string) string {
	server := l.program.(milterServer)
	answer := r.mail
	if i < len(r.rcpt) {
		answer = r.rcpt[i]
	}
	if !p.local && answer != "" && answer[0] != '2' {
		words := strings.Fields(answer)
		return "refused " + words[0] + " " + words[1]
	}
	switch end := l.end(recipient); end {
	case "":
		return server.kept(p.from)
	case returned:
		if !l.bounced(p.from) {
			return "returned, and the sender has heard nothing yet"
		}
		return end
	default:
		return end
	}
}

// bounced reports whether a sender got his mail back, with the milter's reason.
func (l *lab) bounced(sender string) bool {
	return slices.ContainsFunc(l.internet.host("mx.sender.example").sightings(sender), func(s sighting) bool {
		return s.delivered && strings.Contains(s.message, "5.7.10")
	})
}

// compareHeader compares the message that was delivered with a row.
func (l *lab) compareHeader(p petition, recipient string) error {
	for _, h := range l.internet.hosts {
		for _, s := range h.sightings(recipient) {
			switch {
			case !s.delivered:
			case strings.Contains(s.message, "forged"):
				return fmt.Errorf("a forged header was delivered to %s", h.name)
			case !regexp.MustCompile(p.header).MatchString(s.message):
				return fmt.Errorf("what was delivered to %s does not match %q:\n%s", h.name, p.header, s.message)
			}
		}
	}
	return nil
}
