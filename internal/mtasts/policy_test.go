package mtasts_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
)

const usual = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n"

func parse(t testing.TB, text string) mtasts.Policy {
	t.Helper()
	p, err := mtasts.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatalf("ParsePolicy(%q): %v", text, err)
	}
	return p
}

func names(list []mtasts.Pattern) []string {
	out := make([]string, 0, len(list))
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

func TestParsePolicy(t *testing.T) {
	p := parse(t, usual)
	if p.Mode != mtasts.ModeEnforce || p.MaxAge != 7*24*time.Hour {
		t.Errorf("mode %v, max_age %v", p.Mode, p.MaxAge)
	}
	if got := names(p.MX); !reflect.DeepEqual(got, []string{"mail.example.com", "*.example.net"}) {
		t.Errorf("mx %q", got)
	}
	if len(p.Lines) != 5 || p.Lines[3] != "mx: *.example.net" {
		t.Errorf("lines %q", p.Lines)
	}
	if !p.Match("a.example.net") || p.Match("example.net") || p.Match("other.test") {
		t.Error("the policy matches the wrong hosts")
	}
}

// same says that a text must read as the usual policy.
func same(t *testing.T, texts map[string]string) {
	t.Helper()
	want := parse(t, usual)
	for name, text := range texts {
		got := parse(t, text)
		if got.Mode != want.Mode || got.MaxAge != want.MaxAge || !reflect.DeepEqual(got.MX, want.MX) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestS5LineEndsAndBlanks(t *testing.T) {
	same(t, map[string]string{
		"CRLF":             strings.ReplaceAll(usual, "\n", "\r\n"),
		"mixed":            strings.Replace(usual, "\n", "\r\n", 2),
		"no last line end": strings.TrimSuffix(usual, "\n"),
		"trailing blanks":  strings.ReplaceAll(usual, "\n", " \t\r\n"),
		"no blank":         strings.ReplaceAll(usual, ": ", ":"),
		"tabs":             strings.ReplaceAll(usual, ": ", ":\t \t"),
		"other order":      "max_age: 604800\nmx: mail.example.com\nmode: enforce\nmx: *.example.net\nversion: STSv1\n",
	})
	refuse(t, map[string]string{
		"leading blank":         strings.Replace(usual, "mode", " mode", 1),
		"leading blank, line 1": " " + usual,
		"blank before colon":    strings.Replace(usual, "mode:", "mode :", 1),
		"CR alone":              strings.ReplaceAll(usual, "\n", "\r"),
		"blank line between":    strings.Replace(usual, "\nmode", "\n\nmode", 1),
		"upper-case key":        strings.Replace(usual, "mode", "Mode", 1),
		"upper-case value":      strings.Replace(usual, "enforce", "Enforce", 1),
		"lower-case version":    strings.Replace(usual, "STSv1", "stsv1", 1),
		"NUL":                   usual + "x: a\x00b\n",
	})
}

func TestS5BlankEndAndBOM(t *testing.T) {
	same(t, map[string]string{
		"blank last line": usual + "\n",
		"blank CRLF line": usual + "\r\n",
		"several, filled": usual + " \r\n\t\n\n",
		"BOM":             "\xef\xbb\xbf" + usual,
		"BOM and blank":   "\xef\xbb\xbf" + usual + "\r\n\r\n",
	})
	refuse(t, map[string]string{
		"two BOMs":    "\xef\xbb\xbf\xef\xbb\xbf" + usual,
		"UTF-16 BOM":  "\xff\xfe" + usual,
		"BOM between": strings.Replace(usual, "mode", "\xef\xbb\xbfmode", 1),
	})
}

func TestS6Fields(t *testing.T) {
	same(t, map[string]string{
		"unknown fields":      usual + "x-new: some text, ünïcode: yes\nfoo: bar\n",
		"first mode wins":     usual + "mode: none\n",
		"later may be broken": usual + "mode: whatever\nmax_age: soon\nversion: STSv2\n",
		"first max_age wins":  usual + "max_age: 1\n",
	})
	none := parse(t, "version: STSv1\nmode: none\nmax_age: 86400\n")
	if none.Mode != mtasts.ModeNone || len(none.MX) != 0 {
		t.Errorf("mode none: %+v", none)
	}
	if p := parse(t, strings.Replace(usual, "enforce", "testing", 1)); p.Mode != mtasts.ModeTesting {
		t.Errorf("mode %v, want testing", p.Mode)
	}
	refuse(t, map[string]string{
		"empty":               "",
		"only blanks":         " \r\n\r\n",
		"no version":          strings.Replace(usual, "version: STSv1\n", "", 1),
		"no mode":             strings.Replace(usual, "mode: enforce\n", "", 1),
		"no max_age":          strings.Replace(usual, "max_age: 604800\n", "", 1),
		"no mx":               "version: STSv1\nmode: enforce\nmax_age: 86400\n",
		"no mx in testing":    "version: STSv1\nmode: testing\nmax_age: 86400\n",
		"nmx":                 "version: STSv1\nmode: enforce\nnmx: mail.example.com\nmax_age: 86400\n",
		"first mode broken":   "mode: whatever\n" + usual,
		"no colon":            usual + "garbage\n",
		"no name":             usual + ": x\n",
		"field without value": usual + "x:\n",
		"HTML":                "<!DOCTYPE html>\n<html></html>\n",
		"not UTF-8":           usual + "x: \xff\n",
	})
}

func TestS7MaxAgeClamped(t *testing.T) {
	with := func(v string) string { return strings.Replace(usual, "604800", v, 1) }
	for v, want := range map[string]time.Duration{
		"0":          0,
		"1":          time.Second,
		"0086400":    24 * time.Hour,
		"31557600":   mtasts.MaxMaxAge,
		"31557601":   mtasts.MaxMaxAge,
		"9999999999": mtasts.MaxMaxAge,
	} {
		if p := parse(t, with(v)); p.MaxAge != want {
			t.Errorf("max_age %s is %v, want %v", v, p.MaxAge, want)
		}
	}
	for _, v := range []string{"-1", "+1", "1.5", "1e3", "0x10", "1 day", "10000000000", "99999999999999999999", "١"} {
		refuse(t, map[string]string{v: with(v)})
	}
}

func TestS8BadMXMakesThePolicyInvalid(t *testing.T) {
	for _, v := range []string{"foo bar", "*.*.x", "a..b", "bücher.example", "*", "mail.example.com.", "-", "[192.0.2.1]"} {
		text := strings.Replace(usual, "*.example.net", v, 1)
		_, err := mtasts.ParsePolicy([]byte(text))
		var pe *mtasts.PolicyError
		if !errors.As(err, &pe) || pe.Line != 4 || !strings.Contains(pe.Why, fmt.Sprintf("%q", v)) {
			t.Errorf("mx %q: %v; want an error with line 4 and the value", v, err)
		}
	}
}

func refuse(t *testing.T, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		if p, err := mtasts.ParsePolicy([]byte(text)); !errors.Is(err, mtasts.ErrBadPolicy) {
			t.Errorf("%s: %+v, %v; want ErrBadPolicy", name, p, err)
		} else if !reflect.DeepEqual(p, mtasts.Policy{}) {
			t.Errorf("%s: an error and a policy", name)
		}
	}
}

func TestPolicySizes(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: STSv1\nmode: enforce\nmax_age: 86400\n")
	n := 0
	for ; b.Len() < 60<<10; n++ {
		fmt.Fprintf(&b, "mx: h%d.example.com\n", n/2)
	}
	p := parse(t, b.String())
	if len(p.MX) != n {
		t.Errorf("%d patterns kept, want %d", len(p.MX), n)
	}
	if got := p.Renderable(); len(got) != (n+1)/2 || got[0] != p.MX[0] || got[1] != p.MX[2] {
		t.Errorf("%d patterns to render, want %d in order", len(got), (n+1)/2)
	}
	pad := usual + "x: "
	refuse(t, map[string]string{"65537 octets": pad + strings.Repeat("a", mtasts.MaxPolicySize+1-len(pad))})
	same(t, map[string]string{"65536 octets": pad + strings.Repeat("a", mtasts.MaxPolicySize-len(pad))})
}

func TestRenderableLeavesStrategiesOut(t *testing.T) {
	p := parse(t, "version: STSv1\nmode: enforce\nmax_age: 86400\n"+
		"mx: hostname\nmx: b.example\nmx: 192.0.2.1\nmx: *.a.example\nmx: nexthop\nmx: B.example\nmx: dot-nexthop\n")
	if got := names(p.Renderable()); !reflect.DeepEqual(got, []string{"b.example", "*.a.example"}) {
		t.Errorf("renderable: %q", got)
	}
	if !p.Match("hostname") {
		t.Error("the policy lost a pattern that cannot be rendered")
	}
	only := parse(t, "version: STSv1\nmode: enforce\nmax_age: 86400\nmx: hostname\n")
	if got := only.Renderable(); len(got) != 0 {
		t.Errorf("renderable: %q", names(got))
	}
}

func TestS17Modes(t *testing.T) {
	for m, want := range map[mtasts.Mode]string{
		0: "unknown", mtasts.ModeNone: "none", mtasts.ModeTesting: "testing", mtasts.ModeEnforce: "enforce", 9: "mode(9)",
	} {
		if m.String() != want {
			t.Errorf("%d is %q, want %q", m, m, want)
		}
	}
	if (mtasts.Policy{}).Mode != mtasts.ModeUnknown {
		t.Error("the zero policy has a mode")
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{
		usual, "\xef\xbb\xbf" + strings.ReplaceAll(usual, "\n", "\r\n") + "\r\n", "version: STSv1\nmode: none\nmax_age: 0",
		"version: STSv1\nmode: enforce\nnmx: a.b\nmax_age: 1\n", usual + "x: \t y\tz \n\n", usual + "mx: hostname\nmx: 1.2.3.4\n",
		"version:STSv1 \r\nmode:testing\r\nmx:*.A.b\r\nmax_age:9999999999\r\n", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := mtasts.ParsePolicy(body)
		if err != nil {
			var pe *mtasts.PolicyError
			if !errors.As(err, &pe) || !reflect.DeepEqual(p, mtasts.Policy{}) || len(err.Error()) > 1000 {
				t.Fatalf("%+v, %v", p, err)
			}
			return
		}
		if p.Mode == mtasts.ModeUnknown || p.MaxAge < 0 || p.MaxAge > mtasts.MaxMaxAge || len(p.MX) == 0 && p.Mode != mtasts.ModeNone {
			t.Fatalf("accepted %+v", p)
		}
		again, err := mtasts.ParsePolicy([]byte(p.Text()))
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
		for _, pattern := range p.Renderable() {
			if s := pattern.String(); strings.ContainsAny(s, " :|,=") || !strings.Contains(s, ".") {
				t.Fatalf("%q would reach a policy line", s)
			}
		}
	})
}

func BenchmarkParsePolicy(b *testing.B) {
	b.ReportAllocs()
	body := []byte(usual)
	for b.Loop() {
		if _, err := mtasts.ParsePolicy(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePolicy60KB(b *testing.B) {
	b.ReportAllocs()
	body := []byte(usual + strings.Repeat("mx: m.x\n", 60<<10/8))
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		p, err := mtasts.ParsePolicy(body)
		if err != nil || len(p.Renderable()) != 3 {
			b.Fatal(len(p.Renderable()), err)
		}
	}
}
