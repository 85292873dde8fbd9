package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tlsverdict/internal/version"
)

// TestPackages makes the packages and looks at them with Debian's own tools, then
// installs them on machines that boot.
func TestPackages(t *testing.T) {
	if os.Getenv("TLSVERDICT_PACKAGES") != "1" {
		t.Log("packages are not tested here: TLSVERDICT_PACKAGES=1 is not set. make test sets it; it needs root, on Debian")
		return
	}
	s, roots := setUpMachines(t)
	p := &packages{dir: filepath.Join(s.dir, "dist"), tools: roots["tools"]}
	// What is newer is all that the older one is, under another number.
	p.build(t, p.dir, "amd64", "--version", newerVersion)
	p.build(t, p.dir, "amd64", "--version", olderVersion)
	t.Run("static", p.look)
	t.Run("machines", func(t *testing.T) {
		for _, suite := range []string{"bookworm", "trixie"} {
			t.Run("install-"+suite, func(t *testing.T) {
				t.Parallel()
				b := copyMachine(t, s, box{name: suite, label: "-install", root: roots[suite]})
				install{machine: b.boot(t), packages: p}.all(t)
			})
		}
		t.Run("newcomer", func(t *testing.T) {
			t.Parallel()
			newNewcomer(t, s, p, box{name: "bookworm", label: "-newcomer", root: roots["bookworm"]}).all(t)
		})
	})
}

const olderVersion, newerVersion = "0.0.8~older", "0.0.9~newer"

// setUpMachines is setUp for machines that boot; roots are by name.
func setUpMachines(t *testing.T) (site, map[string]string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("packages are tested as root, because machines are booted: run make packages-test as root, or leave TLSVERDICT_PACKAGES unset")
	}
	out, err := command(t.Context(), "./machines")
	if err != nil {
		t.Fatal(err)
	}
	roots := make(map[string]string)
	for line := range strings.Lines(out) {
		name, root, _ := strings.Cut(strings.TrimSpace(line), " ")
		roots[name] = root
	}
	if err := errors.Join(removeStale(t.Context()), removeStaleCgroups(t.Context()), dependOnSources("..")); err != nil {
		t.Fatal(err)
	}
	s := site{dir: filepath.Join(os.TempDir(), fmt.Sprintf("%s%d", prefix, os.Getpid()))}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(s.dir); err != nil {
			t.Error(err)
		}
	})
	return s, roots
}

