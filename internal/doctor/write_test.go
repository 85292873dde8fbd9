package doctor

import (
	"strings"
	"testing"

	"tlsverdict/internal/finding"
)

// TestText: what is in order has a line, what is not the line that mends it, and what
// was not looked at says so.
func TestText(t *testing.T) {
	findings := order([]Finding{
		{Check: HostResolver, Subject: "this host", Severity: finding.OK, Looked: "x", Found: "127.0.0.1:53 answers with signatures"},
		{Check: PostfixAsked, Subject: "Postfix", Severity: finding.Unknown, Looked: "postconf", Found: "it may not be run"},
		{Check: HostResolver, Subject: "this host", Severity: finding.Error, Looked: "questions", Found: "192.0.2.1:53 is silent", Mend: "# wake it\nping 192.0.2.1"},
		{Check: PostfixDNSSEC, Subject: "Postfix", Severity: finding.Warning, Found: "it does not", In: "/etc/postfix/main.cf", Mend: "a = b"},
	})
	var b strings.Builder
	if err := NewResult(findings).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1 error, 1 warning, 1 unknown\n\nthis host\n  error    resolver               192.0.2.1:53 is silent\n           looked  questions\n           so      ",
		"           mend    # wake it\n                   ping 192.0.2.1\n           see     RFC 4035 §3.2.1\n  ok       resolver               127.0.0.1:53 answers with signatures\n",
		"\nPostfix\n  warning  postfix-dnssec         it does not\n",
		"           mend    in /etc/postfix/main.cf:\n                   a = b\n",
		"  unknown  postfix-asked          not looked at: postconf, because it may not be run\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestKinds: each check can be told to people.
func TestKinds(t *testing.T) {
	for check, k := range Kinds() {
		if k.Severity == finding.OK || k.Severity == finding.Unknown || k.Title == "" || k.Why == "" {
			t.Errorf("%s: %+v", check, k)
		}
	}
}
