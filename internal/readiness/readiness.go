// Package readiness says whether policyd answers as it is meant to, and why not.
//
//	report := readiness.Judge(readiness.Facts{Life: readiness.Serving, Resolver: resolver.Health(), ...})
//	if report.Status == readiness.Unready { ... }
//
// There are three states:
//
//	ready     everything is as configured
//	degraded  every answer is as good as ever, but something is wrong that an operator
//	          should mend before it matters: mail servers may be sent here
//	unready   answers are missing, or mail waits that need not: where there is another
//	          policyd, it should be asked
//
// A policyd that is unready still answers, and what it answers is still right: where
// something is not known, mail waits.
//
// The package is pure. It does not find anything out, and writes no log.
package readiness

import (
	"fmt"
	"strings"

	"tlsverdict/internal/resolve"
	"tlsverdict/internal/store"
)

// Life is where in its life a daemon is. The zero value is the start.
type Life uint8

const (
	// Starting: its listeners are not served yet.
	Starting Life = iota
	// Serving: they are.
	Serving
	// Draining: it has been told to stop, or has lost a listener.
	Draining
)

// Status is what a report comes to. The zero value is the worst.
type Status uint8

const (
	// Unready: mail servers are better not sent here.
	Unready Status = iota
	// Degraded: they may be, and something needs mending.
	Degraded
	// Ready: nothing does.
	Ready
)

// String is the status' word on pages.
func (s Status) String() string {
	switch s {
	case Unready:
		return "unready"
	case Degraded:
		return "degraded"
	case Ready:
		return "ready"
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// MarshalText writes the word.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Code names a reason. The set is closed: Codes has it.
type Code string

const (
	// StartingUp and ShuttingDown: see Life.
	StartingUp   Code = "starting"
	ShuttingDown Code = "draining"
	// Unexamined: no resolver has been examined yet.
	Unexamined Code = "resolvers-unexamined"
	// ResolversDown: none answers.
	ResolversDown Code = "resolvers-down"
	// Unproven: no resolver is a way to DNSSEC proof, though it is asked for.
	Unproven Code = "dnssec-unproven"
	// ResolverSick: one of several is not as it should be.
	ResolverSick Code = "resolver-sick"
	// AnchorsOld: the trust anchors will not do for ever.
	AnchorsOld Code = "trust-anchors"
	// StoreFailing: policies are in memory only, though a file is asked for.
	StoreFailing Code = "store-failing"
	// StoreFull: the store drops what it is told, or has, because it cannot be written.
	StoreFull Code = "store-full"
	// NotReloaded: the last reload was refused.
	NotReloaded Code = "config-not-reloaded"
	// NoFleet: the store that a fleet shares is out of reach.
	NoFleet Code = "shared-store-away"
	// NoControl: the control socket could not be opened.
	NoControl Code = "no-control-socket"
)

// Codes returns all codes, with what each makes of the whole.
func Codes() map[Code]Status {
	return map[Code]Status{
		StartingUp: Unready, ShuttingDown: Unready, Unexamined: Unready, ResolversDown: Unready, Unproven: Unready,
		ResolverSick: Degraded, AnchorsOld: Degraded, StoreFailing: Degraded, StoreFull: Degraded, NotReloaded: Degraded, NoControl: Degraded, NoFleet: Degraded,
	}
}

// Facts are what a report rests on.
type Facts struct {
	Life Life
	// DNSSEC says that proof is asked for.
	DNSSEC   bool
	Resolver resolve.Health
	// StorePath is that of the configuration; empty: in memory, as it was asked for.
	StorePath string
	Store     store.Stats
	// ReloadError is why the last reload was refused, or "".
	ReloadError string
	// ControlError is why there is no control socket, or "".
	ControlError string
	// FleetError is why the store that a fleet shares is out of reach, or "".
	FleetError string
}

// Reason is one thing that is not as it should be.
type Reason struct {
	Code   Code   `json:"code"`
	Status Status `json:"status"`
	// Text says in one line what is wrong.
	Text string `json:"text"`
}

// Report is what the facts come to.
type Report struct {
	Status Status `json:"status"`
	// Reasons begin with the worst.
	Reasons []Reason `json:"reasons"`
}

// Judge makes a report of facts.
func Judge(f Facts) Report {
	var r Report
	r.life(f.Life)
	r.resolver(f.DNSSEC, f.Resolver)
	r.store(f.StorePath, f.Store)
	if f.ReloadError != "" {
		r.add(NotReloaded, "the file was refused, and the settings before it are in force: "+f.ReloadError)
	}
	if f.ControlError != "" {
		r.add(NoControl, "policyd pins and policyd refresh do not work: "+f.ControlError)
	}
	if f.FleetError != "" {
		r.add(NoFleet, "this node goes on with what it knows itself: "+f.FleetError)
	}
	r.Status = Ready
	for _, reason := range r.Reasons {
		r.Status = min(r.Status, reason.Status)
	}
	return r
}

func (r *Report) life(l Life) {
	switch l {
	case Starting:
		r.add(StartingUp, "mail servers cannot ask yet")
	case Serving:
	case Draining:
		r.add(ShuttingDown, "policyd is being stopped; what was asked is still answered")
	default:
		panic(fmt.Sprintf("readiness: life %d", l))
	}
}

// resolver judges the resolvers. Only the worst that is true of all of them is said, and
// then what is true of some.
func (r *Report) resolver(dnssec bool, h resolve.Health) {
	answers := false
	for _, s := range h.Servers {
		answers = answers || s.Answers
	}
	switch {
	case h.Checked.IsZero():
		r.add(Unexamined, "the resolvers are being examined for the first time")
	case !answers:
		r.add(ResolversDown, "no resolver answers, so that mail to domains that are not known waits: "+h.Problem)
	case dnssec && !h.Validates:
		r.add(Unproven, "nothing can be proven by DNSSEC, so that mail to domains that are not known waits: "+h.Problem)
	case h.Problem != "":
		r.add(ResolverSick, h.Problem)
	}
	for _, w := range h.Warnings {
		r.add(AnchorsOld, w)
	}
}

func (r *Report) store(path string, s store.Stats) {
	if path == "" || s.Durable {
		return
	}
	r.add(StoreFailing, fmt.Sprintf("%s cannot be written: MTA-STS policies are in memory, and a restart forgets %d changes", path, s.Waiting))
	if s.Refused+s.Evicted > 0 {
		r.add(StoreFull, fmt.Sprintf("since the start %d changes were not taken and %d forgotten, because too many wait to be written", s.Refused, s.Evicted))
	}
}

// add adds a reason, in a line of its own.
func (r *Report) add(c Code, text string) {
	r.Reasons = append(r.Reasons, Reason{c, Codes()[c], strings.Join(strings.Fields(text), " ")})
}

// String writes the report for people: the status, then a line for each reason.
func (r Report) String() string {
	var b strings.Builder
	b.WriteString(r.Status.String() + "\n")
	for _, reason := range r.Reasons {
		fmt.Fprintf(&b, "%s %s: %s\n", reason.Status, reason.Code, reason.Text)
	}
	return b.String()
}
