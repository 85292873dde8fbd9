package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab is one mail server on its own internet.
type lab struct {
	box
	program  mailServer
	net      namespace
	internet *internet
	ca       authorities
	dns      nameServers
	liar     *liar
	setup    setup // the one that runs
	web      *policyHosts
	webUp    *http.Server    // the policy hosts that are up
	hanging  net.Listener    // those that are not, but seem so
	hung     <-chan net.Conn // connections to them
	policyd  *policyd
	milter   *exec.Cmd // where a setup has one
	page     *page     // that all labs write
	attacks  *page     // the same, of those that are attacked
}

// TestLab runs every outcome against every mail server, several at once.
func TestLab(t *testing.T) {
	if os.Getenv("TLSVERDICT_LAB") != "1" {
		t.Log("real mail servers are not tested here: TLSVERDICT_LAB=1 is not set. make test sets it; it needs root, on Debian")
		return
	}
	shell, setupOfShell, _ := strings.Cut(os.Getenv("TLSVERDICT_LAB_SHELL"), "/")
	site, boxes := setUp(t, shell)
	if shell != "" {
		b := boxes[0]
		if setupOfShell == "attacks" {
			b.label = "-attacks"
		}
		newLab(t, site, b).shell(t, setupOfShell)
		return
	}
	t.Cleanup(func() { site.page.compare(t); site.attacks.compare(t) }) // when all mail servers are through
	for _, b := range boxes {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			var shared *lab
			for _, s := range b.setups() {
				if shared == nil && !s.alone {
					shared = newLab(t, site, b)
				}
				t.Run(s.name, func(t *testing.T) {
					l := shared
					if s.alone {
						t.Parallel()
						l = newLab(t, site, box{name: b.name, label: "-" + s.name, root: b.root})
					}
					l.start(t, s)
					s.acts(l, t)
				})
			}
		})
	}
}

// site is what all labs of a run share.
type site struct {
	dir      string // ours alone
	programs string // the directory of our own ones
	page     *page  // docs/mta-outcomes.md
	attacks  *page  // docs/attacks.md
}

// setUp removes what dead runs left, has lab/setup make the roots, and builds our
// programs. A version that is not empty is the only one wanted.
func setUp(t *testing.T, version string) (site, []box) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("the lab needs root, for network namespaces and chroots: run make test as root, or leave TLSVERDICT_LAB unset")
	}
	roots, err := rootsOf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	boxes := slices.DeleteFunc(roots, func(b box) bool {
		return newMailServer(b) == nil || version != "" && version != b.version()
	})
	if len(boxes) == 0 {
		t.Fatalf("no mail server here has the version %q", version)
	}
	if err := removeStale(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d", prefix, os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := site{dir: dir, programs: filepath.Join(dir, "bin"), page: newOutcomes(), attacks: newAttacks()}
	if err := errors.Join(build(t.Context(), s.programs), dependOnSources("..")); err != nil {
		t.Fatal(err)
	}
	return s, boxes
}

// rootsOf has lab/setup make the roots of these names, or all, and returns them:
// they are kept for the next run, and not to be changed.
func rootsOf(ctx context.Context, names ...string) ([]box, error) {
	out, err := command(ctx, append([]string{"./setup"}, names...)...)
	if err != nil {
		return nil, err
	}
	var roots []box
	for line := range strings.Lines(out) {
		name, root, _ := strings.Cut(strings.TrimSpace(line), " ")
		roots = append(roots, box{name: name, root: root})
	}
	return roots, nil
}

