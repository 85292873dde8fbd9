package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// taskEnv has this binary confine itself and report: what is taken is taken for good, so
// each test needs a process of its own.
const taskEnv = "TLSVERDICT_CONFINE"

// task is what such a process does, and where it tries itself.
type task struct {
	User  string
	Needs Needs
	// Files are tried for reading, Dirs for a file in them, Programs are run, Ports of
	// loopback connected to.
	Files, Dirs, Programs []string
	Ports                 []int
}

// report is what came of it: by what was tried, "" or an error.
type report struct {
	Held    Held
	Err     string
	Tried   map[string]string
	Threads []string
	Root    string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(taskEnv); text != "" {
		var do task
		if err := json.Unmarshal([]byte(text), &do); err != nil {
			panic(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(do.run()); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// run confines the process and tries what it can still do, each in a thread of its own
// that was there before.
func (k task) run() report {
	begin, tries := make(chan struct{}), k.tries()
	r := report{Tried: make(map[string]string)}
	var mu sync.Mutex
	var ready, done sync.WaitGroup
	for name, try := range tries {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			<-begin
			text := ""
			if err := try(); err != nil {
				text = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			r.Tried[name] = text
		})
	}
	ready.Wait()
	if err := k.confine(&r); err != nil {
		r.Err = err.Error()
	}
	close(begin)
	done.Wait()
	r.Threads = threads()
	if err := unix.Setuid(0); err != nil {
		r.Root = err.Error()
	}
	return r
}

func (k task) confine(r *report) (err error) {
	if k.User != "" {
		if err := (Self{}).Become(k.User); err != nil {
			return err
		}
	}
	r.Held, err = Self{}.Seal(k.Needs)
	return err
}

func (k task) tries() map[string]func() error {
	out := map[string]func() error{
		"listen": func() error {
			// Go listens with Multipath TCP, which the kernel does not hold to ports.
			var plain net.ListenConfig
			plain.SetMultipathTCP(false)
			return closed(plain.Listen(context.Background(), "tcp4", "127.0.0.1:0"))
		},
		"udp": func() error { return closed(net.Dial("udp4", "127.0.0.1:53")) },
	}
	for _, name := range k.Files {
		out["read "+name] = func() error { _, err := os.ReadFile(name); return err }
	}
	for _, dir := range k.Dirs {
		out["write "+dir] = func() error {
			name := filepath.Join(dir, "new")
			if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
				return err
			}
			if err := os.Rename(name, name+"er"); err != nil {
				return err
			}
			return os.Remove(name + "er")
		}
	}
	for _, name := range k.Programs {
		out["run "+name] = func() error { return exec.Command(name).Run() }
	}
	for _, port := range k.Ports {
		out["connect "+strconv.Itoa(port)] = func() error {
			return closed(net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), 5*time.Second))
		}
	}
	return out
}

// closed closes what was opened.
func closed(c interface{ Close() error }, err error) error {
	if err != nil {
		return err
	}
	return c.Close()
}

// threads tells of each thread its user, capabilities and no_new_privs.
func threads() []string {
	var out []string
	names, _ := filepath.Glob("/proc/self/task/*/status")
	for _, name := range names {
		text, _ := os.ReadFile(name)
		var words []string
		for line := range strings.Lines(string(text)) {
			switch key, value, _ := strings.Cut(line, ":"); key {
			case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs":
				words = append(words, key+"="+strings.Join(strings.Fields(value), ","))
			}
		}
		out = append(out, strings.Join(words, " "))
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return append(out, fmt.Sprintf("dumpable=%d %v", dumpable, err))
}

// alone runs a task in a process of its own.
func alone(t *testing.T, k task) report {
	t.Helper()
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), taskEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// fine and refused say what must have become of what was tried.
func (r report) fine(t *testing.T, tried ...string) {
	t.Helper()
	for _, name := range tried {
		if text, ok := r.Tried[name]; !ok || text != "" {
			t.Errorf("%s: %q, want it to work", name, text)
		}
	}
}

func (r report) refused(t *testing.T, tried ...string) {
	t.Helper()
	for _, name := range tried {
		if text := r.Tried[name]; !strings.Contains(text, "permission denied") {
			t.Errorf("%s: %q, want permission denied", name, text)
		}
	}
}

// port opens a listener on loopback and returns its port.
func port(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// kernel is the ABI of the kernel's Landlock. Where there is none, a test cannot say
// anything; in CI that is an error.
func kernel(t *testing.T) int {
	t.Helper()
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the kernel has no Landlock: %v", err)
		}
		t.Logf("the kernel has no Landlock, so nothing is tried: %v", err)
		return 0
	}
	return abi
}

