package status

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/explain"
)

const hostile = `<script>alert("1")</script>'"><img src=x onerror=alert(2)>{{.}}&amp;`

// spoil writes a hostile text in every string of a value, and one element in every list.
func spoil(v reflect.Value, depth int) {
	if depth > 8 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(hostile)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(9)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		spoil(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			spoil(v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			spoil(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{hostile: hostile, "postfix": hostile, "exim": hostile}))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Now().Add(-time.Minute)))
			return
		}
		for i := range v.NumField() {
			spoil(v.Field(i), depth+1)
		}
	}
}

func newHandler(t *testing.T, s Snapshot, explain func(context.Context, string) (*explain.Report, error)) *Handler {
	t.Helper()
	return New(Options{Snapshot: func() Snapshot { return s }, Explain: explain, Log: slog.New(slog.DiscardHandler)})
}

func get(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestHostileStrings: whatever a string of a snapshot or of a report is, it is shown and
// not obeyed.
func TestHostileStrings(t *testing.T) {
	var s Snapshot
	spoil(reflect.ValueOf(&s).Elem(), 0)
	var report explain.Report
	spoil(reflect.ValueOf(&report).Elem(), 0)
	h := newHandler(t, s, func(context.Context, string) (*explain.Report, error) { return &report, nil })
	for path, least := range map[string]int{"/": 15, "/explain?domain=x.example": 25} {
		w := get(h, path)
		body := w.Body.String()
		if w.Code != 200 || !strings.HasSuffix(strings.TrimSpace(body), "</html>") {
			t.Fatalf("%s: %d, it ends in %q", path, w.Code, body[max(0, len(body)-200):])
		}
		for _, bad := range []string{"<script", "<img", "alert(\"1\")"} {
			if strings.Contains(body, bad) {
				at := strings.Index(body, bad)
				t.Errorf("%s: %s in %q", path, bad, body[max(0, at-100):at+50])
			}
		}
		if n := strings.Count(body, "&lt;script&gt;"); n < least {
			t.Errorf("%s: the text is shown %d times, want %d: what is not there was not tried", path, n, least)
		}
	}
	// What stands in the box comes from whoever made the link.
	if body := get(h, "/explain?domain="+url.QueryEscape(hostile), "Sec-Fetch-Site", "none").Body.String(); strings.Contains(body, "<script") || !strings.Contains(body, "value=\"&lt;script") {
		t.Error("the box is not escaped")
	}
}

// TestHeaders: nothing may run, be loaded from elsewhere, or frame the page.
func TestHeaders(t *testing.T) {
	h := newHandler(t, Snapshot{}, nil)
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/explain": "text/html; charset=utf-8", "/status.json": "application/json",
		"/style.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml",
	} {
		w := get(h, path)
		if got := w.Header().Get("Content-Type"); got != kind {
			t.Errorf("%s is %s", path, got)
		}
		csp := w.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy is %q", path, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") {
			t.Errorf("%s: the policy is %q", path, csp)
		}
	}
	for _, path := range []string{"/x", "/explain/x", "/.git"} {
		if w := get(h, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// TestExplainGuards: what may not be explained costs nothing, and the page says why.
func TestExplainGuards(t *testing.T) {
	asked := 0
	h := newHandler(t, Snapshot{}, func(_ context.Context, dest string) (*explain.Report, error) {
		asked++
		if dest == "busy.example" {
			return nil, errors.New("too many reports are being written; ask again")
		}
		return &explain.Report{Destination: dest, Verdict: "none", Source: "none"}, nil
	})
	for _, tt := range []struct {
		name, domain string
		header       []string
		code, asked  int
		text         string
	}{
		{name: "typed", domain: "a.example", header: []string{"Sec-Fetch-Site", "none"}, code: 200, asked: 1, text: "a.example"},
		{name: "own form", domain: "a.example", header: []string{"Sec-Fetch-Site", "same-origin"}, code: 200, asked: 1},
		{name: "no browser", domain: "a.example", code: 200, asked: 1},
		{name: "link elsewhere", domain: "a.example", header: []string{"Sec-Fetch-Site", "cross-site"}, code: 403, text: "Another web page"},
		{name: "another port", domain: "a.example", header: []string{"Sec-Fetch-Site", "same-site"}, code: 403, text: `value="a.example"`},
		{name: "ahead of time", domain: "a.example", header: []string{"Sec-Fetch-Site", "none", "Sec-Purpose", "prefetch"}, code: 403, text: "ahead of time"},
		{name: "nothing", code: 400, text: "Which domain?"},
		{name: "no destination", domain: "a b", code: 400, text: "not a destination"},
		{name: "too long", domain: strings.Repeat("a", 301), code: 400, text: "too long"},
		{name: "literal", domain: "[192.0.2.1]", code: 200, asked: 1},
		{name: "busy", domain: "busy.example", code: 503, asked: 1, text: "ask again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked = 0
			w := get(h, "/explain?domain="+url.QueryEscape(tt.domain), tt.header...)
			if w.Code != tt.code || asked != tt.asked || !strings.Contains(w.Body.String(), tt.text) {
				t.Errorf("%d, asked %d times, want %d and %d:\n%s", w.Code, asked, tt.code, tt.asked, w.Body)
			}
		})
	}
}

// TestExplainLimits: two at once, so many in a row, and none for longer than its time.
func TestExplainLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, Snapshot{}, func(ctx context.Context, _ string) (*explain.Report, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		codes := make(chan int, 3)
		begin := time.Now()
		for range 3 {
			go func() { codes <- get(h, "/explain?domain=slow.example").Code }()
			synctest.Wait()
		}
		if code := <-codes; code != http.StatusTooManyRequests {
			t.Errorf("the third: %d", code)
		}
		if code := <-codes; code != http.StatusServiceUnavailable || time.Since(begin) != explainTime {
			t.Errorf("the first: %d after %v", code, time.Since(begin))
		}
		<-codes
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, Snapshot{}, func(context.Context, string) (*explain.Report, error) { return &explain.Report{}, nil })
		taken := 0
		for range 60 {
			if get(h, "/explain?domain=a.example").Code == 200 {
				taken++
			}
		}
		if taken != explainBurst {
			t.Errorf("%d at a time, want %d", taken, explainBurst)
		}
		<-time.After(3 * time.Second)
		w := get(h, "/explain?domain=a.example")
		if w.Code != 200 {
			t.Errorf("later: %d", w.Code)
		}
	})
}

