package socketmapd

import (
	"log/slog"
	"testing"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// TestAnswers: every question is counted once, under its map's own name and what came of it.
func TestAnswers(t *testing.T) {
	r := New(&known{verdict.DANEOnly{}}, Options{Deadline: time.Second, Log: slog.New(slog.DiscardHandler)})
	for _, q := range []struct{ mapName, key string }{
		{"postfix", "a.example"},
		{"QUERY", "a.example"},
		{"QUERYwithTLSRPT", "a.example"},
		{"sts", "a.example"},
		{"tls", "a.example"},
		{"exim", "a.example"},
		{"verdict", "a.example"},
		{"transport", "u@a.example"},
		{"postfix", "[192.0.2.1]"},
		{"postfix", ".example"},
		{"postfix", "a..b"},
		{"json", "a..b"},
		{"nonsense", "a.example"},
	} {
		r.ServeMap(t.Context(), postfixmap.Request{Map: []byte(q.mapName), Key: []byte(q.key)}, nil)
	}
	want := map[AnswerKind]uint64{
		{"postfix", "dane-only"}: 2, {"postfix-tlsrpt", "dane-only"}: 1, {"sts", "dane-only"}: 1, {"tls", "dane-only"}: 1, {"exim", "dane-only"}: 1,
		{"verdict", "dane-only"}: 1, {"transport", "none"}: 1, {"postfix", "no-destination"}: 2, {"postfix", "invalid-key"}: 1,
		{"json", "invalid-key"}: 1, {"unknown", "refused"}: 1,
	}
	for kind, n := range r.Answers() {
		if n != want[kind] {
			t.Errorf("%v: %d, want %d", kind, n, want[kind])
		}
		delete(want, kind)
	}
	for kind := range want {
		t.Errorf("%v is not counted", kind)
	}
	if len(outcomes()) != int(outcomeCount) || len(countedMaps()) != int(mapUnknown)+1 {
		t.Error("a name is missing")
	}
}

// TestOutcomes: each verdict is counted under the name that rulings are.
func TestOutcomes(t *testing.T) {
	for _, s := range samples() {
		if got, want := outcomes()[outcomeOf(s.verdict)], engine.CountedAs(s.verdict); got != want {
			t.Errorf("%s: %s, want %s", s.name, got, want)
		}
	}
}
