package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	berrors "go.etcd.io/bbolt/errors"

	"tlsverdict/internal/history"
	"tlsverdict/internal/mtasts"
)

// ErrNotDurable: what was put is in memory only. Answers are as good as ever, until a
// restart.
var ErrNotDurable = errors.New("store: policies are not on disk")

const (
	// maxWaiting bounds the memory of changes that are not on disk.
	maxWaiting = 64 << 20
	// keptWhenFull is the part of that, in eighths, that stays when it was full.
	keptWhenFull = 7
	// maxCleanup bounds what is remembered to be wrong in the file.
	maxCleanup = 10_000
	// keepUnreadable is how long after its NextTry a record that cannot be read goes on
	// to be an error. Mail that waited so long has been returned.
	keepUnreadable = 7 * 24 * time.Hour
)

var (
	// errClosed: the store was closed, and with it what is in the file.
	errClosed = errors.New("store: closed")
	// errTooLate: they came after the last write.
	errTooLate = errors.New("they came while the store was being closed")
)

// Store keeps policies. All methods may be called at once by many goroutines, and
// none but Sync and Close waits for the disk to write.
type Store struct {
	path  string
	log   *slog.Logger
	limit int
	file  atomic.Pointer[file] // nil while there is none
	// unread is why the file cannot be read while there is one on the disk.
	unread atomic.Pointer[error]

	// changing keeps changes of one domain apart, while each of them reads what it
	// changes; domains share the locks. mu is taken within, never around.
	changing [64]sync.Mutex
	seed     maphash.Seed

	mu      sync.RWMutex
	pending map[string]change // not yet taken by the writer
	writing map[string]change // being written
	cost    int               // of both
	full    bool              // said that it was too much
	reads   atomic.Uint64     // a clock for the order of reads
	cleanup cleanup
	repair  *file // what a reader found to be damaged
	pins    pins
	// book has a lock of its own; lazy says that it will be written soon.
	book *history.Book
	lazy atomic.Bool

	seq     uint64 // changes taken
	durable uint64 // of them on disk
	begun   uint64 // flushes
	ended   uint64 // number of the last flush that ended
	lastErr error  // its error
	failing bool
	round   chan struct{} // closed when a flush ends

	wake, urgent chan struct{}
	quit, done   chan struct{}
	closing      sync.Once

	aside   string    // damaged file to salvage; the writer's own, as is
	trimmed time.Time // when history was trimmed last

	said map[string]bool // domains whose record was said to be unreadable

	refused, evicted, writes, failures, damaged, ignored, historyLost atomic.Uint64
}

// Stats are counters since the start, and sizes now.
type Stats struct {
	Waiting  int    // changes that are not on disk
	Octets   int    // their memory, about
	Pins     int    // hosts that are pinned, ended pins too
	Refused  uint64 // changes not taken because that was too much
	Evicted  uint64 // changes forgotten because that was too much
	Writes   uint64 // transactions that were written
	Failures uint64 // writes that failed
	Damaged  uint64 // times that the file was found damaged
	Ignored  uint64 // domains whose record could not be read
	Durable  bool   // the last write worked; false for a store in memory
}

