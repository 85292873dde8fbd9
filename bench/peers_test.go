package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// peersEnv names the root that bench/setup makes.
const peersEnv = "TLSVERDICT_BENCH_PEERS"

// peerResolver is the name server of the root's resolv.conf: no other program has it.
const peerResolver = "127.77.0.53:53"

// peerConfig is Debian's configuration file with another place to listen, and with so
// much grace that what is in the cache is never looked up again.
const peerConfig = `path: %s
cache_grace: 864000
cache:
  type: sqlite
  options:
    filename: "%s"
`

// peerFill puts the policies of the population into the peer's cache, by its own code.
const peerFill = `
import asyncio, sys, time
from postfix_mta_sts_resolver.sqlite_cache import SqliteCache
from postfix_mta_sts_resolver.base_cache import CacheEntry
async def main():
    cache = SqliteCache(sys.argv[1])
    await cache.setup()
    for line in sys.stdin:
        name = line.strip()
        body = {"version": "STSv1", "mode": "enforce", "mx": ["mx1." + name, "*." + name], "max_age": 2419200}
        await cache.set(name, CacheEntry(time.time(), "20260101", body))
    await cache.teardown()
asyncio.run(main())
`

// inRoot prepares a command in the peer's root.
func inRoot(ctx context.Context, root string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "chroot", append([]string{root}, args...)...)
	c.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	return c
}

// startPeer starts postfix-mta-sts-resolver with its cache filled for n domains with a
// policy.
func startPeer(ctx context.Context, t *testing.T, dir string, n int) (*process, error) {
	root := os.Getenv(peersEnv)
	inside, err := os.MkdirTemp(filepath.Join(root, "tmp"), "peer-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = os.RemoveAll(inside) })
	seen := filepath.Join("/tmp", filepath.Base(inside))
	for name, text := range map[string]string{
		filepath.Join(root, "etc/resolv.conf"): "nameserver 127.77.0.53\n",
		filepath.Join(inside, "config.yml"):    fmt.Sprintf(peerConfig, seen+"/sock", seen+"/cache.db"),
		filepath.Join(inside, "fill.py"):       peerFill,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	fill := inRoot(ctx, root, "python3", seen+"/fill.py", seen+"/cache.db")
	in, err := fill.StdinPipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer in.Close()
		for i := range n {
			fmt.Fprintln(in, domain(withPolicy(i)))
		}
	}()
	if out, err := fill.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("filling the peer's cache: %w: %s", err, out)
	}
	p := &process{unix: address{"unix", filepath.Join(inside, "sock")}}
	p.cmd = inRoot(ctx, root, "python3", "/usr/bin/mta-sts-daemon", "-v", "error", "-c", seen+"/config.yml")
	if err := p.launch(dir, "peer"); err != nil {
		return nil, err
	}
	_, err = p.ready(ctx, p.unix, 20*time.Second)
	return p, err
}

// withPolicy numbers the domains with an MTA-STS policy, withoutPolicy those with none.
func withPolicy(i int) int    { return i/3*20 + 5 + i%3*6 }
func withoutPolicy(i int) int { return i * 20 }

// peers measures another daemon for the same purpose, in the same run.
func peers(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	if os.Getenv(peersEnv) == "" {
		return nil, fmt.Errorf("%w: make bench-peers measures other daemons", errLeftOut)
	}
	u, err := startUpstreamAt(peerResolver, 0)
	if err != nil {
		return nil, err
	}
	defer u.stop()
	peer, err := startPeer(ctx, t, b.dir, warmDomains)
	if err != nil {
		return nil, err
	}
	defer peer.stop()
	mine, stop, err := b.startWarm(ctx, t, 20*warmDomains)
	if err != nil {
		return nil, err
	}
	defer stop()
	var rows [][]string
	for _, c := range []struct {
		name string
		pick func(int) int
	}{{"MTA-STS, policy known", withPolicy}, {"no policy, asked before", withoutPolicy}} {
		for _, shape := range [][2]int{{1, 1}, {8, 1}, {64, 1}, {8, 16}} {
			m := match{load{shape[0], shape[1], warmDomains, 200 * time.Millisecond, 600 * time.Millisecond, c.pick}, "unix", 6}
			row, err := peerRow(ctx, m, mine, peer, b.floor)
			if err != nil {
				return nil, err
			}
			rows = append(rows, append([]string{c.name, fmt.Sprint(shape[0]), fmt.Sprint(shape[1])}, row...))
			t.Log(rows[len(rows)-1])
		}
	}
	head := []string{
		"question", "connections", "under way on each", "policyd: rate", "CPU", "p99",
		"postfix-mta-sts-resolver: rate", "CPU", "p99", "policyd, best round", "postfix-mta-sts-resolver, best round",
	}
	return &section{text: fmt.Sprintf("Rate, CPU a request and p99 are divided by the floor's, on a unix socket. Resident memory with 1,000 policies: policyd, which knows %d domains besides, %s; postfix-mta-sts-resolver %s.\n\n",
		19*warmDomains, megabytes(mine.memory("VmRSS")), megabytes(peer.memory("VmRSS"))) + markdown(head, rows)}, nil
}

// peerRow is both beside the floor.
func peerRow(ctx context.Context, m match, mine, peer, floor *process) ([]string, error) {
	a, err := m.play(ctx, mine, floor)
	if err != nil {
		return nil, fmt.Errorf("policyd: %w", err)
	}
	b, err := m.play(ctx, peer, floor)
	if err != nil {
		return nil, fmt.Errorf("the peer: %w", err)
	}
	said := func(o *outcome) string {
		return fmt.Sprintf("%.0f/s, %s CPU, p99 %s", o.rate(), short(o.cost()), short(o.latency.quantile(0.99)))
	}
	return []string{
		fmt.Sprintf("%.2f", a.rate), fmt.Sprintf("%.2f", a.cpu), fmt.Sprintf("%.2f", a.p99),
		fmt.Sprintf("%.3f", b.rate), fmt.Sprintf("%.1f", b.cpu), fmt.Sprintf("%.1f", b.p99), said(a.mine), said(b.mine),
	}, nil
}
