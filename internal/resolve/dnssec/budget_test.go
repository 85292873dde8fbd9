package dnssec

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestBudgetByPrice: what is dear is had less often, and what was had costs nothing.
func TestBudgetByPrice(t *testing.T) {
	for _, c := range []struct{ price, want int }{{priceP384, MaxChecks}, {priceCheap, checkUnits}, {checkUnits, 1}, {checkUnits + 1, 0}} {
		var b Budget
		made := 0
		for i := range checkUnits + 10 {
			id := sha256.Sum256([]byte(fmt.Sprint(i)))
			if known, ok := b.check(id, c.price, 0); known != unchecked || !ok {
				break
			}
			b.checked(id, nil, nil)
			made++
		}
		if made != c.want {
			t.Errorf("%d checks at price %d, want %d", made, c.price, c.want)
		}
		if made > 0 {
			if known, ok := b.check(sha256.Sum256([]byte("0")), c.price, 0); known != good || !ok {
				t.Error("a signature that was good is checked again")
			}
		}
	}
	// Data counts each time that it is put in order, also of what was checked before.
	var large Budget
	id, made := sha256.Sum256(nil), 0
	for {
		known, ok := large.check(id, priceCheap, 4*priceOctets)
		if !ok {
			break
		}
		if known == unchecked {
			large.checked(id, nil, nil)
		}
		made++
	}
	if want := (checkUnits - priceCheap) / 4; made != want {
		t.Errorf("%d checks of large data, want %d", made, want)
	}
	// Failures are counted besides.
	var b Budget
	for i := range MaxFailures {
		id := sha256.Sum256([]byte(fmt.Sprint(i)))
		if _, ok := b.check(id, priceCheap, 0); !ok {
			t.Fatalf("no check after %d failures", i)
		}
		b.checked(id, nil, errors.New("bad"))
	}
	if _, ok := b.check(sha256.Sum256(nil), priceCheap, 0); ok {
		t.Error("one more check after the last failure")
	}
}

// TestWorkIsCommon: what is spent on one kind of work is not there for another, and once it
// is spent there is none for anything.
func TestWorkIsCommon(t *testing.T) {
	id := func(i int) [sha256.Size]byte { return sha256.Sum256([]byte(fmt.Sprint(i))) }
	record := []dns.RR{mustRR(t, "mx.example. 60 IN A 192.0.2.1")}
	set := &rrset{owner: mustName("mx.example."), rtype: dns.TypeA, rrs: record}
	kinds := map[string]func(b *Budget) bool{
		"questions":      func(b *Budget) bool { return b.query() },
		"records":        func(b *Budget) bool { return b.records(record, nil) },
		"signatures":     func(b *Budget) bool { _, ok := b.check(id(0), priceCheap, 100); return ok },
		"hashes":         func(b *Budget) bool { _, ok := b.hash(mustName("n.example."), params{}); return ok },
		"canonical form": func(b *Budget) bool { set.done = false; return set.canonical(b) == nil },
		"anything":       func(b *Budget) bool { return b.work(1) },
	}
	for what, spend := range kinds {
		var b Budget
		if !spend(&b) || b.Spent().Work <= 0 {
			t.Errorf("%s cost nothing: %+v", what, b.Spent())
		}
		b = Budget{}
		if !b.work(MaxWork) || b.work(1) {
			t.Fatal("more work than there is, or less")
		}
		if spend(&b) {
			t.Errorf("%s after all is spent", what)
		}
	}
	// What is too dear leaves nothing for what is not: it would be tried again and again.
	var b Budget
	if b.work(MaxWork+1) || b.work(1) {
		t.Error("work goes on after it was found to be too much")
	}
	// That the means did not last is not remembered of the set, which others share.
	if set.done = false; set.canonical(&b) == nil || set.canonical(new(Budget)) != nil {
		t.Error("a set is held to be malformed since someone could not pay")
	}
	// The same signature again costs the time for its data, and the same hash something.
	b = Budget{}
	kinds["signatures"](&b)
	b.checked(id(0), nil, nil)
	kinds["hashes"](&b)
	before := b.Spent().Work
	kinds["signatures"](&b)
	again := b.Spent().Work
	kinds["hashes"](&b)
	if again == before || b.Spent().Work == again || b.Spent().Work-before > before/10 {
		t.Errorf("%v, then %v and %v", before, again, b.Spent().Work)
	}
}

