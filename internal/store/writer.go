package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"tlsverdict/internal/history"
	"tlsverdict/internal/mtasts"
)

const (
	minRetry = time.Second
	maxRetry = time.Minute
)

// run writes what has gathered until Close. While writing fails it tries again
// after a second, doubled up to a minute, or when Sync asks.
func (s *Store) run() {
	defer close(s.done)
	var retry <-chan time.Time
	wait := minRetry
	for {
		wake := s.wake
		if retry != nil {
			wake = nil
		}
		select {
		case <-s.quit:
			s.last()
			return
		case <-wake:
		case <-s.urgent:
		case <-retry:
		}
		if s.flush() == nil {
			retry, wait = nil, minRetry
			continue
		}
		retry = time.After(wait)
		wait = min(2*wait, maxRetry)
	}
}

// last writes what is left, and what came while that was written. Whoever goes on to
// put is not waited for.
func (s *Store) last() {
	for range 3 {
		if s.flush() != nil {
			return
		}
	}
}

// flush writes all changes that have gathered, in one transaction. Those that
// arrive meanwhile gather for the next one.
func (s *Store) flush() error {
	s.trimHistory()
	s.mu.Lock()
	s.begun++
	began, upTo, repair := s.begun, s.seq, s.repair
	batch, clean := s.pending, s.cleanup
	s.writing, s.pending = batch, make(map[string]change)
	s.cleanup, s.repair = cleanup{}, nil
	pinned := s.pinBatch()
	noted := s.book.Batch()
	s.mu.Unlock()

	var err error
	f := s.file.Load()
	if len(batch) > 0 || len(pinned) > 0 || !noted.Empty() || repair != nil || !clean.empty() || f == nil || f.readOnly || s.aside != "" {
		if err = s.commit(changes{batch, pinned, noted, clean}, repair); err == nil {
			s.writes.Add(1)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = nil
	s.pinsWritten(err)
	s.book.Written(noted, err)
	for domain, ch := range batch {
		s.cost -= ch.cost()
		if err != nil {
			s.putBack(domain, ch)
		}
	}
	if err == nil {
		s.durable = upTo
	}
	s.ended, s.lastErr = began, err
	s.report(err)
	close(s.round)
	s.round = make(chan struct{})
	return err
}

// putBack returns a change that could not be written to those that wait; a newer
// one of the same domain builds upon it.
func (s *Store) putBack(domain string, ch change) {
	if newer, found := s.pending[domain]; found {
		s.cost -= newer.cost()
		read := newer.read
		ch = newer.after(ch)
		ch.read = read
	}
	s.pending[domain] = ch
	s.cost += ch.cost()
}

// commit writes a batch, and mends or replaces the file when it is damaged.
func (s *Store) commit(c changes, repair *file) error {
	f, err := s.usable(repair)
	if err != nil {
		return err
	}
	err = f.update(func(b buckets) error { return s.write(b, c) })
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	s.noteDamage(err)
	if f, err = s.usable(f); err != nil {
		return err
	}
	return f.update(func(b buckets) error { return s.write(b, c) })
}

// changes are what one transaction writes.
type changes struct {
	policies map[string]change
	pins     map[string][]byte // nil: the record goes
	history  history.Batch
	cleanup  cleanup
}

// write applies changes in the order of the file, which is kinder to its pages.
func (s *Store) write(b buckets, c changes) error {
	domains := make([]string, 0, len(c.policies))
	for domain := range c.policies {
		domains = append(domains, domain)
	}
	slices.Sort(domains)
	for _, domain := range domains {
		ch := c.policies[domain]
		old, err := decode(domain, b.policies.Get([]byte(domain)))
		if err != nil && ch.kind == touch {
			// What cannot be read stays as it is.
			continue
		}
		var value []byte
		if next, found := ch.apply(old, err == nil); found {
			value = encode(next)
		}
		if err := b.replace(domain, value); err != nil {
			return err
		}
	}
	if err := b.writePins(c.pins); err != nil {
		return err
	}
	if err := b.writeHistory(c.history); err != nil {
		return err
	}
	return b.clean(c.cleanup)
}

// replace writes a domain's record and its place in the index; nil removes both.
func (b buckets) replace(domain string, value []byte) error {
	key := []byte(domain)
	old, next := dueKey(domain, b.policies.Get(key)), dueKey(domain, value)
	if old != nil && !bytes.Equal(old, next) {
		if err := b.due.Delete(old); err != nil {
			return err
		}
	}
	if value == nil {
		return b.policies.Delete(key)
	}
	if err := b.policies.Put(key, value); err != nil {
		return err
	}
	return b.due.Put(next, nil)
}

// cleanup is what reading the index found to be wrong. It is checked again
// before anything is removed, since the record may be a new one by then.
type cleanup struct {
	stale   [][]byte // index keys without their record
	damaged []string // domains whose record cannot be read
}

func (c cleanup) full() bool { return len(c.stale)+len(c.damaged) >= maxCleanup }

func (c cleanup) empty() bool { return len(c.stale) == 0 && len(c.damaged) == 0 }

func (b buckets) clean(c cleanup) error {
	for _, key := range c.stale {
		_, domain := splitDue(key)
		if bytes.Equal(dueKey(domain, b.policies.Get([]byte(domain))), key) {
			continue
		}
		if err := b.due.Delete(key); err != nil {
			return err
		}
	}
	for _, domain := range c.damaged {
		if _, err := decode(domain, b.policies.Get([]byte(domain))); err == nil {
			continue
		}
		if err := b.replace(domain, nil); err != nil {
			return err
		}
	}
	return nil
}

// usable returns the open file: the one that is, one opened anew where that failed
// before, or a new one where damaged is the one that is.
func (s *Store) usable(damaged *file) (*file, error) {
	if f := s.file.Load(); f != nil && s.aside == "" {
		switch {
		case f == damaged:
			if err := s.replaced(f); err != nil {
				return nil, err
			}
		case f.readOnly:
			if err := writable(s.path); err != nil {
				return nil, err
			}
			_ = f.close()
		default:
			return f, nil
		}
	}
	f, err := s.open()
	if err != nil {
		s.asIs(err)
		return nil, err
	}
	s.file.Store(f)
	s.unread.Store(nil)
	return f, nil
}

// replaced moves a damaged file aside. Readers go on with it until another stands.
func (s *Store) replaced(f *file) error {
	aside, err := setAside(s.path, time.Now())
	if err != nil {
		return fmt.Errorf("store: move the damaged file aside: %w", err)
	}
	f.abandon()
	s.aside = aside
	s.log.Error("store: the file was moved aside; what can be read of it is copied to a new one",
		"path", s.path, "aside", aside)
	return nil
}

// asIs opens the file only to be read, after it could not be opened to be written:
// a disk that was remounted read-only still says what was promised. Where that fails
// too, nothing is known of any domain. A damaged file goes on to be read until what
// can be read of it has been copied.
func (s *Store) asIs(err error) {
	if s.aside != "" && s.file.Load() != nil {
		return
	}
	f, err2 := (*file)(nil), err
	if survivable(err) {
		if f, err2 = openReadOnly(s.path); err2 == nil {
			f, err2 = s.withPins(f)
		}
	}
	switch {
	case err2 == nil:
		s.file.Store(f)
	case s.aside == "" && blank(s.path):
		s.file.Store(nil)
		s.unread.Store(nil)
		s.pinsUnread(nil)
	default:
		why := fmt.Errorf("store: the file cannot be read: %w", err)
		s.unread.Store(&why)
		s.pinsUnread(why)
		s.file.Store(nil)
	}
}

// salvage fills a new file from the one that was moved aside.
func (s *Store) salvage(to *file) error {
	from, err := openReadOnly(s.aside)
	if err != nil {
		s.log.Error("store: nothing could be read from the damaged file", "aside", s.aside, "error", err)
		s.aside = ""
		return nil
	}
	copied, err := salvage(from, to)
	pins, err2 := salvagePins(from, to)
	noted, err3 := salvageHistory(from, to)
	from.abandon()
	if err := errors.Join(err, err2, err3); err != nil {
		return fmt.Errorf("store: copy what can be read of the damaged file: %w", err)
	}
	s.log.Error("store: policies were saved from the damaged file", "aside", s.aside, "copied", copied, "pins", pins, "history", noted)
	s.aside = ""
	return nil
}

// open opens or creates the file, and moves it aside when it is damaged beyond
// opening.
func (s *Store) open() (*file, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), dirMode); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	f, err := openFile(s.path)
	if err == nil && s.aside == "" {
		f, err = s.withPins(f)
	}
	if errors.Is(err, ErrDamaged) {
		s.noteDamage(err)
		aside, err2 := setAside(s.path, time.Now())
		if err2 != nil {
			return nil, fmt.Errorf("store: move the damaged file aside: %w", errors.Join(err2, err))
		}
		s.aside = aside
		s.log.Error("store: the file is damaged; it was moved aside, and what can be read of it is copied to a new one",
			"path", s.path, "aside", aside, "error", err)
		f, err = openFile(s.path)
	}
	if err == nil && s.aside != "" {
		if err = s.salvage(f); err != nil {
			_ = f.close()
			return nil, err
		}
		f, err = s.withPins(f)
	}
	if err != nil {
		return nil, err
	}
	if err := syncDir(s.path); err != nil {
		s.log.Warn("store: the directory cannot be synced", "path", s.path, "error", err)
	}
	return f, nil
}

