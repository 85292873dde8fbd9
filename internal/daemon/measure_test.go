package daemon

import (
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/httpd"
	"tlsverdict/internal/mtasts"
	"tlsverdict/postfixmap"
)

// TestMeasured: what a stack counted is still counted when another has taken its place, and
// once it is closed; no counter falls, and no label has a domain.
func TestMeasured(t *testing.T) {
	const text = "[dns]\nservers = [\"127.0.0.1:1\"]\n[store]\npath = \"\""
	d := newDaemon(t, text)
	d.server = &postfixmap.Server{Handler: d}
	d.state.begin()
	d.store.Update("failing.example", func(old mtasts.Cached, _ bool) (mtasts.Cached, bool) {
		policy, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 604800\n"))
		if err != nil {
			t.Error(err)
		}
		return old.AfterSuccess(time.Now(), "1", policy, 0).AfterFailure(time.Now(), "1", "no", 0), true
	})
	pages := d.measured(t.Context(), func() httpd.Stats { return httpd.Stats{Open: 3} }, &surveys{store: d.store})
	ask := func() {
		d.ServeMap(t.Context(), postfixmap.Request{Map: []byte("postfix"), Key: []byte("secret-domain.example")}, nil)
		d.ServeMap(t.Context(), postfixmap.Request{Map: []byte("nonsense"), Key: []byte("secret-domain.example")}, nil)
	}
	expect := func(step string, want ...string) {
		t.Helper()
		got := get(pages, "/metrics").Body.String()
		for _, line := range want {
			if !strings.Contains(got, "\n"+line+"\n") {
				t.Errorf("%s: no %s", step, line)
			}
		}
		if strings.Contains(got, "example") || strings.Contains(got, "nonsense") {
			t.Errorf("%s: a label has what a client asked", step)
		}
	}
	ask()
	once := []string{
		`tlsverdict_answers_total{map="postfix",verdict="defer"} 1`, `tlsverdict_answers_total{map="unknown",verdict="refused"} 1`,
		`tlsverdict_cache_misses_total 1`, `tlsverdict_flights_total 1`, `tlsverdict_cold_answer_duration_seconds_count 1`,
	}
	expect("first", append(once, `tlsverdict_answers_total{map="sts",verdict="defer"} 0`, `tlsverdict_http_connections 3`,
		`tlsverdict_ready 0`, `tlsverdict_config_last_reload_successful 1`)...)
	old, next := d.stack.Load(), newDaemon(t, text).stack.Load()
	d.totals.succeed(&d.stack, next)
	expect("replaced", once...)
	ask()
	d.totals.close(old)
	expect("closed", `tlsverdict_answers_total{map="postfix",verdict="defer"} 2`, `tlsverdict_cache_misses_total 2`, `tlsverdict_flights_total 2`)
	awaitSurvey(t, func() bool {
		got := get(pages, "/metrics").Body.String()
		return strings.Contains(got, "\n"+`tlsverdict_policies{mode="enforce"} 1`+"\n") && strings.Contains(got, "\ntlsverdict_policies_failing 1\n") &&
			strings.Contains(got, "\ntlsverdict_policies_failing_next_expiry_timestamp_seconds 1.")
	})
}

// awaitSurvey polls until a survey is over.
func awaitSurvey(t *testing.T, met func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for !met() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("the policies are not counted")
		}
	}
}
