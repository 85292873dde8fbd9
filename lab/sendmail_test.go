package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sendmail is Sendmail, with Debian's own sendmail.mc and submit.mc.
type sendmail struct{ box }

// ownMC is what the lab has in sendmail.mc besides: names, and sites of its own.
const ownMC = "define(`confDOMAIN_NAME', `mta.lab.example')dnl\n" +
	"FEATURE(`mailertable')dnl\n"

// access lets this host relay, at once; Debian's file says the same of it.
const access = `Connect:127.0.0.1	RELAY
GreetPause:127.0.0.1	0
`

// install puts contrib's lines into Debian's sendmail.mc, as docs/sendmail.md says,
// and makes sendmail.cf and submit.cf of it.
func (m sendmail) install(ctx context.Context, s setup) error {
	feature, err := contrib("sendmail/tlsverdict.m4")
	if err != nil {
		return err
	}
	if s.stock != "" {
		return m.configure(ctx, ownMC, "", map[string]string{"usr/share/tlsverdict/sendmail/tlsverdict.m4": feature})
	}
	lines := ownMC
	files := []string{"sendmail/sendmail.mc-tlsverdict"}
	if s.milter {
		files = append(files, "sendmail/sendmail.mc-milter")
	}
	for _, file := range files {
		text, err := contrib(file)
		if err != nil {
			return err
		}
		lines += text
	}
	if m.version() != "8.17" { // which has no DANE
		lines = strings.Replace(lines, "dnl define(`confDANE'", "define(`confDANE'", 1)
	}
	more := ""
	if s.name == "own" {
		more = ownRules
	}
	return m.configure(ctx, lines, more, map[string]string{"usr/share/sendmail/cf/feature/tlsverdict.m4": feature})
}

// configure puts lines above Debian's MAILER_DEFINITIONS, and more at the end, and makes
// what Sendmail reads of that.
func (m sendmail) configure(ctx context.Context, lines, more string, files map[string]string) error {
	debian, err := os.ReadFile(m.path("usr/share/sendmail/cf/debian/sendmail.mc"))
	if err != nil {
		return err
	}
	submit, err := os.ReadFile(m.path("usr/share/sendmail/cf/debian/submit.mc"))
	if err != nil {
		return err
	}
	const below = "MAILER_DEFINITIONS\n"
	// A link from an earlier setup would be written through.
	err = errors.Join(m.remove("usr/share/sendmail/cf/feature/tlsverdict.m4"), m.write(files), m.write(map[string]string{
		"etc/hosts":                 "127.0.0.1 localhost mta.lab.example\n",
		"etc/mail/sendmail.mc":      strings.Replace(string(debian), below, lines+below, 1) + more,
		"etc/mail/submit.mc":        string(submit),
		"etc/mail/access":           access,
		"etc/mail/mailertable":      ownRoutes,
		"etc/mail/m4/dialup.m4":     "",
		"etc/mail/m4/provider.m4":   "",
		"etc/mail/trusted-users":    "",
		"etc/mail/aliases":          "postmaster: root\n",
		"etc/mail/relay-domains":    "",
		"etc/mail/service.switch":   "hosts dns files\naliases files\n",
		"etc/mail/local-host-names": "mta.lab.example\n",
	}))
	if err != nil {
		return err
	}
	for _, made := range [][]string{
		{"m4", "sendmail"}, {"m4", "submit"},
	} {
		file := "/etc/mail/" + made[1]
		if out, err := m.run(ctx, "sh", "-c", made[0]+" "+file+".mc >"+file+".cf"); err != nil || out != "" {
			return fmt.Errorf("%s.mc: %w: %s", file, err, out)
		}
	}
	_, err = m.run(ctx, "sh", "-c", "cd /etc/mail && makemap hash access <access && makemap hash mailertable <mailertable && newaliases")
	return err
}

func (m sendmail) clean() error {
	return m.remove("var/spool/mqueue/*", "var/spool/mqueue-client/*", "var/lib/sendmail/host_status/*")
}

const sendmailLog = "var/log/mail.log"

// start runs Sendmail in the foreground, without a queue runner, and waits until it
// takes mail.
func (m sendmail) start(ctx context.Context, t *testing.T) {
	t.Helper()
	m.syslog(t, sendmailLog)
	m.spawn(ctx, t, "var/log/sendmail.log", "/usr/sbin/sendmail-mta", "-bD", "-L", "sm-mta")
	m.awaitSMTP(ctx, t, "var/log/sendmail.log", sendmailLog)
}

