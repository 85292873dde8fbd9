package postfix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// site is a Postfix whose tables hold some keys.
type site struct {
	main string
	// tables map "type:name" to keys; one that is not there cannot be opened.
	tables map[string][]string
	ran    []string
}

func (s *site) run(_ context.Context, program string, args ...string) ([]byte, error) {
	s.ran = append(s.ran, strings.Join(args, " "))
	if filepath.Base(program) == "postconf" {
		return []byte(s.main), nil
	}
	keys, ok := s.tables[args[2]]
	if !ok {
		return nil, errors.New(`exit status 1: "postmap: fatal: open /etc/postfix/x.cf: Permission denied"`)
	}
	if !slices.Contains(keys, args[1]) {
		return nil, fmt.Errorf("%w: exit status 1", ErrSilent)
	}
	return []byte("x\n"), nil
}

func (s *site) host(t *testing.T) Host {
	t.Helper()
	h := Host{Root: t.TempDir(), Path: []string{"/usr/sbin"}, Run: s.run}
	for _, name := range []string{"usr/sbin/postconf", "usr/sbin/postmap"} {
		path := filepath.Join(h.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// installed is what postconf -x of Debian 12 prints as installed, of what is asked for.
const installed = `mail_version = 3.7.11
myhostname = mail.example.com
mydestination = $myhostname, mail.example.com, localhost.example.com, , localhost
virtual_alias_domains = hash:/etc/postfix/virtual
virtual_mailbox_domains =
relay_domains =
transport_maps =
relayhost =
default_transport = smtp
sender_dependent_relayhost_maps =
sender_dependent_default_transport_maps =
`

func TestOwn(t *testing.T) {
	with := func(changes ...string) string {
		text := installed
		for i := 0; i < len(changes); i += 2 {
			if !strings.Contains(text, changes[i]) {
				t.Fatalf("no %q", changes[i])
			}
			text = strings.Replace(text, changes[i], changes[i+1], 1)
		}
		return text
	}
	virtual := map[string][]string{"hash:/etc/postfix/virtual": {"example.net", "postmaster@example.org"}}
	for _, tc := range []struct {
		name   string
		main   string
		tables map[string][]string
		domain string
		want   string // "!" is an error
	}{
		{"not listed", installed, virtual, "example.org", ""},
		{"mydestination", installed, virtual, "mail.example.com", "mydestination"},
		{"a name above", installed, virtual, "example.com", ""},
		{"a name below", installed, virtual, "a.mail.example.com", "mydestination"},
		{"an upper-case name", with("localhost\n", "EXAMPLE.ORG\n"), virtual, "example.org", "mydestination"},
		{"a negation is not trusted", with("localhost\n", "!example.org\n"), virtual, "example.org", "mydestination"},
		{"a virtual alias domain", installed, virtual, "example.net", "virtual_alias_domains"},
		{"an address in it is no domain", installed, virtual, "example.org", ""},
		{"by way of proxymap", with("hash:/etc/postfix/virtual", "proxy:hash:/etc/postfix/virtual"), virtual, "example.net", "virtual_alias_domains"},
		{"a table that cannot be read", installed, nil, "example.org", "!"},
		{"a virtual mailbox domain", with("mailbox_domains =", "mailbox_domains = example.org example.net"), virtual, "example.org", "virtual_mailbox_domains"},
		{"a relay domain", with("relay_domains =", "relay_domains = example.org"), virtual, "a.example.org", "relay_domains"},
		{"a table of relay domains", with("relay_domains =", "relay_domains = hash:/relay"), map[string][]string{"hash:/etc/postfix/virtual": nil, "hash:/relay": {"example.org"}}, "a.b.example.org", "relay_domains"},
		{"braces", with("mailbox_domains =", "mailbox_domains = inline:{ {example.org = x}, {example.net = x} }, b.example"), map[string][]string{"hash:/etc/postfix/virtual": nil, "inline:{ {example.org = x}, {example.net = x} }": {"example.org"}}, "example.org", "virtual_mailbox_domains"},
		{"domains behind a socket", with("mailbox_domains =", "mailbox_domains = socketmap:inet:x:1:y"), virtual, "example.org", "!"},

		{"a transport", with("transport_maps =", "transport_maps = hash:/transport"), map[string][]string{"hash:/etc/postfix/virtual": nil, "hash:/transport": {"example.org"}}, "example.org", "transport_maps"},
		{"a transport of a name above", with("transport_maps =", "transport_maps = hash:/transport"), map[string][]string{"hash:/etc/postfix/virtual": nil, "hash:/transport": {".example.org"}}, "a.b.example.org", "transport_maps"},
		{"a transport of everything", with("transport_maps =", "transport_maps = hash:/transport"), map[string][]string{"hash:/etc/postfix/virtual": nil, "hash:/transport": {"*"}}, "example.org", "transport_maps"},
		{"too many names above", with("transport_maps =", "transport_maps = hash:/transport"), map[string][]string{"hash:/etc/postfix/virtual": nil, "hash:/transport": nil}, strings.Repeat("a.", 11) + "example", "!"},
		{"this very map", with("transport_maps =", "transport_maps = hash:/transport, socketmap:inet:127.0.0.1:8461:transport"), map[string][]string{"hash:/etc/postfix/virtual": nil, "hash:/transport": nil}, "example.org", ""},

		{"a relay host", with("relayhost =\n", "relayhost = [relay.example.net]:587\n"), virtual, "example.org", "relayhost = [relay.example.net]:587"},
		{"another default", with("= smtp\n", "= smtp:[relay.example.net]\n"), virtual, "example.org", "default_transport = smtp:[relay.example.net]"},
		{"by sender", with("relayhost_maps =", "relayhost_maps = hash:/x"), virtual, "example.org", "sender_dependent_relayhost_maps = hash:/x"},
		{"two of these", with("relayhost =\n", "relayhost = [relay.example.net]\n", "= smtp\n", "= error:x\n"), virtual, "example.org", "default_transport = error:x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &site{main: tc.main, tables: tc.tables}
			h := s.host(t)
			routes, err := h.Routes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := h.Own(t.Context(), routes, tc.domain)
			if tc.want == "!" {
				if !errors.Is(err, ErrExamine) {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("%q, %v; want %q (ran %q)", got, err, tc.want, s.ran)
			}
			if routes.Name != "mail.example.com" {
				t.Errorf("it calls itself %q", routes.Name)
			}
		})
	}
}

// TestOwnFile: a list may name a file of names.
func TestOwnFile(t *testing.T) {
	s := &site{main: strings.Replace(installed, "localhost\n", "/etc/postfix/domains\n", 1), tables: map[string][]string{"hash:/etc/postfix/virtual": nil}}
	h := s.host(t)
	routes, err := h.Routes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Own(t.Context(), routes, "example.org"); !errors.Is(err, ErrExamine) {
		t.Errorf("a file that is not there: %q, %v", got, err)
	}
	if err := os.MkdirAll(filepath.Join(h.Root, "etc/postfix"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(h.Root, "etc/postfix/domains")
	for text, want := range map[string]string{
		"# example.org\nexample.net\n": "", "example.net\n example.org # ours\n": "mydestination", "hash:/x\n": "mydestination", "": "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := h.Own(t.Context(), routes, "example.org"); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// TestNoRoutes: where Postfix is not, or does not tell, nothing is known.
func TestNoRoutes(t *testing.T) {
	if _, err := new(Host).Routes(t.Context()); !errors.Is(err, ErrExamine) {
		t.Errorf("no Postfix: %v", err)
	}
	s := &site{main: ""}
	if _, err := s.host(t).Routes(t.Context()); !errors.Is(err, ErrExamine) {
		t.Errorf("a postconf that says nothing: %v", err)
	}
}
