package socketmapd

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestTexts: the text is that of the octets, whatever the slots hold, and does not change
// when the octets do.
func TestTexts(t *testing.T) {
	k := newKeys()
	buffer := []byte("one.example")
	first := k.text(buffer)
	copy(buffer, "two.example")
	if second := k.text(buffer); first != "one.example" || second != "two.example" {
		t.Errorf("%q, %q", first, second)
	}
	if long := strings.Repeat("x", 10_000); k.text([]byte(long)) != long {
		t.Error("a long text is another")
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 10_000 {
				want := fmt.Sprintf("d%d.example", i)
				if got := k.text([]byte(want)); got != want {
					t.Errorf("%q is %q", want, got)
				}
			}
		})
	}
	all.Wait()
	popular := []byte("popular.example")
	k.text(popular)
	if n := testing.AllocsPerRun(100, func() { k.text(popular) }); n != 0 {
		t.Errorf("%v allocations for a text that came before", n)
	}
}
