package engine

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"tlsverdict/internal/nexthop"
)

const (
	// shardEntries is how many verdicts make another shard worth it, and mostShards how many
	// shards there are at most.
	shardEntries = 16384
	mostShards   = 16
	// sweepEvery is how often verdicts that have ended are dropped.
	sweepEvery = time.Second
	// minute and hour are what otter's timer wheel calls so: each time that one is over,
	// what ends in the next one is sorted anew.
	minute = time.Duration(1 << 36)
	hour   = time.Duration(1 << 42)
)

// verdicts is the cache, in shards by the destination's name. Now and then a cache does
// much at once, and with a million entries nobody else has a processor for tenths of a
// second then: its table doubles, or what ends in the next hour is sorted anew. A shard
// does so at a time of its own, and is done in milliseconds.
type verdicts struct {
	seed   maphash.Seed
	shards []shard
	// upkeep is what otter does in the background, which one goroutine does for all
	// shards: otherwise each would when all have something to do, and nobody else
	// would have a processor.
	upkeep chan func()
	ended  <-chan struct{}
	// evicted counts those that were dropped before their time to make room.
	evicted atomic.Uint64
}

// shard is one of them.
type shard struct {
	*otter.Cache[nexthop.Destination, *entry]
	clock shardClock
}

// newVerdicts makes a cache of so many entries. start is where the clock of entries
// begins, and weigh says how many of the entries one counts as. It is kept up until ctx
// ends.
func newVerdicts(ctx context.Context, entries int, start time.Time, weigh func(*entry) uint32) (*verdicts, error) {
	// A power of two, so that a shard is cheap to find.
	count := min(mostShards, 1<<bits.Len(uint(entries/shardEntries)))
	v := &verdicts{seed: maphash.MakeSeed(), shards: make([]shard, count), upkeep: make(chan func(), count), ended: ctx.Done()}
	for i := range v.shards {
		clock := shardClock{start: start, ahead: time.Duration(i+1) * (minute + hour) / time.Duration(count)}
		c, err := otter.New(&otter.Options[nexthop.Destination, *entry]{
			MaximumWeight: uint64(max(1, entries/count)),
			Weigher:       func(_ nexthop.Destination, n *entry) uint32 { return weigh(n) },
			ExpiryCalculator: otter.ExpiryWritingFunc(func(n otter.Entry[nexthop.Destination, *entry]) time.Duration {
				return n.Value.until - clock.time(n.SnapshotAtNano)
			}),
			OnAtomicDeletion: func(n otter.DeletionEvent[nexthop.Destination, *entry]) {
				// Also of one that was replaced: see Hold.
				n.Value.renewal.Store(gone)
				if n.Cause == otter.CauseOverflow {
					v.evicted.Add(1)
				}
			},
			Clock:    clock,
			Executor: v.later,
		})
		if err != nil {
			return nil, fmt.Errorf("engine: cache: %w", err)
		}
		v.shards[i] = shard{c, clock}
	}
	go v.keepUp(ctx)
	return v, nil
}

// shardClock is the clock of a shard, which is ahead of the others so that what it does from
// time to time, it does at another time. It does not tick: see keepUp.
type shardClock struct {
	start time.Time
	ahead time.Duration
}

// NowNano implements otter.Clock.
func (c shardClock) NowNano() int64 { return int64(time.Since(c.start) + c.ahead) }

// Tick implements otter.Clock.
func (c shardClock) Tick(time.Duration) <-chan time.Time { return nil }

// time is the time since start.
func (c shardClock) time(nano int64) time.Duration { return time.Duration(nano) - c.ahead }

// of returns the shard of a name.
func (v *verdicts) of(name string) *shard {
	return &v.shards[maphash.String(v.seed, name)&uint64(len(v.shards)-1)]
}

// get returns an entry that has not ended, and the time since start.
func (v *verdicts) get(d nexthop.Destination) (n *entry, now time.Duration, ok bool) {
	p := v.of(d.Name)
	found, ok := p.GetEntry(d)
	if !ok {
		return nil, 0, false
	}
	now = p.clock.time(found.SnapshotAtNano)
	return found.Value, now, now < found.Value.until
}

func (v *verdicts) set(d nexthop.Destination, n *entry) { v.of(d.Name).Set(d, n) }

func (v *verdicts) drop(d nexthop.Destination) { v.of(d.Name).Invalidate(d) }

// all visits every entry.
func (v *verdicts) all() iter.Seq2[nexthop.Destination, *entry] {
	return func(yield func(nexthop.Destination, *entry) bool) {
		for i := range v.shards {
			for d, n := range v.shards[i].All() {
				if !yield(d, n) {
					return
				}
			}
		}
	}
}

// size is about how many entries there are.
func (v *verdicts) size() int {
	n := 0
	for i := range v.shards {
		n += v.shards[i].EstimatedSize()
	}
	return n
}

// later has the upkeep done, and does not wait. A shard has one thing to do at most.
func (v *verdicts) later(do func()) {
	select {
	case <-v.ended:
		go do()
		return
	default:
	}
	select {
	case v.upkeep <- do:
	default:
		go do()
	}
}

// keepUp does the upkeep, and drops what has ended, until ctx does.
func (v *verdicts) keepUp(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case do := <-v.upkeep:
			do()
		case <-tick.C:
			v.tidy()
		case <-ctx.Done():
			v.overdue()
			return
		}
	}
}

// overdue does what waits to be done.
func (v *verdicts) overdue() {
	for {
		select {
		case do := <-v.upkeep:
			do()
		default:
			return
		}
	}
}

// tidy drops what has ended, and what is too much.
func (v *verdicts) tidy() {
	for i := range v.shards {
		v.overdue()
		v.shards[i].CleanUp()
		runtime.Gosched()
	}
}

// close ends the shards' goroutines.
func (v *verdicts) close() {
	for i := range v.shards {
		v.shards[i].StopAllGoroutines()
	}
}
