package milterd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d--j/go-milter"

	"tlsverdict/internal/nexthop"
)

// oracle answers by a table: "secure mta-sts"; what it does not have is none.
type oracle struct {
	mu      sync.Mutex
	answers map[string]string
	asked   map[string]int
	// hold, when not nil, keeps answers back until it is closed.
	hold chan struct{}
	// explained counts the questions for reasons, to which unexplained gives no answer.
	explained   int
	unexplained bool
}

func (o *oracle) Ask(ctx context.Context, d nexthop.Destination) (Verdict, error) {
	o.mu.Lock()
	text, ok := o.answers[d.String()]
	if o.asked == nil {
		o.asked = make(map[string]int)
	}
	o.asked[d.String()]++
	hold := o.hold
	o.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return Verdict{}, ctx.Err()
		}
	}
	switch text {
	case "down":
		return Verdict{}, ErrNoVerdict
	case "panic":
		panic("a defect")
	}
	if !ok {
		text = "none none"
	}
	verdict, source, _ := strings.Cut(text, " ")
	return NewVerdict(verdict, source)
}

func (o *oracle) Warm(ctx context.Context, d nexthop.Destination) error {
	_, err := o.Ask(ctx, d)
	return err
}

func (o *oracle) Why(ctx context.Context, d nexthop.Destination, _ Verdict) string {
	o.mu.Lock()
	o.explained++
	silent, defect := o.unexplained, strings.HasPrefix(d.Name, "odd.")
	o.mu.Unlock()
	switch {
	case defect:
		panic("a defect")
	case silent:
		<-ctx.Done()
		return ""
	}
	return d.Name + ": because (RFC 8461 §2)"
}

func (o *oracle) times(dest string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[dest]
}

// internet is what the oracle of most tests knows.
func internet() *oracle {
	return &oracle{answers: map[string]string{
		"dane.example": "dane-only dane", "sts.example": "secure mta-sts", "encrypt.example": "encrypt dane",
		"some.example": "dane dane", "bogus.example": "defer none", "down.example": "down", "[relay.example]:587": "secure mta-sts",
		"relay-a.example": "dane-only dane", "relay-b.example": "encrypt dane", "broken.example": "panic",
	}}
}

func settings(t testing.TB, o Asker, action Action) *Settings {
	return &Settings{
		Rules:    Rules{{Line: 7, Sender: pattern(t, "*@legal.example.com"), Recipient: pattern(t, "*"), Minimum: Authenticated, Action: action}},
		Asker:    o,
		Deadline: 10 * time.Second, LocalMailers: map[string]bool{"local": true}, LocalDomains: map[string]bool{"here.example": true},
	}
}

// mta is a mail server that talks to a milter.
type mta struct {
	t      *testing.T
	server *Server
	bag    *milter.MacroBag
	*milter.ClientSession
}

func serve(t *testing.T, set *Settings) (*Server, net.Listener) {
	t.Helper()
	l := listen(t)
	s := New(Options{Settings: set, MaxConnections: 2000, Log: quiet()})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, l
}

func connect(t *testing.T, l net.Listener, options ...milter.Option) *mta {
	t.Helper()
	bag := milter.NewMacroBag()
	c, err := milter.NewClient("tcp", l.Addr().String(), options...).Session(bag)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	m := &mta{t: t, bag: bag, ClientSession: c}
	m.expect("continue")(c.Conn("client.example", milter.FamilyInet, 4000, "192.0.2.1"))
	m.expect("continue")(c.Helo("client.example"))
	return m
}

func start(t *testing.T, set *Settings, options ...milter.Option) *mta {
	s, l := serve(t, set)
	m := connect(t, l, options...)
	m.server = s
	return m
}

// words is an answer as a test writes it: "continue", or the reply.
func words(a *milter.Action, err error) string {
	switch {
	case err != nil:
		return "error: " + err.Error()
	case a.Type == milter.ActionRejectWithCode || a.Type == milter.ActionTempFail || a.Type == milter.ActionReject:
		return a.SMTPReply
	}
	return strings.ToLower(a.String())
}

