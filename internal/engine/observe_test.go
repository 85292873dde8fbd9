package engine

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// prefixed are the facts of a signed domain whose only MX host carries the prefix.
func prefixed(d nexthop.Destination, proof verdict.Proof) verdict.Facts {
	denied := verdict.Answer[string]{Outcome: verdict.NoData, Proof: proof, TTL: time.Minute}
	f := verdict.Facts{
		Now: time.Now(), Destination: d, Rules: verdict.Rules{Prefix: verdict.Observe, DANE: verdict.Native},
		MX: verdict.Answer[verdict.MX]{
			Outcome: verdict.Found, Proof: proof, TTL: time.Minute,
			Records: []verdict.MX{{Host: "starttls-mx." + d.Name}},
		},
		TXT: denied,
	}
	h := verdict.Host{Name: f.MX.Records[0].Host}
	h.A.Outcome, h.A.Proof, h.AAAA.Outcome, h.AAAA.Proof = verdict.NoData, verdict.Secure, verdict.NoData, verdict.Secure
	f.Hosts = []verdict.Host{h}
	return f
}

// lines counts the records with a text.
func lines(log *bytes.Buffer, text string) int { return strings.Count(log.String(), text) }

// TestObservedIsSaidOnce: what an observed signal would do is logged once for each change,
// and counted each time.
func TestObservedIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	proof := verdict.Secure
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts { return prefixed(d, proof) }}
	settings := func(c *Config) { c.Log, c.RefreshAhead = slog.New(slog.NewTextHandler(&log, nil)), false }
	bubble(t, s, settings, func(t *testing.T, e *Engine) {
		look := func() {
			t.Helper()
			if r := e.Rule(t.Context(), dest); r.Verdict.Name() != "none" {
				t.Errorf("answered %s", r.Verdict.Name())
			}
			time.Sleep(2 * time.Minute)
		}
		for range 3 {
			look()
		}
		const changes, nothing, unbelieved = `msg="what is only observed would change the answer" dest=example.com answered=none would_be=secure source=prefix reason=prefix-all`,
			"would no longer change the answer", "a signal is seen and not believed"
		if a, b, c := lines(&log, changes), lines(&log, nothing), lines(&log, unbelieved); a != 1 || b+c != 0 {
			t.Errorf("%d, %d and %d records:\n%s", a, b, c, log.String())
		}
		if s := e.Stats(); s.Observed != 3 || s.Signals[verdict.PrefixObserved] != 3 {
			t.Errorf("counted %d, %v", s.Observed, s.Signals)
		}

		proof = verdict.Insecure
		look()
		look()
		if a, b, c := lines(&log, changes), lines(&log, nothing), lines(&log, unbelieved+`" dest=example.com reason=prefix-unsigned`); a != 1 || b != 1 || c != 1 {
			t.Errorf("unsigned: %d, %d and %d records:\n%s", a, b, c, log.String())
		}
		proof = verdict.Secure
		look()
		if a := lines(&log, changes); a != 2 {
			t.Errorf("signed again: %d records", a)
		}
		if s := e.Stats(); s.Observed != 4 || s.Signals[verdict.PrefixUnsigned] != 2 {
			t.Errorf("counted %d, %v", s.Observed, s.Signals)
		}
	})
}

// TestAllObserved: where MTAs are told of no policy, every verdict is one that would be.
func TestAllObserved(t *testing.T) {
	var log bytes.Buffer
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		if d.Name == dest.Name {
			return broken(d)
		}
		return unsigned(d, time.Hour)
	}}
	settings := func(c *Config) {
		c.Log, c.RefreshAhead, c.Observe = slog.New(slog.NewTextHandler(&log, nil)), false, true
	}
	bubble(t, s, settings, func(t *testing.T, e *Engine) {
		for range 3 {
			e.Rule(t.Context(), dest)
			e.Rule(t.Context(), nexthop.Destination{Name: "none.example", Port: 25})
			time.Sleep(2 * time.Minute)
		}
		if n := lines(&log, "would change the answer"); n != 1 || lines(&log, "answered=none would_be=defer source=none reason=mx-failed") != 1 {
			t.Errorf("%d records:\n%s", n, log.String())
		}
		if s := e.Stats(); s.Observed != 3 {
			t.Errorf("counted %d", s.Observed)
		}
	})
}

// TestRaiseAndDrop: a name of which more may be demanded is worked out anew where its verdict
// is lax, one of which less may be where it rests on that source, and nothing else is.
func TestRaiseAndDrop(t *testing.T) {
	var pin atomic.Bool
	var ruled atomic.Int32
	s := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		f := prefixed(d, verdict.Insecure)
		f.Rules = verdict.Rules{Banner: verdict.Enforce, DANE: verdict.Native}
		for _, name := range f.Pinnable() {
			p := verdict.Pin{Host: name}
			if pin.Load() {
				p.Until = f.Now.Add(24 * time.Hour)
			}
			f.Pins = append(f.Pins, p)
		}
		return f
	}}
	bubble(t, s, func(c *Config) { c.Ruled = func(*Explanation) { ruled.Add(1) } }, func(t *testing.T, e *Engine) {
		ask := func(want verdict.Source, looks int64) {
			t.Helper()
			if r := e.Rule(t.Context(), dest); r.Source != want || int64(s.calls.Load()) != looks {
				t.Errorf("%v by %v after %d looks, want %v after %d", r.Verdict, r.Source, s.calls.Load(), want, looks)
			}
		}
		ask(verdict.FromNothing, 1)
		pin.Store(true)
		e.Raise("other.example")
		ask(verdict.FromNothing, 1)
		e.Raise(dest.Name)
		ask(verdict.FromBanner, 2)
		e.Raise(dest.Name)
		ask(verdict.FromBanner, 2)
		pin.Store(false)
		e.Drop(verdict.FromSTS)
		ask(verdict.FromBanner, 2)
		e.Drop(verdict.FromBanner)
		ask(verdict.FromNothing, 3)
		if n := ruled.Load(); n != 3 {
			t.Errorf("told of %d rulings", n)
		}
	})
}
