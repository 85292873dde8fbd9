package store

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const benchEntries = 200_000

// big makes a file of benchEntries policies, which takes seconds.
func big(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "policyd.db")
	s, _ := open(b, path)
	for i := range benchEntries {
		keep(s, cached(b, fmt.Sprintf("d%d.example.com", i*7919%benchEntries), "20260301", start.Add(time.Duration(i)*time.Second)))
		if i%20_000 == 0 {
			sync1(b, s)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

func BenchmarkBigFile(b *testing.B) {
	path := big(b)
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s, err := Open(path, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	s, _ := open(b, path)
	b.Run("Policy", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i = (i + 104729) % benchEntries
			if _, found, _ := s.Policy(fmt.Sprintf("d%d.example.com", i)); !found {
				b.Fatal(i)
			}
		}
	})
	b.Run("Absent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, found, _ := s.Policy("absent.example"); found {
				b.Fatal("found")
			}
		}
	})
	b.Run("Due100", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if n := len(s.Due(start.AddDate(1, 0, 0), 100)); n != 100 {
				b.Fatal(n)
			}
		}
	})
	b.Run("PutSync", func(b *testing.B) {
		b.ReportAllocs()
		c := cached(b, "put.example", "1", start)
		for b.Loop() {
			keep(s, c)
			sync1(b, s)
		}
	})
	b.Run("PutSync100AtOnce", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() {
					keep(s, cached(b, fmt.Sprintf("d%d.example.com", i*1999), "2", start))
					if err := s.Sync(b.Context()); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
		}
	})
}

func BenchmarkPutInMemory(b *testing.B) {
	b.ReportAllocs()
	s, _ := open(b, "")
	c := cached(b, "example.com", "1", start)
	for b.Loop() {
		keep(s, c)
	}
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	record := encode(cached(b, "example.com", "1", start))
	for b.Loop() {
		if _, err := decode("example.com", record); err != nil {
			b.Fatal(err)
		}
	}
}
