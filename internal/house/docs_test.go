package house

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tlsverdict/internal/config"
)

var update = flag.Bool("update", false, "write the generated documents anew; the run still fails")

// root is the top of the source tree.
const root = "../.."

// page returns a document's text.
func page(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// pages names the documents that users read.
func pages(t *testing.T) []string {
	t.Helper()
	names := []string{"CONTRIBUTING.md", "CHANGELOG.md", "README.md", "SECURITY.md"}
	entries, err := os.ReadDir(filepath.Join(root, "docs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".md") {
			names = append(names, "docs/"+e.Name())
		}
	}
	var there []string
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			there = append(there, name)
		}
	}
	return there
}

// table returns the rows of the first table below a heading, without its head.
// A cell is trimmed and has no back-quotes.
func table(t *testing.T, name, heading string) [][]string {
	t.Helper()
	_, text, ok := strings.Cut(page(t, name), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", name, heading)
	}
	var rows [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "|") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "`", "")
			}
			rows = append(rows, cells)
		} else if len(rows) > 0 || strings.HasPrefix(line, "#") {
			break
		}
	}
	if len(rows) < 3 {
		t.Fatalf("%s has no table below %q", name, heading)
	}
	return rows[2:]
}

// golden holds a generated document against its file.
func golden(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join(root, name)
	got, err := os.ReadFile(path)
	if err == nil && string(got) == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says (%v); go test ./internal/house -update writes it anew", name, err)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Errorf("%s is written anew; read it, and run again", name)
}

var ( // compiled once, never changed
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headline = regexp.MustCompile("(?m)^#+ (.*)$")
	fence    = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
)

// anchors returns the names of a document's headings in links.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, m := range headline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		found[name] = true
	}
	return found
}

// TestLinks: a link from one document to another, or to a file of the source,
// leads somewhere.
func TestLinks(t *testing.T) {
	for _, name := range pages(t) {
		text := page(t, name)
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if to != "" {
				target = filepath.Join(filepath.Dir(name), to)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: a link to %s, which is not there", name, m[1])
			} else if anchor != "" && !anchors(page(t, target))[anchor] {
				t.Errorf("%s: a link to %s: %s has no such heading", name, m[1], target)
			}
		}
	}
}

// TestConfigurationExamples: every TOML text in the documents is a configuration
// that policyd accepts.
func TestConfigurationExamples(t *testing.T) {
	n := 0
	for _, name := range pages(t) {
		for _, m := range fence.FindAllStringSubmatch(page(t, name), -1) {
			if m[1] != "toml" {
				continue
			}
			n++
			if _, err := config.Parse(name, []byte(m[2])); err != nil {
				t.Errorf("%s: %v\n%s", name, err, m[2])
			}
		}
	}
	if n == 0 {
		t.Error("no example of a configuration is found: the test means nothing")
	}
}

// sources returns every Go file that is no test, parsed with its comments.
func sources(t *testing.T) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	set, files := token.NewFileSet(), make(map[string]*ast.File)
	for _, dir := range []string{"cmd", "internal", "postfixmap"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err == nil {
				name, _ := filepath.Rel(root, path)
				files[name] = file
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return set, files
}

// TestLogMessages: every record that policyd can write is in docs/operations.md, and
// what the milter writes beside those in docs/milter.md; the levels there are those of
// the code.
func TestLogMessages(t *testing.T) {
	listed := make(map[string]string)
	for _, name := range []string{"docs/operations.md", "docs/milter.md"} {
		for _, row := range table(t, name, "### Every record") {
			listed[row[0]] = row[1]
		}
	}
	found := make(map[string]bool)
	_, files := sources(t)
	for name, file := range files {
		if strings.HasPrefix(name, "internal/world/") {
			continue
		}
		for message, level := range logged(file) {
			found[message] = true
			if l, ok := listed[message]; !ok {
				t.Errorf("%s logs %q, which docs/operations.md does not list", name, message)
			} else if level != "" && l != level {
				t.Errorf("docs/operations.md gives %q the level %s; in %s it is %s", message, l, name, level)
			}
		}
	}
	for message := range listed {
		if !found[message] {
			t.Errorf("docs/operations.md lists the record %q, which nothing logs", message)
		}
	}
}

// logged returns the messages that a file logs, with their level where the call
// names it.
func logged(file *ast.File) map[string]string {
	levels := map[string]string{
		"Debug": "debug", "Info": "info", "Warn": "warn", "Error": "error",
		"InfoContext": "info", "WarnContext": "warn", "ErrorContext": "error", "LogAttrs": "", "report": "",
	}
	found := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		level, ok := levels[sel.Sel.Name]
		if !ok || !isLogger(sel) {
			return true
		}
		for _, arg := range call.Args[:min(len(call.Args), 3)] {
			lit, ok := arg.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				continue
			}
			if text, err := strconv.Unquote(lit.Value); err == nil {
				found[text] = level
			}
			break
		}
		return true
	})
	return found
}

