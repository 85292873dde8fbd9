package monitoring

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	alertsPath    = "../contrib/prometheus/alerts.yaml"
	alertTests    = "../contrib/prometheus/alerts_test.yaml"
	dashboardPath = "../contrib/grafana/tlsverdict.json"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// promtool runs it, and fails where it does.
func promtool(t *testing.T, dir, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(dir, "promtool"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	} else {
		t.Logf("promtool %s: %s", strings.Join(args, " "), out)
	}
}

// TestAlerts: promtool reads the alerts, and each fires where it should, and not else.
func TestAlerts(t *testing.T) {
	dir := tools(t)
	if dir == "" {
		return
	}
	promtool(t, dir, "", "check", "rules", alertsPath)
	promtool(t, dir, "", "test", "rules", alertTests)
	tests := read(t, alertTests)
	for _, m := range regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(read(t, alertsPath), -1) {
		if strings.Count(tests, "alertname: "+m[1]+"\n") != 2 {
			t.Errorf("%s has not two tests, one where it fires and one where it does not", m[1])
		}
		if !strings.Contains(read(t, "../docs/monitoring.md"), "`"+m[1]+"`") {
			t.Errorf("docs/monitoring.md does not say what to do about %s", m[1])
		}
	}
}

// panel is what is read of a dashboard.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

// dashboard reads the dashboard.
func dashboard(t *testing.T) []panel {
	t.Helper()
	var d struct{ Panels []panel }
	if err := json.Unmarshal([]byte(read(t, dashboardPath)), &d); err != nil {
		t.Fatal(err)
	}
	return d.Panels
}

// queries are those of the dashboard, with what Grafana would put in.
func queries(t *testing.T) []string {
	t.Helper()
	var all []string
	fill := strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$instance", ".*")
	for _, p := range dashboard(t) {
		for _, target := range p.Targets {
			all = append(all, fill.Replace(target.Expr))
		}
	}
	return all
}

// TestDashboard: panels have numbers of their own, do not lie upon each other, and ask
// something, for the instances that are chosen.
func TestDashboard(t *testing.T) {
	panels := dashboard(t)
	seen := make(map[int]bool)
	taken := make(map[[2]int]string)
	for _, p := range panels {
		if seen[p.ID] || p.Title == "" || (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("panel %d %q", p.ID, p.Title)
		}
		seen[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok || at[0] >= 24 {
					t.Fatalf("%q lies upon %q, or beyond the edge", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		for _, target := range p.Targets {
			if got, want := strings.Count(target.Expr, `{job=~"$job", instance=~"$instance"`), len(regexp.MustCompile(`\b(tlsverdict|process|go)_\w+`).FindAllString(target.Expr, -1)); got != want {
				t.Errorf("%q: %s asks for %d metrics, and %d times for the chosen instances", p.Title, target.Expr, want, got)
			}
		}
	}
}

// TestScrape: what the alerts and the dashboard ask for is there in a real policyd, whose
// metrics promtool finds nothing wrong with; and more domains make no more series.
func TestScrape(t *testing.T) {
	dir := tools(t)
	if dir == "" {
		return
	}
	p := start(t)
	round := func(from, to int) {
		for i := from; i < to; i++ {
			p.ask(t, []string{"postfix", "sts", "exim", "json"}[i%4], fmt.Sprintf("secret%d.example", i))
		}
	}
	round(0, 8)
	await(t, "the policies are counted", func() bool { return strings.Contains(p.get(t, "/metrics"), "\ntlsverdict_policies_failing 1\n") })
	before := p.get(t, "/metrics")
	promtool(t, dir, before, "check", "metrics")
	round(8, 200)
	after := p.get(t, "/metrics")
	ours := func(scrape string) []string {
		var series []string
		for _, line := range strings.Split(scrape, "\n") {
			if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(line, "tlsverdict_") {
				series = append(series, name)
			}
		}
		return series
	}
	t.Logf("figure: %d series of ours", len(ours(after)))
	for _, s := range ours(after) {
		if !slices.Contains(ours(before), s) {
			t.Errorf("200 domains made the series %s", s)
		}
	}
	if strings.Contains(after, "secret") || strings.Contains(after, "gone.example") {
		t.Error("a label has a domain")
	}
	there := names(after)
	asked := read(t, alertsPath) + strings.Join(queries(t), "\n")
	for _, name := range regexp.MustCompile(`\b(?:tlsverdict|process|go)_\w+`).FindAllString(asked, -1) {
		// What nobody signals is not there yet.
		if !there[name] && name != "tlsverdict_signals_total" {
			t.Errorf("%s is asked for, and not there", name)
		}
	}
}

// answer is one of Prometheus' API.
type answer struct {
	Status, Error string
	Data          struct {
		Result []struct {
			Metric map[string]string
			Value  []any
		}
		Groups []struct {
			Rules []struct{ Name, Health, State, LastError string }
		}
	}
}

// TestPrometheus: a real Prometheus scrapes policyd, computes every query of the dashboard
// and every alert, and tells that policyd is not ready.
func TestPrometheus(t *testing.T) {
	dir := tools(t)
	if dir == "" {
		return
	}
	p := start(t)
	p.ask(t, "postfix", "a.example")
	here, data := free(t), t.TempDir()
	alerts, err := filepath.Abs(alertsPath)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(data, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n  - job_name: tlsverdict\n    static_configs: [{targets: [%q]}]\n", alerts, p.pages)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(data, "tsdb"), "--web.listen-address="+here, "--enable-feature=native-histograms")
	log := &output{}
	cmd.Stdout, cmd.Stderr = io.Discard, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	run(t, cmd, make(chan error, 1))
	api := func(path string) (a answer) {
		t.Helper()
		// Until Prometheus is there, this is no JSON.
		_ = json.Unmarshal([]byte(fetch(t, "http://"+here+"/api/v1/"+path)), &a)
		return a
	}
	query := func(q string) answer { return api("query?query=" + url.QueryEscape(q)) }
	await(t, "a scrape", func() bool { return len(query("tlsverdict_ready == 0").Data.Result) == 1 })
	for _, q := range queries(t) {
		if a := query(q); a.Status != "success" {
			t.Errorf("%s: %s", q, a.Error)
		}
	}
	// A native histogram has no bucket series.
	await(t, "a native histogram", func() bool {
		return len(query("histogram_quantile(0.5, sum(tlsverdict_cold_answer_duration_seconds)) > 0").Data.Result) == 1
	})
	await(t, "the alerts", func() bool {
		pending, well := false, 0
		for _, g := range api("rules").Data.Groups {
			for _, r := range g.Rules {
				if r.Health == "ok" {
					well++
				}
				pending = pending || r.Name == "TlsverdictNotReady" && r.State == "pending"
			}
		}
		return pending && well == strings.Count(read(t, alertsPath), "- alert:")
	})
	if t.Failed() {
		t.Logf("Prometheus' log:\n%s", log)
	}
}
