package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlsverdict/postfixmap"
)

// serviceFile is the unit that packages take.
const serviceFile = "../../contrib/systemd/tlsverdict-policyd.service"

// directives are the settings of a unit file by name, each with its values in order.
func directives(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	found := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			found[name] = append(found[name], value)
		}
	}
	return found
}

// TestServiceLetsPostconfRun: policyd runs postconf(1) and reads what belongs to
// Postfix, under the rules of the unit. Whether postconf works under its address
// families is seen in the lab, on real ones (lab/unit_test.go); here stands that
// nobody takes one away, or adds a rule that hides Postfix.
func TestServiceLetsPostconfRun(t *testing.T) {
	unit := directives(t, serviceFile)
	families := strings.Fields(strings.Join(unit["RestrictAddressFamilies"], " "))
	for _, f := range []string{"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} {
		if !slices.Contains(families, f) {
			t.Errorf("RestrictAddressFamilies=%v lacks %s", families, f)
		}
	}
	for _, name := range []string{"ExecPaths", "InaccessiblePaths", "NoExecPaths", "RootDirectory", "RootImage", "TemporaryFileSystem"} {
		if values := unit[name]; values != nil {
			t.Errorf("%s=%v: can policyd still run /usr/sbin/postconf, and read /etc/postfix, the queue directory's etc/resolv.conf and /usr/share/dns/root.ds?", name, values)
		}
	}
	if got, want := unit["SystemCallFilter"], []string{"@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self", "~@privileged @resources"}; !slices.Equal(got, want) {
		t.Errorf("SystemCallFilter=%v, want %v: does postconf still run?", got, want)
	}
}

// TestSystemd runs policyd as systemd does: with as many files as the unit allows, a
// socket that is passed to it, and one that it tells readiness, reload and stopping on.
func TestSystemd(t *testing.T) {
	dir := t.TempDir()
	binary, err := os.Executable()
	check(t, err)
	policyd := filepath.Join(dir, "policyd")
	check(t, os.Symlink(binary, policyd))
	config := filepath.Join(dir, "policyd.toml")
	check(t, os.WriteFile(config, fmt.Appendf(nil, "[socketmap]\nlisten = [\"unix:%s/own.sock\"]\n[store]\npath = \"\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n[[override]]\ndomain = \"example.com\"\npolicy = \"encrypt\"\n", dir), 0o600))

	passed, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	file, err := passed.(*net.TCPListener).File()
	check(t, err)
	notes, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	check(t, err)

	files := directives(t, serviceFile)["LimitNOFILE"]
	if len(files) != 1 {
		t.Fatalf("LimitNOFILE=%v in the unit, want one", files)
	}
	// LISTEN_PID must be the process that gets the socket; only a shell can know it.
	cmd := exec.Command("sh", "-c", `ulimit -n "$2" && LISTEN_PID=$$ exec "$0" serve --config "$1"`, policyd, config, files[0])
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	cmd.ExtraFiles = []*os.File{file}
	var out strings.Builder
	cmd.Stderr = &out
	check(t, cmd.Start())
	check(t, file.Close())
	check(t, passed.Close())

	told := func(want string) {
		t.Helper()
		check(t, notes.SetReadDeadline(time.Now().Add(10*time.Second)))
		buf := make([]byte, 512)
		n, err := notes.Read(buf)
		if err != nil || !strings.Contains(string(buf[:n]), want) {
			t.Errorf("systemd was told %q, %v; want %s", buf[:n], err, want)
		}
	}
	told("READY=1")
	for _, address := range []string{"inet:" + passed.Addr().String(), "unix:" + dir + "/own.sock"} {
		a, err := postfixmap.ParseAddress(address)
		check(t, err)
		reply, err := (&postfixmap.Client{Address: a}).Lookup(context.Background(), "postfix", "example.com")
		if err != nil || reply.Status != postfixmap.StatusOK {
			t.Errorf("%s: %v %v", address, reply, err)
		}
	}
	check(t, cmd.Process.Signal(syscall.SIGHUP))
	told("RELOADING=1")
	told("READY=1")
	check(t, cmd.Process.Signal(syscall.SIGTERM))
	told("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "files="+files[0]+" connections=4096 ") {
		t.Errorf("LimitNOFILE=%s does not suffice for the defaults:\n%s", files[0], out.String())
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