// copyMachine copies a root that is kept, and makes the network of a machine.
func copyMachine(t *testing.T, s site, kept box) box {
	t.Helper()
	b := kept
	b.root = filepath.Join(s.dir, kept.name+kept.label)
	if _, err := command(t.Context(), "cp", "-a", kept.root, b.root); err != nil {
		t.Fatal(err)
	}
	mta, net, err := newNamespaces(t.Context(), b.name+b.label)
	t.Cleanup(func() {
		l := lab{box: box{mta: mta}, net: net}
		l.removeNamespaces(t)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.mta = mta
	return b
}

// packages are those that were built, and the root whose programs look at them.
type packages struct {
	dir   string
	tools string
}

// build runs contrib/packaging/build as an operator does, in an environment that says
// nothing of the time.
func (p *packages) build(t *testing.T, dir, arches string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "../contrib/packaging/build", append(args, dir)...)
	c.Env = append(os.Environ(), "ARCHES="+arches)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// deb names the package of a daemon, in a version.
func (p *packages) deb(program, version string) string {
	return filepath.Join(p.dir, fmt.Sprintf("tlsverdict-%s_%s_amd64.deb", program, version))
}

// tool runs a script in the root with tools, where the packages are at /mnt, the tree
// at /srv, and nothing that is written stays.
func (p *packages) tool(ctx context.Context, script string) (string, error) {
	const enter = `set -e; mount --make-rprivate /
mount --bind "$2" "$1/mnt"; mount --bind "$3" "$1/srv"; mount -t tmpfs tmp "$1/tmp"; mount -t proc proc "$1/proc"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 sh -ec "$4"`
	tree, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	c := exec.CommandContext(ctx, "unshare", "--mount", "sh", "-c", enter, "sh", p.tools, p.dir, tree, script)
	c.Stdout, c.Stderr = &out, &out
	err = c.Run()
	return out.String(), err
}

// look is what can be said of packages without installing them.
func (p *packages) look(t *testing.T) {
	t.Run("reproducible", p.reproducible)
	for name, script := range map[string]string{
		// Not one tag, but what is overridden, with a reason.
		"lintian": `lintian --allow-root --tag-display-limit 0 --fail-on error,warning /mnt/*newer*.deb`,
		// What each package must not say is not in this list: a static binary, no
		// signature, and no changelog of rpm's own.
		"rpm": `rpm -qp --qf '%{name} %{version} %{arch}\n' /mnt/*newer*.rpm
for f in /mnt/*newer*.rpm; do rpm -qpl $f | grep -q /usr/bin/tlsverdict-; rpm -qp --scripts $f | grep -q 'systemctl --no-reload preset'; rpm -K --nosignature $f; done
! rpmlint /mnt/*newer*.rpm | grep ': E: ' | grep -v 'statically-linked-binary\|no-signature\|no-changelogname-tag\|not-listed-as-documentation /usr/share/man'`,
		"spec":     `rpmspec -P --define '_sourcedir /tmp' /srv/contrib/packaging/rpm/tlsverdict.spec >/dev/null && rpmspec -q --qf '%{name} %{version}\n' /srv/contrib/packaging/rpm/tlsverdict.spec`,
		"debian":   `dpkg-parsechangelog -l /srv/contrib/packaging/debian/changelog -S Version`,
		"apparmor": `for p in /srv/contrib/apparmor/*; do apparmor_parser -Q -K "$p"; done`,
		"manuals":  `for p in policyd milter; do dpkg-deb --fsys-tarfile /mnt/tlsverdict-${p}_*newer*.deb | tar -xC /tmp; done; cd /tmp/usr/share/man && for m in man*/*.gz; do zcat $m >/tmp/page && mandoc -Tlint -Werror /tmp/page; done; mandoc -Tutf8 man8/tlsverdict-policyd.8.gz | head -3 | grep -q TLSVERDICT-POLICYD`,
		// Each shell reads its own, and bash finds a command by it.
		"completions": `for p in policyd milter; do dpkg-deb --fsys-tarfile /mnt/tlsverdict-${p}_*newer*.deb | tar -xC /tmp; bash -n /tmp/usr/share/bash-completion/completions/tlsverdict-$p; zsh -n /tmp/usr/share/zsh/vendor-completions/_tlsverdict-$p; fish -n /tmp/usr/share/fish/vendor_completions.d/tlsverdict-$p.fish; /tmp/usr/bin/tlsverdict-$p __complete check | grep check-config; done`,
	} {
		t.Run(name, func(t *testing.T) {
			out, err := p.tool(t.Context(), script)
			t.Log(out)
			if err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("exposure", p.exposure)
	t.Run("version", p.version)
}

// exposureLimit is what systemd-analyze may give a service at most, of 100.
const exposureLimit = 13

// exposure asks the systemd of trixie; that of bookworm is asked on a machine.
func (p *packages) exposure(t *testing.T) {
	for _, unit := range []string{"tlsverdict-policyd.service", "tlsverdict-milter.service"} {
		out, err := p.tool(t.Context(), fmt.Sprintf("systemd-analyze security --offline=true --no-pager --threshold=%d /srv/contrib/systemd/%s", exposureLimit, unit))
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		t.Log(regexp.MustCompile("Overall .*").FindString(out))
	}
}

// reproducible builds the newer packages again, at another place, and compares.
func (p *packages) reproducible(t *testing.T) {
	again := filepath.Join(t.TempDir(), "again")
	p.build(t, again, "amd64", "--version", newerVersion)
	files, err := filepath.Glob(filepath.Join(again, "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%v: %v, want two deb and two rpm", files, err)
	}
	for _, file := range files {
		first, err1 := os.ReadFile(filepath.Join(p.dir, filepath.Base(file)))
		second, err2 := os.ReadFile(file)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(first) != sha256.Sum256(second) {
			t.Errorf("%s is not the same each time", filepath.Base(file))
		}
	}
}

// version: the program says what internal/version has, and the conffiles, with all
// their comments, are the defaults.
func (p *packages) version(t *testing.T) {
	out, err := p.tool(t.Context(), `for p in policyd milter; do dpkg-deb --fsys-tarfile /mnt/tlsverdict-${p}_*newer*.deb | tar -xC /tmp
/tmp/usr/bin/tlsverdict-$p version; /tmp/usr/bin/tlsverdict-$p check-config --config /tmp/etc/tlsverdict/$p.toml; grep -c '^[a-z]' /tmp/etc/tlsverdict/$p.toml || true; done`)
	if err != nil {
		t.Fatal(err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	lines = slices.DeleteFunc(lines, func(s string) bool { return strings.Contains(s, "warning: ") })
	for i, want := range []string{"policyd " + version.Number, "/tmp/etc/tlsverdict/policyd.toml: ok", "0", "milter " + version.Number, "/tmp/etc/tlsverdict/milter.toml: ok", "0"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d of %q, want %q", i, lines, want)
		}
	}
}
