package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "tlsverdict"

// room is a package's place: what it may import, and why no more.
type room struct {
	// ours are the rooms it may import, with all that lies below them.
	ours []string
	// theirs are the modules it alone, or it among few, may import.
	theirs []string
	why    string
}

// The whole plan. A package that is not in it fails the test: a new room is
// made on purpose. "std" in theirs means that nothing else is allowed at all.
func plan() map[string]room {
	pure := "it is pure: no context, no logger, no I/O"
	return map[string]room{
		"postfixmap":          {theirs: []string{"std"}, why: "others build on it: standard library only"},
		"internal/nexthop":    {theirs: []string{"golang.org/x/net/idna"}, why: pure},
		"internal/tlsa":       {theirs: []string{"std"}, why: pure},
		"internal/signal":     {theirs: []string{"golang.org/x/net/publicsuffix"}, why: pure},
		"internal/mtasts":     {theirs: []string{"std"}, why: pure},
		"internal/verdict":    {ours: []string{"internal/mtasts", "internal/nexthop", "internal/signal", "internal/tlsa"}, theirs: []string{"std"}, why: pure + ", it decides on facts"},
		"internal/resolve":    {ours: []string{"internal/verdict", "internal/tlsa", "internal/nexthop", "internal/resolve"}, theirs: []string{"github.com/miekg/dns"}, why: "it is the only one that speaks DNS"},
		"internal/fetch":      {ours: []string{"internal/mtasts", "internal/verdict"}, theirs: []string{"code.dny.dev/ssrf"}, why: "it fetches one policy and decides nothing"},
		"internal/probe":      {ours: []string{"internal/nexthop", "internal/tlsa", "internal/verdict"}, theirs: []string{"golang.org/x/net/publicsuffix"}, why: "it connects to mail servers, and concludes nothing for a domain"},
		"internal/history":    {ours: []string{"internal/verdict"}, theirs: []string{"golang.org/x/net/publicsuffix"}, why: pure + ", it keeps what became of verdicts"},
		"internal/store":      {ours: []string{"internal/history", "internal/mtasts", "internal/signal", "internal/verdict"}, theirs: []string{"go.etcd.io/bbolt"}, why: "it keeps what it is given"},
		"internal/fleet":      {ours: []string{"internal/mtasts", "internal/nexthop", "internal/signal"}, theirs: []string{"github.com/redis/rueidis"}, why: "it carries what others learned, and decides only what may be taken"},
		"internal/pin":        {ours: []string{"internal/nexthop", "internal/probe", "internal/signal", "internal/store", "internal/verdict"}, theirs: []string{"golang.org/x/time"}, why: "it learns what hosts promise, and does not decide what that means"},
		"internal/tally":      {theirs: []string{"std"}, why: "it counts, and does not know what"},
		"internal/fairqueue":  {theirs: []string{"std"}, why: "it shares places out and does not know what for"},
		"internal/gather":     {ours: []string{"internal/fairqueue", "internal/resolve", "internal/fetch", "internal/mtasts", "internal/tlsa", "internal/signal", "internal/nexthop", "internal/verdict"}, theirs: []string{"std"}, why: "it asks, and does not keep rulings or know who wants them"},
		"internal/engine":     {ours: []string{"internal/fairqueue", "internal/gather", "internal/store", "internal/verdict", "internal/nexthop", "internal/tally"}, theirs: []string{"github.com/maypok86/otter/v2", "golang.org/x/sync", "golang.org/x/time"}, why: "it keeps rulings and does not know how an MTA asks"},
		"internal/maillog":    {theirs: []string{"std"}, why: "it reads logs, and judges nothing"},
		"internal/impact":     {ours: []string{"internal/maillog", "internal/mtasts", "internal/verdict"}, theirs: []string{"std"}, why: pure + ", it judges deliveries"},
		"internal/migrate":    {theirs: []string{"go.yaml.in/yaml/v3"}, why: pure + ", it reads other programs' settings"},
		"internal/finding":    {theirs: []string{"std"}, why: pure},
		"internal/doctor":     {ours: []string{"internal/exim", "internal/sendmail", "internal/snippet", "internal/finding", "internal/nexthop", "internal/postfix", "internal/program", "internal/verdict", "postfixmap"}, theirs: []string{"std"}, why: "it judges what was found on a host, and knows no configuration of ours"},
		"internal/lint":       {ours: []string{"internal/finding", "internal/verdict", "internal/mtasts", "internal/tlsa", "internal/signal", "internal/nexthop"}, theirs: []string{"std"}, why: pure + ", it judges evidence"},
		"internal/survey":     {ours: []string{"internal/lint", "internal/fetch", "internal/verdict", "internal/mtasts", "internal/tlsa", "internal/signal", "internal/nexthop", "internal/probe"}, theirs: []string{"std"}, why: "it asks for its owner's sake, and judges nothing"},
		"internal/explain":    {ours: []string{"internal/engine", "internal/verdict", "internal/mtasts", "internal/tlsa", "internal/signal", "internal/nexthop"}, theirs: []string{"std"}, why: "it tells what was decided"},
		"internal/socketmapd": {ours: []string{"internal/fairqueue", "internal/tally", "internal/engine", "internal/explain", "internal/verdict", "internal/nexthop", "postfixmap"}, theirs: []string{"golang.org/x/time"}, why: "it spells rulings"},
		"internal/confine":    {theirs: []string{"github.com/landlock-lsm/go-landlock", "golang.org/x/sys/unix", "kernel.org/pub/linux/libs/security/libcap/psx"}, why: "it takes rights away, and does not know from whom"},
		"internal/control":    {ours: []string{"internal/explain", "internal/history", "internal/nexthop", "internal/signal", "internal/verdict", "postfixmap"}, theirs: []string{"std"}, why: "it carries commands, and does nothing itself"},
		"internal/milterd":    {ours: []string{"internal/explain", "internal/nexthop", "internal/verdict", "postfixmap"}, theirs: []string{"github.com/d--j/go-milter", "golang.org/x/time"}, why: "it judges recipients by reports, whoever makes them"},
		"internal/postfix":    {ours: []string{"internal/program"}, theirs: []string{"std"}, why: "it asks Postfix, and decides nothing"},
		"internal/exim":       {ours: []string{"internal/program"}, theirs: []string{"std"}, why: "it asks Exim, and decides nothing"},
		"internal/sendmail":   {ours: []string{"internal/program"}, theirs: []string{"std"}, why: "it asks Sendmail, and decides nothing"},
		"internal/snippet":    {ours: []string{"postfixmap"}, theirs: []string{"std"}, why: pure + ", it writes what to paste"},
		"internal/program":    {theirs: []string{"std"}, why: "it runs programs and knows none of them"},
		"internal/config":     {ours: []string{"internal/verdict", "internal/nexthop", "internal/signal", "postfixmap"}, theirs: []string{"github.com/BurntSushi/toml"}, why: "it reads settings and acts on none"},
		"internal/lifecycle":  {ours: []string{"postfixmap"}, theirs: []string{"github.com/coreos/go-systemd/v22"}, why: "it opens, signals and drains, and does not know what is served"},
		"internal/status":     {ours: []string{"internal/explain", "internal/nexthop", "internal/verdict"}, theirs: []string{"golang.org/x/time"}, why: "it shows numbers and does not know where they come from"},
		"internal/httpd":      {theirs: []string{"std"}, why: "it guards pages, and does not know what is on them"},
		"internal/metrics":    {ours: []string{"internal/engine", "internal/fetch", "internal/fleet", "internal/gather", "internal/history", "internal/httpd", "internal/pin", "internal/probe", "internal/readiness", "internal/resolve", "internal/socketmapd", "internal/store", "postfixmap"}, theirs: []string{"github.com/prometheus/client_golang"}, why: "it tells what the rooms counted, and counts nothing"},
		"internal/readiness":  {ours: []string{"internal/resolve", "internal/store"}, theirs: []string{"std"}, why: pure + ", it judges how the daemon is"},
		"internal/daemon":     {ours: []string{"internal", "postfixmap"}, theirs: []string{"std"}, why: "it wires the rooms"},
		"internal/world":      {ours: []string{"internal", "postfixmap"}, theirs: []string{"github.com/miekg/dns", "github.com/rogpeppe/go-internal", "github.com/google/go-cmp"}, why: "it is for tests"},
		"internal/house":      {theirs: []string{"std"}, why: "it has no code"},
		"internal/version":    {theirs: []string{"std"}, why: pure + ", it names a version"},
		"cmd/policyd":         {ours: []string{"internal", "postfixmap"}, theirs: []string{"github.com/spf13/cobra"}, why: "flags, wiring, exit codes"},
		"cmd/milter":          {ours: []string{"internal", "postfixmap"}, theirs: []string{"github.com/spf13/cobra"}, why: "flags, wiring, exit codes"},
		"browser":             {ours: []string{"internal", "postfixmap"}, theirs: []string{"github.com/chromedp"}, why: "it is for tests"},
		"bench":               {ours: []string{"internal", "postfixmap"}, theirs: []string{"github.com/miekg/dns"}, why: "it is for tests"},
		"monitoring":          {ours: []string{"internal/mtasts", "internal/store", "postfixmap"}, theirs: []string{"std"}, why: "it is for tests, and sees of policyd what everyone sees"},
		"siege":               {ours: []string{"postfixmap"}, theirs: []string{"github.com/miekg/dns", "golang.org/x/sys"}, why: "it is for tests, and sees of policyd what everyone sees"},
		"fleet":               {ours: []string{"internal", "postfixmap"}, theirs: []string{"std"}, why: "it is for tests"},
		"lab":                 {ours: []string{"internal", "postfixmap"}, theirs: []string{"github.com/miekg/dns"}, why: "it is for tests"},
	}
}

