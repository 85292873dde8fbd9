package store

import (
	"fmt"
	"slices"

	"tlsverdict/internal/mtasts"
)

// Policies returns at most so many policies, expired or not, in the order of their domains,
// from the first one after a domain; "" begins at the beginning. What cannot be read is
// left out. It is for those who look through everything in their own time: the whole of
// what is not on disk yet is sorted anew each time.
func (s *Store) Policies(after string, most int) ([]mtasts.Cached, error) {
	var list []mtasts.Cached
	for len(list) < most {
		names, err := s.namesAfter(after, most)
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			break
		}
		for _, domain := range names[:min(len(names), most)] {
			after = domain
			if c, found, err := s.Policy(domain); found && err == nil && len(list) < most {
				list = append(list, c)
			}
		}
	}
	return list, nil
}

// namesAfter returns the first names after one, at least so many if there are.
func (s *Store) namesAfter(after string, least int) ([]string, error) {
	names := s.waitingAfter(after)
	err := s.read(func(b buckets) error {
		n := 0
		c := b.policies.Cursor()
		for key, _ := c.Seek([]byte(after)); key != nil && n < least; key, _ = c.Next() {
			if n > 0 && string(key) <= names[len(names)-1] {
				// A tree that leads back into itself would be walked for ever.
				return fmt.Errorf("%w: policies are not in order", ErrDamaged)
			}
			if string(key) > after {
				names = append(names, string(key))
				n++
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: policies: %w", err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// waitingAfter names the domains that something is to happen to.
func (s *Store) waitingAfter(after string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var names []string
	for _, m := range []map[string]change{s.pending, s.writing} {
		for domain := range m {
			if domain > after {
				names = append(names, domain)
			}
		}
	}
	return names
}
