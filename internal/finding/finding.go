// Package finding has the words that all checkups of this program share: how much a
// finding matters, which of several matters most, and how many there are of each.
//
//	worst := finding.Worst(severities)            // finding.Error
//	text := finding.Count(severities)             // "1 error, 2 warnings"
//
// Severities:
//
//	error      it does not work, or protects nothing
//	warning    it works, and may not for long, or protects less than it seems to
//	notice     nothing is wrong, and it is worth a word
//	unknown    it could not be looked at
//	ok         looked at, and in order
//
// The words are stable, for scripts. What a finding is about, and what it does to mail,
// are the business of the checkup: packages lint and doctor.
package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity is how much a finding matters. The zero value is that nothing is known.
type Severity uint8

const (
	// Unknown: it could not be looked at.
	Unknown Severity = iota
	// OK: in order.
	OK
	// Notice: nothing is wrong, and it is worth a word.
	Notice
	// Warning: it works, and may not for long, or protects less than it seems to.
	Warning
	// Error: it does not work, or protects nothing.
	Error
)

// String is the severity's word in reports.
func (s Severity) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case OK:
		return "ok"
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	panic(fmt.Sprintf("finding: severity %d", uint8(s)))
}

// Compare orders severities: what to mend first, what is not known before what is in
// order.
func Compare(a, b Severity) int { return cmp.Compare(a.rank(), b.rank()) }

func (s Severity) rank() int {
	return slices.Index([]Severity{Error, Warning, Notice, Unknown, OK}, s)
}

// Worst returns the gravest one: Error, Warning and Notice before Unknown before OK. Of
// none it is Unknown.
func Worst(all []Severity) Severity {
	if len(all) == 0 {
		return Unknown
	}
	return slices.MinFunc(all, Compare)
}

// Count says in a few words how bad it is: "1 error, 2 warnings"; empty where all is in
// order.
func Count(all []Severity) string {
	var words []string
	for _, s := range []Severity{Error, Warning, Notice, Unknown} {
		n := 0
		for _, one := range all {
			if one == s {
				n++
			}
		}
		switch {
		case n == 0:
		case n == 1 || s == Unknown:
			words = append(words, fmt.Sprintf("%d %s", n, s))
		default:
			words = append(words, fmt.Sprintf("%d %ss", n, s))
		}
	}
	return strings.Join(words, ", ")
}
