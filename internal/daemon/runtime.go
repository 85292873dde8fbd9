package daemon

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
)

// garbage is how much may be dead before it is collected, in percent of what lives.
// Nearly all that lives is verdicts that are kept, a million perhaps, and they change
// slowly: at Go's 100 the process would be twice their size for nothing.
const garbage = 50

// SpareMemory lets garbage be collected sooner than Go does by itself, unless the
// environment says when (GOGC). Call it once, at the start.
func SpareMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
}

// network is what the daemon's stacks reach the world through.
func (d *daemon) network() Network {
	return Network{Questions: d.limits.questions, Fetches: d.limits.fetches}
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
	d.log.Debug("runtime",
		"goroutines", runtime.NumGoroutine(), "files", countFiles(), "heap", m.HeapAlloc, "heap_from_system", m.HeapSys-m.HeapReleased,
		"connections", s.Open, "requests", s.Requests, "shed", s.Shed, "refused", s.Refused, "malformed", s.Malformed,
		"unfinished", s.Unfinished, "unread", s.Unread,
		"verdicts", e.Entries, "hits", e.Hits, "misses", e.Misses, "refreshes", e.Refreshes, "busy", e.Busy,
		"store_waiting", st.Waiting, "store_failures", st.Failures)
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
