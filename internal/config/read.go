package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"tlsverdict/internal/verdict"
)

// overrideTable is the one table that may be there several times.
const overrideTable = "override"

// reader turns a document into a Config and collects what is wrong with it.
type reader struct {
	file     string
	places   places
	problems Problems
	warnings Problems
	tables   tables
}

// read never returns a nil Config: what is wrong keeps its default, so that the
// rest can be judged as well.
func read(name string, data []byte) (*Config, *reader) {
	r := &reader{file: name, tables: newTables()}
	c := Default()
	c.File = name
	tree, ok := r.parse(string(data))
	if !ok {
		return c, r
	}
	r.table(c, "", tree)
	r.check(c)
	return c, r
}

// result is what the caller gets.
func (r *reader) result(c *Config) (*Config, error) {
	if len(r.problems) > 0 {
		r.problems.sort()
		return nil, r.problems
	}
	r.warnings.sort()
	c.warnings = r.warnings
	return c, nil
}

// fail reports a problem at a path, of which places knows the line.
func (r *reader) fail(path, format string, args ...any) {
	r.problems = append(r.problems, r.problem(path, format, args...))
}

func (r *reader) warn(path, format string, args ...any) {
	r.warnings = append(r.warnings, r.problem(path, format, args...))
}

func (r *reader) problem(path, format string, args ...any) Problem {
	return Problem{r.file, r.places.line(path), public(path), visible(fmt.Sprintf(format, args...))}
}

// parse reads TOML. The order matters: the places bound the nesting that the
// parser meets.
func (r *reader) parse(doc string) (map[string]any, bool) {
	found, line, err := locate(doc)
	r.places = found
	if err != nil {
		r.problems = append(r.problems, Problem{File: r.file, Line: line, Text: "brackets or dotted keys nest too deeply"})
		return nil, false
	}
	tree := map[string]any{}
	_, err = toml.Decode(doc, &tree)
	if err == nil {
		return tree, true
	}
	p := Problem{File: r.file, Line: 1, Text: visible(err.Error())}
	var pe toml.ParseError
	if errors.As(err, &pe) {
		p.Line, p.Key, p.Text = max(pe.Position.Line, 1), pe.LastKey, "not TOML: "+visible(pe.Message)
	}
	r.problems = append(r.problems, p)
	return nil, false
}

// table reads the keys of one table, or the top of the file.
func (r *reader) table(c *Config, table string, tree map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		path, v := join(table, name), tree[name]
		if path == overrideTable {
			r.overrides(c, v)
		} else if k, ok := r.tables.keys[path]; ok {
			r.set(path, v, k.set(c, v))
		} else if l, ok := r.tables.later[path]; ok {
			r.notYet(l, v)
		} else if r.tables.names[path] {
			if sub, ok := v.(map[string]any); ok {
				r.table(c, path, sub)
			} else {
				r.fail(path, "%s = %s: want a table, %s", path, show(v), header(path))
			}
		} else {
			r.unknown(path, v)
		}
	}
}

// set reports what a key's setter found, each wrong entry of a list at its line.
func (r *reader) set(path string, v any, err error) {
	if err == nil {
		return
	}
	if path == "store.shared" {
		v = redacted(v)
	}
	var list listError
	if !errors.As(err, &list) {
		r.fail(path, "%s = %s: %v", public(path), show(v), err)
		return
	}
	for _, e := range list {
		r.fail(entry(path, e.index), "%s: %s: %v", public(path), show(e.value), e.err)
	}
}

// notYet accepts a key of a later release as long as it asks for nothing. Its
// value may hold a password and is not repeated.
func (r *reader) notYet(l later, v any) {
	if slices.Contains(l.idle, v) {
		return
	}
	r.fail(l.path, "%s is not in this release: remove it, or leave it at %s", l.path, show(l.idle[0]))
}

