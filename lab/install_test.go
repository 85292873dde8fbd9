package lab

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// install is the life of the packages on one machine, from the first installation to
// the last trace.
type install struct {
	*machine
	packages *packages
}

const (
	policydService = "tlsverdict-policyd.service"
	milterService  = "tlsverdict-milter.service"
	policydToml    = "/etc/tlsverdict/policyd.toml"
)

// all goes through that life; what comes later needs what came before.
func (i install) all(t *testing.T) {
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"installed", i.installed},
		{"exposure", i.exposure},
		{"chroot", i.chroot},
		{"activation", i.activation},
		{"watchdog", i.watchdog},
		{"wrong-configuration", i.wrong},
		{"upgraded", i.upgraded},
		{"removed", i.removed},
		{"installed-again", i.again},
		{"purged", i.purged},
	} {
		if !t.Run(step.name, step.run) {
			t.Fatal(i.journal(t))
		}
	}
}

// apt installs packages of a version, as an operator does; what they recommend is on
// the machine, or is not wanted.
func (i install) apt(t *testing.T, version string, programs ...string) {
	t.Helper()
	args := []string{"apt-get", "install", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"}
	for _, program := range programs {
		name := "/root/" + program + ".deb"
		text, err := os.ReadFile(i.packages.deb(program, version))
		if err == nil {
			err = i.write(map[string]string{name: string(text)})
		}
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	out := i.must(t, args...)
	// Maintainer scripts are silent but for what apt says of its own sandbox.
	for line := range strings.Lines(out) {
		if strings.Contains(line, "Failed") || strings.Contains(line, "warning: ") {
			t.Errorf("apt-get says: %s", line)
		}
	}
}

// answers asks for a key that needs no DNS: 1 is NOTFOUND, which only policyd says.
func (i install) answers(t *testing.T) {
	t.Helper()
	if code := i.exits(t, "tlsverdict-policyd", "query", "postfix", "."); code != 1 {
		t.Errorf("policyd query exits with %d, want 1", code)
	}
}

func (i install) active(t *testing.T, units ...string) {
	t.Helper()
	for _, unit := range units {
		var got string
		err := eventually(t.Context(), func() bool {
			got = i.property(t, unit, "ActiveState")
			return got != "activating"
		})
		if got != "active" {
			t.Errorf("%s is %s (%v)", unit, got, err)
		}
	}
}

func (i install) installed(t *testing.T) {
	i.apt(t, olderVersion, "policyd", "milter")
	i.active(t, policydService, "tlsverdict-policyd.socket", "tlsverdict-policyd-postfix.socket", milterService, "tlsverdict-milter.socket")
	i.answers(t)
	for unit, user := range map[string]string{policydService: "tlsverdict", milterService: "tlsverdict-milter"} {
		if got := i.property(t, unit, "User"); got != user || i.property(t, unit, "DynamicUser") != "yes" || i.property(t, unit, "NotifyAccess") != "main" {
			t.Errorf("%s runs as %s, want the dynamic user %s, and READY=1 from it", unit, got, user)
		}
		if enabled := i.property(t, unit, "UnitFileState"); enabled != "enabled" {
			t.Errorf("%s is %s", unit, enabled)
		}
	}
	// The sockets are systemd's, and nobody opened them a second time.
	if got := strings.Count(i.must(t, "journalctl", "-u", policydService, "-o", "cat", "--no-pager"), "msg=listening"); got != 2 {
		t.Errorf("policyd listens on %d sockets, want 2\n%s", got, i.journal(t))
	}
	i.must(t, "tlsverdict-policyd", "check-config")
	i.must(t, "tlsverdict-milter", "check-config")
	if code := i.exits(t, "tlsverdict-policyd", "pins"); code != 0 {
		t.Errorf("policyd pins exits with %d: is its control socket there?", code)
	}
}

// exposure asks this machine's systemd.
func (i install) exposure(t *testing.T) {
	for _, unit := range []string{policydService, milterService} {
		for _, offline := range []string{"yes", "no"} {
			out, err := i.run(t.Context(), "systemd-analyze", "security", "--no-pager", "--offline="+offline, fmt.Sprintf("--threshold=%d", exposureLimit), unitPath(unit, offline))
			if err != nil {
				t.Error(err)
			}
			lines := strings.Split(strings.TrimSpace(out), "\n")
			t.Log(unit, "offline:", offline, lines[len(lines)-1])
		}
	}
}

func unitPath(unit, offline string) string {
	if offline == "yes" {
		return "/usr/lib/systemd/system/" + unit
	}
	return unit
}

// chroot asks as smtp(8) does that Debian has set up: as the user postfix, in its
// chroot. Others may not.
func (i install) chroot(t *testing.T) {
	const program = "/var/spool/postfix/policyd" // it is static
	i.must(t, "cp", "/usr/bin/tlsverdict-policyd", program)
	ask := func(user string) int {
		ids := strings.Fields(i.must(t, "id", "-u", user) + i.must(t, "id", "-g", user)) // the chroot knows no names
		return i.exits(t, "chroot", "--userspec="+strings.Join(ids, ":"), "--groups=", "/var/spool/postfix", "/policyd", "query", "--socket", "unix:/tlsverdict/policyd.sock", "postfix", ".")
	}
	if code := ask("postfix"); code != 1 {
		t.Errorf("in the chroot the user postfix is answered %d, want 1 (NOTFOUND)", code)
	}
	if code := ask("nobody"); code != 3 {
		t.Errorf("in the chroot the user nobody is answered %d, want 3 (nobody there)", code)
	}
	i.must(t, "rm", program)
}

// activation: who asks while policyd is stopped, starts it. It keeps its sockets while
// it restarts.
func (i install) activation(t *testing.T) {
	i.must(t, "systemctl", "stop", policydService, milterService)
	i.answers(t)
	i.active(t, policydService)
	socket := i.must(t, "stat", "-c", "%i", "/var/spool/postfix/tlsverdict/policyd.sock")
	i.must(t, "systemctl", "restart", policydService)
	i.answers(t)
	if now := i.must(t, "stat", "-c", "%i", "/var/spool/postfix/tlsverdict/policyd.sock"); now != socket {
		t.Errorf("the socket was made anew by a restart: %s, %s", socket, now)
	}
	i.must(t, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8463")
	i.active(t, policydService)
	if err := eventually(t.Context(), func() bool { return i.property(t, milterService, "ActiveState") == "active" }); err != nil {
		t.Error("nobody started the milter when it was connected to")
	}
	i.must(t, "systemctl", "reload", policydService, milterService)
	i.active(t, policydService, milterService)
}

// watchdog: a policyd that hangs is started again. The interval is shorter here.
func (i install) watchdog(t *testing.T) {
	for _, unit := range []string{policydService, milterService} {
		dropin := "/run/systemd/system/" + unit + ".d"
		i.must(t, "sh", "-c", "mkdir -p "+dropin+" && printf '[Service]\\nWatchdogSec=1s\\nRestartSec=100ms\\n' >"+dropin+"/lab.conf")
		i.must(t, "systemctl", "daemon-reload")
		i.must(t, "systemctl", "restart", unit)
		first := i.property(t, unit, "MainPID")
		i.must(t, "systemctl", "kill", "--kill-whom=main", "-s", "STOP", unit)
		i.until(t, "Watchdog timeout", "journalctl", "-u", unit, "--no-pager")
		i.until(t, "1", "systemctl", "show", "--value", "-p", "NRestarts", unit)
		i.active(t, unit)
		if again := i.property(t, unit, "MainPID"); again == first {
			t.Errorf("%s has the process %s still", unit, first)
		}
		i.must(t, "sh", "-c", "rm -r "+dropin+" && systemctl daemon-reload && systemctl reset-failed "+unit+" && systemctl restart "+unit)
	}
	i.answers(t)
}

// wrong: with a wrong file policyd does not start, and is not tried for ever; a mended
// one and a restart bring everything back.
func (i install) wrong(t *testing.T) {
	good := i.must(t, "cat", policydToml)
	if err := i.write(map[string]string{policydToml: "lissen = 1\n"}); err != nil {
		t.Fatal(err)
	}
	if code := i.exits(t, "systemctl", "restart", policydService); code == 0 {
		t.Error("policyd starts with a wrong configuration")
	}
	if got := i.property(t, policydService, "ExecMainStatus"); got != "3" {
		t.Errorf("policyd ends with %s, want 3", got)
	}
	for range 8 { // who asks now is not left waiting for long
		if code := i.exits(t, "timeout", "20", "tlsverdict-policyd", "query", "--config", "/dev/null", "postfix", "."); code != 3 {
			t.Errorf("a query exits with %d, want 3 (nobody there)", code)
		}
	}
	if err := i.write(map[string]string{policydToml: good}); err != nil {
		t.Fatal(err)
	}
	i.must(t, "systemctl", "reset-failed")
	i.must(t, "systemctl", "restart", policydService)
	i.active(t, policydService, "tlsverdict-policyd.socket", "tlsverdict-policyd-postfix.socket")
	i.answers(t)
}

// upgraded: the configuration of the operator and the state stay, the process does not.
func (i install) upgraded(t *testing.T) {
	const mine = "mode = \"observe\"\n"
	if err := i.write(map[string]string{policydToml: mine}); err != nil {
		t.Fatal(err)
	}
	i.must(t, "systemctl", "restart", policydService)
	state := i.must(t, "stat", "-L", "-c", "%i", "/var/lib/tlsverdict/policyd.db")
	before := i.property(t, policydService, "MainPID")
	socket := i.property(t, "tlsverdict-policyd-postfix.socket", "ActiveEnterTimestampMonotonic")
	i.must(t, "systemctl", "stop", milterService, "tlsverdict-milter.socket")
	i.must(t, "systemctl", "disable", milterService, "tlsverdict-milter.socket")
	i.apt(t, newerVersion, "policyd", "milter")
	i.active(t, policydService)
	i.answers(t)
	if now := i.property(t, policydService, "MainPID"); now == before {
		t.Error("policyd was not restarted")
	}
	if now := i.property(t, "tlsverdict-policyd-postfix.socket", "ActiveEnterTimestampMonotonic"); now != socket {
		t.Error("the upgrade took the socket away")
	}
	if now := i.must(t, "stat", "-L", "-c", "%i", "/var/lib/tlsverdict/policyd.db"); now != state {
		t.Error("the upgrade made a new store")
	}
	if now := i.must(t, "cat", policydToml); now != mine {
		t.Errorf("the upgrade changed the configuration: %s", now)
	}
	for _, unit := range []string{milterService, "tlsverdict-milter.socket"} {
		if got := i.property(t, unit, "UnitFileState"); got != "disabled" {
			t.Errorf("what the operator had disabled is %s: %s", got, unit)
		}
	}
	if out := i.must(t, "dpkg-query", "-W", "-f", "${Version}", "tlsverdict-policyd"); out != newerVersion {
		t.Errorf("version %s is installed", out)
	}
}

// removed: the daemons and their sockets are gone, configuration and state are not.
func (i install) removed(t *testing.T) {
	i.must(t, "apt-get", "remove", "-q", "-y", "tlsverdict-policyd", "tlsverdict-milter")
	i.gone(t, "/usr/bin/tlsverdict-policyd", "/usr/bin/tlsverdict-milter", "/var/spool/postfix/tlsverdict", "/run/tlsverdict")
	if out := i.must(t, "systemctl", "list-units", "--all", "--no-legend", "--plain", "--state=active", "tlsverdict*"); strings.TrimSpace(out) != "" {
		t.Errorf("units that are still there: %s", out)
	}
	if out := i.must(t, "cat", policydToml); !strings.Contains(out, "observe") {
		t.Errorf("the configuration was lost: %s", out)
	}
	i.must(t, "test", "-s", "/var/lib/private/tlsverdict/policyd.db")
	i.must(t, "postfix", "check")
}

// again: what was removed comes back as it was.
func (i install) again(t *testing.T) {
	i.apt(t, newerVersion, "policyd", "milter")
	i.active(t, policydService, "tlsverdict-policyd.socket", "tlsverdict-policyd-postfix.socket")
	i.answers(t)
}

// purged: no file has the name any more, and nothing is enabled that is not there.
func (i install) purged(t *testing.T) {
	i.must(t, "apt-get", "purge", "-q", "-y", "tlsverdict-policyd", "tlsverdict-milter")
	out := i.must(t, "find", "/etc", "/usr", "/var", "/run", "-xdev", "-name", "*tlsverdict*", "-not", "-path", "/var/log/*", "-not", "-path", "/var/cache/apt/*")
	if strings.TrimSpace(out) != "" {
		t.Errorf("what a purge leaves: %s", out)
	}
	if out := i.must(t, "systemctl", "--failed", "--no-legend", "--plain"); strings.Contains(out, "tlsverdict") {
		t.Errorf("units that failed: %s", out)
	}
}

// gone: none of these files is there.
func (i install) gone(t *testing.T, files ...string) {
	t.Helper()
	for _, file := range files {
		if i.exits(t, "test", "-e", file) == 0 {
			t.Errorf("%s is still there", file)
		}
	}
}
