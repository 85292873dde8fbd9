package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/postfixmap"
)

// requireTable is the table of milter.toml that may be there several times.
const requireTable = "require"

// milterStore is where a milter that decides in process keeps policies: policyd's
// own file belongs to policyd, and so does its directory to policyd's user.
const milterStore = "/var/lib/tlsverdict-milter/milter.db"

// Milter is everything that milter.toml can say. DefaultMilter returns the settings
// of an empty file.
type Milter struct {
	// File is the name that LoadMilter or ParseMilter was given; empty for
	// DefaultMilter.
	File string
	// Listen holds at least one address and none twice.
	Listen []postfixmap.Address
	// SocketMode is the permissions of unix sockets.
	SocketMode fs.FileMode
	// Verdicts is the policyd to ask; the zero value decides in process, by Policyd.
	Verdicts postfixmap.Address
	// AcceptOnError takes mail for which no verdict can be had.
	AcceptOnError bool
	// Deadline is the longest wait for verdicts in one command, 100 ms to 90 s.
	Deadline time.Duration
	// MaxConnections bounds the open connections of each listener; at least 1.
	MaxConnections int
	// LocalMailers are mailers that do not send by SMTP, in lower case;
	// LocalDomains domains whose mail stays here, as A-labels.
	LocalMailers, LocalDomains []string
	// Require are the [[require]] entries in their order.
	Require []Require
	// Header is the header that tells the verdicts; empty: none.
	Header string
	// Prefetch asks for verdicts before they are needed.
	Prefetch bool
	// Policyd has the log's settings and, where Verdicts is zero, those of the
	// sections that policyd.toml has.
	Policyd *Config

	places   places
	warnings Problems
}

// Require is a [[require]] entry. Patterns are as they were written: who uses them
// parses them, and reports what is wrong by Milter.Fault.
type Require struct {
	// Line is where the entry begins in the file.
	Line int
	// Sender and Recipient are "*" where the file says nothing.
	Sender, Recipient string
	// Authenticated is nil where the file says nothing. User is the pattern of a login
	// name, where * stands for any letters; Authenticated is then true. Empty: any.
	Authenticated *bool
	User          string
	// HeaderName and HeaderValue are the parts of "Name: value".
	HeaderName, HeaderValue string
	SubjectTag              string
	// Minimum is encrypted, authenticated or dane; Action reject, tempfail, hold
	// or annotate.
	Minimum, Action string
}

// DefaultMilter returns the settings that hold where the file says nothing. Each
// call returns a value of its own.
func DefaultMilter() *Milter {
	m := &Milter{
		SocketMode: 0o660, Deadline: 15 * time.Second, MaxConnections: 1024, Prefetch: true,
		Listen: []postfixmap.Address{mustAddress("inet:127.0.0.1:8463")}, Verdicts: defaultListen(),
		LocalMailers: localMailers(), Policyd: Default(),
	}
	m.Policyd.Store.Path = milterStore
	return m
}

// localMailers are the names of Postfix's master.cf and of Sendmail's mailers that
// deliver here, or not at all.
func localMailers() []string {
	return []string{
		"local", "virtual", "lmtp", "error", "retry", "discard", "prog", "*file*", "*include*",
		"procmail", "maildrop", "dovecot", "cyrus", "cyrusv2", "uucp",
	}
}

func mustAddress(s string) postfixmap.Address {
	a, err := postfixmap.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// milterKeys are the settings of milter.toml that policyd.toml has not.
func milterKeys() []key[Milter] {
	return []key[Milter]{
		bind("milter.listen", `["inet:127.0.0.1:8463"]`, func(m *Milter) *[]postfixmap.Address { return &m.Listen }, list(address)),
		bind("milter.socket_mode", `"0660"`, func(m *Milter) *fs.FileMode { return &m.SocketMode }, fileMode),
		bind("milter.verdicts", `"inet:127.0.0.1:8461"`, func(m *Milter) *postfixmap.Address { return &m.Verdicts }, addressOrNone),
		bind("milter.on_error", `"tempfail"`, func(m *Milter) *bool { return &m.AcceptOnError },
			oneOf(word[bool]{"tempfail", false}, word[bool]{"accept", true})),
		bind("milter.deadline", `"15s"`, func(m *Milter) *time.Duration { return &m.Deadline }, duration(100*time.Millisecond, 90*time.Second)),
		bind("milter.max_connections", `1024`, func(m *Milter) *int { return &m.MaxConnections }, integer(1, 1_000_000)),
		bind("milter.local_mailers", writeList(localMailers()), func(m *Milter) *[]string { return &m.LocalMailers }, list(mailer)),
		bind("milter.local_domains", `[]`, func(m *Milter) *[]string { return &m.LocalDomains }, list(localDomain)),
		bind("annotate.header", `""`, func(m *Milter) *string { return &m.Header }, headerName),
		bind("annotate.prefetch", `true`, func(m *Milter) *bool { return &m.Prefetch }, boolean),
	}
}

// requireKeys are those of a [[require]] entry.
func requireKeys() []key[Require] {
	return []key[Require]{
		bind("require.sender", `"*"`, func(q *Require) *string { return &q.Sender }, oneLine),
		bind("require.recipient", `"*"`, func(q *Require) *string { return &q.Recipient }, oneLine),
		{"require.authenticated", "", setAuthenticated},
		{"require.header", "", setHeader},
		bind("require.subject_tag", "", func(q *Require) *string { return &q.SubjectTag }, someText),
		bind("require.minimum", "", func(q *Require) *string { return &q.Minimum },
			oneOf(word[string]{"encrypted", "encrypted"}, word[string]{"authenticated", "authenticated"}, word[string]{"dane", "dane"})),
		bind("require.action", `"reject"`, func(q *Require) *string { return &q.Action },
			oneOf(word[string]{"reject", "reject"}, word[string]{"tempfail", "tempfail"}, word[string]{"hold", "hold"}, word[string]{"annotate", "annotate"})),
	}
}

// LoadMilter reads a file, as ParseMilter does. The error is Problems where the
// content is wrong, and what the operating system said where the file could not be
// read.
func LoadMilter(path string) (*Milter, error) {
	data, err := readFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("config: reading the configuration: %w", err)
	}
	return ParseMilter(path, data)
}