// only lists the rooms that may see another one, where the plan above would
// let more of them.
func only() map[string][]string {
	return map[string][]string{
		"internal/config": {"bench", "cmd/milter", "cmd/policyd", "internal/daemon", "internal/world", "lab"},
		"internal/world":  {"bench", "fleet", "lab", "cmd/policyd"},
		"internal/daemon": {"bench", "cmd/milter", "cmd/policyd", "internal/world", "lab"},
	}
}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// TestArrows holds every import of every package against the plan.
func TestArrows(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		home, r, ok := placeOf(name)
		if !ok {
			t.Errorf("%s is in no room of the plan; add it to plan() with what it may import and why", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if imported == "C" {
				t.Errorf("%s imports C: binaries are static", name)
			}
			checkImport(t, name, home, r, imported)
		}
	}
}

func checkImport(t *testing.T, name, home string, r room, imported string) {
	t.Helper()
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		if !under(ours, home) && !slices.ContainsFunc(r.ours, func(allowed string) bool { return under(ours, allowed) }) {
			t.Errorf("%s must not import %s: %s", name, ours, r.why)
		}
		if may, limited := only()[ours]; limited && ours != home && !slices.Contains(may, home) {
			t.Errorf("%s must not import %s: only %s may", name, ours, strings.Join(may, ", "))
		}
		return
	}
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return
	}
	if !slices.ContainsFunc(r.theirs, func(allowed string) bool { return under(imported, allowed) }) {
		t.Errorf("%s must not import %s: %s", name, imported, r.why)
	}
}

// placeOf finds the room that a package is in: its own, or the one above it.
func placeOf(name string) (string, room, bool) {
	rooms := plan()
	for home := name; home != "." && home != ""; {
		if r, ok := rooms[home]; ok {
			return home, r, true
		}
		i := strings.LastIndexByte(home, '/')
		if i < 0 {
			break
		}
		home = home[:i]
	}
	return "", room{}, false
}

func under(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list names %d packages: the test sees too little to mean anything", len(all))
	}
	return all
}

// TestVerdictIsPure holds that nothing which could make a decision depend on
// more than its facts is reachable from it.
func TestVerdictIsPure(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, module+"/internal/verdict", module+"/internal/mtasts", module+"/internal/tlsa", module+"/internal/signal", module+"/internal/nexthop").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, imported := range strings.Fields(string(out)) {
		switch imported {
		case "context", "log", "log/slog", "net", "os", "io", "math/rand", "math/rand/v2", "sync", "sync/atomic", "net/http":
			t.Errorf("the pure rooms import %q", imported)
		}
	}
}
