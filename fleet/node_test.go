package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tlsverdict/postfixmap"
)

// fleetKey is the secret of the fleet.
const fleetKey = "0123456789abcdef0123456789abcdef"

// node is a running policyd.
type node struct {
	t      *testing.T
	number int
	dir    string
	config string
	cmd    *exec.Cmd
	gone   chan struct{}

	mu  sync.Mutex
	log []string
}

// fleetOf starts the nodes. store are the lines of [store] beside its path.
func fleetOf(t *testing.T, in *internet, store string) []*node {
	t.Helper()
	list := make([]*node, nodes)
	for i := range list {
		list[i] = newNode(t, in, i+1, store)
		list[i].start()
	}
	return list
}

// newNode prepares node number i. Verdicts are worked out anew each second, so that an
// answer comes of the store, and not of a cache.
func newNode(t *testing.T, in *internet, i int, store string) *node {
	t.Helper()
	// A unix socket's path has 107 bytes at most.
	dir, err := os.MkdirTemp("", "node")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	anchors, err := in.DNS.Anchors()
	must(t, err)
	for name, text := range map[string]string{"root.ds": string(anchors), "ca.pem": string(in.Web.Authority()), "key": fleetKey + "\n", "password": password + "\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	n := &node{t: t, number: i, dir: dir, config: filepath.Join(dir, "policyd.toml")}
	text := fmt.Sprintf(`[socketmap]
listen = ["unix:%s/map"]
[dns]
servers = ["%s:53"]
trust_anchors = "%s/root.ds"
[postfix]
dane = "native"
[mta_sts]
allow_networks = ["198.51.100.0/24"]
ca_file = "%s/ca.pem"
[signals]
banner = "enforce"
[probe]
helo = "node%d.example"
[cache]
min_ttl = "0s"
max_ttl = "1s"
[control]
socket = "%s/control"
[store]
path = "%s/store/policyd.db"
%s
`, dir, dnsServer, dir, dir, i, dir, dir, strings.ReplaceAll(store, "DIR", dir))
	must(t, os.WriteFile(n.config, []byte(text), 0o600))
	t.Cleanup(n.kill)
	return n
}

func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command("ip", "netns", "exec", fmt.Sprintf("node%d", n.number), filepath.Join(os.Getenv(insideEnv), "policyd"), "serve", "--config", n.config)
	stderr, err := n.cmd.StderrPipe()
	must(n.t, err)
	must(n.t, n.cmd.Start())
	gone := make(chan struct{})
	n.gone = gone
	go func() {
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			n.mu.Lock()
			n.log = append(n.log, lines.Text())
			n.mu.Unlock()
		}
		_ = n.cmd.Wait()
		close(gone)
	}()
	if !eventually(n.t.Context(), 20*time.Second, func() bool { got, _ := n.ask(".ready"); return got == "NOTFOUND " }) {
		n.t.Fatalf("node %d does not answer:\n%s", n.number, n.tail(40))
	}
}

func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.gone
}

// forget takes the node's own store away while it is down.
func (n *node) forget() { must(n.t, os.RemoveAll(filepath.Join(n.dir, "store"))) }

func (n *node) tail(k int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.log[max(0, len(n.log)-k):], "\n")
}

// said counts the log lines that have a text.
func (n *node) said(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := 0
	for _, line := range n.log {
		if strings.Contains(line, text) {
			k++
		}
	}
	return k
}

func (n *node) ask(key string) (string, error) {
	address, err := postfixmap.ParseAddress("unix:" + n.dir + "/map")
	if err != nil {
		return "", err
	}
	c := &postfixmap.Client{Address: address, Timeout: 15 * time.Second}
	defer func() { _ = c.Close() }()
	reply, err := c.Lookup(context.Background(), "postfix", key)
	if err != nil {
		return "", err
	}
	if reply.Status == postfixmap.StatusTemp {
		return "TEMP", nil
	}
	return reply.Status.String() + " " + string(reply.Data), nil
}

// want asks and fails the test where the answer is another.
func (n *node) want(key, want string) {
	n.t.Helper()
	if got, err := n.ask(key); err != nil || got != want {
		n.t.Errorf("node %d on %s: %q, %v; want %q\n%s", n.number, key, got, err, want, n.tail(12))
	}
}

// becomes waits until the answer is this.
func (n *node) becomes(limit time.Duration, key, want string) {
	n.t.Helper()
	var got string
	if !eventually(n.t.Context(), limit, func() bool { got, _ = n.ask(key); return got == want }) {
		n.t.Errorf("node %d on %s after %v: %q; want %q\n%s", n.number, key, limit, got, want, n.tail(12))
	}
}

// outOfReach waits until the node knows that it cannot reach Redis, or that it can again.
func (n *node) outOfReach(times int) {
	n.t.Helper()
	n.saysSo("the shared store is out of reach", times)
}

func (n *node) withinReach(times int) {
	n.t.Helper()
	n.saysSo("the shared store is within reach", times)
}

func (n *node) saysSo(text string, times int) {
	n.t.Helper()
	if !eventually(n.t.Context(), 75*time.Second, func() bool { return n.said(text) >= times }) {
		n.t.Errorf("node %d said %q %d times, want %d:\n%s", n.number, text, n.said(text), times, n.tail(20))
	}
}

// explain is the object of the json map.
func (n *node) explain(key string) map[string]any {
	n.t.Helper()
	address, err := postfixmap.ParseAddress("unix:" + n.dir + "/map")
	must(n.t, err)
	c := &postfixmap.Client{Address: address, Timeout: 15 * time.Second}
	defer func() { _ = c.Close() }()
	reply, err := c.Lookup(context.Background(), "json", key)
	must(n.t, err)
	out := make(map[string]any)
	must(n.t, json.Unmarshal(reply.Data, &out))
	return out
}

// steadily asks every node for the same things over and over while a function runs, and
// fails on any other answer, and on one that takes long.
func steadily(t *testing.T, list []*node, answers map[string]string, during func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	asked := make([]int, len(list))
	for i, n := range list {
		all.Go(func() {
			wrong := 0
			for ctx.Err() == nil && wrong < 3 {
				for key, want := range answers {
					start := time.Now()
					got, err := n.ask(key)
					if took := time.Since(start); err != nil || got != want || took > 5*time.Second {
						wrong++
						t.Errorf("node %d on %s during the fault: %q, %v, after %v; want %q", n.number, key, got, err, took, want)
					}
					asked[i]++
				}
				elapse(ctx, 20*time.Millisecond)
			}
		})
	}
	during()
	stop()
	all.Wait()
	t.Logf("answers during the fault: %v", asked)
}
