// Package history keeps what became of the verdicts on destinations: a journal of changes,
// and the last verdict on each that demanded something.
//
//	b := history.NewBook(10_000)
//	change, _ := b.Note(history.Observation{Time: now, Dest: "example.com", Verdict: v, Source: s, Until: until, Reasons: reasons})
//	if change != nil && change.Downgrade {
//		... // less is promised than before
//	}
//	latest := b.Changes(history.Filter{Downgrades: true, Max: 20})
//
// # What is a change
//
// Another verdict (its name, or what it rests on) than the last one on the same
// destination. These are none:
//
//   - A first verdict. What demands something is remembered, what demands nothing only for
//     as long as there is room.
//   - No policy after no policy: a stranger can have mail sent to as many domains that do
//     not exist as he likes.
//   - A deferral, and what follows it if that is what was before. Mail waits meanwhile, and a
//     resolver that fails would defer all destinations at once. What was before it is not
//     forgotten: strict, deferred, lax is a change from strict to lax, and its record says since
//     when mail waited.
//   - Another MTA-STS policy, other hosts, other fingerprints: the verdict is the same.
//
// A downgrade is a change after which something is not promised that was before
// (verdict.Weakens).
//
// # Limits
//
// At most MaxRecords records, of at most MaxRecordSize octets, for Keep, and MaxOfDest of one
// destination, so that one that comes and goes has no more. Where there are too many, those go first
// whose owner has most of them, oldest first. The owner is the registered domain
// (publicsuffix, its ICANN part: of a provider that gives names away, all are one owner). So nobody can push
// the records of others out with one domain, however many names it has; it takes about
// as many registered domains as there are records, and mail to each. The same holds for
// MaxKnown last verdicts.
//
// A record is not taken while slack more than the bound wait for Trim, and counted.
//
// # What it does not do
//
// It writes no file: its user takes what is to be written (Batch), and gives back what was
// (Load). It writes no log.
package history

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"tlsverdict/internal/verdict"
)

const (
	// MaxRecords bounds what a Book can be told to keep.
	MaxRecords = 100_000
	// MaxKnown is how many last verdicts are kept.
	MaxKnown = 100_000
	// MaxOfDest is how many records of one destination are.
	MaxOfDest = 32
	// Keep is how long both are, the last verdicts from when they were last seen: longer than
	// an MTA-STS policy may be (RFC 8461 §3.2: a max_age of about a year).
	Keep = 400 * 24 * time.Hour
	// MaxCodes is how many reasons a record has: the last ones, which decide.
	MaxCodes = 12
	// slack is the part of a bound by which it may be exceeded until Trim is called.
	slack = 16
	// idle is how many destinations without a policy are remembered at least, in memory only.
	idle = 1 << 16
)

// Step is a verdict, as far as history goes.
type Step struct {
	// Verdict is its name, and Source that of what it rests on.
	Verdict string `json:"verdict"`
	Source  string `json:"source"`
	// Guarantee is what it promises.
	Guarantee verdict.Guarantee `json:"-"`
}

// String writes a step for people: "secure by mta-sts".
func (s Step) String() string {
	if s.Source == "" || s.Source == verdict.FromNothing.String() {
		return s.Verdict
	}
	return s.Verdict + " by " + s.Source
}

// Change is one record.
type Change struct {
	// Seq numbers records in the order in which they were made.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	// Dest is the destination, as nexthop writes it.
	Dest   string `json:"destination"`
	Before Step   `json:"before"`
	After  Step   `json:"after"`
	// Downgrade: less is promised after than before; Cause tells why, as far as the reasons do.
	Downgrade bool          `json:"downgrade"`
	Cause     verdict.Cause `json:"cause,omitempty"`
	// Codes are the reasons for the verdict after, the decisive one last.
	Codes []verdict.Code `json:"reasons"`
	// Until is when the verdict after ends, unless it is renewed.
	Until time.Time `json:"expires,omitzero"`
	// Waited is since when mail was deferred before the change; the zero time where it was not.
	Waited time.Time `json:"deferred_since,omitzero"`
}

// State is the last verdict on a destination.
type State struct {
	Dest string `json:"destination"`
	Step
	// Since is when it was first seen without another one between, and Seen when last, to the
	// day.
	Since time.Time `json:"since"`
	Seen  time.Time `json:"seen"`
	// Waits is since when mail is deferred; the zero time where it is not. It is not kept
	// over a restart.
	Waits time.Time `json:"deferred_since,omitzero"`
	// filed: the file may have one.
	filed bool
}

// Observation is a verdict that was reached.
type Observation struct {
	Time    time.Time
	Dest    string
	Verdict verdict.Verdict
	Source  verdict.Source
	Until   time.Time
	Reasons []verdict.Reason
	// Provisional: a lookup failed on the way. Of a destination that nothing is known of,
	// nothing is learned.
	Provisional bool
}

