package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
)

// filled returns the path of a closed store with so many policies, and them.
func filled(t *testing.T, n int) (string, map[string]mtasts.Cached) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policyd.db")
	s, _ := open(t, path)
	kept := map[string]mtasts.Cached{}
	for i := range n {
		c := cached(t, fmt.Sprintf("d%05d.example", i), fmt.Sprint(i), start.Add(time.Duration(i)*time.Second))
		keep(s, c)
		kept[c.Domain] = c
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path, kept
}

func asides(t *testing.T, path string) []string {
	t.Helper()
	list, err := filepath.Glob(path + ".corrupt-*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// usableAgain checks that a store keeps policies, and that the next one finds them.
func usableAgain(t *testing.T, s *Store, path string) {
	t.Helper()
	c := cached(t, "new.example", "1", start)
	keep(s, c)
	sync1(t, s)
	want(t, s, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = open(t, path)
	want(t, s, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedAtStart(t *testing.T) {
	for name, content := range map[string][]byte{
		"garbage":       bytes.Repeat([]byte("garbage!"), 8192),
		"short":         []byte("x"),
		"zeros":         make([]byte, 64<<10),
		"another store": append([]byte("SQLite format 3\x00"), make([]byte, 8192)...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "policyd.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			s, l := open(t, path)
			list := asides(t, path)
			if len(list) != 1 || l.count("moved aside") != 1 || l.count(filepath.Base(list[0])) == 0 {
				t.Fatalf("aside: %q\n%s", list, l)
			}
			if kept, err := os.ReadFile(list[0]); err != nil || !bytes.Equal(kept, content) {
				t.Errorf("the damaged file was changed: %v", err)
			}
			if s.Stats().Damaged != 1 {
				t.Errorf("%+v", s.Stats())
			}
			usableAgain(t, s, path)
		})
	}
}

func TestEmptyFileIsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policyd.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, l := open(t, path)
	if len(asides(t, path)) != 0 {
		t.Errorf("moved aside\n%s", l)
	}
	usableAgain(t, s, path)
}

func TestTruncatedWhileOpen(t *testing.T) {
	path, kept := filled(t, 2000)
	s, l := open(t, path)
	// Reading beyond the end of a mapped file is a fault that ends most programs.
	if err := os.Truncate(path, 64<<10); err != nil {
		t.Fatal(err)
	}
	readAll(t, s, kept)
	if s.Stats().Damaged == 0 {
		t.Fatalf("the damage was not seen\n%s", l)
	}
	usableAgain(t, s, path)
	if len(asides(t, path)) == 0 {
		t.Errorf("nothing moved aside\n%s", l)
	}
}

// readAll reads all policies, and checks that each is as it was or absent. It
// returns how many are there.
func readAll(t *testing.T, s *Store, kept map[string]mtasts.Cached) int {
	t.Helper()
	n := 0
	for domain, c := range kept {
		got, found, _ := s.Policy(domain)
		if found && !reflect.DeepEqual(got, c) {
			t.Fatalf("%s: %+v, want %+v", domain, got, c)
		}
		if found {
			n++
		}
	}
	s.Due(start.AddDate(1, 0, 0), len(kept))
	return n
}

func TestOnePageLostIsNotAllLost(t *testing.T) {
	path, kept := filled(t, 5000)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The page with a record in the middle, whichever kind it has become.
	page := bytes.Index(content, []byte("d02500.example")) / os.Getpagesize() * os.Getpagesize()
	copy(content[page:], make([]byte, os.Getpagesize()))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, l := open(t, path)
	readAll(t, s, kept)
	sync1(t, s)
	keep(s, cached(t, "new.example", "1", start))
	sync1(t, s)
	left := readAll(t, s, kept)
	if left < 4900 {
		t.Errorf("%d of %d policies left after one page was lost\n%s", left, len(kept), l)
	}
	usableAgain(t, s, path)
}

// TestRandomDamage changes random octets: whatever happens, the process lives, no
// policy is another than it was, and the store can be used afterwards.
func TestRandomDamage(t *testing.T) {
	path, kept := filled(t, 1000)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The file is longer than what it holds.
	used := len(bytes.TrimRight(content, "\x00"))
	page := os.Getpagesize()
	r := rand.New(rand.NewPCG(5, 6))
	for round := range 40 {
		bad := bytes.Clone(content)
		switch round % 4 {
		case 0:
			bad = bad[:r.IntN(used)]
		case 1:
			at := r.IntN(used/page) * page
			copy(bad[at:at+page], make([]byte, page))
		case 2:
			for range 1 + r.IntN(20) {
				bad[r.IntN(used)] ^= 1 << r.IntN(8)
			}
		case 3:
			a, b := r.IntN(used/page)*page, r.IntN(used/page)*page
			copy(bad[a:a+page], content[b:b+page])
		}
		path := filepath.Join(t.TempDir(), "policyd.db")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _ := open(t, path)
		left := readAll(t, s, kept)
		usableAgain(t, s, path)
		t.Logf("round %d: %d policies left", round, left)
	}
}

// unreadable checks that nobody could take a domain for one without a policy.
func unreadable(t *testing.T, s *Store, domain string, why error) {
	t.Helper()
	if _, found, err := s.Policy(domain); found || !errors.Is(err, why) || !strings.Contains(err.Error(), domain) {
		t.Errorf("%s: %t, %v; want %v", domain, found, err, why)
	}
}

func TestDamagedRecordsAreDropped(t *testing.T) {
	path, kept := filled(t, 50)
	s, l := open(t, path)
	good := encode(kept["d00010.example"])
	future := bytes.Clone(good)
	future[0] = 9
	flipped := bytes.Clone(encode(kept["d00011.example"]))
	flipped[40] ^= 1
	late := start.Add(50 * time.Hour)
	err := s.file.Load().update(func(b buckets) error {
		if err := b.policies.Put([]byte("d00010.example"), future); err != nil {
			return err
		}
		if err := b.policies.Put([]byte("d00011.example"), flipped); err != nil {
			return err
		}
		// An index key without a record, and one for another time.
		if err := b.due.Put(dueKey("ghost.example", good), nil); err != nil {
			return err
		}
		return b.due.Put(dueKey("d00012.example", good), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	unreadable(t, s, "d00010.example", errVersion)
	unreadable(t, s, "d00011.example", errRecord)
	check := func(due, index, records int) {
		t.Helper()
		// Twice: cleaning needs no other change to be written.
		s.Due(late, 1000)
		keep(s, kept["d00000.example"])
		sync1(t, s)
		if got := s.Due(late, 1000); len(got) != due {
			t.Errorf("%d are due, want %d", len(got), due)
		}
		err := s.file.Load().view(func(b buckets) error {
			if b.due.Inspect().KeyN != index || b.policies.Inspect().KeyN != records {
				t.Errorf("%d index keys and %d records left, want %d and %d",
					b.due.Inspect().KeyN, b.policies.Inspect().KeyN, index, records)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check(48, 50, 50)
	unreadable(t, s, "d00010.example", errVersion)
	// A use, or a fetch that failed, leaves it as it is; a fetch replaces it.
	s.Touch("d00011.example", late)
	s.Update("d00011.example", func(mtasts.Cached, bool) (mtasts.Cached, bool) { return mtasts.Cached{}, false })
	sync1(t, s)
	unreadable(t, s, "d00011.example", errRecord)
	s.Update("d00011.example", func(_ mtasts.Cached, found bool) (mtasts.Cached, bool) {
		return kept["d00011.example"], !found
	})
	check(49, 50, 50)
	want(t, s, kept["d00011.example"])
	if st := s.Stats(); st.Ignored != 2 || st.Damaged != 0 || l.count("unknown version") != 1 || l.count("wrong checksum") != 1 {
		t.Errorf("%+v\n%s", st, l)
	}
	late = late.Add(7 * 24 * time.Hour)
	check(49, 49, 49)
	gone(t, s, "d00010.example")
}

func TestSalvageAtStart(t *testing.T) {
	path, kept := filled(t, 5000)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The leaves with the first record, which are read when the file is opened.
	const flags, leaf = 8, 2
	for page := 0; page < len(content); page += os.Getpagesize() {
		p := content[page : page+os.Getpagesize()]
		if p[flags] == leaf && bytes.Contains(p, []byte("d00000.example")) {
			clear(p)
		}
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, l := open(t, path)
	if left := readAll(t, s, kept); left < 4900 || len(asides(t, path)) != 1 {
		t.Errorf("%d of %d policies left\n%s", left, len(kept), l)
	}
	usableAgain(t, s, path)
}

func TestSalvageKeepsUnreadableRecords(t *testing.T) {
	path, kept := filled(t, 5000)
	s, l := open(t, path)
	flipped := bytes.Clone(encode(kept["d00011.example"]))
	flipped[40] ^= 1
	err := s.file.Load().update(func(b buckets) error { return b.policies.Put([]byte("d00011.example"), flipped) })
	if err != nil {
		t.Fatal(err)
	}
	f := s.file.Load()
	s.askRepair(f, ErrDamaged)
	keep(s, kept["d00000.example"])
	sync1(t, s)
	if s.file.Load() == f || len(asides(t, path)) != 1 {
		t.Fatalf("not replaced\n%s", l)
	}
	unreadable(t, s, "d00011.example", errRecord)
}

// TestFileThatCannotBeRead: the policies are there, and may not be taken for none.
func TestFileThatCannotBeRead(t *testing.T) {
	path, _ := filled(t, 10)
	aside := path + ".away"
	s, _ := open(t, path)
	f := s.file.Load()
	// As after an error of the disk while the file was opened again.
	s.unread.Store(nil)
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, path); err != nil {
		t.Fatal(err)
	}
	s.asIs(syscall.EIO)
	unreadable(t, s, "d00001.example", syscall.EIO)
	c := cached(t, "new.example", "1", start)
	keep(s, c)
	want(t, s, c)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	sync1(t, s)
	if _, found, err := s.Policy("d00001.example"); !found || err != nil {
		t.Errorf("%t, %v when it can be read again", found, err)
	}
}