// flush goes once through both queues: of the mail server, and of local submission. A
// message that a process has not let go of yet would be passed over; mailq(1) marks it.
func (m sendmail) flush(ctx context.Context) error {
	locked := regexp.MustCompile(`(?m)^\w{14}\*`)
	var failures []error
	for _, queue := range []string{"-Am", "-Ac"} {
		err := eventually(ctx, func() bool {
			list, err := m.run(ctx, "/usr/sbin/sendmail", queue, "-bp")
			return err == nil && !locked.MatchString(list)
		})
		_, run := m.run(ctx, "/usr/sbin/sendmail", queue, "-q")
		failures = append(failures, err, run)
	}
	return errors.Join(failures...)
}

func (m sendmail) attempts(recipient string) []attempt {
	text, err := os.ReadFile(m.path(sendmailLog))
	if err != nil {
		return nil
	}
	all := readSendmailLog(string(text))
	return slices.DeleteFunc(all, func(a attempt) bool { return !strings.EqualFold(a.recipient, recipient) })
}

var ( // compiled once, never changed
	sendmailLine   = regexp.MustCompile(`(?:sendmail|sm-mta)\[(\d+)\]: (?:(\w{14,}): )?(.*)$`)
	sendmailResult = regexp.MustCompile(`^to=(\S+), .*mailer=(\w+), pri=\d+,(?: relay=(\S+?)\.?(?: \[[^]]*\])?,)? dsn=(\d)\S+, .*?stat=(.*)$`)
	sendmailTLS    = regexp.MustCompile(`^STARTTLS=client, relay=(\S+?)\.?, version=`)
	sendmailTold   = regexp.MustCompile(`^tlsverdict (.+) for (\S+) at `)
)

// sendmailProcess is what a process has logged since it began.
type sendmailProcess struct {
	encrypted map[string]bool   // hosts with TLS
	enforced  map[string]string // by message and recipient
	lines     []string          // since the last message
	message   string
}

// readSendmailLog finds the delivery attempts in a log. A process delivers one message
// after the other, over sessions that it may use again for the next.
func readSendmailLog(text string) []attempt {
	var found []attempt
	sessions := map[string]*sendmailProcess{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		f := sendmailLine.FindStringSubmatch(line)
		if f == nil {
			continue
		}
		s := sessions[f[1]]
		if s == nil {
			s = &sendmailProcess{encrypted: map[string]bool{}, enforced: map[string]string{}}
			sessions[f[1]] = s
		}
		found = append(found, s.read(f[2], f[3], line)...)
	}
	return found
}

// read takes one more line, and returns the attempts that it tells of.
func (s *sendmailProcess) read(message, text, line string) []attempt {
	if message != "" && message != s.message {
		if s.message != "" {
			s.lines = nil
		}
		s.message = message
	}
	if f := sendmailTLS.FindStringSubmatch(text); f != nil {
		s.encrypted[f[1]] = true
	}
	if f := sendmailTold.FindStringSubmatch(text); f != nil {
		s.enforced[message+f[2]] = f[1]
	}
	f := sendmailResult.FindStringSubmatch(text)
	submitted := f != nil && f[2] == "relay" && f[3] == "[127.0.0.1]" && strings.HasPrefix(f[5], "Sent")
	if f == nil || f[2] == "local" || submitted {
		if tells(text) {
			s.lines = append(s.lines, line)
		}
		return nil
	}
	var found []attempt
	for recipient := range strings.SplitSeq(f[1], ",") {
		a := attempt{recipient: strings.Trim(recipient, "<>"), status: sendmailStatus(f[4], f[5])}
		a.lines = append(s.about(a.recipient), line)
		if a.status == "sent" {
			a.said = s.protection(message+a.recipient, f[3])
		}
		found = append(found, a)
	}
	return found
}

// tells reports whether a line tells of an attempt to deliver.
func tells(text string) bool {
	for _, begins := range []string{"STARTTLS=client, relay=", "ruleset=tls_", "tlsverdict ", "SYSERR"} {
		if strings.HasPrefix(text, begins) {
			return true
		}
	}
	return false
}

// about returns the lines that are not about other recipients.
func (s *sendmailProcess) about(recipient string) []string {
	return slices.DeleteFunc(slices.Clone(s.lines), func(line string) bool {
		other := strings.Contains(line, "tlsverdict ") || strings.Contains(line, "ruleset=tls_rcpt, ")
		return other && !strings.Contains(line, recipient)
	})
}

// protection is how well a mail was protected by the log's account: authenticated
// where our rules asked for that and let it go.
func (s *sendmailProcess) protection(mail, host string) string {
	switch verdict := s.enforced[mail]; {
	case verdict == "dane-only", verdict == "dane", strings.HasPrefix(verdict, "secure"):
		return authenticated
	case verdict != "", s.encrypted[host]:
		return encrypted
	}
	return clear
}

