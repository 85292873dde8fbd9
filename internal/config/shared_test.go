package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSharedURLs(t *testing.T) {
	for url, want := range map[string]Shared{
		"redis://host":                          {Addresses: []string{"host:6379"}},
		"redis://Host.Example.:6380/3":          {Addresses: []string{"host.example:6380"}, DB: 3},
		"redis://192.0.2.1":                     {Addresses: []string{"192.0.2.1:6379"}},
		"redis://[2001:db8::1]:7000/":           {Addresses: []string{"[2001:db8::1]:7000"}},
		"rediss://policyd@host":                 {Addresses: []string{"host:6379"}, TLS: true, User: "policyd"},
		"redis://u:p%40%3A%2F%25@host":          {Addresses: []string{"host:6379"}, User: "u", password: "p@:/%"},
		"redis://:p@ss@host":                    {Addresses: []string{"host:6379"}, password: "p@ss"},
		"redis+sentinel://a,b:26380/main/2":     {Form: SharedSentinel, Addresses: []string{"a:26379", "b:26380"}, Master: "main", DB: 2},
		"rediss+cluster://a:7000,b:7001,a:7000": {Form: SharedCluster, TLS: true, Addresses: []string{"a:7000", "b:7001"}},
		"":                                      {},
	} {
		c, err := Parse("f", []byte("[store]\nshared = '"+url+"'"))
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := c.Store.Shared
		if !slices.Equal(got.Addresses, want.Addresses) {
			t.Errorf("%s: addresses %q, want %q", url, got.Addresses, want.Addresses)
		}
		got.Addresses, want.Addresses = nil, nil
		if got.Form != want.Form || got.Master != want.Master || got.DB != want.DB || got.TLS != want.TLS || got.User != want.User || got.password != want.password {
			t.Errorf("%s: %+v, want %+v", url, got, want)
		}
	}
}

// TestSharedURLsThatAreWrong: each says what is wrong, and none repeats a password.
func TestSharedURLsThatAreWrong(t *testing.T) {
	for url, want := range map[string]string{
		"host":                         "want \"redis://",
		"http://host":                  "want \"redis://",
		"redis+galera://host":          "want \"redis://",
		"redis://":                     "want HOST",
		"redis://host:port":            "want HOST",
		"redis://host:0":               "want HOST",
		"redis://host:70000":           "want HOST",
		"redis://a_b..c":               "want HOST",
		"redis://2001:db8::1":          "",
		"redis://host/first":           "number of a database",
		"redis://a,b":                  "several hosts",
		"redis://host?db=1":            "no options",
		"redis://:secret%zz@host":      "%25",
		"redis://:secret@":             "want HOST",
		"secret@host":                  "want \"redis://",
		"redis+sentinel://a,b":         "name of the master",
		"redis+sentinel://a/main/x":    "number of a database",
		"redis+cluster://a/1":          "database 0 only",
		"redis+cluster://a,:secret@b,": "want HOST",
	} {
		c, err := Parse("f", []byte("[store]\nshared = '"+url+"'"))
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", url, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q in the error", url, c, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error repeats the password: %v", url, err)
		}
	}
}

func TestSharedWarnings(t *testing.T) {
	for doc, want := range map[string][]string{
		"shared = 'rediss://host'\nshared_key_file = '/k'":                                           nil,
		"shared = 'redis://127.0.0.1'\nshared_key_file = '/k'":                                       nil,
		"shared = 'rediss://host'":                                                                   {"without store.shared_key_file"},
		"shared = 'redis://host'\nshared_key_file = '/k'":                                            {"not over TLS"},
		"shared = 'rediss://:p@host'\nshared_key_file = '/k'":                                        {"has a password"},
		"shared_key_file = '/k'":                                                                     {"not used without"},
		"shared = 'redis://127.0.0.1'\nshared_key_file = '/k'\nshared_ca_file = '/ca'":               {`"rediss" only`},
		"shared = 'rediss://host'\nshared_key_file = '/k'\n[mta_sts]\nmode = 'off'":                  {"nothing to share"},
		"shared = 'rediss://host'\nshared_key_file = 'credential:k'\nshared_cert_file = '/cert.pem'": nil,
	} {
		c, err := Parse("f", []byte("[store]\n"+doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		if len(c.warnings) != len(want) {
			t.Errorf("%s: warnings %v, want %q", doc, c.warnings, want)
			continue
		}
		for i, w := range want {
			if !strings.Contains(c.warnings[i].Text, w) {
				t.Errorf("%s: %s, want %q", doc, c.warnings[i].Text, w)
			}
		}
	}
}

func TestSharedFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := Shared{Addresses: []string{"a:1"}, PasswordFile: "credential:password", KeyFile: write("key", "k\n", 0o640)}
	write("password", "p w\n", 0o644)
	if got, err := s.Password(); got != "p w" || err != nil {
		t.Errorf("password %q, %v", got, err)
	}
	if got, err := s.Key(); string(got) != "k\n" || err != nil {
		t.Errorf("key %q, %v", got, err)
	}
	warnings, err := s.CheckFiles()
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "password can be read by every user") {
		t.Errorf("%q, %v", warnings, err)
	}
	for name, broken := range map[string]Shared{
		"no such file":  {PasswordFile: "/nonexistent"},
		"empty":         {PasswordFile: write("empty", "\n", 0o600)},
		"no key file":   {KeyFile: "/nonexistent"},
		"no CA":         {TLS: true, CAFile: s.KeyFile},
		"no key in it":  {TLS: true, CertFile: s.KeyFile},
		"too long":      {KeyFile: write("long", strings.Repeat("x", maxSecret+1), 0o600)},
		"no credential": {KeyFile: "credential:none"},
	} {
		broken.Addresses = s.Addresses
		if _, err := broken.CheckFiles(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
