package monitoring

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/store"
	"tlsverdict/postfixmap"
)

// wanted names the directory of prometheus and promtool.
const wanted = "TLSVERDICT_MONITORING"

// tools returns it, or "" where these tests were not asked for.
func tools(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(wanted)
	if dir == "" {
		t.Log("there is no Prometheus here: " + wanted + " is not set. make metrics-check sets it")
		return ""
	}
	for _, name := range []string{"prometheus", "promtool"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// servfail answers every question with SERVFAIL (RFC 1035 §4.1.1) until the test ends, and
// returns its address.
func servfail(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n >= 12 {
				buf[2], buf[3] = buf[2]|0x80, 0x82
				// Whoever asked may be gone.
				_, _ = c.WriteTo(buf[:n], from)
			}
		}
	}()
	return c.LocalAddr().String()
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// policyd is a process.
type policyd struct {
	pages  string // host and port
	client *postfixmap.Client
	config string // its file
	cmd    *exec.Cmd
	exited chan error
	log    *output
}

// output can be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start builds a policyd and runs it until the test ends.
func start(t *testing.T) *policyd {
	t.Helper()
	dir, err := os.MkdirTemp("", "tlsverdict-monitoring-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Its own user must get there.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &policyd{pages: free(t), config: filepath.Join(dir, "policyd.toml"), log: &output{}, exited: make(chan error, 1)}
	maps := free(t)
	failing(t, filepath.Join(dir, "db"))
	p.configure(t, fmt.Sprintf(`
[socketmap]
listen = ["inet:%s"]
deadline = "5s"
[log]
level = "error"
[dns]
servers = ["%s"]
[store]
path = "%s"
[control]
socket = ""
[http]
listen = "%s"
`, maps, servfail(t), filepath.Join(dir, "db"), p.pages))
	binary := filepath.Join(dir, "policyd")
	build := exec.Command("go", "build", "-o", binary, "tlsverdict/cmd/policyd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	p.cmd = exec.Command(binary, "serve", "--config", p.config)
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	run(t, p.cmd, p.exited)
	address, err := postfixmap.ParseAddress("inet:" + maps)
	if err != nil {
		t.Fatal(err)
	}
	p.client = &postfixmap.Client{Address: address}
	t.Cleanup(func() {
		p.client.Close()
		if t.Failed() {
			t.Logf("policyd's log:\n%s", p.log)
		}
	})
	await(t, "policyd", func() bool { return p.get(t, "/healthz") == "alive\n" })
	return p
}

// configure writes the configuration.
func (p *policyd) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(p.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run starts a process, which ends with the test.
func run(t *testing.T, cmd *exec.Cmd, exited chan error) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		// It may have ended by itself.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			t.Error("a process does not end")
			_ = cmd.Process.Kill()
		}
	})
}

// failing makes a store with a policy that holds, and could not be fetched lately.
func failing(t *testing.T, path string) {
	t.Helper()
	s, err := store.Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 604800\n"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.Update("gone.example", func(old mtasts.Cached, _ bool) (mtasts.Cached, bool) {
		return old.AfterSuccess(now.Add(-time.Hour), "1", policy, 0).AfterFailure(now, "1", "the host is gone", 0), true
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// get returns a page, or what went wrong.
func (p *policyd) get(t *testing.T, path string) string {
	t.Helper()
	return fetch(t, "http://"+p.pages+path)
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// ask asks a map.
func (p *policyd) ask(t *testing.T, mapName, key string) {
	t.Helper()
	if reply, err := p.client.Lookup(t.Context(), mapName, key); err != nil {
		t.Errorf("%s %s: %v %v", mapName, key, reply, err)
	}
}

// await polls a condition.
func await(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(60 * time.Second)
	for !met() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: it does not come to be", what)
		}
	}
}

// names returns the metrics of a scrape, as queries have them.
func names(scrape string) map[string]bool {
	out := make(map[string]bool)
	for _, line := range strings.Split(scrape, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		out[line[:strings.IndexAny(line, "{ ")]] = true
	}
	return out
}
