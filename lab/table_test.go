package lab

import (
	"crypto/tls"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// longest is the longest that a mail server waits for policyd before it gives up:
// Postfix waits for 100 seconds, and that cannot be configured.
const longest = 100*time.Second + patience

// table goes through every situation: while all is well, while STARTTLS is
// stripped, while policyd is down, while it hangs.
func (l *lab) table(t *testing.T) {
	l.awaitPolicy(t, "stsdanebad.example")
	l.act(t, "calm")
	if !l.begunWithTLS() {
		l.act(t, "implicit")
	}

	for _, name := range strippedHosts() {
		l.internet.host(name).become("cleartext")
	}
	l.act(t, "stripped")
	for _, name := range strippedHosts() {
		l.internet.host(name).become("starttls")
	}
	l.again(t, "stripped")

	l.policyd.kill(t)
	l.act(t, "down")
	if !l.begunWithTLS() {
		l.act(t, "implicit-down")
	}
	l.policyd.start(t.Context(), t)
	l.again(t, "down")
	if !l.begunWithTLS() {
		l.again(t, "implicit-down")
	}

	l.policyd.freeze(t)
	l.act(t, "hung")
	l.policyd.thaw(t)
	l.again(t, "hung")

	l.requireTLS(t)
	l.sweep(t)
	l.unfiltered(t)
}

// awaitPolicy waits until policyd knows a domain's MTA-STS policy. Where DANE decides,
// nobody waits for that, and Sendmail 8.17, which has only MTA-STS, is told of it when
// it is there.
func (l *lab) awaitPolicy(t *testing.T, domain string) {
	t.Helper()
	var reply string
	if err := eventually(t.Context(), func() bool {
		reply, _ = l.policyd.query(t.Context(), "sts", domain)
		return strings.HasPrefix(reply, "OK secure")
	}); err != nil {
		t.Fatalf("the map sts says %q of %s", reply, domain)
	}
}

// requireTLS asks for REQUIRETLS: who would take that and then not keep it would lose
// what the sender asked for.
func (l *lab) requireTLS(t *testing.T) {
	s := requireTLS()
	r, err := hand(t.Context(), l.dial, letter{parameters: "REQUIRETLS", recipients: s.recipients(l.setup), header: "Subject: lab"})
	got := "refused " + regexp.MustCompile(`^\d{3}( \d\.\d+\.\d+)?`).FindString(r.mail)
	if want := s.ends.of(l.box); err != nil || got != want {
		t.Errorf("REQUIRETLS: %q, want %q (%+v, %v)", got, want, r, err)
	}
	l.page.note(s.name, l.box, []string{})
}

// some goes through a few situations, where a configuration differs from the one of
// the table only in how it was put together.
func (l *lab) some(t *testing.T) {
	l.act(t, "calm", "dane-good", "sts-good", "sts-wrong-name", "encrypt-only", "encrypt-only-clear", "plain", "null-mx")
	l.policyd.kill(t)
	l.act(t, "down", "dane-down")
	l.policyd.start(t.Context(), t)
	l.again(t, "down", "dane-down")
}

// act sends the mails of all situations of an act, or of those named, and judges what
// becomes of them.
func (l *lab) act(t *testing.T, when string, names ...string) {
	t.Helper()
	l.actOut(t, during(when, names))
}

// actOut sends the mails of situations, and judges what becomes of them.
func (l *lab) actOut(t *testing.T, rows []situation) {
	t.Helper()
	refusals := map[string]string{}
	for _, s := range rows {
		receipt, err := hand(t.Context(), l.dial, letter{recipients: s.recipients(l.setup), header: "Subject: lab"})
		if err != nil || len(receipt.rcpt) == 0 {
			t.Fatalf("%s takes no mail: %+v, %v", l.name, receipt, err)
		}
		if !strings.HasPrefix(receipt.data, "250") {
			refusals[s.name] = "refused " + strings.Join(strings.Fields(receipt.rcpt[0])[:2], " ")
		}
	}
	for _, s := range rows {
		t.Run(s.name, func(t *testing.T) {
			if refusals[s.name] != "" {
				l.concludeRefused(t, s, refusals[s.name])
				return
			}
			l.conclude(t, s, s.ends.of(l.box), func(end string) bool { return end != "" })
			if !strings.HasSuffix(s.when, "down") && s.when != "hung" {
				l.compareVerdict(t, s)
			}
		})
	}
}

// concludeRefused judges a message that was not taken: the log need not have it.
func (l *lab) concludeRefused(t *testing.T, s situation, end string) {
	t.Helper()
	if want := s.ends.of(l.box); end != want {
		t.Errorf("%q, want %q", end, want)
	}
	for i := range s.to {
		if err := s.permits(l.box, i, end); err != nil {
			t.Errorf("UNSAFE: %v", err)
		}
	}
	if l.setup.shown {
		l.page.note(s.name, l.box, []string{})
	}
}

// again has the queue tried again when an act is over, and judges what becomes of
// what waited.
func (l *lab) again(t *testing.T, when string, names ...string) {
	t.Helper()
	if err := l.program.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range during(when, names) {
		if s.later.of(l.box) != "" {
			t.Run(s.name+"-later", func(t *testing.T) {
				l.conclude(t, s, s.later.of(l.box), func(end string) bool { return end != "" && end != waits })
				l.compareVerdict(t, s)
			})
		}
	}
}

// during returns the situations of an act: those named, or all.
func during(when string, names []string) []situation {
	return slices.DeleteFunc(situations(), func(s situation) bool {
		return s.when != when || names != nil && !slices.Contains(names, s.name)
	})
}

func (s situation) recipients(in setup) []string {
	var all []string
	for _, domain := range s.to {
		all = append(all, s.name+"."+in.name+"@"+domain)
	}
	return all
}

// conclude waits until every recipient's mail has come to an end, and compares the
// ends with those wanted; the verdict's own demand is checked besides, whatever is
// wanted.
func (l *lab) conclude(t *testing.T, s situation, want string, over func(end string) bool) {
	t.Helper()
	var ends []string
	for i, recipient := range s.recipients(l.setup) {
		var end string
		_ = within(t.Context(), longest, func() bool {
			end = l.end(recipient)
			return over(end)
		})
		ends = append(ends, end)
		if end == "" {
			t.Errorf("%s has not tried to deliver to %s", l.name, recipient)
		} else if err := s.permits(l.box, i, end); err != nil {
			t.Errorf("UNSAFE: %s: %v", recipient, err)
		}
		if err := l.compareWitness(recipient, end); err != nil {
			t.Errorf("%s: %v", recipient, err)
		}
	}
	if l.setup.shown && want == s.ends.of(l.box) {
		l.page.note(s.name, l.box, l.lines(s.recipients(l.setup)))
	}
	got := strings.Join(ends, "; ")
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if t.Failed() {
		l.tell(t, s)
	}
}

// lines returns what the mail server has logged of its last attempts to deliver.
func (l *lab) lines(recipients []string) []string {
	var all []string
	for _, recipient := range recipients {
		if attempts := l.program.attempts(recipient); len(attempts) > 0 {
			all = append(all, attempts[len(attempts)-1].lines...)
		}
	}
	return all
}

// end returns what has become of the mail to a recipient by the mail server's own
// account: "" while it has none.
func (l *lab) end(recipient string) string {
	attempts := l.program.attempts(recipient)
	if len(attempts) == 0 {
		return ""
	}
	switch last := attempts[len(attempts)-1]; last.status {
	case "sent":
		for _, h := range l.internet.hosts {
			for _, s := range h.sightings(recipient) {
				if s.delivered {
					return to(last.said, strings.TrimSuffix(h.name+":"+s.port, ":25"))
				}
			}
		}
		return to(last.said, "nobody")
	case "deferred":
		return waits
	case "bounced":
		return returned
	default:
		return last.status
	}
}

// compareWitness compares an end with what the mail hosts saw: whoever did not get
// the mail must not even have been told the recipient, if not to say "later".
func (l *lab) compareWitness(recipient, end string) error {
	protection, host, taken := taker(strings.TrimSuffix(end, ":26"))
	deliveries := 0
	for _, h := range l.internet.hosts {
		for _, s := range h.sightings(recipient) {
			switch {
			case !s.delivered && (!taken || h.name != host) && h.behaves() != "tempfail":
				return fmt.Errorf("%s was told the recipient", h.name)
			case !s.delivered:
				continue
			case s.version < tls.VersionTLS12 && protection != clear, s.version >= tls.VersionTLS12 && protection == clear:
				return fmt.Errorf("%s was given the mail with TLS version %#x, and the log says %q", h.name, s.version, protection)
			case protection == authenticated && !l.internet.proper(h):
				return fmt.Errorf("the log says %q, and %s has a certificate that nobody should believe", protection, h.name)
			}
			deliveries++
		}
	}
	if want := map[bool]int{true: 1}[taken]; deliveries != want {
		return fmt.Errorf("delivered %d times, and the log says %q", deliveries, end)
	}
	return nil
}

// taker takes the end of a mail that somebody took apart.
func taker(end string) (protection, host string, taken bool) {
	protection, host, _ = strings.Cut(end, " ")
	return protection, host, slices.Contains([]string{clear, encrypted, authenticated}, protection)
}

// proper reports whether a host's certificate proves who it is: by a public CA, or by
// a TLSA record.
func (in *internet) proper(h *mailHost) bool {
	if h.kind == "trusted" || h.kind == "wildcard" {
		return true
	}
	for _, z := range in.zones {
		for _, record := range z.records {
			if f := strings.Fields(record); z.signed && len(f) == 7 && f[1] == "TLSA" && f[5] == "OF" && f[6] == h.name && (f[2] == "2" || f[2] == "3") {
				return true
			}
		}
	}
	return false
}

// compareVerdict compares what policyd says with a row.
func (l *lab) compareVerdict(t *testing.T, s situation) {
	t.Helper()
	for i, domain := range s.to {
		reply, err := l.policyd.query(t.Context(), "verdict", domain)
		want := "OK " + strings.Replace(s.verdict[i], " by ", " source=", 1)
		if err != nil || reply != want && !strings.HasPrefix(reply, want+" ") {
			t.Errorf("policyd says %q (%v) of %s, want %q", reply, err, domain, want)
		}
	}
}

// sweep looks at all mails once more at the end: what was right when it was judged
// must not have gone wrong since.
func (l *lab) sweep(t *testing.T) {
	for _, s := range situations() {
		if strings.HasPrefix(s.when, "implicit") && l.begunWithTLS() {
			continue
		}
		for i, recipient := range s.recipients(l.setup) {
			end := l.end(recipient)
			if end == "" && s.when == "requiretls" {
				end = "refused 5"
			}
			if err := s.permits(l.box, i, end); err != nil {
				t.Errorf("UNSAFE: %s, in the end: %v", recipient, err)
			}
			if err := l.compareWitness(recipient, end); err != nil {
				t.Errorf("%s, in the end: %v", recipient, err)
			}
		}
	}
}

// tell logs all that is known about a situation.
func (l *lab) tell(t *testing.T, s situation) {
	t.Helper()
	for i, recipient := range s.recipients(l.setup) {
		l.reportMail(t, recipient, s.to[i])
	}
}
