package siege

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"
)

// TestUpstream: with the resolver gone in every way there is, what is known keeps its
// verdict, what is not known waits, nothing is answered as having no policy that might
// have one, and once the resolver is back everything is, without a restart.
func TestUpstream(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	for name, m := range map[string]mood{"dead": dead, "silent": silent, "failing": failing, "lying": lying} {
		t.Run(name, func(t *testing.T) {
			dns := serveDNS(t)
			servePolicies(t)
			d := launch(t, settings{dns: "timeout = \"500ms\"", socketmap: "deadline = \"4s\""})
			keys := known(20)
			d.learn(keys)
			dns.be(t, m)
			for _, zone := range []string{"none", "dane", "own"} {
				d.want("new."+zone+".example", "TEMP")
			}
			broken := population{clients: 8, pause: 4 * time.Millisecond, keys: keys}.lasting(t.Context(), short(time.Second, 10*time.Second))
			broken.intact(t, "what is known")
			dns.be(t, well)
			back := time.Now()
			d.learn(map[string]string{"newer.none.example": "NOTFOUND ", "newer.dane.example": "OK dane-only", "newer.sts.example": stsLine("newer.sts.example")})
			figure(t, "the resolver is %s: known: %v; back: what was never asked for was right after %v", name, broken, time.Since(back).Round(10*time.Millisecond))
		})
	}
}

// TestExpiryWithoutUpstream: a verdict is kept for its time and not beyond. Where not
// even the MX records can be looked up, mail waits whatever the policy.
func TestExpiryWithoutUpstream(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	dns := serveDNS(t)
	dns.ttl.Store(3)
	servePolicies(t)
	d := launch(t, settings{dns: "timeout = \"500ms\"", socketmap: "deadline = \"4s\"", cache: "min_ttl = \"1s\"\nrefresh_ahead = false"})
	begin := time.Now()
	d.learn(known(1))
	dns.be(t, dead)
	for key, want := range known(1) {
		d.want(key, want)
	}
	elapse(t.Context(), 4*time.Second-time.Since(begin))
	for key := range known(1) {
		d.want(key, "TEMP")
	}
	dns.be(t, well)
	back := time.Now()
	d.learn(map[string]string{"k1.dane.example": "OK dane-only", "k1.sts.example": stsLine("k1.sts.example")})
	figure(t, "the resolver is dead: verdicts hold to the end of their TTL and mail waits then; back: new names after %v", time.Since(back).Round(10*time.Millisecond))
}

// TestLoss: packets that are lost cost time, and never a verdict.
func TestLoss(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	for _, percent := range []int64{10, 50} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			dns := serveDNS(t)
			servePolicies(t)
			d := launch(t, settings{dns: "timeout = \"500ms\""})
			keys := known(30)
			d.learn(keys)
			dns.loss.Store(percent)
			n := short(100, 1000)
			right, wait := d.once(n)
			under := population{clients: 4, pause: 10 * time.Millisecond, keys: keys}.lasting(t.Context(), time.Second)
			under.intact(t, "what is known")
			figure(t, "%d %% of the packets are lost each way: of %d new domains with DANE %d were right at the first question, %d had to wait, none was wrong; known: %v",
				percent, n, right, wait, under)
			if percent == 10 && wait > n/3 {
				t.Errorf("%d of %d had to wait", wait, n)
			}
		})
	}
}

// once asks once for each of n new domains with DANE, and counts what it is told. All
// but the truth and TEMP fails the test.
func (d *daemon) once(n int) (right, wait int) {
	d.t.Helper()
	answers := make(chan string)
	slots := make(chan struct{}, 50)
	for i := range n {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			got, err := d.ask("postfix", fmt.Sprintf("once%d.dane.example", i))
			if err != nil {
				got = err.Error()
			}
			answers <- got
		}()
	}
	for range n {
		switch got := <-answers; {
		case got == "OK dane-only":
			right++
		case len(got) > 5 && got[:5] == "TEMP ":
			wait++
		default:
			d.t.Errorf("a domain with DANE: %q", got)
		}
	}
	return right, wait
}

// TestHerd: when the resolver comes back, the questions that have waited do not come
// all at once; nor do they while it comes and goes.
func TestHerd(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	dns := serveDNS(t)
	dns.ttl.Store(4)
	servePolicies(t)
	d := launch(t, settings{dns: "timeout = \"500ms\"", cache: "min_ttl = \"1s\""})
	keys := known(short(300, 2000))
	maps.DeleteFunc(keys, func(name, _ string) bool { return len(name) > 4 && name[len(name)-11:] == "sts.example" })
	d.learn(keys)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan *latencies)
	mta := population{clients: 8, pause: 10 * time.Millisecond, keys: keys, patience: 20 * time.Second}
	go func() { done <- mta.during(ctx) }()
	phase := func(m mood, last time.Duration) int {
		dns.be(t, m)
		begin := time.Now().Truncate(time.Second)
		elapse(ctx, last)
		return dns.busiest(begin)
	}
	before := phase(well, short(5*time.Second, 10*time.Second))
	gone := phase(dead, short(4*time.Second, time.Minute))
	after := phase(well, short(5*time.Second, 90*time.Second))
	for range short(1, 10) {
		phase(silent, 2*time.Second)
		phase(well, 2*time.Second)
	}
	cancel()
	asked := <-done
	figure(t, "%d domains with a TTL of 4 s, asked for %d times in all: at most %d questions a second upstream in peace, %d while it is dead, %d once it is back",
		len(keys), asked.asked, before, gone, after)
	if limit := 4*before + 200; after > limit {
		t.Errorf("%d questions in a second after the recovery, more than %d", after, limit)
	}
	// What is asked for after all that is right.
	d.want("after.dane.example", "OK dane-only")
}
