package lint

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"tlsverdict/internal/finding"
)

var update = flag.Bool("update", false, "write the table of docs/lint.md anew, and fail")

// TestDocs: docs/lint.md has every code, with the words that reports have.
func TestDocs(t *testing.T) {
	const file, begin, end = "../../docs/lint.md", "<!-- codes -->\n", "<!-- end of codes -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the codes", file)
	}
	want := head + begin + table() + end + tail
	if string(data) == want {
		return
	}
	t.Errorf("%s does not have the codes as they are: go test ./internal/lint -update", file)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func table() string {
	all := kinds()
	codes := make([]Code, 0, len(all))
	for code := range all {
		codes = append(codes, code)
	}
	slices.SortFunc(codes, func(a, b Code) int {
		return cmp.Or(finding.Compare(all[a].Severity, all[b].Severity), strings.Compare(string(a), string(b)))
	})
	var b strings.Builder
	b.WriteString("\n| code | | what | so | mend | see |\n|---|---|---|---|---|---|\n")
	for _, code := range codes {
		k := all[code]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", code, k.Severity, k.Title, k.Why, k.Mend, k.Cite)
	}
	return b.String() + "\n"
}
