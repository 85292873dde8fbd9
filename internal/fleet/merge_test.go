package fleet

import (
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
)

const day = 24 * time.Hour

// TestMergePolicy has the whole of what a shared policy can do to a local one.
func TestMergePolicy(t *testing.T) {
	local := func(mode, maxAge string, ago time.Duration) *mtasts.Cached {
		return &mtasts.Cached{Domain: "example.com", ID: "1", Policy: policy(t, mode, "mx.example.com", maxAge), Fetched: now.Add(-ago), Used: now, NextTry: now.Add(time.Hour)}
	}
	const week = "604800"
	for name, c := range map[string]struct {
		local        *mtasts.Cached
		mode, mx     string
		maxAge       string
		ago          time.Duration
		keyed, plain bool // whether it is taken with a key, and without
	}{
		"nothing here: enforce":                     {nil, "enforce", "mx.example.com", week, time.Hour, true, true},
		"nothing here: testing":                     {nil, "testing", "mx.example.com", week, time.Hour, false, false},
		"nothing here: none":                        {nil, "none", "mx.example.com", week, time.Hour, false, false},
		"nothing here: ended":                       {nil, "enforce", "mx.example.com", week, 8 * day, false, false},
		"enforced here: the same, later":            {local("enforce", week, day), "enforce", "mx.example.com", week, time.Hour, true, false},
		"enforced here: the same, sooner":           {local("enforce", week, time.Hour), "enforce", "mx.example.com", week, day, false, false},
		"enforced here: none, later":                {local("enforce", week, day), "none", "mx.example.com", week, time.Hour, false, false},
		"enforced here: testing, later":             {local("enforce", week, day), "testing", "mx.example.com", week, time.Hour, false, false},
		"enforced here: another mx, later":          {local("enforce", week, day), "enforce", "mx.evil.example", week, time.Hour, false, false},
		"enforced here: shorter, later":             {local("enforce", week, day), "enforce", "mx.example.com", "86400", time.Hour, false, false},
		"enforced here: longer, later":              {local("enforce", week, day), "enforce", "mx.example.com", "31557600", time.Hour, false, false},
		"enforced and ended here: the same, later":  {local("enforce", week, 8*day), "enforce", "mx.example.com", week, day, true, true},
		"enforced and ended here: the same, sooner": {local("enforce", "86400", 2*day), "enforce", "mx.example.com", week, 3 * day, false, false},
		"testing here: enforce, later":              {local("testing", week, day), "enforce", "mx.example.com", week, time.Hour, true, false},
		"testing here: enforce, sooner":             {local("testing", week, time.Hour), "enforce", "mx.example.com", week, day, false, false},
		"none here: enforce, later":                 {local("none", week, day), "enforce", "mx.example.com", week, time.Hour, true, false},
	} {
		other := mtasts.Cached{Domain: "example.com", ID: "2", Policy: policy(t, c.mode, c.mx, c.maxAge), Fetched: now.Add(-c.ago)}
		for _, k := range []Key{key(t, "a"), {}} {
			var old mtasts.Cached
			if c.local != nil {
				old = *c.local
			}
			got, taken := k.mergePolicy(old, c.local != nil, other, now)
			want := c.plain
			if k.Authentic() {
				want = c.keyed
			}
			if taken != want {
				t.Errorf("%s: taken is %v with a key %v", name, taken, k.Authentic())
			}
			neverWeaker(t, name, old, got)
			if taken && got.Expires().After(other.Expires()) {
				t.Errorf("%s: it holds until %v, beyond what it says, %v", name, got.Expires(), other.Expires())
			}
			if taken && !k.Authentic() && (got.ID != "" || got.Expires().After(now.Add(openLife))) {
				t.Errorf("%s: what nobody vouches for holds until %v, id %q", name, got.Expires(), got.ID)
			}
		}
	}
}