// isLogger reports whether a method belongs to a logger: a field or variable named
// log or Log, or the socketmap server's own report.
func isLogger(sel *ast.SelectorExpr) bool {
	if sel.Sel.Name == "report" {
		switch x := sel.X.(type) {
		case *ast.Ident:
			return x.Name == "s"
		case *ast.SelectorExpr:
			return x.Sel.Name == "srv"
		}
	}
	switch x := sel.X.(type) {
	case *ast.Ident:
		return strings.EqualFold(x.Name, "log")
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log") || x.Sel.Name == "ErrorLog"
	}
	return false
}

// TestDeferralTexts: what docs/postfix.md says that TEMP says is said somewhere.
func TestDeferralTexts(t *testing.T) {
	var all strings.Builder
	_, files := sources(t)
	for name := range files {
		all.WriteString(page(t, name))
	}
	for _, row := range table(t, "docs/postfix.md", "### What TEMP says") {
		for _, part := range regexp.MustCompile(`DOMAIN|\.\.\.`).Split(row[0], -1) {
			part = strings.TrimSuffix(strings.TrimSpace(part), ":")
			for _, phrase := range strings.Split(part, ": ") {
				if !strings.Contains(all.String(), phrase) {
					t.Errorf("docs/postfix.md has a deferral that says %q, which nothing says", phrase)
				}
			}
		}
	}
}

// limit is a row of the limits in docs/operations.md: the constant that it speaks of,
// and in which form its value is in the source and on the page.
type limit struct{ row, file, constant, source, page string }