// unknown reports a key or table that does not exist, with the name that was
// most likely meant.
func (r *reader) unknown(path string, v any) {
	what, candidates := "unknown key "+path, r.tables.paths
	switch v.(type) {
	case map[string]any:
		what, candidates = "unknown table ["+path+"]", r.tables.headers
	case []map[string]any:
		what, candidates = "unknown table [["+path+"]]", r.tables.headers
	}
	if hint := suggest(path, candidates); hint == "" {
		r.fail(path, "%s; %s", what, r.tables.list(path))
	} else if r.tables.names[hint] || hint == overrideTable {
		r.fail(path, "%s; did you mean %s?", what, header(hint))
	} else {
		table, _ := split(path)
		r.fail(path, "%s; %s", what, meant(table, hint))
	}
}

// overrides reads the [[override]] entries, however they are written.
func (r *reader) overrides(c *Config, v any) {
	var entries []Override
	for i, tree := range r.overrideTrees(v) {
		path := entry(overrideTable, i)
		if tree == nil {
			continue
		}
		o := Override{Line: r.places.line(path)}
		if r.override(&o, path, tree) {
			entries = append(entries, o)
		}
	}
	c.Overrides = r.collect(entries)
}

// overrideTrees returns the entries; a nil one was reported already.
func (r *reader) overrideTrees(v any) []map[string]any {
	switch v := v.(type) {
	case []map[string]any:
		return v
	case []any:
		trees := make([]map[string]any, len(v))
		for i, e := range v {
			tree, ok := e.(map[string]any)
			if !ok {
				r.fail(entry(overrideTable, i), "override = %s: want a table, [[override]]", show(e))
			}
			trees[i] = tree
		}
		return trees
	case map[string]any:
		r.fail(overrideTable, "[override] is one entry of a list: write [[override]]")
	default:
		r.fail(overrideTable, "override = %s: want entries that begin with [[override]]", show(v))
	}
	return nil
}

// override reads one entry and reports whether all of it was fine.
func (r *reader) override(o *Override, path string, tree map[string]any) bool {
	before := len(r.problems)
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		at, v := join(path, name), tree[name]
		if k, ok := r.tables.override[public(at)]; ok {
			r.set(at, v, k.set(o, v))
			continue
		}
		if hint := suggest(public(at), r.tables.paths); hint != "" {
			r.fail(at, "unknown key %s; %s", public(at), meant(overrideTable, hint))
		} else {
			r.fail(at, "unknown key %s; %s", public(at), r.tables.list(public(at)))
		}
	}
	for _, name := range []string{"domain", "policy"} {
		if _, ok := tree[name]; !ok {
			r.fail(path, "this [[override]] has no %s", name)
		}
	}
	return len(r.problems) == before
}

// collect makes the lookup table, and refuses two entries for one domain.
func (r *reader) collect(entries []Override) Overrides {
	o := Overrides{entries: entries, byDomain: make(map[string]*verdict.Override, len(entries))}
	lines := make(map[string]int, len(entries))
	for i := range entries {
		e := &entries[i]
		if first, ok := lines[e.Domain]; ok {
			r.problems = append(r.problems, Problem{
				r.file, e.Line, overrideTable + ".domain",
				fmt.Sprintf("a second [[override]] for %s: the first is at line %d", e.Domain, first),
			})
			continue
		}
		lines[e.Domain] = e.Line
		o.byDomain[e.Domain] = &e.Override
	}
	return o
}

// public is a path without the numbers of its entries.
func public(path string) string {
	if !strings.HasPrefix(path, overrideTable+"[") {
		if i := strings.IndexByte(path, '['); i > 0 && !strings.Contains(path[:i], `"`) {
			return path[:i]
		}
		return path
	}
	_, rest, _ := strings.Cut(path, "]")
	return overrideTable + rest
}

// visible replaces control characters in what others wrote about the file, which
// would break the line, or a terminal.
func visible(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return unicode.ReplacementChar
		}
		return c
	}, text)
}

// show writes a value for an error message: short, and in one line.
func show(v any) string {
	const most = 60
	switch v := v.(type) {
	case string:
		if len(v) > most {
			cut := most
			for cut > 0 && !utf8.RuneStart(v[cut]) {
				cut--
			}
			return strconv.Quote(v[:cut]) + "..."
		}
		return strconv.Quote(v)
	case map[string]any:
		return "a table"
	case []map[string]any, []any:
		return "a list"
	case time.Time:
		return writeTime(v)
	}
	return fmt.Sprint(v)
}
