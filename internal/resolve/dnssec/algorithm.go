package dnssec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"math/big"

	"github.com/miekg/dns"
)

var (
	errKey       = errors.New("the key is malformed")
	errKeySize   = errors.New("the key's size is not supported")
	errSignature = errors.New("the signature does not match the data")
)

// verifier checks one signature over signed data, as RFC 4035 §5.3.3 has it.
type verifier interface {
	verify(data, signature []byte) error
	price() int
}

// suite is what a validator can and may check.
type suite struct {
	// keys maps the signature algorithms that are supported to readers of their keys. A
	// zone that has none of them is insecure (RFC 4035 §5.2).
	keys map[uint8]func(key []byte) (verifier, error)
	// iterations is the largest count of an NSEC3 that proves anything.
	iterations uint16
}

// algorithms returns the suite of RFC 9904 §3 but for Ed448, which no library here
// offers.
func algorithms() *suite {
	return &suite{
		keys: map[uint8]func([]byte) (verifier, error){
			dns.RSASHA256:       rsaKeys(crypto.SHA256, minModulus),
			dns.RSASHA512:       rsaKeys(crypto.SHA512, minModulus),
			dns.ECDSAP256SHA256: ecdsaKeys(elliptic.P256(), crypto.SHA256, priceCheap),
			dns.ECDSAP384SHA384: ecdsaKeys(elliptic.P384(), crypto.SHA384, priceP384),
			dns.ED25519:         ed25519Key,
		},
		iterations: MaxIterations,
	}
}

// acceptSHA1 adds what is no part of the suite by itself (RFC 9905 §2).
func (s *suite) acceptSHA1() {
	s.keys[dns.RSASHA1] = rsaKeys(crypto.SHA1, minModulus)
	s.keys[dns.RSASHA1NSEC3SHA1] = rsaKeys(crypto.SHA1, minModulus)
}

func (s *suite) supports(algorithm uint8) bool { return s.keys[algorithm] != nil }

// Sizes of RSA keys. The exponent is bounded because the time to check a signature
// grows with it, and its size is the zone owner's choice; 2^32+1 is in use.
const (
	minModulus  = 1024
	maxModulus  = 4096
	maxExponent = 64
)

// rsaKey checks RSA signatures (RFC 3110 §3, RFC 5702 §3).
type rsaKey struct {
	n    *big.Int
	e    *big.Int
	hash crypto.Hash
}

func rsaKeys(h crypto.Hash, least int) func([]byte) (verifier, error) {
	return func(key []byte) (verifier, error) {
		exponent, modulus, ok := splitRSA(key)
		if !ok {
			return nil, errKey
		}
		k := rsaKey{n: new(big.Int).SetBytes(modulus), e: new(big.Int).SetBytes(exponent), hash: h}
		if k.n.BitLen() < least || k.n.BitLen() > maxModulus || k.e.BitLen() > maxExponent {
			return nil, errKeySize
		}
		if k.n.Bit(0) == 0 || k.e.Bit(0) == 0 || k.e.BitLen() < 2 {
			return nil, errKey
		}
		return k, nil
	}
}

// splitRSA reads the exponent's length, the exponent and the modulus (RFC 3110 §2).
func splitRSA(key []byte) (exponent, modulus []byte, ok bool) {
	if len(key) < 1 {
		return nil, nil, false
	}
	size, key := int(key[0]), key[1:]
	if size == 0 {
		if len(key) < 2 {
			return nil, nil, false
		}
		size, key = int(key[0])<<8|int(key[1]), key[2:]
	}
	if size == 0 || size >= len(key) || len(key)-size > maxModulus/8+8 {
		return nil, nil, false
	}
	return key[:size], key[size:], true
}

// price counts the multiplications of an exponentiation, whose time grows with the cube
// of the modulus' size: 27 µs for 2048 bits and 65537, 240 µs for 4096 bits.
func (k rsaKey) price() int {
	ones := 0
	for i := range k.e.BitLen() {
		ones += int(k.e.Bit(i))
	}
	size := k.n.BitLen()
	nanoseconds := (k.e.BitLen() + ones) * 1700 * size / 2048 * size / 2048 * size / 2048
	return priceCheap + nanoseconds/int(priceTime)
}