// Stats are counters since the start, and sizes now.
type Stats struct {
	// Changes counts the changes that were seen, and Downgrades those of them that are.
	Changes, Downgrades uint64
	// Dropped counts the records that were not taken or had to go because there were too many,
	// and Forgotten the last verdicts.
	Dropped, Forgotten uint64
	// Records and Known are how many are kept.
	Records, Known int
}

// Book is a journal in memory. It is safe for concurrent use, and no method waits for
// anything but another one's work in memory.
type Book struct {
	mu    sync.Mutex
	limit int // records
	most  int // last verdicts
	known map[string]State
	// records are in the order of their numbers, and count says how many each
	// destination has.
	records []*Change
	count   map[string]int
	seq     uint64
	// idle are destinations without a policy, in two generations.
	seed      maphash.Seed
	idle, old map[uint64]struct{}
	// dirtyKnown and dirty are what differs from the file.
	dirtyKnown map[string]bool
	dirty      map[uint64]bool
	marks      uint64 // how often something was added to them by Note
	stats      Stats
}

// NewBook returns a Book that keeps so many records, MaxRecords at most; with 0 it keeps
// nothing and sees no changes.
func NewBook(records int) *Book {
	return &Book{
		limit: min(max(records, 0), MaxRecords), most: MaxKnown, seed: maphash.MakeSeed(),
		known: make(map[string]State), count: make(map[string]int),
		idle: make(map[uint64]struct{}), dirtyKnown: make(map[string]bool), dirty: make(map[uint64]bool),
	}
}

// Note takes a verdict, and returns the change that it is; nil where it is none. write
// reports whether there is more to write than before.
func (b *Book) Note(o Observation) (c *Change, write bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.marks
	c = b.note(o)
	return c, b.marks != before
}

func (b *Book) note(o Observation) *Change {
	g, delivers := verdict.Guarantees(o.Verdict)
	if b.limit == 0 {
		return nil
	}
	s, known := b.known[o.Dest]
	if !delivers {
		if known && s.Waits.IsZero() {
			s.Waits = o.Time
			b.known[o.Dest] = s
		}
		return nil
	}
	now := Step{Verdict: o.Verdict.Name(), Source: o.Source.String(), Guarantee: g}
	if !known {
		return b.first(o, now)
	}
	if now == s.Step {
		b.again(s, o.Time)
		return nil
	}
	c := &Change{Time: o.Time, Dest: o.Dest, Before: s.Step, After: now, Codes: codes(o.Reasons), Until: o.Until, Waited: s.Waits}
	if verdict.Weakens(s.Guarantee, g) {
		c.Downgrade = true
		c.Cause = verdict.CauseOf(sourceOf(s.Source), o.Source, o.Reasons)
	}
	b.keep(State{Dest: o.Dest, Step: now, Since: o.Time, Seen: day(o.Time)})
	b.add(c)
	return c
}

// first takes the first verdict on a destination.
func (b *Book) first(o Observation, now Step) *Change {
	h := maphash.String(b.seed, o.Dest)
	if now.Guarantee == verdict.Tried && now.Source == verdict.FromNothing.String() {
		if !o.Provisional {
			b.remember(h)
		}
		return nil
	}
	if len(b.known) >= b.most+b.most/slack {
		b.stats.Forgotten++
		return nil
	}
	b.keep(State{Dest: o.Dest, Step: now, Since: o.Time, Seen: day(o.Time)})
	_, young := b.idle[h]
	_, old := b.old[h]
	if !young && !old {
		return nil
	}
	delete(b.idle, h)
	delete(b.old, h)
	nothing := verdict.NoPolicy{}
	g, _ := verdict.Guarantees(nothing)
	c := &Change{
		Time: o.Time, Dest: o.Dest, Before: Step{Verdict: nothing.Name(), Source: verdict.FromNothing.String(), Guarantee: g}, After: now,
		Codes: codes(o.Reasons), Until: o.Until,
	}
	if verdict.Weakens(g, now.Guarantee) {
		c.Downgrade, c.Cause = true, verdict.CauseOf(verdict.FromNothing, o.Source, o.Reasons)
	}
	b.add(c)
	return c
}

// again takes the verdict that is known.
func (b *Book) again(s State, now time.Time) {
	if s.Waits.IsZero() && !day(now).After(s.Seen) {
		return
	}
	s.Waits = time.Time{}
	if today := day(now); today.After(s.Seen) {
		s.Seen = today
		b.keep(s)
		return
	}
	b.known[s.Dest] = s
}

