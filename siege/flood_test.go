package siege

import (
	"testing"
	"time"
)

// TestFloodOfRandomDomains: who asks for names that nobody knows takes no answer away
// from those who ask for names that are known, and none from another client's own
// new names.
func TestFloodOfRandomDomains(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	dns := serveDNS(t)
	servePolicies(t)
	d := launch(t, settings{cache: "entries = 20000"})
	keys := known(30)
	d.learn(keys)
	hits := population{clients: 8, pause: 4 * time.Millisecond, keys: keys}
	last := short(4*time.Second, 30*time.Second)
	quiet := hits.lasting(t.Context(), last/2)
	before := d.runtime()
	a := besiege(t, "random", 200, "none.example")
	cold := make(chan *latencies)
	go func() {
		cold <- population{clients: 4, pause: 20 * time.Millisecond, unknown: "none.example", patience: 15 * time.Second}.lasting(t.Context(), last)
	}()
	under := hits.lasting(t.Context(), last)
	other := <-cold
	did := a.lift()
	d.alive()
	after := d.runtime()
	under.intact(t, "known names")
	other.intact(t, "another client's new names")
	figure(t, "random domains: quiet: %v", quiet)
	figure(t, "random domains: known names: %v; %.1f times the quiet p99; the attack: %s", under, float64(under.at(0.99))/float64(quiet.at(0.99)), did)
	figure(t, "random domains: another client's new names: %v; %d verdicts kept of 20000, peak %d MB; %d questions upstream at once",
		other, after["verdicts"], d.peak(), dns.most.Load())
	if under.at(0.99) > time.Second {
		t.Errorf("known names have a p99 of %v", under.at(0.99))
	}
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

// TestFloodOfASlowZone: names of a zone that never answers hold all that there is to
// hold; other clients' new names are answered all the same.
func TestFloodOfASlowZone(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	dns := serveDNS(t)
	dns.slow.Store(int64(time.Hour))
	servePolicies(t)
	d := launch(t, settings{})
	keys := known(30)
	d.learn(keys)
	hits := population{clients: 8, pause: 4 * time.Millisecond, keys: keys}
	last := short(5*time.Second, 40*time.Second)
	quiet := hits.lasting(t.Context(), last/4)
	// More than there are places, each with a name that takes as long to work out as may be.
	a := besiege(t, "random", 5000, "slow.example")
	elapse(t.Context(), 2*time.Second)
	cold := make(chan *latencies)
	go func() {
		cold <- population{clients: 4, pause: 20 * time.Millisecond, unknown: "none.example", patience: 15 * time.Second}.lasting(t.Context(), last)
	}()
	under := hits.lasting(t.Context(), last)
	other := <-cold
	did := a.lift()
	d.alive()
	under.intact(t, "known names")
	other.intact(t, "another client's new names")
	figure(t, "a slow zone: quiet: %v", quiet)
	figure(t, "a slow zone: known names: %v; %.1f times the quiet p99; the attack: %s", under, float64(under.at(0.99))/float64(quiet.at(0.99)), did)
	figure(t, "a slow zone: another client's new names: %v; peak %d MB, %d descriptors", other, d.peak(), d.files())
	if under.at(0.99) > time.Second {
		t.Errorf("known names have a p99 of %v", under.at(0.99))
	}
	if other.at(0.99) > 6*time.Second {
		t.Errorf("new names have a p99 of %v", other.at(0.99))
	}
	if d.peak() > 250 {
		t.Errorf("%d MB", d.peak())
	}
}
