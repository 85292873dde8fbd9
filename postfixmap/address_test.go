package postfixmap

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]Address{
		"inet:127.0.0.1:8461":                    {"tcp", "127.0.0.1:8461"},
		"inet:[::1]:8461":                        {"tcp", "[::1]:8461"},
		"inet:mail.example:0":                    {"tcp", "mail.example:0"},
		"unix:/run/x.sock":                       {"unix", "/run/x.sock"},
		"unix:/run/with:colon":                   {"unix", "/run/with:colon"},
		"unix:/" + strings.Repeat("x", 106):      {"unix", "/" + strings.Repeat("x", 106)},
		"inet:0.0.0.0:65535":                     {"tcp", "0.0.0.0:65535"},
		"inet:[fe80::1%eth0]:1":                  {"tcp", "[fe80::1%eth0]:1"},
		"inet:xn--bcher-kva.example.com:1":       {"tcp", "xn--bcher-kva.example.com:1"},
		"unix:/var/spool/postfix/private/policy": {"unix", "/var/spool/postfix/private/policy"},
	} {
		got, err := ParseAddress(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("ParseAddress(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "127.0.0.1:8461", "tcp:127.0.0.1:8461", "inet:8461", "inet:127.0.0.1", "inet::8461", "inet:127.0.0.1:",
		"inet:127.0.0.1:smtp", "inet:127.0.0.1:65536", "inet:127.0.0.1:-1", "inet:127.0.0.1:08461", "inet:::1:8461",
		"inet:a b:1", "inet:127.0.0.1:1 ", "unix:", "unix:relative", "unix:@abstract", "unix:/", "unix:/a\x00b",
		"unix:/" + strings.Repeat("x", 107), " inet:127.0.0.1:1", "INET:127.0.0.1:1", "inet:127.0.0.1:8461:map",
	} {
		if got, err := ParseAddress(in); !errors.Is(err, ErrAddress) || got != (Address{}) {
			t.Errorf("ParseAddress(%q) = %v, %v", in, got, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"inet:127.0.0.1:8461", "inet:[::1]:1", "unix:/run/x", "inet::1", "unix:x", "inet:[a]b:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q became %v became %v, %v", s, a, again, err)
		}
	})
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a := Address{"unix", path}
	mode := func() fs.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	l, err := a.Listen(t.Context(), 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if m := mode(); m.Perm() != 0o660 || m.Type() != fs.ModeSocket {
		t.Errorf("mode %v", m)
	}
	if _, err := a.Listen(t.Context(), 0o660); !errors.Is(err, ErrInUse) {
		t.Errorf("on a live socket: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("no leftover to test with: %v", err)
	}
	l, err = a.Listen(t.Context(), 0)
	if err != nil {
		t.Fatalf("on a leftover: %v", err)
	}
	if m := mode(); m.Perm() != 0o600 {
		t.Errorf("mode %v, want 0600 when none is given", m)
	}
	_ = l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Listen(t.Context(), 0o660); !errors.Is(err, ErrInUse) {
		t.Errorf("on a file: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file was touched")
	}
	link := Address{"unix", path + "2"}
	if err := os.Symlink(path, link.addr); err != nil {
		t.Fatal(err)
	}
	if _, err := link.Listen(t.Context(), 0o660); !errors.Is(err, ErrInUse) {
		t.Errorf("on a symbolic link: %v", err)
	}
}

func TestListenInet(t *testing.T) {
	a, err := ParseAddress("inet:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := a.Listen(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := addressOf(l).Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	var none Address
	if _, err := none.Dial(t.Context()); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
	if _, err := none.Listen(t.Context(), 0); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
	if none.String() != "none" || a.Network() != "tcp" || a.Endpoint() != "127.0.0.1:0" {
		t.Error(none, a.Network(), a.Endpoint())
	}
}
