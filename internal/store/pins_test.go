package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"tlsverdict/internal/signal"
)

func somePin(host string, until time.Time) signal.Pin {
	return signal.Pin{
		Host: host, Pattern: signal.Pattern{Wildcard: true, Host: "example.com"}, IncludeSubDomains: true,
		Learned: until.Add(-3 * time.Hour), Seen: until.Add(-2 * time.Hour), Until: until,
	}
}

// pin puts a pin.
func pin(t *testing.T, s *Store, p signal.Pin) {
	t.Helper()
	if err := s.UpdatePin(p.Host, func(signal.Pin, bool) (signal.Pin, bool) { return p, true }); err != nil {
		t.Fatal(err)
	}
}

// pinned checks what is kept of a host.
func pinned(t *testing.T, s *Store, host string, want *signal.Pin) {
	t.Helper()
	got, found, err := s.Pin(host)
	switch {
	case err != nil:
		t.Errorf("%s: %v", host, err)
	case found != (want != nil):
		t.Errorf("%s: found %v", host, found)
	case found && got != *want:
		t.Errorf("%s:\n got %+v\nwant %+v", host, got, *want)
	}
}

// TestPinsSurvive holds pins to what policies are held to: a restart changes nothing.
func TestPinsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := openStore(t, path)
	a, b := somePin("a.example", time.Now().Add(time.Hour).UTC().Round(0)), somePin("b.example", time.Now().Add(-time.Hour).UTC().Round(0))
	b.Pattern.Wildcard, b.IncludeSubDomains = false, false
	pin(t, s, a)
	pin(t, s, b)
	pin(t, s, somePin("c.example", time.Now()))
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdatePin("c.example", func(signal.Pin, bool) (signal.Pin, bool) { return signal.Pin{}, false }); err != nil {
		t.Fatal(err)
	}
	pinned(t, s, "c.example", nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	pinned(t, s, "a.example", &a)
	pinned(t, s, "b.example", &b)
	pinned(t, s, "c.example", nil)
	if list, err := s.Pins(); err != nil || len(list) != 2 || list[0] != a {
		t.Errorf("%v, %v", list, err)
	}
	if n := s.DropPins(time.Now()); n != 0 {
		t.Errorf("%d pins dropped that ended an hour ago", n)
	}
	if n := s.DropPins(time.Now().Add(keepEnded)); n != 1 {
		t.Errorf("%d pins dropped", n)
	}
	pinned(t, s, "b.example", nil)
}

// spoilPin changes a record in the file of a store that is closed.
func spoilPin(t *testing.T, path, host string, change func([]byte) []byte) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(pinsBucket())
		return b.Put([]byte(host), change(append([]byte(nil), b.Get([]byte(host))...)))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPinDamaged has a record that cannot be read go on as a pin, for a week, whatever the
// number of restarts.
func TestPinDamaged(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"bit":     func(b []byte) []byte { b[3] ^= 1; return b },
		"cut":     func(b []byte) []byte { return b[:3] },
		"empty":   func([]byte) []byte { return nil },
		"version": func(b []byte) []byte { b[0] = 9; return b },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			s := openStore(t, path)
			pin(t, s, somePin("a.example", time.Now().Add(time.Hour)))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			spoilPin(t, path, "a.example", change)
			s = openStore(t, path)
			first, found, err := s.Pin("a.example")
			if left := time.Until(first.Until); err != nil || !found || left < keepUnreadable-time.Hour || left > keepUnreadable {
				t.Fatalf("%+v, %v, %v", first, found, err)
			}
			if n := s.Stats().Ignored; n != 1 {
				t.Errorf("%d counted", n)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, path)
			again, _, _ := s.Pin("a.example")
			if !again.Until.Equal(first.Until) {
				t.Errorf("until %v at first, %v after a restart", first.Until, again.Until)
			}
		})
	}
}

// TestPinsUnread: a file that cannot be read is not one without pins, and what is in
// memory is known all the same.
func TestPinsUnread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := openStore(t, path)
	a := somePin("a.example", time.Now().Add(time.Hour).UTC().Round(0))
	pin(t, s, a)
	s.pinsUnread(syscall.EIO)
	pinned(t, s, "a.example", &a)
	if _, _, err := s.Pin("b.example"); !errors.Is(err, syscall.EIO) {
		t.Errorf("b.example: %v", err)
	}
	if _, err := s.Pins(); !errors.Is(err, syscall.EIO) {
		t.Errorf("list: %v", err)
	}
	if err := s.UpdatePin("b.example", func(signal.Pin, bool) (signal.Pin, bool) { return signal.Pin{}, false }); err != nil {
		t.Fatal(err)
	}
	pinned(t, s, "b.example", nil) // its removal is known
}

// TestPinsFull: no pin goes to make room for another.
func TestPinsFull(t *testing.T) {
	s := openStore(t, "")
	until := time.Now().Add(time.Hour)
	for i := range maxPins {
		pin(t, s, somePin(fmt.Sprintf("h%05d.example", i), until))
	}
	err := s.UpdatePin("one.more.example", func(signal.Pin, bool) (signal.Pin, bool) { return somePin("", until), true })
	if !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	pin(t, s, somePin("h00000.example", until.Add(time.Hour)))
	pinned(t, s, "one.more.example", nil)
}

// TestPinsInDamagedFile: pins that are known are written to the file that takes the place
// of a damaged one, and those of a file that was damaged before are copied.
func TestPinsInDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := openStore(t, path)
	a := somePin("a.example", time.Now().Add(time.Hour).UTC().Round(0))
	pin(t, s, a)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.askRepair(s.file.Load(), ErrDamaged)
	pin(t, s, somePin("b.example", a.Until))
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	pinned(t, s, "a.example", &a)
	if n := len(s.pins.known); n != 2 {
		t.Errorf("%d pins", n)
	}
	from, err := openReadOnly(copyOf(t, path, s))
	if err != nil {
		t.Fatal(err)
	}
	to, err := openFile(filepath.Join(t.TempDir(), "to.db"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := salvagePins(from, to); n != 2 || err != nil {
		t.Errorf("%d copied, %v", n, err)
	}
}

// copyOf closes a store and returns its file.
func copyOf(t *testing.T, path string, s *Store) string {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// FuzzDecodePin: no record does harm, and one that is read is written the same.
func FuzzDecodePin(f *testing.F) {
	f.Add(encodePin(somePin("a.example", time.Unix(1e9, 5))))
	f.Add(encodePin(signal.Pin{Host: "a.example"}))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePin("a.example", b)
		if err != nil {
			if !errors.Is(err, errRecord) && !errors.Is(err, errVersion) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodePin("a.example", encodePin(p))
		if err != nil || again != p {
			t.Fatalf("%+v, %+v, %v", p, again, err)
		}
	})
}

func openStore(t *testing.T, path string) *Store {
	t.Helper()
	s, _ := open(t, path)
	return s
}
