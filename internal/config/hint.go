package config

import (
	"fmt"
	"strings"
)

// maxHinted is the longest name that a hint is looked for.
const maxHinted = 64

// suggest returns the known path that an unknown one was most likely meant to
// be, or "". It forgives a slip of the pen, a hyphen for an underscore, capitals,
// and a key that stands in another table than its own.
func suggest(path string, known []string) string {
	if len(path) > maxHinted {
		return ""
	}
	table, name := split(path)
	best, least := "", 2+min(len(name)/4, 2)
	for _, k := range known {
		kt, kn := split(k)
		d := distance(name, kn)
		if kt != table {
			d = min(d+1, distance(path, k))
		}
		if d < least || d == least && best != "" && closer(table, k, best) {
			best, least = k, d
		}
	}
	return best
}

// closer reports whether a is the better of two equally similar paths: one in
// the same table, else one above all tables, else, of two keys with one name, the
// one that the table of keys has first, else the shorter one.
func closer(table, a, b string) bool {
	at, an := split(a)
	bt, bn := split(b)
	if (at == table) != (bt == table) {
		return at == table
	}
	if an == bn && at != "" {
		return false
	}
	return len(a) < len(b)
}

// split cuts a path at its last dot.
func split(path string) (table, name string) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// fold writes names that people mix up in one way.
func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

// distance is how many letters must be put in, left out, replaced or swapped
// with their neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	a, b = fold(a), fold(b)
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// meant writes a suggestion for a key found in a table.
func meant(table, path string) string {
	kt, name := split(path)
	switch kt {
	case table:
		return fmt.Sprintf("did you mean %q?", name)
	case "":
		return fmt.Sprintf("did you mean %q, which stands above the first [table]?", name)
	}
	return fmt.Sprintf("did you mean %q in %s?", name, header(kt))
}

// header writes a table as its header in the file.
func header(table string) string {
	if table == overrideTable {
		return "[[" + table + "]]"
	}
	return "[" + table + "]"
}
