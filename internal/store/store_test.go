package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
)

var start = time.Date(2026, 3, 1, 10, 30, 0, 123456789, time.UTC)

// logs collects log lines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) count(s string) int { return bytes.Count([]byte(l.String()), []byte(s)) }

func open(t testing.TB, path string) (*Store, *logs) {
	t.Helper()
	l := &logs{}
	s, err := Open(path, slog.New(slog.NewTextHandler(l, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, l
}

func policy(t testing.TB, mx string) mtasts.Policy {
	t.Helper()
	p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: " + mx + "\nmax_age: 604800\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func cached(t testing.TB, domain, id string, fetched time.Time) mtasts.Cached {
	t.Helper()
	return mtasts.Cached{Domain: domain}.AfterSuccess(fetched, id, policy(t, "mail."+domain), 0)
}

func sync1(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
}

// keep puts a policy in place of what is kept, and writes it even if it is the same.
func keep(s *Store, c mtasts.Cached) {
	defer s.lock(c.Domain)()
	s.add(c.Domain, change{kind: put, cached: c})
}

func drop(s *Store, domain string) {
	s.Update(domain, func(mtasts.Cached, bool) (mtasts.Cached, bool) { return mtasts.Cached{}, false })
}

func want(t testing.TB, s *Store, c mtasts.Cached) {
	t.Helper()
	got, found, err := s.Policy(c.Domain)
	if err != nil || !found || !reflect.DeepEqual(got, c) {
		t.Fatalf("kept %+v, %t, %v; want %+v", got, found, err, c)
	}
}

func gone(t testing.TB, s *Store, domain string) {
	t.Helper()
	if got, found, err := s.Policy(domain); found || err != nil {
		t.Fatalf("kept %+v, %v; want nothing", got, err)
	}
}

// stores runs a test on a store in memory and on one in a file, with and without
// waiting for the disk after each step.
func stores(t *testing.T, f func(t *testing.T, s *Store, settle func())) {
	t.Run("memory", func(t *testing.T) {
		s, _ := open(t, "")
		f(t, s, func() {})
	})
	t.Run("file", func(t *testing.T) {
		s, _ := open(t, filepath.Join(t.TempDir(), "sub", "policyd.db"))
		f(t, s, func() {})
	})
	t.Run("synced", func(t *testing.T) {
		s, _ := open(t, filepath.Join(t.TempDir(), "policyd.db"))
		f(t, s, func() { sync1(t, s) })
	})
}

func TestPutAndDelete(t *testing.T) {
	stores(t, func(t *testing.T, s *Store, settle func()) {
		gone(t, s, "example.com")
		c := cached(t, "example.com", "1", start)
		keep(s, c)
		settle()
		want(t, s, c)
		c = c.AfterFailure(start.Add(time.Hour), "2", "refused", 0.5)
		keep(s, c)
		settle()
		want(t, s, c)
		drop(s, "example.com")
		settle()
		gone(t, s, "example.com")
		gone(t, s, "")
		s.Update("", func(mtasts.Cached, bool) (mtasts.Cached, bool) { return c, true })
		settle()
		gone(t, s, "example.com")
		gone(t, s, "")
	})
}

func TestTouchByDay(t *testing.T) {
	stores(t, func(t *testing.T, s *Store, settle func()) {
		s.Touch("example.com", start)
		gone(t, s, "example.com")
		c := cached(t, "example.com", "1", start)
		keep(s, c)
		settle()
		s.Touch("example.com", start.Add(time.Hour))
		if n := s.Stats().Waiting; s.path != "" && n > 1 {
			t.Errorf("%d changes wait after a touch on the same day", n)
		}
		want(t, s, c)
		s.Touch("example.com", start.Add(24*time.Hour))
		want(t, s, c.AfterUse(start.Add(24*time.Hour)))
		settle()
		want(t, s, c.AfterUse(start.Add(24*time.Hour)))
		drop(s, "example.com")
		s.Touch("example.com", start.Add(48*time.Hour))
		settle()
		gone(t, s, "example.com")
	})
}

func TestTouchDoesNotBringBackAnOldPolicy(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "policyd.db"))
	keep(s, cached(t, "example.com", "1", start))
	sync1(t, s)
	later := start.Add(24 * time.Hour)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 200 {
			s.Touch("example.com", later)
		}
	})
	newer := cached(t, "example.com", "2", start)
	keep(s, newer)
	wg.Wait()
	sync1(t, s)
	if got, _, _ := s.Policy("example.com"); got.ID != "2" {
		t.Errorf("id %q after a touch, want 2", got.ID)
	}
}

