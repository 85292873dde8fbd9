package mtasts_test

import (
	"errors"
	"strings"
	"testing"

	"tlsverdict/internal/mtasts"
)

func TestS15WildcardIsOneLabel(t *testing.T) {
	tests := []struct {
		pattern, host string
		want          bool
	}{
		{"mail.example.com", "mail.example.com", true},
		{"mail.example.com", "a.mail.example.com", false},
		{"mail.example.com", "xmail.example.com", false},
		{"MAIL.Example.COM", "mail.example.com", true},
		{"*.example.com", "mail.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "a.b.example.com", false},
		{"*.example.com", "mailexample.com", false},
		{"*.example.com", "mail.example.com.evil.test", false},
		{"*.EXAMPLE.com", "mail.example.com", true},
		{"*.com", "example.com", true},
		{"*.com", "mail.example.com", false},
		{"localhost", "localhost", true},
		{"*.localhost", "localhost", false},
		{"mail.example.com", "", false},
		{"*.example.com", "", false},
	}
	for _, tt := range tests {
		p, err := mtasts.ParsePattern(tt.pattern)
		if err != nil {
			t.Fatalf("ParsePattern(%q): %v", tt.pattern, err)
		}
		if got := p.Match(tt.host); got != tt.want {
			t.Errorf("%q matches %q: %t, want %t", tt.pattern, tt.host, got, tt.want)
		}
	}
	if (mtasts.Pattern{}).Match("") {
		t.Error("the zero pattern matches the empty name")
	}
}

func TestS8PatternIsAName(t *testing.T) {
	label63, name253 := strings.Repeat("a", 63), strings.Repeat("a.", 126)+"a"
	good := map[string]string{
		"xn--bcher-kva.example":   "xn--bcher-kva.example",
		"MX1.Example.Com":         "mx1.example.com",
		"*.XN--bcher-kva.example": "*.xn--bcher-kva.example",
		"mx_1.example.com":        "mx_1.example.com",
		label63 + ".example":      label63 + ".example",
		name253:                   name253,
		"192.0.2.1":               "192.0.2.1",
		"hostname":                "hostname",
		"aspmx.l.google.com":      "aspmx.l.google.com",
	}
	for value, want := range good {
		p, err := mtasts.ParsePattern(value)
		if err != nil || p.String() != want {
			t.Errorf("ParsePattern(%q) = %q, %v; want %q", value, p, err, want)
		}
	}
	for _, value := range []string{
		"", ".", "mail.example.com.", "*", "*.", "**.example.com", "*.*.x", "a.*.x", "*example.com", "foo bar", "a..b", ".a.b", "a.b.",
		"bücher.example", "a_b.example\x00", "-a.example", "a-.example", "a.-b", "a.b-", "2001:db8::1", "[192.0.2.1]",
		"a.example:25", "a/b.example", label63 + "a.example", name253 + "a", "a.example,b.example", "a|b.example",
		"*.-", "-", "a=b.example", "{a.example", "\u212aelvin.example",
	} {
		if p, err := mtasts.ParsePattern(value); !errors.Is(err, mtasts.ErrBadPattern) {
			t.Errorf("ParsePattern(%q) = %q, %v; want ErrBadPattern", value, p, err)
		}
	}
}

func TestRenderable(t *testing.T) {
	for value, want := range map[string]bool{
		"mail.example.com":  true,
		"*.example.com":     true,
		"*.com":             true,
		"hostname":          false,
		"nexthop":           false,
		"dot-nexthop":       false,
		"HOSTNAME":          false,
		"localhost":         false,
		"192.0.2.1":         false,
		"*.0.2.1":           false,
		"*.1":               false,
		"1":                 false,
		"mail.example.123":  false,
		"mail.123.example":  true,
		"hostname.example":  true,
		"*.hostname":        true,
		"1.2.3.4.in-a.test": true,
	} {
		p, err := mtasts.ParsePattern(value)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Renderable(); got != want || got != (p.Defect() == "") {
			t.Errorf("%q renderable: %t (%q), want %t", value, got, p.Defect(), want)
		}
	}
	if (mtasts.Pattern{}).Renderable() {
		t.Error("the zero pattern may be rendered")
	}
}

func FuzzPatternMatch(f *testing.F) {
	for _, s := range [][2]string{
		{"*.example.com", "mail.example.com"},
		{"mail.example.com", "mail.example.com"},
		{"*.example.com", "a.b.example.com"},
		{"*.*.x", "a.b.x"},
		{"hostname", "hostname"},
		{"A..b", ""},
		{"*.xn--a", "é.xn--a"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, value, host string) {
		p, err := mtasts.ParsePattern(value)
		if err != nil {
			if p.Match(host) || p.Renderable() {
				t.Fatalf("%q was refused and still matches or renders", value)
			}
			return
		}
		again, err := mtasts.ParsePattern(p.String())
		if err != nil || again != p {
			t.Fatalf("%q became %q, which became %q, %v", value, p, again, err)
		}
		if p.Renderable() && strings.ContainsAny(p.String(), " \t\r\n:|,={}[]") {
			t.Fatalf("%q would break a policy line", p)
		}
		if !p.Match(host) {
			return
		}
		if p.Wildcard() {
			if strings.Count(host, ".") != strings.Count(p.String(), ".") || !strings.HasSuffix(host, p.String()[1:]) {
				t.Fatalf("%q matches %q", p, host)
			}
		} else if host != p.String() {
			t.Fatalf("%q matches %q", p, host)
		}
	})
}

func BenchmarkPatternMatch(b *testing.B) {
	b.ReportAllocs()
	p, err := mtasts.ParsePattern("*.mail.protection.example.com")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !p.Match("example-net.mail.protection.example.com") {
			b.Fatal("no match")
		}
	}
}
