package tlsa

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// issued is a certificate with its key.
type issued struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// issue makes a certificate; by is nil for one that signs itself.
func issue(t *testing.T, name string, ca bool, by *issued) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 1, 0), IsCA: ca, BasicConstraintsValid: true,
	}
	if !ca {
		template.DNSNames = []string{name}
	}
	signer, parent := key, template
	if by != nil {
		signer, parent = by.key, by.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{c, key}
}

// of makes the record that a certificate matches.
func of(u Usage, s Selector, m MatchingType, c *issued) Record {
	data := c.Raw
	if s == SPKI {
		data = c.RawSubjectPublicKeyInfo
	}
	switch m {
	case SHA2256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case SHA2512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return Record{u, s, m, data}
}

func TestAuthenticate(t *testing.T) {
	root := issue(t, "root", true, nil)
	middle := issue(t, "middle", true, root)
	leaf := issue(t, "mx.example.com", false, middle)
	other := issue(t, "mx.example.com", false, root)
	chain := []*x509.Certificate{leaf.Certificate, middle.Certificate, root.Certificate}
	for _, c := range []struct {
		name    string
		records []Record
		chain   []*x509.Certificate
		names   string
		at      time.Time
		want    error
	}{
		{"the certificate", []Record{of(DANEEE, Cert, Full, leaf)}, chain, "", now, nil},
		{"its digest", []Record{of(DANEEE, Cert, SHA2256, leaf)}, chain, "", now, nil},
		{"the key's digest", []Record{of(DANEEE, SPKI, SHA2256, leaf)}, chain, "", now, nil},
		{"the long digest", []Record{of(DANEEE, SPKI, SHA2512, leaf)}, chain, "", now, nil},
		{"another key", []Record{of(DANEEE, SPKI, SHA2256, other)}, chain, "mx.example.com", now, ErrMismatch},
		{"the second record", []Record{of(DANEEE, SPKI, SHA2256, other), of(DANEEE, SPKI, SHA2256, leaf)}, chain, "", now, nil},
		// RFC 7672 §3.1.1: with DANE-EE dates and names count for nothing.
		{"past its time, DANE-EE", []Record{of(DANEEE, SPKI, SHA2256, leaf)}, chain, "mx.example.net", now.AddDate(1, 0, 0), nil},
		{"an issuer is no end entity", []Record{of(DANEEE, SPKI, SHA2256, root)}, chain, "mx.example.com", now, ErrMismatch},
		{"the issuer", []Record{of(DANETA, Cert, SHA2256, middle)}, chain, "mx.example.com", now, nil},
		{"the root", []Record{of(DANETA, SPKI, SHA2512, root)}, chain, "mx.example.com", now, nil},
		{"the root is not sent", []Record{of(DANETA, Cert, SHA2256, root)}, chain[:2], "mx.example.com", now, ErrMismatch},
		{"the way to the root is not sent", []Record{of(DANETA, Cert, SHA2256, root)}, []*x509.Certificate{leaf.Certificate, root.Certificate}, "mx.example.com", now, ErrAnchor},
		{"past its time, DANE-TA", []Record{of(DANETA, Cert, SHA2256, middle)}, chain, "mx.example.com", now.AddDate(1, 0, 0), ErrAnchor},
		{"another name, DANE-TA", []Record{of(DANETA, Cert, SHA2256, middle)}, chain, "mx.example.net", now, ErrAnchor},
		{"no name, DANE-TA", []Record{of(DANETA, Cert, SHA2256, middle)}, chain, "", now, ErrAnchor},
		{"an unusable record", []Record{of(PKIXEE, SPKI, SHA2256, leaf)}, chain, "mx.example.com", now, ErrMismatch},
		{"no record", nil, chain, "mx.example.com", now, ErrMismatch},
		{"no certificate", []Record{of(DANEEE, SPKI, SHA2256, leaf)}, nil, "", now, ErrMismatch},
	} {
		p := Presented{Chain: c.chain, Now: c.at}
		if c.names != "" {
			p.Names = []string{c.names}
		}
		r, err := Authenticate(c.records, p)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		if err == nil && !r.Usable() {
			t.Errorf("%s: record %v", c.name, r)
		}
	}
	p := Presented{Chain: chain, Names: []string{"mx.example.net", "mx.example.com"}, Now: now}
	if _, err := Authenticate([]Record{of(DANETA, Cert, SHA2256, middle)}, p); err != nil {
		t.Errorf("the second name: %v", err)
	}
}
