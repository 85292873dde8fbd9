package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// postfix is Postfix.
type postfix struct{ box }

// mainCF is what the lab adds to contrib's lines: names, paths, patience, and
// otherTransports.
const mainCF = `compatibility_level = 3.6
maillog_file = /var/log/mail.log
myhostname = mta.lab.example
mydestination =
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
alias_maps =
default_database_type = texthash
transport_maps = texthash:/etc/postfix/transport
minimal_backoff_time = 3600s
queue_run_delay = 3600s
smtp_address_preference = ipv4
# Every host has two addresses: with the default of 2, one that answers 451
# would use up all sessions before the next host is tried.
smtp_mx_session_limit = 4
proxy_read_maps = $local_recipient_maps proxy:socketmap:unix:/run/tlsverdict/policyd.sock:postfix

`

// otherTransports are smtp(8) with other ways to ask. The first two are as the
// users of two existing daemons have it configured, with their ports and map
// names; %s is QUERY or QUERYwithTLSRPT. The others reach a unix socket from
// within Debian's chroot: under the queue directory, or through proxymap(8),
// which is not chrooted.
const otherTransports = `resolver unix - - y - - smtp
 -o smtp_tls_policy_maps=socketmap:inet:127.0.0.1:8461:postfix
tlspol unix - - y - - smtp
 -o smtp_tls_policy_maps=socketmap:inet:127.0.0.1:8642:%s
inqueue unix - - y - - smtp
 -o smtp_tls_policy_maps=socketmap:unix:private/tlsverdict:postfix
proxied unix - - y - - smtp
 -o smtp_tls_policy_maps=proxy:socketmap:unix:/run/tlsverdict/policyd.sock:postfix
`

const transportMap = `aliasresolver.example resolver:
aliastlspol.example tlspol:
inqueue.example inqueue:
proxied.example proxied:
routed.example smtp:[mx.dane.example]:25
`

// install makes main.cf and master.cf of contrib's files and of what is the lab's
// own, and writes the transport map.
func (p postfix) install(_ context.Context, s setup) error {
	if s.stock != "" {
		return p.installStock()
	}
	files := []string{"postfix/main.cf-chrooted"}
	if s.unchrooted {
		files = []string{"postfix/main.cf-unchrooted"}
	}
	policies, alias := "postfix", "QUERY"
	if p.version() != "3.7" {
		policies, alias = "postfix-tlsrpt", "QUERYwithTLSRPT"
		files = append(files, "postfix/main.cf-tlsrpt")
	}
	if s.milter {
		files = append(files, "postfix/main.cf-milter")
	}
	if s.implicit {
		files = append(files, "postfix/main.cf-implicit-tls")
	}
	main := mainCF
	for _, file := range files {
		text, err := contrib(file)
		if err != nil {
			return err
		}
		if s.tlsrpt {
			text = strings.ReplaceAll(text, "\n#smtp_tlsrpt_", "\nsmtp_tlsrpt_")
		}
		main = withSettings(main, text)
	}
	dist, err := os.ReadFile(p.path("usr/share/postfix/master.cf.dist"))
	if err != nil {
		return err
	}
	master := string(dist) + fmt.Sprintf(otherTransports, alias)
	if s.implicit {
		master += services(main)
	}
	if s.unchrooted {
		main = otherMap(main, "socketmap:unix:/run/tlsverdict/policyd.sock:", policies)
		master = unchrooted(master)
	}
	ca, err := os.ReadFile(p.path("etc/ssl/certs/ca-certificates.crt"))
	if err != nil {
		return err
	}
	return p.write(map[string]string{
		"etc/postfix/main.cf":             main,
		"etc/postfix/master.cf":           master,
		"etc/postfix/transport":           transportMap,
		"etc/pki/tls/certs/ca-bundle.crt": string(ca), // where systems that do not chroot have it
	})
}

