package siege

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the environment tells this binary to be.
const (
	wanted    = "TLSVERDICT_SIEGE"        // "1": the short form; "full"
	insideEnv = "TLSVERDICT_SIEGE_INSIDE" // the namespaces are made; names policyd, beside which the milter is
	attackEnv = "TLSVERDICT_SIEGE_ATTACK" // an attacker's process
)

var soak = flag.Duration("soak", 0, "how long the soak takes; 0: as long as the form of the siege says")

func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case os.Getenv(attackEnv) != "":
		os.Exit(attack(os.Getenv(attackEnv)))
	case os.Getenv(wanted) == "" || os.Getenv(insideEnv) != "":
		// The resolver and the clients that measure are in one process: let the kernel
		// share the processors between them, as if they were several.
		runtime.GOMAXPROCS(16)
		os.Exit(m.Run())
	}
	code, err := besieged()
	if err != nil {
		fmt.Fprintln(os.Stderr, "siege:", err)
		code = 1
	}
	os.Exit(code)
}

// full reports whether the long form is wanted.
func full() bool { return os.Getenv(wanted) == "full" }

// short returns the first in the short form, the second in the full one.
func short[T any](brief, long T) T {
	if full() {
		return long
	}
	return brief
}

// called reports whether the siege was asked for. A test that needs it says that it
// did nothing, and passes, where it was not.
func called(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		t.Log("not under siege here: " + wanted + " is not set. make test sets it")
		return false
	}
	return true
}

// besieged builds the daemons and runs this binary again, in namespaces of its own.
func besieged() (int, error) {
	dir, err := os.MkdirTemp("", "tlsverdict-siege-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	policyd := filepath.Join(dir, "policyd")
	build := exec.Command("go", "build", "-o", dir, "tlsverdict/cmd/policyd", "tlsverdict/cmd/milter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"="+policyd)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // the child dies with this thread
	signal.Ignore(os.Interrupt)
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// prepare makes the network of the namespace usable, once a test: it is idempotent.
func prepare(t *testing.T) {
	t.Helper()
	must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	if pid, _ := os.Readlink("/proc/self"); pid != strconv.Itoa(os.Getpid()) {
		must(t, syscall.Mount("proc", "/proc", "proc", 0, ""))
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	must(t, err)
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	must(t, unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo))
	// An attacker who opens thousands of connections a second must not run out of
	// ports before the daemon runs out of anything.
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("1025 65535"), 0))
	must(t, os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// figure prints what one run came to.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("figure: "+format, args...)
}

// eventually polls a condition until it holds; false when the time is over.
func eventually(ctx context.Context, limit time.Duration, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// elapse lets real time pass: an attack has to last.
func elapse(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func TestNothingIsLeftOutsideTheNamespaces(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	data, err := os.ReadFile("/proc/net/dev")
	must(t, err)
	if n := bytes.Count(data, []byte(":")); n != 1 || !strings.Contains(string(data), "lo:") {
		t.Errorf("there is more than loopback:\n%s", data)
	}
}
