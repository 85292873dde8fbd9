package tally

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestTally(t *testing.T) {
	for _, procs := range []int{1, 2, 3, 64} {
		before := runtime.GOMAXPROCS(procs)
		c := New(33)
		runtime.GOMAXPROCS(before)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for i := range 33_000 {
					c.Add(i % 33)
				}
			})
		}
		all.Wait()
		for i := range 33 {
			if got := c.Load(i); got != 4000 {
				t.Errorf("%d processors: counter %d is %d", procs, i, got)
			}
		}
		if n := testing.AllocsPerRun(100, func() { c.Add(0) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		for _, use := range []func(){func() { c.Add(33) }, func() { c.Add(-1) }, func() { c.Load(33) }} {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("a counter that is not there is no panic")
					}
				}()
				use()
			}()
		}
	}
}

// BenchmarkAdd is beside one counter for all.
func BenchmarkAdd(b *testing.B) {
	b.Run("tally", func(b *testing.B) {
		c := New(8)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Add(1)
			}
		})
	})
	b.Run("one", func(b *testing.B) {
		var c atomic.Uint64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Add(1)
			}
		})
	})
}
