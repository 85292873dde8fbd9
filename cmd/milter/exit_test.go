package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestExitCodes: a wrong configuration must not be started again with.
func TestExitCodes(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("[[require]]\nminimum = 'dane'\nrecipient = 'x'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want int
	}{
		{[]string{"version"}, exitFine},
		{[]string{"--nonsense"}, exitUsage},
		{[]string{"check-config", "--config", bad}, exitNegative},
		{[]string{"serve", "--config", bad}, exitUsage},
		{[]string{"serve", "--config", bad + ".not"}, exitUsage},
	} {
		var out, err bytes.Buffer
		if code := run(context.Background(), tc.args, streams{&out, &err}); code != tc.want {
			t.Errorf("%v: exit code %d, want %d: %s", tc.args, code, tc.want, err.String())
		}
	}
}
