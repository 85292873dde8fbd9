package mtasts_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
)

var start = time.Date(2026, 3, 1, 10, 30, 0, 0, time.UTC)

// kept returns a policy fetched at start, with a max_age in seconds.
func kept(t testing.TB, mode string, maxAge int) mtasts.Cached {
	t.Helper()
	p := parse(t, "version: STSv1\nmode: "+mode+"\nmx: mail.example.com\nmax_age: "+strconv.Itoa(maxAge)+"\n")
	return mtasts.Cached{Domain: "example.com"}.AfterSuccess(start, "1", p, 0)
}

func TestS12FailureKeepsThePolicy(t *testing.T) {
	c := kept(t, "enforce", 86400)
	now := start
	for range 100 {
		now = now.Add(10 * time.Minute)
		c = c.AfterFailure(now, "2", "time-out", 0.5)
		if want := now.Before(start.Add(24 * time.Hour)); c.Fresh(now) != want {
			t.Fatalf("after a failure at %v: fresh %t, want %t", now.Sub(start), c.Fresh(now), want)
		}
	}
	if c.ID != "1" || c.Failures != 100 || c.FailedID != "2" || c.LastFailure != "time-out" || !c.FailedAt.Equal(now) {
		t.Errorf("kept %+v", c)
	}
	if c = c.AfterSuccess(now, "2", c.Policy, 0); c.Failures != 0 || c.LastFailure != "" || !c.FailedAt.IsZero() || c.ID != "2" {
		t.Errorf("after a success: %+v", c)
	}
}

func TestS12NothingCachedIsNoPolicy(t *testing.T) {
	c := mtasts.Cached{Domain: "example.com"}.AfterFailure(start, "1", "refused", 0)
	if c.Fresh(start) || c.Fresh(start.Add(-time.Hour)) || c.Next(start.Add(time.Hour)) != mtasts.Drop {
		t.Errorf("a failure alone is a policy: %+v", c)
	}
}

func TestS11PauseAfterAFailedFetch(t *testing.T) {
	none := mtasts.Cached{Domain: "example.com"}
	if !none.MayFetch(start, "1") {
		t.Fatal("the first fetch is refused")
	}
	failed := none.AfterFailure(start, "1", "404", 0)
	for _, tt := range []struct {
		after time.Duration
		id    string
		want  bool
	}{
		{0, "1", false},
		{5*time.Minute - 1, "1", false},
		{5 * time.Minute, "1", true},
		{time.Second, "2", true},
		{-time.Hour, "1", true}, // the clock was set back
	} {
		if got := failed.MayFetch(start.Add(tt.after), tt.id); got != tt.want {
			t.Errorf("id %s after %v: %t, want %t", tt.id, tt.after, got, tt.want)
		}
	}
}

func TestS11RetryBeforeExpiry(t *testing.T) {
	// Ten minutes are left: a third is less than the pause of five minutes.
	c := kept(t, "enforce", 3600)
	now := start.Add(50 * time.Minute)
	c = c.AfterFailure(now, "1", "refused", 1)
	if want := now.Add(10 * time.Minute / 3); !c.NextTry.Equal(want) {
		t.Fatalf("next try after %v, want %v", c.NextTry.Sub(now), want.Sub(now))
	}
	if c.MayFetch(c.NextTry.Add(-1), "1") || !c.MayFetch(c.NextTry, "1") {
		t.Error("the planned retry is not the one allowed")
	}
	// Expired: nothing is left to protect, so the pause holds.
	late := start.Add(61 * time.Minute)
	c = c.AfterFailure(late, "1", "refused", 0)
	if c.MayFetch(late.Add(4*time.Minute), "1") {
		t.Error("an expired policy is fetched within the pause")
	}
}

func TestS13RefreshDailyOrAtHalf(t *testing.T) {
	for _, tt := range []struct {
		maxAge   int
		earliest time.Duration
		latest   time.Duration
	}{
		{604800, 24 * time.Hour * 8 / 10, 24 * time.Hour},
		{31557600, 24 * time.Hour * 8 / 10, 24 * time.Hour},
		{86400, 12 * time.Hour * 8 / 10, 12 * time.Hour},
		{3600, 24 * time.Minute, 30 * time.Minute},
		{60, 120 * time.Second, 150 * time.Second},
		{0, 120 * time.Second, 150 * time.Second},
	} {
		c := kept(t, "enforce", tt.maxAge)
		if got := c.NextTry.Sub(start); got != tt.latest {
			t.Errorf("max_age %d, jitter 0: refresh after %v, want %v", tt.maxAge, got, tt.latest)
		}
		for _, jitter := range []float64{1, 7} {
			if got := c.AfterSuccess(start, "1", c.Policy, jitter).NextTry.Sub(start); got != tt.earliest {
				t.Errorf("max_age %d, jitter %v: refresh after %v, want %v", tt.maxAge, jitter, got, tt.earliest)
			}
		}
		if c.Next(c.NextTry.Add(-1)) != mtasts.Wait || c.Next(c.NextTry) != mtasts.Fetch {
			t.Errorf("max_age %d: not due exactly at NextTry", tt.maxAge)
		}
	}
}

