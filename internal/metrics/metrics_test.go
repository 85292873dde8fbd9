package metrics

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/readiness"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/socketmapd"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
)

var update = flag.Bool("update", false, "write the table of docs/monitoring.md")

var server = netip.MustParseAddrPort("127.0.0.1:53")

// full is a snapshot in which nothing is left out.
func full() Snapshot {
	return Snapshot{
		Totals: Totals{
			Answers: map[socketmapd.AnswerKind]uint64{{Map: "postfix", Outcome: "dane-only"}: 7},
			Engine: engine.Stats{
				Hits: 5, Misses: 3, Rulings: map[engine.RulingKind]uint64{{Verdict: "dane-only", Source: verdict.FromDANE}: 2},
				Deferrals: map[engine.DeferralKind]uint64{{Reason: verdict.MXFailed, Fault: verdict.Remote}: 1}, Signals: map[verdict.Code]uint64{verdict.PrefixMixed: 1},
			},
			Resolve: resolve.Stats{Questions: map[resolve.QuestionKind]uint64{{Server: server, Reply: resolve.ServFail}: 4}, Proofs: map[verdict.Proof]uint64{verdict.Secure: 9}},
			Fetches: map[string]uint64{"ok": 2},
			Probes:  probe.Stats{Probes: 3, Good: 2},
		},
		Health:   resolve.Health{Servers: []resolve.ServerHealth{{Addr: server, Answers: true}}},
		Surveyed: time.Unix(1000, 0),
		Survey: store.Survey{
			Policies: map[mtasts.Mode]int{mtasts.ModeEnforce: 3}, Failing: 1,
			Soonest: []mtasts.Cached{{Fetched: time.Unix(2000, 0), Policy: mtasts.Policy{Mode: mtasts.ModeEnforce, MaxAge: 24 * time.Hour}}},
		},
		Report: readiness.Report{Status: readiness.Degraded, Reasons: []readiness.Reason{{Code: readiness.AnchorsOld}}},
		Loaded: time.Unix(3000, 0), Build: Build{Version: "v1", Go: "go1"},
	}
}

