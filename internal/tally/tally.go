// Package tally counts what happens often, on many processors at once.
//
//	t := tally.New(8)
//	t.Add(3)
//	fmt.Println(t.Load(3)) // 1
//
// A counter that all processors add to is passed from one to the next with each addition. A
// Tally has several of each, on cache lines of their own, and a goroutine adds to the same
// one each time: it waits for nobody, takes no lock and allocates nothing. To read one adds
// them up.
//
// What is read is no less than what was added before, and never falls. It is no snapshot:
// two counters are read one after the other.
package tally

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"
)

const (
	// mostBits is the logarithm of how many of each counter there are at most.
	mostBits = 4
	// line is how many counters a cache line has. Processors fetch lines in pairs.
	line = 2 * 64 / 8
)

// Tally is a number of counters, which begin at 0.
type Tally struct {
	count, stride int
	// shift leaves so many bits of a hash as there are shards; 64: there is one shard.
	shift int
	cells []atomic.Uint64
}

// New returns a Tally of so many counters, 1 or more.
func New(count int) *Tally {
	shardBits := min(mostBits, bits.Len(uint(runtime.GOMAXPROCS(0)-1)))
	stride := (count + line - 1) / line * line
	// A line more, since the first may be shared with a neighbour in memory.
	return &Tally{count: count, stride: stride, shift: 64 - shardBits, cells: make([]atomic.Uint64, stride<<shardBits+line)}
}

// Add adds one to a counter, 0 up to the number given to New; others panic.
func (t *Tally) Add(counter int) {
	if uint(counter) >= uint(t.count) {
		panic("tally: no such counter")
	}
	// Where a goroutine's stack is tells it from others, and changes rarely. The address is
	// only a number here; nothing is read by it.
	var here byte
	stack := uint64(uintptr(unsafe.Pointer(&here))) >> 12
	shard := stack * 0x9E3779B97F4A7C15 >> t.shift // 0 for a shift of 64
	t.cells[line+counter+int(shard)*t.stride].Add(1)
}

// Load returns a counter.
func (t *Tally) Load(counter int) uint64 {
	if uint(counter) >= uint(t.count) {
		panic("tally: no such counter")
	}
	var sum uint64
	for at := line + counter; at < len(t.cells); at += t.stride {
		sum += t.cells[at].Load()
	}
	return sum
}
