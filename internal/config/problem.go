package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong, or questionable, in a configuration.
type Problem struct {
	// File is the name that Load or Parse was given; empty for Default.
	File string
	// Line counts from 1.
	Line int
	// Key is the full name of the setting, such as "dns.timeout", or that of a
	// table; empty for a mistake of syntax. Entries of a table array are told
	// apart by their line.
	Key string
	// Text says what is wrong and what is allowed, in one line.
	Text string
}

// Error returns "file:line: text", the form that editors jump to, with "line" for
// a file without a name.
func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d: %s", cmp.Or(p.File, "line"), p.Line, p.Text)
}

// Problems are all the problems of one file, sorted by line. As an error it is
// never empty.
type Problems []Problem

// Error returns one line a problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each problem to errors.As.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key))
	})
}
