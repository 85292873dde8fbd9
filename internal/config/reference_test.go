package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	samplePath    = "../../contrib/policyd.toml"
	referencePath = "../../docs/policyd.toml.md"
)

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The sample file says what holds without it, and has every key.
func TestSampleIsDefault(t *testing.T) {
	text := readText(t, samplePath)
	c := mustParse(t, text)
	if !same(c, Default()) {
		t.Errorf("the sample is\n%+v, the defaults are\n%+v", c, Default())
	}
	if ws := c.Warnings(time.Now()); len(ws) != 0 {
		t.Errorf("warnings of the sample: %v", ws)
	}
	found, _, err := locate(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys() {
		line, ok := found[k.path]
		if !ok {
			t.Errorf("%s is not in the sample", k.path)
			continue
		}
		_, name := split(k.path)
		if got, want := strings.Split(text, "\n")[line-1], name+" = "+k.def; got != want {
			t.Errorf("line %d of the sample is %q, the table of keys says %q", line, got, want)
		}
	}
}

// The example of an override is commented out with no space after the #.
func TestSampleExample(t *testing.T) {
	text := regexp.MustCompile(`(?m)^#(\S.*)$`).ReplaceAllString(readText(t, samplePath), "$1")
	c := mustParse(t, text)
	if len(c.Overrides.All()) != 1 {
		t.Fatalf("%d overrides in the example", len(c.Overrides.All()))
	}
	found, _, err := locate(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range overrideKeys() {
		_, name := split(k.path)
		if _, ok := found["override[0]."+name]; !ok {
			t.Errorf("the example has no %s", name)
		}
	}
}

// The reference names every key with its default, and no other.
func TestReferenceKeys(t *testing.T) {
	text := readText(t, referencePath)
	want := map[string]string{}
	for _, k := range keys() {
		want[k.path] = "`" + k.def + "`"
	}
	for _, k := range overrideKeys() {
		want[k.path] = "none, "
		if k.def != "" {
			want[k.path] = "`" + k.def + "`"
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (.*)\n\n(.*)$`).FindAllStringSubmatch(text, -1) {
		path, first := m[1], m[2]
		def, ok := want[path]
		if !ok {
			t.Errorf("the reference has %s, which is no key", path)
		} else if !strings.HasPrefix(first, "Default: "+def) {
			t.Errorf("%s: the reference says %q, the table of keys %q", path, first, def)
		}
		delete(want, path)
	}
	for path := range want {
		t.Errorf("the reference lacks %s", path)
	}
}

// What the reference says in passing must be a key as well, in a table that
// exists, and the reserved keys are listed with all that they may be.
func TestReferenceMentions(t *testing.T) {
	text := readText(t, referencePath)
	tb := newTables()
	_, reserved, ok := strings.Cut(text, "## Reserved keys\n")
	if !ok {
		t.Fatal("no section of reserved keys")
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| (.*) \\|$").FindAllStringSubmatch(reserved, -1) {
		listed = append(listed, m[1])
		idle := tb.later[m[1]].idle
		var values []string
		for _, v := range idle {
			values = append(values, "`"+show(v)+"`")
		}
		if !strings.HasPrefix(m[2]+":", strings.Join(values, " or ")+":") {
			t.Errorf("%s may be %s, the reference says %s", m[1], values, m[2])
		}
	}
	var want []string
	for _, l := range laterKeys() {
		want = append(want, l.path)
	}
	if !slices.Equal(listed, want) {
		t.Errorf("reserved keys in the reference:\n%v, in the code:\n%v", listed, want)
	}
	for _, m := range regexp.MustCompile("`((?:"+strings.Join(tb.headers, "|")+")\\.[a-z_]+)`").FindAllStringSubmatch(text, -1) {
		_, now := tb.keys[m[1]]
		_, later := tb.later[m[1]]
		if _, override := tb.override[m[1]]; !now && !later && !override {
			t.Errorf("the reference speaks of %s, which is no key", m[1])
		}
	}
}

// The messages that the reference and the package document show are real ones.
func TestReferenceMessages(t *testing.T) {
	_, err := Parse("policyd.toml", []byte("\n\n[dns]\ntimeot = '1s'\n\n\n\n[mta_sts]\ntimeout = '90s'"))
	for _, path := range []string{referencePath, "doc.go"} {
		if !strings.Contains(strings.ReplaceAll(readText(t, path), "//\t", ""), err.Error()) {
			t.Errorf("%s does not show:\n%v", path, err)
		}
	}
}

// The limits that the reference gives are those that are enforced.
func TestReferenceLimits(t *testing.T) {
	text := readText(t, referencePath)
	sections := strings.Split(text, "\n### ")
	limits := regexp.MustCompile(`from "?([0-9a-z]+)"? to "?([0-9a-z]+)"?`)
	for _, k := range keys() {
		err := k.set(Default(), int64(-1))
		if err == nil {
			continue
		}
		m := limits.FindStringSubmatch(err.Error())
		if m == nil {
			continue
		}
		least, most := plainDuration(m[1]), plainDuration(m[2])
		i := slices.IndexFunc(sections, func(s string) bool { return strings.HasPrefix(s, k.path+"\n") })
		if i < 0 || !strings.Contains(sections[i], least+"` to `"+most) && !strings.Contains(sections[i], fmt.Sprintf("%s to %s", m[1], m[2])) {
			t.Errorf("%s: the reference does not give the limits %s to %s", k.path, least, most)
		}
	}
}

// plainDuration writes a limit as the reference does: 90s, not 1m30s.
func plainDuration(s string) string {
	d, err := time.ParseDuration(s)
	if err != nil {
		return s
	}
	if d > time.Minute && d < time.Hour {
		return fmt.Sprintf("%q", fmt.Sprintf("%ds", int(d.Seconds())))
	}
	return fmt.Sprintf("%q", s)
}