// ParseMilter reads the content of milter.toml, as Parse does that of policyd.toml.
// The sections of policyd.toml are allowed where milter.verdicts is empty, except
// [socketmap], [http] and mode; [log] and [process] always are.
func ParseMilter(name string, data []byte) (*Milter, error) {
	r := &reader{file: name, tables: milterTables()}
	m := DefaultMilter()
	m.File, m.Policyd.File = name, name
	if tree, ok := r.parse(string(data)); ok {
		r.milter(m, tree)
	}
	if len(r.problems) > 0 {
		r.problems.sort()
		return nil, r.problems
	}
	m.places, m.warnings = r.places, r.warnings
	return m, nil
}

// Warnings returns what works but is probably not what was meant, sorted by line.
func (m *Milter) Warnings(now time.Time) []Problem {
	ws := append(slices.Clone(m.warnings), m.Policyd.Warnings(now)...)
	ws.sort()
	return ws
}

// Fault makes a Problem of what is wrong with a value of the n-th [[require]].
func (m *Milter) Fault(n int, name string, err error) Problem {
	path := join(entry(requireTable, n), name)
	return Problem{m.File, m.places.line(path), requireTable + "." + name, visible(err.Error())}
}

// milterTables are policyd's tables without those that mean nothing to a milter,
// and with the milter's own.
func milterTables() tables {
	t := newTables()
	foreign := func(path string) bool {
		table, _, _ := strings.Cut(path, ".")
		return path == "mode" || table == "socketmap" || table == "http"
	}
	maps.DeleteFunc(t.keys, func(path string, _ key[Config]) bool { return foreign(path) })
	maps.DeleteFunc(t.names, func(path string, _ bool) bool { return foreign(path) })
	t.paths = slices.DeleteFunc(t.paths, foreign)
	t.headers = slices.DeleteFunc(t.headers, foreign)
	for _, k := range milterKeys() {
		t.paths = append(t.paths, k.path)
		t.name(k.path)
	}
	for _, k := range requireKeys() {
		t.paths = append(t.paths, k.path)
		t.name(k.path)
	}
	return t
}

// milter reads the whole tree.
func (r *reader) milter(m *Milter, tree map[string]any) {
	rest := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		switch name {
		case "milter", "annotate":
			r.milterTable(m, name, tree[name])
		case requireTable:
			r.requires(m, tree[name])
		default:
			rest[name] = tree[name]
		}
	}
	r.table(m.Policyd, "", rest)
	r.checkMilter(m, rest)
}

func (r *reader) milterTable(m *Milter, table string, v any) {
	tree, ok := v.(map[string]any)
	if !ok {
		r.fail(table, "%s = %s: want a table, %s", table, show(v), header(table))
		return
	}
	known := make(map[string]key[Milter])
	for _, k := range milterKeys() {
		known[k.path] = k
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		path := join(table, name)
		if k, ok := known[path]; ok {
			r.set(path, tree[name], k.set(m, tree[name]))
		} else {
			r.unknown(path, tree[name])
		}
	}
}

