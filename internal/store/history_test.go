package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"tlsverdict/internal/history"
	"tlsverdict/internal/verdict"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func strict(s *Store, dest string, at time.Time) *history.Change {
	return s.Note(history.Observation{Time: at, Dest: dest, Verdict: verdict.STS{}, Source: verdict.FromSTS, Until: at.Add(time.Hour)})
}

func lax(s *Store, dest string, at time.Time) *history.Change {
	return s.Note(history.Observation{
		Time: at, Dest: dest, Verdict: verdict.NoPolicy{}, Until: at.Add(time.Hour),
		Reasons: []verdict.Reason{{Code: verdict.STSNone}, {Code: verdict.Nothing}},
	})
}

// TestHistorySurvives: a restart changes nothing, and what was strict before it is known.
func TestHistorySurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := openStore(t, path)
	now := time.Now().UTC().Round(0)
	for _, dest := range []string{"a.example", "b.example", "[mx.example]:26"} {
		if strict(s, dest, now) != nil {
			t.Error("a first verdict is a change")
		}
	}
	if c := lax(s, "a.example", now.Add(time.Second)); c == nil || !c.Downgrade {
		t.Errorf("%+v", c)
	}
	want := s.Changes(history.Filter{})
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	s.KeepHistory(100)
	if got := s.Changes(history.Filter{}); !reflect.DeepEqual(got, want) || len(got) != 1 || got[0].Cause != verdict.CauseWithdrawn {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if c := lax(s, "b.example", now.Add(time.Minute)); c == nil || !c.Downgrade || c.Seq <= want[0].Seq {
		t.Errorf("%+v", c)
	}
	if got := s.States("mx.example"); len(got) != 1 || got[0].Verdict != "secure" || !got[0].Since.Equal(now) {
		t.Errorf("%+v", got)
	}
	s.KeepHistory(0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	if st := s.HistoryStats(); st.Records != 0 || st.Known != 0 {
		t.Errorf("%+v is left", st)
	}
}

// TestHistoryInMemory: without a file it is bounded, and nothing waits to be written.
func TestHistoryInMemory(t *testing.T) {
	s := openStore(t, "")
	s.KeepHistory(50)
	for i := range 1000 {
		dest := fmt.Sprintf("x%d.example", i)
		strict(s, dest, noon())
		lax(s, dest, noon())
	}
	if st := s.HistoryStats(); st.Records > 53 || st.Downgrades != 1000 || s.book.Waiting() != 0 {
		t.Errorf("%+v, %d wait", st, s.book.Waiting())
	}
}

// TestHistoryIsTrimmed: the writer does it.
func TestHistoryIsTrimmed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := openStore(t, path)
	s.KeepHistory(100)
	now := time.Now()
	for i := range 20 {
		for j := range 20 {
			dest := fmt.Sprintf("x%d-%d.example.com", i, j)
			strict(s, dest, now)
			lax(s, dest, now)
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	if st := s.HistoryStats(); st.Records > 106 || st.Records < 100 {
		t.Errorf("%+v", st)
	}
}

// TestFileOfBefore: a file that has no history, or no pins either, is opened and gets one.
func TestFileOfBefore(t *testing.T) {
	for _, missing := range [][][]byte{{changesBucket(), verdictsBucket()}, {changesBucket(), verdictsBucket(), pinsBucket()}} {
		path := filepath.Join(t.TempDir(), "s.db")
		s := openStore(t, path)
		c := cached(t, "a.example", "1", noon())
		keep(s, c)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			for _, name := range missing {
				if err := tx.DeleteBucket(name); err != nil {
					return err
				}
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		from, err := openReadOnly(path)
		if err != nil {
			t.Fatal(err)
		}
		to, err := openFile(filepath.Join(t.TempDir(), "to.db"))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := salvageHistory(from, to); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := errors.Join(from.close(), to.close()); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, path)
		want(t, s, c)
		strict(s, "a.example", noon())
		lax(s, "a.example", noon())
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(openStore(t, path).Changes(history.Filter{})); n != 1 {
			t.Errorf("%d records", n)
		}
	}
}

// TestHistoryDamaged: a record that cannot be read costs itself, and is said.
func TestHistoryDamaged(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"bit":     func(b []byte) []byte { b[3] ^= 1; return b },
		"cut":     func(b []byte) []byte { return b[:3] },
		"empty":   func([]byte) []byte { return nil },
		"version": func(b []byte) []byte { b[0] = 9; return b },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			s := openStore(t, path)
			now := time.Now()
			for _, dest := range []string{"a.example", "b.example"} {
				strict(s, dest, now)
				lax(s, dest, now)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bbolt.Tx) error {
				for _, b := range []*bbolt.Bucket{tx.Bucket(changesBucket()), tx.Bucket(verdictsBucket())} {
					k, v := b.Cursor().First()
					if err := b.Put(append([]byte(nil), k...), change(append([]byte(nil), v...))); err != nil {
						return err
					}
				}
				return tx.Bucket(changesBucket()).Put([]byte("key"), []byte("value"))
			})
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			s, l := open(t, path)
			if got := s.Changes(history.Filter{}); len(got) != 1 || got[0].Dest != "b.example" {
				t.Errorf("%+v", got)
			}
			if st := s.HistoryStats(); st.Known != 1 || l.count("a record of the history cannot be read") != 1 || s.historyLost.Load() != 3 {
				t.Errorf("%+v\n%s", st, l)
			}
		})
	}
}

