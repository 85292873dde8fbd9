package milterd

import (
	"fmt"
	"strings"

	"tlsverdict/internal/explain"
)

// Verdict is what holds for a next hop, in the terms of rules. The zero value is no
// protection.
type Verdict struct {
	// Name and Source are policyd's words: "secure", "mta-sts".
	Name, Source string
	// Level is what the MTA will demand of every host.
	Level Level
	// Waits says that the MTA defers this mail until it is known what holds, and
	// Fault whose fault that is: "remote", "operator", "tlsverdict".
	Waits bool
	Fault string
	// Why is the decisive reason, with the section that it rests on, where it is
	// known and the sender may know it.
	Why string
}

// NewVerdict makes a verdict of policyd's words. An error means that there is none: a
// word that is not known promises nothing.
func NewVerdict(name, source string) (Verdict, error) {
	v := Verdict{Name: name, Source: source}
	switch name {
	case "none", "may", "dane":
		// Under "dane" hosts without TLSA records are opportunistic (RFC 7672 §2.2).
		v.Level = Clear
	case "encrypt", "verify":
		// "verify" believes the names in an MX answer that may be forged.
		v.Level = Encrypted
	case "secure":
		v.Level = Authenticated
	case "fingerprint":
		v.Level = Authenticated
		if source == "dane" {
			v.Level = ByDANE
		}
	case "dane-only":
		v.Level = ByDANE
	case "defer":
		v.Waits = true
	default:
		return Verdict{}, fmt.Errorf("%w: one that is not known: %q", ErrNoVerdict, name)
	}
	return v, nil
}

// Observed is the same verdict where the MTA is not told of it.
func (v Verdict) Observed() Verdict {
	if v.Level > Clear {
		v.Level = Clear
		v.Why = "policyd observes only: the mail server is not told of \"" + v.Name + "\""
	}
	return v
}

// Judge reads a report. Errors wrap ErrNoVerdict.
func Judge(r *explain.Report) (Verdict, error) {
	v, err := NewVerdict(r.Verdict, r.Source)
	if err != nil {
		return Verdict{}, err
	}
	v.Why, v.Fault = why(r), r.Fault
	if unenforced(r.Replies) {
		v = v.Observed()
	}
	return v, nil
}

// faultRemote is the fault of which the sender may know.
const faultRemote = "remote"

// unenforced reports whether every MTA is told that there is no policy, as policyd
// does with mode = "observe".
func unenforced(replies map[string]string) bool {
	for _, reply := range replies {
		if !strings.HasPrefix(reply, "NOTFOUND") && reply != "OK level=none" {
			return false
		}
	}
	return len(replies) > 0
}

// Why is the reason that a sender may know of a verdict, out of a report; empty if the
// report is of another verdict: one that has changed meanwhile has other reasons.
func Why(r *explain.Report, v Verdict) string {
	if r.Verdict != v.Name || r.Source != v.Source {
		return ""
	}
	return why(r)
}

// why is the reason that a sender may know: what failed here, and which resolver that
// was, is for the operator, who has it in policyd's log.
func why(r *explain.Report) string {
	if r.Error != "" {
		if r.Fault != faultRemote {
			return ""
		}
		return r.Error
	}
	if len(r.Reasons) == 0 || r.ReasonsOf != "" {
		return ""
	}
	last := r.Reasons[len(r.Reasons)-1]
	text := last.Text
	if last.Subject != "" {
		text = last.Subject + ": " + text
	}
	if last.Cite != "" {
		text += " (" + last.Cite + ")"
	}
	return text
}

// OnError says what happens where no verdict can be had.
type OnError uint8

const (
	// ErrorTempfail: the sender is told to try again.
	ErrorTempfail OnError = iota
	// ErrorAccept: the mail is taken, as if there were no rules.
	ErrorAccept
)

// Question is a recipient to be decided on.
type Question struct {
	// Hop is where the mail goes, for people: "example.com".
	Hop string
	// Rule is the one that matched, or nil.
	Rule *Rule
	// RequireTLS is what Message.DemandsTLS says.
	RequireTLS bool
	// Verdict holds for Hop, if Err is nil.
	Verdict Verdict
	Err     error
	OnError OnError
}

// Decision is what to do about a recipient. The zero value is to do nothing.
type Decision struct {
	Action Action
	// Code, Status and Text are the reply: 550, "5.7.10", and one line of
	// printable ASCII. Set for Tempfail and Reject; Text for Hold as well.
	Code   uint16
	Status string
	Text   string
}

// Decide answers a question; it looks at nothing else. Where a rule and REQUIRETLS
// both ask for something, the action that prevents more is taken.
func Decide(q Question) Decision {
	d := q.byRule()
	if own := q.byRequireTLS(); own.Action >= d.Action && own.Action != Pass {
		return own
	}
	return d
}

