package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What only Sendmail does, or does otherwise than Postfix and Exim: it delivers one
// message to several next hops in one session where their MX hosts are the same; what
// failed for good makes a later refusal of tls_rcpt permanent; it takes nearly every answer
// that it does not know for "not found"; and what it makes of policyd's is written in rules.

// ownRules are an administrator's, below ours.
const ownRules = `LOCAL_TLS_RCPT
Rown-recipient.$*	$#error $@ 4.7.1 $: "450 not by these rules"
LOCAL_TLS_SERVER
R$*	$: <$&{server_name}> $1
R<mx.opportunistic.example> $*	$#error $@ 4.7.1 $: "450 not to this server"
`

// ownRoutes are the administrator's mailertable.
const ownRoutes = `aliasresolver.example	esmtp:[mx.ststesting.example]
aliastlspol.example	esmtp:[mx.danebad.example]
inqueue.example	esmtp:sts.example
proxied.example	esmtp:[mx.plain.example]:[mx.danebad.example]
`

// sendmailsOwn goes through situations that the table does not have.
func (l *lab) sendmailsOwn(t *testing.T) {
	for _, s := range slices.Concat(sendmailSessions(), sendmailRoutes(), sendmailRules()) {
		l.single(t, s)
	}
	t.Run("trailing-dot", l.trailingDot)
	t.Run("queue", l.queueRun)
	l.idleConnection(t) // no test of its own: policyd outlives it
	l.policyd.kill(t)
	l.rules(t)
}