// TestUpdatesAreNotLost: a fetch, a refresh and a use at once.
func TestUpdatesAreNotLost(t *testing.T) {
	stores(t, func(t *testing.T, s *Store, settle func()) {
		keep(s, cached(t, "example.com", "1", start))
		settle()
		const writers, times = 8, 50
		later := start.Add(24 * time.Hour)
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range times {
					s.Update("example.com", func(old mtasts.Cached, found bool) (mtasts.Cached, bool) {
						old.Failures++
						return old, found
					})
				}
			})
			wg.Go(func() { s.Touch("example.com", later) })
			wg.Go(func() { settle() })
		}
		wg.Wait()
		settle()
		c, found, err := s.Policy("example.com")
		if err != nil || !found || c.Failures != writers*times || !c.Used.Equal(later.Truncate(24*time.Hour)) {
			t.Errorf("%d failures of %d, used %v, %t, %v", c.Failures, writers*times, c.Used, found, err)
		}
	})
}

func TestUpdate(t *testing.T) {
	stores(t, func(t *testing.T, s *Store, settle func()) {
		c := cached(t, "example.com", "1", start)
		update := func(want, found bool, next mtasts.Cached, keep bool) {
			t.Helper()
			s.Update("example.com", func(old mtasts.Cached, was bool) (mtasts.Cached, bool) {
				if was != found {
					t.Errorf("told %+v, %t; want %t", old, was, found)
				}
				return next, keep
			})
			settle()
			if _, found, err := s.Policy("example.com"); found != want || err != nil {
				t.Fatalf("kept: %t, %v; want %t", found, err, want)
			}
		}
		update(false, false, mtasts.Cached{}, false)
		update(false, false, mtasts.Cached{Failures: 1}, true)
		update(true, false, mtasts.Cached{Policy: c.Policy}, true)
		update(true, true, c, true)
		update(true, true, mtasts.Cached{}, true)
		want(t, s, c)
		sequence := s.seq
		update(true, true, c, true)
		if s.seq != sequence {
			t.Error("what changes nothing was written")
		}
		update(false, true, mtasts.Cached{}, false)
	})
}

// TestReadersDoNotWaitForAnUpdate: nor do changes of other domains.
func TestReadersDoNotWaitForAnUpdate(t *testing.T) {
	stores(t, func(t *testing.T, s *Store, settle func()) {
		c := cached(t, "example.com", "1", start)
		keep(s, c)
		settle()
		s.Update("example.com", func(old mtasts.Cached, found bool) (mtasts.Cached, bool) {
			want(t, s, c)
			return old, found
		})
	})
}

func TestDueInOrder(t *testing.T) {
	stores(t, func(t *testing.T, s *Store, settle func()) {
		day := 24 * time.Hour
		for i, domain := range []string{"c.example", "a.example", "b.example", "d.example"} {
			keep(s, cached(t, domain, "1", start.Add(time.Duration(i)*time.Minute)))
		}
		settle()
		check := func(now time.Time, most int, want ...string) {
			t.Helper()
			if got := s.Due(now, most); !reflect.DeepEqual(append([]string{}, got...), append([]string{}, want...)) {
				t.Fatalf("due %q, want %q", got, want)
			}
		}
		check(start.Add(day-1), 10)
		check(start.Add(day), 10, "c.example")
		check(start.Add(2*day), 3, "c.example", "a.example", "b.example")
		check(start.Add(2*day), 0)
		c, _, _ := s.Policy("c.example")
		keep(s, c.AfterFailure(start.Add(day), "1", "x", 0))
		drop(s, "a.example")
		check(start.Add(day+4*time.Minute), 10, "b.example", "d.example")
		settle()
		check(start.Add(day+5*time.Minute), 10, "b.example", "d.example", "c.example")
	})
}

