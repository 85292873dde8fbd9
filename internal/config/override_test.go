package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

const someOverrides = `
[[override]]
domain = "example.com"
policy = "encrypt"
reason = "broken certificate, ticket 4711"
until = 2027-01-31

[[override]]
domain = ".Example.COM."
policy = "ignore"

[[override]]
domain = ".mail.example.com"
policy = "secure match=.example.net servername=hostname"

[[override]]
domain = "bücher.example"
policy = "may"
`

func TestOverrides(t *testing.T) {
	c := mustParse(t, someOverrides)
	want := []Override{
		{Domain: "example.com", Line: 2, Override: verdict.Override{
			Level: "encrypt", Reason: "broken certificate, ticket 4711", Until: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC),
		}},
		{Domain: ".example.com", Line: 8, Override: verdict.Override{}},
		{Domain: ".mail.example.com", Line: 12, Override: verdict.Override{
			Level: "secure", Attributes: []verdict.Attribute{{Name: "match", Value: ".example.net"}, {Name: "servername", Value: "hostname"}},
		}},
		{Domain: "xn--bcher-kva.example", Line: 16, Override: verdict.Override{Level: "may"}},
	}
	if diff := cmp.Diff(want, c.Overrides.All(), cmpopts.IgnoreUnexported(Override{})); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}
}

func TestOverridesFor(t *testing.T) {
	o := mustParse(t, someOverrides).Overrides
	for name, line := range map[string]int{
		"example.com": 2, "a.example.com": 8, "a.b.example.com": 8, "mail.example.com": 8, "a.mail.example.com": 12,
		"b.a.mail.example.com": 12, "xn--bcher-kva.example": 16, "a.xn--bcher-kva.example": 0, "notexample.com": 0, "com": 0, "": 0, ".": 0,
	} {
		var want *verdict.Override
		for i := range o.entries {
			if o.entries[i].Line == line {
				want = &o.entries[i].Override
			}
		}
		if got := o.For(name); got != want {
			t.Errorf("For(%q) = %+v, want that of line %d", name, got, line)
		}
	}
	var none Overrides
	if got := none.For("example.com"); got != nil || none.All() != nil {
		t.Errorf("none: %v", got)
	}
}

// An entry that has ended must not hide a wider one: else what holds would change
// when the operator tidies his file.
func TestOverridesActive(t *testing.T) {
	o := mustParse(t, `
[[override]]
domain = "a.example.com"
policy = "may"
until = 2027-01-31T12:00:00Z
[[override]]
domain = ".example.com"
policy = "encrypt"
until = 2027-02-28
[[override]]
domain = ".com"
policy = "secure"
`).Overrides
	for at, want := range map[string]string{
		"2027-01-31T11:59:59Z": "may", "2027-01-31T12:00:00Z": "encrypt", "2027-02-28T23:59:59Z": "encrypt", "2027-03-01T00:00:00Z": "secure",
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Active("a.example.com", now); got == nil || got.Level != want {
			t.Errorf("at %s: %+v, want %s", at, got, want)
		}
		if got := o.For("a.example.com"); got.Level != "may" {
			t.Errorf("For = %+v", got)
		}
	}
}

func TestUntil(t *testing.T) {
	for text, want := range map[string]string{
		"2027-01-31":                "2027-02-01T00:00:00Z",
		"2027-12-31":                "2028-01-01T00:00:00Z",
		"2028-02-29":                "2028-03-01T00:00:00Z",
		"2027-01-31T18:00:00":       "2027-01-31T18:00:00Z",
		"2027-01-31 18:00:00":       "2027-01-31T18:00:00Z",
		"2027-01-31T18:00:00Z":      "2027-01-31T18:00:00Z",
		"2027-01-31T18:00:00+01:00": "2027-01-31T17:00:00Z",
		"18:00:00":                  "",
		"'2027-01-31'":              "",
		"'tomorrow'":                "",
		"2027":                      "",
	} {
		got, err := until(tomlValue(t, text))
		if want == "" {
			if err == nil {
				t.Errorf("until %s = %v, want an error", text, got)
			} else if quoted := text == "'2027-01-31'"; strings.HasSuffix(err.Error(), "without quotes") != quoted {
				t.Errorf("until %s: %v", text, err)
			}
			continue
		}
		if err != nil || got.Format(time.RFC3339) != want || got.Location() != time.UTC {
			t.Errorf("until %s = %v, %v; want %s", text, got, err, want)
		}
	}
}

