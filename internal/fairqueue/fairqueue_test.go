package fairqueue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// enter has a client enter in the background, and returns what becomes of it.
func enter(ctx context.Context, q *Queue, client string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- q.Enter(ctx, client) }()
	synctest.Wait()
	return done
}

var errWaits = errors.New("waits") // never changed

// now returns what became of an Enter, or errWaits.
func now(done <-chan error) error {
	synctest.Wait()
	select {
	case err := <-done:
		return err
	default:
		return errWaits
	}
}

func TestOneAloneHasThreeQuarters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for places, want := range map[int]int{1: 1, 2: 2, 4: 3, 64: 48, 512: 384} {
			q := New(places, 1000)
			ctx, cancel := context.WithCancel(t.Context())
			got := 0
			var all []<-chan error
			for range places {
				done := enter(ctx, q, "a")
				all = append(all, done)
			}
			for _, done := range all {
				if now(done) == nil {
					got++
				}
			}
			if got != want {
				t.Errorf("%d of %d places, want %d", got, places, want)
			}
			cancel()
			synctest.Wait()
		}
	})
}

// TestNewcomerIsServedAtOnce: clients that hold all they may leave a place for others,
// several times over.
func TestNewcomerIsServedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := New(512, 8192)
		for i := range 4 {
			client := fmt.Sprint("greedy", i)
			for range 600 {
				enter(ctx, q, client)
			}
			if err := now(enter(ctx, q, fmt.Sprint("modest", i))); err != nil {
				t.Fatalf("beside %d greedy clients: %v", i+1, err)
			}
		}
		cancel()
		synctest.Wait()
	})
}

// TestFreedPlaceGoesToWhoHoldsLeast, and among equals to who came first.
func TestFreedPlaceGoesToWhoHoldsLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(1, 10)
		if err := q.Enter(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		a, b, c := enter(t.Context(), q, "a"), enter(t.Context(), q, "b"), enter(t.Context(), q, "c")
		b2 := enter(t.Context(), q, "b")
		for i, turn := range []struct {
			leaves string
			next   <-chan error
		}{{"a", a}, {"a", b}, {"b", c}, {"c", b2}} {
			q.Leave(turn.leaves)
			if err := now(turn.next); err != nil {
				t.Fatalf("turn %d: %v", i, err)
			}
		}
		q.Leave("b")
	})
}

func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := New(1, 4)
		_ = q.Enter(ctx, "a")
		var waiting []<-chan error
		for range 4 {
			waiting = append(waiting, enter(ctx, q, "a"))
		}
		if err := q.Enter(ctx, "a"); !errors.Is(err, ErrFull) {
			t.Errorf("the fifth: %v", err)
		}
		// Another client takes the place of the last of the many, down to a fair share.
		b1, b2 := enter(ctx, q, "b"), enter(ctx, q, "b")
		if now(waiting[3]) != ErrFull || now(waiting[2]) != ErrFull || now(waiting[1]) != errWaits || now(b1) != errWaits || now(b2) != errWaits {
			t.Error("not the last ones of the client with most were refused")
		}
		if err := q.Enter(ctx, "b"); !errors.Is(err, ErrFull) {
			t.Errorf("more than a fair share: %v", err)
		}
		cancel()
		synctest.Wait()
		q.Leave("a")
	})
}

func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(1, 10)
		_ = q.Enter(t.Context(), "a")
		ctx, cancel := context.WithCancel(t.Context())
		gone := enter(ctx, q, "b")
		stays := enter(t.Context(), q, "c")
		cancel()
		if err := now(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if err := q.Enter(ctx, "b"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		q.Leave("a")
		if err := now(stays); err != nil {
			t.Errorf("the one behind: %v", err)
		}
		q.Leave("c")
		if len(q.shares) != 0 || q.waiting != 0 || q.free != 1 || len(q.queued) != 0 {
			t.Errorf("left behind: %d shares, %d waiting, %d free", len(q.shares), q.waiting, q.free)
		}
	})
}

// TestNothingIsLost: whatever the order of comings, goings and giving up, places are
// never more than there are, and in the end all are free.
func TestNothingIsLost(t *testing.T) {
	q := New(5, 20)
	var inside atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(2) == 0 {
					go cancel()
				}
				client := fmt.Sprint(i % 7)
				if q.Enter(ctx, client) == nil {
					if inside.Add(1) > 5 {
						t.Error("more inside than there are places")
					}
					inside.Add(-1)
					q.Leave(client)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if len(q.shares) != 0 || q.waiting != 0 || q.free != 5 {
		t.Errorf("left behind: %d shares, %d waiting, %d free", len(q.shares), q.waiting, q.free)
	}
}

func TestClientInContext(t *testing.T) {
	if got := Client(t.Context()); got != "" {
		t.Errorf("nobody is %q", got)
	}
	if got := Client(WithClient(t.Context(), "192.0.2.1")); got != "192.0.2.1" {
		t.Errorf("%q", got)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	q := New(512, 8192)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_ = q.Enter(ctx, "192.0.2.1")
		q.Leave("192.0.2.1")
	}
}
