package mtasts

import (
	"strings"
	"time"
)

const (
	// MaxAhead is further ahead than any NextTry is ever set: a policy whose NextTry
	// is more than that after now was planned by a clock that was ahead, and is due.
	MaxAhead = 48 * time.Hour
	// RefetchPause is how long a sender waits after a failed fetch before it
	// fetches for the same id again (RFC 8461 §3.3).
	RefetchPause = 5 * time.Minute

	// idleLimit is how long a policy is refreshed without being used: a domain that
	// gets mail once in a month keeps its protection, one that never does
	// again costs its policy host nothing.
	idleLimit = 30 * day
	// deadAfter is how long an expired policy is kept, and deadFailures how many
	// fetches of it must have failed: four days of retries at least.
	deadAfter    = 7 * day
	deadFailures = 100
	// clockSlack is more than a request takes, whose now may be older than a fetch.
	clockSlack = 5 * time.Minute

	minLifetime     = 300 * time.Second
	refreshInterval = 24 * time.Hour
	maxBackoff      = time.Hour
	minRetry        = time.Minute
	day             = 24 * time.Hour
	maxWhy          = 200
)

// Cached is a policy as a sender keeps it, and what is known about fetching it.
// It is a value: its methods return a changed copy. With a zero Policy it
// remembers only that a domain's fetch failed; Fresh is then never true.
type Cached struct {
	// Domain is the policy domain: lower case, A-labels, no trailing dot.
	Domain string
	// ID is that of the TXT record that led to the policy.
	ID     string
	Policy Policy
	// Fetched is when the policy was fetched; its lifetime counts from it.
	Fetched time.Time
	// Used is the day, in UTC, when the policy was last asked for.
	Used time.Time
	// NextTry is when the policy is to be looked at again; see Next.
	NextTry time.Time
	// Failures counts the failed fetches since the last good one; those before it
	// expired are forgotten at the first one afterwards.
	Failures int
	// FailedID is the id that the last failed fetch was for, "" when unknown.
	FailedID string
	// FailedAt is when the last failed fetch ended; zero after a good one.
	FailedAt time.Time
	// LastFailure says in at most 200 octets why it failed, for people.
	LastFailure string
}

// Lifetime returns how long the policy applies after it was fetched: its max_age,
// but at least 300 seconds.
//
// The floor departs from RFC 8461 §3.2: with a max_age shorter than the pause that
// §3.3 asks for between two fetches, every failed fetch, and every moment between
// expiry and refresh, would leave the domain's mail without protection.
func (c Cached) Lifetime() time.Duration {
	if c.Policy.Mode == ModeUnknown {
		return 0
	}
	return max(c.Policy.MaxAge, minLifetime)
}

// Expires returns when the policy stops to apply; for no policy, Fetched.
func (c Cached) Expires() time.Time { return c.Fetched.Add(c.Lifetime()) }

// Fresh reports whether there is a policy that applies at now, of whatever mode.
// Failed fetches do not matter to it (RFC 8461 §3.3), nor does a clock that was
// set back: protection does not end before its time.
func (c Cached) Fresh(now time.Time) bool {
	return c.Policy.Mode != ModeUnknown && now.Before(c.Expires())
}

// Action is what is to be done with a policy that is kept.
type Action uint8

const (
	// Wait: nothing.
	Wait Action = iota
	// Fetch it again, whatever the TXT record says (RFC 8461 §3.3, §10.2), and keep
	// what AfterSuccess or AfterFailure returns.
	Fetch
	// Retire it: keep what Retired returns.
	Retire
	// Drop it.
	Drop
)

func (a Action) String() string {
	switch a {
	case Wait:
		return "wait"
	case Fetch:
		return "fetch"
	case Retire:
		return "retire"
	case Drop:
		return "drop"
	}
	panic("mtasts: no such action")
}

// Next returns what is to be done with the policy at now. Before NextTry that is
// nothing. Then a policy is fetched, unless no mail has used it for 30 days:
// such a policy is retired, and dropped when it expires.
//
// Expiry alone drops nothing: after a long downtime, or under a clock that jumped
// ahead, everything has expired, and a policy that is gone cannot be had again from
// a host that somebody blocks (RFC 8461 §10.2). It is dropped once it is Dead; or at
// its expiry if it was retired already, so that the time it was idle for
// has passed here and not only on the clock.
func (c Cached) Next(now time.Time) Action {
	switch {
	case c.Policy.Mode == ModeUnknown || c.Dead(now):
		return Drop
	case !c.due(now):
		return Wait
	case !c.idle(now):
		return Fetch
	case c.Fresh(now):
		return Retire
	case c.NextTry.Equal(c.Expires()):
		return Drop
	}
	return Fetch
}

