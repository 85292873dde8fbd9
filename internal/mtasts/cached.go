package mtasts

import (
	"strings"
	"time"
)

const (
	// IdleLimit is how long a policy is refreshed without being used: a domain that
	// gets mail once in a month keeps its protection, one that never does
	// again costs its policy host nothing.
	IdleLimit = 30 * 24 * time.Hour
	// RefetchPause is how long a sender waits after a failed fetch before it
	// fetches for the same id again (RFC 8461 §3.3).
	RefetchPause = 5 * time.Minute

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
	// NextTry is when the next refresh is due.
	NextTry time.Time
	// Failures counts the failed fetches since the last good one.
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

// Idle reports whether the policy has not been used for longer than limit.
func (c Cached) Idle(now time.Time, limit time.Duration) bool {
	return now.Sub(c.Used) > limit
}

// RefreshDue reports whether the policy should be fetched again at now: daily, or
// when half of its lifetime is over, or when a failed fetch is to be retried
// (RFC 8461 §3.3, §10.2). Whether the TXT record has changed does not matter. A
// policy that has not been used for longer than idle is left to expire.
func (c Cached) RefreshDue(now time.Time, idle time.Duration) bool {
	if c.Policy.Mode == ModeUnknown || c.Idle(now, idle) {
		return false
	}
	// No refresh is ever planned further ahead than a day: the clock was set
	// back after this one was.
	setBack := c.NextTry.Sub(now) > refreshInterval
	return setBack || !now.Before(c.NextTry)
}

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
// only when the day does. A policy that was left to expire is due at once.
func (c Cached) AfterUse(now time.Time) Cached {
	today := dayOf(now)
	if c.Used.Equal(today) {
		return c
	}
	c.Used = today
	if c.retired() {
		c.NextTry = now
	}
	return c
}

// Retire returns a policy whose next date is its expiry: one that is idle is not
// refreshed, and dropped when it ends.
func (c Cached) Retire() Cached {
	c.NextTry = c.Expires()
	return c
}

func (c Cached) retired() bool { return c.NextTry.Equal(c.Expires()) }

func dayOf(t time.Time) time.Time { return t.UTC().Truncate(day) }

// fifth returns up to a fifth of d. A jitter out of range counts as its nearest
// bound.
func fifth(d time.Duration, jitter float64) time.Duration {
	return time.Duration(float64(d) / 5 * min(max(jitter, 0), 1))
}
