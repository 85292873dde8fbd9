package house

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"tlsverdict/internal/doctor"
	"tlsverdict/internal/finding"
	"tlsverdict/internal/lint"
)

// TestLintDocs: docs/lint.md has every code, with the words that reports have.
func TestLintDocs(t *testing.T) {
	all := lint.Kinds()
	codes := slices.SortedFunc(maps.Keys(all), func(a, b lint.Code) int {
		return cmp.Or(finding.Compare(all[a].Severity, all[b].Severity), strings.Compare(string(a), string(b)))
	})
	var b strings.Builder
	b.WriteString("\n| code | | what | so | mend | see |\n|---|---|---|---|---|---|\n")
	for _, code := range codes {
		k := all[code]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", code, k.Severity, k.Title, k.Why, k.Mend, k.Cite)
	}
	between(t, "docs/lint.md", "codes", b.String()+"\n")
}

// TestDoctorDocs: docs/doctor.md has every check, by its subject.
func TestDoctorDocs(t *testing.T) {
	all := doctor.Kinds()
	var b strings.Builder
	for _, subject := range doctor.Subjects() {
		if len(subject.Kinds) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n| check | | in order | else | what mends it | see |\n|---|---|---|---|---|---|\n", subject.Name)
		for _, check := range slices.Sorted(maps.Keys(subject.Kinds)) {
			k := subject.Kinds[check]
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", check, k.Severity, k.Title, k.Why, k.Mend, k.Cite)
			delete(all, check)
		}
	}
	for check := range all {
		t.Errorf("%s has no subject", check)
	}
	between(t, "docs/doctor.md", "checks", b.String()+"\n")
}

// between holds what stands between two marks of a document against what is to stand
// there.
func between(t *testing.T, name, what, want string) {
	t.Helper()
	begin, end := "<!-- "+what+" -->\n", "<!-- end of "+what+" -->"
	head, rest, ok := strings.Cut(page(t, name), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the %s", name, what)
	}
	golden(t, name, head+begin+want+end+tail)
}
