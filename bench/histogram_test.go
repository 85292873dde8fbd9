package bench

import (
	"math/bits"
	"testing"
	"time"
)

// histogram counts durations with an error of at most 1/64. The zero value is empty.
// It is for one goroutine; add joins several.
type histogram struct {
	count [64 * (64 - subBits)]uint64
	n     uint64
	most  time.Duration
}

// subBits is how many bits below the highest one are kept.
const subBits = 6

func slot(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<subBits {
		return int(v)
	}
	exp := bits.Len64(v) - subBits - 1
	return (exp+1)<<subBits + int(v>>exp)&(1<<subBits-1)
}

// upper is the largest duration of a slot.
func upper(i int) time.Duration {
	if i < 1<<subBits {
		return time.Duration(i)
	}
	exp := i>>subBits - 1
	return time.Duration((uint64(1<<subBits+i&(1<<subBits-1))+1)<<exp - 1)
}

func (h *histogram) record(d time.Duration) {
	h.count[slot(d)]++
	h.n++
	h.most = max(h.most, d)
}

func (h *histogram) add(o *histogram) {
	for i, n := range o.count {
		h.count[i] += n
	}
	h.n += o.n
	h.most = max(h.most, o.most)
}

// quantile returns the duration that a part p of all, 0 to 1, does not exceed.
func (h *histogram) quantile(p float64) time.Duration {
	want, seen := uint64(p*float64(h.n)), uint64(0)
	for i, n := range h.count {
		if seen += n; seen > want {
			return min(upper(i), h.most)
		}
	}
	return h.most
}

func TestHistogram(t *testing.T) {
	var h, other histogram
	for i := range 10_000 {
		h.record(time.Duration(i) * time.Microsecond)
	}
	other.record(time.Second)
	h.add(&other)
	for p, want := range map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.99: 9900 * time.Microsecond, 1: time.Second} {
		if got := h.quantile(p); got < want*98/100 || got > want*102/100 {
			t.Errorf("quantile %v is %v, want about %v", p, got, want)
		}
	}
	for i := 1; i < len(h.count)-64; i++ {
		if slot(upper(i)) != i || slot(upper(i-1)+1) != i {
			t.Fatalf("slot %d does not begin at %v and end at %v", i, upper(i-1)+1, upper(i))
		}
	}
}