func sendmailSessions() []situation {
	const sts = "secure by mta-sts"
	return []situation{
		{
			name: "wildcard-certificate", to: one("stscert.example"), verdict: one(sts), needs: one(authenticity),
			by: one("mx.stscert.example"), ends: everywhere(to(authenticated, "mx.stscert.example")),
		},
		{
			name: "upper-case", to: one("STSUpper.Example"), verdict: one(sts), needs: one(authenticity),
			by: one("mx.stsupper.example"), ends: everywhere(to(authenticated, "mx.stsupper.example")),
		},
		{
			name: "dane-ta", to: one("daneta.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("mx.daneta.example"), ends: byServer{"": to(authenticated, "mx.daneta.example"), "sendmail-8.17": to(encrypted, "mx.daneta.example")},
		},
		{
			name: "dane-certificate", to: one("dane301.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("mx.dane301.example"), ends: byServer{"": to(authenticated, "mx.dane301.example"), "sendmail-8.17": to(encrypted, "mx.dane301.example")},
		},
		// What fails for good beside it, or before it, must not make it fail for good.
		{
			name: "beside-a-bounce", to: []string{"nullmx.example", "stsself.example"}, verdict: []string{"none by none", sts},
			ends: everywhere(returned, waits), mayReturn: true,
		},
		{
			name: "host-without-address", to: one("stsgone.example"), verdict: one(sts),
			ends: everywhere(waits),
		},
	}
}

// sendmailRoutes are next hops that are not the recipient's domain: they are asked for.
func sendmailRoutes() []situation {
	const sts = "secure by mta-sts"
	return []situation{
		{
			name: "routed", to: one("aliasresolver.example"), verdict: one(sts), needs: one(delivery),
			by: one("mx.ststesting.example"), ends: everywhere(to(encrypted, "mx.ststesting.example")),
		},
		{
			name: "routed-to-dane", to: one("aliastlspol.example"), verdict: one(sts), needs: one(delivery), by: one("mx.danebad.example"),
			ends: byServer{"": waits, "sendmail-8.17": to(encrypted, "mx.danebad.example")},
		},
		{
			name: "routed-by-mx", to: one("inqueue.example"), verdict: one("dane-only by dane"), needs: one(delivery),
			by: one("mx.sts.example"), ends: everywhere(to(authenticated, "mx.sts.example")),
		},
		{
			name: "routed-list", to: one("proxied.example"), verdict: one("dane-only by dane"), needs: one(delivery),
			by: one("mx.plain.example"), ends: everywhere(to(clear, "mx.plain.example")),
		},
	}
}

// sendmailRules are those that an administrator's own rules refuse, and ours do not.
func sendmailRules() []situation {
	return []situation{
		{name: "own-recipient", to: one("ststesting.example"), verdict: one("none by none"), ends: everywhere(waits)},
		{name: "own-server", to: one("opportunistic.example"), verdict: one("none by none"), ends: everywhere(waits)},
	}
}

// trailingDot sends to a domain that is written with a dot at its end, which its host
// does not get to see.
func (l *lab) trailingDot(t *testing.T) {
	recipient := "trailing-dot." + l.setup.name + "@stswild.example"
	if _, err := hand(t.Context(), l.dial, letter{recipients: one(recipient + "."), header: "Subject: lab"}); err != nil {
		t.Fatal(err)
	}
	taken := func(s sighting) bool { return s.delivered && s.sni == "mx.stswild.example" }
	if err := eventually(t.Context(), func() bool {
		return slices.ContainsFunc(l.internet.host("mx.stswild.example").sightings(recipient), taken)
	}); err != nil {
		t.Error(err)
		l.reportMail(t, recipient+".", "stswild.example")
	}
}

// queueRun has one process of the queue deliver to a lax domain and a strict one,
// which have one MX host, over whatever sessions it likes.
func (l *lab) queueRun(t *testing.T) {
	var recipients []string
	for _, domain := range []string{"laxgood.example", "strictgood.example", "laxgood.example", "strictgood.example"} {
		recipient := fmt.Sprintf("queue%d.%s@%s", len(recipients), l.setup.name, domain)
		recipients = append(recipients, recipient)
		c := l.mta.command(t.Context(), l.root, "/usr/sbin/sendmail", "-Am", "-odq", "-i", "-f", "", recipient)
		c.Stdin = strings.NewReader("Subject: lab\n\nhello\n")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("sendmail: %v: %s", err, out)
		}
	}
	if err := l.program.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	const host = "good.provider.example"
	for i, recipient := range recipients {
		want := []string{to(encrypted, host), to(authenticated, host)}[i%2]
		if err := eventually(t.Context(), func() bool { return l.end(recipient) == want }); err != nil {
			t.Errorf("%s: %q, want %q", recipient, l.end(recipient), want)
		}
		if err := l.compareWitness(recipient, want); err != nil {
			t.Errorf("%s: %v", recipient, err)
		}
	}
}

// idleConnection asks twice over one connection, which policyd has closed meanwhile: a
// process of the queue that waits long between two deliveries finds it so.
func (l *lab) idleConnection(t *testing.T) {
	c := l.mta.command(t.Context(), l.root, "/usr/sbin/sendmail", "-bt")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 2 {
		fmt.Fprintln(in, "TlsVerdict_ask sts.example")
		var got string
		for lines.Scan() {
			if _, returns, ok := strings.Cut(lines.Text(), "returns:"); ok {
				got = returns
				break
			}
		}
		if want := " secure match=mx . sts . example servername=hostname"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		l.policyd.kill(t)
		l.policyd.start(t.Context(), t)
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// ruled is what the rules make of an answer.
type ruled struct {
	verify  string // of the session
	tls     string // the answer to map tls, "NOTFOUND "; one without a blank, or that begins with a digit, is sent as it is
	sts     string // the answer to map sts
	becomes string // what it begins with
}

// rules has policyd's answers, right and wrong, judged by the rules alone. The MX host
// is mx.a.example, and its certificate is for that name.
func (l *lab) rules(t *testing.T) {
	listener, err := l.mta.listen("127.0.0.1:8461")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cases := slices.Concat(enforced(), misunderstood())
	if l.withoutDANE() {
		cases = append(cases, enforcedWithoutDANE()...)
	} else {
		cases = append(cases, enforcedWithDANE()...)
	}
	says := map[string]string{}
	ask := ".D{server_name}mx.a.example\n.C{cert_altnames}mx.a.example\n"
	for i, r := range cases {
		says[fmt.Sprintf("tls case%d.example", i)], says[fmt.Sprintf("sts case%d.example", i)] = r.tls, r.sts
		ask += fmt.Sprintf("TlsVerdict <%s> case%d.example.\n", r.verify, i)
	}
	go answerAll(listener, says)
	c := l.mta.command(t.Context(), l.root, "/usr/sbin/sendmail", "-bt")
	c.Stdin = strings.NewReader(ask)
	out, err := c.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) { // an answer that is no netstring is an error of its own
		t.Fatal(err)
	}
	returned := regexp.MustCompile(`(?m)^TlsVerdict +returns: (.*)$`).FindAllStringSubmatch(string(out), -1)
	if len(returned) != len(cases) {
		t.Fatalf("%d results of %d:\n%s", len(returned), len(cases), out)
	}
	for i, r := range cases {
		if got := strings.ReplaceAll(returned[i][1], " . ", "."); !strings.HasPrefix(got+" ", r.becomes+" ") {
			t.Errorf("verify=%s, tls %q, sts %q: %q, want %q", r.verify, r.tls, r.sts, got, r.becomes)
		}
	}
}

// answerAll answers each question of each connection, until the listener is closed.
func answerAll(listener net.Listener, says map[string]string) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for {
				length, err := r.ReadString(':')
				n, bad := strconv.Atoi(strings.TrimSuffix(length, ":"))
				if err != nil || bad != nil {
					return
				}
				question := make([]byte, n+1)
				if _, err := io.ReadFull(r, question); err != nil {
					return
				}
				answer := says[string(question[:n])]
				if _, err := strconv.Atoi(answer[:min(1, len(answer))]); err != nil && strings.Contains(answer, " ") {
					answer = netstring(answer)
				}
				if io.WriteString(c, answer); answer == "" || !strings.HasSuffix(answer, ",") {
					return
				}
			}
		}()
	}
}

