// Package tlsa says which TLSA records SMTP may use.
//
// RFC 6698 defines the record, RFC 7671 how to operate it, and RFC 7672 §3.1
// which of its certificate usages mean anything between mail servers: DANE-TA(2)
// and DANE-EE(3). A record set falls in one of three classes:
//
//	some record usable     the host must prove itself by one of them
//	records, none usable   TLS is mandatory, the certificate is not checked (RFC 7672 §2.2)
//	no records             nothing is promised
//
// Example: {3 1 1 <32 bytes>} is usable; {1 0 1 ...} (PKIX-EE) is not in SMTP;
// {3 1 1 <20 bytes>} is not, since SHA-256 has 32 bytes.
//
// Authenticate holds a server's certificates against a set, as an MTA does. Verdicts
// are reached by the form of the records alone; the MTA compares certificates itself.
// Whether a set is DNSSEC-secure, and where it must be looked up, is for the caller.
package tlsa

import (
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
)

// Usage is the certificate usage field (RFC 7218 §2.1).
type Usage uint8

// The certificate usages of RFC 7218 §2.1.
const (
	PKIXTA Usage = 0
	PKIXEE Usage = 1
	DANETA Usage = 2
	DANEEE Usage = 3
)

// Selector says which part of the certificate is matched (RFC 7218 §2.2).
type Selector uint8

// The selectors of RFC 7218 §2.2.
const (
	Cert Selector = 0
	SPKI Selector = 1
)

// MatchingType says how the selected part is presented (RFC 7218 §2.3).
type MatchingType uint8

// The matching types of RFC 7218 §2.3.
const (
	Full    MatchingType = 0
	SHA2256 MatchingType = 1
	SHA2512 MatchingType = 2
)

// Record is one TLSA record's data (RFC 6698 §2.1).
type Record struct {
	Usage    Usage
	Selector Selector
	Matching MatchingType
	// Data is the association data in octets: a digest, or the whole
	// certificate or public key in DER for matching type Full.
	Data []byte
}

// String writes the record as a zone file does, the data cut to 16 hex digits.
func (r Record) String() string {
	data := hex.EncodeToString(r.Data)
	if len(data) > 16 {
		data = data[:16] + "..."
	}
	return fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.Matching, data)
}

// Defect returns why the record is of no use in SMTP, or "" when it is usable.
func (r Record) Defect() string {
	switch {
	case r.Usage == PKIXTA || r.Usage == PKIXEE:
		// RFC 7672 §3.1.3: there is no agreed set of CAs between mail servers.
		return fmt.Sprintf("certificate usage %d has no meaning in SMTP", r.Usage)
	case r.Usage > DANEEE:
		return fmt.Sprintf("certificate usage %d is not assigned", r.Usage)
	case r.Selector > SPKI:
		return fmt.Sprintf("selector %d is not assigned", r.Selector)
	}
	switch r.Matching {
	case Full:
		return r.fullDefect()
	case SHA2256:
		return r.digestDefect(32)
	case SHA2512:
		return r.digestDefect(64)
	}
	return fmt.Sprintf("matching type %d is not assigned", r.Matching)
}

// Usable reports whether the record can authenticate a mail server.
func (r Record) Usable() bool { return r.Defect() == "" }

func (r Record) digestDefect(size int) string {
	if len(r.Data) != size {
		return fmt.Sprintf("a digest of %d octets where matching type %d has %d", len(r.Data), r.Matching, size)
	}
	return ""
}

// fullDefect looks at what "3 0 0", "3 1 0" (a bare key, RFC 7671 §5.1) and their
// trust-anchor siblings hold, from the outside only: certificates and keys are both
// a DER SEQUENCE. What is inside is the MTA's to compare: it may know algorithms
// that this program does not, and calling such a record unusable would take the
// authentication away.
func (r Record) fullDefect() string {
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(r.Data, &outer)
	if err != nil || len(rest) > 0 || outer.Class != asn1.ClassUniversal || outer.Tag != asn1.TagSequence || !outer.IsCompound {
		return "data is not the DER of a certificate or key"
	}
	return ""
}

// Fingerprint returns the SHA-256 digest that a server's certificate or public key
// has where it matches the record, for those who compare fingerprints: that of
// usage DANE-EE, which asks for nothing else (RFC 7671 §5.1), with a digest of this
// kind or the whole, which is hashed here. False: the record cannot be said so. A
// trust anchor is not in the server's own certificate, and of a SHA-512 digest
// nobody can tell the other one.
func (r Record) Fingerprint() ([sha256.Size]byte, bool) {
	var sum [sha256.Size]byte
	if r.Usage != DANEEE || !r.Usable() {
		return sum, false
	}
	switch r.Matching {
	case Full:
		return sha256.Sum256(r.Data), true
	case SHA2256:
		copy(sum[:], r.Data)
		return sum, true
	case SHA2512:
		return sum, false
	}
	panic(fmt.Sprintf("tlsa: usable matching type %d", r.Matching))
}

// Class is what a whole TLSA record set asks of a mail server.
type Class uint8

const (
	// None: there are no records.
	None Class = iota
	// Unusable: there are records, and none of them is usable: TLS without
	// authentication is mandatory (RFC 7672 §2.2).
	Unusable
	// Usable: at least one record is usable: the server must match one.
	Usable
)

// String names the class for people.
func (c Class) String() string {
	switch c {
	case None:
		return "none"
	case Unusable:
		return "unusable"
	case Usable:
		return "usable"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Classify returns the class of a record set.
func Classify(records []Record) Class {
	if len(records) == 0 {
		return None
	}
	for _, r := range records {
		if r.Usable() {
			return Usable
		}
	}
	return Unusable
}