func (q *Question) byRule() Decision {
	if q.Rule == nil || q.Rule.Action == Pass {
		return Decision{}
	}
	r := q.Rule
	wanted := fmt.Sprintf("mail to %s must not leave here without %s", q.Hop, demand(r.Minimum))
	switch {
	case q.Err != nil:
		if q.OnError == ErrorAccept || r.Action == Annotate {
			return Decision{}
		}
		return q.unknown(wanted, min(r.Action, Tempfail))
	case q.Verdict.Waits:
		return q.waits(wanted, min(r.Action, Tempfail))
	case q.Verdict.Level >= r.Minimum:
		return Decision{}
	}
	d := Decision{Action: r.Action, Text: line("%s: %s", wanted, q.shortfall())}
	switch r.Action {
	case Reject:
		d.Code, d.Status = 550, "5.7.10"
	case Tempfail:
		d.Code, d.Status = 451, "4.7.10"
	case Pass, Annotate, Hold:
	}
	return d
}

// byRequireTLS is the requirement of the message itself, which no rule and no
// setting lowers. A next hop must be known by signed MX records or by MTA-STS, and
// prove who it is (RFC 8689 §4.2.1): what cannot be sent on like this is refused
// here, where its sender still waits, and not bounced later.
func (q *Question) byRequireTLS() Decision {
	if !q.RequireTLS {
		return Decision{}
	}
	wanted := fmt.Sprintf("the message requires TLS (REQUIRETLS), and mail to %s must not leave here without %s", q.Hop, demand(Authenticated))
	switch {
	case q.Err != nil:
		return q.unknown(wanted, Tempfail)
	case q.Verdict.Waits:
		return q.waits(wanted, Tempfail)
	case q.Verdict.Level >= Authenticated:
		return Decision{}
	}
	d := Decision{Action: Reject, Code: 550, Status: "5.7.10", Text: line("%s: %s", wanted, q.shortfall())}
	if q.Verdict.Level == Encrypted {
		// "Encryption needed" would be untrue. The other of the two codes of
		// RFC 8689 §4.2.1 is for servers that cannot do what REQUIRETLS takes.
		d.Status = "5.7.30"
	}
	return d
}

func (q *Question) unknown(wanted string, a Action) Decision {
	return Decision{Action: a, Code: 451, Status: "4.4.3", Text: line("%s: whether it can be had is not known now, try again later", wanted)}
}

func (q *Question) waits(wanted string, a Action) Decision {
	d := q.unknown(wanted, a)
	if q.Verdict.Why != "" {
		d.Text = line("%s; %s", d.Text, q.Verdict.Why)
	}
	return d
}

// shortfall says what there is instead of what is demanded.
func (q *Question) shortfall() string {
	has := map[Level]string{
		Clear:         "it promises no TLS",
		Encrypted:     "it promises TLS only, not who answers",
		Authenticated: "its servers prove who they are by public certification authorities, not by DANE",
	}[q.Verdict.Level]
	if q.Verdict.Name == "dane" {
		has = "only some of its hosts promise TLS"
	}
	if q.Verdict.Why != "" {
		has += "; " + q.Verdict.Why
	}
	return has
}

func demand(l Level) string {
	switch l {
	case Clear:
		return "anything"
	case Encrypted:
		return "TLS"
	case Authenticated:
		return "TLS to a server that proves who it is"
	case ByDANE:
		return "TLS to a server that proves by DANE who it is"
	}
	panic(fmt.Sprintf("milterd: level %d", l))
}

// maxText is the longest text of a reply, in bytes: with code and status it stays
// below the 512 of a reply line (RFC 5321).
const maxText = 440

// line makes one line of printable ASCII: parts of it come from the network.
func line(format string, args ...any) string {
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, strings.ReplaceAll(fmt.Sprintf(format, args...), "§", "section "))
	if len(text) > maxText {
		return text[:maxText-3] + "..."
	}
	return text
}

// Worst returns the decision that holds for a message of which the recipients were
// decided on one by one: the one that prevents most, and of those the first.
func Worst(ds []Decision) Decision {
	var worst Decision
	others := 0
	for _, d := range ds {
		switch {
		case d.Action > worst.Action:
			worst, others = d, 0
		case d.Action == worst.Action && d.Action != Pass && d.Text != worst.Text:
			others++
		}
	}
	if others > 0 {
		more := fmt.Sprintf(" (and %d more)", others)
		worst.Text = worst.Text[:min(len(worst.Text), maxText-len(more))] + more
	}
	return worst
}
