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
	"strings"
	"testing"
)

// box is the machine that one mail server runs on: a root directory and a network
// namespace. All that is the same for every mail server is done here.
type box struct {
	name  string // "postfix-3.10"
	label string // of one of several machines with that program
	root  string // seen from outside
	mta   namespace
}

// server and version are the two halves of the name.
func (b box) server() string  { s, _, _ := strings.Cut(b.name, "-"); return s }
func (b box) version() string { _, v, _ := strings.Cut(b.name, "-"); return v }

// path returns where a file of the machine is, seen from outside.
func (b box) path(file string) string { return filepath.Join(b.root, file) }

// write writes files of the machine, and the directories that they need.
func (b box) write(files map[string]string) error {
	for file, text := range files {
		if err := os.MkdirAll(filepath.Dir(b.path(file)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(b.path(file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes what matches the patterns.
func (b box) remove(patterns ...string) error {
	for _, pattern := range patterns {
		files, err := filepath.Glob(b.path(pattern))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.RemoveAll(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// contrib returns a file of contrib, as it is.
func contrib(file string) (string, error) {
	text, err := os.ReadFile(filepath.Join("../contrib", file))
	return string(text), err
}

// run runs a command on the machine and returns what it prints.
func (b box) run(ctx context.Context, args ...string) (string, error) {
	out, err := b.mta.command(ctx, b.root, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// spawn runs a daemon on the machine, until the test ends.
func (b box) spawn(ctx context.Context, t *testing.T, log string, args ...string) *exec.Cmd {
	t.Helper()
	return spawn(t, b.mta.command(ctx, b.root, args...), b.path(log))
}

// dial connects to the mail server's port 25.
func (b box) dial() (net.Conn, error) { return b.mta.dial("tcp", "127.0.0.1:25") }

// awaitSMTP waits until the mail server takes mail; what its logs say last is
// shown where it does not.
func (b box) awaitSMTP(ctx context.Context, t *testing.T, logs ...string) {
	t.Helper()
	var failure error
	err := eventually(ctx, func() bool {
		failure = sendMail(ctx, b.dial)
		return failure == nil
	})
	if err != nil {
		var said strings.Builder
		for _, log := range logs {
			said.WriteString(tail(b.path(log), 20))
		}
		t.Fatalf("%s does not start: %v: %v\n%s", b.name, err, failure, said.String())
	}
}

// submit hands a message to the sendmail command, as a user of the machine does.
func (b box) submit(ctx context.Context, sender, message string, recipients ...string) error {
	c := b.mta.command(ctx, b.root, append([]string{"/usr/sbin/sendmail", "-i", "-f", sender}, recipients...)...)
	c.Stdin = strings.NewReader(message)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("sendmail: %w: %s", err, out)
	}
	return nil
}

// syslog takes what programs of the machine write to /dev/log, and keeps it in a
// file, a line each without its priority, until the test ends.
func (b box) syslog(t *testing.T, file string) {
	t.Helper()
	socket := b.path("dev/log")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	in, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(b.path(file), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1<<16)
		for {
			n, err := in.Read(buffer)
			if err != nil {
				return // closed
			}
			line := strings.TrimRight(string(buffer[:n]), "\n\x00")
			if _, rest, ok := strings.Cut(line, ">"); ok && strings.HasPrefix(line, "<") {
				line = rest
			}
			fmt.Fprintln(out, line)
		}
	}()
	t.Cleanup(func() { in.Close(); <-done; out.Close() })
}

func TestSyslog(t *testing.T) {
	b := box{root: t.TempDir()}
	if err := os.Mkdir(b.path("dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.syslog(t, "mail.log")
	c, err := net.Dial("unixgram", b.path("dev/log"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "<22>Nov 23 13:12:01 sendmail[7]: 4B1: stat=Sent\n\x00")
	err = eventually(t.Context(), func() bool {
		text, _ := os.ReadFile(b.path("mail.log"))
		return string(text) == "Nov 23 13:12:01 sendmail[7]: 4B1: stat=Sent\n"
	})
	if err != nil {
		t.Error(err, tail(b.path("mail.log"), 3))
	}
}
