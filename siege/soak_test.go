package siege

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sample is what the process held at a time.
type sample struct {
	at                           time.Duration
	goroutines, files, rss, heap int
}

func (s sample) String() string {
	return fmt.Sprintf("%v: %d goroutines, %d files, %d MB resident", s.at.Round(time.Second), s.goroutines, s.files, s.rss)
}

// TestSoak: mail's load, attacks and faults, all mixed, for long. At the end the daemon
// holds what it held near the beginning, and nobody was answered wrongly.
func TestSoak(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	dns, web, bad := serveDNS(t), servePolicies(t), badHosts(t)
	dns.ttl.Store(20)
	dir := disk(t, "16m")
	d := launch(t, settings{
		store: filepath.Join(dir, "policyd.db"), dns: "timeout = \"500ms\"", sts: "timeout = \"1s\"",
		cache: "entries = 20000\nmin_ttl = \"2s\"", socketmap: "deadline = \"2s\"\nmax_connections = 1000",
	})
	length := *soak
	if length == 0 {
		length = short(20*time.Second, 10*time.Minute)
	}
	keys := known(50)
	d.learn(keys)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	mta := population{clients: 8, pause: 10 * time.Millisecond, keys: keys, patience: 20 * time.Second}
	asked := make(chan *latencies)
	go func() { asked <- mta.during(ctx) }()

	var samples []sample
	for round := 0; ctx.Err() == nil; round++ {
		d.upset(ctx, round, dns, bad, dir)
		dns.be(t, well)
		dns.loss.Store(0)
		web.maxAge.Store(int64(86400 + round))
		d.alive()
		samples = append(samples, d.rest(begin))
	}
	all := <-asked
	judge(t, samples)
	// A verdict may be a deferral while the resolver is away, and nothing weaker ever.
	waited := 0
	for _, w := range all.wrong {
		if strings.Contains(w, `"TEMP `) {
			waited++
		} else {
			t.Errorf("while everything was upset: %s", w)
		}
	}
	if !full() {
		// What failed is tried again after half a minute or more; a reload is quicker.
		must(t, d.cmd.Process.Signal(syscall.SIGHUP))
	}
	d.learn(keys)
	figure(t, "soak of %v, %d rounds: %d questions, %d had to wait, p99 %v", length, len(samples), all.asked, waited, all.at(0.99))
	for i, s := range samples {
		if i == 0 || i == len(samples)-1 || i%max(1, len(samples)/8) == 0 {
			figure(t, "soak: after %v", s)
		}
	}
}

// upset is one round of attacks and faults.
func (d *daemon) upset(ctx context.Context, round int, dns *resolver, bad *policyHosts, dir string) {
	t := d.t
	attacks := []*attacker{
		besiege(t, []string{"idle", "dribble", "garbage", "churn", "deaf"}[round%5], 50, "json"),
		besiege(t, "random", 20, []string{"none.example", "sts.example", "dane.example", "own.example", "slow.example"}[round/2%5]),
	}
	dns.slow.Store(int64(5 * time.Second))
	bad.manner.Store(int32(1 + round%int(slowBody)))
	asking := d.askAll(fmt.Sprintf("bad%d-%%d.sts.example", round), 50)
	dns.loss.Store([]int64{0, 10, 50}[round%3])
	if round%2 == 1 {
		dns.be(t, []mood{dead, silent, failing, lying}[round/2%4])
	}
	var filler string
	if round%3 == 1 {
		filler = fill(t, dir)
	}
	if round%4 == 3 {
		must(t, d.cmd.Process.Signal(syscall.SIGHUP))
	}
	last := short(time.Second, 2*time.Second)
	elapse(ctx, last+rand.N(last))
	for _, a := range attacks {
		a.lift()
	}
	if filler != "" {
		must(t, os.Remove(filler))
	}
	<-asking
}

// rest waits a moment for what ends by itself, and looks at the process.
func (d *daemon) rest(begin time.Time) sample {
	elapse(d.t.Context(), short(time.Second, 10*time.Second))
	r := d.runtime()
	return sample{time.Since(begin), r["goroutines"], d.files(), d.rss(), r["heap"]}
}

// judge compares the last quarter of the samples with the first, each by its least:
// what is under way comes and goes, what leaks stays.
func judge(t *testing.T, samples []sample) {
	t.Helper()
	if len(samples) < 4 {
		t.Fatalf("%d rounds are too few to judge", len(samples))
	}
	least := func(of []sample, what func(sample) int) int {
		return what(slices.MinFunc(of, func(a, b sample) int { return what(a) - what(b) }))
	}
	quarter := len(samples) / 4
	for name, f := range map[string]struct {
		what  func(sample) int
		spare int
	}{
		"goroutines":  {func(s sample) int { return s.goroutines }, 50},
		"descriptors": {func(s sample) int { return s.files }, 20},
		"MB resident": {func(s sample) int { return s.rss }, 40},
	} {
		first, last := least(samples[:quarter], f.what), least(samples[len(samples)-quarter:], f.what)
		if last > first+first/2+f.spare {
			t.Errorf("%d %s in the first quarter, %d in the last: it grows", first, name, last)
		}
	}
}