// remember notes that a destination has no policy.
func (b *Book) remember(h uint64) {
	if len(b.idle) >= idle {
		b.old, b.idle = b.idle, make(map[uint64]struct{})
	}
	b.idle[h] = struct{}{}
}

func (b *Book) keep(s State) {
	old, known := b.known[s.Dest]
	s.filed = old.filed || !known && b.dirtyKnown[s.Dest]
	b.known[s.Dest] = s
	b.dirtyKnown[s.Dest] = true
	b.marks++
}

// add takes a record.
func (b *Book) add(c *Change) {
	b.stats.Changes++
	if c.Downgrade {
		b.stats.Downgrades++
	}
	if b.count[c.Dest] >= MaxOfDest {
		i := slices.IndexFunc(b.records, func(old *Change) bool { return old.Dest == c.Dest })
		b.dropped(b.records[i])
		b.records = slices.Delete(b.records, i, i+1)
	}
	if len(b.records) >= b.limit+max(1, b.limit/slack) {
		b.stats.Dropped++
		return
	}
	b.seq++
	c.Seq = b.seq
	b.insert(c)
	b.dirty[c.Seq] = true
	b.marks++
}

// insert takes a record whose number is higher than all.
func (b *Book) insert(c *Change) {
	b.records = append(b.records, c)
	b.count[c.Dest]++
	b.seq = max(b.seq, c.Seq)
}

// find returns a record; nil where there is none of that number.
func (b *Book) find(seq uint64) *Change {
	i, found := slices.BinarySearchFunc(b.records, seq, func(c *Change, seq uint64) int { return cmp.Compare(c.Seq, seq) })
	if !found {
		return nil
	}
	return b.records[i]
}

// drop removes the records of which gone is true.
func (b *Book) drop(gone func(*Change) bool) {
	b.records = slices.DeleteFunc(b.records, func(c *Change) bool {
		if !gone(c) {
			return false
		}
		b.dropped(c)
		return true
	})
}

// dropped counts a record that goes.
func (b *Book) dropped(c *Change) {
	b.stats.Dropped++
	if b.count[c.Dest]--; b.count[c.Dest] == 0 {
		delete(b.count, c.Dest)
	}
	if b.dirty[c.Seq] {
		// It was never written.
		delete(b.dirty, c.Seq)
	} else {
		b.dirty[c.Seq] = true
	}
}

// Filter says which records are wanted.
type Filter struct {
	// Name is a domain or host, on whatever port; empty for all.
	Name string
	// Since leaves out what was before; the zero time leaves nothing out.
	Since time.Time
	// Downgrades leaves out all else.
	Downgrades bool
	// Before leaves out records from this number on; 0 leaves nothing out.
	Before uint64
	// Max is how many are wanted; 0 for all.
	Max int
}

// Changes returns records, latest first.
func (b *Book) Changes(f Filter) []Change {
	b.mu.Lock()
	all := slices.Clone(b.records) // a record does not change
	b.mu.Unlock()
	var list []Change
	for _, c := range slices.Backward(all) {
		if f.Max > 0 && len(list) >= f.Max {
			break
		}
		if (f.Before == 0 || c.Seq < f.Before) && !c.Time.Before(f.Since) && (c.Downgrade || !f.Downgrades) && (f.Name == "" || nameOf(c.Dest) == f.Name) {
			list = append(list, *c)
		}
	}
	return list
}

// States returns the last verdicts on a domain or host, on whatever port, in the order of
// their destinations.
func (b *Book) States(name string) []State {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []State
	for dest, s := range b.known {
		if nameOf(dest) == name {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b State) int { return strings.Compare(a.Dest, b.Dest) })
	return list
}

// Stats returns counters and sizes.
func (b *Book) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Records, s.Known = len(b.records), len(b.known)
	return s
}

// nameOf is the domain or host of a destination.
func nameOf(dest string) string {
	if rest, host := strings.CutPrefix(dest, "["); host {
		name, _, _ := strings.Cut(rest, "]")
		return name
	}
	name, _, _ := strings.Cut(dest, ":")
	return name
}

// codes are the last reasons' codes, each once.
func codes(reasons []verdict.Reason) []verdict.Code {
	var list []verdict.Code
	for i := len(reasons) - 1; i >= 0 && len(list) < MaxCodes; i-- {
		if code := reasons[i].Code; !slices.Contains(list, code) {
			list = append(list, code)
		}
	}
	slices.Reverse(list)
	return list
}

// sourceOf is the source of a name.
func sourceOf(name string) verdict.Source {
	for s := verdict.FromNothing; s <= verdict.FromImplicitTLS; s++ {
		if s.String() == name {
			return s
		}
	}
	return verdict.FromNothing
}

// day is the day of a time, in UTC.
func day(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
