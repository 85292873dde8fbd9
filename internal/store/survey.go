package store

import (
	"bytes"
	"context"
	"slices"
	"time"

	"tlsverdict/internal/mtasts"
)

const (
	// surveyed is how many records are read in one transaction: the pages that it sees are
	// not used again while it lasts.
	surveyed = 256
	// mostFailing is how many policies a Survey names.
	mostFailing = 20
)

// Survey is what the policies come to, taken together.
type Survey struct {
	// Policies counts those that are kept, by mode, Expired those of them past their end.
	Policies map[mtasts.Mode]int
	Expired  int
	// Failing counts those that hold, and whose last fetch failed. Soonest are those of them
	// that end first, in this order, at most mostFailing.
	Failing int
	Soonest []mtasts.Cached
	// Unreadable counts records that cannot be read.
	Unreadable int
}

// Survey reads every policy; of a million that takes seconds. Others read and write
// meanwhile, so that it is no snapshot. Errors are those of the file, and of ctx.
func (s *Store) Survey(ctx context.Context, now time.Time) (Survey, error) {
	v := Survey{Policies: make(map[mtasts.Mode]int)}
	changed := s.waiting()
	for domain, ch := range changed {
		if c, found := ch.apply(mtasts.Cached{}, false); found && ch.kind == put {
			c.Domain = domain
			v.add(c, now)
		}
	}
	var from []byte
	for {
		read := 0
		err := s.read(func(b buckets) error {
			read = 0
			cursor := b.policies.Cursor()
			key, value := cursor.Seek(from)
			for ; key != nil && read < surveyed; key, value = cursor.Next() {
				read++
				domain := string(key)
				if _, newer := changed[domain]; newer {
					continue
				}
				c, err := decode(domain, value)
				if err != nil {
					v.Unreadable++
					continue
				}
				v.add(c, now)
			}
			from = bytes.Clone(key)
			return nil
		})
		if err != nil || read < surveyed || from == nil {
			return v, err
		}
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
	}
}

// waiting returns the changes that are newer than what the file has, but for notes of use.
func (s *Store) waiting() map[string]change {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make(map[string]change, len(s.pending)+len(s.writing))
	for _, m := range []map[string]change{s.pending, s.writing} {
		for domain, ch := range m {
			if _, newer := all[domain]; !newer && ch.kind != touch {
				all[domain] = ch
			}
		}
	}
	return all
}

func (v *Survey) add(c mtasts.Cached, now time.Time) {
	v.Policies[c.Policy.Mode]++
	if !c.Fresh(now) {
		v.Expired++
		return
	}
	if c.FailedAt.IsZero() {
		return
	}
	v.Failing++
	at, _ := slices.BinarySearchFunc(v.Soonest, c, func(a, b mtasts.Cached) int { return a.Expires().Compare(b.Expires()) })
	if at < mostFailing {
		v.Soonest = slices.Insert(v.Soonest, at, c)
		v.Soonest = v.Soonest[:min(len(v.Soonest), mostFailing)]
	}
}
