package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the environment tells this binary to be.
const (
	wanted    = "TLSVERDICT_FLEET"        // "1"
	insideEnv = "TLSVERDICT_FLEET_INSIDE" // the namespaces are made; names the directory with policyd
	redisEnv  = "TLSVERDICT_FLEET_REDIS"  // where Redis is unpacked
)

func TestMain(m *testing.M) {
	if os.Getenv(wanted) == "" || os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	code, err := launched()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		code = 1
	}
	os.Exit(code)
}

// called reports whether the fleet was asked for. A test that needs it says that it did
// nothing, and passes, where it was not.
func called(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		t.Log("no fleet here: " + wanted + " is not set. make fleet sets it")
		return false
	}
	return true
}

// launched builds policyd and runs this binary again, in namespaces of its own.
func launched() (int, error) {
	redis, err := exec.Command("./setup").Output()
	if err != nil {
		return 1, fmt.Errorf("setup: %w", err)
	}
	dir, err := os.MkdirTemp("", "tlsverdict-fleet-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, "tlsverdict/cmd/policyd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"="+dir, redisEnv+"="+strings.TrimSpace(string(redis)))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the child dies with this thread
	signal.Ignore(os.Interrupt)
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Where everything is: node i at 10.77.i.2, Redis at 10.77.9.2 and up, the internet behind
// the rest.
const (
	nodes     = 3
	dnsServer = "10.77.0.1"
	redisNet  = "10.77.9."
)

// network makes the namespaces: one for each node, and one for Redis.
func network(t *testing.T) {
	t.Helper()
	must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(t, syscall.Mount("proc", "/proc", "proc", 0, ""))
	must(t, os.MkdirAll("/run/netns", 0o755))
	// ip keeps names of namespaces there: nobody else shall see them.
	must(t, syscall.Mount("fleet", "/run/netns", "tmpfs", 0, ""))
	ip(t, "link set lo up")
	ip(t, "addr add "+dnsServer+"/32 dev lo")
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	for i := range nodes {
		space(t, fmt.Sprintf("node%d", i+1), fmt.Sprintf("10.77.%d.", i+1))
	}
	space(t, "redis", redisNet)
	for i := 3; i < 10; i++ {
		ip(t, fmt.Sprintf("-n redis addr add %s%d/24 dev eth0", redisNet, i))
	}
}

// space makes one namespace with a way out.
func space(t *testing.T, name, net string) {
	t.Helper()
	ip(t, "netns add "+name)
	ip(t, fmt.Sprintf("link add to-%s type veth peer name eth0 netns %s", name, name))
	ip(t, fmt.Sprintf("addr add %s1/24 dev to-%s", net, name))
	ip(t, "link set to-"+name+" up")
	ip(t, fmt.Sprintf("-n %s addr add %s2/24 dev eth0", name, net))
	ip(t, "-n "+name+" link set lo up")
	ip(t, "-n "+name+" link set eth0 up")
	ip(t, fmt.Sprintf("-n %s route add default via %s1", name, net))
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// cut keeps a node and Redis from each other: neither hears anything, until mend.
func cut(t *testing.T, node int) {
	t.Helper()
	ip(t, fmt.Sprintf("-n redis route add blackhole 10.77.%d.0/24", node))
}

func mend(t *testing.T, node int) {
	t.Helper()
	ip(t, fmt.Sprintf("-n redis route del blackhole 10.77.%d.0/24", node))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// figure prints what was measured.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("figure: "+format, args...)
}

// eventually polls a condition until it holds; false when the time is over.
func eventually(ctx context.Context, limit time.Duration, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return holds()
		}
	}
	return true
}

// elapse lets real time pass: a fault has to last.
func elapse(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// unpacked is a file of the unpacked Redis, and what it needs to run.
func unpacked(name string) (path, env string) {
	root := os.Getenv(redisEnv)
	libs := []string{filepath.Join(root, "usr/lib/x86_64-linux-gnu"), filepath.Join(root, "lib/x86_64-linux-gnu"), filepath.Join(root, "usr/lib/aarch64-linux-gnu"), filepath.Join(root, "lib/aarch64-linux-gnu")}
	return filepath.Join(root, "usr/bin", name), "LD_LIBRARY_PATH=" + strings.Join(libs, ":")
}
