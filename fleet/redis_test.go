package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	password = "a password of Redis"
	masterOf = "fleetmaster"
)

// server is a running redis-server, or a sentinel.
type server struct {
	t       *testing.T
	address string // 10.77.9.N
	dir     string
	args    []string
	cmd     *exec.Cmd
	secure  bool
	sentry  bool
	// password is "" for none.
	password string
}

// redisAt starts a server at 10.77.9.N. Options are further lines of its configuration.
func redisAt(t *testing.T, n int, options ...string) *server {
	t.Helper()
	s := &server{t: t, address: redisNet + strconv.Itoa(n), dir: t.TempDir(), password: password}
	lines := append([]string{
		"bind " + s.address, "save \"\"", "appendonly no", "dir " + s.dir, "daemonize no", "protected-mode no", "replica-announce-ip " + s.address, "cluster-announce-ip " + s.address,
		fmt.Sprintf("requirepass %q", password), fmt.Sprintf("masterauth %q", password),
	}, options...)
	if !strings.Contains(strings.Join(options, "\n"), "tls-port") {
		lines = append(lines, "port 6379")
	} else {
		s.secure = true
	}
	s.begin("redis.conf", lines)
	return s
}

func (s *server) begin(name string, lines []string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	must(s.t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	s.args = []string{file}
	if s.sentry {
		s.args = append(s.args, "--sentinel")
	}
	s.start()
	s.t.Cleanup(s.kill)
}

// start runs the process and waits until it answers.
func (s *server) start() {
	s.t.Helper()
	path, env := unpacked("redis-server")
	s.cmd = exec.Command("ip", append([]string{"netns", "exec", "redis", path}, s.args...)...)
	s.cmd.Env = append(os.Environ(), env)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	must(s.t, err)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	must(s.t, s.cmd.Start())
	_ = log.Close()
	if !eventually(s.t.Context(), 20*time.Second, func() bool { return strings.Contains(s.try("PING"), "PONG") }) {
		out, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		s.t.Fatalf("redis at %s does not answer: %s\n%s", s.address, s.try("PING"), out)
	}
}

func (s *server) kill() {
	if s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd.Process = nil
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	must(s.t, s.cmd.Process.Signal(sig))
}

// try sends a command by redis-cli and returns what it prints.
func (s *server) try(args ...string) string {
	path, env := unpacked("redis-cli")
	all := []string{"netns", "exec", "redis", path, "-h", s.address, "--no-auth-warning"}
	switch {
	case s.sentry:
		all = append(all, "-p", "26379")
	case s.secure:
		all = append(all, "--tls", "--cacert", filepath.Join(s.dir, "ca.pem"), "--cert", filepath.Join(s.dir, "node.pem"), "--key", filepath.Join(s.dir, "node.pem"))
	}
	if s.password != "" {
		all = append(all, "-a", s.password)
	}
	cmd := exec.Command("timeout", append([]string{"10", "ip"}, append(all, args...)...)...)
	cmd.Env = append(os.Environ(), env)
	out, _ := cmd.CombinedOutput()
	return strings.TrimSpace(string(out))
}

// do is try, and fails on an error.
func (s *server) do(args ...string) string {
	s.t.Helper()
	out := s.try(args...)
	if strings.HasPrefix(out, "ERR") || strings.HasPrefix(out, "(error)") || strings.HasPrefix(out, "NOAUTH") || strings.HasPrefix(out, "WRONGPASS") || strings.Contains(out, "Could not connect") {
		s.t.Fatalf("redis %s: %s", strings.Join(args, " "), out)
	}
	return out
}

// keys are all that lie there.
func (s *server) keys() []string {
	s.t.Helper()
	return strings.Fields(s.do("KEYS", "tlsverdict:1:*"))
}

// records counts those of policies or pins.
func (s *server) records(kind string) int {
	s.t.Helper()
	n := 0
	for _, key := range s.keys() {
		if strings.Contains(key, ":"+kind+":") {
			n++
		}
	}
	return n
}

// calls are how many commands of each kind the server has run.
func (s *server) calls() map[string]int {
	s.t.Helper()
	out := make(map[string]int)
	for _, m := range regexp.MustCompile(`cmdstat_([a-z|]+):calls=(\d+)`).FindAllStringSubmatch(s.do("INFO", "commandstats"), -1) {
		out[m[1]], _ = strconv.Atoi(m[2])
	}
	return out
}

// spoil writes into every place, by a function of it.
func (s *server) spoil(write func(key string) []string) {
	s.t.Helper()
	for _, key := range s.keys() {
		s.do("DEL", key)
		s.do(write(key)...)
	}
}

// sentinelAt starts a sentinel at 10.77.9.N that watches a master.
func sentinelAt(t *testing.T, n int, master string) *server {
	t.Helper()
	s := &server{t: t, address: redisNet + strconv.Itoa(n), dir: t.TempDir(), sentry: true}
	s.begin("sentinel.conf", []string{
		"bind " + s.address, "port 26379", "dir " + s.dir, "protected-mode no",
		"sentinel announce-ip " + s.address, "sentinel monitor " + masterOf + " " + master + " 6379 2", fmt.Sprintf("sentinel auth-pass %s %q", masterOf, password),
		"sentinel down-after-milliseconds " + masterOf + " 1000", "sentinel failover-timeout " + masterOf + " 5000",
	})
	return s
}
