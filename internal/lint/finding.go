package lint

import (
	"slices"

	"tlsverdict/internal/finding"
)

// Severity is how much a finding matters. The zero value is that nothing is known.
type Severity = finding.Severity

// What they mean here.
const (
	// Unknown: it could not be looked at.
	Unknown = finding.Unknown
	// OK: in order.
	OK = finding.OK
	// Notice: something useful is not published.
	Notice = finding.Notice
	// Warning: it works, and may not for long, or protects less than it seems to.
	Warning = finding.Warning
	// Error: mail is delayed, or a signal protects nothing.
	Error = finding.Error
)

// Code names a kind of finding; it is stable, for scripts.
type Code string

// Finding is one thing that was looked at.
type Finding struct {
	Code     Code
	Severity Severity
	// Subject is the name that it is about: the domain, an MX host, an owner name.
	Subject string
	// Detail is what was found, in one line; it may be empty.
	Detail string
}

// Kind is what all findings of a code have in common.
type Kind struct {
	// Severity is the usual one.
	Severity Severity
	// Title is the finding in a few words.
	Title string
	// Why says what it does to mail; empty where the title says it.
	Why string
	// Mend is what to do; empty where there is nothing to.
	Mend string
	// Cite is where it is written, as "RFC 7672 §2.2.2"; empty where nowhere.
	Cite string
}

// Kind returns what the findings of this code have in common. It panics for a code
// that does not exist.
func (f Finding) Kind() Kind {
	k, ok := Kinds()[f.Code]
	if !ok {
		panic("lint: no such code: " + string(f.Code))
	}
	return k
}

// Worst returns the most severe of the findings, as an exit status needs it.
func Worst(findings []Finding) Severity {
	all := make([]Severity, len(findings))
	for i, f := range findings {
		all[i] = f.Severity
	}
	return finding.Worst(all)
}

// order puts what is to be mended first; what is alike keeps its order.
func order(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int { return finding.Compare(a.Severity, b.Severity) })
	return findings
}