func sendmailStatus(dsn, stat string) string {
	switch {
	case strings.HasPrefix(stat, "Sent"):
		return "sent"
	case strings.HasPrefix(stat, "Deferred"), strings.HasPrefix(stat, "queued"), dsn == "4":
		return "deferred"
	}
	return "bounced"
}

func TestReadSendmailLog(t *testing.T) {
	const text = `Nov 23 20:15:57 sm-mta[7]: STARTTLS=client, relay=mx.a.example., version=TLSv1.3, verify=OK, cipher=TLS_AES_128_GCM_SHA256, bits=128/128
Nov 23 20:15:57 sm-mta[7]: 6ANKFu8N004640: tlsverdict secure for a@a.example at mx.a.example verify OK
Nov 23 20:15:57 sm-mta[7]: 6ANKFu8N004640: to=<b@b.example>,<a@a.example>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=30018, relay=mx.a.example. [IPv6:2001:db8:100:0:0:0:0:14], dsn=2.0.0, stat=Sent (2.0.0 stored)
Nov 23 20:15:58 sm-mta[8]: ruleset=tls_server, arg1=NONE, relay=mx.c.example, reject=450 4.7.5 <c@c.example>... TLS is mandatory for c.example, and there is none with mx.c.example, verify=NONE
Nov 23 20:15:58 sm-mta[8]: 6ANKFu8N004641: to=<c@c.example>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=30018, relay=mx.c.example. [198.51.100.14], dsn=4.7.5, stat=Deferred: 450 4.7.5 <c@c.example>... TLS is mandatory
Nov 23 20:15:59 sm-mta[9]: 6ANKFu8N004642: to=<d@d.example>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=30018, relay=mx.d.example. [198.51.100.14], dsn=2.0.0, stat=Sent (ok)
Nov 23 20:15:59 sm-mta[9]: 6ANKFu8N004643: to=<e@e.example>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=30018, relay=e.example, dsn=5.1.2, stat=Host unknown (Name server: e.example: host not found)
Nov 23 20:15:59 sm-mta[9]: 6ANKFu8N004644: to=<f@f.example>, delay=00:00:00, mailer=esmtp, pri=30018, dsn=4.4.3, stat=queued
`
	var got []string
	for _, a := range readSendmailLog(text) {
		got = append(got, fmt.Sprint(a.recipient, " ", a.status, " ", a.said, " ", len(a.lines)))
	}
	want := []string{
		"b@b.example sent encrypted 2", "a@a.example sent authenticated 3", "c@c.example deferred  2",
		"d@d.example sent clear 1", "e@e.example bounced  1", "f@f.example deferred  1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// kept looks into the queues: that of local submission is asked again by itself.
func (m sendmail) kept(sender string) string {
	switch {
	case m.queued("var/spool/mqueue/hf*", sender):
		return held
	case m.queued("var/spool/mqueue-client/qf*", sender):
		return waits
	}
	return ""
}

// queued reports whether a queue has a message of a sender.
func (m sendmail) queued(pattern, sender string) bool {
	files, _ := filepath.Glob(m.path(pattern)) // the patterns are good
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), "\nS<"+sender+">\n")
	})
}

// release takes everything out of quarantine, and has it delivered.
func (m sendmail) release(ctx context.Context) error {
	_, err := m.run(ctx, "/usr/sbin/sendmail", "-Am", "-qQ", "-Q")
	return errors.Join(err, m.flush(ctx))
}

// about returns the lines about the messages of a sender. Of one that is refused
// before the sender is heard of, the log does not say whose it is.
func (m sendmail) about(sender string) []string {
	text, err := os.ReadFile(m.path(sendmailLog))
	if err != nil {
		return nil
	}
	type entry struct{ message, line string }
	var entries []entry
	senders := map[string]string{} // what was refused is logged before the sender is
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		f := sendmailLine.FindStringSubmatch(line)
		if f == nil || f[2] == "" {
			continue
		}
		if from, ok := strings.CutPrefix(f[3], "from="); ok {
			from, _, _ = strings.Cut(from, ",")
			senders[f[2]] = strings.Trim(from, "<>")
		}
		if strings.HasPrefix(f[3], "Milter") || strings.HasPrefix(f[3], "milter=") {
			entries = append(entries, entry{f[2], line})
		}
	}
	var found []string
	for _, e := range entries {
		if from, ok := senders[e.message]; !ok || from == sender {
			found = append(found, e.line)
		}
	}
	return found
}