// verify takes the standard library's way wherever it goes: it refuses exponents
// above 2^31-1 and moduli below 1024 bits.
func (k rsaKey) verify(data, signature []byte) error {
	h := k.hash.New()
	h.Write(data)
	sum := h.Sum(nil)
	if k.e.BitLen() <= 31 && k.n.BitLen() >= minModulus {
		pub := rsa.PublicKey{N: k.n, E: int(k.e.Int64())}
		if rsa.VerifyPKCS1v15(&pub, k.hash, sum, signature) != nil {
			return errSignature
		}
		return nil
	}
	return k.exponentiate(sum, signature)
}

// exponentiate is RSASSA-PKCS1-v1_5 (RFC 8017 §8.2.2): the signature raised to the
// exponent must be exactly what the hash pads to. All of it is public, so that time
// may depend on it.
func (k rsaKey) exponentiate(sum, signature []byte) error {
	size := (k.n.BitLen() + 7) / 8
	s := new(big.Int).SetBytes(signature)
	prefix := digestInfo(k.hash)
	if len(signature) != size || s.Cmp(k.n) >= 0 || size < len(prefix)+len(sum)+11 {
		return errSignature
	}
	want := make([]byte, size)
	want[1] = 1
	end := size - len(prefix) - len(sum)
	for i := 2; i < end-1; i++ {
		want[i] = 0xff
	}
	copy(want[end:], prefix)
	copy(want[end+len(prefix):], sum)
	got := s.Exp(s, k.e, k.n).FillBytes(make([]byte, size))
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return errSignature
	}
	return nil
}

// digestInfo is the DER encoding that comes before a hash (RFC 8017 §9.2, note 1).
func digestInfo(h crypto.Hash) []byte {
	switch h {
	case crypto.SHA1:
		return []byte{0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14}
	case crypto.SHA256:
		return []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	case crypto.SHA512:
		return []byte{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}
	}
	panic("dnssec: no DigestInfo for " + h.String())
}

// ecdsaKey checks ECDSA signatures (RFC 6605 §4).
type ecdsaKey struct {
	key  *ecdsa.PublicKey
	hash crypto.Hash
	cost int
}

func ecdsaKeys(curve elliptic.Curve, h crypto.Hash, price int) func([]byte) (verifier, error) {
	return func(key []byte) (verifier, error) {
		pub, err := ecdsa.ParseUncompressedPublicKey(curve, append([]byte{4}, key...))
		if err != nil {
			return nil, errKey
		}
		return ecdsaKey{pub, h, price}, nil
	}
}

func (k ecdsaKey) price() int { return k.cost }

func (k ecdsaKey) verify(data, signature []byte) error {
	size := (k.key.Curve.Params().BitSize + 7) / 8
	if len(signature) != 2*size {
		return errSignature
	}
	h := k.hash.New()
	h.Write(data)
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	if !ecdsa.Verify(k.key, h.Sum(nil), r, s) {
		return errSignature
	}
	return nil
}

// edKey checks Ed25519 signatures (RFC 8080 §4).
type edKey ed25519.PublicKey

func ed25519Key(key []byte) (verifier, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, errKey
	}
	return edKey(key), nil
}

func (k edKey) price() int { return priceCheap }

func (k edKey) verify(data, signature []byte) error {
	if !ed25519.Verify(ed25519.PublicKey(k), data, signature) {
		return errSignature
	}
	return nil
}

// digest computes a DS digest (RFC 4509 §2, RFC 6605 §2); it reports whether the
// digest type is supported.
func digest(kind uint8, data []byte) ([]byte, bool) {
	switch kind {
	case dns.SHA1:
		d := sha1.Sum(data)
		return d[:], true
	case dns.SHA256:
		d := sha256.Sum256(data)
		return d[:], true
	case dns.SHA384:
		d := sha512.Sum384(data)
		return d[:], true
	}
	return nil, false
}

// digestSize is how many octets a digest of a type has, or 0 where it is not supported.
func digestSize(kind uint8) int {
	switch kind {
	case dns.SHA1:
		return sha1.Size
	case dns.SHA256:
		return sha256.Size
	case dns.SHA384:
		return sha512.Size384
	}
	return 0
}

func digestSupported(kind uint8) bool { return digestSize(kind) > 0 }

// algorithmName is the mnemonic of an algorithm's number.
func algorithmName(a uint8) string {
	if s, ok := dns.AlgorithmToString[a]; ok {
		return s
	}
	return "algorithm " + big.NewInt(int64(a)).String()
}