func TestS13BackOffAndTriesBeforeExpiry(t *testing.T) {
	c, now := kept(t, "enforce", 604800), start
	for i, want := range []time.Duration{5, 10, 20, 40, 60, 60, 60} {
		for jitter, most := range map[float64]time.Duration{0: want * time.Minute, 1: want * time.Minute * 6 / 5} {
			if got := c.AfterFailure(now, "", "x", jitter).NextTry.Sub(now); got != most {
				t.Errorf("failure %d, jitter %v: retry after %v, want %v", i+1, jitter, got, most)
			}
		}
		c = c.AfterFailure(now, "", "x", 0)
		now = c.NextTry
	}
	for _, maxAge := range []int{60, 300, 600, 3600, 86400, 604800} {
		c := kept(t, "enforce", maxAge)
		tries := 0
		for now := c.NextTry; c.Fresh(now); now = c.NextTry {
			c = c.AfterFailure(now, "1", "x", 1)
			tries++
		}
		if tries < 3 {
			t.Errorf("max_age %d: %d tries before expiry, want at least 3", maxAge, tries)
		}
		t.Logf("max_age %d: %d tries while the policy host is down", maxAge, tries)
	}
}

func TestShortMaxAgeDoesNotLapse(t *testing.T) {
	for _, maxAge := range []int{0, 1, 60, 299, 300} {
		c := kept(t, "enforce", maxAge)
		if !c.Expires().Equal(start.Add(300*time.Second)) || !c.Fresh(start.Add(299*time.Second)) || c.Fresh(c.Expires()) {
			t.Errorf("max_age %d expires after %v", maxAge, c.Expires().Sub(start))
		}
		if c.NextTry.After(c.Expires().Add(-2 * time.Minute)) {
			t.Errorf("max_age %d: refresh only %v before expiry", maxAge, c.Expires().Sub(c.NextTry))
		}
	}
	if c := kept(t, "enforce", 301); c.Lifetime() != 301*time.Second {
		t.Errorf("max_age 301 lives %v", c.Lifetime())
	}
}

func TestS18NewIDMayBeFetchedSoon(t *testing.T) {
	c := kept(t, "enforce", 604800)
	if !c.MayFetch(start.Add(time.Second), "2") {
		t.Error("a new id waits")
	}
	c = c.AfterFailure(start, "2", "x", 0)
	if c.MayFetch(start.Add(time.Minute), "2") || !c.MayFetch(start.Add(time.Minute), "3") {
		t.Error("the pause is not per id")
	}
}

func TestS20NoneReplaces(t *testing.T) {
	c := kept(t, "enforce", 604800)
	now := start.Add(time.Hour)
	c = c.AfterSuccess(now, "2", parse(t, "version: STSv1\nmode: none\nmax_age: 86400\n"), 0)
	if c.Policy.Mode != mtasts.ModeNone || !c.Fresh(now) || !c.Expires().Equal(now.Add(24*time.Hour)) {
		t.Errorf("after mode none: %+v", c)
	}
}

func TestSuccessWithoutIDKeepsIt(t *testing.T) {
	c := kept(t, "enforce", 604800)
	if got := c.AfterSuccess(start, "", c.Policy, 0).ID; got != "1" {
		t.Errorf("id %q, want 1", got)
	}
}

// look does at each NextTry what Next says, with every fetch failing, until
// the policy is dropped; it returns that time and the number of fetches.
func look(t *testing.T, c mtasts.Cached) (dropped time.Time, fetches int) {
	t.Helper()
	for range 10_000 {
		now := c.NextTry
		switch c.Next(now) {
		case mtasts.Fetch:
			fetches++
			c = c.AfterFailure(now, "1", "refused", 0.5)
		case mtasts.Retire:
			c = c.Retired(now)
		case mtasts.Drop:
			return now, fetches
		case mtasts.Wait:
			t.Fatalf("nothing is to be done at NextTry: %+v", c)
		}
		if !c.NextTry.After(now) || c.NextTry.Sub(now) > mtasts.MaxAhead {
			t.Fatalf("looked at after %v again", c.NextTry.Sub(now))
		}
	}
	t.Fatal("never dropped")
	return dropped, fetches
}

func TestIdlePoliciesExpire(t *testing.T) {
	c := kept(t, "enforce", 31557600)
	soon, late := start.Add(29*24*time.Hour), start.Add(31*24*time.Hour)
	if c.Next(soon) != mtasts.Fetch || c.Next(late) != mtasts.Retire {
		t.Fatalf("after 29 days %v, after 31 %v", c.Next(soon), c.Next(late))
	}
	c = c.Retired(late)
	if !c.Fresh(late) || c.Next(late) != mtasts.Wait || !c.NextTry.Equal(late.Add(24*time.Hour)) {
		t.Errorf("retired: %+v", c)
	}
	if at, fetches := look(t, c); fetches != 0 || !at.Equal(c.Expires()) {
		t.Errorf("dropped %v after expiry, after %d fetches", at.Sub(c.Expires()), fetches)
	}
	used := c.AfterUse(late)
	if used.Next(late) != mtasts.Fetch || !used.Used.Equal(late.Truncate(24*time.Hour)) {
		t.Errorf("used again, but not due: %+v", used)
	}
	if again := used.AfterUse(late.Add(time.Hour)); again.Used != used.Used || again.NextTry != used.NextTry {
		t.Error("a second use on the same day changes something")
	}
	if got := c.AfterSuccess(late, "2", c.Policy, 0); got.Used != c.Used {
		t.Error("a fetch counts as a use")
	}
}

