package lab

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// newcomer is an administrator with a fresh Debian and Postfix, on the lab's internet.
// What it does is what docs/packaging.md says, word for word.
type newcomer struct {
	install
	lab *lab
}

// newcomerToml is what only the lab's internet needs: its root is not the world's, and
// its addresses are not public.
const newcomerToml = `[dns]
trust_anchors = "/etc/tlsverdict/lab.ds"

[mta_sts]
allow_networks = ["198.51.100.0/24", "2001:db8:100::/64"]
`

func newNewcomer(t *testing.T, s site, p *packages, kept box) newcomer {
	t.Helper()
	roots, err := rootsOf(t.Context(), "postfix-3.7") // for its name servers
	if err != nil {
		t.Fatal(err)
	}
	s.page, s.attacks = newOutcomes(), newAttacks()
	if err := build(t.Context(), filepath.Join(s.dir, "bin")); err != nil {
		t.Fatal(err)
	}
	s.programs = filepath.Join(s.dir, "bin")
	around := roots[0]
	around.label = "-newcomer"
	l := newLab(t, s, around)
	l.servePolicies(t)
	b := kept
	b.root, b.mta = filepath.Join(s.dir, kept.name+kept.label), l.mta
	if _, err := command(t.Context(), "cp", "-a", kept.root, b.root); err != nil {
		t.Fatal(err)
	}
	anchor, err := readAnchor(l)
	if err == nil {
		err = b.write(map[string]string{
			"etc/resolv.conf":                   "nameserver " + provider + "\n",
			"etc/ssl/certs/ca-certificates.crt": l.ca.trusted.pem(),
			"etc/tlsverdict/policyd.toml":       newcomerToml,
			"etc/tlsverdict/lab.ds":             anchor,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return newcomer{install: install{machine: b.boot(t), packages: p}, lab: l}
}

func readAnchor(l *lab) (string, error) {
	text := tail(l.path("srv/dns/anchor.ds"), 100)
	if !strings.Contains(text, "DS") {
		return "", errors.New("the lab's root has no anchor: " + text)
	}
	return text, nil
}

func (n newcomer) all(t *testing.T) {
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"installs", func(t *testing.T) { n.apt(t, olderVersion, "policyd"); n.active(t, policydService); n.answers(t) }},
		{"asks-the-doctor", n.doctor},
		{"pastes", n.paste},
		{"sees-it-verified", n.verified},
		{"by-the-socket", n.socket},
		{"is-well", n.well},
		{"upgrades", n.upgrade},
	} {
		if !t.Run(step.name, step.run) {
			t.Fatal(n.journal(t))
		}
	}
}

// doctor finds that Postfix does not ask yet, and says what would mend it.
func (n newcomer) doctor(t *testing.T) {
	out, err := n.run(t.Context(), "tlsverdict-policyd", "doctor")
	t.Log("\n" + out)
	if err == nil {
		t.Error("the doctor finds nothing on a machine that is not set up")
	}
	if !strings.Contains(out, "smtp_tls_policy_maps") {
		t.Error("the doctor does not say that Postfix does not ask")
	}
}

// paste runs what snippet prints as commands, all of it.
func (n newcomer) paste(t *testing.T) {
	text := n.must(t, "tlsverdict-policyd", "snippet", "postfix", "--commands")
	t.Log("\n" + text)
	n.must(t, "sh", "-ec", text)
}

// verified sends mail to a domain with DANE and one with MTA-STS.
func (n newcomer) verified(t *testing.T) {
	n.delivered(t, "newcomer@dane.example", "mx.dane.example")
	n.delivered(t, "newcomer@sts.example", "mx.sts.example")
}

// delivered sends a mail, and expects the log to say that it went over verified TLS.
func (n newcomer) delivered(t *testing.T, recipient, host string) {
	t.Helper()
	if err := sendMail(t.Context(), func() (net.Conn, error) { return n.mta.dial("tcp", "127.0.0.1:25") }, recipient); err != nil {
		t.Fatal(err)
	}
	n.until(t, "to=<"+recipient+">", "journalctl", "--no-pager", "-o", "cat", "_COMM=smtp")
	log := n.must(t, "journalctl", "--no-pager", "-o", "cat", "_COMM=smtp")
	if !regexp.MustCompile(`Verified TLS connection established to ` + regexp.QuoteMeta(host)).MatchString(log) {
		t.Errorf("no verified connection to %s:\n%s", host, log)
	}
	if !regexp.MustCompile(`to=<` + regexp.QuoteMeta(recipient) + `>.*status=sent`).MatchString(log) {
		t.Errorf("%s did not get the mail:\n%s", recipient, log)
	}
	for line := range strings.Lines(log) {
		t.Log(strings.TrimSpace(line))
	}
}

// socket has Postfix ask over the socket in its queue directory: smtp(8) as Debian set
// it up, in its chroot.
func (n newcomer) socket(t *testing.T) {
	n.must(t, "postconf", "-e", "smtp_tls_policy_maps = socketmap:unix:tlsverdict/policyd.sock:postfix")
	n.must(t, "postfix", "reload")
	n.delivered(t, "socket@dane.example", "mx.dane.example")
	if out := n.must(t, "postconf", "-F", "smtp/unix/chroot"); !strings.Contains(out, "chroot = y") {
		t.Errorf("smtp(8) has no chroot: %s", out)
	}
}

// well: the doctor has no errors any more.
func (n newcomer) well(t *testing.T) {
	out, _ := n.run(t.Context(), "tlsverdict-policyd", "doctor")
	t.Log("\n" + out)
	if regexp.MustCompile(`(?mi)^\s*error\b`).MatchString(out) {
		t.Error("the doctor finds errors on a machine where mail is verified")
	}
}

// upgrade: the policy that was learned is there still, though nobody has it any more.
func (n newcomer) upgrade(t *testing.T) {
	if err := n.lab.webUp.Close(); err != nil {
		t.Fatal(err)
	}
	n.apt(t, newerVersion, "policyd")
	out := n.must(t, "tlsverdict-policyd", "query", "postfix", "sts.example")
	if want := "secure match=mx.sts.example servername=hostname"; strings.TrimSpace(out) != want {
		t.Errorf("after an upgrade policyd says %q, want %q", out, want)
	}
	n.until(t, fmt.Sprintf("dest=%s verdict=secure", "sts.example"), "journalctl", "--no-pager", "-o", "cat", "-u", policydService)
}