// Open opens the store in a file, which is created with its directory when it is
// missing (modes 0600 and 0700). An empty path keeps policies in memory only.
//
// It fails with ErrLocked when another process has the file, and when the path can
// be no file. Where the disk is full or cannot be written, the store begins in memory
// and tries again.
func Open(path string, log *slog.Logger) (*Store, error) {
	s := &Store{
		path: path, log: log, limit: maxWaiting, seed: maphash.MakeSeed(),
		pending: make(map[string]change), said: make(map[string]bool),
		round: make(chan struct{}), pins: newPins(), book: history.NewBook(history.MaxRecords),
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	if path == "" {
		close(s.done)
		return s, nil
	}
	f, err := s.open()
	switch {
	case err == nil:
		s.file.Store(f)
	case survivable(err):
		s.asIs(err)
		s.report(err)
		notify(s.wake)
	default:
		return nil, err
	}
	go s.run()
	return s, nil
}

// Policy returns what is kept for a domain, expired or not. After an error it is not
// known whether there is a policy: the record or the file could not be read. Who
// takes that for "no policy" hands the domain's mail to whoever can damage a file.
func (s *Store) Policy(domain string) (c mtasts.Cached, found bool, err error) {
	ch, changed := s.change(domain)
	if changed && ch.kind != touch {
		c, found = ch.apply(mtasts.Cached{}, false)
		return c, found, nil
	}
	c, found, err = s.stored(domain)
	if err != nil {
		return mtasts.Cached{}, false, fmt.Errorf("store: policy of %s: %w", domain, err)
	}
	if changed {
		c, found = ch.apply(c, found)
	}
	return c, found, nil
}

// change returns what is to happen to a domain's record.
func (s *Store) change(domain string) (change, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	newer, found := s.pending[domain]
	older, foundOlder := s.writing[domain]
	if found {
		newer.read.Store(s.reads.Add(1))
	}
	switch {
	case found && foundOlder:
		return newer.after(older), true
	case found:
		return newer, true
	}
	return older, foundOlder
}

// stored returns what the file has.
func (s *Store) stored(domain string) (c mtasts.Cached, found bool, err error) {
	err = s.read(func(b buckets) error {
		value := b.policies.Get([]byte(domain))
		if value == nil {
			return nil
		}
		found = true
		var err error
		c, err = s.decodeOrNote(domain, value)
		return err
	})
	return c, found && err == nil, err
}

// read runs f on the file. Where there is none on the disk it does nothing.
func (s *Store) read(f func(buckets) error) error {
	for {
		from := s.file.Load()
		if from == nil {
			why := s.unread.Load()
			switch {
			case s.file.Load() != nil:
				continue
			case why != nil:
				return *why
			}
			return nil
		}
		err := from.view(f)
		switch {
		case errors.Is(err, berrors.ErrDatabaseNotOpen) && s.file.Load() != from:
			// It was replaced meanwhile.
			continue
		case errors.Is(err, ErrDamaged):
			s.askRepair(from, err)
		}
		return err
	}
}

// askRepair has the writer replace a damaged file, unless that has happened.
func (s *Store) askRepair(f *file, err error) {
	s.mu.Lock()
	news := s.repair != f && s.file.Load() == f
	if news {
		s.repair = f
	}
	s.mu.Unlock()
	if news {
		s.noteDamage(err)
		notify(s.wake)
	}
}

// Update changes what is kept for a domain, from what is newest: modify gets that, and
// returns the new policy and true, or false to drop what there is. No other change of
// the domain comes between, whoever makes it; readers of it do not wait. modify must
// be quick, and must not use the store.
//
// Where what is kept cannot be read, modify is told that there is nothing: what it
// returns to keep replaces it, but it drops nothing, since what is unreadable now may
// be saved yet. One of no mode is no policy, and changes nothing.
func (s *Store) Update(domain string, modify func(old mtasts.Cached, found bool) (mtasts.Cached, bool)) {
	if domain == "" {
		return
	}
	defer s.lock(domain)()
	old, found, err := s.Policy(domain)
	next, keep := modify(old, found)
	next.Domain = domain
	switch {
	case !keep && err == nil && found:
		s.add(domain, change{kind: remove})
	case keep && next.Policy.Mode != mtasts.ModeUnknown && !(found && bytes.Equal(encode(old), encode(next))):
		s.add(domain, change{kind: put, cached: next})
	}
}

// lock keeps other changes of a domain away until what it returns is called.
func (s *Store) lock(domain string) (unlock func()) {
	l := &s.changing[maphash.String(s.seed, domain)%uint64(len(s.changing))]
	l.Lock()
	return l.Unlock
}

// Touch notes that a domain's policy was used at now. It writes only when the day
// (in UTC) is another than at the last use, or the policy became due by being used.
func (s *Store) Touch(domain string, now time.Time) {
	c, found, err := s.Policy(domain)
	if err != nil || !found {
		return
	}
	if used := c.AfterUse(now); used.Used.Equal(c.Used) && used.NextTry.Equal(c.NextTry) {
		return
	}
	defer s.lock(domain)()
	s.add(domain, change{kind: touch, at: now})
}

// add takes a change. Where too much is waiting, others that were not read for
// longest go.
func (s *Store) add(domain string, ch change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cost := ch.cost()
	old, found := s.pending[domain]
	if found {
		ch = ch.after(old)
		cost = ch.cost() - old.cost()
	}
	if cost > 0 && s.cost+cost > s.limit && !s.evict(cost, domain) {
		s.refused.Add(1)
		s.sayFull()
		return
	}
	s.full = s.full && s.cost > s.limit/2
	s.cost += cost
	ch.read = new(atomic.Uint64)
	ch.read.Store(s.reads.Add(1))
	s.pending[domain] = ch
	if s.path == "" {
		s.settle(domain, ch)
		return
	}
	s.seq++
	notify(s.wake)
}

// evict makes room for so many octets, and reports whether it could. It goes further
// than it must, so that it need not sort again at once. What a domain is about to be
// given must not be lost with it.
func (s *Store) evict(need int, but string) bool {
	s.sayFull()
	oldest := make([]string, 0, len(s.pending))
	for domain := range s.pending {
		if domain != but {
			oldest = append(oldest, domain)
		}
	}
	sort.Slice(oldest, func(i, j int) bool {
		return s.pending[oldest[i]].read.Load() < s.pending[oldest[j]].read.Load()
	})
	for _, domain := range oldest {
		if s.cost+need <= s.limit/8*keptWhenFull {
			break
		}
		s.cost -= s.pending[domain].cost()
		delete(s.pending, domain)
		s.evicted.Add(1)
	}
	return s.cost+need <= s.limit
}

// settle drops changes that mean nothing where there is no file below.
func (s *Store) settle(domain string, ch change) {
	if ch.kind != put {
		s.cost -= ch.cost()
		delete(s.pending, domain)
	}
}

// sayFull says that there is too much, once until half of the room is free again.
func (s *Store) sayFull() {
	if !s.full {
		s.log.Error("store: too many policies are in memory only; those that were not asked for longest are forgotten",
			"waiting", len(s.pending), "octets", s.cost)
	}
	s.full = true
}

// Due returns at most so many domains whose policy is to be looked at (mtasts.Cached's
// Next) at now: those whose NextTry is not after it, earliest first, and then those
// whose NextTry is more than mtasts.MaxAhead after it, which a clock that was ahead
// has set. A domain is named again until its NextTry changes.
func (s *Store) Due(now time.Time, most int) []string {
	if most <= 0 {
		return nil
	}
	list, changed := s.dueWaiting(now)
	var bad cleanup
	// An error was noted; what waits in memory is still good.
	_ = s.read(func(b buckets) error {
		stored, err := s.dueStored(b, now, scan{most: most, changed: changed, bad: &bad})
		list = append(list, stored...)
		return err
	})
	s.addCleanup(bad)
	sort.Slice(list, func(i, j int) bool {
		if list[i].at != list[j].at {
			return list[i].at < list[j].at
		}
		return list[i].domain < list[j].domain
	})
	domains := make([]string, 0, min(len(list), most))
	for _, d := range list[:min(len(list), most)] {
		domains = append(domains, d.domain)
	}
	return domains
}

// due is a domain and when it is due.
type due struct {
	at     int64
	domain string
}

// dueWaiting returns the domains that are due among changes, and all changed ones:
// what the file says about those is old.
func (s *Store) dueWaiting(now time.Time) ([]due, map[string]bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []due
	changed := make(map[string]bool, len(s.pending)+len(s.writing))
	for _, m := range []map[string]change{s.pending, s.writing} {
		for domain, ch := range m {
			if changed[domain] || ch.kind == touch {
				continue
			}
			changed[domain] = true
			if ch.kind == put && isDue(nanos(ch.cached.NextTry), now) {
				list = append(list, due{nanos(ch.cached.NextTry), domain})
			}
		}
	}
	return list, changed
}

// isDue reports whether a policy with such a NextTry is to be looked at.
func isDue(at int64, now time.Time) bool {
	return at <= now.UnixNano() || at > now.Add(mtasts.MaxAhead).UnixNano()
}

// scan is how the index is read.
type scan struct {
	most    int
	changed map[string]bool
	bad     *cleanup
}

// dueStored reads both ends of the index, and notes in scan.bad what is wrong with it.
func (s *Store) dueStored(b buckets, now time.Time, how scan) ([]due, error) {
	var list []due
	for _, d := range []direction{forwards(), backwards()} {
		var last []byte
		c := b.due.Cursor()
		for key, _ := d.first(c); key != nil && len(list) < how.most && !how.bad.full(); key, _ = d.next(c) {
			if last != nil && bytes.Compare(key, last) != d.order {
				return list, fmt.Errorf("%w: the index is not in order", ErrDamaged)
			}
			last = key
			at, domain := splitDue(key)
			if !isDue(at, now) || (at > now.UnixNano()) != (d.order < 0) {
				break
			}
			if !how.changed[domain] && s.inOrder(b, key, now, how.bad) {
				list = append(list, due{at, domain})
			}
		}
	}
	return list, nil
}

// inOrder reports whether an index key names a record that can be used. One that
// cannot be read stays for a week: until then its domain is not one without
// a policy, and a fetched one takes its place.
func (s *Store) inOrder(b buckets, key []byte, now time.Time, bad *cleanup) bool {
	at, domain := splitDue(key)
	value := b.policies.Get([]byte(domain))
	if value != nil {
		if _, err := s.decodeOrNote(domain, value); err != nil {
			if at < now.Add(-keepUnreadable).UnixNano() {
				bad.damaged = append(bad.damaged, domain)
			}
			return false
		}
	}
	if !bytes.Equal(dueKey(domain, value), key) {
		bad.stale = append(bad.stale, bytes.Clone(key))
		return false
	}
	return true
}

// addCleanup has the writer remove what is wrong in the file.
func (s *Store) addCleanup(bad cleanup) {
	if bad.empty() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cleanup.empty() {
		s.cleanup = bad
		notify(s.wake)
	}
}

// Sync waits until everything that was put before it is on disk. When that fails
// its error wraps ErrNotDurable or that of ctx. In a store in memory there is
// nothing to wait for.
func (s *Store) Sync(ctx context.Context) error {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	if s.book.Waiting() > 0 {
		s.seq++
	}
	target, began := s.seq, s.begun
	notify(s.urgent)
	for s.durable < target {
		if s.lastErr != nil && s.ended > began {
			err := s.lastErr
			s.mu.Unlock()
			return fmt.Errorf("%w: %w", ErrNotDurable, err)
		}
		round := s.round
		s.mu.Unlock()
		select {
		case <-round:
		case <-s.done:
			return s.closed(target)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotDurable, ctx.Err())
		}
		s.mu.Lock()
	}
	s.mu.Unlock()
	return nil
}