// TestDowntime: everything has expired, and nobody knows yet who still
// publishes what.
func TestDowntime(t *testing.T) {
	for name, c := range map[string]mtasts.Cached{
		"used": kept(t, "enforce", 604800), "failing before": kept(t, "enforce", 604800).AfterFailure(start, "1", "x", 0),
		"idle": kept(t, "enforce", 86400), "mode none": kept(t, "none", 86400),
	} {
		t.Run(name, func(t *testing.T) {
			for _, away := range []time.Duration{8, 20, 40, 400, 4000} {
				now := start.Add(away * 24 * time.Hour)
				if got := c.Next(now); got != mtasts.Fetch {
					t.Errorf("after %d days: %v", away, got)
				}
				c := c.AfterFailure(now, "1", "refused", 0)
				if got := c.Next(c.NextTry); got != mtasts.Fetch || c.Next(now) != mtasts.Wait {
					t.Errorf("after %d days and a failed fetch: %v", away, got)
				}
				c.Used = now
				if at, fetches := look(t, c); at.Sub(now) < 4*24*time.Hour || fetches < 90 {
					t.Errorf("after %d days: dropped %v later, after %d fetches", away, at.Sub(now), fetches)
				}
			}
		})
	}
}

func TestDeadAfterAWeek(t *testing.T) {
	c := kept(t, "enforce", 604800).AfterUse(start.Add(6 * 24 * time.Hour))
	at, fetches := look(t, c)
	if late := at.Sub(c.Expires()); late < 7*24*time.Hour || late > 7*24*time.Hour+2*time.Hour {
		t.Errorf("dropped %v after expiry, after %d fetches", late, fetches)
	}
}

// TestClockJumpsAheadForAnHour: everything expires and every fetch fails, since no
// certificate is valid then; afterwards all is as it was.
func TestClockJumpsAheadForAnHour(t *testing.T) {
	c := kept(t, "enforce", 604800)
	wrong := start.AddDate(10, 0, 0)
	for at := wrong; at.Before(wrong.Add(time.Hour)); at = at.Add(time.Minute) {
		switch c.Next(at) {
		case mtasts.Fetch:
			c = c.AfterFailure(at, "1", "certificate expired", 0)
		case mtasts.Retire:
			c = c.Retired(at)
		case mtasts.Drop:
			t.Fatalf("dropped %v after the jump", at.Sub(wrong))
		case mtasts.Wait:
		}
	}
	now := start.Add(2 * time.Hour)
	if !c.Fresh(now) || c.Next(now) != mtasts.Fetch {
		t.Errorf("afterwards: fresh %t, %v", c.Fresh(now), c.Next(now))
	}
}

func TestClockSetBack(t *testing.T) {
	c := kept(t, "enforce", 604800)
	back := start.Add(-365 * 24 * time.Hour)
	if !c.Fresh(back) || c.Next(back) != mtasts.Fetch {
		t.Error("a clock set back ends the policy or its refreshes")
	}
	if c = c.AfterFailure(back, "1", "x", 0); c.Next(back.Add(time.Minute)) != mtasts.Wait {
		t.Error("no pause after a failure")
	}
	// By less than MaxAhead: NextTry could be right, the time of the fetch not.
	c = kept(t, "enforce", 604800)
	for _, tt := range []struct {
		ago  time.Duration
		want mtasts.Action
	}{{time.Minute, mtasts.Wait}, {10 * time.Minute, mtasts.Fetch}, {20 * time.Hour, mtasts.Fetch}} {
		now := start.Add(-tt.ago)
		if got := c.Next(now); got != tt.want {
			t.Errorf("fetched in %v: %v, want %v", tt.ago, got, tt.want)
		}
		// NextTry alone is what the due are found by.
		if used := c.AfterUse(now); used.NextTry.After(now) == (tt.want == mtasts.Fetch) {
			t.Errorf("fetched in %v: after a use looked at in %v", tt.ago, used.NextTry.Sub(now))
		}
	}
}

func TestActionsHaveNames(t *testing.T) {
	for a, want := range map[mtasts.Action]string{mtasts.Wait: "wait", mtasts.Fetch: "fetch", mtasts.Retire: "retire", mtasts.Drop: "drop"} {
		if a.String() != want {
			t.Errorf("%d is %s, want %s", a, a, want)
		}
	}
}

func TestLastFailureIsBounded(t *testing.T) {
	c := kept(t, "enforce", 60).AfterFailure(start, "1", strings.Repeat("é", 1000)+"x", 0)
	if len(c.LastFailure) > 200 || !strings.HasPrefix(c.LastFailure, "éé") {
		t.Errorf("%d octets kept", len(c.LastFailure))
	}
}
