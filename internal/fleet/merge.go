package fleet

import (
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
)

// openLife is how long at most anything holds here that nobody vouches for: who can write
// to the shared store of a fleet without a key can make mail to a domain wait, and must not
// be able to do so for long after it was thrown out. While the record is there it is
// taken anew.
const openLife = 24 * time.Hour

// mergePolicy returns what a node keeps of a domain after it read another node's policy, and
// whether that is anything new. What it returns never demands less than before, and never
// ends sooner:
//
//   - only a policy of mode enforce is taken: any other mode would only stand in the way of
//     what the node finds itself;
//   - an enforced policy that holds here stays as it is. The same text, fetched later,
//     prolongs it;
//   - one of mode testing or none that holds here gives way only to one that was fetched
//     later, and that somebody vouches for;
//   - what nobody vouches for holds openLife at most, and is taken without its id, so
//     that the node fetches the policy itself as soon as the domain announces one.
func (k Key) mergePolicy(old mtasts.Cached, found bool, other mtasts.Cached, now time.Time) (mtasts.Cached, bool) {
	if other.Policy.Mode != mtasts.ModeEnforce || !other.Fresh(now) {
		return old, false
	}
	later := found && other.Fetched.After(old.Fetched)
	if found && old.Fresh(now) {
		if !k.Authentic() || !later {
			return old, false
		}
		if old.Policy.Mode == mtasts.ModeEnforce {
			if old.Policy.Text() != other.Policy.Text() {
				return old, false
			}
			old.Fetched, old.ID = other.Fetched, other.ID
			return old, true
		}
	}
	if found && !later {
		return old, false
	}
	next := mtasts.Cached{Domain: other.Domain, ID: other.ID, Policy: other.Policy, Fetched: other.Fetched, Used: old.Used}
	if !k.Authentic() {
		next.ID = ""
		if over := next.Expires().Sub(now) - openLife; over > 0 {
			next.Fetched = next.Fetched.Add(-over)
		}
	}
	if found {
		next.NextTry = now
		return next, true
	}
	// As one that no mail uses: at its first use it is due, and fetched by this node itself.
	return next.Retired(now), true
}

// mergePin is the same for a pin: it is prolonged, never shortened, and what nobody vouches
// for prolongs it to openLife from now at most.
func (k Key) mergePin(old signal.Pin, found bool, other *signal.Pin, now time.Time) (signal.Pin, bool) {
	until := other.Until
	if last := now.Add(openLife); !k.Authentic() && until.After(last) {
		until = last
	}
	if !now.Before(until) || found && !until.After(old.Until) {
		return old, false
	}
	if found && !old.Holds(now) && !other.Seen.After(old.Seen) {
		// It was ended by the operator, who knew better than that banner.
		return old, false
	}
	next := old
	if !found || !old.Holds(now) {
		next = *other
		next.Learned = now
	}
	next.Until = until
	return next, true
}
