package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// authorities are the lab's two certification authorities: Postfix and policyd
// trust the first; the second can be believed only through DANE.
type authorities struct {
	trusted authority
	private authority
}

// authority is one self-signed CA certificate and its key.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthorities() (authorities, error) {
	trusted, err := newAuthority("Lab CA")
	if err != nil {
		return authorities{}, err
	}
	private, err := newAuthority("Private CA")
	return authorities{trusted, private}, err
}

func newAuthority(name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	t := template(name)
	t.IsCA, t.KeyUsage, t.DNSNames = true, x509.KeyUsageCertSign, nil
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	c, err := x509.ParseCertificate(der)
	return authority{c, key}, err
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(0, 0, 90),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
}

// certificate makes what a mail host presents; kind is one of trusted, wildcard,
// self-signed, misnamed, expired and private, as testdata/internet.txtar explains them.
func (a authorities) certificate(kind, name string) (tls.Certificate, error) {
	switch kind {
	case "trusted":
		return a.trusted.issue(name)
	case "wildcard":
		_, parent, _ := strings.Cut(name, ".")
		return a.trusted.issue("*." + parent)
	case "misnamed":
		return a.trusted.issue("misnamed.invalid")
	case "expired":
		return a.trusted.until(name, time.Now().Add(-24*time.Hour))
	case "private":
		c, err := a.private.issue(name)
		c.Certificate = append(c.Certificate, a.private.certificate.Raw)
		return c, err
	case "self-signed":
		return authority{}.issue(name)
	}
	return tls.Certificate{}, fmt.Errorf("no such certificate as %q", kind)
}

// issue makes a key and a certificate for one name. The zero authority issues
// self-signed ones.
func (a authority) issue(name string) (tls.Certificate, error) {
	return a.until(name, template(name).NotAfter)
}

// until does, with the end that the certificate is to have.
func (a authority) until(name string, end time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := template(name)
	t.NotAfter = end
	if a.certificate == nil {
		a = authority{t, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.certificate, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// pem returns the CA certificate as a file for Postfix and policyd.
func (a authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}))
}

func TestCertificates(t *testing.T) {
	ca, err := newAuthorities()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.trusted.certificate)
	for kind, valid := range map[string]bool{"trusted": true, "wildcard": true, "misnamed": false, "expired": false, "private": false, "self-signed": false} {
		c, err := ca.certificate(kind, "mx.example")
		if err != nil {
			t.Fatal(kind, err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(kind, err)
		}
		_, err = leaf.Verify(x509.VerifyOptions{DNSName: "mx.example", Roots: roots})
		if (err == nil) != valid {
			t.Errorf("%s: verifying it for mx.example gives %v", kind, err)
		}
	}
}
