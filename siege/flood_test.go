package siege

import (
	"testing"
	"time"
)

// floodOf is a flood, and how answers are proven.
type floodOf struct{ zone, dnssec string }

func (f floodOf) String() string { return f.zone + ", " + f.dnssec }

// TestFloodOfRandomDomains: who asks for names that nobody knows takes no answer away
// from those who ask for names that are known, and none from another client's own
// new names; whether a new name costs some DNS questions, signatures to check, or a
// zone with keys of its own.
func TestFloodOfRandomDomains(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	for _, f := range []floodOf{{"none.example", "trust-ad"}, {"none.example", "validate"}, {"dane.example", "validate"}, {"own.example", "validate"}} {
		t.Run(f.String(), func(t *testing.T) { f.random(t) })
	}
}

func (f floodOf) random(t *testing.T) {
	dns := serveDNS(t)
	servePolicies(t)
	d := launch(t, settings{dnssec: f.dnssec, cache: "entries = 20000"})
	keys := known(30)
	d.learn(keys)
	hits := population{clients: 8, pause: 4 * time.Millisecond, keys: keys}
	last := short(4*time.Second, 30*time.Second)
	serveFloor(t)
	quiet := hits.besideFloor(t.Context(), last/2)
	before := d.runtime()
	a := besiege(t, "random", 200, f.zone)
	both, other := d.beside(t, hits, last)
	under := both.mine
	did := a.lift()
	d.alive()
	after := d.runtime()
	figure(t, "random domains of %v: quiet: %v", f, quiet.mine)
	figure(t, "random domains of %v: known names: %v; %s; the attack: %s", f, under, both.times(quiet), did)
	figure(t, "random domains of %v: another client's new names: %v; %d verdicts kept of 20000, peak %d MB; %d questions upstream at once",
		f, other, after["verdicts"], d.peak(), dns.most.Load())
	// The names in use are hits, whatever else is put into the cache.
	if hits := after["hits"] - before["hits"]; hits < under.asked*99/100 {
		t.Errorf("%d hits of %d questions for known names: the flood has driven them out", hits, under.asked)
	}
	if n := dns.most.Load(); n > 1024 {
		t.Errorf("%d questions upstream at once, more than 1024", n)
	}
	if d.peak() > 150 {
		t.Errorf("%d MB", d.peak())
	}
}

// beside asks for what is known, and as another client for new names, both for a while
// in which something else goes on.
func (d *daemon) beside(t *testing.T, hits population, last time.Duration) (both pair, other *latencies) {
	t.Helper()
	cold := make(chan *latencies)
	go func() {
		cold <- population{clients: 4, pause: 20 * time.Millisecond, unknown: "none.example", patience: 15 * time.Second}.lasting(t.Context(), last)
	}()
	both = hits.besideFloor(t.Context(), last)
	other = <-cold
	both.mine.intact(t, "known names")
	other.intact(t, "another client's new names")
	if p99 := both.mine.at(0.99); p99 > time.Second {
		t.Errorf("known names have a p99 of %v", p99)
	}
	return both, other
}

// TestFloodOfASlowZone: names of a zone that never answers hold all that there is to
// hold; other clients' new names are answered all the same.
func TestFloodOfASlowZone(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	for _, f := range []floodOf{{"slow.example", "trust-ad"}, {"slow.example", "validate"}} {
		t.Run(f.String(), func(t *testing.T) { f.slow(t) })
	}
}

func (f floodOf) slow(t *testing.T) {
	dns := serveDNS(t)
	dns.slow.Store(int64(time.Hour))
	servePolicies(t)
	d := launch(t, settings{dnssec: f.dnssec})
	keys := known(30)
	d.learn(keys)
	hits := population{clients: 8, pause: 4 * time.Millisecond, keys: keys}
	last := short(5*time.Second, 40*time.Second)
	serveFloor(t)
	quiet := hits.besideFloor(t.Context(), last/4)
	// More than there are places, each with a name that takes as long to work out as may be.
	a := besiege(t, "random", 5000, f.zone)
	elapse(t.Context(), 2*time.Second)
	both, other := d.beside(t, hits, last)
	under := both.mine
	did := a.lift()
	d.alive()
	figure(t, "%v: quiet: %v", f, quiet.mine)
	figure(t, "%v: known names: %v; %s; the attack: %s", f, under, both.times(quiet), did)
	figure(t, "%v: another client's new names: %v; peak %d MB, %d descriptors", f, other, d.peak(), d.files())
	if other.at(0.99) > 6*time.Second {
		t.Errorf("new names have a p99 of %v", other.at(0.99))
	}
	if d.peak() > 250 {
		t.Errorf("%d MB", d.peak())
	}
}
