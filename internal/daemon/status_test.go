package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/history"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/status"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// board is status.json, as far as it is looked at here.
type board struct {
	Hour      struct{ Total map[string]int }
	DNSSEC    status.DNSSEC
	Deferrals []status.Deferral
	Policies  status.Policies
	Changes   status.Changes
	Cache     status.Cache
	Upstreams []status.Upstream
}

// TestPage: what the page shows is what the rooms know.
func TestPage(t *testing.T) {
	const text = "[dns]\nservers = [\"127.0.0.1:1\"]\n[store]\npath = \"\"\n[[override]]\ndomain = \"mine.example\"\npolicy = \"encrypt\"\n"
	d := newDaemon(t, text)
	d.server = &postfixmap.Server{Handler: d}
	d.state.begin()
	d.store.Update("failing.example", func(old mtasts.Cached, _ bool) (mtasts.Cached, bool) {
		policy, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 604800\n"))
		if err != nil {
			t.Error(err)
		}
		return old.AfterSuccess(time.Now(), "1", policy, 0).AfterFailure(time.Now(), "1", "no route", 0), true
	})
	for _, v := range []verdict.Verdict{verdict.DANEOnly{}, verdict.NoPolicy{}} {
		d.store.Note(history.Observation{
			Time: time.Now(), Dest: "weaker.example", Verdict: v, Until: time.Now().Add(time.Minute), Reasons: []verdict.Reason{{Code: verdict.Nothing}},
		})
	}
	policies := &surveys{store: d.store}
	policies.look(t.Context())
	page := d.page(t.Context(), policies)
	ask := func(mapName, key string) {
		d.ServeMap(t.Context(), postfixmap.Request{Map: []byte(mapName), Key: []byte(key)}, nil)
	}
	ask("postfix", "mine.example")
	ask("exim", "mine.example")
	ask("verdict", "mine.example")
	ask("postfix", "[192.0.2.1]")
	follow(d.stack.Load().waits, deferred("waits.example"))
	// A reload, without its file.
	old, next := d.stack.Load(), newDaemon(t, text).stack.Load()
	next.waits.Inherit(old.waits)
	d.totals.succeed(&d.stack, next)
	ask("postfix", "mine.example")
	var b board
	if err := json.Unmarshal(get(page, "/status.json").Body.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	if got := b.Hour.Total; got["override"] != 3 || got["none"] != 0 {
		t.Errorf("answers: %v", got)
	}
	if b.DNSSEC.Mode != "validate" || b.DNSSEC.Works || len(b.Upstreams) != 1 || b.Upstreams[0].Address != "127.0.0.1:1" {
		t.Errorf("%+v, %+v", b.DNSSEC, b.Upstreams)
	}
	if l := b.Deferrals; len(l) != 1 || l[0].Destination != "waits.example" || l[0].Fault != "operator" || l[0].Reason != "no-proof" || l[0].Text != "no proof" {
		t.Errorf("deferrals: %+v", l)
	}
	if p := b.Policies; p.Kept != 1 || p.Failing != 1 || len(p.List) != 1 || p.List[0].Failure != "no route" || p.Checked.IsZero() {
		t.Errorf("policies: %+v", p)
	}
	if l := b.Changes.List; len(l) != 1 || b.Changes.Downgrades != 1 || l[0].Destination != "weaker.example" || !l[0].Downgrade || l[0].Before != "dane-only" || l[0].After != "none" || l[0].Reason == "" {
		t.Errorf("changes: %+v", l)
	}
	if body := get(page, "/explain?domain=mine.example").Body.String(); !strings.Contains(body, "encrypt") || !strings.Contains(body, "override") {
		t.Errorf("the box says %s", body)
	}
}

// deferred is a ruling that has mail wait.
func deferred(name string) *engine.Explanation {
	v := verdict.Defer{Fault: verdict.Operator, Text: "no proof"}
	return &engine.Explanation{
		Facts:   verdict.Facts{Now: time.Now(), Destination: nexthop.Destination{Name: name, Port: nexthop.SMTPPort}},
		Ruling:  verdict.Ruling{Verdict: v, Reasons: []verdict.Reason{{Code: verdict.NoProof, Subject: name}}},
		InForce: engine.Ruled{Verdict: v},
	}
}

// TestBoxIsBounded: the box does not wait for ever, and says what is no destination.
func TestBoxIsBounded(t *testing.T) {
	d := newDaemon(t, "[dns]\nservers = [\"127.0.0.1:1\"]\n[store]\npath = \"\"\n")
	if _, err := d.explain(t.Context(), "a b"); !errors.Is(err, nexthop.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if r, err := d.explain(t.Context(), "[192.0.2.1]"); err != nil || r.Verdict != "none" || len(r.Replies) == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.explain(ctx, "slow.example"); err == nil {
		t.Error("a report is written for who is gone")
	}
}