func TestS13SurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policyd.db")
	s, _ := open(t, path)
	c := cached(t, "example.com", "1", start)
	keep(s, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = open(t, path)
	want(t, s, c)
	if got := s.Due(start.Add(24*time.Hour), 1); len(got) != 1 {
		t.Errorf("due %q", got)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	open(t, filepath.Join(dir, "policyd.db"))
	if info, err := os.Stat(dir); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestAgainstAModel does random things to a store and to a map.
func TestAgainstAModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policyd.db")
	s, l := open(t, path)
	model := map[string]mtasts.Cached{}
	r := rand.New(rand.NewPCG(1, 2))
	now := start
	for i := range 3000 {
		now = now.Add(time.Duration(r.IntN(7200)) * time.Second)
		domain := fmt.Sprintf("d%d.example", r.IntN(40))
		switch r.IntN(100) {
		default:
			c := cached(t, domain, fmt.Sprint(i), now)
			keep(s, c)
			model[domain] = c
		case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11:
			drop(s, domain)
			delete(model, domain)
		case 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29:
			s.Touch(domain, now)
			if c, found := model[domain]; found {
				model[domain] = c.AfterUse(now)
			}
		case 30, 31, 32:
			sync1(t, s)
		case 33:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, l = open(t, path)
		}
		if c, found := model[domain]; found {
			want(t, s, c)
		} else {
			gone(t, s, domain)
		}
	}
	if got := s.Due(now.Add(48*time.Hour), 1000); len(got) != len(model) {
		t.Errorf("%d are due, %d are kept", len(got), len(model))
	}
	if st := s.Stats(); st.Refused+st.Failures+st.Damaged+st.Ignored != 0 {
		t.Errorf("%+v\n%s", st, l)
	}
}

func TestReadersDoNotWaitForTheWriter(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "policyd.db"))
	a, b := cached(t, "a.example", "1", start), cached(t, "b.example", "1", start)
	keep(s, a)
	sync1(t, s)
	// The disk hangs: no write can begin until this transaction ends.
	tx, err := s.file.Load().db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	keep(s, b)
	want(t, s, a)
	want(t, s, b)
	newer := cached(t, "a.example", "2", start)
	keep(s, newer)
	want(t, s, newer)
	drop(s, "b.example")
	gone(t, s, "b.example")
	if got := s.Due(start.Add(48*time.Hour), 9); len(got) != 1 {
		t.Errorf("due %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Sync(ctx); !errors.Is(err, ErrNotDurable) || !errors.Is(err, context.Canceled) {
		t.Errorf("Sync: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	sync1(t, s)
	want(t, s, newer)
	gone(t, s, "b.example")
	if n := s.Stats(); n.Waiting != 0 || n.Octets != 0 || !n.Durable {
		t.Errorf("%+v after Sync", n)
	}
}

// TestMemoryIsBounded: a crowd of domains pushes out only what nobody asks for.
func TestMemoryIsBounded(t *testing.T) {
	s, l := open(t, "")
	s.limit = 64 << 10
	busy := cached(t, "busy.example", "1", start)
	keep(s, busy)
	const crowd = 1000
	for i := range crowd {
		c := cached(t, fmt.Sprintf("d%d.example", i), "1", start)
		keep(s, c)
		want(t, s, c)
		want(t, s, busy)
	}
	st := s.Stats()
	if st.Octets > s.limit || st.Refused != 0 || st.Evicted == 0 || int(st.Evicted)+st.Waiting != crowd+1 {
		t.Errorf("%+v", st)
	}
	if n := l.count("too many policies"); n != 1 {
		t.Errorf("said %d times", n)
	}
	gone(t, s, "d0.example")
	for i := range crowd {
		drop(s, fmt.Sprintf("d%d.example", i))
	}
	drop(s, "busy.example")
	if st = s.Stats(); st.Waiting != 0 || st.Octets != 0 {
		t.Errorf("%+v when empty", st)
	}
	s.limit = 100
	keep(s, busy)
	if st = s.Stats(); st.Waiting != 0 || st.Refused != 1 {
		t.Errorf("%+v when one is too much", st)
	}
}

// TestDueAfterTheClockWasAhead: what a clock that was wrong once has planned for
// next year is due.
func TestDueAfterTheClockWasAhead(t *testing.T) {
	stores(t, func(t *testing.T, s *Store, settle func()) {
		for domain, at := range map[string]time.Time{
			"a.example": start.Add(-48 * time.Hour), "b.example": start, "c.example": start.Add(24 * time.Hour),
			"d.example": start.AddDate(1, 0, 0), "e.example": start.AddDate(2, 0, 0),
		} {
			keep(s, cached(t, domain, "1", at))
		}
		settle()
		if got := s.Due(start, 10); !reflect.DeepEqual(got, []string{"a.example", "d.example", "e.example"}) {
			t.Errorf("due %q", got)
		}
		if got := s.Due(start, 2); len(got) != 2 || got[0] != "a.example" {
			t.Errorf("due %q", got)
		}
	})
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policyd.db")
	open(t, path)
	_, err := Open(path, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrLocked) || !bytes.Contains([]byte(err.Error()), []byte(path)) {
		t.Errorf("%v, want ErrLocked with the path", err)
	}
}

func TestPathsThatCanBeNoFile(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(plain, "policyd.db")} {
		if s, err := Open(path, slog.New(slog.DiscardHandler)); err == nil {
			_ = s.Close()
			t.Errorf("%s was opened", path)
		}
	}
}

func TestAfterClose(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "policyd.db"))
	c := cached(t, "example.com", "1", start)
	keep(s, c)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	unreadable(t, s, "example.com", errClosed)
	keep(s, c)
	if err := s.Sync(t.Context()); !errors.Is(err, ErrNotDurable) {
		t.Errorf("Sync after Close: %v", err)
	}
}

// TestCloseWhilePutting: a policy whose fetch ends while the daemon stops is written if
// it came in time, and what came too late is said in words.
func TestCloseWhilePutting(t *testing.T) {
	for range 20 {
		s, _ := open(t, filepath.Join(t.TempDir(), "policyd.db"))
		stop, begun, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for n := 0; ; n++ {
				c, err := numbered(n)
				if err != nil {
					t.Error(err)
					return
				}
				keep(s, c)
				if n == 10 {
					close(begun)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		<-begun
		err := s.Close()
		close(stop)
		<-ended
		if err != nil && (!errors.Is(err, ErrNotDurable) || strings.Contains(err.Error(), "%!")) {
			t.Fatal(err)
		}
	}
}