// Dead reports whether a policy need not be kept any longer: it expired 7 days ago or
// more, and could not be fetched since, 100 times. Retries are an hour apart, so
// that these took days; the clock alone could be wrong.
func (c Cached) Dead(now time.Time) bool {
	return now.Sub(c.Expires()) >= deadAfter && !c.FailedAt.Before(c.Expires()) && c.Failures >= deadFailures
}

// due reports whether the time to look at the policy has come, or the clock was
// ahead when that time was set.
func (c Cached) due(now time.Time) bool {
	return !now.Before(c.NextTry) || c.NextTry.Sub(now) > MaxAhead || c.fromFuture(now)
}

// fromFuture reports whether the clock was ahead when the policy was fetched. After a
// failed fetch it is of no interest: the next try was set by a better clock.
func (c Cached) fromFuture(now time.Time) bool {
	return c.FailedAt.IsZero() && c.Fetched.Sub(now) > clockSlack
}

func (c Cached) expired(now time.Time) bool {
	return c.Policy.Mode != ModeUnknown && !c.Fresh(now)
}

func (c Cached) idle(now time.Time) bool { return now.Sub(c.Used) > idleLimit }

// MayFetch reports whether the policy may be fetched at now for the id that the
// TXT record has, or "" when it is not known: not sooner than 5 minutes after a
// failed fetch for the same id (RFC 8461 §3.3).
//
// A retry that AfterFailure planned earlier is allowed: a policy that is about
// to expire would otherwise lapse because of one failed fetch. That departs from
// a SHOULD, and only in the last 15 minutes of a policy's life.
func (c Cached) MayFetch(now time.Time, id string) bool {
	if c.FailedAt.IsZero() || id != c.FailedID || now.Before(c.FailedAt) {
		return true
	}
	if now.Sub(c.FailedAt) >= RefetchPause {
		return true
	}
	return c.Fresh(now) && !now.Before(c.NextTry)
}

// AfterSuccess returns what is kept after a policy was fetched at now for id; an id of
// "" leaves the ID as it was. The new policy replaces the old one whatever its
// mode: that is how a domain leaves MTA-STS (RFC 8461 §8.3). jitter, 0 to 1, moves
// the next refresh earlier by up to a fifth, so that policies fetched together
// are not refreshed together.
func (c Cached) AfterSuccess(now time.Time, id string, policy Policy, jitter float64) Cached {
	next := Cached{Domain: c.Domain, ID: id, Policy: policy, Fetched: now, Used: c.Used}
	if id == "" {
		next.ID = c.ID
	}
	if next.Used.IsZero() {
		next.Used = dayOf(now)
	}
	wait := min(refreshInterval, next.Lifetime()/2)
	next.NextTry = now.Add(wait - fifth(wait, jitter))
	return next
}

// AfterFailure returns what is kept after a fetch for id failed at now, for the
// reason why. The policy stays. The next try is due after 5 minutes, doubled
// with each failure up to an hour and spread by jitter (0 to 1) over a fifth more; but
// never later than a third of what is left of the policy's life, though at least
// a minute, so that it does not lapse because few fetches failed.
func (c Cached) AfterFailure(now time.Time, id, why string, jitter float64) Cached {
	if c.expired(now) && c.FailedAt.Before(c.Expires()) {
		c.Failures = 0
	}
	c.Failures++
	c.FailedID, c.FailedAt = id, now
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "")
	}
	c.LastFailure = why
	wait := maxBackoff
	if c.Failures <= 4 {
		wait = RefetchPause << (c.Failures - 1)
	}
	wait += fifth(wait, jitter)
	if c.Fresh(now) {
		left := c.Expires().Sub(now)
		wait = min(wait, max(left/3, minRetry))
	}
	c.NextTry = now.Add(wait)
	return c
}

// AfterUse returns what is kept after the policy was asked for at now. It differs
// only when the day does, or the clock was ahead when the policy was fetched. One that
// was idle, or that a wrong clock planned, is due at once.
func (c Cached) AfterUse(now time.Time) Cached {
	wasIdle := c.idle(now)
	c.Used = dayOf(now)
	if now.Before(c.NextTry) && (wasIdle || c.due(now)) {
		c.NextTry = now
	}
	return c
}

// Retired returns what is kept of an idle policy at now: it is not fetched, but
// looked at again after a day or when it expires.
func (c Cached) Retired(now time.Time) Cached {
	c.NextTry = now.Add(refreshInterval)
	if expires := c.Expires(); expires.Before(c.NextTry) {
		c.NextTry = expires
	}
	return c
}

func dayOf(t time.Time) time.Time { return t.UTC().Truncate(day) }

// fifth returns up to a fifth of d. A jitter out of range counts as its nearest
// bound.
func fifth(d time.Duration, jitter float64) time.Duration {
	return time.Duration(float64(d) / 5 * min(max(jitter, 0), 1))
}
