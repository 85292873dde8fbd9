package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestExitCodes: a supervisor must not start again what only an editor can mend.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.toml")
	check(t, os.WriteFile(bad, []byte("lissen = 1\n"), 0o600))
	for _, tc := range []struct {
		args []string
		want int
	}{
		{[]string{"serve", "--config", bad}, exitUsage},
		{[]string{"serve", "--config", filepath.Join(dir, "missing.toml")}, exitUsage},
		{[]string{"check-config", "--config", bad}, exitNegative},
		{[]string{"query", "--socket", "unix:" + dir + "/none", "postfix", "example.com"}, exitUsage},
		{[]string{"query", "one"}, exitUsage},
		{[]string{"nosuch"}, exitUsage},
		{[]string{"explain", "a..b"}, exitUsage},
		{[]string{"explain", "192.0.2.1"}, exitFine},
		{[]string{"version"}, exitFine},
	} {
		if got := run(context.Background(), tc.args, streams{io.Discard, io.Discard}); got != tc.want {
			t.Errorf("policyd %v: exit code %d, want %d", tc.args, got, tc.want)
		}
	}
}

// TestCalled: help and completions name the program as its user does.
func TestCalled(t *testing.T) {
	for path, want := range map[string]string{
		"policyd": "policyd", "bin/policyd": "policyd", "/tmp/policyd.test": "policyd", "": "policyd",
		"tlsverdict-policyd": "tlsverdict-policyd", "/usr/bin/tlsverdict-policyd": "tlsverdict-policyd",
	} {
		if got := called(path); got != want {
			t.Errorf("called(%q) = %q, want %q", path, got, want)
		}
	}
}
