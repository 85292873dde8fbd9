package probe

import (
	"net/netip"
	"sync"
	"time"
)

// Visits remembers which addresses were connected to a moment ago. It is safe for
// concurrent use.
type Visits struct {
	mu   sync.Mutex
	last map[netip.Prefix]time.Time
}

// visit notes a connection to an address. It returns how long to wait where there was one
// a moment ago, and then notes nothing.
func (v *Visits) visit(addr netip.Addr, now time.Time) time.Duration {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	network, err := addr.Prefix(bits)
	if err != nil {
		return 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if wait := visitEvery - now.Sub(v.last[network]); wait > 0 {
		return wait
	}
	if v.last == nil {
		v.last = make(map[netip.Prefix]time.Time)
	}
	// There are as many as connections in visitEvery.
	for old, at := range v.last {
		if now.Sub(at) >= visitEvery {
			delete(v.last, old)
		}
	}
	v.last[network] = now
	return 0
}