// TestSeal: a sealed process, be it root's, does what it needs and nothing else, in
// threads that are older than the seal.
func TestSeal(t *testing.T) {
	abi := kernel(t)
	if abi == 0 {
		return
	}
	const shadow = "/etc/shadow"
	dir := t.TempDir()
	for _, name := range []string{"may", "state", "other"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	may, state, other := filepath.Join(dir, "may"), filepath.Join(dir, "state"), filepath.Join(dir, "other")
	for _, name := range []string{may + "/file", other + "/file"} {
		if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	here, there := port(t), port(t)
	r := alone(t, task{
		Needs: Needs{
			Landlock: On, Read: []string{may, "/not/there", "/proc"}, Write: []string{state}, Connect: []uint16{uint16(here)},
			Run: []string{"/usr", "/lib", "/lib64"},
		},
		Files: []string{may + "/file", other + "/file", shadow}, Dirs: []string{may, state, other, "/tmp", "/etc"},
		Programs: []string{"/usr/bin/true"}, Ports: []int{here, there},
	})
	if r.Err != "" || r.Held.ABI != abi || r.Held.Ports != (abi >= portsABI) {
		t.Errorf("held %+v, %s", r.Held, r.Err)
	}
	r.fine(t, "read "+may+"/file", "write "+state, "run /usr/bin/true", fmt.Sprint("connect ", here), "udp")
	r.refused(t, "read "+other+"/file", "read "+shadow, "write "+may, "write "+other, "write /tmp", "write /etc")
	if r.Held.Ports {
		r.refused(t, fmt.Sprint("connect ", there), "listen")
	}
	powerless(t, r)
}

// TestAnyPort: files are held, and ports to connect to are not.
func TestAnyPort(t *testing.T) {
	if kernel(t) == 0 {
		return
	}
	there := port(t)
	r := alone(t, task{Needs: Needs{Landlock: On, AnyPort: true, Connect: []uint16{1}}, Files: []string{"/etc/passwd"}, Ports: []int{there}})
	if r.Err != "" || r.Held.Ports {
		t.Errorf("held %+v, %s", r.Held, r.Err)
	}
	r.fine(t, fmt.Sprint("connect ", there))
	r.refused(t, "read /etc/passwd")
}

// powerless: no thread of a process has capabilities left, or gets any.
func powerless(t *testing.T, r report) {
	t.Helper()
	if len(r.Threads) < 5 {
		t.Errorf("threads: %v: the test means nothing", r.Threads)
	}
	const none = "CapInh=0000000000000000 CapPrm=0000000000000000 CapEff=0000000000000000"
	for i, text := range r.Threads[:len(r.Threads)-1] {
		if !strings.Contains(text, none) || !strings.Contains(text, "CapAmb=0000000000000000 NoNewPrivs=1") {
			t.Errorf("thread %d: %s", i, text)
		}
		if os.Geteuid() == 0 && !strings.Contains(text, "CapBnd=0000000000000000") {
			t.Errorf("thread %d: %s", i, text)
		}
	}
	if last := r.Threads[len(r.Threads)-1]; last != "dumpable=0 <nil>" {
		t.Error(last)
	}
}

// TestRun: nothing is run where nothing need be.
func TestRun(t *testing.T) {
	if kernel(t) == 0 {
		return
	}
	r := alone(t, task{Needs: Needs{Landlock: Auto, Read: []string{"/"}}, Programs: []string{"/usr/bin/true"}, Files: []string{"/etc/passwd"}})
	r.fine(t, "read /etc/passwd")
	r.refused(t, "run /usr/bin/true")
}

// TestOff: without Landlock privileges go all the same.
func TestOff(t *testing.T) {
	here := port(t)
	r := alone(t, task{Needs: Needs{Landlock: Off}, Files: []string{"/etc/passwd"}, Programs: []string{"/usr/bin/true"}, Ports: []int{here}})
	if r.Held != (Held{}) || r.Err != "" {
		t.Errorf("held %+v, %s", r.Held, r.Err)
	}
	r.fine(t, "read /etc/passwd", "run /usr/bin/true", "listen", fmt.Sprint("connect ", here))
	powerless(t, r)
}

// TestBecome: root becomes a user in all threads and for good.
func TestBecome(t *testing.T) {
	r := alone(t, task{User: "nobody", Needs: Needs{Landlock: Off}, Files: []string{"/etc/shadow", "/etc/passwd"}})
	if os.Geteuid() != 0 {
		if !strings.HasPrefix(r.Err, ErrNotRoot.Error()) {
			t.Errorf("not root: %s", r.Err)
		}
		return
	}
	if r.Err != "" {
		t.Error(r.Err)
	}
	a, err := lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	r.fine(t, "read /etc/passwd")
	r.refused(t, "read /etc/shadow")
	powerless(t, r)
	for _, text := range r.Threads[:len(r.Threads)-1] {
		for key, n := range map[string]int{"Uid": a.uid, "Gid": a.gid} {
			if !strings.Contains(text, fmt.Sprintf("%[1]s=%[2]d,%[2]d,%[2]d,%[2]d", key, n)) {
				t.Errorf("want %s %d: %s", key, n, text)
			}
		}
	}
	if !strings.Contains(r.Root, "not permitted") {
		t.Errorf("root again: %q", r.Root)
	}
}

// TestUsers: nobody becomes root, or somebody who does not exist.
func TestUsers(t *testing.T) {
	for _, name := range []string{"root", "no such user", ""} {
		if _, err := lookup(name); !errors.Is(err, ErrUser) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestGive: a directory is made for a user, and one that exists is not touched.
func TestGive(t *testing.T) {
	if !(Self{}).Root() {
		t.Log("only root can give")
		return
	}
	dir := filepath.Join(t.TempDir(), "above", "state")
	for range 2 {
		if err := (Self{}).Give(dir, "nobody"); err != nil {
			t.Fatal(err)
		}
	}
	a, err := lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || int(st.Uid) != a.uid || int(st.Gid) != a.gid || st.Mode&0o7777 != dirMode {
		t.Errorf("%d:%d %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
	if err := (Self{}).Give(filepath.Dir(dir), "nobody"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(filepath.Dir(dir), &st); err != nil || st.Uid != 0 {
		t.Errorf("the directory above belongs to %d, %v", st.Uid, err)
	}
}

// TestMissing: what a configuration needs beyond an earlier one.
func TestMissing(t *testing.T) {
	had := Needs{Read: []string{"/etc/tlsverdict", "/a"}, Run: []string{"/usr"}, Write: []string{"/var/lib/tlsverdict"}, Connect: []uint16{53, 443}}
	next := Needs{
		Read: []string{"/etc/tlsverdict/ca.pem", "/ab", "/usr/share/dns"}, Write: []string{"/var/lib/tlsverdict/x", "/var/lib"}, Connect: []uint16{443, 5353},
	}
	if got, want := had.Missing(next), []string{"/ab", "/var/lib", "TCP port 5353"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (Needs{Read: []string{"/"}}).Missing(Needs{Read: []string{"/x"}}); got != nil {
		t.Errorf("below the root: %q", got)
	}
}

func TestModes(t *testing.T) {
	for m, want := range map[Mode]string{On: "on", Auto: "auto", Off: "off", 9: "landlock(9)"} {
		if m.String() != want {
			t.Errorf("%d is %q", m, m)
		}
	}
}
