package siege

import (
	"fmt"
	"testing"
	"time"
)

// TestConnections: whatever strangers do with connections, well-behaved clients are
// answered, in time, and the daemon's memory and descriptors have bounds.
func TestConnections(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	servePolicies(t)
	for _, tc := range []struct {
		name, attack string
		clients      int
		with         string // what else the attack needs
		socketmap    string
		// memory bounds the RSS, in MB.
		memory int
		// worst bounds the p99 of well-behaved clients; 0: a second.
		worst time.Duration
	}{
		{"10,000 idle, all of them kept", "idle", 10_000, "", "max_connections = 12000", 200, 0},
		{"10,000 idle, more than may be", "idle", 10_000, "", "", 120, 0},
		{"1,000 byte by byte", "dribble", 1000, "", "", 100, 0},
		{"garbage at line rate", "garbage", 16, "", "", 100, 0},
		{"churn", "churn", 32, "", "", 100, 0},
		{"5,000 that never read", "deaf", 5000, "postfix", "", 200, 4 * time.Second},
		{"5,000 that never read reports", "deaf", 5000, "json", "", 400, 4 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := launch(t, settings{socketmap: tc.socketmap})
			serveFloor(t)
			keys := known(30)
			d.learn(keys)
			mta := population{clients: 8, pause: 4 * time.Millisecond, keys: keys}
			last := short(2*time.Second, 20*time.Second)
			quiet := mta.besideFloor(t.Context(), last/2)
			a := besiege(t, tc.attack, tc.clients, tc.with)
			files := d.files()
			both := mta.besideFloor(t.Context(), last)
			under := both.mine
			files = max(files, d.files())
			did := a.lift()
			d.alive()
			under.intact(t, "under attack")
			figure(t, "%s: quiet: %v", tc.name, quiet.mine)
			figure(t, "%s: under attack: %v; %s; peak %d MB, %d descriptors; the attack: %s",
				tc.name, under, both.times(quiet), d.peak(), files, did)
			if under.at(0.99) > max(tc.worst, time.Second) {
				t.Errorf("p99 %v: the clients are starved", under.at(0.99))
			}
			if d.peak() > tc.memory {
				t.Errorf("%d MB, more than %d", d.peak(), tc.memory)
			}
			d.hadFiles()
		})
	}
}

// hadFiles fails the test where descriptors ran out.
func (d *daemon) hadFiles() {
	d.t.Helper()
	if d.said("accept failed") > 0 || d.said("too many open files") > 0 {
		d.t.Errorf("descriptors ran out:\n%s", d.tail(20))
	}
}

// TestFewDescriptors: however few file descriptors there are, lookups, fetches and the
// store get theirs, and the daemon says what it makes of them.
func TestFewDescriptors(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	servePolicies(t)
	for _, files := range []int{160, 256, 1024} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			d := launch(t, settings{files: files})
			if d.said("limits are lowered") != 1 || d.said(fmt.Sprintf("msg=limits files=%d", files)) != 1 {
				t.Errorf("the limits are not said:\n%s", d.tail(10))
			}
			keys := known(5)
			d.learn(keys)
			idle := besiege(t, "idle", 2000)
			random := besiege(t, "random", 100, "none.example")
			under := population{clients: 4, pause: 10 * time.Millisecond, keys: keys}.lasting(t.Context(), short(2*time.Second, 20*time.Second))
			under.intact(t, "under attack")
			used := d.files()
			// New policies are looked up, fetched and stored.
			d.learn(map[string]string{"late.sts.example": stsLine("late.sts.example"), "late.dane.example": "OK dane-only"})
			idle.lift()
			did := random.lift()
			d.alive()
			d.hadFiles()
			if d.said("cannot be written") > 0 {
				t.Errorf("the store had no descriptors:\n%s", d.tail(20))
			}
			if used > files {
				t.Errorf("%d descriptors of %d", used, files)
			}
			figure(t, "ulimit -n %d: %v; %d descriptors used; random domains: %s", files, under, used, did)
		})
	}
}
