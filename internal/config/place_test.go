package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLocate(t *testing.T) {
	tests := []struct {
		name, doc string
		want      places
	}{
		{"empty", "", places{}},
		{"comments", "# a\n\n  # b = 1\nmode = 1 # c = 2\n", places{"mode": 4}},
		{"tables", "a = 1\n[dns]\nb = 2\n\n[log] # x\nc=3", places{"a": 1, "dns": 2, "dns.b": 3, "log": 5, "log.c": 6}},
		{"crlf", "a = 1\r\n[b]\r\nc = 2\r\n", places{"a": 1, "b": 2, "b.c": 3}},
		{"byte order mark", "\xef\xbb\xbfa = 1\nb = 2", places{"a": 1, "b": 2}},
		{"dotted keys", "a.b.c = 1\na . d = 2\n[e . f]\ng.h = 3", places{
			"a": 1, "a.b": 1, "a.b.c": 1, "a.d": 2, "e": 3, "e.f": 3, "e.f.g": 4, "e.f.g.h": 4,
		}},
		{"quoted keys", `"a.b" = 1` + "\n'c\"d' = 2\n\"\\u0065\" = 3\n['x y']\nz=1", places{
			`"a.b"`: 1, `"c\"d"`: 2, "e": 3, `"x y"`: 4, `"x y".z`: 5,
		}},
		{"table array", "[[o]]\na = 1\n[[o]]\n[o.sub]\nb = 2\n[[o]]\na = 3\n[z]", places{
			"o": 1, "o[0]": 1, "o[0].a": 2, "o[1]": 3, "o[1].sub": 4, "o[1].sub.b": 5, "o[2]": 6, "o[2].a": 7, "z": 8,
		}},
		{"nested table array", "[[o]]\n[[o.p]]\n[[o.p]]\na=1\n[[o]]\n[[o.p]]\na=2", places{
			"o": 1, "o[0]": 1, "o[0].p": 2, "o[0].p[0]": 2, "o[0].p[1]": 3, "o[0].p[1].a": 4,
			"o[1]": 5, "o[1].p": 6, "o[1].p[0]": 6, "o[1].p[0].a": 7,
		}},
		{"array", "a = [\n  1, # one ]\n\n  \"x]\", # two\n  [3,\n 4],\n]\nb = 1", places{
			"a": 1, "a[0]": 2, "a[1]": 4, "a[2]": 5, "a[2][0]": 5, "a[2][1]": 6, "b": 8,
		}},
		{"inline tables", "o = [ { a = 1, b.c = 2 },\n { a = '}' } ]\np = { q = { r = [1] } }\ns = 1", places{
			"o": 1, "o[0]": 1, "o[0].a": 1, "o[0].b": 1, "o[0].b.c": 1, "o[1]": 2, "o[1].a": 2,
			"p": 3, "p.q": 3, "p.q.r": 3, "p.q.r[0]": 3, "s": 4,
		}},
		{"strings", "a = \"x\\\"\\\\\" # \"\nb = '\\' # '\nc = \"\"\nd = ''\ne = 1", places{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}},
		{"multi-line strings", "a = \"\"\"\n[x]\nb = 1 \\\"\"\" \"\"\nc\"\"\"\"\"\nd = '''\ne = 1\n''''\nf = 1", places{
			"a": 1, "d": 5, "f": 8,
		}},
		{"dates", "a = 2027-01-31 10:00:00Z # x\nb = [2027-01-31, 10:00:00]\nc = 1", places{
			"a": 1, "b": 2, "b[0]": 2, "b[1]": 2, "c": 3,
		}},
		{"broken", "a = 1\n= 2\nb = 3", places{"a": 1}},
		{"ends inside", "a = [1,\n[b", places{"a": 1, "a[0]": 1, "a[1]": 2, "a[1][0]": 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := locate(tt.doc)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("places (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLocateDepth(t *testing.T) {
	for _, doc := range []string{
		"a = 1\nb = " + strings.Repeat("[", 1_000_000),
		"a = 1\n" + strings.Repeat("b.", 1_000_000) + "c = 1",
		"a = 1\n[" + strings.Repeat("b.", 1_000_000) + "c]",
		"a = 1\nb = " + strings.Repeat("{c = ", 1_000_000),
	} {
		if _, line, err := locate(doc); !errors.Is(err, errDepth) || line != 2 {
			t.Errorf("locate(%.20q) = line %d, %v", doc, line, err)
		}
		_, err := Parse("x", []byte(doc))
		if err == nil || !strings.HasPrefix(err.Error(), "x:2: ") {
			t.Errorf("Parse(%.20q) = %v", doc, err)
		}
	}
}

func TestPlacesLine(t *testing.T) {
	p := places{"o": 1, "o[0]": 2, "o[0].a": 3, "dns": 7}
	for path, want := range map[string]int{
		"o[0].a": 3, "o[0].b": 2, "o[4].a": 1, "o[0].a[3]": 3, "dns.timeout": 7, "x": 1, "x.y[1]": 1, "": 1,
	} {
		if got := p.line(path); got != want {
			t.Errorf("line(%q) = %d, want %d", path, got, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	known := newTables().paths
	for path, want := range map[string]string{
		"dns.timeot":               "dns.timeout",
		"dns.time-out":             "dns.timeout",
		"dns.Timeout":              "dns.timeout",
		"mta_sts.timeuot":          "mta_sts.timeout",
		"mta_sts.allow_network":    "mta_sts.allow_networks",
		"mta-sts.mode":             "mta_sts.mode",
		"log.mode":                 "mode",
		"socketmap.mode":           "mode",
		"listen":                   "socketmap.listen",
		"dnssec":                   "dns.dnssec",
		"dns.path":                 "store.path",
		"cache.maxttl":             "cache.max_ttl",
		"override.domian":          "override.domain",
		"override.level":           "log.level",
		"dns.frobnicate":           "",
		"x":                        "",
		strings.Repeat("mode", 99): "",
	} {
		if got := suggest(path, known); got != want {
			t.Errorf("suggest(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"abc", "acb", 1},
		{"abc", "abd", 1},
		{"abc", "ab", 1},
		{"abcd", "badc", 2},
		{"A-b", "a_b", 0},
	} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
