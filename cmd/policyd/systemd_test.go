package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlsverdict/postfixmap"
)

// TestSystemd runs policyd as systemd does: with a socket that it passes, and one
// that it is told of readiness, reload and stopping on.
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

	// LISTEN_PID must be the process that gets the socket; only a shell can know it.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, policyd, config)
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
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
