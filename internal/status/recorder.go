package status

import (
	"context"
	"sync"
	"time"
)

const (
	// slots is how many minutes are kept: a day.
	slots = 24 * 60
	// hourStep and dayStep are the steps of the two windows, in minutes.
	hourStep = 1
	dayStep  = 15
)

// Recorder knows how many answers of each kind were given in each minute of the last
// day. It looks at counters that others keep once a minute, so that an answer costs
// nothing for it. It is safe for concurrent use.
type Recorder struct {
	read  func() Counts
	start time.Time

	mu sync.Mutex
	// minute is the number of the current one since start, last the counters at its
	// beginning, and ring the minutes before it, each at its number.
	minute int
	last   Counts
	ring   [slots]Counts
}

// NewRecorder begins to record. read returns counters that only grow, but may begin at 0
// again; it must be quick. What they count before is not recorded.
func NewRecorder(read func() Counts) *Recorder {
	return &Recorder{read: read, start: time.Now(), last: read()}
}

// Run records until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.mu.Lock()
			r.catchUp()
			r.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// catchUp ends the minutes that are over. What came in several of them counts for the
// oldest: it was not looked at in time.
func (r *Recorder) catchUp() {
	now := int(time.Since(r.start) / time.Minute)
	for ; r.minute < now; r.minute++ {
		read := r.read()
		r.ring[r.minute%slots] = read.since(r.last)
		r.last = read
	}
}

// since is what came after before.
func (c Counts) since(before Counts) Counts {
	for k, n := range before {
		// Where there are fewer now, they began at 0 again.
		if c[k] >= n {
			c[k] -= n
		}
	}
	return c
}

// Hour is the last hour by the minute; the last one is under way.
func (r *Recorder) Hour() Window { return r.window(60/hourStep, hourStep) }

// Day is the last day by the quarter of an hour.
func (r *Recorder) Day() Window { return r.window(slots/dayStep, dayStep) }

// window is so many steps of so many minutes.
func (r *Recorder) window(steps, minutes int) Window {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.catchUp()
	to := time.Now().UTC()
	w := Window{
		From: to.Add(-time.Duration(steps*minutes) * time.Minute), To: to,
		Step: minutes * int(time.Minute/time.Second), Steps: make([]Step, steps),
	}
	for i := range steps * minutes {
		m := r.minute - i
		if m < 0 {
			break
		}
		counts := r.ring[m%slots]
		if i == 0 {
			counts = r.read().since(r.last)
		}
		step := &w.Steps[steps-1-i/minutes]
		step.Known = true
		for k, n := range counts {
			step.Counts[k] += n
			w.Total[k] += n
		}
	}
	return w
}