func limits() []limit {
	return []limit{
		{"working a destination out", "internal/engine/engine.go", "flightTime", "45 * time.Second", "45 s"},
		{"destinations worked out at once", "internal/daemon/stack.go", "maxFlights", "512", "512"},
		{"destinations worked out at once", "internal/engine/engine.go", "waitingPerFlight", "16", "16 times"},
		{"destinations worked out at once", "internal/engine/engine.go", "refusedPause", "3 * time.Second", "3 s"},
		{"destinations begun at once", "internal/engine/engine.go", "startsPerCPU", "4", "4"},
		{"destinations begun at once", "internal/engine/engine.go", "startTime", "10 * time.Millisecond", "10 ms"},
		{"DNS questions under way", "internal/resolve/resolve.go", "DefaultMaxInflight", "1024", "1024"},
		{"DNS questions for one destination, retries included", "internal/resolve/resolve.go", "Budget", "200", "200"},
		{"CNAMEs followed", "internal/resolve/resolve.go", "MaxLinks", "8", "8"},
		{"MX hosts looked at", "internal/gather/gather.go", "MaxHosts", "30", "30"},
		{"policy fetches under way", "internal/daemon/stack.go", "maxFetches", "64", "64"},
		{"policy fetches under way", "internal/gather/sts.go", "maxWaiting", "16", "16 times"},
		{"fetching one policy", "internal/fetch/fetch.go", "DefaultTimeout", "10 * time.Second", "10 s"},
		{"one policy", "internal/mtasts/policy.go", "MaxPolicySize", "64 << 10", "64 KB"},
		{"probes of mail servers under way", "internal/probe/prober.go", "DefaultAtOnce", "16", "16"},
		{"probes of mail servers under way", "internal/probe/prober.go", "paceEvery", "250 * time.Millisecond", "250 ms"},
		{"probes of mail servers under way", "internal/probe/client.go", "visitEvery", "5 * time.Second", "5 s"},
		{"mail servers remembered", "internal/probe/prober.go", "maxTargets", "10_000", "10,000"},
		{"one probe", "internal/probe/client.go", "lookTime", "20 * time.Second", "20 s"},
		{"one probe", "internal/probe/client.go", "connectTime", "10 * time.Second", "10 s"},
		{"one probe", "internal/probe/client.go", "maxAddresses", "4", "4 addresses"},
		{"one probe", "internal/probe/client.go", "talkTime", "30 * time.Second", "30 s"},
		{"one probe", "internal/probe/exchange.go", "maxRead", "128 << 10", "128 KB"},
		{"unknown domains worked out for transport", "internal/socketmapd/transport.go", "warmRate", "10", "10 a second"},
		{"unknown domains worked out for transport", "internal/socketmapd/transport.go", "warmBurst", "100", "100 at once"},
		{"connections for monitoring", "internal/httpd/httpd.go", "MaxConnections", "32", "32"},
		{"connections for monitoring", "internal/httpd/httpd.go", "idleTime", "75 * time.Second", "75 s"},
		{"connections", "postfixmap/server.go", "DefaultMaxConnections", "4096", "4096"},
		{"connections that wait for a place", "postfixmap/server.go", "MaxNewcomers", "64", "64"},
		{"connections that wait for a place", "postfixmap/server.go", "DefaultAdmitTimeout", "time.Second", "1 s"},
		{"an idle connection", "postfixmap/server.go", "DefaultIdleTimeout", "150 * time.Second", "150 s"},
		{"one request", "postfixmap/netstring.go", "MaxRequest", "10_000", "10,000 bytes"},
		{"one request", "postfixmap/server.go", "DefaultRequestTimeout", "10 * time.Second", "10 s"},
		{"policies that wait to be written", "internal/store/store.go", "maxWaiting", "64 << 20", "64 MB"},
		{"explanations by the [status page](status.md)", "internal/status/handler.go", "explainAtOnce", "2", "2 at once"},
		{"explanations by the [status page](status.md)", "internal/status/handler.go", "explainBurst", "10", "10 in a row"},
		{"explanations by the [status page](status.md)", "internal/status/handler.go", "explainEvery", "time.Second", "one a second"},
		{"explanations by the [status page](status.md)", "internal/status/handler.go", "explainTime", "15 * time.Second", "15 s"},
		{"deferrals that the status page remembers", "internal/status/deferrals.go", "MaxDeferrals", "500", "500"},
		{"a stop", "internal/lifecycle/lifecycle.go", "DrainTime", "15 * time.Second", "15 s"},
	}
}

// TestLimits: the limits in docs/operations.md are those of the code.
func TestLimits(t *testing.T) { checkLimits(t, "docs/operations.md", limits()) }

// checkLimits holds the limits of a page against the code.
func checkLimits(t *testing.T, name string, want []limit) {
	t.Helper()
	rows := make(map[string]string)
	for _, row := range table(t, name, "## Limits") {
		rows[row[0]] = row[1]
	}
	for _, l := range want {
		if !regexp.MustCompile(`(?m)^(const|\t)\s*` + l.constant + `\s*= ` + regexp.QuoteMeta(l.source) + `( //.*)?$`).MatchString(page(t, l.file)) {
			t.Errorf("%s is not %s in %s: mend the limits in %s and in this test", l.constant, l.source, l.file, name)
		}
		if !strings.Contains(rows[l.row], l.page) {
			t.Errorf("%s says %q of %s, want %s", name, rows[l.row], l.row, l.page)
		}
	}
}
