package siege

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestConfined: a policyd that Landlock holds, as a user and as root, still does all that
// it does: it answers, fetches and keeps policies, reloads, obeys its control socket and
// signals. What a reload cannot have any more it says.
func TestConfined(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	servePolicies(t)
	for name, process := range map[string]string{
		"user": "user = \"nobody\"\nlandlock = \"on\"",
		"root": "landlock = \"on\"",
	} {
		t.Run(name, func(t *testing.T) {
			if name == "user" && os.Getenv("CI") != "true" && oneUser() {
				t.Log("this namespace has root alone, so nobody else can be become")
				return
			}
			confined(t, settings{more: "[control]\nsocket = \"DIR/ctl/control.sock\"\n[process]\n" + process})
		})
	}
}

// oneUser reports whether the user namespace has no other user than root.
func oneUser() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err != nil || strings.Join(strings.Fields(string(text))[2:], "") == "1"
}

func confined(t *testing.T, s settings) {
	t.Helper()
	if !strings.Contains(s.more, "user") {
		s.store = filepath.Join(t.TempDir(), "policyd.db")
	}
	d := launch(t, s)
	if !d.logs("msg=confined") {
		t.Fatalf("not confined:\n%s", d.tail(20))
	}
	if root := d.said("the process stays root") > 0; root == strings.Contains(s.more, "user") {
		t.Errorf("root: %v:\n%s", root, d.tail(20))
	}
	d.powerless(strings.Contains(s.more, "user"))
	keys := policies("confined", 5)
	d.learn(keys)
	d.hangUp()
	if !d.logs("configuration reloaded") {
		t.Fatalf("no reload:\n%s", d.tail(20))
	}
	d.learn(keys)
	out, err := exec.Command(os.Getenv(insideEnv), "refresh", "confined0.sts.example", "--config", d.config).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "secure") {
		t.Errorf("refresh: %v\n%s", err, out)
	}
	if counts := d.runtime(); counts["files"] < 5 {
		t.Errorf("files: %v", counts)
	}
	d.rewrite(fmt.Sprintf("servers = [%q]", dnsAddress), fmt.Sprintf("servers = [%q, %q]", dnsAddress, "127.0.0.53:5353"))
	d.hangUp()
	if !d.logs(`a changed setting takes effect at the next start only" setting="TCP port 5353"`) {
		t.Errorf("a port that cannot be had is not said:\n%s", d.tail(20))
	}
	d.kill()
	d.start(s)
	d.learn(keys)
	socket := filepath.Join(d.dir, "ctl", "control.sock")
	if _, err := os.Stat(socket); err != nil {
		t.Error(err)
	}
	d.stop()
	if _, err := os.Stat(socket); err == nil {
		t.Error("the control socket is left behind")
	}
}

// hangUp has the daemon read its configuration.
func (d *daemon) hangUp() {
	d.t.Helper()
	must(d.t, d.cmd.Process.Signal(syscall.SIGHUP))
}

// rewrite changes the configuration as an editor does: by a new file in place of the old.
func (d *daemon) rewrite(old, now string) {
	d.t.Helper()
	text, err := os.ReadFile(d.config)
	must(d.t, err)
	if !strings.Contains(string(text), old) {
		d.t.Fatalf("the configuration has no %s", old)
	}
	must(d.t, os.WriteFile(d.config+".new", []byte(strings.Replace(string(text), old, now, 1)), 0o644))
	must(d.t, os.Rename(d.config+".new", d.config))
}

// powerless: no thread of the daemon has a capability, or can gain one; nor is it root's,
// where it is another user's.
func (d *daemon) powerless(user bool) {
	d.t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", d.cmd.Process.Pid))
	must(d.t, err)
	if len(names) == 0 {
		d.t.Fatal("no threads")
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it is gone
		}
		for _, want := range []string{"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
			if !strings.Contains(string(text), want) {
				d.t.Errorf("%s lacks %q:\n%s", name, want, text)
			}
		}
		if user && strings.Contains(string(text), "Uid:\t0") {
			d.t.Errorf("%s is root's", name)
		}
	}
}
