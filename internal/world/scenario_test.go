package world_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"

	"tlsverdict/internal/config"
	"tlsverdict/internal/world"
)

const scenarioDir = "../../testdata/scenarios"

// scenario is a file of testdata/scenarios, whose format is in README.md there.
type scenario struct {
	file     string
	archive  *txtar.Archive
	proves   []string
	zones    string
	https    []string
	mail     []string
	policies []policyText
	config   string
	steps    []step
}

// policyText is a policy that is served at once (label "") or when a step says so.
type policyText struct{ domain, label, body string }

// step is a line of the steps section. The first word says what it does.
type step struct {
	// line counts from 1, in the section.
	line  int
	words []string
	// mode is the only one that the step is played in; "" is all.
	mode string
}

func (s step) verb() string   { return s.words[0] }
func (s step) args() []string { return s.words[1:] }
func (s step) String() string { return fmt.Sprintf("steps:%d: %s", s.line, strings.Join(s.words, " ")) }

// rest is what follows the verb, as one string.
func (s step) rest() string { return strings.Join(s.words[1:], " ") }

// provesLine is "Proves: S1, D4."
var provesLine = regexp.MustCompile(`(?m)^Proves: ([A-Z]+[0-9]+(?:, [A-Z]+[0-9]+)*)\.$`)

func readScenario(file string) (*scenario, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseScenario(file, data)
}

func parseScenario(file string, data []byte) (*scenario, error) {
	s := &scenario{file: file, archive: txtar.Parse(data)}
	match := provesLine.FindStringSubmatch(string(s.archive.Comment))
	if match == nil {
		return nil, errors.New(`the comment has no line "Proves: ID, ID." with rows of the ledger`)
	}
	s.proves = strings.Split(match[1], ", ")
	if strings.TrimSpace(string(s.archive.Comment[:strings.Index(string(s.archive.Comment), "Proves: ")])) == "" {
		return nil, errors.New("the comment does not begin with what the scenario shows")
	}
	seen := make(map[string]bool)
	for _, f := range s.archive.Files {
		if seen[f.Name] {
			return nil, fmt.Errorf("a second section %q", f.Name)
		}
		seen[f.Name] = true
		if err := s.section(f.Name, string(f.Data)); err != nil {
			return nil, err
		}
	}
	return s, s.check()
}

func (s *scenario) section(name, text string) error {
	words := strings.Fields(name)
	switch {
	case name == "zones":
		s.zones = text
	case name == "config":
		s.config = text
	case name == "https":
		s.https = settings(text)
	case name == "mail":
		s.mail = settings(text)
	case name == "steps":
		s.readSteps(text)
	case len(words) > 1 && len(words) < 4 && words[0] == "policy":
		label := ""
		if len(words) == 3 {
			label = words[2]
		}
		body, err := policyBody(text)
		if err != nil {
			return err
		}
		s.policies = append(s.policies, policyText{words[1], label, body})
	default:
		return fmt.Errorf("unknown section %q", name)
	}
	return nil
}

// settings are the lines of a section, but for comments.
func settings(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = uncomment(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// policyBody expands what a policy would be too long for: "%repeat", a trailing
// backslash-r, and "%bom".
func policyBody(text string) (string, error) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "%bom "); ok {
			line = "\ufeff" + rest
		}
		lines, err := world.Repeat(line)
		if err != nil {
			return "", err
		}
		for _, one := range lines {
			b.WriteString(strings.ReplaceAll(one, `\r`, "\r"))
			b.WriteByte('\n')
		}
	}
	return b.String(), nil
}

func (s *scenario) readSteps(text string) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = uncomment(line); line != "" {
			st := step{line: n, words: strings.Fields(line)}
			if mode, only := strings.CutSuffix(st.words[0], ":"); only && len(st.words) > 1 {
				st.mode, st.words = mode, st.words[1:]
			}
			s.steps = append(s.steps, st)
		}
	}
}

func uncomment(line string) string {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") {
		return ""
	}
	return line
}

// check refuses a scenario that proves nothing or that has a verb nobody knows.
func (s *scenario) check() error {
	wants := 0
	for _, st := range s.steps {
		if !slices.Contains(verbs(), st.verb()) {
			return fmt.Errorf("%v: unknown verb %q", st, st.verb())
		}
		if st.mode != "" && !slices.ContainsFunc(s.modes(), func(m config.DNSSEC) bool { return m.String() == st.mode }) {
			return fmt.Errorf("%v: it is not played with dnssec = %q", st, st.mode)
		}
		if st.verb() == "want" {
			wants++
		}
	}
	if wants == 0 {
		return errors.New("it wants nothing")
	}
	return nil
}

// namesMode is the setting that a scenario is about, where its configuration has it.
var namesMode = regexp.MustCompile(`(?m)^dnssec = "([a-z-]+)"$`)

// modes are the ways to DNSSEC proof that a scenario is played with: both that there
// are, or the one that its configuration names.
func (s *scenario) modes() []config.DNSSEC {
	all := []config.DNSSEC{config.DNSSECTrustAD, config.DNSSECValidate}
	match := namesMode.FindStringSubmatch(s.config)
	if match == nil {
		return all
	}
	if match[1] == config.DNSSECOff.String() {
		return []config.DNSSEC{config.DNSSECOff}
	}
	return slices.DeleteFunc(all, func(m config.DNSSEC) bool { return m.String() != match[1] })
}

// rewrite writes the file anew with other wants, by line of the steps section.
func (s *scenario) rewrite(wants map[int]string) error {
	for i, f := range s.archive.Files {
		if f.Name != "steps" {
			continue
		}
		lines := strings.Split(string(f.Data), "\n")
		for n, want := range wants {
			before, _, _ := strings.Cut(lines[n-1], "want ")
			lines[n-1] = before + "want " + want
		}
		s.archive.Files[i].Data = []byte(strings.Join(lines, "\n"))
	}
	return os.WriteFile(s.file, txtar.Format(s.archive), 0o644)
}

// scenarioFiles returns all files of testdata/scenarios, sorted.
func scenarioFiles() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(scenarioDir, "*", "*.txtar"))
	if err == nil && len(files) == 0 {
		err = errors.New("no scenarios in " + scenarioDir)
	}
	return files, err
}

// scenarioName is how the ledger names a scenario: "dane/all-hosts".
func scenarioName(file string) string {
	return filepath.Base(filepath.Dir(file)) + "/" + strings.TrimSuffix(filepath.Base(file), ".txtar")
}
