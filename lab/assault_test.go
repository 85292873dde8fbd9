package lab

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// attackedServers are the mail servers that docs/attacks.md tells of.
func attackedServers() []box {
	return []box{{name: "postfix-3.10"}, {name: "exim-4.98"}, {name: "sendmail-8.18"}}
}

// attentive makes policyd look again soon enough for a test, and not so soon that a
// verdict is forgotten between two questions about one mail.
const attentive = `
[cache]
min_ttl = "5s"
max_ttl = "10s"
`

// attackSetups returns how a machine is set up to be attacked: with a resolver of its
// own that validates, and whatever that asks passes the attacker. Policies, once
// fetched, are kept on disk.
func (b box) attackSetups() []setup {
	if !slices.ContainsFunc(attackedServers(), func(m box) bool { return m.name == b.name }) {
		return nil
	}
	// A resolver that gets no answers soon believes that nobody is there to answer.
	var dropped []string
	for _, a := range assaults() {
		if strings.HasSuffix(a.name, "-drop") {
			dropped = append(dropped, a.to[0])
		}
	}
	s := setup{
		name: "attacks", resolver: local, here: validates, upstream: forwarding(lying, dropped...), dnssec: "validate", dane: "native",
		more: attentive, alone: true, acts: (*lab).underAttack,
	}
	s.signals = `banner = "enforce"`
	switch b.server() {
	case "postfix":
		s.implicit, s.signals = true, s.signals+"\nimplicit_tls = \"on\"\nimplicit_tls_turn = \"0s\""
	case "exim":
		s.implicit, s.signals = true, s.signals+"\nimplicit_tls = \"on\"\nimplicit_tls_turn = \"0s\"\nimplicit_tls_own = []"
	}
	return []setup{s}
}

// surroundings returns the internet that a machine is on.
func (b box) surroundings(ca authorities) (*internet, error) {
	if b.label != "-attacks" {
		return readInternet("testdata/internet.txtar", ca)
	}
	description := withDANE()("dane.example") + plainUnsigned()("impostor.example")
	for _, a := range assaults() {
		description += a.victim(a.to[0])
	}
	return newInternet(txtar.Parse([]byte(description)), ca)
}

// underAttack lets everything be well until the domains are known that shall be, then
// attacks all at once.
func (l *lab) underAttack(t *testing.T) {
	all := assaults()
	up := l.web.serve(l.listen(t, policyBlocked, "443"))
	l.learn(t, all)
	if err := up.Close(); err != nil {
		t.Fatal(err)
	}
	told := l.attack(t, all)
	l.awaitVerdicts(t, all, told)
	for _, a := range all {
		if a.attack == "port26" && slices.Contains(a.does, warm) && l.setup.implicit {
			l.awaitTransport(t, a.to[0], "OK tls26:"+a.to[0]+":26") // still: nobody has been there since
		}
		receipt, err := hand(t.Context(), l.dial, letter{recipients: a.recipients(l.setup), header: "Subject: lab"})
		if err != nil || !strings.HasPrefix(receipt.data, "250") {
			t.Fatalf("%s takes no mail: %+v, %v", l.name, receipt, err)
		}
	}
	for _, a := range all {
		t.Run(a.name, func(t *testing.T) {
			l.conclude(t, a.situation, a.ends.of(l.box), func(end string) bool { return end != "" })
			recipient := a.recipients(l.setup)[0]
			if got := l.came(recipient); got != a.letter {
				t.Errorf("this came to %s, want %s", got, a.letter)
			}
			l.attacks.note(a.name, l.box, a.steady(l.lines(a.recipients(l.setup))))
		})
	}
}

// steady returns log lines without what chance decides: where an answer is dropped,
// whether policyd gives up first or the resolver that it asks, and how often that was asked.
func (a assault) steady(lines []string) []string {
	if !strings.HasSuffix(a.name, "-drop") {
		return lines
	}
	const one = `(?:SERVFAIL|no answer) from 127\.0\.0\.1:53(?: in \d+s)?`
	givesUp := regexp.MustCompile(one + `(?:; ` + one + `)*`)
	out := slices.Clone(lines)
	for i := range out {
		out[i] = givesUp.ReplaceAllString(out[i], "no answer from 127.0.0.1:53")
	}
	return out
}

