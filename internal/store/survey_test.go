package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
)

// TestSurvey: what is on disk and what waits is counted once, as it is now; the policies
// that cannot be fetched are named in the order of their ends.
func TestSurvey(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "db")} {
		s, _ := open(t, path)
		const many = 2*surveyed + 10
		for i := range many {
			c := cached(t, fmt.Sprintf("d%04d.example", i), "1", start.Add(-time.Duration(i)*time.Second))
			if i%10 == 0 {
				c = c.AfterFailure(start, "1", "no", 0)
			}
			keep(s, c)
		}
		sync1(t, s)
		keep(s, cached(t, "d0000.example", "2", start)) // no longer failing
		drop(s, "d0001.example")
		keep(s, cached(t, "new.example", "1", start.Add(-400*24*time.Hour)))
		v, err := s.Survey(t.Context(), start)
		failing := (many+9)/10 - 1
		if err != nil || v.Policies[mtasts.ModeEnforce] != many || v.Expired != 1 || v.Failing != failing || len(v.Soonest) != mostFailing {
			t.Errorf("%q: %v %+v, %d soonest, %v", path, v.Policies, v, len(v.Soonest), err)
		}
		last := time.Time{}
		for _, c := range v.Soonest {
			if c.Expires().Before(last) {
				t.Errorf("%s is out of order", c.Domain)
			}
			last = c.Expires()
		}
		if last := (many - 1) / 10 * 10; v.Soonest[0].Domain != fmt.Sprintf("d%04d.example", last) {
			t.Errorf("%s ends first", v.Soonest[0].Domain)
		}
		if path != "" {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := s.Survey(ctx, start); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			if s.Stats().Writes == 0 {
				t.Error("no write is counted")
			}
		}
	}
}

// BenchmarkSurvey reads 10,000 policies.
func BenchmarkSurvey(b *testing.B) {
	s, _ := open(b, filepath.Join(b.TempDir(), "db"))
	for i := range 10_000 {
		keep(s, cached(b, fmt.Sprintf("d%05d.example", i), "1", start))
	}
	sync1(b, s)
	b.ReportAllocs()
	for b.Loop() {
		if v, err := s.Survey(b.Context(), start); err != nil || v.Policies[mtasts.ModeEnforce] != 10_000 {
			b.Fatal(v, err)
		}
	}
}
