package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// Override is an [[override]] entry.
type Override struct {
	// Domain is in lower case and A-labels, without a trailing dot; with a
	// leading dot it stands for all names below the domain, but not for itself.
	Domain string
	// Line is where the entry begins in the file.
	Line int
	// Override has the policy in the spelling and order of postfixmap's encoder;
	// no value of an attribute holds a space.
	verdict.Override

	// since is the oldest Postfix that takes the policy.
	since postfixmap.Version
}

// Overrides are the operator's own verdicts. The zero value holds none. It is
// never changed after Parse and so is safe for concurrent use.
type Overrides struct {
	entries []Override
	// byDomain points into entries. Names and suffixes live side by side:
	// suffixes begin with a dot, names never do.
	byDomain map[string]*verdict.Override
}

// For returns the override of a destination, whether it has ended or not, or nil:
// that of the name itself, else that of the longest ".suffix". name is as
// nexthop.Normalize returns it. The Override is shared and must not be changed.
//
// It takes one map lookup a label and allocates nothing. An entry that has ended
// still hides those of shorter suffixes; see Active.
func (o *Overrides) For(name string) *verdict.Override {
	return o.Active(name, time.Time{})
}

// Active is For as if the entries that have ended at now were not there, so that
// what holds does not depend on whether they were deleted from the file.
func (o *Overrides) Active(name string, now time.Time) *verdict.Override {
	if len(o.byDomain) == 0 {
		return nil
	}
	if v := o.byDomain[name]; v != nil && !ended(v, now) {
		return v
	}
	for i := range len(name) {
		if name[i] != '.' {
			continue
		}
		if v := o.byDomain[name[i:]]; v != nil && !ended(v, now) {
			return v
		}
	}
	return nil
}

func ended(v *verdict.Override, now time.Time) bool {
	return !v.Until.IsZero() && !now.Before(v.Until)
}

// All returns the entries in the order of the file.
func (o *Overrides) All() []Override { return slices.Clone(o.entries) }

// domain reads a domain, or ".domain".
func domain(v any) (string, error) {
	text, ok := v.(string)
	if !ok || text == "" {
		return "", errors.New(`want a domain, such as "example.com", or ".example.com" for all names below it`)
	}
	name, below := strings.CutPrefix(text, ".")
	switch {
	case strings.HasPrefix(text, "*."):
		return "", fmt.Errorf("write %q for all names below it", text[1:])
	case strings.ContainsAny(text, "[]:"):
		return "", errors.New("want a name without brackets and port: an override holds for the name in whatever way it is asked for")
	case isLiteral(name):
		return "", errors.New("an address has no policy, so there is nothing to override")
	}
	name, err := nexthop.Normalize(name)
	if err != nil {
		return "", errors.New("this is no name that DNS could hold")
	}
	if below {
		name = "." + name
	}
	return name, nil
}

func isLiteral(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// until reads when an override ends: a day is included whole. A day, or a time
// without an offset, is one of UTC, so that a file means the same on every host.
func until(v any) (time.Time, error) {
	const want = "want a date or a date and time, such as 2027-01-31 or 2027-01-31T18:00:00+01:00"
	t, ok := v.(time.Time)
	if !ok {
		if _, err := time.Parse(time.DateOnly, fmt.Sprint(v)); err == nil {
			return time.Time{}, errors.New(want + ", without quotes")
		}
		return time.Time{}, errors.New(want)
	}
	y, m, d := t.Date()
	switch t.Location().String() {
	case zoneDate:
		return time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC), nil
	case zoneDatetime:
		return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC), nil
	case zoneTime:
		return time.Time{}, errors.New(want)
	}
	return t.UTC(), nil
}

// The TOML library marks dates and times without an offset by the name of their
// zone.
const (
	zoneDate     = "date-local"
	zoneDatetime = "datetime-local"
	zoneTime     = "time-local"
)

// writeTime writes a TOML date or time as the file has it.
func writeTime(t time.Time) string {
	switch t.Location().String() {
	case zoneDate:
		return t.Format(time.DateOnly)
	case zoneDatetime:
		return t.Format("2006-01-02T15:04:05.999999999")
	case zoneTime:
		return t.Format("15:04:05.999999999")
	}
	return t.Format(time.RFC3339Nano)
}
