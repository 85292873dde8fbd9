package store

import (
	"bytes"
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

	"tlsverdict/internal/mtasts"
)

// ErrNotDurable: what was put is in memory only. Answers are as good as ever, until a
// restart.
var ErrNotDurable = errors.New("store: policies are not on disk")

const (
	// maxWaiting bounds the memory of changes that are not on disk.
	maxWaiting = 64 << 20
	// maxCleanup bounds what is remembered to be wrong in the file.
	maxCleanup = 10_000
)

// Store keeps policies. All methods may be called at once by many goroutines, and
// none but Sync and Close waits for the disk to write.
type Store struct {
	path  string
	log   *slog.Logger
	limit int
	file  atomic.Pointer[file] // nil while there is none

	// changing keeps changes of one domain apart, while each of them reads what it
	// changes; domains share the locks. mu is taken within, never around.
	changing [64]sync.Mutex
	seed     maphash.Seed

	mu      sync.RWMutex
	pending map[string]change // not yet taken by the writer
	writing map[string]change // being written
	cost    int               // of both
	full    bool              // said that no more is taken
	cleanup cleanup
	repair  *file // what a reader found to be damaged

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

	aside string // damaged file to salvage; the writer's own

	refused, failures, damaged, ignored atomic.Uint64
}

// Stats are counters since the start, and sizes now.
type Stats struct {
	Waiting  int    // changes that are not on disk
	Octets   int    // their memory, about
	Refused  uint64 // policies not taken because that was too much
	Failures uint64 // writes that failed
	Damaged  uint64 // times that the file was found damaged
	Ignored  uint64 // records that could not be used
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
		pending: make(map[string]change),
		round:   make(chan struct{}),
		wake:    make(chan struct{}, 1), urgent: make(chan struct{}, 1),
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
		s.file.Store(s.asIs(err))
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

// read runs f on the file. Without a file it does nothing.
func (s *Store) read(f func(buckets) error) error {
	for {
		from := s.file.Load()
		if from == nil {
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

// PutPolicy keeps a policy in place of what was kept for its domain. One without a
// domain or of no mode is no policy and is not kept.
func (s *Store) PutPolicy(c mtasts.Cached) {
	if c.Domain == "" || c.Policy.Mode == mtasts.ModeUnknown {
		return
	}
	defer s.lock(c.Domain)()
	s.add(c.Domain, change{kind: put, cached: c})
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

// DeletePolicy drops what is kept for a domain.
func (s *Store) DeletePolicy(domain string) {
	if domain != "" {
		defer s.lock(domain)()
		s.add(domain, change{kind: remove})
	}
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

// add takes a change, unless too much is waiting.
func (s *Store) add(domain string, ch change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cost := ch.cost()
	old, found := s.pending[domain]
	if found {
		ch = ch.after(old)
		cost = ch.cost() - old.cost()
	}
	if cost > 0 && s.cost+cost > s.limit {
		s.refuse()
		return
	}
	s.full = s.full && s.cost > s.limit/2
	s.cost += cost
	s.pending[domain] = ch
	if s.path == "" {
		s.settle(domain, ch)
		return
	}
	s.seq++
	notify(s.wake)
}

// settle drops changes that mean nothing where there is no file below.
func (s *Store) settle(domain string, ch change) {
	if ch.kind != put {
		s.cost -= ch.cost()
		delete(s.pending, domain)
	}
}

// refuse counts a change that is not taken, and says it once until half of the
// room is free again.
func (s *Store) refuse() {
	s.refused.Add(1)
	if !s.full {
		s.log.Error("store: too many policies wait to be written; more are not kept", "waiting", len(s.pending), "octets", s.cost)
	}
	s.full = true
}

// Due returns at most so many domains whose policy is to be refreshed, or has
// expired, at now: those whose NextTry is not after it, earliest first. A domain is
// named again until its policy is put or deleted.
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
			if ch.kind == put && !ch.cached.NextTry.After(now) {
				list = append(list, due{nanos(ch.cached.NextTry), domain})
			}
		}
	}
	return list, changed
}

// scan is how the index is read.
type scan struct {
	most    int
	changed map[string]bool
	bad     *cleanup
}

// dueStored reads the index, and notes in scan.bad what is wrong with it.
func (s *Store) dueStored(b buckets, now time.Time, how scan) ([]due, error) {
	var list []due
	var last []byte
	c := b.due.Cursor()
	for key, _ := c.First(); key != nil && len(list) < how.most; key, _ = c.Next() {
		if bytes.Compare(key, last) <= 0 {
			return list, fmt.Errorf("%w: the index is not in order", ErrDamaged)
		}
		last = key
		at, domain := splitDue(key)
		if at > now.UnixNano() || len(how.bad.stale)+len(how.bad.damaged) >= maxCleanup {
			break
		}
		if how.changed[domain] {
			continue
		}
		value := b.policies.Get([]byte(domain))
		if !bytes.Equal(dueKey(domain, value), key) {
			how.bad.stale = append(how.bad.stale, bytes.Clone(key))
			continue
		}
		if _, err := s.decodeOrNote(domain, value); err != nil {
			how.bad.damaged = append(how.bad.damaged, domain)
			continue
		}
		list = append(list, due{at, domain})
	}
	return list, nil
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
		if len(s.pending) > 0 {
			err = fmt.Errorf("%w: %d changes: %w", ErrNotDurable, len(s.pending), s.lastErr)
		}
		s.mu.Unlock()
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
		Refused: s.refused.Load(), Failures: s.failures.Load(), Damaged: s.damaged.Load(), Ignored: s.ignored.Load(),
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
