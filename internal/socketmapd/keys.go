package socketmapd

import (
	"hash/maphash"
	"sync/atomic"
)

// keys are the texts of questions that came lately. Few domains take most of the mail,
// and a question about one of those need not make its text anew: whoever allocates
// helps a collection of garbage that is under way, which takes long where a million
// verdicts are kept. The zero value is not ready.
type keys struct {
	seed maphash.Seed
	// slots hold one text each, of all that fall on it the latest.
	slots [keySlots]atomic.Pointer[string]
}

const (
	keySlots = 4096
	// longestKey is the length of the longest text that is remembered, in octets.
	longestKey = 260
)

func newKeys() *keys { return &keys{seed: maphash.MakeSeed()} }

// text returns the octets as a string.
func (k *keys) text(b []byte) string {
	if len(b) > longestKey {
		return string(b)
	}
	slot := &k.slots[maphash.Bytes(k.seed, b)%keySlots]
	if known := slot.Load(); known != nil && *known == string(b) { // compared where it is
		return *known
	}
	s := string(b)
	slot.Store(&s)
	return s
}
