package house

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestManualPages: policyd(8) and milter(8) have every command and every flag, and no
// other.
func TestManualPages(t *testing.T) {
	_, files := sources(t)
	for command, least := range map[string]int{"policyd": 8, "milter": 4} {
		want := make(map[string]bool)
		for name := range files {
			if !strings.HasPrefix(name, "cmd/"+command+"/") {
				continue
			}
			text := page(t, name)
			for _, m := range regexp.MustCompile(`Use:\s+"(\w[\w-]*) ?`).FindAllStringSubmatch(text, -1) {
				want[m[1]] = true
			}
			for _, m := range regexp.MustCompile(`Flags\(\)\.\w+VarP?\([^,]+, "([\w-]+)"`).FindAllStringSubmatch(text, -1) {
				want["--"+m[1]] = true
			}
		}
		delete(want, command)
		if len(want) < least {
			t.Fatalf("commands and flags of %s: %v: the test means nothing", command, want)
		}
		found := make(map[string]bool)
		for _, m := range regexp.MustCompile(`(?m)^\.(?:It|Op) (?:Ic|Fl) (-?)(\w[\w-]*)`).FindAllStringSubmatch(page(t, "docs/man/"+command+".8"), -1) {
			if m[1] != "" {
				m[2] = "--" + m[2]
			}
			found[m[2]] = true
		}
		for w := range want {
			if !found[w] {
				t.Errorf("%s(8) lacks %s", command, w)
			}
			delete(found, w)
		}
		for f := range found {
			t.Errorf("%s(8) has %s, which %s has not", command, f, command)
		}
	}
}

// TestManualPagesOfConfiguration: policyd.toml(5) and milter.toml(5) have the keys and
// defaults of docs/policyd.toml.md and docs/milter.md, which tests of package config hold
// against the code.
func TestManualPagesOfConfiguration(t *testing.T) {
	for _, tc := range []struct {
		man, reference, list string
		key                  *regexp.Regexp
	}{
		{"policyd.toml.5", "docs/policyd.toml.md", "override.", regexp.MustCompile("(?m)^### (.*)\n\nDefault: (?:`(.*?)`)?")},
		{"milter.toml.5", "docs/milter.md", "require.", regexp.MustCompile("(?m)^\\| `((?:milter|annotate|require)\\.[a-z_]+)` \\| `(.*?)` \\|")},
	} {
		found := make(map[string]string)
		for _, m := range regexp.MustCompile(`(?m)^\.It Va ([a-z_.]+)(?: No = Li (.*))?$`).FindAllStringSubmatch(page(t, "docs/man/"+tc.man), -1) {
			found[m[1]] = strings.ReplaceAll(m[2], `\(dq`, `"`)
		}
		keys := tc.key.FindAllStringSubmatch(page(t, tc.reference), -1)
		if len(keys) < 10 {
			t.Errorf("%s: %d keys: the test means nothing", tc.reference, len(keys))
		}
		for _, m := range keys {
			key, def := strings.TrimPrefix(m[1], tc.list), m[2]
			if def == "none" {
				def = ""
			}
			if got, ok := found[key]; !ok {
				t.Errorf("%s lacks %s", tc.man, key)
			} else if got != def && (got != "" || key == m[1]) {
				t.Errorf("%s gives %s the default %s, the reference %s", tc.man, key, got, def)
			}
			delete(found, key)
		}
		for key := range found {
			t.Errorf("%s has %s, which the reference has not", tc.man, key)
		}
	}
}

// TestManualPagesAreWellFormed: each page has the sections that a reader looks for, in
// their order, and each list and display that begins in it ends.
func TestManualPagesAreWellFormed(t *testing.T) {
	entries, err := os.ReadDir(root + "/docs/man")
	if err != nil || len(entries) < 4 {
		t.Fatalf("%d pages, %v", len(entries), err)
	}
	order := []string{
		"NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "DIAGNOSTICS", "SEE ALSO", "STANDARDS",
		"SECURITY CONSIDERATIONS",
	}
	for _, e := range entries {
		text := page(t, "docs/man/"+e.Name())
		at := 0
		for _, m := range regexp.MustCompile(`(?m)^\.Sh (.*)$`).FindAllStringSubmatch(text, -1) {
			for at < len(order) && order[at] != m[1] {
				at++
			}
			if at == len(order) {
				t.Errorf("%s: section %s is unknown, or too late", e.Name(), m[1])
				break
			}
		}
		for open, end := range map[string]string{"Bl": "El", "Bd": "Ed", "Po": "Pc", "Rs": "Re"} {
			begun := len(regexp.MustCompile(`(?m)^\.`+open+`\b`).FindAllString(text, -1))
			ended := len(regexp.MustCompile(`(?m)^\.`+end+`\b`).FindAllString(text, -1))
			if begun != ended {
				t.Errorf("%s: %d .%s and %d .%s", e.Name(), begun, open, ended, end)
			}
		}
		section := e.Name()[strings.LastIndexByte(e.Name(), '.')+1:]
		name := strings.TrimSuffix(e.Name(), "."+section)
		if !strings.Contains(text, "\n.Dt "+strings.ToUpper(name)+" "+section+"\n") || !strings.Contains(text, "\n.Nm "+name+"\n") {
			t.Errorf("%s is not titled %s(%s)", e.Name(), name, section)
		}
	}
}
