package siege

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// policies are n domains with an MTA-STS policy.
func policies(prefix string, n int) map[string]string {
	keys := make(map[string]string)
	for i := range n {
		name := fmt.Sprintf("%s%d.sts.example", prefix, i)
		keys[name] = stsLine(name)
	}
	return keys
}

// disk mounts a small disk of its own, which goes with the test.
func disk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, syscall.Mount("siege", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill writes until the disk is full, and returns what takes the room.
func fill(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	for size := 1 << 16; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	return name
}

// TestFullDisk: on a full disk policies are answered from memory, loudly; with room
// again they are written, and survive kill -9.
func TestFullDisk(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	web := servePolicies(t)
	dir := disk(t, "1m")
	s := settings{store: filepath.Join(dir, "policyd.db")}
	d := launch(t, s)
	before, during := policies("before", 20), policies("during", short(100, 1000))
	d.learn(before)
	filler := fill(t, dir)
	d.learn(during)
	if !d.logs("store: policies cannot be written") {
		t.Errorf("a full disk is not said:\n%s", d.tail(10))
	}
	calm := population{clients: 8, pause: 4 * time.Millisecond, keys: during}.lasting(t.Context(), time.Second)
	calm.intact(t, "on a full disk")
	must(t, os.Remove(filler))
	begin := time.Now()
	if !d.logs("store: policies are written again") {
		t.Fatalf("room again, and nothing is written:\n%s", d.tail(10))
	}
	took := time.Since(begin)
	d.kill()
	web.close()
	d.start(s)
	d.learn(before)
	d.learn(during)
	figure(t, "full disk: %v; %d policies were in memory only, written %v after there was room, and there after kill -9", calm, len(during), took.Round(10*time.Millisecond))
}

// logs waits until the log has a text.
func (d *daemon) logs(text string) bool {
	return eventually(d.t.Context(), 70*time.Second, func() bool { return d.said(text) > 0 })
}

// TestReadOnlyDisk: a disk that cannot be written is read, loudly.
func TestReadOnlyDisk(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	web := servePolicies(t)
	dir := disk(t, "4m")
	s := settings{store: filepath.Join(dir, "policyd.db")}
	d := launch(t, s)
	keys := policies("kept", 20)
	d.learn(keys)
	d.settled()
	d.kill()
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	d.start(s)
	if !d.logs("store: policies cannot be written") {
		t.Errorf("a disk that is read-only is not said:\n%s", d.tail(10))
	}
	late := policies("late", 20)
	d.learn(late)
	web.close()
	d.learn(keys)
	d.learn(late)
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""))
	if !d.logs("store: policies are written again") {
		t.Errorf("writable again, and nothing is written:\n%s", d.tail(10))
	}
	figure(t, "read-only disk: %d policies read from it, %d new ones kept in memory, written when it could be", len(keys), len(late))
}

// settled waits until everything is on the disk.
func (d *daemon) settled() {
	d.t.Helper()
	if !eventually(d.t.Context(), 20*time.Second, func() bool { return d.runtime()["store_waiting"] == 0 }) {
		d.t.Fatalf("the store does not write:\n%s", d.tail(10))
	}
}

// TestCorruptFile: damage in the file costs what was in the damaged part, and no
// answer.
func TestCorruptFile(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	servePolicies(t)
	d := launch(t, settings{cache: "min_ttl = \"1s\"\nmax_ttl = \"1s\"\nrefresh_ahead = false"})
	keys := policies("k", short(100, 1000))
	d.learn(keys)
	d.settled()
	path := filepath.Join(d.dir, "store", "policyd.db")
	trash(t, path)
	begin := time.Now()
	d.learn(keys)
	d.learn(policies("new", 20))
	if !d.logs("store: the file is damaged") || !d.logs("moved aside") {
		t.Errorf("damage is not said:\n%s", d.tail(20))
	}
	d.alive()
	d.stop()
	d.start(settings{})
	d.learn(keys)
	figure(t, "three quarters of the file overwritten while it is in use: all of %d policies right again after %v", len(keys), time.Since(begin).Round(10*time.Millisecond))
}

// trash overwrites three quarters of the file's pages.
func trash(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	const page = 4096
	for at := int64(2 * page); at < min(info.Size(), 1<<20); at += page {
		if at/page%4 != 0 {
			_, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, page), at)
			must(t, err)
		}
	}
}

// TestSlowDisk: while each write to the disk takes a second, nobody waits for it.
func TestSlowDisk(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	servePolicies(t)
	d := launch(t, settings{})
	d.stop()
	slow := &sluggard{delay: time.Second}
	d.cmd = exec.Command(d.cmd.Path, d.cmd.Args[1:]...)
	d.begin(func() error { return slow.start(d.cmd) })
	keys := policies("k", 40)
	d.learn(keys)
	cold := make(chan time.Duration)
	go func() {
		begin := time.Now()
		d.learn(policies("new", 40))
		cold <- time.Since(begin)
	}()
	calm := population{clients: 8, pause: 4 * time.Millisecond, keys: keys}.lasting(t.Context(), short(2*time.Second, 10*time.Second))
	calm.intact(t, "on a slow disk")
	took := <-cold
	if calm.at(0.99) > time.Second || took > 5*time.Second {
		t.Errorf("somebody waits for the disk: known names %v, 40 new ones took %v", calm, took)
	}
	if n := slow.delayed.Load(); n == 0 {
		t.Error("no write was delayed: the test means nothing")
	}
	figure(t, "each sync takes 1 s: known: %v; 40 new policies in %v; %d syncs", calm, took.Round(time.Millisecond), slow.delayed.Load())
	d.settled()
}

// TestKillNine: kill -9 at a random moment while policies come in. What was known a
// second before is known afterwards, although no policy host answers any more.
func TestKillNine(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	web := servePolicies(t)
	s := settings{}
	d := launch(t, s)
	all := make(map[string]string)
	rounds := short(4, 40)
	for round := range rounds {
		old, young := policies(fmt.Sprintf("r%da", round), 10), policies(fmt.Sprintf("r%db", round), 10)
		d.learn(old)
		d.settled()
		for name, want := range old {
			all[name] = want
		}
		learning := make(chan struct{})
		go func() {
			defer close(learning)
			for name := range young {
				_, _ = d.ask("postfix", name) // it may die meanwhile: that is the point
			}
		}()
		elapse(t.Context(), time.Duration(1+time.Now().UnixNano()%20_000_000))
		d.kill()
		<-learning
		d.start(s)
	}
	web.close()
	d.learn(all)
	for _, bad := range []string{"damaged", "cannot be read"} {
		if d.said(bad) > 0 {
			t.Errorf("the log has %q:\n%s", bad, d.tail(30))
		}
	}
	figure(t, "kill -9 %d times while policies come in: all %d that were on disk are known, none damaged", rounds, len(all))
}

func (h *policyHosts) close() { _ = h.listener.Close() }
