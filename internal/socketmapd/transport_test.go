package socketmapd

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// book plays the engine: what is known of which destination, and what was prepared.
type book struct {
	known    map[string]engine.Ruled
	prepared []string
}

func (b *book) Cached(d nexthop.Destination) (engine.Ruled, bool) {
	r, ok := b.known[d.String()]
	return r, ok
}

func (b *book) Rule(_ context.Context, d nexthop.Destination) engine.Ruled {
	if r, ok := b.known[d.String()]; ok {
		return r
	}
	return engine.Ruled{Verdict: verdict.NoPolicy{}}
}

func (b *book) Explain(_ context.Context, d nexthop.Destination) *engine.Explanation {
	x := &engine.Explanation{Facts: verdict.Facts{Destination: d}, InForce: b.known[d.String()]}
	if b := x.InForce.Beside; b != nil {
		x.Facts.Rules = verdict.Rules{Prefix: verdict.Enforce, ImplicitPort: 26}
		x.Facts.MX = verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Secure}
		for _, host := range b.Implicit {
			x.Facts.MX.Records = append(x.Facts.MX.Records, verdict.MX{Host: host})
		}
	}
	x.Ruling = verdict.Ruling{Verdict: x.InForce.Verdict, Reasons: []verdict.Reason{{Code: verdict.PrefixAll, Subject: d.Name}}}
	return x
}

func (b *book) Hold(nexthop.Destination) *engine.Hold { return nil }

func (b *book) Prepare(_ context.Context, d nexthop.Destination) {
	b.prepared = append(b.prepared, d.String())
}

// shore plays the prober.
type shore struct {
	good            map[string]bool
	wanted, renewed []string
}

func (s *shore) Good(host string) bool { return s.good[host] }

func (s *shore) Want(hosts []string) { s.wanted = append(s.wanted, hosts...) }

func (s *shore) Renew(hosts []string) { s.renewed = append(s.renewed, hosts...) }

func (s *shore) State(host string) explain.Port {
	if s.good[host] {
		return explain.Port{Host: host, State: "good", By: "webpki"}
	}
	return explain.Port{Host: host, State: "bad", Stage: "connect", Error: "refused"}
}

var (
	mxs      = []string{"smtps-a.example.com", "smtps-b.example.com"}
	promise  = &verdict.Beside{Implicit: mxs}
	webpki   = engine.Ruled{Verdict: verdict.WebPKI{Hosts: mxs}, Source: verdict.FromPrefix, Beside: promise}
	daneOnly = engine.Ruled{Verdict: verdict.DANEOnly{}, Source: verdict.FromDANE, Beside: promise}
)

// promising is a domain whose two hosts have proved themselves.
func promising() (*book, *shore) {
	return &book{known: map[string]engine.Ruled{"example.com": webpki, "example.com:26": webpki}},
		&shore{good: map[string]bool{mxs[0]: true, mxs[1]: true}}
}

func responder(b *book, s *shore) *Responder {
	return New(b, Options{Deadline: time.Minute, Log: slog.New(slog.DiscardHandler), Implicit: &Implicit{Port: 26, Transport: "tls26", Ports: s}})
}

func question(r *Responder, mapName, key string) string {
	return string(r.ServeMap(context.Background(), postfixmap.Request{Map: []byte(mapName), Key: []byte(key)}, nil))
}

