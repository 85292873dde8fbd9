package pin

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
)

// wanted notes what is to be probed.
type wanted struct{ targets []probe.Target }

func (w *wanted) Want(t ...probe.Target) { w.targets = append(w.targets, t...) }

type bench struct {
	*Learner
	store  *store.Store
	wanted wanted
	raised []string
	log    bytes.Buffer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{}
	log := slog.New(slog.NewTextHandler(&b.log, nil))
	var err error
	if b.store, err = store.Open("", log); err != nil {
		t.Fatal(err)
	}
	b.Learner = New(Config{Store: b.store, Log: log})
	b.Prober, b.Raised = &b.wanted, func(domain string) { b.raised = append(b.raised, domain) }
	return b
}

// result is what a probe of a host found that proved itself.
func result(host, greeting string) probe.Result {
	return probe.Result{Target: target(host), Greeting: greeting, Named: true, By: probe.ByWebPKI}
}

// uses makes the facts of a domain with these hosts.
func uses(domain string, hosts ...string) *verdict.Facts {
	f := &verdict.Facts{
		Now: time.Now(), Destination: nexthop.Destination{Name: domain, Port: nexthop.SMTPPort},
		Rules: verdict.Rules{Banner: verdict.Enforce},
		MX:    verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Insecure},
	}
	for _, host := range hosts {
		f.MX.Records = append(f.MX.Records, verdict.MX{Host: host})
		f.Pins = append(f.Pins, verdict.Pin{Host: host})
	}
	return f
}

const directive = "mx.example.com ESMTP strict-tls=mx.example.com; max-age=3600"

// TestDone is the table of what pins a host, and what does not.
func TestDone(t *testing.T) {
	unnamed := result("mx.example.com", directive)
	unnamed.Named, unnamed.By = false, probe.ByDANE
	fails := result("mx.example.com", directive)
	fails.Err = &probe.Error{Stage: probe.Certificate, Fault: verdict.Remote, Detail: "expired"}
	for _, tc := range []struct {
		name   string
		result probe.Result
		pins   time.Duration
	}{
		{"directive", result("mx.example.com", directive), time.Hour},
		{"on the first line of two", result("mx.example.com", directive+"\nwelcome"), time.Hour},
		{"on the last line of two", result("mx.example.com", "mx.example.com\nESMTP strict-tls=*.example.com; max-age=60"), time.Minute},
		{"more than a year", result("mx.example.com", "x strict-tls=mx.example.com; max-age=99999999999999999999"), signal.MaxAge},
		{"two directives", result("mx.example.com", directive+"\n"+directive), 0},
		{"of another host", result("mx2.example.com", directive), 0},
		{"of the names below", result("a.b.example.com", "x strict-tls=*.example.com; max-age=60"), 0},
		{"of the names below, includeSubDomains", result("a.b.example.com", "x strict-tls=*.example.com; max-age=60; includeSubDomains"), time.Minute},
		{"public suffix", result("mx.co.uk", "x strict-tls=*.co.uk; max-age=60"), 0},
		{"no max-age", result("mx.example.com", "x strict-tls=mx.example.com"), 0},
		{"max-age=0", result("mx.example.com", "x strict-tls=mx.example.com; max-age=0"), 0},
		{"none", result("mx.example.com", "mx.example.com ESMTP"), 0},
		{"no greeting", result("mx.example.com", ""), 0},
		{"certificate of a TLSA record only", unnamed, 0},
		{"certificate does not hold", fails, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.Ruled(uses("example.com", tc.result.Target.Host))
			b.Done(tc.result)
			p, found, err := b.store.Pin(tc.result.Target.Host)
			if err != nil || found != (tc.pins > 0) {
				t.Fatalf("%+v, %v, %v\n%s", p, found, err, &b.log)
			}
			if left := time.Until(p.Until); found && (left > tc.pins || left < tc.pins-time.Minute/2) {
				t.Errorf("for %v", left)
			}
			if want := tc.pins > 0; slices.Equal(b.raised, []string{"example.com"}) != want {
				t.Errorf("raised %v", b.raised)
			}
		})
	}
}

