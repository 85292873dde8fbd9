package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// prefix begins the name of everything that a lab leaves outside its own
// memory: network namespaces and directories. The process id follows, so that
// the next run can tell what nobody owns any more.
const prefix = "tlsverdict-lab-"

// namespace is a network namespace as ip-netns(8) keeps them, by name.
type namespace string

// newNamespaces makes the two halves of a lab and the cable between them: mta,
// with a mail server's one address and default route, and net, which has all
// other addresses.
func newNamespaces(ctx context.Context, label string) (mta, internet namespace, err error) {
	base := fmt.Sprintf("%s%d-%s-", prefix, os.Getpid(), label)
	mta, internet = namespace(base+"mta"), namespace(base+"net")
	m, n := string(mta), string(internet)
	commands := [][]string{
		{"netns", "add", m},
		{"netns", "add", n},
		{"link", "add", "eth0", "netns", m, "type", "veth", "peer", "name", "eth0", "netns", n},
		{"-n", m, "link", "set", "lo", "up"},
		{"-n", n, "link", "set", "lo", "up"},
		{"-n", m, "addr", "add", "192.0.2.10/24", "dev", "eth0"},
		{"-n", m, "addr", "add", "2001:db8:1::10/64", "dev", "eth0", "nodad"},
		{"-n", n, "addr", "add", "192.0.2.1/24", "dev", "eth0"},
		{"-n", n, "addr", "add", "2001:db8:1::1/64", "dev", "eth0", "nodad"},
		{"-n", m, "link", "set", "eth0", "up"},
		{"-n", n, "link", "set", "eth0", "up"},
		{"-n", m, "route", "add", "default", "via", "192.0.2.1"},
		{"-n", m, "-6", "route", "add", "default", "via", "2001:db8:1::1"},
		// The kernel answers for a whole prefix that is local to lo.
		{"-n", n, "route", "add", "local", "198.51.100.0/24", "dev", "lo"},
		{"-n", n, "-6", "route", "add", "local", "2001:db8:100::/64", "dev", "lo"},
	}
	for _, c := range commands {
		if out, err := exec.CommandContext(ctx, "ip", c...).CombinedOutput(); err != nil {
			return mta, internet, fmt.Errorf("ip %s: %w: %s", strings.Join(c, " "), err, out)
		}
	}
	// IPv6, unlike IPv4, does not bind to addresses that only a route makes local.
	return mta, internet, internet.inside(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0)
	})
}

// command prepares a command that runs inside, with root as its file system.
// It dies with this process.
func (n namespace) command(ctx context.Context, root string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", string(n), "chroot", root}, args...)...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TERM=" + os.Getenv("TERM")}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// listen makes a listener inside, which may then be used from anywhere.
func (n namespace) listen(address string) (l net.Listener, err error) {
	err = n.inside(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// listenPacket does for UDP what listen does for TCP.
func (n namespace) listenPacket(address string) (c net.PacketConn, err error) {
	err = n.inside(func() (err error) {
		c, err = net.ListenPacket("udp", address)
		return err
	})
	return c, err
}

// dial connects from inside.
func (n namespace) dial(network, address string) (c net.Conn, err error) {
	err = n.inside(func() (err error) {
		c, err = net.DialTimeout(network, address, 5*time.Second)
		return err
	})
	return c, err
}

// inside runs f on a thread that has entered the namespace: sockets stay where
// they were made. The thread goes back afterwards; it must not end, because the
// processes that it has started would die with it (PR_SET_PDEATHSIG).
func (n namespace) inside(f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	there, err := unix.Open("/run/netns/"+string(n), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back) // still locked: nobody else gets a thread that is lost
	}
	runtime.UnlockOSThread()
	return err
}

// remove kills what runs inside, then removes the namespace.
func (n namespace) remove(ctx context.Context) error {
	err := eventually(ctx, func() bool {
		pids, err := exec.CommandContext(ctx, "ip", "netns", "pids", string(n)).Output()
		if err != nil {
			return true // not there, or not ours to mend
		}
		alive := 0
		for _, f := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
				alive++
				_ = syscall.Kill(pid, syscall.SIGKILL) // gone already: as wished
			}
		}
		return alive == 0
	})
	if err != nil {
		return fmt.Errorf("processes in %s do not end: %w", n, err)
	}
	if out, err := exec.CommandContext(ctx, "ip", "netns", "del", string(n)).CombinedOutput(); err != nil {
		return fmt.Errorf("ip netns del %s: %w: %s", n, err, out)
	}
	return nil
}

// removeStale removes what labs left behind whose process is gone, as after a
// kill -9.
func removeStale(ctx context.Context) error {
	namespaces, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range namespaces {
		if ownerless(e.Name()) {
			err = errors.Join(err, namespace(e.Name()).remove(ctx))
		}
	}
	directories, globErr := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	err = errors.Join(err, globErr)
	for _, d := range directories {
		if ownerless(filepath.Base(d)) {
			err = errors.Join(err, os.RemoveAll(d))
		}
	}
	return err
}

// ownerless reports whether a name is a lab's, and that lab's process is gone.
func ownerless(name string) bool {
	rest, ours := strings.CutPrefix(name, prefix)
	digits, _, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(digits)
	if !ours || err != nil {
		return false
	}
	return !alive(pid)
}

// alive reports whether a process runs. A zombie does not.
func alive(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil
}

// patience bounds each wait for something to happen in the lab. policyd's own
// longest answer takes 12 seconds.
const patience = 45 * time.Second

// eventually polls a condition until it holds, patience is at its end, or the
// context is.
func eventually(ctx context.Context, condition func() bool) error {
	return within(ctx, patience, condition)
}

func within(ctx context.Context, bound time.Duration, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func TestOwnerless(t *testing.T) {
	for name, want := range map[string]bool{
		fmt.Sprintf("%s%d-pf-mta", prefix, os.Getpid()): false, // alive
		prefix + "999999999-pf-mta":                     true,  // above the kernel's largest pid
		prefix + "pf-mta":                               false,
		"999999999-pf-mta":                              false,
	} {
		if got := ownerless(name); got != want {
			t.Errorf("ownerless(%q) = %v, want %v", name, got, want)
		}
	}
}