// learn has policyd know the domains that it shall know before the attack.
func (l *lab) learn(t *testing.T, all []assault) {
	t.Helper()
	for _, a := range all {
		if slices.Contains(a.does, pinned) {
			a.verdict = one(byBanner)
		} else if !slices.Contains(a.does, warm) {
			continue
		}
		if a.attack == "port26" && l.setup.implicit {
			l.awaitTransport(t, a.to[0], "OK tls26:"+a.to[0]+":26")
		}
		l.awaitVerdict(t, a)
	}
}

// attack begins everything that the attackers do, and returns how often each lies, by
// assault.
func (l *lab) attack(t *testing.T, all []assault) map[string]*atomic.Int32 {
	t.Helper()
	told := map[string]*atomic.Int32{}
	var lies []lie
	wrong := &policyHosts{ca: l.ca.private}
	for _, a := range all {
		if a.lies != nil {
			told[a.name] = new(atomic.Int32)
			for _, each := range a.lies(l) {
				lies = append(lies, counted(each, told[a.name]))
			}
		}
		mode := map[bool]string{true: "none", false: "enforce\nmx: nowhere.example"}[slices.Contains(a.does, warm)]
		wrong.policies = append(wrong.policies, &policy{domain: a.to[0], body: fmt.Appendf(nil, "version: STSv1\nmode: %s\nmax_age: 86400\n", mode)})
		l.attackHost(t, a)
	}
	wrong.serve(l.listen(t, policyFalse, "443"))
	l.liar.become(lies...)
	return told
}

// attackHost has somebody between a mail host and the rest of the world.
func (l *lab) attackHost(t *testing.T, a assault) {
	t.Helper()
	h := l.internet.host(a.host)
	behaviours := slices.DeleteFunc(slices.Clone(a.does), func(does string) bool { return does != strips && does != resets })
	if len(behaviours) > 0 {
		h.become(strings.Join(behaviours, ","))
	}
	if a.says != nil {
		h.promises(*a.says)
	}
	for _, kind := range []string{untrusts, misissues} {
		if !slices.Contains(a.does, kind) {
			continue
		}
		c, err := l.ca.certificate(kind, h.name)
		if err != nil {
			t.Fatal(err)
		}
		h.intercept(c)
	}
}

// awaitVerdicts waits until policyd has what it shall think of each attacked domain,
// and has been lied to where it shall be: some know the domain from before.
func (l *lab) awaitVerdicts(t *testing.T, all []assault, told map[string]*atomic.Int32) {
	t.Helper()
	var waiting sync.WaitGroup
	for _, a := range all {
		waiting.Go(func() {
			l.awaitVerdict(t, a)
			l.awaitVisit(t, a)
			n := told[a.name]
			if n == nil || a.unasked {
				return
			}
			if err := eventually(t.Context(), func() bool {
				_, _ = l.policyd.query(t.Context(), "verdict", a.to[0])
				return n.Load() > 0
			}); err != nil {
				t.Errorf("%s: nothing was asked that could have been lied about: %v", a.name, err)
			}
			l.awaitVerdict(t, a)
		})
	}
	waiting.Wait()
}

// awaitVisit waits until policyd has read a false banner, where there is one.
func (l *lab) awaitVisit(t *testing.T, a assault) {
	t.Helper()
	if a.says == nil || slices.Contains(a.does, warm) {
		return
	}
	visit := regexp.MustCompile(`msg=probe host=` + regexp.QuoteMeta(a.host) + ` port=25 `)
	if err := eventually(t.Context(), func() bool { return visit.MatchString(l.policyd.said()) }); err != nil {
		t.Errorf("policyd has not read the banner of %s: %v", a.host, err)
	}
}

func (l *lab) awaitVerdict(t *testing.T, a assault) {
	t.Helper()
	want := "OK " + strings.Replace(a.verdict[0], " by ", " source=", 1)
	var reply string
	err := eventually(t.Context(), func() bool {
		reply, _ = l.policyd.query(t.Context(), "verdict", a.to[0])
		return reply == want || strings.HasPrefix(reply, want+" ")
	})
	if err != nil {
		t.Errorf("policyd says %q of %s, want %q: %v", reply, a.to[0], want, err)
	}
}

// came returns what an attack has come to: whether anybody got the mail who should not.
func (l *lab) came(recipient string) string {
	for _, h := range l.internet.hosts {
		for _, s := range h.sightings(recipient) {
			if s.delivered && (s.read || s.version == 0 || h.name == "mx.impostor.example") {
				return reached
			}
		}
	}
	return harmless
}
