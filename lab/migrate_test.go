package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlsverdict/internal/config"
	"tlsverdict/internal/migrate"
)

// TestMigrateDebian: the configuration that Debian's postfix-mta-sts-resolver installs, and
// those in its examples, migrate without a key that is not known. They are read from the
// package as apt has it.
func TestMigrateDebian(t *testing.T) {
	if os.Getenv("TLSVERDICT_LAB") != "1" {
		t.Log("Debian's package is not fetched: TLSVERDICT_LAB=1 is not set")
		return
	}
	dir := t.TempDir()
	for _, args := range [][]string{
		{"apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "postfix-mta-sts-resolver"},
		{"sh", "-c", "dpkg-deb -x postfix-mta-sts-resolver_*.deb root"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	var files []string
	for _, pattern := range []string{"root/etc/mta-sts-daemon.yml", "root/usr/share/doc/postfix-mta-sts-resolver/examples/*.yml*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s, %v", pattern, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := migrate.Read(text)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		if _, err := config.Parse("made", []byte(r.TOML)); err != nil || strings.Contains(r.TOML, "is not known here, and was") {
			t.Errorf("%s: %v\n%s", filepath.Base(file), err, r.TOML)
		}
	}
}
