package dnssec

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
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
			b.checked(id, nil)
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
	// Failures are counted besides.
	var b Budget
	for i := range MaxFailures {
		id := sha256.Sum256([]byte(fmt.Sprint(i)))
		if _, ok := b.check(id, priceCheap, 0); !ok {
			t.Fatalf("no check after %d failures", i)
		}
		b.checked(id, errors.New("bad"))
	}
	if _, ok := b.check(sha256.Sum256(nil), priceCheap, 0); ok {
		t.Error("one more check after the last failure")
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
