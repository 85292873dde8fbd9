package milterd

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tlsverdict/internal/explain"
)

func pattern(t testing.TB, text string) Pattern {
	t.Helper()
	p, err := ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		yes, no string
	}{
		{"*", "a@example.com  root", ""},
		{"<>", "", "a@example.com"},
		{"*@example.com", "a@example.com A@EXAMPLE.COM. a@b@example.com \"x@y\"@example.com", "a@sub.example.com example.com root a@example.com.evil.test"},
		{"*@*.example.com", "a@b.example.com a@b.c.example.com", "a@example.com a@badexample.com"},
		{"Bob@example.com", "bob@example.com \"bob\"@example.com \"b\\ob\"@example.com @relay.test:bob@example.com", "bobby@example.com bob@example.org"},
		{"bob-*-x@*", "bob-1-x@a.example bob--x@b.example", "bob-x@a.example bob-1-y@a.example"},
		{"*@bücher.example", "a@xn--bcher-kva.example a@BÜCHER.example", "a@bucher.example"},
		{"*@[192.0.2.1]", "a@[192.0.2.1]", "a@192.0.2.1"},
	} {
		p := pattern(t, tc.pattern)
		for _, a := range strings.Fields(tc.yes) {
			if !p.Match(a) {
				t.Errorf("%s does not match %s", p, a)
			}
		}
		for _, a := range strings.Fields(tc.no) {
			if p.Match(a) {
				t.Errorf("%s matches %s", p, a)
			}
		}
	}
	if !pattern(t, "*").Match("") || !pattern(t, "<>").Match("") || pattern(t, "*@*").Match("") {
		t.Error("the null sender is matched wrongly")
	}
	if (Pattern{}).Match("a@b") || (Pattern{}).Match("") {
		t.Error("the zero pattern matches")
	}
	for _, bad := range []string{"", "example.com", "@example.com", "a@", "a@*x.example", "a@b*.example", "<a@b.example>", "a@..", "a b@c.example"} {
		if _, err := ParsePattern(bad); !errors.Is(err, ErrPattern) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, seed := range []string{"*", "<>", "*@example.com", "a*b@*.example.com", "\"a\"@x.example", "*@[::1]"} {
		f.Add(seed, "a@example.com")
	}
	f.Fuzz(func(t *testing.T, text, address string) {
		p, err := ParsePattern(text)
		if err != nil {
			if p.Match(address) {
				t.Error("what is no pattern matches")
			}
			return
		}
		if p.Match(address) && p.domain != "" && !strings.HasPrefix(p.domain, "[") {
			if _, domain := splitAddress(address); !strings.HasSuffix(domain, p.domain) {
				t.Errorf("%q matches %q", text, address)
			}
		}
	})
}

// rules are those that the tests of matching use, first to last.
func rules(t testing.TB) Rules {
	all, legal := pattern(t, "*"), pattern(t, "*@legal.example.com")
	return Rules{
		{Line: 1, Sender: legal, Recipient: pattern(t, "*@court.example"), Minimum: ByDANE, Action: Reject},
		{Line: 2, Sender: all, Recipient: all, SubjectTag: "[Secure]", Login: LoggedIn, Minimum: Authenticated, Action: Hold},
		{Line: 3, Sender: all, Recipient: all, HeaderName: "X-Require-TLS", HeaderValue: "yes*", Minimum: Encrypted, Action: Tempfail},
		{Line: 4, Sender: legal, Recipient: all, Minimum: Authenticated, Action: Annotate},
	}
}