// TestTransportKeys: everything that Postfix may ask of transport_maps.
func TestTransportKeys(t *testing.T) {
	const yes, no = "OK tls26:example.com:26", "NOTFOUND "
	for key, want := range map[string]string{
		"user@example.com":               yes,
		"user@Example.COM":               yes,
		"user@example.com.":              yes,
		"user+extension@example.com":     yes,
		`"a quoted@user"@example.com`:    yes,
		"user@other.example@example.com": yes,
		"@example.com":                   yes,
		"example.com":                    yes,
		"*":                              no,
		"":                               no,
		"<>":                             no,
		".example.com":                   no,
		".com":                           no,
		"user@.example.com":              no,
		"user@mail.example.com":          no,
		"user@example.com:26":            no,
		"user@[192.0.2.1]":               no,
		"user@[IPv6:2001:db8::1]":        no,
		"user@[mx.example.com]":          no,
		"192.0.2.1":                      no,
		"postmaster":                     no,
		"user@localhost.":                no,
		"user@localhost":                 no,
		"user@":                          no,
		"@":                              no,
		"user@exa mple.com":              no,
		"user@example.com\n":             no,
		"user@" + strings.Repeat("x", 300) + ".example": no,
	} {
		b, s := promising()
		if got := question(responder(b, s), "transport", key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

// TestTransport: each condition is needed, and what is missing is looked for without
// waiting.
func TestTransport(t *testing.T) {
	const yes, no = "OK tls26:example.com:26", "NOTFOUND "
	defers := engine.Ruled{Verdict: verdict.Defer{Text: "no"}, Beside: nil}
	for _, tc := range []struct {
		name     string
		change   func(*book, *shore)
		want     string
		prepared string
		wanted   int
	}{
		{"all is well", func(*book, *shore) {}, yes, "", 0},
		{"DANE on both ports", func(b *book, _ *shore) { b.known["example.com"], b.known["example.com:26"] = daneOnly, daneOnly }, yes, "", 0},
		{"more is asked there", func(b *book, _ *shore) { b.known["example.com:26"] = daneOnly }, yes, "", 0},
		{"less is asked there", func(b *book, _ *shore) { b.known["example.com"] = daneOnly }, no, "", 0},
		{"it waits there", func(b *book, _ *shore) { b.known["example.com:26"] = defers }, no, "", 0},
		{"other hosts there, without a promise", func(b *book, _ *shore) { b.known["example.com:26"] = engine.Ruled{Verdict: verdict.Encrypt{}} }, no, "", 0},
		{"nothing is known", func(b *book, _ *shore) { clear(b.known) }, no, "example.com", 0},
		{"nothing is known of the port", func(b *book, _ *shore) { delete(b.known, "example.com:26") }, no, "example.com:26", 0},
		{"an ordinary domain", func(b *book, _ *shore) { b.known["example.com"] = engine.Ruled{Verdict: verdict.NoPolicy{}} }, no, "", 0},
		{"a policy beside DANE only", func(b *book, _ *shore) {
			b.known["example.com"] = engine.Ruled{Verdict: verdict.DANEOnly{}, Beside: &verdict.Beside{STS: &verdict.STS{}}}
		}, no, "", 0},
		{"one host does not", func(_ *book, s *shore) { s.good[mxs[1]] = false }, no, "", 2},
		{"the first host does not", func(_ *book, s *shore) { s.good[mxs[0]] = false }, no, "", 2},
		{"no host does", func(_ *book, s *shore) { clear(s.good) }, no, "", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, s := promising()
			tc.change(b, s)
			r := responder(b, s)
			if got := question(r, "transport", "user@example.com"); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if got := strings.Join(b.prepared, " "); got != tc.prepared || len(s.wanted) != tc.wanted {
				t.Errorf("prepared %q, wanted %q", got, s.wanted)
			}
		})
	}
}

// TestTransportIsOff: without implicit TLS the map is there, and looks nothing up; where
// the daemon only observes it looks, and says nothing.
func TestTransportIsOff(t *testing.T) {
	b, _ := promising()
	r := New(b, Options{Deadline: time.Minute, Log: slog.New(slog.DiscardHandler)})
	clear(b.known)
	if got := question(r, "transport", "user@example.com"); got != "NOTFOUND " || len(b.prepared) != 0 {
		t.Errorf("off: %q, prepared %q", got, b.prepared)
	}
	r.Told(nexthop.Destination{Name: "example.com", Port: 25}, webpki)
	b, s := promising()
	r = responder(b, s)
	r.opt.Observe = true
	if got := question(r, "transport", "user@example.com"); got != "NOTFOUND " {
		t.Errorf("observed: %q", got)
	}
	clear(b.known)
	if question(r, "transport", "user@example.com"); len(b.prepared) != 1 {
		t.Errorf("observed: prepared %q", b.prepared)
	}
}

// TestWarmingIsBounded: strangers choose the domains.
func TestWarmingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := promising()
		r := responder(b, s)
		for i := range 10_000 {
			question(r, "transport", fmt.Sprintf("user@d%d.example", i))
		}
		if n := len(b.prepared); n != warmBurst {
			t.Errorf("%d domains at once", n)
		}
		time.Sleep(10 * time.Second)
		for i := range 10_000 {
			question(r, "transport", fmt.Sprintf("user@e%d.example", i))
		}
		if n := len(b.prepared) - warmBurst; n != 10*warmRate {
			t.Errorf("%d more in ten seconds", n)
		}
	})
}

// TestTold: a promise has the hosts looked at, and the verdict for the port worked out.
func TestTold(t *testing.T) {
	b, s := promising()
	r := responder(b, s)
	r.Told(nexthop.Destination{Name: "example.com", Port: 25}, webpki)
	if !slices.Equal(s.wanted, mxs) || !slices.Equal(b.prepared, []string{"example.com:26"}) {
		t.Errorf("wanted %q, prepared %q", s.wanted, b.prepared)
	}
	r.Told(nexthop.Destination{Name: "example.com", Port: 26}, webpki)
	if len(b.prepared) != 1 || len(s.wanted) != 4 {
		t.Errorf("wanted %q, prepared %q", s.wanted, b.prepared)
	}
}

