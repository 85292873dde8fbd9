package house

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var ( // compiled once, never changed
	// divergence is how a comment says that the code departs from a standard.
	divergence = regexp.MustCompile(`(?i)\b(departs? from|diverges? from|deviates? from|more lenient than|stricter than the)\b`)
	citation   = regexp.MustCompile(`RFC (\d+) (§[\d.]*\d)|(§[\d.]*\d)`)
)

// divergent is a comment that says that the code departs from a standard.
type divergent struct {
	file, text string
	// cited are the sections named in the comment: "RFC 8461 §3.2".
	cited []string
}

// divergents finds them.
func divergents(t *testing.T) []divergent {
	t.Helper()
	_, files := sources(t)
	var all []divergent
	for name, file := range files {
		for _, group := range file.Comments {
			text := strings.Join(strings.Fields(group.Text()), " ")
			if divergence.MatchString(text) && strings.Contains(text, "RFC ") {
				all = append(all, divergent{name, text, sections(text)})
			}
		}
	}
	return all
}

// sections returns the sections that a text cites. One without a number of its own
// belongs to the RFC named before it.
func sections(text string) []string {
	var list []string
	rfc := ""
	for _, m := range citation.FindAllStringSubmatch(text, -1) {
		if m[1] != "" {
			rfc = "RFC " + m[1]
			list = append(list, rfc+" "+m[2])
		} else if rfc != "" {
			list = append(list, rfc+" "+m[3])
		}
	}
	return list
}

// TestDivergences: whatever departs from a standard by its own comment has a row in
// docs/divergences.md with its section and its file, and every row names a file that
// cites the section.
func TestDivergences(t *testing.T) {
	rows := table(t, "docs/divergences.md", "## The list")
	found := divergents(t)
	if len(found) == 0 {
		t.Fatal("no comment says that it departs from a standard: the test means nothing")
	}
	for _, d := range found {
		if !hasRow(rows, d) {
			t.Errorf("%s departs from a standard, and docs/divergences.md has no row with one of %v and the file's name:\n%s", d.file, d.cited, d.text)
		}
	}
	for _, row := range rows {
		data, err := os.ReadFile(filepath.Join(root, row[3]))
		if err != nil {
			t.Errorf("docs/divergences.md, %s: %v", row[0], err)
			continue
		}
		text := strings.Join(strings.Fields(strings.ReplaceAll(string(data), "//", "")), " ")
		if !slices.Contains(sections(text), row[0]) {
			t.Errorf("docs/divergences.md says that %s departs from %s, which it does not cite", row[3], row[0])
		}
	}
}

func hasRow(rows [][]string, d divergent) bool {
	for _, row := range rows {
		if row[3] == d.file && slices.Contains(d.cited, row[0]) {
			return true
		}
	}
	return false
}