func TestOverrideProblems(t *testing.T) {
	for _, tt := range []struct{ domain, policy, more, want string }{
		{"'*.example.com'", "'may'", "", `domain = "*.example.com": write ".example.com" for all names below it`},
		{"'[mx.example.com]'", "'may'", "", `domain = "[mx.example.com]": want a name without brackets and port`},
		{"'example.com:26'", "'may'", "", `domain = "example.com:26": want a name without`},
		{"'192.0.2.1'", "'may'", "", `domain = "192.0.2.1": an address has no policy`},
		{"'2001:db8::1'", "'may'", "", `domain = "2001:db8::1": want a name without`},
		{"''", "'may'", "", `domain = "": want a domain`},
		{"'.'", "'may'", "", `domain = ".": this is no name`},
		{"'..com'", "'may'", "", `domain = "..com": this is no name`},
		{"'a b.example'", "'may'", "", `domain = "a b.example": this is no name`},
		{"1", "'may'", "", `domain = 1: want a domain`},
		{"'a.example'", "''", "", `policy = "": want a TLS policy as Postfix writes it`},
		{"'a.example'", "'encrypted'", "", `policy = "encrypted": "encrypted": not a security level`},
		{"'a.example'", "'encrypt match=a.example'", "", `policy = "encrypt match=a.example": match: not allowed at level encrypt`},
		{"'a.example'", "'secure mach=a.example'", "", `policy = "secure mach=a.example": mach: unknown attribute`},
		{"'a.example'", "'may policy_type=sts policy_domain=a.example { policy_string = mode: enforce }'", "", `policy = "may policy_type=sts policy_domain=a.example { policy_string "...: policy_string: it quotes`},
		{"'a.example'", "'Ignore'", "", `policy = "Ignore": "Ignore": not a security level`},
		{"'a.example'", "['may']", "", `policy = a list: want a TLS policy`},
		{"'a.example'", "'may'", "reason = \"a\\nb\"", `reason = "a\nb": want a text of one line`},
		{"'a.example'", "'may'", "until = 10:00:00", `until = 10:00:00: want a date`},
	} {
		_, err := Parse("f", []byte("[[override]]\n domain = "+tt.domain+"\n policy = "+tt.policy+"\n"+tt.more))
		if err == nil || !strings.Contains(err.Error(), ": override."+tt.want) || strings.Contains(err.Error(), "f:1:") {
			t.Errorf("%s, %s, %s: %v", tt.domain, tt.policy, tt.more, err)
		}
	}
}

// Attributes must make the policy again that they came from.
func TestSetPolicy(t *testing.T) {
	for _, tt := range []struct {
		text string
		want verdict.Override
	}{
		{"ignore", verdict.Override{}},
		{"Encrypt", verdict.Override{Level: "encrypt"}},
		{"secure servername=hostname,match=a.example:.b.example match=nexthop", verdict.Override{Level: "secure", Attributes: []verdict.Attribute{
			{Name: "match", Value: "a.example:.b.example:nexthop"}, {Name: "servername", Value: "hostname"},
		}}},
		{"may {policy_type = sts} policy_domain=a.example mx_host_pattern=*.a.example mx_host_pattern=b.example", verdict.Override{Level: "may", Attributes: []verdict.Attribute{
			{Name: "policy_type", Value: "sts"},
			{Name: "policy_domain", Value: "a.example"},
			{Name: "mx_host_pattern", Value: "*.a.example"},
			{Name: "mx_host_pattern", Value: "b.example"},
		}}},
	} {
		var o Override
		if err := setPolicy(&o, tt.text); err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if diff := cmp.Diff(tt.want, o.Override); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, diff)
		}
		if o.Level == "" {
			continue
		}
		line := o.Level
		for _, a := range o.Attributes {
			line += " " + a.Name + "=" + a.Value
		}
		again, err := postfixmap.ParseTLSPolicy(line, newestPostfix)
		first, _ := postfixmap.ParseTLSPolicy(tt.text, newestPostfix)
		if diff := cmp.Diff(first, again); err != nil || diff != "" {
			t.Errorf("%s again: %v\n%s", tt.text, err, diff)
		}
	}
}

func TestForDoesNotAllocate(t *testing.T) {
	o := mustParse(t, someOverrides).Overrides
	for _, name := range []string{"nothing.at.all.example.org", "a.mail.example.com"} {
		if n := testing.AllocsPerRun(100, func() { o.For(name) }); n != 0 {
			t.Errorf("For(%q): %v allocations", name, n)
		}
	}
}

func BenchmarkOverridesFor(b *testing.B) {
	c, err := Parse("b", []byte(someOverrides))
	if err != nil {
		b.Fatal(err)
	}
	for name, domain := range map[string]string{"miss": "a.mail.example.org", "hit": "a.mail.example.com"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Overrides.For(domain)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	doc := []byte(someOverrides)
	for b.Loop() {
		if _, err := Parse("b", doc); err != nil {
			b.Fatal(err)
		}
	}
}
