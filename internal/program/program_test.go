package program

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
)

// debianPostfix is what postconf of Debian 12 prints.
const debianPostfix = `mail_version = 3.7.11
queue_directory = /var/spool/postfix
smtp_dns_support_level =
smtp_host_lookup = dns
`

// TestFind: the first name goes before the first directory, links stay below the root, and
// what cannot be run is no program.
func TestFind(t *testing.T) {
	m := Machine{Root: t.TempDir(), Path: []string{"relative", "/usr/sbin", "/usr/lib"}}
	for _, dir := range []string{"usr/sbin", "usr/lib", "etc/alternatives"} {
		if err := os.MkdirAll(m.At(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"usr/lib/exim4": 0o755, "usr/sbin/exim": 0o755, "usr/sbin/data": 0o644, "usr/lib/real": 0o755} {
		if err := os.WriteFile(m.At(name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"usr/sbin/linked": "/etc/alternatives/linked", "etc/alternatives/linked": "../../usr/lib/real",
		"usr/sbin/loop": "loop", "usr/sbin/dangling": "/usr/lib/none",
	} {
		if err := os.Symlink(to, m.At(name)); err != nil {
			t.Fatal(err)
		}
	}
	for names, want := range map[string]string{
		"exim4 exim": "usr/lib/exim4", "exim exim4": "usr/sbin/exim", "data": "", "linked": "usr/sbin/linked", "loop": "", "dangling": "", "none": "",
	} {
		if want != "" {
			want = m.At(want)
		}
		if got := m.Find(strings.Fields(names)...); got != want {
			t.Errorf("%s: %q, want %q", names, got, want)
		}
	}
	if got := (Machine{}).Find("sh"); got != "" {
		t.Errorf("the zero machine has %s", got)
	}
}

// TestReadFile: what is too long is not cut.
func TestReadFile(t *testing.T) {
	m := Machine{Root: t.TempDir()}
	if err := os.WriteFile(m.At("short"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := m.ReadFile("/short"); err != nil || string(text) != "x" {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.WriteFile(m.At("long"), make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReadFile("long"); !errors.Is(err, ErrTooLong) {
		t.Errorf("%v", err)
	}
	if _, err := m.ReadFile("none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestRun: what a program may do to the one that runs it is bounded.
func TestRun(t *testing.T) {
	if out, err := Run(t.Context(), "/bin/echo", "a = b"); err != nil || string(out) != "a = b\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := Run(t.Context(), "/bin/sh", "-c", "echo no such thing >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("a program that fails: %v", err)
	}
	if _, err := Run(t.Context(), "/bin/sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"); err == nil {
		t.Error("a program that never ends to write: no error")
	}
	if _, err := Run(t.Context(), "/nonexistent/postconf"); err == nil {
		t.Error("a program that is not there: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, "/bin/sh", "-c", "sleep 60"); !errors.Is(err, context.Canceled) {
		t.Errorf("a program that hangs: %v", err)
	}
	t.Setenv("MAIL_CONFIG", "/tmp")
	if out, err := Run(t.Context(), "/bin/sh", "-c", "echo $MAIL_CONFIG"); err != nil || string(out) != "\n" {
		t.Errorf("the environment leads it elsewhere: %q, %v", out, err)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add(debianPostfix)
	f.Add("smtp/unix/chroot = y\n")
	f.Add(" a = b\n\tc = d\ne\n= f\ng = h = i")
	f.Fuzz(func(t *testing.T, text string) {
		for name, value := range Settings(text) {
			if strings.TrimSpace(name) != name || strings.TrimSpace(value) != value || strings.Contains(value, "\n") {
				t.Errorf("%q = %q", name, value)
			}
		}
	})
}

func BenchmarkSettings(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Settings(debianPostfix)
	}
}

// TestSilence: a program that fails and says nothing is told apart from one that says why.
func TestSilence(t *testing.T) {
	if _, err := Run(t.Context(), "/bin/sh", "-c", "exit 1"); !errors.Is(err, ErrSilent) {
		t.Errorf("%v", err)
	}
	if _, err := Run(t.Context(), "/bin/sh", "-c", "echo why >&2; exit 1"); err == nil || errors.Is(err, ErrSilent) {
		t.Errorf("%v", err)
	}
}
