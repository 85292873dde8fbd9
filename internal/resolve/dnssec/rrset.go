package dnssec

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// rrset is the records of one owner and type in one section of a message, with the
// signatures that cover them.
type rrset struct {
	owner name
	rtype uint16
	rrs   []dns.RR
	sigs  []signature
	at    time.Time // when they came; zero: now

	mu    sync.Mutex // messages are shared by sessions
	done  bool
	rdata [][]byte // canonical, in order, each once
	err   error
}

func (set *rrset) String() string { return subject(set.owner, set.rtype) }

// subject names a question or an RRset: "example.com. MX".
func subject(n name, rtype uint16) string { return n.String() + " " + typeName(rtype) }

func typeName(rtype uint16) string {
	if s, ok := dns.TypeToString[rtype]; ok {
		return s
	}
	return fmt.Sprintf("TYPE%d", rtype) // RFC 3597 §5
}

// ttl is the least of the records', less what has passed since they came.
func (set *rrset) ttl(now time.Time) time.Duration {
	least := forever
	for _, rr := range set.rrs {
		least = min(least, seconds(rr.Header().Ttl))
	}
	return aged(least, set.at, now)
}

// aged is what is left of a TTL that began to count at a time.
func aged(ttl time.Duration, from, now time.Time) time.Duration {
	if from.IsZero() || now.Before(from) {
		return ttl
	}
	return max(0, ttl-now.Sub(from))
}

const forever = time.Duration(1<<31-1) * time.Second

// seconds reads a TTL; one with the top bit set is zero (RFC 2181 §8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// signers returns the names that could be the zone of the RRset, as its signatures
// name them, the deepest first: the zone is the owner or above it, and for DS above
// it (RFC 4035 §5.3.1, §2.4). That a signature names a zone is no proof: it only
// says where to look.
func (set *rrset) signers() []name {
	var zones []name
	for _, sig := range set.sigs {
		if set.owner.within(sig.signer) && (set.rtype != dns.TypeDS || set.owner != sig.signer) && !slices.Contains(zones, sig.signer) {
			zones = append(zones, sig.signer)
		}
	}
	slices.SortFunc(zones, func(a, b name) int { return b.labels() - a.labels() })
	return zones
}
