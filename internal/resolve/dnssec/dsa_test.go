package dnssec

import (
	"crypto"
	//lint:ignore SA1019 the oldest scenarios are signed with it
	"crypto/dsa"
	"crypto/sha1"
	"encoding/asn1"
	"math/big"

	"github.com/miekg/dns"
)

// oldSuite also has what the scenarios were signed with: DSA, RSA of 512 bits and
// SHA-1. Nothing of it is in the program.
func oldSuite() *suite {
	s := algorithms()
	s.iterations = 150 // as Unbound has it
	s.keys[dns.DSA], s.keys[dns.DSANSEC3SHA1] = dsaKeyOf, dsaKeyOf
	s.keys[dns.RSASHA1], s.keys[dns.RSASHA1NSEC3SHA1] = rsaKeys(crypto.SHA1, 512), rsaKeys(crypto.SHA1, 512)
	s.keys[dns.RSASHA256], s.keys[dns.RSASHA512] = rsaKeys(crypto.SHA256, 512), rsaKeys(crypto.SHA512, 512)
	return s
}

// dsaKey checks DSA signatures (RFC 2536).
type dsaKey dsa.PublicKey

func dsaKeyOf(key []byte) (verifier, error) {
	if len(key) < 1 {
		return nil, errKey
	}
	size := 64 + 8*int(key[0])
	if len(key) != 1+20+3*size {
		return nil, errKey
	}
	part := func(from, n int) *big.Int { return new(big.Int).SetBytes(key[from : from+n]) }
	return dsaKey{
		Parameters: dsa.Parameters{Q: part(1, 20), P: part(21, size), G: part(21+size, size)},
		Y:          part(21+2*size, size),
	}, nil
}

func (k dsaKey) price() int { return priceCheap }

func (k dsaKey) verify(data, sig []byte) error {
	var der struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(sig, &der); err != nil || len(rest) > 0 {
		// The oldest scenarios hold signatures in DER, the others as RFC 2536 §3 has it.
		if len(sig) != 41 {
			return errSignature
		}
		der.R, der.S = new(big.Int).SetBytes(sig[1:21]), new(big.Int).SetBytes(sig[21:])
	}
	sum := sha1.Sum(data)
	pub := dsa.PublicKey(k)
	if !dsa.Verify(&pub, sum[:], der.R, der.S) {
		return errSignature
	}
	return nil
}
