package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// benchEnv switches measuring on; "write" also changes docs.
const benchEnv = "TLSVERDICT_BENCH"

// docs is where tables and plots go.
const docs = "../docs"

// section is what one part found: text for its place in docs/performance.md, and
// plots, by file name in docs/plots.
type section struct {
	text  string
	plots map[string]string
}

// bench is one run.
type bench struct {
	dir     string // temporary
	policyd string // the binary
	floor   *process
}

// errLeftOut says that a part was not asked for.
var errLeftOut = errors.New("bench: left out")

// TestBench measures, where it is told to.
func TestBench(t *testing.T) {
	how := os.Getenv(benchEnv)
	if how == "" {
		t.Log("measures only with " + benchEnv + "=1: see make bench-tables")
		return
	}
	parts := []struct {
		name    string
		measure func(context.Context, *testing.T, *bench) (*section, error)
	}{
		{"warm", warm},
		{"worst", worst},
		{"memory", measureMemory},
		{"start", start},
		{"cold", cold},
		{"fleet", fleet},
		{"growth", growth},
		{"milter", milterCost},
		{"peers", peers},
		{"profiles", profiles},
	}
	b := &bench{dir: shortDir(t)}
	var err error
	if b.policyd, err = buildPolicyd(t.Context(), b.dir); err != nil {
		t.Fatal(err)
	}
	if b.floor, err = startFloor(t.Context(), b.dir); err != nil {
		t.Fatal(err)
	}
	defer b.floor.stop()
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			began := time.Now()
			s, err := p.measure(t.Context(), t, b)
			if errors.Is(err, errLeftOut) {
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("took %v\n%s", time.Since(began).Round(time.Second), s.text)
			if how == "write" && s.text != "" {
				if err := s.write(p.name); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// shortDir is a directory whose name leaves room for that of a socket.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "tlsv-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// sub makes a directory for one server.
func (b *bench) sub(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// write puts a section between its marks in docs/performance.md.
func (s *section) write(name string) error {
	if err := os.MkdirAll(filepath.Join(docs, "plots"), 0o755); err != nil {
		return err
	}
	for file, svg := range s.plots {
		if err := os.WriteFile(filepath.Join(docs, "plots", file), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	file := filepath.Join(docs, "performance.md")
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := replace(string(page), name, s.text)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// replace changes what stands between the marks of a name.
func replace(page, name, text string) (string, error) {
	begin, end := "<!-- bench: "+name+" -->\n", "<!-- end of "+name+" -->\n"
	head, rest, ok := strings.Cut(page, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("docs/performance.md has no %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return head + begin + "\n" + strings.TrimSpace(text) + "\n\n" + end + tail, nil
}

func TestReplace(t *testing.T) {
	page := "a\n<!-- bench: x -->\nold\n<!-- end of x -->\nb\n"
	got, err := replace(page, "x", "new\n")
	if want := "a\n<!-- bench: x -->\n\nnew\n\n<!-- end of x -->\nb\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := replace(page, "y", ""); err == nil {
		t.Error("no error where there are no marks")
	}
}

// markdown writes a table.
func markdown(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	line(slices.Repeat([]string{"---"}, len(head)))
	for _, r := range rows {
		line(r)
	}
	return b.String()
}

// median of some numbers; 0 of none.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

// short writes a duration with three digits that mean something.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%.1f µs", d.Seconds()*1e6)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", d.Seconds()*1e6)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// met says whether a figure is within its target.
func met(yes bool) string {
	if yes {
		return "met"
	}
	return "**missed**"
}
