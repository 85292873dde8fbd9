package status

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRecorder: what is counted when stands in the right step of both windows, and ends a
// day later.
func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now [kinds]atomic.Uint64
		r := NewRecorder(func() (c Counts) {
			for k := range c {
				c[k] = now[k].Load()
			}
			return c
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }

		if h := r.Hour(); h.Total.Sum() != 0 || h.Steps[58].Known || !h.Steps[59].Known {
			t.Errorf("at the start: %v, %+v", h.Total, h.Steps[57:])
		}
		now[None].Add(5)
		if h := r.Hour(); h.Total[None] != 5 || h.Steps[59].Counts[None] != 5 {
			t.Errorf("the minute that is under way is not seen: %v", h.Total)
		}
		pass(10 * time.Minute)
		now[Defer].Add(2)
		pass(20 * time.Minute)
		now[DANEOnly].Add(1)
		h, d := r.Hour(), r.Day()
		if h.Steps[29].Counts[None] != 5 || h.Steps[39].Counts[Defer] != 2 || h.Steps[59].Counts[DANEOnly] != 1 || h.Total.Sum() != 8 {
			t.Errorf("after half an hour: %+v", h.Steps)
		}
		if !h.Steps[29].Known || h.Steps[28].Known {
			t.Error("it is not known since when it is known")
		}
		if d.Total != h.Total || d.Steps[93].Counts[None] != 5 || d.Steps[94].Counts[Defer] != 2 || d.Steps[95].Counts[DANEOnly] != 1 {
			t.Errorf("the day: %+v", d.Steps[90:])
		}
		if d.To.Sub(d.From) != 24*time.Hour || h.To.Sub(h.From) != time.Hour || len(d.Steps)*d.Step != 24*3600 || len(h.Steps)*h.Step != 3600 {
			t.Errorf("%v to %v, %v to %v", h.From, h.To, d.From, d.To)
		}
		pass(31 * time.Minute)
		if h, d := r.Hour(), r.Day(); h.Total[None] != 0 || h.Total[Defer] != 2 || d.Total.Sum() != 8 {
			t.Errorf("after an hour: %v, %v", h.Total, d.Total)
		}
		pass(24 * time.Hour)
		if d := r.Day(); d.Total.Sum() != 0 || !d.Steps[0].Known {
			t.Errorf("after a day: %v", d.Total)
		}
	})
}

// TestRecorderBeginsAnew: counters that begin at 0 again lose nothing and invent nothing.
func TestRecorderBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := Counts{None: 1000}
		r := NewRecorder(func() Counts { return now })
		now[None] += 7
		<-time.After(90 * time.Second)
		r.Hour()
		now = Counts{None: 3}
		if got := r.Hour().Total[None]; got != 10 {
			t.Errorf("%d answers, want 7 and 3", got)
		}
	})
}

func TestCountsJSON(t *testing.T) {
	data, err := json.Marshal(Counts{None: 3, Defer: 1})
	want := `{"dane-only":0,"fingerprint":0,"dane":0,"secure":0,"encrypt":0,"override":0,"none":3,"defer":1}`
	if err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
}

func BenchmarkWindow(b *testing.B) {
	r := NewRecorder(func() Counts { return Counts{} })
	b.ReportAllocs()
	for b.Loop() {
		r.Hour()
		r.Day()
	}
}
