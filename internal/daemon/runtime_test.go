package daemon

import "testing"

// TestGarbage: little may be dead where much lives, and as much as costs nothing where
// little does.
func TestGarbage(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 8 << 20: 200, 20 << 20: 80, 32 << 20: 50, 300 << 20: 50} {
		if got := garbageFor(live); got != want {
			t.Errorf("where %d octets live, %d %%, want %d %%", live, got, want)
		}
	}
}
