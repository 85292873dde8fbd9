package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"

	"tlsverdict/internal/pin"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/verdict"
)

const (
	// garbage is how much may be dead before it is collected, in percent of what
	// lives. Nearly all that lives is verdicts that are kept, a million perhaps, and
	// they change slowly: at Go's 100 the process would be twice their size for
	// nothing.
	garbage = 50
	// leastGarbage is how much may be dead in any case, in octets: where little lives,
	// answers alone would cause a collection every quarter of a second.
	leastGarbage = 16 << 20
)

// SpareMemory decides when garbage is collected, unless the environment does (GOGC):
// sooner than Go by itself where much lives, and later where little does. Call it once,
// at the start.
func SpareMemory() {
	if os.Getenv("GOGC") == "" {
		collectNext(0)
	}
}

// collectNext sets how much garbage there may be until the next collection, and is
// called again after it: the beacon is the first garbage of all.
func collectNext(before int) {
	percent := garbageFor(live())
	if percent != before {
		// It stops the world for a moment, so not without need.
		debug.SetGCPercent(percent)
	}
	type beacon struct{ _ *byte } // with a pointer in it, it shares its place with nobody
	runtime.AddCleanup(new(beacon), collectNext, percent)
}

// garbageFor is the percentage where so many octets live, in steps of 10.
func garbageFor(live uint64) int {
	return max(garbage, int(leastGarbage*100/max(live, 4<<20))/10*10)
}

// live is how many octets the last collection left.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// network is what the daemon's stacks reach the world through.
func (d *daemon) network() Network {
	return Network{Questions: d.limits.questions, Fetches: d.limits.fetches, Probes: d.limits.probes, Durations: d.durations}
}

// runtime writes what the process holds now, for those who look for a leak or an attack.
func (d *daemon) runtime() {
	if !d.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s, e := d.server.Stats(), d.stack.Load().Engine.Stats()
	st := d.store.Stats()
	var p probe.Stats
	if hosts := d.stack.Load().ports; hosts != nil {
		p = hosts.prober.Stats()
	}
	var learned pin.Stats
	if b := d.stack.Load().banners; b != nil {
		p = both(p, b.prober.Stats())
		learned = b.learner.Stats()
	}
	d.log.Debug("runtime",
		"goroutines", runtime.NumGoroutine(), "files", countFiles(), "heap", m.HeapAlloc, "heap_from_system", m.HeapSys-m.HeapReleased,
		"connections", s.Open, "requests", s.Requests, "shed", s.Shed, "refused", s.Refused, "malformed", s.Malformed,
		"unfinished", s.Unfinished, "unread", s.Unread,
		"verdicts", e.Entries, "hits", e.Hits, "misses", e.Misses, "refreshes", e.Refreshes, "busy", e.Busy,
		"observed", e.Observed, "signals", signals(e.Signals),
		"probes", p.Probes, "probes_good", p.Good, "probes_refused", p.Refused, "hosts", p.Targets,
		"banners", learned.Banners, "banners_believed", learned.Believed, "pinned", learned.Pinned,
		"store_waiting", st.Waiting, "store_failures", st.Failures)
}

// signals writes what was seen of signals, sorted: "prefix-mixed=2 txt-observed=1".
func signals(seen map[verdict.Code]uint64) string {
	var words []string
	for code, n := range seen {
		words = append(words, fmt.Sprintf("%s=%d", code, n))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// countFiles returns how many descriptors are open, -1 where the system does not say.
func countFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	// One of them was for reading this.
	return len(entries) - 1
}
