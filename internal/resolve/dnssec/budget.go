package dnssec

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// What one destination can make this program do (CVE-2023-50387, KeyTrap, and
// CVE-2023-50868), whatever its zones hold.
const (
	// MaxQueries bounds the questions that are sent upstream: thirty hosts that are
	// aliases take four each, besides their chain.
	MaxQueries = 150
	// MaxRecords bounds the records that are read of all replies together. A reply of
	// good zones has twenty or so.
	MaxRecords = 6000
	// MaxChecks bounds the signatures that are checked, counted at the price of
	// the dearest kind: 64 of ECDSA P-384, or six times as many of P-256.
	MaxChecks = 64
	// MaxFailures bounds the signature checks that fail, but for those of a reply in whose
	// place another held.
	MaxFailures = 16
	// MaxHashes bounds the NSEC3 hashes, counted at the price of one with the most
	// iterations that are acted upon; zones without iterations have 51 times as many.
	MaxHashes = 64
	// MaxLinks bounds the CNAME and DNAME links from a name to its records.
	MaxLinks = 8
	// MaxWork bounds the processor time of all of it together, by the prices below, which
	// are about what a slow core takes. The bounds above would else add up.
	MaxWork = 32 * time.Millisecond
	// MaxIterations is the largest NSEC3 iteration count that proves anything; above
	// it a zone counts as insecure (RFC 9276 §3.2).
	MaxIterations = 50

	// maxTried bounds the RRSIGs that are tried for one RRset.
	maxTried = 8
	// maxCollisions bounds the keys of one tag and algorithm that are tried.
	maxCollisions = 4
	// maxKeys bounds the keys in one DNSKEY RRset. The largest that is known to be in
	// use has fewer than twenty.
	maxKeys = 64
	// maxDigests bounds the DS digests that are computed for one DNSKEY RRset.
	maxDigests = 32
	// maxDenials bounds the NSEC and NSEC3 records that are looked at in one message.
	maxDenials = 24
)

// Prices of one signature check, in units of what P-256 takes.
const (
	priceCheap = 1                     // P-256, Ed25519, common RSA
	priceP384  = 6                     // ECDSA P-384
	priceTime  = 75 * time.Microsecond // a unit, about
	// priceOctets is how many octets are put in order and hashed for a unit.
	priceOctets = 8192

	checkUnits = MaxChecks * priceP384
	// hashUnits are blocks of SHA-1.
	hashUnits = MaxHashes * (MaxIterations + 1)
)

// Prices of what is done with a reply, in processor time. Names of a thousand characters,
// and records of many octets, cost as much as signatures do.
const (
	workQuery  = 15 * time.Microsecond  // sending a question
	workLookup = 10 * time.Microsecond  // answering one
	workLabel  = time.Microsecond       // looking for a zone cut at one level
	workRecord = 800 * time.Nanosecond  // reading a record
	workChar   = 5 * time.Nanosecond    // and each character of a name or signature in it
	workOrder  = 1500 * time.Nanosecond // putting a record into canonical form
	workOctet  = 15 * time.Nanosecond   // and each octet of it
	workSet    = 150 * time.Nanosecond  // looking whether a set is a denial, or a signature one of the zone's
	workVerify = 4 * time.Microsecond   // verifying a set, besides the signature itself
	workData   = 3 * time.Nanosecond    // each octet of what was signed
	workDenial = 6 * time.Microsecond   // taking in an NSEC or NSEC3
	workDigest = 2 * time.Microsecond   // a DS digest
	workHash   = 500 * time.Nanosecond  // an NSEC3 hash, known or not
	workBlock  = 150 * time.Nanosecond  // and each block of SHA-1
)

// Budget is what is left to spend on one destination. All its questions share it,
// and no restart gives anything back but failures that were a server's. The zero value is a full one. It is safe for
// concurrent use.
//
// It also keeps what was paid for: a signature is checked once, and a name is hashed
// once.
type Budget struct {
	mu     sync.Mutex
	spent  Spent
	units  int
	blocks int
	over   bool // the work is spent
	// failed counts the checks of a set that failed.
	failed map[*rrset]int
	checks map[[sha256.Size]byte]outcome
	hashed map[string]hash
}

