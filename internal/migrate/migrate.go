// Package migrate turns the configuration of another daemon for the same purpose into
// policyd.toml.
//
//	r, err := migrate.Read(text)
//	os.Stdout.WriteString(r.TOML)
//	for _, note := range r.Notes { ... }
//
// It knows
//
//	postfix-mta-sts-resolver   mta-sts-daemon.yml, to version 1.5
//	postfix-tlspol             config.yaml, to version 1.13
//
// and tells them apart by their keys. Each key that is set becomes a setting here, or a
// note that says what became of it; none is passed over in silence, and one that is not
// known is a note, too.
//
// The package is pure. It reads no caches: policies that the other daemon has kept are
// learnt anew, and until then a policy host that is blocked looks as on first contact.
package migrate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	// ErrSyntax: the text is no YAML mapping.
	ErrSyntax = errors.New("migrate: not a YAML configuration")
	// ErrUnknown: it is, and of neither daemon.
	ErrUnknown = errors.New("migrate: neither the configuration of postfix-mta-sts-resolver nor that of postfix-tlspol")
)

// Result is a migrated configuration.
type Result struct {
	// From is the daemon that the configuration was of.
	From string
	// TOML is policyd.toml, with the line for main.cf and the notes as comments.
	TOML string
	// MainCF is the line for main.cf.
	MainCF string
	// Notes say what else is to be known or done, a sentence each.
	Notes []string
}

// Read migrates a configuration. Errors wrap ErrSyntax or ErrUnknown.
func Read(text []byte) (Result, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return Result{}, ErrSyntax
	}
	keys := make(map[string]*yaml.Node)
	flatten("", doc.Content[0], keys)
	m := &migration{keys: keys}
	switch {
	case m.has("server.") || m.has("dns."):
		m.tlspol()
	case m.has("host") || m.has("port") || m.has("path") || m.has("cache.") || m.has("default_zone.") || m.has("zones."):
		m.resolver()
	default:
		return Result{}, ErrUnknown
	}
	return m.result(), nil
}

// flatten gives every scalar and list its path: "cache.options.cache_size".
func flatten(prefix string, n *yaml.Node, into map[string]*yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := prefix+n.Content[i].Value, n.Content[i+1]
		// An alias can lead to what it is part of: only to a scalar is it followed.
		if value.Kind == yaml.AliasNode && value.Alias.Kind == yaml.ScalarNode {
			value = value.Alias
		}
		if value.Kind == yaml.MappingNode {
			flatten(name+".", value, into)
			continue
		}
		into[name] = value
	}
}

// migration is one being made.
type migration struct {
	keys map[string]*yaml.Node
	from string
	// sections are the settings, in the order of policyd.toml.
	sections []section
	mainCF   string
	notes    []string
}

type section struct {
	name  string
	lines []string
}

// has reports whether a key is there, or, where name ends in a dot, any below it.
func (m *migration) has(name string) bool {
	for key := range m.keys {
		if key == name || strings.HasSuffix(name, ".") && strings.HasPrefix(key, name) {
			return true
		}
	}
	return false
}

// take returns a key's text, and forgets it; "" if it is not there or empty.
func (m *migration) take(name string) string {
	n := m.keys[name]
	delete(m.keys, name)
	if n == nil || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

func (m *migration) set(in, key, value string) {
	i := slices.IndexFunc(m.sections, func(s section) bool { return s.name == in })
	if i < 0 {
		m.sections = append(m.sections, section{name: in})
		i = len(m.sections) - 1
	}
	m.sections[i].lines = append(m.sections[i].lines, key+" = "+value)
}

func (m *migration) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// listen sets the address, and the line for main.cf that goes with it.
func (m *migration) listen(address string) {
	m.set("socketmap", "listen", "["+strconv.Quote(address)+"]")
	m.mainCF = "smtp_tls_policy_maps = socketmap:" + address + ":postfix"
	if strings.HasPrefix(address, "unix:") {
		m.note("%s must be reachable for smtp(8), which is chrooted on Debian: proxy:socketmap:%s:postfix works there, too", address, address)
	}
}

// mode sets the mode of a socket, whose text is octal whatever YAML makes of it.
func (m *migration) mode(text, address string) {
	if text == "" {
		return
	}
	if !strings.HasPrefix(address, "unix:") {
		m.note("the socket's mode is left out: there is none, since %s is no socket", address)
		return
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(text, "0o"), "0")
	n, err := strconv.ParseUint(digits, 8, 32)
	if err != nil || n > 0o777 {
		m.note("the socket's mode %q is no octal mode from 0 to 0777: socketmap.socket_mode keeps its default, 0660", text)
		return
	}
	m.set("socketmap", "socket_mode", fmt.Sprintf(`"%04o"`, n))
}

// drop takes keys that become nothing here, and notes those that are there, with what to do.
// One that ends in a dot stands for all below it.
func (m *migration) drop(todo string, names ...string) {
	var there []string
	for key := range m.keys {
		if slices.ContainsFunc(names, func(name string) bool {
			return key == name || strings.HasSuffix(name, ".") && strings.HasPrefix(key, name)
		}) {
			there = append(there, key)
		}
	}
	slices.Sort(there)
	for _, key := range there {
		delete(m.keys, key)
	}
	if len(there) > 0 {
		m.note("%s: %s", strings.Join(there, ", "), todo)
	}
}

// seconds sets a time.
func (m *migration) seconds(in, key, text string) {
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 1 && n <= 300 {
		m.set(in, key, strconv.Quote(strconv.Itoa(int(n+0.5))+"s"))
		return
	}
	m.note("the time of %q seconds is not from 1 to 300: %s.%s keeps its default", text, in, key)
}

func yes(text string) bool {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "1":
		return true
	}
	return false
}

// server is an address of a name server, with its port.
func server(text string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at, nil
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return netip.AddrPortFrom(addr, 53), err
}

// rest notes every key that nobody took.
func (m *migration) rest() {
	for _, section := range []string{"server", "dns", "redis", "cache", "cache.options", "default_zone", "zones", "proactive_policy_fetching"} {
		if n := m.keys[section]; n != nil && n.Tag == "!!null" {
			// With nothing but comments in it.
			delete(m.keys, section)
		}
	}
	left := make([]string, 0, len(m.keys))
	for key := range m.keys {
		left = append(left, key)
	}
	slices.Sort(left)
	for _, key := range left {
		m.note("%s is not known here, and was left out", key)
	}
}

func (m *migration) result() Result {
	m.rest()
	var b strings.Builder
	fmt.Fprintf(&b, "# policyd.toml, made from the configuration of %s\n#\n# main.cf: %s\n#\n", m.from, m.mainCF)
	for _, note := range m.notes {
		fmt.Fprintf(&b, "# - %s\n", strings.Map(visible, note))
	}
	for _, s := range m.sections {
		fmt.Fprintf(&b, "\n[%s]\n%s\n", s.name, strings.Join(s.lines, "\n"))
	}
	return Result{From: m.from, TOML: b.String(), MainCF: m.mainCF, Notes: m.notes}
}

// visible keeps a note on its line, whatever the file had.
func visible(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

// join writes host and port as policyd does.
func join(host, port string) string {
	return "inet:" + net.JoinHostPort(strings.Trim(host, "[]"), port)
}