func TestHashesByPrice(t *testing.T) {
	for _, c := range []struct {
		p     params
		least int
		most  int
	}{
		{params{iterations: MaxIterations}, MaxHashes, MaxHashes},
		{params{}, hashUnits, hashUnits},
		{params{iterations: MaxIterations, salt: string(make([]byte, 255))}, 10, MaxHashes / 4},
	} {
		var b Budget
		made := 0
		for i := range hashUnits + 10 {
			if _, ok := b.hash(mustName(fmt.Sprintf("n%d.example.", i)), c.p); !ok {
				break
			}
			made++
		}
		if made < c.least || made > c.most {
			t.Errorf("%d hashes with %d iterations and a salt of %d octets, want %d to %d", made, c.p.iterations, len(c.p.salt), c.least, c.most)
		}
		if _, ok := b.hash(mustName("n0.example."), c.p); !ok {
			t.Error("a name is hashed twice")
		}
	}
}

// stubborn is a key that matches no signature, and counts how often it was tried.
type stubborn struct{ tried *int }

func (stubborn) price() int { return 0 }

func (s stubborn) verify(_, _ []byte) error {
	*s.tried++
	return errSignature
}

// TestTriesAreBounded: of one set so many RRSIGs are tried, of one tag so many keys, and
// of one message so many denials.
func TestTriesAreBounded(t *testing.T) {
	tried := 0
	zone := mustName("example.")
	keysOf := func(count int) *keys {
		ks := &keys{zone: zone, suite: algorithms()}
		for i := range count {
			ks.list = append(ks.list, &key{tag: 7, algorithm: dns.ED25519, rdata: []byte{byte(i)}, load: func() (verifier, error) { return stubborn{&tried}, nil }})
		}
		return ks
	}
	now := time.Now()
	sigs := func(count int) (list []signature) {
		for i := range count {
			list = append(list, signature{
				algorithm: dns.ED25519, labels: 2, tag: 7, signer: zone, octets: []byte{byte(i)},
				inception: uint32(now.Unix()) - 60, expiration: uint32(now.Unix()) + 60,
			})
		}
		return list
	}
	for _, c := range []struct{ sigs, keys, want int }{
		{1, 1, 1},
		{maxTried, 1, maxTried},
		{maxTried + 4, 1, maxTried},
		{1, maxCollisions, maxCollisions},
		{1, maxCollisions + 4, maxCollisions},
		{maxTried, maxCollisions, MaxFailures}, // the sum has its own bound
	} {
		tried = 0
		set := &rrset{owner: mustName("a.example."), rtype: dns.TypeA, rrs: []dns.RR{mustRR(t, "a.example. 60 IN A 192.0.2.1")}, sigs: sigs(c.sigs)}
		if _, err := set.verify(keysOf(c.keys), now, new(Budget)); err == nil || tried != c.want {
			t.Errorf("%d RRSIGs and %d keys: tried %d, want %d (%v)", c.sigs, c.keys, tried, c.want, err)
		}
	}
	tried = 0
	var m message
	for i := range maxDenials + 4 {
		n := fmt.Sprintf("n%d.example.", i)
		m.authority = append(m.authority, &rrset{owner: mustName(n), rtype: dns.TypeNSEC, rrs: []dns.RR{mustRR(t, n+" 60 IN NSEC z.example. A")}, sigs: sigs(1)})
	}
	for range 2 {
		if _, err := m.denials(keysOf(1), now, &Budget{spent: Spent{Failures: -maxDenials}}); err != nil {
			t.Error(err)
		}
	}
	if tried != 2*maxDenials {
		t.Errorf("%d denials were looked at, want %d", tried/2, maxDenials)
	}
}
