package dnssec

import (
	"fmt"
	"strings"
	"time"

	"tlsverdict/internal/verdict"
)

// StepKind is what a step of a proof shows.
type StepKind uint8

// The steps, in the order in which they come.
const (
	// StepAnchor: the zone's keys match a trust anchor.
	StepAnchor StepKind = iota + 1
	// StepDelegation: the parent's DS match the zone's keys.
	StepDelegation
	// StepUnsigned: the parent proves that the zone is not signed, or not in a way
	// that can be checked here.
	StepUnsigned
	// StepUnknown: no trust anchor is above the name.
	StepUnknown
	// StepAlias: a CNAME or DNAME leads on.
	StepAlias
	// StepRecords: the records that were asked for.
	StepRecords
	// StepDenial: that there are none.
	StepDenial
	// StepBroken: where it ends without an answer.
	StepBroken
)

// Step is one step of a proof.
type Step struct {
	Kind StepKind
	// Subject is what was shown: "example.com. DNSKEY", "mx.example.com. A".
	Subject string
	// Zone is the zone whose keys show it, fully qualified; "" where none does.
	Zone string
	// Keys are those that signed: for a delegation the parent's of the DS and then the
	// zone's own of its DNSKEY set.
	Keys []KeyID
	// Proof is what the step is worth.
	Proof verdict.Proof
	// Expires is when the first of the signatures ends that show it; zero for a denial,
	// and where nothing is signed.
	Expires time.Time
	// Detail says more for people: which denial, which target, what broke.
	Detail string
}

// earlier returns the first of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// String writes a step on one line.
func (s Step) String() string {
	var keys []string
	for _, k := range s.Keys {
		keys = append(keys, k.String())
	}
	text := s.Subject
	switch s.Kind {
	case StepAnchor:
		text += ": a trust anchor matches"
	case StepDelegation:
		text += ": a DS of zone " + s.Zone + " matches"
	case StepUnsigned:
		text += ": insecure delegation, says zone " + s.Zone
	case StepUnknown:
		text += ": no trust anchor is above it"
	case StepAlias:
		text += ": alias"
	case StepRecords:
		text += ": records"
	case StepDenial:
		text += ": denied"
	case StepBroken:
		text += ": broken"
	}
	if s.Kind >= StepAlias && s.Kind != StepBroken {
		text += ", " + s.Proof.String()
	}
	if len(keys) > 0 {
		text += fmt.Sprintf(", signed by %s", strings.Join(keys, ", "))
	}
	if s.Detail != "" {
		text += " (" + s.Detail + ")"
	}
	return clip(text)
}

// link is a step with the zone that it stands on.
type link struct {
	zone *zone
	step Step
}

// chain lists the steps from the anchors down to each link; zones that were shown
// before are not shown again.
func chain(links []link) []Step {
	var steps []Step
	seen := make(map[name]bool)
	for _, l := range links {
		var path []*zone
		for z := l.zone; z != nil && !seen[z.apex]; z = z.parent {
			seen[z.apex] = true
			path = append(path, z)
		}
		for i := len(path) - 1; i >= 0; i-- {
			steps = append(steps, path[i].step)
		}
		steps = append(steps, l.step)
	}
	return steps
}
