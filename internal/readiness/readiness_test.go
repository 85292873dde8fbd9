package readiness

import (
	"encoding/json"
	"testing"
	"time"

	"tlsverdict/internal/resolve"
	"tlsverdict/internal/store"
)

// well are the facts of a daemon that lacks nothing.
func well() Facts {
	now := time.Unix(1, 0)
	return Facts{
		Life: Serving, DNSSEC: true, StorePath: "/var/lib/x.db", Store: store.Stats{Durable: true},
		Resolver: resolve.Health{Validates: true, Checked: now, Servers: []resolve.ServerHealth{{Answers: true, Validates: true, Checked: now}, {Answers: true, Validates: true, Checked: now}}},
	}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(*Facts)
		want string
	}{
		{"well", func(*Facts) {}, "ready\n"},
		{"zero", func(f *Facts) { *f = Facts{} }, "unready\nunready starting: mail servers cannot ask yet\nunready resolvers-unexamined: the resolvers are being examined for the first time\n"},
		{"drain", func(f *Facts) { f.Life = Draining }, "unready\nunready draining: policyd is being stopped; what was asked is still answered\n"},
		{"all down", func(f *Facts) {
			f.Resolver.Validates, f.Resolver.Problem = false, "192.0.2.1:53 does not\nanswer"
			for i := range f.Resolver.Servers {
				f.Resolver.Servers[i].Answers = false
			}
		}, "unready\nunready resolvers-down: no resolver answers, so that mail to domains that are not known waits: 192.0.2.1:53 does not answer\n"},
		{"unproven", func(f *Facts) { f.Resolver.Validates, f.Resolver.Problem = false, "strips" }, "unready\nunready dnssec-unproven: nothing can be proven by DNSSEC, so that mail to domains that are not known waits: strips\n"},
		{"without DNSSEC", func(f *Facts) { f.DNSSEC, f.Resolver.Validates = false, false }, "ready\n"},
		{"one sick", func(f *Facts) { f.Resolver.Problem = "192.0.2.1:53 refuses" }, "degraded\ndegraded resolver-sick: 192.0.2.1:53 refuses\n"},
		{"anchors", func(f *Facts) { f.Resolver.Warnings = []string{"old", "older"} }, "degraded\ndegraded trust-anchors: old\ndegraded trust-anchors: older\n"},
		{"in memory, as asked", func(f *Facts) { f.StorePath, f.Store.Durable = "", false }, "ready\n"},
		{"store", func(f *Facts) { f.Store = store.Stats{Waiting: 3, Evicted: 2} }, "degraded\ndegraded store-failing: /var/lib/x.db cannot be written: MTA-STS policies are in memory, and a restart forgets 3 changes\n" +
			"degraded store-full: since the start 0 changes were not taken and 2 forgotten, because too many wait to be written\n"},
		{"reload", func(f *Facts) { f.ReloadError = "p:1: no" }, "degraded\ndegraded config-not-reloaded: the file was refused, and the settings before it are in force: p:1: no\n"},
		{"control", func(f *Facts) { f.ControlError = "no" }, "degraded\ndegraded no-control-socket: policyd pins and policyd refresh do not work: no\n"},
		{"fleet", func(f *Facts) { f.FleetError = "refused" }, "degraded\ndegraded shared-store-away: this node goes on with what it knows itself: refused\n"},
		{"both", func(f *Facts) { f.Life, f.ControlError = Draining, "no" }, "unready\nunready draining: policyd is being stopped; what was asked is still answered\ndegraded no-control-socket: policyd pins and policyd refresh do not work: no\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := well()
			tt.make(&f)
			if got := Judge(f).String(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	f := well()
	f.ControlError = "no"
	got, err := json.Marshal(Judge(f))
	const want = `{"status":"degraded","reasons":[{"code":"no-control-socket","status":"degraded","text":"policyd pins and policyd refresh do not work: no"}]}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}