// neverWeaker fails where an enforced policy was replaced by less.
func neverWeaker(t *testing.T, name string, old, got mtasts.Cached) {
	t.Helper()
	if !old.Fresh(now) || old.Policy.Mode != mtasts.ModeEnforce {
		return
	}
	if got.Policy.Text() != old.Policy.Text() || got.Expires().Before(old.Expires()) || got.Domain != old.Domain {
		t.Errorf("%s: weaker: %+v; was %+v", name, got, old)
	}
}

// TestTakenPolicyIsSeenToByTheNode: what was taken is fetched by the node itself at its
// first use, and not before.
func TestTakenPolicyIsSeenToByTheNode(t *testing.T) {
	got, taken := key(t, "a").mergePolicy(mtasts.Cached{}, false, fetched(t, time.Hour), now)
	if !taken || got.Next(now) != mtasts.Wait {
		t.Fatalf("%v, %v; want it taken and not due", taken, got.Next(now))
	}
	if used := got.AfterUse(now.Add(time.Minute)); used.Next(now.Add(time.Minute)) != mtasts.Fetch {
		t.Errorf("used, it is to %v", used.Next(now))
	}
}

func TestMergePin(t *testing.T) {
	for name, c := range map[string]struct {
		local        time.Duration // its end; 0 for none
		other        time.Duration
		keyed, plain time.Duration // the end that comes of it, 0 for none
	}{
		"nothing here":         {0, 10 * day, 10 * day, day},
		"nothing here, ended":  {0, -time.Hour, 0, 0},
		"shorter":              {10 * day, 5 * day, 10 * day, 10 * day},
		"longer":               {5 * day, 10 * day, 10 * day, 5 * day},
		"longer than an hour":  {time.Hour, 10 * day, 10 * day, day},
		"ended here":           {-time.Hour, 10 * day, 10 * day, day},
		"ended here and there": {-time.Hour, -time.Minute, -time.Hour, -time.Hour},
	} {
		for _, k := range []Key{key(t, "a"), {}} {
			var old signal.Pin
			if c.local != 0 {
				old = pinned("mx.example.com", time.Hour, c.local)
			}
			other := pinned("mx.example.com", time.Minute, c.other)
			got, taken := k.mergePin(old, c.local != 0, &other, now)
			want := c.plain
			if k.Authentic() {
				want = c.keyed
			}
			if (c.local != 0 || taken) && !got.Until.Equal(now.Add(want)) {
				t.Errorf("%s, key %v: it ends at %v, taken %v; want %v", name, k.Authentic(), got.Until, taken, now.Add(want))
			}
			if got.Until.Before(old.Until) {
				t.Errorf("%s: shortened", name)
			}
		}
	}
}

// FuzzMerge: whatever two nodes believe, neither comes to demand less.
func FuzzMerge(f *testing.F) {
	f.Add("enforce", "604800", int64(3600), "none", "86400", int64(60), true)
	f.Add("testing", "300", int64(3600), "enforce", "0", int64(-60), false)
	f.Fuzz(func(t *testing.T, mode, age string, ago int64, otherMode, otherAge string, otherAgo int64, keyed bool) {
		make := func(mode, age string, ago int64) (mtasts.Cached, bool) {
			p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: " + mode + "\nmx: mx.example.com\nmax_age: " + age + "\n"))
			ago %= 1 << 32
			return mtasts.Cached{Domain: "example.com", ID: "1", Policy: p, Fetched: now.Add(-time.Duration(ago) * time.Second)}, err == nil
		}
		old, found := make(mode, age, ago)
		other, ok := make(otherMode, otherAge, otherAgo)
		if !ok || other.Fetched.After(now) {
			return
		}
		k := Key{}
		if keyed {
			k = key(t, "a")
		}
		got, taken := k.mergePolicy(old, found, other, now)
		neverWeaker(t, "fuzz", old, got)
		if taken && (got.Policy.Mode != mtasts.ModeEnforce || !got.Fresh(now) || got.Expires().After(other.Expires())) {
			t.Errorf("taken: %+v of %+v", got, other)
		}
	})
}