// TestPinned: a pin in force is prolonged, told once.
func TestPinned(t *testing.T) {
	b := newBench(t)
	b.Ruled(uses("example.com", "mx.example.com", "mx_1.example.com.", "mx.example.com"))
	if len(b.wanted.targets) != 1 {
		t.Errorf("to be probed: %v", b.wanted.targets)
	}
	b.Done(result("mx.example.com", directive))
	first, _, _ := b.store.Pin("mx.example.com")
	b.Done(result("mx.example.com", directive))
	again, _, _ := b.store.Pin("mx.example.com")
	if !again.Learned.Equal(first.Learned) || again.Until.Before(first.Until) {
		t.Errorf("%+v, then %+v", first, again)
	}
	b.Done(result("mx.example.com", "mx.example.com"))
	b.Done(probe.Result{Target: target("mx.example.com"), Err: &probe.Error{Stage: probe.Connect, Fault: verdict.Remote, Detail: "refused"}})
	if after, _, _ := b.store.Pin("mx.example.com"); after != again {
		t.Errorf("%+v", after)
	}
	if n := strings.Count(b.log.String(), "is pinned by its banner"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &b.log)
	}
	if s := b.Stats(); s != (Stats{Banners: 2, Believed: 2, Pinned: 1}) {
		t.Errorf("%+v", s)
	}
	if domains := b.Domains("mx.example.com"); !slices.Equal(domains, []string{"example.com"}) {
		t.Errorf("%v", domains)
	}
}

// TestLate: facts that are older than a pin are not kept.
func TestLate(t *testing.T) {
	b := newBench(t)
	old := uses("example.org", "mx.example.com")
	old.Now = old.Now.Add(-time.Second)
	b.Done(result("mx.example.com", directive))
	b.Ruled(old)
	if !slices.Equal(b.raised, []string{"example.org"}) {
		t.Errorf("raised %v", b.raised)
	}
}

// TestBounded: of what is remembered there is a bound, whatever the number of domains.
func TestBounded(t *testing.T) {
	b := newBench(t)
	for i := range 100 {
		b.Ruled(uses(fmt.Sprintf("d%d.example", i), "mx.example.com"))
	}
	if n := len(b.Domains("mx.example.com")); n != maxDomains {
		t.Errorf("%d domains", n)
	}
	for i := range maxHosts + 10 {
		b.Ruled(uses("example.com", fmt.Sprintf("mx%d.example.com", i)))
	}
	if n := len(b.hosts); n != maxHosts {
		t.Errorf("%d hosts", n)
	}
}

// TestLook: a host is looked at again before its pin ends, and no host all the time.
func TestLook(t *testing.T) {
	for age, want := range map[string]time.Duration{
		"max-age=1": leastLook, "max-age=7200": 2 * time.Hour, "max-age=604800": lookEvery, "max-age=0": lookEvery, "": lookEvery,
	} {
		r := result("mx.example.com", "x strict-tls=mx.example.com; "+age)
		if got := look(&r); got != want {
			t.Errorf("%q: %v", age, got)
		}
	}
}

// full is a store with no place.
type full struct{ Store }

func (full) Pin(string) (signal.Pin, bool, error) { return signal.Pin{}, false, nil }

func (full) UpdatePin(string, func(signal.Pin, bool) (signal.Pin, bool)) error {
	return fmt.Errorf("store: %w", store.ErrFull)
}

func TestFull(t *testing.T) {
	b := newBench(t)
	b.cfg.Store = full{}
	b.Done(result("mx.example.com", directive))
	b.Done(result("mx.example.com", directive))
	if n := strings.Count(b.log.String(), "too many hosts are pinned"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &b.log)
	}
}
