package siege

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlsverdict/postfixmap"
)

// The daemon's addresses in the namespace.
const (
	tcpAddress = "inet:127.0.0.1:8461"
	dnsAddress = "127.0.0.53:53"
)

// daemon is a running policyd.
type daemon struct {
	t      *testing.T
	dir    string
	config string
	cmd    *exec.Cmd
	gone   chan struct{} // closed when the process has ended

	mu  sync.Mutex
	log []string
}

// settings are what a test wants otherwise than the siege's own configuration.
type settings struct {
	socketmap, dns, sts, cache string
	more                       string // tables of its own; DIR is a directory of the test's own
	dnssec                     string // "validate", which "" is, or "trust-ad"
	store                      string // a path; default is in a directory of the test's own
	files                      int    // ulimit -n; 0 leaves it
	fileSize                   int64  // RLIMIT_FSIZE in bytes; 0 leaves it
	uid                        int    // 0: root
}

// launch starts policyd and waits until it answers. It ends with the test.
func launch(t *testing.T, s settings) *daemon {
	t.Helper()
	// A unix socket's path has 107 bytes at most.
	dir, err := os.MkdirTemp("", "siege")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	if s.store == "" {
		s.store = filepath.Join(dir, "store", "policyd.db")
	}
	ca, err := authorityFile(dir)
	must(t, err)
	anchors, err := signer.anchorFile(dir)
	must(t, err)
	proof := fmt.Sprintf("dnssec = \"validate\"\ntrust_anchors = %q", anchors)
	if s.dnssec == "trust-ad" {
		proof = `dnssec = "trust-ad"`
	}
	d := &daemon{t: t, dir: dir, config: filepath.Join(dir, "policyd.toml")}
	text := fmt.Sprintf(`[socketmap]
listen = [%q, "unix:%s/map.sock"]
%s
[dns]
servers = [%q]
%s
%s
[postfix]
dane = "native"
[mta_sts]
allow_networks = ["127.0.0.0/8"]
ca_file = %q
%s
[cache]
%s
[store]
path = %q
%s
`, tcpAddress, dir, s.socketmap, dnsAddress, proof, s.dns, ca, s.sts, s.cache, s.store, strings.ReplaceAll(s.more, "DIR", dir))
	must(t, os.WriteFile(d.config, []byte(text), 0o644))
	d.start(s)
	// Who waits for an answer would keep a stop waiting.
	t.Cleanup(func() { d.kill() })
	return d
}

// start runs the process. What it writes is kept line by line.
func (d *daemon) start(s settings) {
	d.t.Helper()
	command := []string{os.Getenv(insideEnv), "serve", "--config", d.config}
	var limits []string
	if s.files > 0 {
		limits = append(limits, fmt.Sprintf("--nofile=%d:%d", s.files, s.files))
	}
	if s.fileSize > 0 {
		limits = append(limits, fmt.Sprintf("--fsize=%d:%d", s.fileSize, s.fileSize))
	}
	if limits != nil {
		command = append(append([]string{"prlimit"}, limits...), command...)
	}
	d.cmd = exec.Command(command[0], command[1:]...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if s.uid != 0 {
		d.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.uid)}
	}
	d.begin(d.cmd.Start)
}

// begin starts the process by a function, and waits until it answers.
func (d *daemon) begin(start func() error) {
	d.t.Helper()
	d.follow(start)
	ready := eventually(d.t.Context(), 20*time.Second, func() bool {
		reply, err := d.ask("postfix", ".ready")
		return err == nil && reply == "NOTFOUND "
	})
	if !ready {
		d.t.Fatalf("policyd does not answer:\n%s", d.tail(40))
	}
}

// follow starts the process by a function, and keeps what it logs.
func (d *daemon) follow(start func() error) {
	d.t.Helper()
	stderr, err := d.cmd.StderrPipe()
	must(d.t, err)
	must(d.t, start())
	d.gone = make(chan struct{})
	go func() {
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			d.mu.Lock()
			d.log = append(d.log, lines.Text())
			if len(d.log) > 300_000 {
				d.log = d.log[100_000:]
			}
			d.mu.Unlock()
		}
		_ = d.cmd.Wait()
		close(d.gone)
	}()
}

func (d *daemon) stop() {
	select {
	case <-d.gone:
		return
	default:
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.gone:
	case <-time.After(20 * time.Second):
		d.t.Error("policyd does not stop")
		d.kill()
	}
}

// kill ends it as a crash would.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.gone
}

// alive fails the test when the process has ended.
func (d *daemon) alive() {
	d.t.Helper()
	select {
	case <-d.gone:
		d.t.Fatalf("policyd has ended:\n%s", d.tail(60))
	default:
	}
}

func (d *daemon) tail(n int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.log[max(0, len(d.log)-n):], "\n")
}

// said counts the log lines that have a text.
func (d *daemon) said(text string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, line := range d.log {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// ask asks one question on a connection of its own.
func (d *daemon) ask(mapName, key string) (string, error) {
	address, err := postfixmap.ParseAddress(tcpAddress)
	if err != nil {
		return "", err
	}
	c := &postfixmap.Client{Address: address, Timeout: 20 * time.Second}
	defer func() { _ = c.Close() }()
	reply, err := c.Lookup(context.Background(), mapName, key)
	if err != nil {
		return "", err
	}
	return reply.Status.String() + " " + string(reply.Data), nil
}

// want asks for a policy and fails the test where it is another. A TEMP's reason is
// not compared.
func (d *daemon) want(key, want string) {
	d.t.Helper()
	got, err := d.ask("postfix", key)
	if strings.HasPrefix(got, "TEMP ") && want == "TEMP" {
		return
	}
	if err != nil || got != want {
		d.t.Errorf("%s: %q, %v; want %q", key, got, err, want)
	}
}

// status reads a field of /proc/PID/status, in kB where it is memory.
func (d *daemon) status(field string) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			n, _ := strconv.Atoi(strings.Fields(value)[0])
			return n
		}
	}
	return -1
}

// rss is the resident memory in MB; peak the most that it ever was.
func (d *daemon) rss() int  { return d.status("VmRSS") >> 10 }
func (d *daemon) peak() int { return d.status("VmHWM") >> 10 }

// files is how many descriptors are open.
func (d *daemon) files() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		return -1
	}
	return len(entries)
}

// runtime asks for the record of what the process holds.
func (d *daemon) runtime() map[string]int {
	d.t.Helper()
	before := d.said("msg=runtime")
	got := eventually(d.t.Context(), 30*time.Second, func() bool {
		// The first signal may switch the level back to info, which has no such record.
		must(d.t, d.cmd.Process.Signal(syscall.SIGUSR1))
		return eventually(d.t.Context(), 300*time.Millisecond, func() bool { return d.said("msg=runtime") > before })
	})
	if !got {
		d.t.Fatal("SIGUSR1 has no effect")
	}
	must(d.t, d.cmd.Process.Signal(syscall.SIGUSR1))
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.log) - 1; i >= 0; i-- {
		if !strings.Contains(d.log[i], "msg=runtime") {
			continue
		}
		fields := make(map[string]int)
		for _, m := range regexp.MustCompile(`(\w+)=(\d+)( |$)`).FindAllStringSubmatch(d.log[i], -1) {
			fields[m[1]], _ = strconv.Atoi(m[2])
		}
		return fields
	}
	return nil
}
