package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tlsverdict/postfixmap"
)

const (
	milterSample    = "../../contrib/milter.toml"
	milterReference = "../../docs/milter.md"
)

func mustParseMilter(t *testing.T, text string) *Milter {
	t.Helper()
	m, err := ParseMilter("milter.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sameMilter compares what files say, not where they are.
func sameMilter(a, b *Milter) string {
	return cmp.Diff(a, b, cmpopts.IgnoreFields(Milter{}, "File", "Policyd", "places", "warnings"),
		cmpopts.EquateComparable(postfixmap.Address{}), cmpopts.EquateEmpty())
}

// TestMilterSample: the sample says what holds without it, and has every key.
func TestMilterSample(t *testing.T) {
	text := readText(t, milterSample)
	m := mustParseMilter(t, text)
	if diff := sameMilter(m, DefaultMilter()); diff != "" {
		t.Errorf("the sample differs from the defaults:\n%s", diff)
	}
	if ws := m.Warnings(time.Now()); len(ws) != 0 {
		t.Errorf("warnings of the sample: %v", ws)
	}
	for _, k := range milterKeys() {
		_, name := split(k.path)
		if !strings.Contains(text, "\n"+name+" = "+k.def+"\n") {
			t.Errorf("the sample lacks %s = %s", name, k.def)
		}
	}
	// The example is commented out with no space after the #.
	m = mustParseMilter(t, regexp.MustCompile(`(?m)^#(\S.*)$`).ReplaceAllString(text, "$1"))
	yes := true
	want := []Require{{
		Line: 44, Sender: "*@legal.example.com", Recipient: "*", Authenticated: &yes, HeaderName: "X-Require-TLS", HeaderValue: "yes",
		SubjectTag: "[secure]", Minimum: "authenticated", Action: "reject",
	}}
	if diff := cmp.Diff(want, m.Require, cmpopts.IgnoreFields(Require{}, "Line")); diff != "" {
		t.Error(diff)
	}
	for _, k := range requireKeys() {
		if _, name := split(k.path); !strings.Contains(text, "\n#"+name+" = ") {
			t.Errorf("the example lacks %s", name)
		}
	}
}

// TestMilterReference: docs/milter.md has every key with its default, and its
// examples are accepted.
func TestMilterReference(t *testing.T) {
	text := readText(t, milterReference)
	check := func(path, def string) {
		if def == "" {
			def = "none"
		}
		if !strings.Contains(text, "| `"+path+"` | `"+def+"` |") {
			t.Errorf("docs/milter.md lacks %s with its default %s", path, def)
		}
	}
	for _, k := range milterKeys() {
		check(k.path, k.def)
	}
	for _, k := range requireKeys() {
		check(k.path, k.def)
	}
	examples := regexp.MustCompile("(?ms)^```\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	n := 0
	for _, e := range examples {
		if strings.HasPrefix(e[1], "# milter.toml") {
			n++
			mustParseMilter(t, e[1])
		}
	}
	if n < 2 {
		t.Errorf("%d examples: the test means nothing", n)
	}
}

// TestMilterProblems: what is wrong, each with its line.
func TestMilterProblems(t *testing.T) {
	for text, want := range map[string]string{
		"[milter]\nverdict = 'x'":                      `milter.toml:2: unknown key milter.verdict; did you mean "verdicts"?`,
		"[miter]\nlisten = []":                         "milter.toml:1: unknown table [miter]; did you mean [milter]?",
		"[milter]\nlisten = []":                        "milter.toml:2: milter.listen = []: want at least one address",
		"[milter]\nlisten = ['inet:127.0.0.1:1', 'x']": `milter.toml:2: milter.listen: "x": write inet:HOST:PORT or unix:/PATH`,
		"[milter]\non_error = 'reject'":                `milter.toml:2: milter.on_error = "reject": want "tempfail" or "accept"`,
		"[milter]\nlocal_domains = ['a..b']":           `milter.toml:2: milter.local_domains: "a..b": want a domain, such as "example.com"`,
		"milter = 3":                                   "milter.toml:1: milter = 3: want a table, [milter]",
		"[require]\nminimum = 'dane'":                  "milter.toml:1: [require] is one entry of a list: write [[require]]",
		"require = 3":                                  "milter.toml:1: require = 3: want entries that begin with [[require]]",
		"require = [3]":                                "milter.toml:1: require = 3: want a table, [[require]]",
		"[[require]]\nsender = '*'":                    "milter.toml:1: this [[require]] has no minimum",

		"[[require]]\nminimum='dane'\n[[require]]\nminimum = 'tls'":    `milter.toml:4: require.minimum = "tls": want "encrypted" or "authenticated" or "dane"`,
		"[[require]]\nminimum='dane'\nsendr='*'":                       `milter.toml:3: unknown key require.sendr; did you mean "sender"?`,
		"[[require]]\nminimum='dane'\nheader='X-A'":                    `milter.toml:3: require.header = "X-A": want a header with its value, such as "X-Require-TLS: yes"; "*" in it stands for any letters`,
		"[[require]]\nminimum='dane'\nauthenticated=3":                 `milter.toml:3: require.authenticated = 3: want true, false, or the name of a login, such as "bob" or "legal-*"`,
		"[[require]]\nminimum='dane'\nauthenticated=''":                `milter.toml:3: require.authenticated = "": want true, false, or the name of a login, such as "bob" or "legal-*"`,
		"[[require]]\nminimum='dane'\naction='annotate'":               `milter.toml:3: require.action = "annotate" needs the name of a header: annotate.header`,
		"[annotate]\nheader = 'X Y'":                                   `milter.toml:2: annotate.header = "X Y": want the name of a header, such as "X-TLS-Verdict", or ""`,
		"[dns]\ntimeout = '3s'":                                        `milter.toml:1: [dns] has no effect: milter.verdicts = "inet:127.0.0.1:8461" has policyd decide; "" decides here`,
		"[milter]\nverdicts = ''\n[dns]\ntimeot = '3s'":                `milter.toml:4: unknown key dns.timeot; did you mean "timeout"?`,
		"[milter]\nverdicts = ''\n[socketmap]\ndeadline = '3s'":        "milter.toml:3: unknown table [socketmap]",
		"[milter]\nverdicts = ''\n[http]\nlisten = '127.0.0.1:8462'":   "milter.toml:3: unknown table [http]",
		"mode = 'observe'":                                             "milter.toml:1: unknown key mode",
		"[milter]\nverdicts = ''\n[dns]\ndnssec='off'\n[mta_sts\n":     "milter.toml:6: not TOML",
		"[milter]\nverdicts = ''\n[cache]\nmin_ttl='2h'\nmax_ttl='1h'": `milter.toml:4: cache.min_ttl = "2h" is above cache.max_ttl = "1h"`,
	} {
		_, err := ParseMilter("milter.toml", []byte(text))
		var ps Problems
		if !errors.As(err, &ps) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\n%v\nwant:\n%s", text, err, want)
		}
	}
}

// TestMilterLogins: whether a client logged in, and as whom.
func TestMilterLogins(t *testing.T) {
	m := mustParseMilter(t, "[[require]]\nminimum='dane'\nauthenticated=false\n[[require]]\nminimum='dane'\nauthenticated='legal-*'\n[[require]]\nminimum='dane'\n")
	if q := m.Require[0]; q.Authenticated == nil || *q.Authenticated || q.User != "" {
		t.Errorf("%+v", q)
	}
	if q := m.Require[1]; q.Authenticated == nil || !*q.Authenticated || q.User != "legal-*" {
		t.Errorf("%+v", q)
	}
	if q := m.Require[2]; q.Authenticated != nil {
		t.Errorf("%+v", q)
	}
}

func TestMilterWarnings(t *testing.T) {
	m := mustParseMilter(t, "[milter]\nlisten = ['inet:0.0.0.0:8463']\nverdicts = 'inet:192.0.2.1:8461'\n")
	ws := m.Warnings(time.Now())
	if len(ws) != 2 || ws[0].Line != 2 || ws[1].Line != 3 {
		t.Errorf("warnings: %v", ws)
	}
}

// TestMilterInProcess: with no policyd the sections of policyd.toml hold.
func TestMilterInProcess(t *testing.T) {
	m := mustParseMilter(t, "[milter]\nverdicts = ''\ndeadline = '9s'\n[dns]\ntimeout = '3s'\n[log]\nlevel = 'debug'\n[[override]]\ndomain = 'example.com'\npolicy = 'encrypt'\n")
	if m.Policyd.DNS.Timeout != 3*time.Second || m.Policyd.Socketmap.Deadline != 9*time.Second || m.Policyd.Overrides.For("example.com") == nil {
		t.Errorf("%+v", m.Policyd)
	}
	if m.Policyd.Store.Path == Default().Store.Path {
		t.Error("the milter would take policyd's store")
	}
}

func TestLoadMilter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "milter.toml")
	if _, err := LoadMilter(file); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("\n[[require]]\nminimum = 'dane'\n\nsender = 'x'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := LoadMilter(file)
	if err != nil {
		t.Fatal(err)
	}
	if p := m.Fault(0, "sender", errors.New("why")); p.Error() != file+":5: why" || m.Require[0].Line != 2 {
		t.Errorf("%v, %+v", p, m.Require)
	}
}

func FuzzParseMilter(f *testing.F) {
	f.Add([]byte("[milter]\nlisten = ['unix:/x']\n[[require]]\nminimum = 'dane'\n"))
	f.Add([]byte("require = [{minimum = 'dane', header = 'a: b'}]\nannotate.header = 'X'\n"))
	f.Add([]byte("[require.x]\n[milter.y]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMilter("f", data)
		if (m == nil) == (err == nil) {
			t.Fatalf("%v, %v", m, err)
		}
		if m != nil && (len(m.Listen) == 0 || m.MaxConnections < 1) {
			t.Errorf("%+v", m)
		}
	})
}
