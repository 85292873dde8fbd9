package world_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const ledgerFile = "../../testdata/rfc/ledger.tsv"

// row is a line of the ledger: a requirement, and what shows that it is met.
type row struct {
	id, rfc     string
	sections    []string
	requirement string
	status      string
	proof       []string
}

func readLedger() ([]row, error) {
	data, err := os.ReadFile(ledgerFile)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if lines[0] != "id\trfc\tsection\trequirement\tstatus\tscenario-or-test" {
		return nil, fmt.Errorf("%s has other columns: %q", ledgerFile, lines[0])
	}
	var rows []row
	var errs []error
	seen := make(map[string]bool)
	for i, line := range lines[1:] {
		r, err := parseRow(line)
		if err == nil && seen[r.id] {
			err = fmt.Errorf("a second row %s", r.id)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", ledgerFile, i+2, err))
		}
		seen[r.id] = true
		rows = append(rows, r)
	}
	return rows, errors.Join(errs...)
}

func parseRow(line string) (row, error) {
	f := strings.Split(line, "\t")
	if len(f) != 6 {
		return row{}, fmt.Errorf("%d columns, want 6", len(f))
	}
	for i, rule := range []string{`[A-Z]+[0-9]+`, `[0-9]{3,5}|-`, `[0-9]+(\.[0-9]+)*(, [0-9]+(\.[0-9]+)*)*|-`, `\S.{9,}\S`, `yes|partial|no`, `\S.*`} {
		if !regexp.MustCompile(`^(` + rule + `)$`).MatchString(f[i]) {
			return row{}, fmt.Errorf("column %d: %q is not of the form %s", i+1, f[i], rule)
		}
	}
	r := row{id: f[0], rfc: f[1], sections: strings.Split(f[2], ", "), requirement: f[3], status: f[4]}
	if f[5] != "-" {
		r.proof = strings.Split(f[5], ", ")
	}
	if r.status == "yes" && len(r.proof) == 0 {
		return row{}, errors.New("met, and nothing shows it")
	}
	if r.status == "no" && len(r.proof) > 0 {
		return row{}, errors.New("not met, but something shows that it is")
	}
	return r, nil
}

// TestLedger holds the ledger against the scenarios and tests that it names.
func TestLedger(t *testing.T) {
	rows, err := readLedger()
	if err != nil {
		t.Fatal(err)
	}
	tests, scenarios := testNames(t), make(map[string]*scenario)
	files, err := scenarioFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		s, err := readScenario(file)
		if err != nil {
			t.Errorf("%s: %v", scenarioName(file), err)
			continue
		}
		scenarios[scenarioName(file)] = s
	}
	status := make(map[string]string)
	for _, r := range rows {
		status[r.id] = r.status
		for _, name := range r.proof {
			if s, ok := scenarios[name]; ok {
				if !slices.Contains(s.proves, r.id) {
					t.Errorf("%s names the scenario %s, which does not say that it proves it", r.id, name)
				}
			} else if !tests[name] {
				t.Errorf("%s names %s, and there is no such scenario or test", r.id, name)
			}
		}
	}
	for name, s := range scenarios {
		for _, id := range s.proves {
			if status[id] == "" || status[id] == "no" {
				t.Errorf("%s proves %s, which the ledger does not have, or has as not met", name, id)
			}
		}
	}
}

// TestCitations holds every "RFC NNNN §x.y" in the code against the ledger.
func TestCitations(t *testing.T) {
	rows, err := readLedger()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, r := range rows {
		for _, section := range r.sections {
			known[r.rfc+" §"+section] = true
		}
	}
	cited := 0
	for _, file := range goFiles(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range citations(string(data)) {
			cited++
			if !known[c] {
				t.Errorf("%s cites RFC %s, which testdata/rfc/ledger.tsv does not have: add the section to a row, or a row", file, c)
			}
		}
	}
	if cited < 100 {
		t.Errorf("%d citations: the test sees too little to mean anything", cited)
	}
}

// citations returns "8461 §5.1" for each section that is cited. One sign of section
// after another belongs to the same RFC.
func citations(text string) []string {
	text = regexp.MustCompile(`\n\s*//[ \t]*`).ReplaceAllString(text, " ")
	var all []string
	for _, m := range regexp.MustCompile(`RFC\s+([0-9]{3,5})((?:(?:,|\s+and|\s+to)?\s+§[0-9]+(?:\.[0-9]+)*)+)`).FindAllStringSubmatch(text, -1) {
		for _, section := range regexp.MustCompile(`§([0-9]+(?:\.[0-9]+)*)`).FindAllStringSubmatch(m[2], -1) {
			all = append(all, m[1]+" §"+section[1])
		}
	}
	return all
}

func TestCitationForms(t *testing.T) {
	for text, want := range map[string]string{
		"(RFC 8461 §5.1)":                         "8461 §5.1",
		"RFC 8461 §3.1, §3.3, §5.1.":              "8461 §3.1|8461 §3.3|8461 §5.1",
		"see RFC\n\t// 7672 §2.1.2 and §2.2":      "7672 §2.1.2|7672 §2.2",
		"RFC 8461 §3.3, RFC 7672 §2.1":            "8461 §3.3|7672 §2.1",
		"RFC 8914 §4.7 to §4.13, and 25":          "8914 §4.7|8914 §4.13",
		"RFC 8461\n// §3.1":                       "8461 §3.1",
		"RFC 7672 and the §2.2 of something else": "",
	} {
		if got := strings.Join(citations(text), "|"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// listed is what "go list" says of a package.
type listed struct {
	Dir                                string
	GoFiles, TestGoFiles, XTestGoFiles []string
	IgnoredGoFiles                     []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=Dir,GoFiles,TestGoFiles,XTestGoFiles,IgnoredGoFiles", "tlsverdict/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// goFiles returns every Go file of the project, but this one's directory's tests of
// citations themselves.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, p := range packages(t) {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles, p.IgnoredGoFiles) {
			if name != "ledger_test.go" {
				files = append(files, filepath.Join(p.Dir, name))
			}
		}
	}
	return files
}

// testNames returns the names of all tests and fuzz targets.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]*)\(`)
	for _, file := range goFiles(t) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range function.FindAllStringSubmatch(string(data), -1) {
			names[m[1]] = true
		}
	}
	return names
}
