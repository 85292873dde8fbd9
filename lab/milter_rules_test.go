package lab

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// milterRules are rules on headers, before and behind others, besides those of milterConf.
const milterRules = `
[[require]]
sender = "rules-mixed*@sender.example"
minimum = "authenticated"

[[require]]
sender = "rules-foregone*@sender.example"
header = "X-Require-TLS: yes"
minimum = "dane"

[[require]]
sender = "rules-foregone*@sender.example"
minimum = "authenticated"

[[require]]
sender = "rules-subject*@sender.example"
subject_tag = "[secure]"
minimum = "authenticated"

[[require]]
sender = "rules-header*@sender.example"
header = "X-Require-TLS: yes"
minimum = "dane"
action = "hold"
`

// appeal is a message to which one of those rules applies, or none.
type appeal struct {
	name, header string
	to           []string
	// answers is what each recipient is answered, and data what the message is: how it
	// begins and, behind "|", what it says then. Sendmail puts the recipient between.
	answers []string
	data    string
	// ends is what becomes of it for each recipient, "" where he was refused; later the
	// same when what is held was released.
	ends, later []string
	// found is what the header of the milter says where the mail arrives.
	found string
}

func (l *lab) appeals() []appeal {
	const refusal, taken, unsure = "550 5.7.10 |mail to ", "250 ", "451 4.4.3 |mail to "
	openly, safe, byDANE := to(clear, "mx.plain.example"), to(authenticated, "mx.sts.example"), to(authenticated, "mx.dane.example")
	if l.withoutDANE() {
		byDANE = to(encrypted, "mx.dane.example")
	}
	both := []string{"plain.example", "sts.example"}
	const secret = "Subject: =?utf-8?B?UmU6IFtTZWN1cmVdIGRlciBQbGFu?="
	return []appeal{
		{
			name: "rules-mixed", header: "Subject: lab", to: append(both, "dane.example", "danebogus.example", "[198.51.100.100]"),
			answers: []string{refusal + "plain.example", taken, taken, unsure + "danebogus.example", refusal + "[198.51.100.100]"}, data: taken,
			ends: []string{"", safe, byDANE, "", ""},
		},
		{
			name: "rules-foregone", header: "X-Require-TLS: yes", to: both,
			answers: []string{refusal + "plain.example", taken}, data: refusal + "sts.example",
		},
		{
			name: "rules-foregone-without", header: "Subject: lab", to: both,
			answers: []string{refusal + "plain.example", taken}, data: taken, ends: []string{"", safe},
		},
		{
			name: "rules-subject", header: secret, to: both,
			answers: []string{taken, taken}, data: refusal + "plain.example",
		},
		{
			name: "rules-subject-safe", header: secret, to: both[1:],
			answers: []string{taken}, data: taken, ends: []string{safe},
		},
		{
			name: "rules-subject-without", header: "Subject: secure, or not", to: both,
			answers: []string{taken, taken}, data: taken, ends: []string{openly, safe},
		},
		{
			name: "rules-header", header: "x-require-tls:  YES", to: both[1:],
			answers: []string{taken}, data: taken, ends: []string{held}, later: []string{safe},
			found: "sts.example; verdict=secure; source=mta-sts; protection=authenticated; unmet",
		},
		{
			name: "rules-none", header: "X-TLS-Verdict: forged\nTLS-Required: No\nx-tls-verdict: forged, too\nX-Tls-Verdict:\n forged, thrice", to: both[:1],
			answers: []string{taken}, data: taken, ends: []string{openly},
			found: "plain.example; verdict=none; source=none; protection=none; tls-required=no",
		},
	}
}

// ruled goes through them.
func (l *lab) ruled(t *testing.T) {
	all := l.appeals()
	var recipients [][]string
	for _, a := range all {
		recipients = append(recipients, situation{name: a.name, to: a.to}.recipients(l.setup))
	}
	for i, a := range all {
		t.Run(a.name, func(t *testing.T) {
			r, err := hand(t.Context(), l.dial, letter{sender: a.name + "@sender.example", recipients: recipients[i], header: a.header})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(r.rcpt, a.answers, answered) || !answered(r.data, a.data) {
				t.Errorf("recipients are answered\n  %s\nand the message %q", strings.Join(r.rcpt, "\n  "), r.data)
			}
			l.concludeAppeal(t, a, recipients[i], a.ends)
		})
	}
	if err := l.program.(milterServer).release(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, a := range all {
		if a.later != nil {
			t.Run(a.name+"-released", func(t *testing.T) { l.concludeAppeal(t, a, recipients[i], a.later) })
		}
	}
}

func answered(got, want string) bool {
	begins, says, _ := strings.Cut(want, "|")
	return strings.HasPrefix(got, begins) && strings.Contains(got, says)
}

// concludeAppeal waits until a message has come to its ends, and looks at what arrived.
func (l *lab) concludeAppeal(t *testing.T, a appeal, recipients, ends []string) {
	t.Helper()
	for i, want := range ends {
		if want == "" {
			continue
		}
		got := ""
		_ = eventually(t.Context(), func() bool {
			if got = l.end(recipients[i]); got == "" {
				got = l.program.(milterServer).kept(a.name + "@sender.example")
			}
			return got == want
		})
		if got != want {
			t.Errorf("%s: %q, want %q", recipients[i], got, want)
		}
	}
	for i, recipient := range recipients {
		mayArrive := i < len(ends) && ends[i] != "" && ends[i] != held
		for _, h := range l.internet.hosts {
			for _, s := range h.sightings(recipient) {
				if s.delivered && !mayArrive {
					t.Errorf("%s: delivered to %s", recipient, h.name)
				}
				if s.delivered {
					compareVerdicts(t, a, s.message)
				}
			}
		}
	}
	if t.Failed() {
		t.Logf("milter:\n%s", tail(l.path(milterLog), 6))
	}
}

// compareVerdicts: the milter's header is its own, whoever wrote one before.
func compareVerdicts(t *testing.T, a appeal, message string) {
	t.Helper()
	found := regexp.MustCompile(`(?mi)^X-TLS-Verdict: *(.*?)\r?$`).FindAllStringSubmatch(message, -1)
	if len(found) == 0 || strings.Contains(message, "forged") || a.found != "" && found[0][1] != a.found {
		t.Errorf("what arrived has\n%s\nwant %q", message, a.found)
	}
}
