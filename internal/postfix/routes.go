package postfix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"tlsverdict/internal/program"
)

// ErrSilent: a program failed and said nothing. So postmap(1) says that a key is not in a
// table; Host.Run has to tell it apart.
var ErrSilent = program.ErrSilent

// Routes are what Postfix knows of where mail goes, as far as it comes before the MX
// records of a domain. Host.Routes makes them.
type Routes struct {
	// Obstacle is a setting that sends all mail another way; empty if there is none.
	Obstacle string
	// Name is the name that Postfix gives itself (myhostname).
	Name string

	lists []list
	// postmap is the program that looks tables up.
	postmap string
}

// list is a setting with names, tables and files in it.
type list struct {
	setting string
	items   []string
	// keyed: its tables are asked as transport(5) is: for "*" as well, and for the
	// names above in the form ".example.com".
	keyed bool
}

const (
	transports  = "transport_maps"
	relayDomain = "relay_domains"
	myhostname  = "myhostname"
)

// classes are the settings that list the domains of an address class
// (ADDRESS_CLASS_README).
func classes() []string {
	return []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", relayDomain}
}

// ways are the settings that send all mail, or all of some senders, another way than to
// its MX hosts, and what each is where it does not.
func ways() map[string]string {
	return map[string]string{
		"relayhost": "", "default_transport": "smtp",
		"sender_dependent_relayhost_maps": "", "sender_dependent_default_transport_maps": "",
	}
}

// Routes asks postconf. Errors wrap ErrExamine; there is one, too, where there is no
// Postfix on this host.
func (h Host) Routes(ctx context.Context) (Routes, error) {
	postconf, err := h.find()
	if err != nil {
		return Routes{}, err
	}
	if postconf == "" {
		return Routes{}, fmt.Errorf("%w: there is none on this host", ErrExamine)
	}
	words := append([]string{"-x", mailVersion, myhostname, transports}, classes()...)
	for setting := range ways() {
		words = append(words, setting)
	}
	main, err := h.ask(ctx, postconf, words...)
	if err != nil {
		return Routes{}, err
	}
	if main[mailVersion] == "" {
		return Routes{}, fmt.Errorf("%w: postconf names no version", ErrExamine)
	}
	r := Routes{Name: main[myhostname], postmap: filepath.Join(filepath.Dir(postconf), "postmap")}
	for setting, otherwise := range ways() {
		if value := main[setting]; value != otherwise && (r.Obstacle == "" || setting < r.Obstacle) {
			r.Obstacle = fmt.Sprintf("%s = %.80s", setting, value)
		}
	}
	for _, setting := range append(classes(), transports) {
		r.lists = append(r.lists, list{setting: setting, items: split(main[setting]), keyed: setting == transports})
	}
	return r, nil
}

// split takes a list apart at commas and white space, but not within braces.
func split(value string) []string {
	depth := 0
	return strings.FieldsFunc(value, func(c rune) bool {
		switch c {
		case '{':
			depth++
		case '}':
			depth--
		}
		return depth == 0 && (c == ',' || unicode.IsSpace(c))
	})
}

// Own returns the setting by which a domain, in lower case and as A-labels, has a way of
// its own, or "". What is excluded by "!" counts as listed: more is taken for the
// operator's own than is, and never less. Errors wrap ErrExamine: a table that cannot be
// looked up may hold the domain.
func (h Host) Own(ctx context.Context, r Routes, domain string) (string, error) {
	for _, l := range r.lists {
		for _, item := range l.items {
			listed, err := h.lists(ctx, &r, l, item, domain)
			if err != nil {
				return "", fmt.Errorf("%w: %s: %w", ErrExamine, l.setting, err)
			}
			if listed {
				return l.setting, nil
			}
		}
	}
	return r.Obstacle, nil
}

// lists reports whether one item of a list has a domain.
func (h Host) lists(ctx context.Context, r *Routes, l list, item, domain string) (bool, error) {
	item = strings.TrimLeft(item, "!")
	switch {
	case strings.HasPrefix(item, "/"):
		return h.fileHas(item, domain)
	case strings.Contains(item, ":"):
		return h.tableHas(ctx, r, l, strings.TrimPrefix(item, "proxy:"), domain)
	}
	return covers(item, domain), nil
}

// covers reports whether a name in a list is a domain, or one above it: which of the two
// Postfix takes it for is a setting of its own.
func covers(item, domain string) bool {
	item = strings.ToLower(strings.TrimPrefix(item, "."))
	return item != "" && (domain == item || strings.HasSuffix(domain, "."+item))
}

// maxFile bounds what is read of a file of names, in octets.
const maxFile = 4 << 20

// fileHas reads a file of names, one a line.
func (h Host) fileHas(name, domain string) (bool, error) {
	info, err := os.Stat(h.at(name))
	if err != nil {
		return false, err
	}
	if info.Size() > maxFile || !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is no file of names", name)
	}
	data, err := os.ReadFile(h.at(name))
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		for _, item := range split(line) {
			if covers(strings.TrimLeft(item, "!"), domain) || strings.ContainsAny(item, "/:") {
				// A table or a file within a file: nobody looks there.
				return true, nil
			}
		}
	}
	return false, nil
}

// maxLabels bounds the names above a domain that are looked up, since a program runs for
// each.
const maxLabels = 10

// errLabels: a domain has more.
var errLabels = errors.New("more labels than are looked up")

// tableHas looks a domain, and the names above it, up in a table. One that is asked over
// a socket is not: it may be this program.
func (h Host) tableHas(ctx context.Context, r *Routes, l list, table, domain string) (bool, error) {
	if strings.HasPrefix(table, "socketmap:") {
		if l.keyed {
			return false, nil
		}
		return false, fmt.Errorf("%s is not looked up", table)
	}
	keys := []string{domain}
	if l.keyed || l.setting == relayDomain {
		if strings.Count(domain, ".") > maxLabels {
			return false, errLabels
		}
		for above := domain; ; {
			_, rest, more := strings.Cut(above, ".")
			if !more {
				break
			}
			keys = append(keys, "."+rest, rest)
			above = rest
		}
	}
	if l.keyed {
		keys = append(keys, "*")
	}
	for _, key := range keys {
		_, err := h.Run(ctx, r.postmap, "-q", key, table)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, ErrSilent) {
			return false, fmt.Errorf("postmap -q %s %s: %w", key, table, err)
		}
	}
	return false, nil
}