// TestSnapshotIsShared: who reloads again and again costs no more than one a second.
func TestSnapshotIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		h := New(Options{Snapshot: func() Snapshot { made++; return Snapshot{} }, Log: slog.New(slog.DiscardHandler)})
		for range 10 {
			get(h, "/")
			get(h, "/status.json")
		}
		<-time.After(fresh)
		get(h, "/")
		if made != 2 {
			t.Errorf("%d were made", made)
		}
	})
}

// TestJSON: lists are lists, also where they are empty.
func TestJSON(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(get(newHandler(t, Snapshot{}, nil), "/status.json").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"time", "started", "observe", "dnssec", "upstreams", "hour", "day", "deferrals", "policies", "changes", "cache", "connections", "store", "pins"} {
		if doc[name] == nil {
			t.Errorf("%s is %v", name, doc[name])
		}
	}
}

// TestConcerns: each thing that is wrong is said, and nothing where all is well.
func TestConcerns(t *testing.T) {
	now := time.Now()
	well := func() Snapshot {
		return Snapshot{
			Time: now, DNSSEC: DNSSEC{Mode: "validate", Works: true, Checked: now}, Store: Store{Durable: true},
			Upstreams: []Upstream{{Answers: true, Validates: true, Checked: now}},
			Deferrals: []Deferral{{Fault: "remote", Last: now}, {Fault: "operator", Last: now.Add(-9 * time.Hour)}, {Fault: "ours", Last: now, Over: now}},
			Changes:   Changes{List: []Change{{Time: now}, {Time: now.Add(-25 * time.Hour), Downgrade: true}}},
		}
	}
	for text, spoil := range map[string]func(*Snapshot){
		"":                      func(*Snapshot) {},
		"proves nothing":        func(s *Snapshot) { s.DNSSEC.Works = false },
		"not been tried":        func(s *Snapshot) { s.DNSSEC = DNSSEC{Mode: "validate"} },
		"switched off":          func(s *Snapshot) { s.DNSSEC = DNSSEC{Mode: "off"} },
		"Observing":             func(s *Snapshot) { s.Observe = true },
		"cannot be relied on":   func(s *Snapshot) { s.Upstreams[0].Problem = "x" },
		"trust anchors":         func(s *Snapshot) { s.DNSSEC.Warnings = []string{"x"} },
		"store cannot":          func(s *Snapshot) { s.Store.Durable = false },
		"on this host":          func(s *Snapshot) { s.Deferrals[0].Fault = "operator" },
		"downgrade in the last": func(s *Snapshot) { s.Changes.Downgrades = 1 },
		"could not be fetched":  func(s *Snapshot) { s.Policies.Failing = 2 },
		"spoiled 1 ruling":      func(s *Snapshot) { s.Cache.Panics = 1 },
		"1 MTA-STS policy coul": func(s *Snapshot) { s.Policies.Failing = 1 },
	} {
		s := well()
		spoil(&s)
		list := view{Snapshot: &s}.Concerns()
		if text == "" && len(list) == 0 {
			continue
		}
		if len(list) != 1 || !strings.Contains(list[0].Text, text) {
			t.Errorf("%q: %+v", text, list)
		}
	}
	s := Snapshot{}
	if len(view{Snapshot: &s}.Concerns()) == 0 {
		t.Error("the zero value is well")
	}
}