func (m *mta) expect(prefix string) func(*milter.Action, error) {
	return func(a *milter.Action, err error) {
		m.t.Helper()
		if got := words(a, err); !strings.HasPrefix(got, prefix) {
			m.t.Fatalf("the milter says %q, want %q", got, prefix)
		}
	}
}

func (m *mta) mail(from, args string) {
	m.t.Helper()
	m.expect("continue")(m.Mail(from, args))
}

// rcpt sends one recipient; an empty mailer is an MTA that does not say.
func (m *mta) rcpt(to, mailer, host, want string) {
	m.t.Helper()
	m.bag.Set(milter.MacroRcptMailer, mailer)
	m.bag.Set(milter.MacroRcptHost, host)
	m.expect(want)(m.Rcpt(to, ""))
}

// end sends headers and the end of the message.
func (m *mta) end(want string, headers ...string) []milter.ModifyAction {
	m.t.Helper()
	m.expect("continue")(m.DataStart())
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		m.expect("continue")(m.HeaderField(name, value, nil))
	}
	m.expect("continue")(m.HeaderEnd())
	mods, a, err := m.BodyReadFrom(strings.NewReader("text\r\n"))
	m.expect(want)(a, err)
	return mods
}

// TestSessionRefusals: each recipient gets its own answer.
func TestSessionRefusals(t *testing.T) {
	m := start(t, settings(t, internet(), Reject))
	m.mail("a@legal.example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
	m.rcpt("b@dane.example", "smtp", "dane.example", "continue")
	m.rcpt("b@plain.example", "smtp", "plain.example", "550 5.7.10 mail to plain.example must not leave here without TLS to a server that proves who it is: "+
		"it promises no TLS; plain.example: because (RFC 8461 section 2)")
	m.rcpt("b@encrypt.example", "smtp", "encrypt.example", "550 5.7.10 mail to encrypt.example must not leave here")
	m.rcpt("b@some.example", "smtp", "some.example", "550 5.7.10 mail to some.example must not leave here without TLS to a server that proves who it is: only some of its hosts")
	m.rcpt("b@bogus.example", "smtp", "bogus.example", "451 4.4.3 mail to bogus.example")
	m.rcpt("b@down.example", "smtp", "down.example", "451 4.4.3 mail to down.example")
	m.rcpt("b@broken.example", "smtp", "broken.example", "451 4.4.3 mail to broken.example")
	m.rcpt("b@[192.0.2.9]", "smtp", "[192.0.2.9]", "550 5.7.10 mail to [192.0.2.9]")
	m.rcpt("root", "local", "here.example", "continue")
	if mods := m.end("accept"); len(mods) != 0 {
		t.Errorf("modifications: %v", mods)
	}
	// Another sender, on the same connection.
	m.mail("a@example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
	m.end("accept")
	if c := &m.server.counters; c.rejected.Load() != 4 || c.tempfailed.Load() != 3 || c.local.Load() != 1 || c.panics.Load() != 1 || c.messages.Load() != 2 {
		t.Errorf("rejected %d tempfailed %d local %d panics %d", c.rejected.Load(), c.tempfailed.Load(), c.local.Load(), c.panics.Load())
	}
	m.server.LogCounters()
}

// TestSessionActions: the other actions, and what the message gets.
func TestSessionActions(t *testing.T) {
	for action, want := range map[Action]string{Tempfail: "451 4.7.10", Hold: "continue", Annotate: "continue"} {
		t.Run(action.String(), func(t *testing.T) {
			set := settings(t, internet(), action)
			set.Header = "X-TLS-Verdict"
			m := start(t, set)
			m.mail("a@legal.example.com", "")
			m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
			m.rcpt("b@plain.example", "smtp", "plain.example", want)
			var got []string
			for _, mod := range m.end("accept", "Subject: x", "x-tls-verdict: forged", "X-TLS-Verdict: forged too") {
				got = append(got, mod.String())
			}
			want := []string{
				`ChangeHeader 2 "X-TLS-Verdict" ""`, `ChangeHeader 1 "X-TLS-Verdict" ""`,
				`AddHeader "X-TLS-Verdict" "sts.example; verdict=secure; source=mta-sts; protection=authenticated"`,
			}
			if action != Tempfail {
				want = append(want, `AddHeader "X-TLS-Verdict" "plain.example; verdict=none; source=none; protection=none; unmet"`)
			}
			if action == Hold {
				want = slices.Insert(want, 0, `Quarantine "mail to plain.example must not leave here without TLS to a server that proves who it is: it promises no TLS; plain.example: because (RFC 8461 section 2)"`)
			}
			if !slices.Equal(got, want) {
				t.Errorf("modifications:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestSessionWithoutActions: an MTA that cannot hold defers, and one that cannot
// remove headers gets none beside the forged ones.
func TestSessionWithoutActions(t *testing.T) {
	set := settings(t, internet(), Hold)
	set.Header = "X-TLS-Verdict"
	m := start(t, set, milter.WithActions(milter.OptAddHeader), milter.WithMaximumVersion(2), milter.WithProtocols(milter.OptNoBody))
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
	m.end("451 4.7.10")
	m.mail("a@example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
	if mods := m.end("accept", "X-TLS-Verdict: forged"); len(mods) != 0 {
		t.Errorf("modifications: %v", mods)
	}
}

// TestSessionLocalSubmission: an MTA that names no mailer gets no refusal of a
// recipient, but one of the message at its end.
func TestSessionLocalSubmission(t *testing.T) {
	m := start(t, settings(t, internet(), Reject))
	m.mail("a@legal.example.com", "")
	for _, to := range []string{"b@plain.example", "b@sts.example", "b@bogus.example", "root", "b@here.example", "b@other.example"} {
		m.rcpt(to, "", "", "continue")
	}
	m.end("550 5.7.10 mail to plain.example must not leave here without TLS to a server that proves who it is: it promises no TLS; " +
		"plain.example: because (RFC 8461 section 2) (and 1 more)")
	m.mail("a@legal.example.com", "")
	m.rcpt("root", "", "", "continue")
	m.rcpt("b@here.example", "", "", "continue")
	m.rcpt("b@sts.example", "", "", "continue")
	m.end("accept")
}

// TestSessionNextHop: what the MTA will use is judged, not what the sender wrote.
func TestSessionNextHop(t *testing.T) {
	m := start(t, settings(t, internet(), Reject))
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "relay", "[relay.example]:587", "continue")
	m.rcpt("b@sts.example", "smtp", "[other.example]", "550 5.7.10 mail to sts.example by way of [other.example] must not leave here")
	m.rcpt("b@STS.example", "esmtp", "sts.example.", "continue")
	m.rcpt("b@sts.example", "esmtp", "[192.0.2.1]", "550 5.7.10 mail to sts.example by way of [192.0.2.1]")
	m.rcpt("b@x.example", "smtp", "relay-a.example, relay-b.example", "550 5.7.10")
	m.rcpt("b@x.example", "esmtp", "relay-a.example.:sts.example.", "continue")
	m.rcpt("b@x.example", "smtp", "a..b", "451 4.4.3")
	m.rcpt("b@sts.example", "LOCAL", "", "continue")
	m.end("accept")
}

// TestSessionHeaders: rules that look at headers are decided at the end.
func TestSessionHeaders(t *testing.T) {
	o := internet()
	set := settings(t, o, Reject)
	all := pattern(t, "*")
	set.Rules = Rules{{Sender: all, Recipient: all, SubjectTag: "[secure]", Minimum: ByDANE, Action: Reject}}
	set.Prefetch = true
	m := start(t, set)
	m.mail("a@example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
	m.rcpt("b@dane.example", "smtp", "dane.example", "continue")
	m.end("550 5.7.10 mail to sts.example must not leave here without TLS to a server that proves by DANE who it is", "Subject: [Secure] x")
	m.mail("a@example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
	m.end("accept", "Subject: not so")
	if o.times("sts.example") == 0 {
		t.Error("nothing was asked for ahead")
	}
}

// TestSessionForegone: a recipient that is refused whatever headers come is refused at
// RCPT; one for whom a header makes a difference is not.
func TestSessionForegone(t *testing.T) {
	o := internet()
	set := settings(t, o, Reject)
	all := pattern(t, "*")
	set.Rules = Rules{
		{Line: 1, Sender: all, Recipient: all, SubjectTag: "[secure]", Minimum: ByDANE, Action: Reject},
		{Line: 2, Sender: pattern(t, "*@legal.example.com"), Recipient: all, Minimum: Authenticated, Action: Reject},
	}
	m := start(t, set)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "550 5.7.10 mail to plain.example must not leave here without TLS to a server that proves who it is: it promises no TLS; plain.example: because")
	m.rcpt("b@bogus.example", "smtp", "bogus.example", "451 4.4.3")
	m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
	m.rcpt("b@dane.example", "smtp", "dane.example", "continue")
	m.end("550 5.7.10 mail to sts.example must not leave here without TLS to a server that proves by DANE who it is", "Subject: [secure] x")
	m.mail("a@legal.example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
	m.end("accept", "Subject: x")
	// Where it is a header only that a rule is for, nothing is waited for at RCPT.
	asked := o.times("none.example")
	m.mail("a@example.com", "")
	m.rcpt("b@none.example", "smtp", "none.example", "continue")
	if o.times("none.example") != asked {
		t.Error("a verdict was waited for that may not be needed")
	}
	m.end("accept", "Subject: x")
	// A rule that holds instead makes a difference.
	set2 := *set
	set2.Rules = Rules{set.Rules[0], set.Rules[1]}
	set2.Rules[0].Action = Hold
	m.server.SetSettings(&set2)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
	mods := m.end("accept", "Subject: [secure]")
	if len(mods) != 1 || mods[0].Type != milter.ActionQuarantine {
		t.Errorf("modifications: %v", mods)
	}
}

// TestSessionLogins: rules for who logged in, and as whom, by the MTA's own word.
func TestSessionLogins(t *testing.T) {
	set := settings(t, internet(), Reject)
	all := pattern(t, "*")
	set.Rules = Rules{
		{Line: 1, Sender: all, Recipient: all, Login: LoggedIn, User: "Legal-*", Minimum: ByDANE, Action: Reject},
		{Line: 2, Sender: all, Recipient: all, Login: LoggedIn, Minimum: Encrypted, Action: Tempfail},
	}
	m := start(t, set)
	for _, tc := range []struct{ kind, user, want string }{
		{"PLAIN", "legal-7", "550 5.7.10"},
		{"", "LEGAL-", "550 5.7.10"},
		{"PLAIN", "illegal-7", "451 4.7.10"},
		{"EXTERNAL", "", "451 4.7.10"},
		{"", "", "continue"},
	} {
		m.bag.Set(milter.MacroAuthType, tc.kind)
		m.bag.Set(milter.MacroAuthAuthen, tc.user)
		m.mail("a@example.com", "")
		m.rcpt("b@plain.example", "smtp", "plain.example", tc.want)
		m.end("accept")
	}
}

// TestSessionPrefetch: the verdicts of all mail that leaves are asked for ahead of time,
// also where no rule looks at it, each once a message; or of none.
func TestSessionPrefetch(t *testing.T) {
	for prefetch, want := range map[bool]int{true: 1, false: 0} {
		o := internet()
		set := settings(t, o, Reject)
		set.Prefetch = prefetch
		m := start(t, set)
		m.mail("a@example.com", "")
		for range 3 {
			m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
		}
		m.rcpt("root", "local", "", "continue")
		m.end("accept")
		if !within(5*time.Second, func() bool { return o.times("plain.example") == want }) {
			t.Errorf("prefetch %v: asked %d times", prefetch, o.times("plain.example"))
		}
		// What is asked for at once is not asked for ahead.
		m.mail("a@legal.example.com", "")
		m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
		m.end("accept")
		if n := m.server.counters.prefetched.Load(); n != uint64(want) {
			t.Errorf("prefetch %v: %d asked for ahead", prefetch, n)
		}
	}
}

// TestSessionRequireTLS: the parameter of MAIL FROM is a requirement of its own.
func TestSessionRequireTLS(t *testing.T) {
	set := settings(t, internet(), Annotate)
	set.Header, set.OnError = "X-TLS-Verdict", ErrorAccept
	m := start(t, set)
	m.mail("a@example.com", "SIZE=5 requiretls")
	m.rcpt("b@plain.example", "smtp", "plain.example", "550 5.7.10 the message requires TLS (REQUIRETLS), and mail to plain.example")
	m.rcpt("b@encrypt.example", "smtp", "encrypt.example", "550 5.7.30")
	m.rcpt("b@down.example", "smtp", "down.example", "451 4.4.3")
	m.rcpt("b@dane.example", "smtp", "dane.example", "continue")
	mods := m.end("accept", "TLS-Required: No")
	if len(mods) != 1 || mods[0].HeaderValue != "dane.example; verdict=dane-only; source=dane; protection=dane; requiretls" {
		t.Errorf("modifications: %v", mods)
	}
	// It is the message's, not the connection's.
	m.mail("a@example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
	m.end("accept")
}

// TestSessionRequireTLSOfABounce: a bounce keeps the parameter, and is not lost for
// it; a rule for bounces holds all the same.
func TestSessionRequireTLSOfABounce(t *testing.T) {
	set := settings(t, internet(), Reject)
	set.Header = "X-TLS-Verdict"
	m := start(t, set)
	m.mail("", "REQUIRETLS")
	m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
	mods := m.end("accept", "TLS-Required: No")
	if len(mods) != 1 || mods[0].HeaderValue != "plain.example; verdict=none; source=none; protection=none; requiretls" {
		t.Errorf("modifications: %v", mods)
	}
	set = settings(t, internet(), Reject)
	set.Rules[0].Sender = pattern(t, "<>")
	m = start(t, set)
	m.mail("", "REQUIRETLS")
	m.rcpt("b@plain.example", "smtp", "plain.example", "550 5.7.10 mail to plain.example")
	m.end("accept")
}

// TestSessionTLSOptional: the field is told of, and lowers no rule.
func TestSessionTLSOptional(t *testing.T) {
	set := settings(t, internet(), Reject)
	set.Header = "X-TLS-Verdict"
	m := start(t, set)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "", "", "continue")
	m.end("550 5.7.10", "TLS-Required: No")
	m.mail("a@example.com", "")
	m.rcpt("b@plain.example", "", "", "continue")
	if mods := m.end("accept", "TLS-Required: no"); len(mods) != 1 || !strings.HasSuffix(mods[0].HeaderValue, "; tls-required=no") {
		t.Errorf("modifications: %v", mods)
	}
}

// TestSessionOnError: with "accept" mail is taken where no verdict can be had.
func TestSessionOnError(t *testing.T) {
	set := settings(t, internet(), Reject)
	set.OnError = ErrorAccept
	m := start(t, set)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@down.example", "smtp", "down.example", "continue")
	m.rcpt("b@bogus.example", "smtp", "bogus.example", "451 4.4.3")
	m.end("accept")
}

// TestSessionAbort: an abandoned message leaves nothing behind, and a recipient
// before any message is deferred.
func TestSessionAbort(t *testing.T) {
	_, l := serve(t, settings(t, internet(), Hold))
	odd := dial(t, l)
	write(t, odd, hello())
	readPacket(t, odd)
	write(t, odd, packet('R', "<b@plain.example>\x00"))
	if code, _ := readPacket(t, odd); code != 't' {
		t.Errorf("a recipient without a message gets %q", code)
	}
	m := connect(t, l)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
	if err := m.Abort(nil); err != nil {
		t.Fatal(err)
	}
	m.mail("a@legal.example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
	if mods := m.end("accept"); len(mods) != 0 {
		t.Errorf("modifications: %v", mods)
	}
}

// TestSessionReasons: the reason is asked for where somebody is told, once for a domain,
// and its want holds nothing up for long.
func TestSessionReasons(t *testing.T) {
	o := internet()
	m := start(t, settings(t, o, Reject))
	m.mail("a@legal.example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
	if o.explained != 0 {
		t.Error("a reason for nobody was asked for")
	}
	for range 3 {
		m.rcpt("b@plain.example", "smtp", "plain.example", "550 5.7.10 mail to plain.example must not leave here without TLS to a server that proves who it is: it promises no TLS; plain.example: because")
	}
	if o.explained != 1 {
		t.Errorf("%d reasons were asked for", o.explained)
	}
	m.rcpt("b@odd.example", "smtp", "odd.example", "550 5.7.10 mail to odd.example must not leave here without TLS to a server that proves who it is: it promises no TLS")
	m.end("accept")
	// At the end of a message, one reason is enough.
	m.mail("a@legal.example.com", "")
	for i := range 100 {
		m.rcpt(fmt.Sprintf("b@plain-%d.example", i), "", "", "continue")
	}
	if o.explained != 2 {
		t.Errorf("%d reasons were asked for before the end", o.explained)
	}
	m.rcpt("c@plain-0.example", "", "", "continue")
	m.end("550 5.7.10 mail to plain-0.example must not leave here without TLS to a server that proves who it is: it promises no TLS; " +
		"plain-0.example: because (RFC 8461 section 2) (and 99 more)")
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "550 5.7.10 mail to plain.example must not leave here without TLS to a server that proves who it is: it promises no TLS; plain.example: because")
	m.end("accept")
	if o.explained != 3 {
		t.Errorf("%d reasons were asked for: one told a moment ago is known", o.explained)
	}
}

// TestReasons: a reason is known for its verdict, for a while, and there is a bound.
func TestReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reasons
		v := Verdict{Name: "none", Source: "none"}
		r.keep(domain("a.example"), v, "so")
		r.keep(domain("a.example"), v, "")
		if got := r.of(domain("a.example"), v); got != "so" {
			t.Errorf("reason %q", got)
		}
		if r.of(domain("b.example"), v) != "" || r.of(domain("a.example"), Verdict{Name: "encrypt", Source: "none"}) != "" {
			t.Error("a reason for something else")
		}
		<-time.After(reasonTime)
		if r.of(domain("a.example"), v) != "" {
			t.Error("a reason of a minute ago")
		}
		for i := range 3 * maxReasons {
			r.keep(domain(fmt.Sprintf("d%d.example", i)), v, "so")
		}
		if len(r.told) > maxReasons || r.of(domain(fmt.Sprintf("d%d.example", 3*maxReasons-1)), v) == "" {
			t.Errorf("%d reasons", len(r.told))
		}
	})
}

// TestSessionWithoutReasons: a refusal does not wait long for its reason.
func TestSessionWithoutReasons(t *testing.T) {
	o := internet()
	o.unexplained = true
	set := settings(t, o, Reject)
	set.Deadline = 50 * time.Millisecond
	m := start(t, set)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "550 5.7.10 mail to plain.example must not leave here without TLS to a server that proves who it is: it promises no TLS")
	m.end("accept")
}

// TestSetSettings: a message keeps the settings that it began with.
func TestSetSettings(t *testing.T) {
	o := internet()
	m := start(t, settings(t, o, Reject))
	m.mail("a@legal.example.com", "")
	// MAIL is not answered: what follows it is.
	m.rcpt("root", "local", "", "continue")
	m.server.SetSettings(&Settings{Asker: o, Deadline: time.Second})
	m.rcpt("b@plain.example", "smtp", "plain.example", "550")
	m.end("accept")
	m.mail("a@legal.example.com", "")
	m.rcpt("b@plain.example", "smtp", "plain.example", "continue")
	m.end("accept")
}

// TestSilentAsker: an answer that does not come is none, after the deadline, and
// the MTA beside is served meanwhile.
func TestSilentAsker(t *testing.T) {
	o := internet()
	o.hold = make(chan struct{})
	set := settings(t, o, Reject)
	set.Deadline = 50 * time.Millisecond
	s, l := serve(t, set)
	m := connect(t, l)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "451 4.4.3")
	m.end("accept")
	close(o.hold)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
	m.end("accept")
	if s.counters.unknown.Load() != 1 {
		t.Errorf("%d without a verdict", s.counters.unknown.Load())
	}
}

// TestSilentAskerAnnotates: a message that only the header is for does not wait for
// long, and is told of as unknown; a domain is asked for ahead of time once.
func TestSilentAskerAnnotates(t *testing.T) {
	o := internet()
	o.hold = make(chan struct{})
	set := settings(t, o, Reject)
	set.Header, set.Prefetch, set.Deadline = "X-TLS-Verdict", true, time.Hour
	m := start(t, set)
	m.mail("a@example.com", "")
	for i := range 5 {
		m.rcpt(fmt.Sprintf("b%d@sts.example", i), "smtp", "sts.example", "continue")
	}
	mods := m.end("accept")
	if len(mods) != 1 || mods[0].HeaderValue != "sts.example; verdict=unknown" {
		t.Errorf("modifications: %v", mods)
	}
	// Once ahead of time, once for the header.
	if n := o.times("sts.example"); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// deaf does not look at its context.
type deaf chan struct{}

func (d deaf) Ask(context.Context, nexthop.Destination) (Verdict, error) {
	<-d
	return Verdict{}, ErrNoVerdict
}

func (d deaf) Why(context.Context, nexthop.Destination, Verdict) string { return "" }

func (d deaf) Warm(context.Context, nexthop.Destination) error { return nil }

// TestDeafAsker: one that never gives up holds nobody up.
func TestDeafAsker(t *testing.T) {
	d := make(deaf)
	set := settings(t, d, Reject)
	set.Deadline = 20 * time.Millisecond
	m := start(t, set)
	m.mail("a@legal.example.com", "")
	m.rcpt("b@sts.example", "smtp", "sts.example", "451 4.4.3")
	m.end("accept")
	close(d)
}

// TestProgress: an MTA that waits for a slow verdict is told every 5 seconds that work
// goes on, and gets its answer.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := internet()
		o.hold = make(chan struct{})
		set := settings(t, o, Reject)
		set.Deadline = time.Minute
		l := newPeers()
		s := New(Options{Settings: set, MaxConnections: 10, Log: quiet()})
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		far := l.join()
		write(t, far, hello())
		readPacket(t, far)
		write(t, far, packet('M', "<a@legal.example.com>\x00"))
		write(t, far, packet('D', "R{rcpt_mailer}\x00smtp\x00{rcpt_host}\x00sts.example\x00"))
		start := time.Now()
		time.AfterFunc(12*time.Second, func() { close(o.hold) })
		write(t, far, packet('R', "<b@sts.example>\x00"))
		got := ""
		for !strings.HasSuffix(got, "c") && len(got) < 10 {
			code, _ := readPacket(t, far)
			got += string(code)
		}
		if took := time.Since(start); got != "ppc" || took != 12*time.Second {
			t.Errorf("answers %q after %v", got, took)
		}
		far.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-done
	})
}

// peers is a listener of connections in memory.
type peers struct {
	come   chan net.Conn
	closed chan struct{}
	once   *sync.Once
}

func newPeers() peers { return peers{make(chan net.Conn), make(chan struct{}), new(sync.Once)} }

func (p peers) Accept() (net.Conn, error) {
	select {
	case c := <-p.come:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p peers) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p peers) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// join connects a peer.
func (p peers) join() net.Conn {
	near, far := net.Pipe()
	p.come <- near
	return far
}

// FuzzServer: whatever a peer sends after the negotiation, the process and the
// library go on. A panic there cannot be caught: it ends the test.
func FuzzServer(f *testing.F) {
	for _, hole := range holes() {
		f.Add(hole)
	}
	rcpt := slices.Concat(packet('D', "R{rcpt_mailer}\x00smtp\x00{rcpt_host}\x00sts.example\x00"), packet('R', "<b@sts.example>\x00"))
	mail := packet('M', "<a@legal.example.com>\x00REQUIRETLS\x00")
	f.Add(slices.Concat(mail, rcpt, packet('L', "Subject\x00x\x00"), packet('E', "")))
	f.Add(slices.Concat(packet('C', "h\x006\x00\x19IPv6:::1\x00"), packet('H', "h\x00"), mail, rcpt, rcpt, packet('A', ""), mail, packet('K', ""), packet('Q', "")))
	f.Add(slices.Concat(packet('R', "\x00"), packet('L', "\x00"), packet('D', "\x00"), packet('U', ""), packet('T', ""), packet('N', ""), packet('B', "")))
	set := settings(f, internet(), Reject)
	set.Header = "Subject"
	l := newPeers()
	s := New(Options{Settings: set, MaxConnections: 100, Log: quiet()})
	go func() { _ = s.Serve(l) }()
	f.Fuzz(func(t *testing.T, in []byte) {
		p := &peer{in: bytes.NewReader(slices.Concat(hello(), in)), closed: make(chan struct{})}
		l.come <- p
		select {
		case <-p.closed:
		case <-time.After(10 * time.Second):
			t.Error("the connection was left open")
		}
	})
}

// peer is a connection whose other end has said all, hung up, and reads everything.
type peer struct {
	net.Conn // nil: what is not here is not used
	in       io.Reader
	closed   chan struct{}
	once     sync.Once
}

func (p *peer) Read(b []byte) (int, error)       { return p.in.Read(b) }
func (p *peer) Write(b []byte) (int, error)      { return len(b), nil }
func (p *peer) SetReadDeadline(time.Time) error  { return nil }
func (p *peer) SetWriteDeadline(time.Time) error { return nil }
func (p *peer) RemoteAddr() net.Addr             { return newPeers().Addr() }

func (p *peer) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// BenchmarkMessage is a message of one recipient: MAIL, RCPT with its verdict, end.
func BenchmarkMessage(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := New(Options{Settings: settings(b, internet(), Reject), MaxConnections: 10, Log: quiet()})
	go func() { _ = s.Serve(l) }()
	bag := milter.NewMacroBag()
	bag.Set(milter.MacroRcptMailer, "smtp")
	bag.Set(milter.MacroRcptHost, "sts.example")
	c, err := milter.NewClient("tcp", l.Addr().String()).Session(bag)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := c.Conn("client.example", milter.FamilyInet, 4000, "192.0.2.1"); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Helo("client.example"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Mail("a@legal.example.com", ""); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Rcpt("b@sts.example", ""); err != nil {
			b.Fatal(err)
		}
		if _, err := c.DataStart(); err != nil {
			b.Fatal(err)
		}
		if _, err := c.HeaderEnd(); err != nil {
			b.Fatal(err)
		}
		if _, _, err := c.BodyReadFrom(strings.NewReader("text\r\n")); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
	if err := s.Shutdown(context.Background()); err != nil {
		b.Fatal(fmt.Errorf("shutdown: %w", err))
	}
}

// TestCountersAreTold: each number of the record is in docs/milter.md.
func TestCountersAreTold(t *testing.T) {
	doc, err := os.ReadFile("../../docs/milter.md")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s := New(Options{Settings: &Settings{}, Log: slog.New(slog.NewTextHandler(&out, nil))})
	s.LogCounters()
	n := 0
	for _, field := range strings.Fields(out.String()) {
		name, _, _ := strings.Cut(field, "=")
		if name == "time" || name == "level" || name == "msg" {
			continue
		}
		if n++; !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/milter.md does not tell of %s", name)
		}
	}
	if n < 15 {
		t.Errorf("%d numbers in %s", n, out.String())
	}
}
