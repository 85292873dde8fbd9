package fetch_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/fetch"
	"tlsverdict/internal/verdict"
)

const (
	domain = "example.com"
	host   = "mta-sts.example.com"
	policy = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmax_age: 86400\r\n"
)

// authority is a private CA.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	ca := &authority{key: newKey(t)}
	ca.cert = ca.sign(t, ca.key, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return ca
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign fills in what a template lacks and signs it; the root signs itself.
func (ca *authority) sign(t *testing.T, key *ecdsa.PrivateKey, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent := ca.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// leaf returns a server certificate of a template.
func (ca *authority) leaf(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return tls.Certificate{Certificate: [][]byte{ca.sign(t, key, template).Raw}, PrivateKey: key}
}

func (ca *authority) named(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	return ca.leaf(t, &x509.Certificate{DNSNames: names})
}

func (ca *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// serve starts an HTTPS server and returns its address.
func serve(t *testing.T, conf *tls.Config, h http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = conf
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// serveRaw starts a TLS server whose answer to every request is what talk writes.
func serveRaw(t *testing.T, conf *tls.Config, talk func(net.Conn)) string {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			if _, err := conn.Read(buf); err == nil {
				talk(conn)
			}
			_ = conn.Close()
		}
	}()
	return ln.Addr().String()
}

// text answers with a policy as it should be.
func text(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, policy)
}

// addrs is a resolver that answers every question with the same addresses.
type addrs []string

func (a addrs) LookupAddrs(context.Context, string) ([]netip.Addr, error) {
	out := make([]netip.Addr, 0, len(a))
	for _, s := range a {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

// to returns a Fetcher whose every connection ends at a server on loopback,
// whatever port it was meant for.
func to(ca *authority, server string) *fetch.Fetcher {
	return &fetch.Fetcher{
		Resolve: addrs{"127.0.0.1"},
		Roots:   ca.pool(),
		Allow:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		},
	}
}

// wantError fetches and checks that the error is of a kind and names a cause.
func wantError(t *testing.T, f *fetch.Fetcher, kind fetch.Kind, fault verdict.Fault, detail string) {
	t.Helper()
	p, err := f.Fetch(t.Context(), domain)
	var e *fetch.Error
	if !errors.As(err, &e) {
		t.Fatalf("Fetch = %+v, %v; want an *Error", p, err)
	}
	if e.Kind != kind || e.Fault != fault || !strings.Contains(e.Detail, detail) {
		t.Fatalf("Fetch: %v, fault %v; want %v, fault %v, about %q", err, e.Fault, kind, fault, detail)
	}
	if strings.ContainsAny(err.Error(), "\r\n\x00") {
		t.Errorf("%q is not one line", err)
	}
}