// withSettings puts a file of contrib below a main.cf, as who follows its words
// does: what it sets stands nowhere else.
func withSettings(main, file string) string {
	set := map[string]bool{}
	for line := range strings.Lines(file) {
		if name, _, ok := strings.Cut(line, " = "); ok && !strings.HasPrefix(line, "#") {
			set[name] = true
		}
	}
	var b strings.Builder
	for line := range strings.Lines(main) {
		if name, _, ok := strings.Cut(line, " = "); !ok || !set[name] {
			b.WriteString(line)
		}
	}
	return b.String() + file
}

// services returns the lines for master.cf that a file for main.cf has in comments, at
// its end.
func services(main string) string {
	_, lines, _ := strings.Cut(main, "master.cf, without the \"#\"; the fifth column as that of smtp:\n")
	return strings.ReplaceAll("\n"+lines, "\n#", "\n")
}

// otherMap takes that one of the maps of a file which is commented out and begins
// so, in the place of the one that is not.
func otherMap(main, begins, name string) string {
	const parameter = "smtp_tls_policy_maps = "
	var b strings.Builder
	for line := range strings.Lines(main) {
		if strings.HasPrefix(line, "#"+parameter+begins) {
			b.WriteString(parameter + begins + name + "\n")
		} else if !strings.HasPrefix(line, parameter) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// unchrooted takes every service of a master.cf out of the chroot.
func unchrooted(master string) string {
	service := regexp.MustCompile(`(?m)^(\S+\s+(?:inet|unix|fifo|pass|unix-dgram)\s+\S+\s+\S+\s+)[-yn]`)
	return service.ReplaceAllString(master, "${1}n")
}

func (p postfix) clean() error {
	return p.remove("var/spool/postfix/incoming/*", "var/spool/postfix/active/*", "var/spool/postfix/defer*/*")
}

// start runs Postfix in the foreground and waits until it takes mail.
func (p postfix) start(ctx context.Context, t *testing.T) {
	t.Helper()
	p.spawn(ctx, t, "var/log/master.log", "/usr/lib/postfix/sbin/master", "-d")
	p.awaitSMTP(ctx, t, "var/log/master.log", postfixLog)
}

const postfixLog = "var/log/mail.log"

func (p postfix) flush(ctx context.Context) error {
	_, err := p.run(ctx, "postqueue", "-f")
	return err
}

func (p postfix) attempts(recipient string) []attempt {
	text, err := os.ReadFile(p.path(postfixLog))
	if err != nil {
		return nil
	}
	all := readLog(string(text))
	return slices.DeleteFunc(all, func(a attempt) bool { return !strings.EqualFold(a.recipient, recipient) })
}

// sendMail hands each recipient a message of its own over one connection, with
// the null sender: nothing shall come back.
func sendMail(ctx context.Context, dial func() (net.Conn, error), recipients ...string) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	client, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	defer client.Close()
	for _, r := range recipients {
		if err := sendOne(client, r); err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
	}
	return client.Quit()
}

func sendOne(client *smtp.Client, recipient string) error {
	if err := client.Mail(""); err != nil {
		return err
	}
	if err := client.Rcpt(recipient); err != nil {
		return err
	}
	body, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(body, "Subject: lab\r\n\r\nhello\r\n"); err != nil {
		return err
	}
	return body.Close()
}

// kept finds what cleanup(8) says. What it puts off of a local submission stays in
// maildrop, and pickup(8) takes it from there again.
func (p postfix) kept(sender string) string {
	for _, line := range slices.Backward(p.about(sender)) {
		switch {
		case strings.Contains(line, "milter-hold: END-OF-MESSAGE"):
			return held
		case strings.Contains(line, "milter-reject: END-OF-MESSAGE from localhost[127.0.0.1]: 4"):
			return waits
		}
	}
	return ""
}

func (p postfix) release(ctx context.Context) error {
	_, err := p.run(ctx, "postsuper", "-H", "ALL")
	return errors.Join(err, p.flush(ctx))
}

// about finds the lines of cleanup(8), smtpd(8) and pickup(8) by the queue ids of the
// sender's messages, and by his name.
func (p postfix) about(sender string) []string {
	text, err := os.ReadFile(p.path(postfixLog))
	if err != nil {
		return nil
	}
	ours := map[string]bool{}
	var lines []string
	for line := range strings.Lines(string(text)) {
		m := logLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		id, _, _ := strings.Cut(m[2], ":")
		if strings.Contains(line, "from=<"+sender+">") || strings.Contains(line, "from "+sender) {
			ours[id] = id != "NOQUEUE"
		} else if !ours[id] {
			continue
		}
		if strings.Contains(m[2], ": milter-") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

var ( // compiled once, never changed
	logLine    = regexp.MustCompile(`postfix(?:/[\w-]+)*\[(\d+)\]: (.*)$`)
	statusLine = regexp.MustCompile(`^[0-9A-Za-z]+: to=<([^>]*)>.* status=(\w+)`)
)

// readLog finds the delivery attempts in a log. A delivery agent handles one
// message at a time and its TLS lines carry no queue id, so its lines are
// gathered by process until a status line names the recipient.
func readLog(text string) []attempt {
	var found []attempt
	pending := map[string][]string{}
	for line := range strings.Lines(text) {
		m := logLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		pid := m[1]
		pending[pid] = append(pending[pid], strings.TrimSpace(line))
		if s := statusLine.FindStringSubmatch(m[2]); s != nil {
			id, _, _ := strings.Cut(m[2], ":")
			lines := slices.DeleteFunc(pending[pid], func(line string) bool { return ofAnother(line, id) })
			found = append(found, attempt{recipient: s[1], status: s[2], said: postfixSaid(s[2], lines), lines: lines})
			pending[pid] = nil
		}
	}
	return found
}

// ofAnother reports whether a line is about another message than that with a queue
// id, or says nothing but its name: cleanup(8), which may bounce, has such lines too.
func ofAnother(line, id string) bool {
	of := regexp.MustCompile(`\]: ([0-9A-F]+): `).FindStringSubmatch(line)
	return of != nil && of[1] != id || strings.Contains(line, ": message-id=")
}

// postfixSaid reads how well an attempt was protected off its last line about TLS.
// "Verified" is said where the policy asked for a certificate and got it; "Trusted"
// where nobody asked.
func postfixSaid(status string, lines []string) string {
	if status != "sent" {
		return ""
	}
	for _, line := range slices.Backward(lines) {
		switch {
		case strings.Contains(line, "Verified TLS connection established"):
			return authenticated
		case strings.Contains(line, " TLS connection established"):
			return encrypted
		}
	}
	return clear
}

func TestReadLog(t *testing.T) {
	const text = `Nov 23 13:12:01 mta postfix/smtp[7]: Verified TLS connection established to mx.a.example[198.51.100.11]:25: TLSv1.3
Nov 23 13:12:01 mta postfix/smtp[8]: 4B1: to=<b@b.example>, relay=none, delay=0, dsn=4.7.5, status=deferred (no)
Nov 23 13:12:01 mta postfix/smtp[7]: 4B2: to=<a@a.example>, relay=mx.a.example[198.51.100.11]:25, dsn=2.0.0, status=sent (250 ok)
Nov 23 13:12:02 mta postfix/qmgr[9]: 4B2: removed
Nov 23 13:12:03 mta postfix/tlspol/smtp[7]: 4B3: to=<c@c.example>, relay=none, dsn=5.1.0, status=bounced (null)
`
	got := readLog(text)
	if len(got) != 3 {
		t.Fatalf("%d attempts, want 3: %+v", len(got), got)
	}
	for i, want := range []struct {
		recipient, status, said string
		lines                   int
	}{{"b@b.example", "deferred", "", 1}, {"a@a.example", "sent", authenticated, 2}, {"c@c.example", "bounced", "", 1}} {
		if a := got[i]; a.recipient != want.recipient || a.status != want.status || a.said != want.said || len(a.lines) != want.lines {
			t.Errorf("attempt %d = %+v, want %+v", i, a, want)
		}
	}
}
