package doctor

import (
	"maps"
	"slices"

	"tlsverdict/internal/finding"
)

// Check names a thing that is looked at; it is stable, for scripts.
type Check string

// Finding is one thing that was looked at.
type Finding struct {
	Check Check
	// Subject is whose it is: "this host", "policyd", "Postfix 3.10.13". Findings of
	// one subject are told together.
	Subject  string
	Severity finding.Severity
	// Looked is what was looked at: a command, a file, an address.
	Looked string
	// Found is what stood there, in one line; of what could not be looked at, why not.
	Found string
	// In is the file that Mend is to be written into; empty where Mend is to be typed
	// at a shell, as root.
	In string
	// Mend is what mends it, in one or more lines; those that begin with "#" are words.
	// Empty where nothing is to be mended.
	Mend string
}

// Kind is what all findings of a check have in common.
type Kind struct {
	// Severity is the usual one where it is not in order.
	Severity finding.Severity
	// Title is what is in order when it is, in a few words.
	Title string
	// Why says what it does to mail when it is not.
	Why string
	// Mend is what mends it, in general; a finding has it with the host's own names.
	Mend string
	// Cite is where it is written; empty where nowhere.
	Cite string
}

// Kind returns what the findings of this check have in common. It panics for a check
// that does not exist.
func (f Finding) Kind() Kind {
	k, ok := Kinds()[f.Check]
	if !ok {
		panic("doctor: no such check: " + string(f.Check))
	}
	return k
}

// Subject is whom checks are about.
type Subject struct {
	Name  string
	Kinds map[Check]Kind
}

// Subjects returns every check there is, by whom they are about, in the order of a report.
func Subjects() []Subject {
	return []Subject{
		{"This host", hostKinds()},
		{"policyd", policydKinds()},
		{"Postfix", postfixKinds()},
		{"Exim", eximKinds()},
		{"Sendmail", sendmailKinds()},
	}
}

// Kinds returns every check there is.
func Kinds() map[Check]Kind {
	all := make(map[Check]Kind)
	for _, s := range Subjects() {
		maps.Copy(all, s.Kinds)
	}
	return all
}

// Severities returns those of findings, in their order.
func Severities(findings []Finding) []finding.Severity {
	all := make([]finding.Severity, len(findings))
	for i, f := range findings {
		all[i] = f.Severity
	}
	return all
}

// order puts what is to be mended first, within each subject; what is alike keeps its
// order, and so do the subjects.
func order(findings []Finding) []Finding {
	var subjects []string
	for _, f := range findings {
		if !slices.Contains(subjects, f.Subject) {
			subjects = append(subjects, f.Subject)
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if a.Subject != b.Subject {
			return slices.Index(subjects, a.Subject) - slices.Index(subjects, b.Subject)
		}
		return finding.Compare(a.Severity, b.Severity)
	})
	return findings
}