func TestMatch(t *testing.T) {
	type field [2]string
	for name, tc := range map[string]struct {
		sender, recipient string
		login             bool
		headers           []field
		// early and final are the lines of the rules that may match, 0 for none.
		early, final string
	}{
		"first wins at once":         {"a@legal.example.com", "b@court.example", true, nil, "[1]", "[1]"},
		"nothing":                    {"a@example.com", "b@example.com", false, nil, "[3 0]", "[0]"},
		"the last":                   {"a@legal.example.com", "b@example.com", false, nil, "[3 4]", "[4]"},
		"a header":                   {"a@example.com", "b@example.com", false, []field{{"x-require-tls", " YES please"}}, "[3 0]", "[3]"},
		"another value":              {"a@example.com", "b@example.com", false, []field{{"X-Require-TLS", "no"}}, "[3 0]", "[0]"},
		"a tag":                      {"a@example.com", "b@example.com", true, []field{{"Subject", "Re: [SECURE] the plan"}}, "[2 3 0]", "[2]"},
		"a tag without login":        {"a@example.com", "b@example.com", false, []field{{"Subject", "[secure]"}}, "[3 0]", "[0]"},
		"a tag in encoded words":     {"a@example.com", "b@example.com", true, []field{{"Subject", "=?utf-8?B?W3NlY3VyZV0gZsO8ciBkaWNo?="}}, "[2 3 0]", "[2]"},
		"a tag over two lines":       {"a@example.com", "b@example.com", true, []field{{"Subject", "a long one\r\n [secure]"}}, "[2 3 0]", "[2]"},
		"an encoding nobody decodes": {"a@example.com", "b@example.com", true, []field{{"Subject", "=?x-none?Q?a?= [secure]"}}, "[2 3 0]", "[2]"},
		"the null sender":            {"", "b@example.com", false, nil, "[3 0]", "[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			rs := rules(t)
			m := &Message{Sender: tc.sender, Authenticated: tc.login}
			check := func(want string) {
				t.Helper()
				var got []int
				for _, r := range rs.May(m, tc.recipient) {
					line := 0
					if r != nil {
						line = r.Line
					}
					got = append(got, line)
				}
				if fmt.Sprint(got) != want {
					t.Errorf("rules %v, want %s", got, want)
				}
			}
			check(tc.early)
			for _, h := range tc.headers {
				rs.See(m, h[0], h[1])
			}
			m.Complete = true
			check(tc.final)
			if r := rs.Match(m, tc.recipient); (r == nil) != (tc.final == "[0]") {
				t.Errorf("the rule is %v, want %s", r, tc.final)
			}
		})
	}
}

// TestTLSRequired: the field is honoured in the one form that it has, and means
// nothing beside REQUIRETLS.
func TestTLSRequired(t *testing.T) {
	for name, tc := range map[string]struct {
		values  []string
		require bool
		want    bool
	}{
		"No":         {[]string{"No"}, false, true},
		"no":         {[]string{" no "}, false, true},
		"Yes":        {[]string{"Yes"}, false, false},
		"twice":      {[]string{"No", "No"}, false, false},
		"REQUIRETLS": {[]string{"No"}, true, false},
		"none":       {nil, false, false},
	} {
		m := &Message{RequireTLS: tc.require}
		for _, v := range tc.values {
			Rules(nil).See(m, "TLS-required", v)
		}
		if m.TLSOptional() {
			t.Errorf("%s: before the headers have ended", name)
		}
		if m.Complete = true; m.TLSOptional() != tc.want {
			t.Errorf("%s: %v", name, m.TLSOptional())
		}
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		verdict, source string
		want            Level
	}{
		{"none", "none", Clear},
		{"may", "override", Clear},
		{"dane", "dane", Clear},
		{"encrypt", "dane", Encrypted},
		{"verify", "override", Encrypted},
		{"secure", "mta-sts", Authenticated},
		{"fingerprint", "override", Authenticated},
		{"fingerprint", "dane", ByDANE},
		{"dane-only", "dane", ByDANE},
	} {
		v, err := Judge(&explain.Report{Verdict: tc.verdict, Source: tc.source, Replies: map[string]string{"postfix": "OK x"}})
		if err != nil || v.Level != tc.want || v.Waits {
			t.Errorf("%s from %s: %+v, %v", tc.verdict, tc.source, v, err)
		}
		v, _ = Judge(&explain.Report{Verdict: tc.verdict, Source: tc.source, Replies: map[string]string{"postfix": "NOTFOUND "}})
		if v.Level != Clear {
			t.Errorf("%s in observe mode: %+v", tc.verdict, v)
		}
	}
	for fault, why := range map[string]string{"remote": "SERVFAIL", "operator": "", "tlsverdict": "", "": ""} {
		if v, err := Judge(&explain.Report{Verdict: "defer", Error: "SERVFAIL", Fault: fault}); err != nil || !v.Waits || v.Why != why {
			t.Errorf("defer, fault %q: %+v, %v", fault, v, err)
		}
	}
	if _, err := Judge(&explain.Report{Verdict: "half-dane"}); err == nil {
		t.Error("a word that is not known is a verdict")
	}
	v, _ := Judge(&explain.Report{Verdict: "none", Reasons: []explain.Reason{{Code: "x"}, {Subject: "example.com", Text: "no signal", Cite: "RFC 8461 §2"}}})
	if v.Why != "example.com: no signal (RFC 8461 §2)" {
		t.Errorf("why: %q", v.Why)
	}
}