// TestWords: numbers and times as people read them.
func TestWords(t *testing.T) {
	for want, got := range map[string]string{
		"0": grouped(0), "999": grouped(999), "1,000": grouped(1000), "18,446,744,073,709,551,615": grouped(1<<64 - 1),
		"1 answer": plural(1, "answer"), "2 answers": plural(2, "answer"),
		"0 %": percent(0, 9), "< 1 %": percent(1, 101), "1 %": percent(1, 100), "50 %": percent(1, 2), "> 99 %": percent(999, 1000), "100 %": percent(7, 7),
		"0 s": span(-time.Hour), "59 s": span(59*time.Second + 999*time.Millisecond), "3 min": span(3*time.Minute + 40*time.Second),
		"1 h 5 min": span(65 * time.Minute), "47 h": span(47 * time.Hour), "2 days": span(48 * time.Hour),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNice: the top of an axis is not below what is plotted, nor more than twice as high.
func TestNice(t *testing.T) {
	for _, n := range []uint64{0, 1, 4, 5, 9, 10, 11, 99, 101, 4001, 123456789, 1 << 61} {
		if got := nice(n); got < n || (n > 4 && got > 2*n) {
			t.Errorf("%d for %d", got, n)
		}
	}
}

// TestDocumented: every key of status.json is in docs/status.md.
func TestDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "## status.json")
	keys := make(map[string]bool)
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		switch of.Kind() {
		case reflect.Slice:
			walk(of.Elem())
		case reflect.Struct:
			for i := range of.NumField() {
				if key, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); key != "" {
					keys[key] = true
					walk(of.Field(i).Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[Snapshot]())
	for k := range kinds {
		keys[k.String()] = true
	}
	for key := range keys {
		if !strings.Contains(text, "`"+key+"`") {
			t.Errorf("docs/status.md has no %s", key)
		}
	}
	if len(keys) < 60 {
		t.Errorf("only %d keys are looked for", len(keys))
	}
}

// BenchmarkPage is of a page with all that a day has.
func BenchmarkPage(b *testing.B) {
	var s Snapshot
	spoil(reflect.ValueOf(&s).Elem(), 0)
	step := Step{Known: true, Counts: Counts{1, 2, 3, 4, 5, 6, 7, 8}}
	for range 96 {
		s.Day.Steps = append(s.Day.Steps, step)
	}
	for range 60 {
		s.Hour.Steps = append(s.Hour.Steps, step)
	}
	h := New(Options{Snapshot: func() Snapshot { return s }, Log: slog.New(slog.DiscardHandler)})
	b.ReportAllocs()
	for b.Loop() {
		page, err := h.render(view{Snapshot: &s})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(page)))
	}
}
