package engine

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"tlsverdict/internal/nexthop"
)

// BenchmarkMiss is a verdict that has to be worked out from facts that take no time.
func BenchmarkMiss(b *testing.B) {
	e := newEngine(b, answering(time.Hour), func(c *Config) { c.Entries, c.Flights = 1_000_000, 512 })
	defer e.Close()
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e.Rule(b.Context(), nexthop.Destination{Name: fmt.Sprintf("d%d.example", n.Add(1)), Port: 25})
		}
	})
}