// closed returns what became of a change after the writer has ended.
func (s *Store) closed(target uint64) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.durable >= target {
		return nil
	}
	return fmt.Errorf("%w: the store is closed", ErrNotDurable)
}

// Close writes what waits and closes the file. What is put afterwards is lost. The
// error wraps ErrNotDurable when something could not be written.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.quit)
		<-s.done
		if s.path == "" {
			return
		}
		s.mu.Lock()
		if n := len(s.pending) + len(s.pins.changed) + s.book.Waiting(); n > 0 {
			err = fmt.Errorf("%w: %d changes: %w", ErrNotDurable, n, cmp.Or(s.lastErr, errTooLate))
		}
		s.mu.Unlock()
		s.unread.Store(&errClosed)
		if f := s.file.Swap(nil); f != nil {
			err = errors.Join(err, f.close())
		}
	})
	return err
}

// Stats returns counters and sizes.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{
		Waiting: len(s.pending) + len(s.writing), Octets: s.cost,
		Refused: s.refused.Load(), Evicted: s.evicted.Load(),
		Pins: len(s.pins.known), Writes: s.writes.Load(),
		Failures: s.failures.Load(), Damaged: s.damaged.Load(), Ignored: s.ignored.Load(),
		Durable: s.path != "" && !s.failing,
	}
}

// notify wakes whoever listens, once.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
