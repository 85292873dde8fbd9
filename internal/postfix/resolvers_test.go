package postfix

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestResolvers: what is read as the C libraries read it, and what is refused.
func TestResolvers(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", "[127.0.0.53:53]"},
		{"nameserver ::1\nnameserver\t192.0.2.53", "[[::1]:53 192.0.2.53:53]"},
		{"nameserver fe80::1%eth0\n", "[[fe80::1%eth0]:53]"},
		{"nameserver \t 127.0.0.1 trailing\n", "[127.0.0.1:53]"},
		{"# nameserver 192.0.2.1\n;nameserver 192.0.2.1\nnameserver 127.0.0.1\n", "[127.0.0.1:53]"},
		{"#nameserver x\n", "[127.0.0.1:53]"},
		{"nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\nnameserver 192.0.2.4\n", "[127.0.0.1:53 127.0.0.2:53 127.0.0.3:53]"},
		{"", "[127.0.0.1:53]"},
		{"\n\n", "[127.0.0.1:53]"},
		// The C library takes these for 192.168.1.1, 8.0.0.8, 127.0.0.1 and 127.0.0.1.
		{"nameserver 127.0.0.53\nnameserver 192.168.001.001\n", ""},
		{"nameserver 010.0.0.010\n", ""},
		{"nameserver 127.1\n", ""},
		{"nameserver 0x7f000001\n", ""},
		// It passes these over.
		{"nameserver x\nnameserver 127.0.0.1\n", ""},
		{"nameserver 127.0.0.1#53\n", ""},
		{" nameserver 127.0.0.1\nnameserver 192.0.2.1\n", ""},
		{"nameserver 127.0.0.1\r\n", ""},
		{"nameserver\v127.0.0.1\n", ""},
		{"nameserver\n", ""},
		{"nameserver127.0.0.1\n", ""},
		{"NAMESERVER 127.0.0.1\n", ""},
		{"\x00\nnameserver 127.0.0.1\x00\n", ""},
	} {
		got, err := resolvers(tc.text)
		if tc.want == "" && err == nil || tc.want != "" && (err != nil || fmt.Sprint(got) != tc.want) {
			t.Errorf("%q: %v, %v; want %s", tc.text, got, err, tc.want)
		}
	}
}

// TestResolvConf: the file is the one that smtp(8) opens, from where it is.
func TestResolvConf(t *testing.T) {
	for _, tc := range []struct {
		name string
		// chrooted, or else it reads host/etc/resolv.conf.
		chrooted bool
		// links are made in jail; "DIR" is the directory above it.
		links map[string]string
		want  string
		err   error
	}{
		{"a file", true, nil, "[127.0.0.2:53]", nil},
		{"a link inside", true, map[string]string{"etc/resolv.conf": "../run/resolv.conf"}, "[127.0.0.3:53]", nil},
		{"a link from its root", true, map[string]string{"etc/resolv.conf": "/run/resolv.conf"}, "", ErrUnlike},
		{"a link to the host's", true, map[string]string{"etc/resolv.conf": "DIR/host/etc/resolv.conf"}, "", ErrUnlike},
		{"a link above it", true, map[string]string{"etc/resolv.conf": "../../host/etc/resolv.conf"}, "", ErrUnlike},
		{"its directory is a link", true, map[string]string{"etc": "DIR/host/etc"}, "", ErrUnlike},
		{"a link to nothing inside", true, map[string]string{"etc/resolv.conf": "nothing"}, "[127.0.0.1:53]", nil},
		{"the host's", false, nil, "[127.0.0.1:53]", nil},
	} {
		dir := t.TempDir()
		write := func(name, text string) {
			t.Helper()
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("host/etc/resolv.conf", "nameserver 127.0.0.1\n")
		write("jail/etc/resolv.conf", "nameserver 127.0.0.2\n")
		write("jail/run/resolv.conf", "nameserver 127.0.0.3\n")
		for name, to := range tc.links {
			path := filepath.Join(dir, "jail", name)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(strings.Replace(to, "DIR", dir, 1), path); err != nil {
				t.Fatal(err)
			}
		}
		s := Setup{ResolvConf: filepath.Join(dir, "host/etc/resolv.conf")}
		if tc.chrooted {
			s = Setup{ResolvConf: filepath.Join(dir, "jail/etc/resolv.conf"), Chrooted: true}
		}
		got, err := s.Resolvers()
		if !errors.Is(err, tc.err) || tc.err == nil && fmt.Sprint(got) != tc.want {
			t.Errorf("%s: %v, %v; want %s, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
}

// TestResolvConfUnreadable: what could not be read is no word of where they are.
func TestResolvConfUnreadable(t *testing.T) {
	dir := t.TempDir()
	for _, chrooted := range []bool{false, true} {
		path := filepath.Join(dir, fmt.Sprint(chrooted), resolvConf)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := (Setup{ResolvConf: path, Chrooted: chrooted}).Resolvers(); !errors.Is(err, ErrExamine) || errors.Is(err, ErrUnlike) {
			t.Errorf("a directory: %v, %v", got, err)
		}
		path = filepath.Join(dir, "none", resolvConf)
		if got, err := (Setup{ResolvConf: path, Chrooted: chrooted}).Resolvers(); err != nil || fmt.Sprint(got) != "[127.0.0.1:53]" {
			t.Errorf("no file: %v, %v", got, err)
		}
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, []byte(strings.Repeat("#\n", maxResolvConf)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := (Setup{ResolvConf: long}).Resolvers(); !errors.Is(err, ErrUnlike) {
		t.Errorf("too long: %v, %v", got, err)
	}
}

func FuzzResolvers(f *testing.F) {
	f.Add("nameserver 127.0.0.53\n")
	f.Add("nameserver ::1\nnameserver fe80::1%eth0 x\noptions edns0\n")
	f.Add(" nameserver 127.1\r\n#\n")
	f.Fuzz(func(t *testing.T, text string) {
		servers, err := resolvers(text)
		if err == nil && (len(servers) == 0 || len(servers) > maxResolvers) {
			t.Errorf("%q: %v", text, servers)
		}
		for _, s := range servers {
			if again, err := netip.ParseAddr(s.Addr().String()); err != nil || again != s.Addr() {
				t.Errorf("%q: %v", text, s)
			}
		}
	})
}

func BenchmarkResolvers(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _ = resolvers("# by hand\nnameserver 127.0.0.53\nnameserver ::1\noptions edns0 trust-ad\nsearch .\n")
	}
}