// Spent is what a destination has cost so far.
type Spent struct {
	// Queries were sent upstream.
	Queries int
	// Records were read in the replies.
	Records int
	// Checks of signatures were made, of which Failures failed.
	Checks, Failures int
	// Hashes of NSEC3 were computed.
	Hashes int
	// Work is the processor time that all of it takes, by its prices.
	Work time.Duration
}

// Spent returns what was spent so far.
func (b *Budget) Spent() Spent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spent
}

// work takes processor time and reports whether there was as much left. Once there was
// not, there is none for anything: what is left undone would cost, too.
func (b *Budget) work(d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(d)
}

func (b *Budget) take(d time.Duration) bool {
	if b.over = b.over || d > MaxWork-b.spent.Work; b.over {
		return false
	}
	b.spent.Work += d
	return true
}

// times is the price of so many.
func times(count int, each time.Duration) time.Duration { return time.Duration(count) * each }

// query takes one query and reports whether there was one.
func (b *Budget) query() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent.Queries >= MaxQueries || !b.take(workQuery) {
		return false
	}
	b.spent.Queries++
	return true
}

// records takes the records of a reply and reports whether there were as many left.
func (b *Budget) records(sections ...[]dns.RR) bool {
	count, chars := 0, 0
	for _, rrs := range sections {
		count += len(rrs)
		for _, rr := range rrs {
			chars += len(rr.Header().Name)
			if sig, ok := rr.(*dns.RRSIG); ok {
				chars += len(sig.SignerName) + len(sig.Signature)
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if count > MaxRecords-b.spent.Records || !b.take(times(count, workRecord)+times(chars, workChar)) {
		return false
	}
	b.spent.Records += count
	return true
}

// outcome is how a signature check ended.
type outcome uint8

const (
	unchecked outcome = iota
	good
	bad
)

// check takes one signature check of a price over data of a size, and returns how the
// same one ended before, so that it need not be made again: then only its data counts,
// which was put in order once more.
func (b *Budget) check(id [sha256.Size]byte, price, octets int) (known outcome, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known = b.checks[id]
	units := octets / priceOctets
	if known == unchecked {
		units += price
	}
	if known == unchecked && b.spent.Failures >= MaxFailures || b.units+units > checkUnits {
		return known, false
	}
	work := times(octets, workData)
	if known == unchecked {
		work += times(price, priceTime)
	}
	if !b.take(work) {
		return known, false
	}
	b.units += units
	if known == unchecked {
		b.spent.Checks++
	}
	return known, true
}

// checked notes how a check of a set ended.
func (b *Budget) checked(id [sha256.Size]byte, set *rrset, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.checks == nil {
		b.checks = make(map[[sha256.Size]byte]outcome)
		b.failed = make(map[*rrset]int)
	}
	b.checks[id] = good
	if err != nil {
		b.checks[id] = bad
		b.failed[set]++
		b.spent.Failures++
	}
}

// excuse gives the failures of a reply back, since another to the same question holds: one
// server that lies, or is broken, must not use up what there is for all. The work and the
// price of the checks stay spent.
func (b *Budget) excuse(m *message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, section := range []section{m.answer, m.authority} {
		for _, set := range section {
			b.spent.Failures -= b.failed[set]
			delete(b.failed, set)
		}
	}
}

// hash returns a name's NSEC3 hash; it reports whether there was enough left.
func (b *Budget) hash(n name, p params) (hash, bool) {
	key := string(n) + p.salt + string([]byte{byte(p.iterations)}) // a name ends itself
	b.mu.Lock()
	h, known := b.hashed[key]
	price := p.price(n)
	if known {
		known = b.take(workHash)
		b.mu.Unlock()
		return h, known
	}
	if b.blocks+price > hashUnits || !b.take(workHash+times(price, workBlock)) {
		b.mu.Unlock()
		return h, false
	}
	b.blocks += price
	b.spent.Hashes++
	b.mu.Unlock()
	h = p.hash(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hashed == nil {
		b.hashed = make(map[string]hash)
	}
	b.hashed[key] = h
	return h, true
}
