package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// TestCounts: of three that ask at once one begins the work, one joins it, and one gives up.
func TestCounts(t *testing.T) {
	slow := &source{facts: func(_ context.Context, d nexthop.Destination) verdict.Facts {
		time.Sleep(10 * time.Second)
		return unsigned(d, time.Hour)
	}}
	bubble(t, slow, nil, func(t *testing.T, e *Engine) {
		go e.Rule(t.Context(), dest)
		synctest.Wait()
		go e.Rule(t.Context(), dest)
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e.Rule(impatient, dest)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		e.Rule(t.Context(), dest)
		s := e.Stats()
		if s.Misses != 3 || s.Joined != 1 || s.Lost != 1 || s.Flights != 1 || s.Hits != 1 {
			t.Errorf("%+v", s)
		}
		var rulings uint64
		for _, n := range s.Rulings {
			rulings += n
		}
		if rulings != 1 {
			t.Errorf("rulings: %v", s.Rulings)
		}
	})
}