// command runs a program of this machine and returns what it prints.
func command(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

// newLab copies a root, and brings one mail server's internet up, until the test ends.
// Of the machine it only installs our programs: start runs everything.
func newLab(t *testing.T, s site, kept box) *lab {
	t.Helper()
	ctx := t.Context()
	b := kept
	b.root = filepath.Join(s.dir, kept.name+kept.label)
	if _, err := command(ctx, "cp", "-a", kept.root, b.root); err != nil {
		t.Fatal(err)
	}
	l := &lab{box: b, page: s.page, attacks: s.attacks}
	var err error
	if l.ca, err = newAuthorities(); err != nil {
		t.Fatal(err)
	}
	if l.internet, err = b.surroundings(l.ca); err != nil {
		t.Fatal(err)
	}
	l.mta, l.net, err = newNamespaces(ctx, b.name+b.label)
	t.Cleanup(func() { l.removeNamespaces(t) })
	if err != nil {
		t.Fatal(err)
	}
	l.serveMail(t)
	l.dns = nameServers{root: b.root, dir: "/srv/dns"}
	l.program = newMailServer(l.box)
	l.policyd = &policyd{box: l.box}
	err = errors.Join(l.dns.sign(ctx, l.internet), l.dns.configure(l.internet),
		l.write(map[string]string{"etc/ssl/certs/ca-certificates.crt": l.ca.trusted.pem()}),
		l.installPrograms(s.programs))
	if err != nil {
		t.Fatal(err)
	}
	l.dns.start(ctx, t, l.net)
	l.liar = startLiar(t, l.net, lying, provider)
	return l
}

func (l *lab) removeNamespaces(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's own is over
	defer cancel()
	if err := errors.Join(l.mta.remove(ctx), l.net.remove(ctx)); err != nil {
		t.Error(err)
	}
}

func (l *lab) serveMail(t *testing.T) {
	t.Helper()
	for _, h := range l.internet.hosts {
		for _, address := range []string{h.ipv4(), h.ipv6()} {
			if h.described != "down" {
				go h.serve(l.listen(t, address, "25"))
			}
			if h.implicit {
				go h.serve(l.listen(t, address, "26"))
			}
		}
	}
}

func (l *lab) servePolicies(t *testing.T) {
	t.Helper()
	l.web = &policyHosts{ca: l.ca.trusted, policies: l.internet.policies}
	l.webUp = l.web.serve(l.listen(t, policyServer, "443"))
	l.hanging = l.listen(t, policyHanging, "443")
	l.hung = hang(l.hanging)
}

// listen waits until the address is free: a listener of an earlier setup that is
// closed goes when its Accept has returned.
func (l *lab) listen(t *testing.T, address, port string) net.Listener {
	t.Helper()
	var listener net.Listener
	var err error
	waited := eventually(t.Context(), func() bool {
		listener, err = l.net.listen(net.JoinHostPort(address, port))
		return !errors.Is(err, syscall.EADDRINUSE)
	})
	if err != nil {
		t.Fatal(err, waited)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// dane tries the outcomes that DNSSEC decides.
func (l *lab) dane(t *testing.T) { l.batch(t, l.rows(calmDANE())) }

// everything goes through three acts: calm, attack and outage.
func (l *lab) everything(t *testing.T) {
	l.batch(t, l.rows(calm()))
	for _, domain := range slices.Sorted(maps.Keys(explained(l.setup))) {
		t.Run("explain-"+domain, func(t *testing.T) {
			text := l.policyd.explain(t.Context(), domain)
			t.Log("\n" + text)
			for _, w := range explained(l.setup)[domain] {
				if !strings.Contains(text, w) {
					t.Errorf("the explanation lacks %q", w)
				}
			}
			if domain == "dane.example" && !l.setup.prints {
				asInREADME(t, text)
			}
		})
	}

	l.webUp.Close()
	l.policyd.kill(t)
	l.policyd.start(t.Context(), t)
	for _, name := range strippedHosts() {
		l.internet.host(name).become("cleartext")
	}
	l.batch(t, l.rows(attacked()))

	l.outage(t)
}

// outage kills policyd while it works for one mail, sends another while it is
// down, starts it again, and expects both to be delivered.
func (l *lab) outage(t *testing.T) {
	after := l.rows(outage())
	before := slices.Clone(after)
	for i := range before {
		before[i].status, before[i].log, before[i].reply, before[i].host = "deferred", `4\.[37]\.\d`, "", ""
	}
	drain(l.hung)
	l.send(t, before[0])
	select {
	case <-l.hung:
	case <-time.After(patience):
		t.Error("policyd does not ask the policy host that hangs")
	}
	l.policyd.kill(t)
	l.check(t, before[0])
	l.batch(t, before[1:])

	// The policy hosts are well again.
	l.hanging.Close()
	for c := range l.hung {
		c.Close()
	}
	l.web.serve(l.listen(t, policyHanging, "443"))
	l.policyd.start(t.Context(), t)
	if err := l.program.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, o := range after {
		l.waitFor(t, o, 2)
		t.Run(o.name+"-delivered-after-restart", func(t *testing.T) { l.judge(t, o) })
	}
}

// drain forgets what is waiting in a channel.
func drain(c <-chan net.Conn) {
	for {
		select {
		case conn := <-c:
			conn.Close()
		default:
			return
		}
	}
}

// rows returns rows as they must come out in the setup that runs.
func (l *lab) rows(rows []outcome) []outcome {
	out := slices.Clone(rows)
	for i, o := range out {
		out[i] = o.in(l.setup, l.internet)
	}
	return out
}

// batch sends the mails of all rows at once, then judges one after another.
func (l *lab) batch(t *testing.T, rows []outcome) {
	t.Helper()
	l.send(t, rows...)
	for _, o := range rows {
		l.check(t, o)
	}
}

func (l *lab) send(t *testing.T, rows ...outcome) {
	t.Helper()
	var recipients []string
	for _, o := range rows {
		recipients = append(recipients, o.recipient())
	}
	if err := sendMail(t.Context(), l.dial, recipients...); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) check(t *testing.T, o outcome) {
	t.Run(o.name, func(t *testing.T) {
		l.waitFor(t, o, 1)
		l.judge(t, o)
	})
}

// waitFor waits until the mail server has logged so many attempts to deliver a row.
func (l *lab) waitFor(t *testing.T, o outcome, attempts int) {
	t.Helper()
	err := eventually(t.Context(), func() bool { return len(l.program.attempts(o.recipient())) >= attempts })
	if err != nil {
		l.report(t, o)
		t.Fatalf("%s has not tried to deliver: %v", l.name, err)
	}
}

// judge compares what the three witnesses say with a row.
func (l *lab) judge(t *testing.T, o outcome) {
	t.Helper()
	attempts := l.program.attempts(o.recipient())
	last := attempts[len(attempts)-1]
	want := o.log
	if o.log310 != "" && l.version() != "3.7" {
		want = o.log310
	}
	if last.status != o.status {
		t.Errorf("%s says %s, want %s", l.name, last.status, o.status)
	}
	if !regexp.MustCompile(want).MatchString(strings.Join(last.lines, "\n")) {
		t.Errorf("the log of %s does not match %q", l.name, want)
	}
	l.judgeHosts(t, o)
	if o.reply != "" {
		reply, err := l.policyd.query(t.Context(), "postfix", o.question())
		if err != nil || reply != o.reply {
			t.Errorf("policyd says %q (%v), want %q", reply, err, o.reply)
		}
	}
	if t.Failed() {
		l.report(t, o)
	}
}

// judgeHosts compares what all mail hosts saw with a row: a mail that is not
// sent must not even show its recipient to anybody.
func (l *lab) judgeHosts(t *testing.T, o outcome) {
	t.Helper()
	var takers []string
	for _, h := range l.internet.hosts {
		for _, s := range h.sightings(o.recipient()) {
			if s.delivered {
				takers = append(takers, h.name+" "+s.how())
			} else if o.status != "sent" {
				t.Errorf("%s was told the recipient (%s)", h.name, s.how())
			}
		}
	}
	var want []string
	if o.status == "sent" {
		want = []string{o.host + " " + o.how}
		if o.how == "sni" {
			want[0] += "=" + o.host
		}
	}
	if !slices.Equal(takers, want) {
		t.Errorf("the mail was taken by %q, want %q", takers, want)
	}
}

// how says how well a mail was protected, in the words of outcome.how.
func (s sighting) how() string {
	switch {
	case s.version < tls.VersionTLS12:
		return "clear"
	case s.sni == "":
		return "tls"
	}
	return "sni=" + s.sni
}

// recipient returns the address that only this row's mail in this setup goes to.
func (o outcome) recipient() string { return o.name + "." + o.setup + "@" + o.to }

// question returns the key that Postfix asks policyd.
func (o outcome) question() string {
	if o.key != "" {
		return o.key
	}
	return o.to
}

// report logs all that is known about a row.
func (l *lab) report(t *testing.T, o outcome) {
	t.Helper()
	domain := strings.ToLower(strings.TrimPrefix(o.question(), "[mx."))
	domain, _, _ = strings.Cut(domain, "]")
	l.reportMail(t, o.recipient(), domain)
}

// reportMail logs all that is known about the mail to a recipient.
func (l *lab) reportMail(t *testing.T, recipient, domain string) {
	t.Helper()
	var b strings.Builder
	for i, a := range l.program.attempts(recipient) {
		fmt.Fprintf(&b, "%s, attempt %d:\n  %s\n", l.name, i+1, strings.Join(a.lines, "\n  "))
	}
	fmt.Fprintf(&b, "policyd, about %s:\n", domain)
	lines := slices.Collect(strings.Lines(l.policyd.said()))
	lines = slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(strings.ToLower(line), domain) })
	fmt.Fprintf(&b, "  %s", strings.Join(lines[:min(20, len(lines))], "  ")) // polling makes many
	for _, h := range l.internet.hosts {
		if strings.HasSuffix(h.name, domain) {
			fmt.Fprintf(&b, "host:\n  %s\n", strings.Join(h.transcript(), "\n  "))
		}
	}
	for _, request := range l.web.transcript() {
		if strings.Contains(request, domain) {
			fmt.Fprintf(&b, "asked for: https://%s\n", request)
		}
	}
	t.Log("\n" + b.String())
}

// shell runs the program's arguments, or bash, where policyd runs in a setup; ""
// is the first. lab/shell starts it.
func (l *lab) shell(t *testing.T, name string) {
	i := slices.IndexFunc(l.setups(), func(s setup) bool { return name == "" || s.name == name })
	if i < 0 {
		t.Fatalf("no such setup as %q", name)
	}
	l.start(t, l.setups()[i])
	// The shell gets the terminal's interrupts; this process only must not die.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	args := flag.Args()
	if len(args) == 0 {
		args = []string{"bash", "--norc", "-i"}
		fmt.Printf("%s and policyd are running, setup %s. The domains are those of lab/testdata/internet.txtar.\n"+
			"Try: policyd explain dane.example; ls /var/log; dig mx.dane.example. Leave with exit.\n", l.name, l.setup.name)
	}
	c := l.mta.command(t.Context(), l.root, args...)
	c.Env = append(c.Env, "PS1=lab \\w # ")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		t.Log(err)
	}
}
