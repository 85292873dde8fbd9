package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

func TestPortSet(t *testing.T) {
	var s portSet
	if got := slices.Collect(s.all()); len(got) != 0 {
		t.Errorf("the zero value has %v", got)
	}
	want := []uint16{1, 25, 63, 64, 465, 587, 4095, 4096, 65535}
	for _, port := range slices.Concat(want, want) {
		s.add(port)
	}
	if got := slices.Collect(s.all()); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for range s.all() {
		break
	}
}

// TestForgetEveryForm: a name is dropped in all forms in which it was asked for, and no
// other name is.
func TestForgetEveryForm(t *testing.T) {
	bubble(t, answering(time.Hour), nil, func(t *testing.T, e *Engine) {
		var mine []nexthop.Destination
		for _, port := range []uint16{25, 587, 2525} {
			mine = append(mine, nexthop.Destination{Name: dest.Name, Port: port}, nexthop.Destination{Name: dest.Name, Port: port, Host: true})
		}
		other := nexthop.Destination{Name: "other.example", Port: 2525}
		for _, d := range append(mine, other) {
			e.Rule(t.Context(), d)
		}
		e.Forget(dest.Name)
		for _, d := range mine {
			if _, ok := e.Cached(d); ok {
				t.Errorf("%s is still known", d)
			}
		}
		if _, ok := e.Cached(other); !ok {
			t.Error("another name was forgotten too")
		}
	})
}

// TestShards: a large cache is one in every way, though it is in shards.
func TestShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const entries, kept = 200_000, 50_000
		ctx, stop := context.WithCancel(t.Context())
		v, err := newVerdicts(ctx, entries, time.Now(), func(*entry) uint32 { return 1 })
		if err != nil {
			t.Fatal(err)
		}
		if len(v.shards) != 16 {
			t.Errorf("%d shards", len(v.shards))
		}
		name := func(i int) nexthop.Destination {
			return nexthop.Destination{Name: fmt.Sprintf("d%d.example", i), Port: 25}
		}
		for i := range kept {
			v.set(name(i), &entry{verdict: verdict.NoPolicy{}, until: time.Duration(1+i%2) * time.Hour})
		}
		v.drop(name(0))
		n := 0
		for d, e := range v.all() {
			if got, now, ok := v.get(d); !ok || got != e || now != 0 {
				t.Fatalf("%s: %v, %v", d, now, ok)
			}
			n++
		}
		if n != kept-1 {
			t.Errorf("%d of %d", n, kept-1)
		}
		for range v.all() {
			break
		}
		time.Sleep(time.Hour + 2*sweepEvery)
		if n := v.size(); n != kept/2 {
			t.Errorf("%d are kept after half of them ended, want %d", n, kept/2)
		}
		if _, _, ok := v.get(name(2)); ok {
			t.Error("a verdict is known after its end")
		}
		if _, now, ok := v.get(name(1)); !ok || now != time.Hour+2*sweepEvery {
			t.Errorf("%v, %v", now, ok)
		}
		time.Sleep(time.Hour)
		if n := v.size(); n != 0 {
			t.Errorf("%d are kept after the end of all", n)
		}
		stop()
		v.close()
	})
}

// TestShardsAreBounded: what is too much goes, whatever shard it falls on.
func TestShardsAreBounded(t *testing.T) {
	const entries = 40_000
	v, err := newVerdicts(t.Context(), entries, time.Now(), func(*entry) uint32 { return 2 })
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	for i := range 2 * entries {
		v.set(nexthop.Destination{Name: fmt.Sprintf("d%d.example", i), Port: 25}, &entry{verdict: verdict.NoPolicy{}, until: time.Hour})
	}
	v.tidy()
	if n := v.size(); n > entries/2 || n < entries/2*9/10 {
		t.Errorf("%d entries that count as two each, want at most %d", n, entries/2)
	}
}