// TestHistoryInDamagedFile: what can be reached of it is saved with the rest, and what is in
// memory is written to the new file.
func TestHistoryInDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := openStore(t, path)
	now := time.Now()
	for i := range 300 {
		dest := fmt.Sprintf("x%d.example", i)
		strict(s, dest, now)
		lax(s, dest, now)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.askRepair(s.file.Load(), ErrDamaged)
	strict(s, "late.example", now)
	lax(s, "late.example", now)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	if st := s.HistoryStats(); st.Records != 301 || st.Known != 301 {
		t.Errorf("%+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		damaged := append([]byte(nil), text...)
		for range 40 {
			damaged[r.IntN(len(damaged))] ^= byte(1 << r.IntN(8))
		}
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.db", seed))
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, path)
		strict(s, "new.example", now)
		if c := lax(s, "new.example", now); c == nil || !c.Downgrade {
			t.Errorf("seed %d: %+v", seed, c)
		}
		if err := s.Close(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestRecordsAreShort: whatever is in a record, it is cut to its bound, and read again.
func TestRecordsAreShort(t *testing.T) {
	long := strings.Repeat("x", 2000)
	c := history.Change{Seq: 1, Time: noon(), Dest: strings.Repeat("d", 253) + ":65535", Before: history.Step{Verdict: long, Source: long}, After: history.Step{Verdict: long, Source: long}, Cause: verdict.Cause(long), Until: noon(), Waited: noon()}
	for i := range history.MaxCodes {
		c.Codes = append(c.Codes, verdict.Code(fmt.Sprintf("%d%s", i, long[:100])))
	}
	b := encodeChange(&c)
	if len(b) > maxChange {
		t.Errorf("%d octets", len(b))
	}
	got, err := decodeChange(changeKey(1), b)
	if err != nil || got.Dest != c.Dest || len(got.Codes) == 0 || got.Codes[len(got.Codes)-1] != c.Codes[len(c.Codes)-1] {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzDecodeChange: no record does harm, and one that is read is written the same.
func FuzzDecodeChange(f *testing.F) {
	c := history.Change{
		Seq: 7, Time: noon(), Dest: "a.example", Before: history.Step{Verdict: "secure", Source: "mta-sts", Guarantee: 15}, After: history.Step{Verdict: "none", Source: "none"},
		Downgrade: true, Cause: verdict.CauseExpired, Codes: []verdict.Code{"sts-absent", "nothing"}, Until: noon(),
	}
	f.Add(encodeChange(&c), true)
	f.Add(encodeState(&history.State{Dest: "a.example", Step: c.Before, Since: noon(), Seen: noon()}), false)
	f.Fuzz(func(t *testing.T, b []byte, change bool) {
		if change {
			c, err := decodeChange(changeKey(7), b)
			if err != nil {
				if !errors.Is(err, errRecord) && !errors.Is(err, errVersion) {
					t.Fatal(err)
				}
				return
			}
			if len(b) > maxChange {
				return
			}
			again, err := decodeChange(changeKey(7), encodeChange(&c))
			if err != nil || again.Dest != c.Dest[:min(len(c.Dest), maxChange/2)] {
				t.Fatalf("%+v, %+v, %v", c, again, err)
			}
			return
		}
		s, err := decodeState("a.example", b)
		if err != nil {
			if !errors.Is(err, errRecord) && !errors.Is(err, errVersion) {
				t.Fatal(err)
			}
			return
		}
		if again, err := decodeState("a.example", encodeState(&s)); err != nil || again.Guarantee != s.Guarantee || !again.Since.Equal(s.Since) {
			t.Fatalf("%+v, %+v, %v", s, again, err)
		}
	})
}

// BenchmarkNote is what a miss pays for: a verdict that did not change, one that came back,
// and none.
func BenchmarkNote(b *testing.B) {
	s, _ := open(b, filepath.Join(b.TempDir(), "s.db"))
	s.KeepHistory(10_000)
	b.Run("same", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			strict(s, "a.example", noon())
		}
	})
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			lax(s, "b.example", noon())
		}
	})
	b.Run("changes", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%2 == 0 {
				lax(s, "a.example", noon())
			} else {
				strict(s, "a.example", noon())
			}
		}
	})
}
