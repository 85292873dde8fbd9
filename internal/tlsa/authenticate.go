package tlsa

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrMismatch: no usable record matches what the server presented. It must not
	// be given mail (RFC 7672 §2.2).
	ErrMismatch = errors.New("tlsa: no record matches the certificate")
	// ErrAnchor: a trust anchor matches, and the server's certificate does not hold
	// below it: it does not lead there, is out of its time, or is for another name.
	ErrAnchor = errors.New("tlsa: the certificate does not hold below the trust anchor")
)

// Presented is what a server showed in its handshake, and for what.
type Presented struct {
	// Chain is the server's certificate and those that it sent along, in its order.
	Chain []*x509.Certificate
	// Names are the reference identifiers of RFC 7672 §3.2.2: the TLSA base domain
	// first. Only records with usage DANE-TA ask for them.
	Names []string
	// Now is the time at which the certificates must be valid.
	Now time.Time
}

// Matches reports whether the association data is that of a certificate.
func (r Record) Matches(c *x509.Certificate) bool {
	selected := c.Raw
	switch r.Selector {
	case Cert:
	case SPKI:
		selected = c.RawSubjectPublicKeyInfo
	default:
		return false
	}
	switch r.Matching {
	case Full:
		return bytes.Equal(r.Data, selected)
	case SHA2256:
		sum := sha256.Sum256(selected)
		return bytes.Equal(r.Data, sum[:])
	case SHA2512:
		sum := sha512.Sum512(selected)
		return bytes.Equal(r.Data, sum[:])
	}
	return false
}

// Authenticate checks a server against the usable records of a set (RFC 7672 §3.1).
// With DANE-EE the certificate or key alone counts: neither its names nor its dates
// (RFC 7672 §3.1.1). With DANE-TA the anchor must be among the certificates sent, lead
// to the server's, and that must be in its time and for one of the names (RFC 7672
// §3.1.2). It returns the record that holds. Errors wrap ErrMismatch or ErrAnchor.
//
// A trust anchor that is in the record as a whole, and not sent by the server, is not
// found: RFC 7672 §3.1.2 has the server send it.
func Authenticate(records []Record, p Presented) (Record, error) {
	if len(p.Chain) == 0 {
		return Record{}, fmt.Errorf("%w: there is none", ErrMismatch)
	}
	var below error
	for _, r := range records {
		if !r.Usable() {
			continue
		}
		if r.Usage == DANEEE {
			if r.Matches(p.Chain[0]) {
				return r, nil
			}
			continue
		}
		for _, anchor := range p.Chain {
			if !r.Matches(anchor) {
				continue
			}
			if err := p.holdsBelow(anchor); err != nil {
				below = err
				continue
			}
			return r, nil
		}
	}
	if below != nil {
		return Record{}, below
	}
	return Record{}, ErrMismatch
}

// holdsBelow verifies the server's certificate with one of the chain as the anchor.
func (p Presented) holdsBelow(anchor *x509.Certificate) error {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchor)
	for _, c := range p.Chain[1:] {
		others.AddCert(c)
	}
	if _, err := p.Chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, CurrentTime: p.Now}); err != nil {
		return fmt.Errorf("%w: %w", ErrAnchor, err)
	}
	err := fmt.Errorf("%w: no name to check it for", ErrAnchor)
	for _, name := range p.Names {
		reason := p.Chain[0].VerifyHostname(name)
		if reason == nil {
			return nil
		}
		err = fmt.Errorf("%w: %w", ErrAnchor, reason)
	}
	return err
}