func scrape(t *testing.T, d *Durations, s Snapshot) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(d, func() Snapshot { return s }, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// TestScrape: values arrive with their labels, and every family is there.
func TestScrape(t *testing.T) {
	d := NewDurations()
	d.Cold(20 * time.Millisecond)
	d.Question(server, time.Millisecond)
	d.Fetch(time.Second)
	got := scrape(t, d, full())
	for _, want := range []string{
		`tlsverdict_answers_total{map="postfix",verdict="dane-only"} 7`,
		`tlsverdict_rulings_total{source="dane",verdict="dane-only"} 2`,
		`tlsverdict_deferrals_total{fault="remote",reason="mx-failed"} 1`,
		`tlsverdict_cache_hits_total 5`,
		`tlsverdict_dns_questions_total{result="servfail",upstream="127.0.0.1:53"} 4`,
		`tlsverdict_dns_upstream_up{upstream="127.0.0.1:53"} 1`,
		`tlsverdict_dns_upstream_validates{upstream="127.0.0.1:53"} 0`,
		`tlsverdict_dnssec_answers_total{proof="secure"} 9`,
		`tlsverdict_budget_exhausted_total{budget="validation"} 0`,
		`tlsverdict_policy_fetches_total{result="ok"} 2`,
		`tlsverdict_policy_fetches_total{result="sts-webpki-invalid"} 0`,
		`tlsverdict_policies{mode="enforce"} 3`,
		`tlsverdict_policies_failing_next_expiry_timestamp_seconds 88400`,
		`tlsverdict_probes_total{result="failed"} 1`,
		`tlsverdict_ready 1`,
		`tlsverdict_readiness_problem{reason="trust-anchors"} 1`,
		`tlsverdict_readiness_problem{reason="draining"} 0`,
		`tlsverdict_config_last_reload_success_timestamp_seconds 3000`,
		`tlsverdict_build_info{goversion="go1",revision="",version="v1"} 1`,
		`tlsverdict_cold_answer_duration_seconds_bucket{le="0.025"} 1`,
		`tlsverdict_dns_answer_duration_seconds_count{upstream="127.0.0.1:53"} 1`,
		`tlsverdict_policy_fetch_duration_seconds_sum 1`,
	} {
		if !strings.Contains(got, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, f := range Families() {
		if !strings.Contains(got, fmt.Sprintf("# TYPE %s %s\n", f.Name, f.Kind)) {
			t.Errorf("%s %s is not there", f.Kind, f.Name)
		}
	}
	if strings.Contains(scrape(t, NewDurations(), Snapshot{}), "tlsverdict_policies") {
		t.Error("policies are told of that nobody has counted")
	}
}

// TestLabels: the labels are those that are known to have few values, none is a domain, and
// names are as Prometheus wants them.
func TestLabels(t *testing.T) {
	known := []string{
		"budget", "cause", "fault", "goversion", "map", "mode", "proof", "reason", "result", "revision", "source", "upstream", "verdict", "version",
	}
	for _, f := range Families() {
		for _, l := range f.Labels {
			if !slices.Contains(known, l) {
				t.Errorf("%s has a label %s: how many values can it have?", f.Name, l)
			}
		}
		if !regexp.MustCompile(`^tlsverdict_[a-z_]+$`).MatchString(f.Name) || (f.Kind == Counter) != strings.HasSuffix(f.Name, "_total") || !strings.HasSuffix(f.Help, ".") {
			t.Errorf("%s %s: %q", f.Kind, f.Name, f.Help)
		}
	}
}

// TestTotals: each counter of a sum is the sum, and what is no counter is that of the latest.
func TestTotals(t *testing.T) {
	a, b := Totals{}, Totals{}
	one, two := reflect.ValueOf(&a).Elem(), reflect.ValueOf(&b).Elem()
	fill(t, one, 1)
	fill(t, two, 10)
	sum := a.Plus(b)
	gauges := map[string]bool{"Entries": true, "Targets": true, "Running": true}
	check(t, reflect.ValueOf(sum), "Totals", gauges)
	if len(a.Fetches) != 1 || a.Fetches[""] != 1 {
		t.Error("the summands are changed")
	}
}

// fill sets every number to n.
func fill(t *testing.T, v reflect.Value, n uint64) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.ValueOf(n))
	case reflect.Uint64:
		v.SetUint(n)
	case reflect.Bool:
		v.SetBool(n == 1)
	case reflect.Int:
		v.SetInt(int64(n))
	default:
		t.Fatalf("a %v in Totals", v.Kind())
	}
}

// check looks for 11 in every counter, and for 1 in every gauge.
func check(t *testing.T, v reflect.Value, name string, gauges map[string]bool) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			check(t, v.Field(i), v.Type().Field(i).Name, gauges)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if v.MapIndex(k).Uint() != 11 {
				t.Errorf("%s is %v", name, v)
			}
		}
	case reflect.Uint64:
		if v.Uint() != 11 {
			t.Errorf("%s is %v", name, v)
		}
	case reflect.Bool:
		if !v.Bool() {
			t.Errorf("%s is not that of the latest", name)
		}
	case reflect.Int:
		if !gauges[name] || v.Int() != 1 {
			t.Errorf("%s is %v", name, v)
		}
	default:
		t.Errorf("%s: a %v", name, v.Kind())
	}
}

// TestTable: docs/monitoring.md has every metric.
func TestTable(t *testing.T) {
	const path, begin, end = "../../docs/monitoring.md", "<!-- metrics: made by go test ./internal/metrics -update -->\n", "<!-- end of metrics -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	if want := "\n" + Table() + "\n"; old != want {
		t.Errorf("%s is out of date: go test ./internal/metrics -update", path)
		if *update {
			if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestNil: nobody has to ask whether durations are kept.
func TestNil(t *testing.T) {
	var d *Durations
	d.Cold(1)
	d.Question(server, 1)
	d.Fetch(1)
}

func BenchmarkScrape(b *testing.B) {
	s := full()
	h := Handler(NewDurations(), func() Snapshot { return s }, slog.New(slog.DiscardHandler))
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
}
