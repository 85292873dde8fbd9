package engine

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// portSet is a set of TCP ports that only grows; the zero value is empty. Nearly all mail
// goes to one, so that to look a name up on all of them is to look it up twice.
type portSet struct {
	// words have a bit for each port, and rows one for each word that is not 0.
	words [1 << 10]atomic.Uint64
	rows  [1 << 4]atomic.Uint64
}

func (s *portSet) add(port uint16) {
	word, bit := port>>6, uint64(1)<<(port&63)
	if s.words[word].Load()&bit != 0 {
		return
	}
	s.words[word].Or(bit)
	s.rows[word>>6].Or(uint64(1) << (word & 63))
}

// all visits the ports in order.
func (s *portSet) all() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for i := range s.rows {
			for row := s.rows[i].Load(); row != 0; row &= row - 1 {
				word := i<<6 | bits.TrailingZeros64(row)
				for left := s.words[word].Load(); left != 0; left &= left - 1 {
					if !yield(uint16(word<<6 | bits.TrailingZeros64(left))) {
						return
					}
				}
			}
		}
	}
}
