package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a box that is booted: its own systemd runs it.
type machine struct {
	box
	boot   *exec.Cmd
	init   int    // systemd's process id, seen from outside
	cgroup string // the name of its own
}

// bootScript makes a directory the root of new namespaces and starts its systemd there.
// $1 is the directory, $2 the cgroup that the machine gets: of version 2, because
// systemd 257 knows no other, and a part of this machine's tree, which it can then
// hold as its own. What a machine must not share with this one, it gets anew.
const bootScript = `set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t cgroup2 cgroup2 mnt
mkdir -p "mnt/$2"
echo $$ >"mnt/$2/cgroup.procs"
umount mnt
exec unshare --pid --uts --ipc --cgroup --fork --kill-child sh -ec '
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for d in null zero full random urandom tty; do : >dev/$d; mount --bind /dev/$d dev/$d; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
hostname mta
mkdir -p .outside
pivot_root . .outside
umount -l .outside
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb /sbin/init
'`

// boot starts the machine in its network namespace, and waits until all that it starts
// by itself has been started.
func (b box) boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{box: b, cgroup: string(b.mta)}
	// A machine-id that is there is one boot less of its life: the first one presets
	// units, which an installed machine's has behind it.
	if err := b.write(map[string]string{"etc/machine-id": strings.Repeat("1ab0", 8) + "\n", "etc/hostname": "mta\n"}); err != nil {
		t.Fatal(err)
	}
	m.boot = exec.Command("ip", "netns", "exec", string(b.mta), "unshare", "--mount", "sh", "-c", bootScript, "sh", b.root, m.cgroup)
	m.boot.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	m.boot.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	spawn(t, m.boot, filepath.Join(filepath.Dir(b.root), filepath.Base(b.root)+".console"))
	t.Cleanup(func() { m.off(t) })
	err := eventually(t.Context(), func() bool {
		m.init = onlyChild(m.boot.Process.Pid)
		if m.init == 0 {
			return false
		}
		out, _ := m.run(t.Context(), "systemctl", "is-system-running")
		return strings.HasPrefix(out, "running") || strings.HasPrefix(out, "degraded")
	})
	if err != nil {
		out, _ := m.run(t.Context(), "systemctl", "list-jobs")
		t.Fatalf("%s does not boot: %v\n%s%s", b.name, err, out, tail(b.root+".console", 20))
	}
	return m
}

// onlyChild returns a process's child; 0 while it has none.
func onlyChild(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	child, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return child
}

// off ends the machine as a power cut does, and removes its cgroups.
func (m *machine) off(t *testing.T) {
	if m.init != 0 {
		_ = syscall.Kill(m.init, syscall.SIGKILL) // gone already: as wished
	}
	_ = m.boot.Process.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's own is over
	defer cancel()
	var last error
	err := eventually(ctx, func() bool { // its processes take a moment to go
		_, last = cgroups(ctx, `[ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} +`, m.cgroup)
		return last == nil
	})
	if err != nil {
		t.Error(err, last)
	}
}

// cgroups runs a script at the root of this machine's cgroups of version 2, wherever
// they are mounted, or are not.
func cgroups(ctx context.Context, script string, args ...string) (string, error) {
	const enter = `mount -t cgroup2 cgroup2 "$1"; cd "$1"; shift; `
	return command(ctx, append([]string{"unshare", "--mount", "sh", "-ec", enter + script, "sh", os.TempDir()}, args...)...)
}

// removeStaleCgroups removes what machines left behind whose test is gone. Their
// processes went with their namespaces.
func removeStaleCgroups(ctx context.Context) error {
	out, err := cgroups(ctx, "ls")
	for _, name := range strings.Fields(out) {
		if ownerless(name) {
			_, failed := cgroups(ctx, `find "$1" -depth -type d -exec rmdir {} +`, name)
			err = errors.Join(err, failed)
		}
	}
	return err
}

// run runs a command on the machine, as root at its console would, and returns what it
// prints, on an error too.
func (m *machine) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"}, args...)...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive"}
	out, err := c.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// must is run for commands that cannot fail.
func (m *machine) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exits runs a command for its exit code.
func (m *machine) exits(t *testing.T, args ...string) int {
	t.Helper()
	_, err := m.run(t.Context(), args...)
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		return failed.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

// until waits for a command to print something.
func (m *machine) until(t *testing.T, want string, args ...string) {
	t.Helper()
	var out string
	err := eventually(t.Context(), func() bool {
		out, _ = m.run(t.Context(), args...)
		return strings.Contains(out, want)
	})
	if err != nil {
		t.Fatalf("%s never says %q: %s\n%s", strings.Join(args, " "), want, out, m.journal(t))
	}
}

// journal is the end of what the machine's services have logged.
func (m *machine) journal(t *testing.T) string {
	t.Helper()
	out, _ := m.run(t.Context(), "journalctl", "--no-pager", "-n", "60", "-o", "short")
	return out
}

// property is one of a unit's.
func (m *machine) property(t *testing.T, unit, name string) string {
	t.Helper()
	return strings.TrimSpace(m.must(t, "systemctl", "show", "--value", "-p", name, unit))
}