// TestAboutToConnect: a question for the policy on the port means a delivery there.
func TestAboutToConnect(t *testing.T) {
	b, s := promising()
	r := responder(b, s)
	for _, key := range []string{"example.com", "example.com:587", "other.example:26"} {
		question(r, "postfix", key)
	}
	if len(s.renewed) != 0 {
		t.Errorf("renewed %q", s.renewed)
	}
	for _, mapName := range []string{"postfix", "postfix-tlsrpt", "QUERY"} {
		s.renewed = nil
		if got := question(r, mapName, "example.com:26"); !strings.HasPrefix(got, "OK secure match=smtps-a.example.com:smtps-b.example.com ") || !slices.Equal(s.renewed, mxs) {
			t.Errorf("%s: %q, renewed %q", mapName, got, s.renewed)
		}
	}
}

// TestImplicitReport: a report says whether the port is used, and why not.
func TestImplicitReport(t *testing.T) {
	report := func(change func(*book, *shore)) *explain.Report {
		b, s := promising()
		change(b, s)
		r := responder(b, s)
		return r.Report(b.Explain(t.Context(), nexthop.Destination{Name: "example.com", Port: 25}))
	}
	r := report(func(*book, *shore) {})
	if i := r.Implicit; i == nil || !i.Used || i.Port != 26 || len(i.Hosts) != 2 || i.Hosts[0].State != "good" || r.Replies["transport"] != "OK tls26:example.com:26" {
		t.Errorf("%+v, %q", i, r.Replies["transport"])
	}
	for want, change := range map[string]func(*book, *shore){
		"not every host has proved itself lately":        func(_ *book, s *shore) { clear(s.good) },
		"what is asked on that port is not known yet":    func(b *book, _ *shore) { delete(b.known, "example.com:26") },
		"secure by prefix, which is less than dane-only": func(b *book, _ *shore) { b.known["example.com"] = daneOnly },
	} {
		r := report(change)
		if i := r.Implicit; i == nil || i.Used || !strings.Contains(i.Because, want) || r.Replies["transport"] != "NOTFOUND " {
			t.Errorf("want %q: %+v, %q", want, i, r.Replies["transport"])
		}
	}
	r = report(func(b *book, _ *shore) { b.known["example.com"] = engine.Ruled{Verdict: verdict.NoPolicy{}} })
	if _, told := r.Replies["transport"]; r.Implicit != nil || told {
		t.Errorf("of an ordinary domain: %+v, %q", r.Implicit, r.Replies)
	}
}

// TestTransportCostsNothing: for an ordinary domain as little as the map postfix.
func TestTransportCostsNothing(t *testing.T) {
	b, s := promising()
	b.known["ordinary.example"] = engine.Ruled{Verdict: verdict.NoPolicy{}}
	r := responder(b, s)
	buf := make([]byte, 0, 256)
	for _, key := range []string{"user@ordinary.example", "user@example.com"} {
		req := postfixmap.Request{Map: []byte("transport"), Key: []byte(key)}
		r.ServeMap(t.Context(), req, buf)
		// A destination's text, which this book makes for each question, costs one.
		if n := testing.AllocsPerRun(100, func() { r.ServeMap(t.Context(), req, buf) }); n > 2 {
			t.Errorf("%s: %v allocations", key, n)
		}
	}
}

func BenchmarkTransport(b *testing.B) {
	for name, ruled := range map[string]engine.Ruled{"ordinary": {Verdict: verdict.NoPolicy{}}, "promised": webpki} {
		b.Run(name, func(b *testing.B) {
			_, s := promising()
			r := New(&one{ruled}, Options{Log: slog.New(slog.DiscardHandler), Implicit: &Implicit{Port: 26, Transport: "tls26", Ports: s}})
			req := postfixmap.Request{Map: []byte("transport"), Key: []byte("user@example.com")}
			buf := make([]byte, 0, 1024)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				r.ServeMap(ctx, req, buf)
			}
		})
	}
}

// one plays an engine that rules the same on everything.
type one struct{ ruled engine.Ruled }

func (o *one) Cached(nexthop.Destination) (engine.Ruled, bool)        { return o.ruled, true }
func (o *one) Rule(context.Context, nexthop.Destination) engine.Ruled { return o.ruled }
func (o *one) Explain(context.Context, nexthop.Destination) *engine.Explanation {
	panic("not asked here")
}
func (o *one) Hold(nexthop.Destination) *engine.Hold        { return nil }
func (o *one) Prepare(context.Context, nexthop.Destination) {}