// How the results of the rules begin.
const (
	refuses  = "$# error $@ 4.7.5 $:" // this host is not good enough
	cannot   = "$# error $@ 4.7.0 $:" // there is no verdict, or another host is wanted
	anything = "NONE"
)

func enforced() []ruled {
	named := func(match string) string { return "OK secure match=" + match + " servername=hostname" }
	long := strings.Repeat("host.provider.example:", 30)
	return []ruled{
		{"NONE", "NOTFOUND ", "", anything},
		{"NONE", "OK none", "", anything},
		{"OK", "OK encrypt", "", "encrypt"},
		{"FAIL", "OK encrypt", "", "encrypt"},
		{"NO", "OK encrypt", "", "encrypt"},
		{"NOT", "OK encrypt", "", "encrypt"},
		{"NONE", "OK encrypt", "", refuses},
		{"CLEAR", "OK encrypt", "", refuses},
		{"TEMP", "OK encrypt", "", refuses},
		{"SOFTWARE", "OK encrypt", "", refuses},
		{"PROTOCOL", "OK encrypt", "", refuses},
		{"CONFIG", "OK encrypt", "", refuses},
		{"FAILURE", "OK encrypt", "", refuses},
		{"", "OK encrypt", "", refuses},
		{"UNHEARD_OF", "OK encrypt", "", refuses},
		{"OK", named("mx.a.example"), "", "secure"},
		{"OK", named("mx.b.example:mx.a.example:mx.c.example"), "", "secure"},
		{"OK", named(long + "mx.a.example"), "", "secure"},
		{"OK", named(".a.example"), "", "secure"},
		{"OK", named("mx.b.example:.a.example"), "", "secure"},
		{"FAIL", named("mx.a.example"), "", refuses},
		{"NONE", named("mx.a.example"), "", refuses},
		{"NO", named("mx.a.example"), "", refuses},
		{"OK", named("mx.b.example"), "", cannot},
		{"OK", named("a.example"), "", cannot},
		{"OK", named("x.a.example:mx.a.exampl"), "", cannot},
		{"OK", named("mx.a.example.org"), "", cannot},
		{"OK", named("xmx.a.example"), "", cannot},
		{"OK", named(".mx.a.example"), "", cannot},
		{"OK", named(".example"), "", cannot},
		{"OK", named("."), "", cannot},
		{"OK", named(long + "mx.b.example"), "", cannot},
	}
}