// trimHistory drops what is too old, once in a while, or too much.
func (s *Store) trimHistory() {
	if now := time.Now(); s.book.Crowded() || now.Sub(s.trimmed) > time.Hour {
		s.trimmed = now
		s.book.Trim(now)
	}
}

// withPins reads the pins and the history of a file that was opened just now.
func (s *Store) withPins(f *file) (*file, error) {
	err := s.loadPins(f)
	if err == nil {
		err = s.loadHistory(f)
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, ErrDamaged):
		f.abandon()
	default:
		_ = f.close()
	}
	return nil, fmt.Errorf("store: read the pins and the history: %w", err)
}

// survivable reports whether the store goes on in memory after an error of
// opening: the disk may be mended while it runs.
func survivable(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EMFILE, syscall.ENFILE,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// report says once that writing fails, and once that it works again. The caller
// holds the lock.
func (s *Store) report(err error) {
	switch {
	case err != nil:
		s.failures.Add(1)
		if !s.failing {
			s.log.Error("store: policies cannot be written; they stay in memory and would be lost at a restart",
				"path", s.path, "waiting", len(s.pending), "error", err)
		}
	case s.failing:
		s.log.Info("store: policies are written again", "path", s.path)
	}
	s.failing = err != nil
}

// noteDamage counts damage and says it.
func (s *Store) noteDamage(err error) {
	s.damaged.Add(1)
	s.log.Error("store: the file is damaged", "path", s.path, "error", err)
}

// decodeOrNote reads a record; one that cannot be read is counted and logged once.
func (s *Store) decodeOrNote(domain string, value []byte) (mtasts.Cached, error) {
	c, err := decode(domain, value)
	if err == nil {
		return c, nil
	}
	s.mu.Lock()
	news := !s.said[domain] && len(s.said) < maxCleanup
	if news {
		s.said[domain] = true
	}
	s.mu.Unlock()
	if news {
		s.ignored.Add(1)
		s.log.Error("store: a record cannot be read; until a policy is fetched, or for a week, it is not known whether the domain has one",
			"domain", domain, "error", err)
	}
	return c, err
}
