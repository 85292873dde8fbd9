package store

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

const (
	salvageBatch = 1000
	maxDomain    = 253
)

// salvager copies the records of a damaged file to a new one.
type salvager struct {
	to     *file
	batch  []record
	last   []byte // the last key that was read
	copied int
}

// record is a domain and what the file has for it.
type record struct {
	domain string
	value  []byte
}

// direction is a way through a bucket.
type direction struct {
	first, next func(*bbolt.Cursor) (key, value []byte)
	order       int // how a key compares with the one before
}

func forwards() direction { return direction{(*bbolt.Cursor).First, (*bbolt.Cursor).Next, 1} }

func backwards() direction { return direction{(*bbolt.Cursor).Last, (*bbolt.Cursor).Prev, -1} }

// salvage copies every record that can be reached from either end of a
// damaged file, and returns how many. One that cannot be read is copied too: its domain
// is still known to have had a policy. The error is that of writing; that
// something could not be read is expected.
func salvage(from, to *file) (int, error) {
	s := &salvager{to: to}
	err := s.walk(from, forwards())
	if errors.Is(err, ErrDamaged) {
		err = s.walk(from, backwards())
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		return s.copied, err
	}
	return s.copied, s.flush()
}

// walk copies records in one direction, until the end, the last key that the
// other direction reached, or damage.
func (s *salvager) walk(from *file, d direction) error {
	until := s.last
	s.last = nil
	return from.view(func(b buckets) error {
		c := b.policies.Cursor()
		for k, v := d.first(c); k != nil && !bytes.Equal(k, until); k, v = d.next(c) {
			if s.last != nil && bytes.Compare(k, s.last) != d.order {
				// A tree that leads back into itself would be walked for ever.
				return fmt.Errorf("%w: keys are not in order", ErrDamaged)
			}
			s.last = bytes.Clone(k)
			if len(k) > maxDomain || dueKey(string(k), v) == nil {
				continue
			}
			s.batch = append(s.batch, record{string(k), bytes.Clone(v)})
			if len(s.batch) < salvageBatch {
				continue
			}
			if err := s.flush(); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *salvager) flush() error {
	err := s.to.update(func(b buckets) error {
		for _, r := range s.batch {
			if err := b.replace(r.domain, r.value); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.copied += len(s.batch)
		s.batch = s.batch[:0]
	}
	return err
}
