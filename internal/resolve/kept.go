package resolve

import (
	"sync"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

const (
	// keptOctets is about how much memory the answers that are kept may take.
	keptOctets = 32 << 20
	// keptLife bounds how long any is used.
	keptLife = time.Hour
)

// kept holds what was learnt of hosts beyond a session, since a few hosts take the mail
// of many domains: addresses, aliases and TLSA records, with their proof. What belongs
// to one domain only, its MX and TXT records, is not worth keeping: the verdict is kept.
//
// An answer is used in the first half of its life only. So nothing is ever used beyond
// its TTL, what rests on it can still be kept for a while, and who renews a verdict
// before its end learns something new.
//
// Failures are not kept, nor are answers without proof: that the proof is missing may be
// mended at any moment. And only proofs of this process are: what a resolver vouched for
// that turns out not to validate must not outlive its word.
//
// Two generations make the bound: when the younger is full it becomes the older one,
// which is dropped; what is used moves to the younger.
type kept struct {
	mu             sync.Mutex
	younger, older map[question]keptAnswer
	octets, limit  int
}

type keptAnswer struct {
	result
	// born is when it was asked for.
	born time.Time
}

func newKept(limit int) *kept {
	return &kept{younger: make(map[question]keptAnswer), limit: limit}
}

// get returns an answer with what is left of its TTL.
func (k *kept) get(q question, now time.Time) (result, bool) {
	if !shared(q) {
		return result{}, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	a, ok := k.younger[q]
	if !ok {
		if a, ok = k.older[q]; !ok {
			return result{}, false
		}
	}
	// The clock that only goes forward stands still while a machine sleeps, and the one
	// on the wall may be set back: the answer must be young by both.
	age := max(now.Sub(a.born), now.Round(0).Sub(a.born.Round(0)))
	if age >= min(a.ttl/2, keptLife) || now.Round(0).Before(a.born.Round(0)) {
		return result{}, false
	}
	k.put(q, a)
	a.ttl -= age
	return a.result, true
}

// keep takes an answer that was asked for at a time.
func (k *kept) keep(q question, res result, asked time.Time) {
	if !shared(q) || res.failure != nil || res.proof == verdict.Indeterminate || res.ttl <= time.Second {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.put(q, keptAnswer{res, asked})
}

// put is entered with mu held.
func (k *kept) put(q question, a keptAnswer) {
	if old, ok := k.younger[q]; ok {
		k.octets -= old.octets()
	}
	k.younger[q] = a
	k.octets += a.octets()
	if k.octets > k.limit/2 {
		k.younger, k.older, k.octets = make(map[question]keptAnswer), k.younger, 0
	}
}

// octets is about what an answer takes.
func (a *keptAnswer) octets() int {
	n := 400
	if a.trail != nil {
		n += 600
	}
	for _, rr := range a.records {
		n += 100 + dns.Len(rr)
	}
	return n
}

// shared reports whether a question is about a host, which several domains may have.
func shared(q question) bool {
	switch q.rrtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeTLSA, dns.TypeCNAME:
		return q.class == dns.ClassINET
	}
	return false
}