// requires reads the [[require]] entries, however they are written.
func (r *reader) requires(m *Milter, v any) {
	switch v := v.(type) {
	case []map[string]any:
		for i, tree := range v {
			r.require(m, i, tree)
		}
	case []any:
		for i, e := range v {
			tree, ok := e.(map[string]any)
			if !ok {
				r.fail(entry(requireTable, i), "require = %s: want a table, [[require]]", show(e))
				continue
			}
			r.require(m, i, tree)
		}
	case map[string]any:
		r.fail(requireTable, "[require] is one entry of a list: write [[require]]")
	default:
		r.fail(requireTable, "require = %s: want entries that begin with [[require]]", show(v))
	}
}

func (r *reader) require(m *Milter, n int, tree map[string]any) {
	at := entry(requireTable, n)
	q := Require{Line: r.places.line(at), Sender: "*", Recipient: "*", Action: "reject"}
	known := make(map[string]key[Require])
	var paths []string
	for _, k := range requireKeys() {
		known[k.path] = k
		paths = append(paths, k.path)
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		path, v := join(requireTable, name), tree[name]
		k, ok := known[path]
		if !ok {
			hint := "[[require]] has " + strings.ReplaceAll(strings.Join(paths, ", "), "require.", "")
			if s := suggest(path, paths); s != "" {
				_, meant := split(s)
				hint = fmt.Sprintf("did you mean %q?", meant)
			}
			r.fail(join(at, name), "unknown key %s; %s", path, hint)
		} else if err := k.set(&q, v); err != nil {
			r.fail(join(at, name), "%s = %s: %v", path, show(v), err)
		}
	}
	if _, ok := tree["minimum"]; !ok {
		r.fail(at, "this [[require]] has no minimum")
	}
	m.Require = append(m.Require, q)
}

// checkMilter looks at settings together.
func (r *reader) checkMilter(m *Milter, rest map[string]any) {
	if len(m.Listen) == 0 {
		r.fail("milter.listen", "milter.listen = []: want at least one address")
	}
	for i, a := range m.Listen {
		if a.Network() == "tcp" && !localListener(a) {
			r.warn(entry("milter.listen", i), "milter.listen: %q is reachable from other hosts: the protocol has no authentication", a)
		}
	}
	for i, q := range m.Require {
		if q.Action == "annotate" && m.Header == "" {
			r.fail(join(entry(requireTable, i), "action"), `require.action = "annotate" needs the name of a header: annotate.header`)
		}
	}
	if m.Verdicts == (postfixmap.Address{}) {
		r.check(m.Policyd)
		m.Policyd.Socketmap.Deadline = m.Deadline
		return
	}
	if m.Verdicts.Network() == "tcp" && !localListener(m.Verdicts) {
		r.warn("milter.verdicts", "milter.verdicts: %q is not on this host: whoever is on the way to it can forge verdicts", m.Verdicts)
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		if name != "log" && name != "process" && (r.tables.names[name] || name == overrideTable) {
			r.fail(name, `%s has no effect: milter.verdicts = "%s" has policyd decide; "" decides here`, header(name), m.Verdicts)
		}
	}
}

func addressOrNone(v any) (postfixmap.Address, error) {
	if v == "" {
		return postfixmap.Address{}, nil
	}
	return address(v)
}

func setAuthenticated(q *Require, v any) error {
	user, err := someText(v)
	yes, isBool := v.(bool)
	if err != nil && !isBool {
		return errors.New(`want true, false, or the name of a login, such as "bob" or "legal-*"`)
	}
	yes = yes || !isBool
	q.Authenticated, q.User = &yes, user
	return nil
}

func someText(v any) (string, error) {
	text, err := oneLine(v)
	if err != nil || strings.TrimSpace(text) == "" {
		return "", errors.New("want a text of one line")
	}
	return text, nil
}

func mailer(v any) (string, error) {
	text, ok := v.(string)
	if !ok || text == "" || strings.ContainsAny(text, " \t\r\n") {
		return "", errors.New(`want the name of a mailer, such as "dovecot"`)
	}
	return strings.ToLower(text), nil
}

func localDomain(v any) (string, error) {
	text, _ := v.(string)
	name, err := nexthop.Normalize(text)
	if err != nil {
		return "", errors.New(`want a domain, such as "example.com"`)
	}
	return name, nil
}

// headerName reads the name of a header field, or none.
func headerName(v any) (string, error) {
	text, ok := v.(string)
	if !ok || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' || c == ':' }) {
		return "", errors.New(`want the name of a header, such as "X-TLS-Verdict", or ""`)
	}
	return text, nil
}

func setHeader(q *Require, v any) error {
	text, err := oneLine(v)
	name, value, found := strings.Cut(text, ":")
	if err == nil {
		name, err = headerName(name)
	}
	if value = strings.TrimSpace(value); err != nil || !found || name == "" || value == "" {
		return errors.New(`want a header with its value, such as "X-Require-TLS: yes"; "*" in it stands for any letters`)
	}
	q.HeaderName, q.HeaderValue = name, value
	return nil
}

func writeList(words []string) string {
	return `["` + strings.Join(words, `", "`) + `"]`
}