// TestRecentPromises: answers that are at hand do not hide a promise, nor a delivery to
// the port.
func TestRecentPromises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := "mx.example.com"
		e, err := engine.New(engine.Config{
			Gather: func(_ context.Context, d nexthop.Destination) verdict.Facts {
				address := verdict.Answer[netip.Addr]{Outcome: verdict.Found, Proof: verdict.Insecure, TTL: time.Hour, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
				return verdict.Facts{
					Now: time.Now(), Destination: d, Rules: verdict.Rules{Prefix: verdict.Enforce, ImplicitPort: 26},
					MX:    verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Secure, TTL: time.Hour, Records: []verdict.MX{{Host: host}}},
					Hosts: []verdict.Host{{Name: host, A: address, AAAA: address}},
				}
			},
			Entries: 100, MinTTL: time.Minute, MaxTTL: time.Hour, RefreshAhead: true, Flights: 4, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		s := &shore{good: map[string]bool{"smtps-mx.example.com": true}}
		r := New(e, Options{Deadline: time.Minute, Log: slog.New(slog.DiscardHandler), Implicit: &Implicit{Port: 26, Transport: "tls26", Ports: s}})
		for range 5 {
			if got := question(r, "transport", "user@example.com"); got != "NOTFOUND " {
				t.Fatalf("without a promise: %q", got)
			}
			synctest.Wait()
		}
		host = "smtps-mx.example.com"
		time.Sleep(time.Hour)
		for range 3 {
			question(r, "transport", "user@example.com")
			synctest.Wait()
		}
		for range 5 {
			if got := question(r, "transport", "user@example.com"); got != "OK tls26:example.com:26" {
				t.Fatalf("with a promise: %q", got)
			}
			s.renewed = nil
			if question(r, "postfix", "example.com:26"); len(s.renewed) != 1 {
				t.Fatalf("a delivery has %q looked at", s.renewed)
			}
		}
		s.good["smtps-mx.example.com"] = false
		if got := question(r, "transport", "user@example.com"); got != "NOTFOUND " {
			t.Errorf("with a host that fails: %q", got)
		}
	})
}

// TestTurn: each domain has one turn an hour, as long as is said, at times of its own.
func TestTurn(t *testing.T) {
	i := &Implicit{Turn: 15 * time.Minute}
	begin := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	at := make(map[time.Time]bool)
	for hour := range 48 {
		from, n := begin.Add(time.Duration(hour)*time.Hour), 0
		for minute := range 60 {
			now := from.Add(time.Duration(minute) * time.Minute)
			until, ok := i.turn("example.com", now)
			if !ok {
				continue
			}
			n++
			if left := until.Sub(now); left <= 0 || left > i.Turn || until.After(from.Add(time.Hour)) {
				t.Errorf("at %v a turn until %v", now, until)
			}
			at[until.Add(-time.Duration(hour)*time.Hour)] = true
		}
		if n != 15 {
			t.Errorf("hour %d has %d minutes of a turn", hour, n)
		}
	}
	if len(at) < 40 {
		t.Errorf("48 hours have turns at %d times only", len(at))
	}
	if _, ok := (&Implicit{}).turn("example.com", begin); ok {
		t.Error("a turn where there is none")
	}
}

// TestRetriesMeetATurn: an MTA that tries mail again as Postfix does, or each so many
// minutes, meets a turn soon, whatever it was set to and whenever it begins.
func TestRetriesMeetATurn(t *testing.T) {
	i := &Implicit{Turn: 15 * time.Minute}
	begin := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	postfix := func(least, most time.Duration) func(age time.Duration) time.Duration {
		return func(age time.Duration) time.Duration { return min(max(age, least), most) }
	}
	every := func(d time.Duration) func(time.Duration) time.Duration {
		return func(time.Duration) time.Duration { return d }
	}
	for name, next := range map[string]func(time.Duration) time.Duration{
		"Postfix":            postfix(300*time.Second, 4000*time.Second),
		"Postfix, each hour": postfix(300*time.Second, time.Hour),
		"Postfix, 4 hours":   postfix(15*time.Minute, 4*time.Hour),
		"every half hour":    every(30 * time.Minute),
		"every hour":         every(time.Hour),
	} {
		const domains = 2000
		var ages []time.Duration
		for n := range domains {
			domain, age := fmt.Sprintf("d%d.example", n), time.Duration(0)
			for now := begin.Add(time.Duration(n) * 97 * time.Second); ; age += next(age) {
				if _, ok := i.turn(domain, now.Add(age)); ok {
					break
				}
			}
			ages = append(ages, age)
		}
		slices.Sort(ages)
		// Postfix returns mail after 5 days. No setting of it makes turns hard to meet: one
		// try in four does, so that 99 % have met one after 17 tries.
		if ages[domains/2] > 12*time.Hour || ages[domains*99/100] > 72*time.Hour || ages[domains-1] > 5*24*time.Hour {
			t.Errorf("%s: half of the mail gets through after %v, the last after %v", name, ages[domains/2], ages[domains-1])
		}
		t.Logf("%s: half after %v, 99 %% after %v, the last after %v", name, ages[domains/2], ages[domains*99/100], ages[domains-1])
	}
}
