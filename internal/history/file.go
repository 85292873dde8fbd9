package history

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Batch is what is to be written to the file: nil for what is to go.
type Batch struct {
	Changes map[uint64]*Change
	States  map[string]*State
}

// Empty reports whether there is nothing to write.
func (b Batch) Empty() bool { return len(b.Changes) == 0 && len(b.States) == 0 }

// SetLimit sets how many records are kept, and drops those that are too many; with 0 all,
// and all last verdicts.
func (b *Book) SetLimit(records int, now time.Time) {
	b.mu.Lock()
	b.limit = min(max(records, 0), MaxRecords)
	if b.limit == 0 {
		b.drop(func(*Change) bool { return true })
		for dest := range b.known {
			b.forget(dest)
		}
		clear(b.idle)
		clear(b.old)
	}
	b.mu.Unlock()
	b.Trim(now)
}

// Crowded reports whether Trim is worth its time: half of what may be too much is.
func (b *Book) Crowded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.records) > b.limit+b.limit/slack/2 || len(b.known) > b.most+b.most/slack/2
}

// Batch takes what is to be written. Written must be called before the next Batch.
func (b *Book) Batch() Batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Batch{make(map[uint64]*Change, len(b.dirty)), make(map[string]*State, len(b.dirtyKnown))}
	for seq := range b.dirty {
		// A record does not change.
		out.Changes[seq] = b.find(seq)
	}
	for dest := range b.dirtyKnown {
		out.States[dest] = nil
		if s, found := b.known[dest]; found {
			out.States[dest] = &s
		}
	}
	b.dirty, b.dirtyKnown = make(map[uint64]bool), make(map[string]bool)
	return out
}

// Written says what became of a batch. What is not in the file and was dropped since needs
// no removal: while a disk is full, what waits is no more than what is kept.
func (b *Book) Written(batch Batch, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for seq, c := range batch.Changes {
		switch {
		case err == nil:
		case c == nil || b.find(seq) != nil:
			b.dirty[seq] = true
		default:
			delete(b.dirty, seq)
		}
	}
	for dest, put := range batch.States {
		s, known := b.known[dest]
		switch {
		case err != nil && (put == nil || known):
			b.dirtyKnown[dest] = true
		case err == nil && put != nil && known:
			s.filed = true
			b.known[dest] = s
		case err == nil && put != nil:
			b.dirtyKnown[dest] = true
		}
	}
}

// Load takes what a file has, beside what is known, which is newer. What is known and not
// in the file, because that is another one, is to be written.
func (b *Book) Load(changes []Change, states []State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	there := make(map[string]bool, len(states))
	for _, s := range states {
		there[s.Dest] = true
		s.filed = true
		if newer, found := b.known[s.Dest]; found {
			newer.filed = true
			s = newer
		} else if b.dirtyKnown[s.Dest] {
			continue
		}
		b.known[s.Dest] = s
	}
	for dest := range b.known {
		if !there[dest] {
			b.dirtyKnown[dest] = true
		}
	}
	b.merge(changes)
}

// merge puts the records of a file before those that are known and not in it. Where the
// file's have the same numbers, because they were not known when those were made, the newer ones get others.
func (b *Book) merge(changes []Change) {
	inFile := make(map[uint64]*Change, len(changes))
	for i := range changes {
		if !b.dirty[changes[i].Seq] || b.find(changes[i].Seq) != nil {
			inFile[changes[i].Seq] = &changes[i]
		}
	}
	var newer []*Change
	taken := false
	for _, c := range b.records {
		if old := inFile[c.Seq]; old == nil || old.Dest != c.Dest || !old.Time.Equal(c.Time) {
			newer = append(newer, c)
			taken = taken || old != nil
		}
	}
	b.records = nil
	clear(b.count)
	for _, seq := range slices.Sorted(maps.Keys(inFile)) {
		b.insert(inFile[seq])
		delete(b.dirty, seq)
	}
	for _, c := range newer {
		if taken {
			if inFile[c.Seq] == nil {
				// It may be on its way to the file.
				b.dirty[c.Seq] = true
			}
			again := *c
			again.Seq = b.seq + 1
			c = &again
		}
		b.insert(c)
		b.dirty[c.Seq] = true
	}
	// Without new numbers the two may alternate.
	slices.SortFunc(b.records, func(a, b *Change) int { return cmp.Compare(a.Seq, b.Seq) })
}

// Waiting is how much there is to write.
func (b *Book) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.dirty) + len(b.dirtyKnown)
}

// Discard forgets what there is to write, where there is no file.
func (b *Book) Discard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.dirty)
	clear(b.dirtyKnown)
}
