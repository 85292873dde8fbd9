package engine

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// bytesPerEntry fills a cache with domains that have no policy and returns what
// the heap grew by for each.
func bytesPerEntry(t testing.TB, domains int) float64 {
	t.Helper()
	e := newEngine(t, answering(time.Hour), func(c *Config) { c.Entries = domains })
	defer e.Close()
	before := heap()
	now := e.clock()
	for i := range domains {
		d := nexthop.Destination{Name: fmt.Sprintf("mail-domain-%d.example", i), Port: 25}
		e.cache.set(d, &entry{verdict: verdict.NoPolicy{}, until: now + time.Hour, refresh: now + 48*time.Minute})
	}
	e.cache.tidy()
	after := heap()
	if n := e.cache.size(); n < domains*9/10 {
		t.Fatalf("%d of %d domains are kept", n, domains)
	}
	runtime.KeepAlive(e)
	return float64(after-before) / float64(domains)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestEntryIsSmall: a cached domain without a policy costs at most 400 bytes.
func TestEntryIsSmall(t *testing.T) {
	if n := bytesPerEntry(t, 200_000); n > 400 {
		t.Errorf("a cached domain without a policy costs %.0f bytes, want at most 400", n)
	} else {
		t.Logf("%.0f bytes", n)
	}
}
