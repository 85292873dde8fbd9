package history

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// item is what may have to go.
type item[K comparable] struct {
	key  K
	dest string
	at   time.Time
}

// Trim drops what is too old or too much. It takes tens of milliseconds where there is much,
// most of them without keeping others waiting.
func (b *Book) Trim(now time.Time) {
	b.mu.Lock()
	limit := b.limit
	records, known := b.tooMany(now, limit)
	b.mu.Unlock()
	gone, forgotten := surplus(records, limit), surplus(known, b.most)
	if len(gone) == 0 && len(forgotten) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[uint64]bool, len(gone))
	for _, seq := range gone {
		out[seq] = true
	}
	b.drop(func(c *Change) bool { return out[c.Seq] })
	for _, dest := range forgotten {
		if _, found := b.known[dest]; found {
			b.forget(dest)
		}
	}
}

// tooMany drops what is too old, and returns what is kept where that is too much.
func (b *Book) tooMany(now time.Time, limit int) (records []item[uint64], known []item[string]) {
	old := now.Add(-Keep)
	b.drop(func(c *Change) bool { return c.Time.Before(old) })
	if len(b.records) > limit {
		records = make([]item[uint64], 0, len(b.records))
		for _, c := range b.records {
			records = append(records, item[uint64]{c.Seq, c.Dest, c.Time})
		}
	}
	if len(b.known) > b.most {
		known = make([]item[string], 0, len(b.known))
	}
	for dest, s := range b.known {
		switch {
		case s.Seen.Before(old):
			b.forget(dest)
		case known != nil:
			known = append(known, item[string]{dest, dest, s.Seen})
		}
	}
	return records, known
}

func (b *Book) forget(dest string) {
	filed := b.known[dest].filed
	delete(b.known, dest)
	delete(b.dirtyKnown, dest)
	if filed {
		b.dirtyKnown[dest] = true
	}
	b.stats.Forgotten++
}

// surplus returns what has to go so that limit items stay: of each owner the oldest that
// are beyond a share that is the same for all, and as large as can be; and where that is not enough,
// the oldest of all.
func surplus[K comparable](items []item[K], limit int) []K {
	if len(items) <= limit {
		return nil
	}
	slices.SortFunc(items, func(a, b item[K]) int { return a.at.Compare(b.at) })
	owners := make(map[string][]int)
	for i := range items {
		owner := ownerOf(nameOf(items[i].dest))
		owners[owner] = append(owners[owner], i)
	}
	share := shareOf(owners, limit)
	var out []K
	var left []int
	for _, list := range owners {
		n := max(0, len(list)-share)
		for _, i := range list[:n] {
			out = append(out, items[i].key)
		}
		left = append(left, list[n:]...)
	}
	slices.Sort(left)
	for _, i := range left[:max(0, len(left)-limit)] {
		out = append(out, items[i].key)
	}
	return out
}

// shareOf is the largest number of items that each owner can have so that all fit, 1 at
// least.
func shareOf(owners map[string][]int, limit int) int {
	counts := make([]int, 0, len(owners))
	for _, list := range owners {
		counts = append(counts, len(list))
	}
	slices.Sort(counts)
	rest := limit
	for i, n := range counts {
		if n*(len(counts)-i) > rest {
			return max(1, rest/(len(counts)-i))
		}
		rest -= n
	}
	return max(1, limit)
}

// ownerOf is the registered domain that a name is under: one label below a suffix that is
// ICANN's. A name that is no more than such a suffix is its own owner.
func ownerOf(name string) string {
	suffix, icann := publicsuffix.PublicSuffix(name)
	for !icann && strings.Contains(suffix, ".") {
		_, above, _ := strings.Cut(suffix, ".")
		suffix, icann = publicsuffix.PublicSuffix(above)
	}
	below, found := strings.CutSuffix(name, "."+suffix)
	if !found {
		return name
	}
	return name[strings.LastIndexByte(below, '.')+1:]
}