// TestDecide walks every action over every verdict.
func TestDecide(t *testing.T) {
	verdicts := map[string]Verdict{
		"clear": {Name: "none"}, "encrypted": {Name: "encrypt", Level: Encrypted}, "authenticated": {Name: "secure", Level: Authenticated},
		"dane": {Name: "dane-only", Level: ByDANE}, "waits": {Name: "defer", Waits: true},
	}
	for _, action := range []Action{Annotate, Hold, Tempfail, Reject} {
		for _, minimum := range []Level{Encrypted, Authenticated, ByDANE} {
			for name, v := range verdicts {
				rule := &Rule{Minimum: minimum, Action: action}
				want := action
				switch {
				case v.Waits:
					want = min(action, Tempfail)
				case v.Level >= minimum:
					want = Pass
				}
				if d := Decide(Question{Hop: "example.com", Rule: rule, Verdict: v}); d.Action != want {
					t.Errorf("%v below %v with %s: %v, want %v", action, minimum, name, d.Action, want)
				} else {
					checkReply(t, d)
				}
			}
			for onError, want := range map[OnError]Action{ErrorTempfail: min(action, Tempfail), ErrorAccept: Pass} {
				if action == Annotate {
					want = Pass
				}
				d := Decide(Question{Hop: "example.com", Rule: &Rule{Minimum: minimum, Action: action}, Err: errors.New("down"), OnError: onError})
				if d.Action != want {
					t.Errorf("%v without a verdict: %v, want %v", action, d.Action, want)
				}
				checkReply(t, d)
			}
		}
	}
	if d := Decide(Question{Hop: "example.com"}); d != (Decision{}) {
		t.Errorf("no rule: %+v", d)
	}
}

func checkReply(t *testing.T, d Decision) {
	t.Helper()
	want := map[Action]string{Reject: "5", Tempfail: "4"}[d.Action]
	if want != "" && (!strings.HasPrefix(d.Status, want) || fmt.Sprint(d.Code)[:1] != want || !strings.Contains(d.Text, "example.com")) {
		t.Errorf("%v: %d %s %s", d.Action, d.Code, d.Status, d.Text)
	}
}

// TestRequireTLS: the message's own requirement, its codes, and that neither a rule
// nor on_error lowers it.
func TestRequireTLS(t *testing.T) {
	lenient := &Rule{Minimum: Encrypted, Action: Annotate}
	strict := &Rule{Minimum: ByDANE, Action: Reject}
	for name, tc := range map[string]struct {
		q      Question
		action Action
		status string
	}{
		"no TLS":               {Question{Verdict: Verdict{}}, Reject, "5.7.10"},
		"some hosts":           {Question{Verdict: Verdict{Name: "dane"}}, Reject, "5.7.10"},
		"nobody authenticated": {Question{Verdict: Verdict{Level: Encrypted}}, Reject, "5.7.30"},
		"authenticated":        {Question{Verdict: Verdict{Level: Authenticated}}, Pass, ""},
		"a lenient rule":       {Question{Rule: lenient, Verdict: Verdict{Level: Encrypted}}, Reject, "5.7.30"},
		"a strict rule":        {Question{Rule: strict, Verdict: Verdict{Level: Authenticated}}, Reject, "5.7.10"},
		"waits":                {Question{Verdict: Verdict{Waits: true}}, Tempfail, "4.4.3"},
		"no verdict":           {Question{Err: errors.New("down"), OnError: ErrorAccept}, Tempfail, "4.4.3"},
		"no verdict, a rule":   {Question{Rule: lenient, Err: errors.New("down"), OnError: ErrorAccept}, Tempfail, "4.4.3"},
	} {
		tc.q.RequireTLS, tc.q.Hop = true, "example.com"
		d := Decide(tc.q)
		if d.Action != tc.action || d.Status != tc.status {
			t.Errorf("%s: %v %s", name, d.Action, d.Status)
		}
		checkReply(t, d)
	}
}

// TestWords: the sender learns the domain, what is missing and why, in a line that
// SMTP takes.
func TestWords(t *testing.T) {
	d := Decide(Question{
		Hop: "example.com", Rule: &Rule{Minimum: Authenticated, Action: Reject},
		Verdict: Verdict{Name: "encrypt", Level: Encrypted, Why: "mx.example.com: TLSA records are unusable (RFC 7672 §2.2)"},
	})
	const want = "mail to example.com must not leave here without TLS to a server that proves who it is: " +
		"it promises TLS only, not who answers; mx.example.com: TLSA records are unusable (RFC 7672 section 2.2)"
	if d.Text != want {
		t.Errorf("text:\n%s\nwant:\n%s", d.Text, want)
	}
	d = Decide(Question{Hop: "example.com", Rule: &Rule{Minimum: Encrypted, Action: Reject}, Verdict: Verdict{Why: strings.Repeat("\r\n250 fine\x00", 100)}})
	if len(d.Text) != maxText || strings.ContainsAny(d.Text, "\r\n\x00") {
		t.Errorf("%d bytes: %q", len(d.Text), d.Text)
	}
	w := Worst([]Decision{{Action: Hold, Text: "h"}, d, {Action: Reject, Text: "another"}, d})
	if len(w.Text) > maxText || !strings.HasSuffix(w.Text, " (and 1 more)") {
		t.Errorf("worst: %q", w.Text)
	}
}