func enforcedWithDANE() []ruled {
	return []ruled{
		{"TRUSTED", "OK dane-only", "", "dane-only"},
		{"OK", "OK dane-only", "", refuses},
		{"DANE_FAIL", "OK dane-only", "", refuses},
		{"NONE", "OK dane-only", "", refuses},
		{"TRUSTED", "OK dane", "", "dane"},
		{"OK", "OK dane", "", "encrypt as by dane"},
		{"FAIL", "OK dane", "", "encrypt as by dane"},
		{"DANE_FAIL", "OK dane", "", refuses},
		{"DANE_TEMP", "OK dane", "", refuses},
		{"DANE_NOTLS", "OK dane", "", refuses},
		{"NONE", "OK dane", "", refuses},
		{"TRUSTED", "OK encrypt", "", "encrypt"},
		{"DANE_NOTLS", "OK encrypt", "", refuses},
		{"DANE_TEMP", "OK encrypt", "", refuses},
		{"TRUSTED", "OK secure match=mx.a.example servername=hostname", "", "secure by DANE"},
		{"TRUSTED", "OK secure match=mx.b.example servername=hostname", "", cannot},
		{"DANE_FAIL", "OK secure match=mx.a.example servername=hostname", "", refuses},
	}
}

func enforcedWithoutDANE() []ruled {
	const policy = "OK secure match=mx.a.example servername=hostname"
	return []ruled{
		{"FAIL", "OK dane-only", "NOTFOUND ", "encrypt instead of dane-only"},
		{"FAIL", "OK dane", "NOTFOUND ", "encrypt instead of dane"},
		{"NONE", "OK dane-only", "NOTFOUND ", refuses},
		{"NONE", "OK dane", "NOTFOUND ", refuses},
		{"OK", "OK dane-only", policy, "secure"},
		{"FAIL", "OK dane-only", policy, refuses},
		{"OK", "OK dane", "OK secure match=mx.b.example servername=hostname", cannot},
		{"OK", "OK dane-only", "TEMP later", cannot},
		{"OK", "OK dane-only", "", cannot},
		{"OK", "OK dane-only", "OK fnord", cannot},
	}
}

// misunderstood are answers that must not be taken for "no policy".
func misunderstood() []ruled {
	var all []ruled
	for _, answer := range []string{
		"TEMP later", "TIMEOUT later", "", "x,", "2:OKx", "999999999:OK ,", "9:OK encry,", "HTTP/1.1",
		"OK ", "OK fnord", "OK may", "OK encrypt now", "OK verify match=mx.a.example servername=hostname", "OK NONE x",
		"OK secure", "OK secure servername=hostname", "OK secure match=mx.a.example", "OK secure match= servername=hostname",
		"OK secure match=mx.a.example servername=hostname ciphers=high", "OK secure match=mx.a.example ciphers=high servername=hostname",
		"OK secure ciphers=high match=mx.a.example servername=hostname", "OK secure match=mx.a.example servername=other.example",
		"OK secure match=mx.a.example match=mx.b.example servername=hostname",
		"OK secure match=" + strings.Repeat("mx.a.example:", 200) + "mx.a.example servername=hostname",
		"OK fingerprint match=aa:bb servername=hostname",
	} {
		all = append(all, ruled{"OK", answer, "", cannot})
	}
	return all
}
