package config

import (
	"errors"
	"strconv"
	"strings"
)

// maxDepth bounds how deeply brackets nest and how many parts a dotted key has.
// No setting needs more than two; the TOML parser recurses without a bound.
const maxDepth = 32

// errDepth: the document nests deeper than maxDepth.
var errDepth = errors.New("config: nested too deeply")

// places says on which line the keys of a TOML document stand. The TOML library
// knows it while it parses and does not tell: its MetaData has the order of the
// keys, and merges those of the entries of a table array.
//
// A path is the key as join writes it; the n-th entry of an array, or of a table
// array, is path[n], counted from 0: "socketmap.listen[1]", "override[0].until".
type places map[string]int

// line returns the line of a path, or that of the closest thing around it; 1
// where nothing of it is in the document.
func (p places) line(path string) int {
	for path != "" {
		if n, ok := p[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 1
}

// join appends a key to the path of its table, quoted where TOML would have to.
func join(prefix, name string) string {
	if !bare(name) {
		name = strconv.Quote(name)
	}
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// entry is the path of an entry of an array.
func entry(path string, n int) string { return path + "[" + strconv.Itoa(n) + "]" }

func bare(name string) bool {
	for i := range len(name) {
		if !isBare(name[i]) {
			return false
		}
	}
	return name != ""
}

func isBare(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// locate finds the places of a document. It reads well-formed TOML; at anything
// else it stops with what it has, since the parser says what is wrong there. The
// error is errDepth, at the line returned.
func locate(doc string) (places, int, error) {
	s := &scanner{doc: doc, line: 1, found: places{}, entries: map[string]int{}}
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(doc, mark) {
			s.pos = len(mark)
			break
		}
	}
	s.document()
	if s.tooDeep {
		return s.found, s.line, errDepth
	}
	return s.found, 0, nil
}

// scanner walks over a document once.
type scanner struct {
	doc  string
	pos  int
	line int
	// depth is how many brackets are open.
	depth   int
	tooDeep bool
	found   places
	// entries counts the entries of each table array.
	entries map[string]int
}

func (s *scanner) document() {
	prefix, ok := "", true
	for ok {
		s.blank(true)
		switch {
		case s.pos >= len(s.doc):
			return
		case s.peek() == '[':
			prefix, ok = s.header()
		default:
			ok = s.pair(prefix)
		}
	}
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.doc) {
		return s.doc[s.pos]
	}
	return 0
}

// step passes over n bytes and counts their lines.
func (s *scanner) step(n int) {
	n = min(n, len(s.doc)-s.pos)
	s.line += strings.Count(s.doc[s.pos:s.pos+n], "\n")
	s.pos += n
}

// accept passes over text if it comes next.
func (s *scanner) accept(text string) bool {
	if !strings.HasPrefix(s.doc[s.pos:], text) {
		return false
	}
	s.step(len(text))
	return true
}

// blank passes over spaces and tabs and, where lines may end, over line ends and
// comments.
func (s *scanner) blank(lines bool) {
	for s.pos < len(s.doc) {
		switch c := s.doc[s.pos]; {
		case c == ' ' || c == '\t':
			s.step(1)
		case lines && (c == '\n' || c == '\r'):
			s.step(1)
		case lines && c == '#':
			s.until("\n")
		default:
			return
		}
	}
}

// until passes over everything before the next of some bytes.
func (s *scanner) until(stop string) {
	n := strings.IndexAny(s.doc[s.pos:], stop)
	if n < 0 {
		n = len(s.doc) - s.pos
	}
	s.step(n)
}

// record keeps the first line of a path.
func (s *scanner) record(path string, line int) {
	if _, ok := s.found[path]; !ok {
		s.found[path] = line
	}
}

// header reads [a.b] or [[a.b]] and returns the path of the table that begins.
func (s *scanner) header() (string, bool) {
	line := s.line
	array := s.accept("[[")
	if !array {
		s.step(1)
	}
	parts, ok := s.key()
	if !ok || !s.accept("]") || array && !s.accept("]") {
		return "", false
	}
	path := ""
	for i, part := range parts {
		path = join(path, part)
		s.record(path, line)
		if array && i == len(parts)-1 {
			s.entries[path]++
		}
		if n := s.entries[path]; n > 0 {
			path = entry(path, n-1)
			s.record(path, line)
		}
	}
	return path, true
}

// pair reads a key and its value.
func (s *scanner) pair(prefix string) bool {
	line := s.line
	parts, ok := s.key()
	if !ok || !s.accept("=") {
		return false
	}
	path := prefix
	for _, part := range parts {
		path = join(path, part)
		s.record(path, line)
	}
	return s.value(path)
}

// key reads the parts of a bare, quoted or dotted key, and the space around it.
func (s *scanner) key() ([]string, bool) {
	var parts []string
	for {
		s.blank(false)
		part, ok := s.keyPart()
		if !ok {
			return nil, false
		}
		if parts = append(parts, part); len(parts) > maxDepth {
			s.tooDeep = true
			return nil, false
		}
		s.blank(false)
		if !s.accept(".") {
			return parts, true
		}
	}
}

func (s *scanner) keyPart() (string, bool) {
	start := s.pos
	if c := s.peek(); c == '"' || c == '\'' {
		if !s.quoted() {
			return "", false
		}
		text := s.doc[start:s.pos]
		if c == '\'' {
			return text[1 : len(text)-1], true
		}
		// The escapes of TOML that Go does not share leave the key as it is
		// written: its line is then that of what is around it.
		if plain, err := strconv.Unquote(text); err == nil {
			return plain, true
		}
		return text, true
	}
	for s.pos < len(s.doc) && isBare(s.doc[s.pos]) {
		s.pos++
	}
	return s.doc[start:s.pos], s.pos > start
}

// value passes over a value and records what is in it.
func (s *scanner) value(path string) bool {
	s.blank(false)
	switch s.peek() {
	case '"', '\'':
		return s.quoted()
	case '[':
		return s.nested(func() bool { return s.array(path) })
	case '{':
		return s.nested(func() bool { return s.inline(path) })
	}
	// Numbers, booleans and dates, which may hold a space.
	start := s.pos
	s.until(",]}#\r\n")
	return s.pos > start
}

func (s *scanner) nested(read func() bool) bool {
	if s.depth++; s.depth > maxDepth {
		s.tooDeep = true
		return false
	}
	s.step(1)
	ok := read()
	s.depth--
	return ok
}

func (s *scanner) array(path string) bool {
	for n := 0; ; n++ {
		s.blank(true)
		if s.accept("]") {
			return true
		}
		at := entry(path, n)
		s.record(at, s.line)
		if !s.value(at) {
			return false
		}
		s.blank(true)
		if !s.accept(",") {
			return s.accept("]")
		}
	}
}

func (s *scanner) inline(path string) bool {
	for {
		s.blank(true)
		if s.accept("}") {
			return true
		}
		if !s.pair(path) {
			return false
		}
		s.blank(true)
		if !s.accept(",") {
			return s.accept("}")
		}
	}
}

// quoted passes over a string of any of the four kinds.
func (s *scanner) quoted() bool {
	quote := s.doc[s.pos : s.pos+1]
	if s.accept(quote + quote + quote) {
		return s.multiline(quote)
	}
	s.step(1)
	for s.pos < len(s.doc) {
		switch c := s.doc[s.pos]; {
		case c == quote[0]:
			s.step(1)
			return true
		case c == '\n':
			return false
		case c == '\\' && quote == `"`:
			s.step(2)
		default:
			s.step(1)
		}
	}
	return false
}

func (s *scanner) multiline(quote string) bool {
	for s.pos < len(s.doc) {
		if s.doc[s.pos] == '\\' && quote == `"` {
			s.step(2)
			continue
		}
		if !s.accept(quote + quote + quote) {
			s.step(1)
			continue
		}
		// One or two quotes may stand before the closing three.
		for range 2 {
			s.accept(quote)
		}
		return true
	}
	return false
}