// TestHopIsSocket: mail that is handed over on a unix socket stays on this host, whatever
// the transport is called. Nobody could ever say what holds for such a next hop.
func TestHopIsSocket(t *testing.T) {
	h := (&Settings{}).hop(envelope{address: "b@here.example", told: true, mailer: "dovecot-lmtp", host: "unix:private/dovecot-lmtp"})
	if !h.local || h.err != nil {
		t.Errorf("%+v", h)
	}
}

// TestHopSpellings: what Postfix and Sendmail write, and nobody would write by hand.
func TestHopSpellings(t *testing.T) {
	for host, want := range map[string]string{
		// LMTP over TCP, by a transport of any name.
		"inet:relay.example:24":   "[relay.example]:24",
		"inet:[relay.example]:24": "[relay.example]:24",
		"inet:relay.example":      "[relay.example]",
		// Hosts without a dot are hosts; a service is one that has a port.
		"mailhub:backup":           "mailhub backup",
		"mailhub:submission":       "mailhub:587",
		"mailhub:26:backup:27":     "mailhub:26 backup:27",
		"a.example.:b.example.":    "a.example b.example",
		"[a.example.]:[b.example]": "[a.example] [b.example]",
	} {
		h := (&Settings{}).hop(envelope{address: "b@x.example", told: true, mailer: "relay", host: host})
		var got []string
		for _, d := range h.dests {
			got = append(got, d.String())
		}
		if joined := strings.Join(got, " "); joined != want || h.err != nil || h.local {
			t.Errorf("%s: %q, %v, want %q", host, joined, h.err, want)
		}
	}
}

// FuzzHop: whatever an MTA says of a recipient, there is a next hop to judge, a reason why
// there is none, or none because the mail stays here.
func FuzzHop(f *testing.F) {
	for _, seed := range [][3]string{
		{"b@example.com", "smtp", "example.com"},
		{"b@example.com", "relay", "[relay.example]:587, b.example"},
		{"b@example.com", "esmtp", "a.example.:b.example."},
		{"root", "", ""},
		{"b@[192.0.2.1]", "smtp", "[IPv6:2001:db8::1]:25"},
		{"@a,@b:c@d.example", "smtp", ""},
		{"b@x", "smtp", "a..b"},
		{"b@x.example", "tls26", "x.example:26"},
		{"b@x.example", "dovecot-lmtp", "unix:private/dovecot-lmtp"},
		{"b@x.example", "remote-lmtp", "inet:relay.example:24"},
		{"b@x.example", "esmtp", "mailhub:backup"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	set := &Settings{LocalMailers: map[string]bool{"local": true}, LocalDomains: map[string]bool{"here.example": true}}
	f.Fuzz(func(t *testing.T, address, mailer, host string) {
		h := set.hop(envelope{address: address, told: mailer != "", mailer: mailer, host: host})
		if found := len(h.dests) > 0 || h.literal; h.local == (found || h.err != nil) {
			t.Errorf("%q by %q %q: %+v", address, mailer, host, h)
		}
		for _, d := range h.dests {
			if d.Name == "" || d.Port == 0 {
				t.Errorf("%q: %+v", host, d)
			}
		}
		if text := line("%s", h.text); strings.ContainsAny(text, "\r\n\x00") || len(text) > maxText {
			t.Errorf("text %q", text)
		}
	})
}

// FuzzHeaders: whatever stands in a header, a rule on a header that the message has not
// is not met, and what the end of the headers settles stays settled.
func FuzzHeaders(f *testing.F) {
	for _, seed := range [][2]string{
		{"Subject", "=?utf-8?B?W3NlY3VyZV0=?="}, {"Subject", "=?x?Q?=?="}, {"X-Require-TLS", "yes"}, {"TLS-Required", "No"}, {"subject", "a\r\n [Secure]"}, {"Subject", "\xff[SECURE]"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		rs := rules(t)
		m := &Message{Sender: "a@example.com", Authenticated: true}
		rs.See(m, name, value)
		m.Complete = true
		r := rs.Match(m, "b@example.com")
		switch {
		case r == nil:
		case r.HeaderName != "" && !strings.EqualFold(name, r.HeaderName), r.SubjectTag != "" && !strings.EqualFold(name, "Subject"):
			t.Errorf("%q: %q meets rule %d", name, value, r.Line)
		}
		if m.TLSOptional() && !strings.EqualFold(strings.Trim(unfold(value), " \t"), "no") {
			t.Errorf("%q: %q makes TLS optional", name, value)
		}
	})
}
