package siege

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stsLine is what Postfix is answered for N.sts.example.
func stsLine(name string) string {
	return "OK secure match=mx." + name + " servername=hostname"
}

// authority is the one CA of a run; it is made once, since certificates cost time.
type authority struct {
	once sync.Once
	err  error
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var ca authority // made on first use, never changed after that

func (a *authority) make() error {
	a.once.Do(func() {
		if a.key, a.err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); a.err != nil {
			return
		}
		t := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "The Siege's CA"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		var der []byte
		if der, a.err = x509.CreateCertificate(rand.Reader, t, t, &a.key.PublicKey, a.key); a.err == nil {
			a.cert, a.err = x509.ParseCertificate(der)
		}
	})
	return a.err
}

// leaf is a certificate for all policy hosts of N.sts.example that there may be: a
// wildcard does not reach so deep, so each gets its own.
func (a *authority) leaf(name string) (*tls.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}, nil
}

// authorityFile writes the CA where the daemon reads it.
func authorityFile(dir string) (string, error) {
	if err := ca.make(); err != nil {
		return "", err
	}
	name := filepath.Join(dir, "ca.pem")
	return name, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o644)
}

// manner is how policy hosts treat those who come for a policy.
type manner int32

const (
	polite    manner = iota
	tarpit           // accepts, and says nothing
	dripping         // a header byte now and then
	endless          // a body without end
	headers          // header lines without end
	redirects        // 302 to itself
	resets           // RST after the request
	slowBody         // a body byte now and then
)

// policyHosts are all policy hosts at one address.
type policyHosts struct {
	listener net.Listener
	manner   atomic.Int32
	maxAge   atomic.Int64 // in seconds
	accepted atomic.Int64
	sent     atomic.Int64 // bytes of endless answers
	certs    sync.Map
}

func servePolicies(t *testing.T) *policyHosts { return servePoliciesAt(t, "127.0.0.2:443") }

// badHosts are those of the domains that begin with "bad".
func badHosts(t *testing.T) *policyHosts { return servePoliciesAt(t, "127.0.0.3:443") }

func servePoliciesAt(t *testing.T, address string) *policyHosts {
	t.Helper()
	must(t, ca.make())
	l, err := net.Listen("tcp", address)
	must(t, err)
	h := &policyHosts{listener: l}
	h.maxAge.Store(86400)
	go h.serve()
	t.Cleanup(func() { _ = l.Close() })
	return h
}

func (h *policyHosts) serve() {
	for {
		c, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.accepted.Add(1)
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			h.talk(c)
		}()
	}
}

// talk speaks HTTP/1.1 over TLS, as its manner is.
func (h *policyHosts) talk(raw net.Conn) {
	how := manner(h.manner.Load())
	if how == tarpit {
		_, _ = io.Copy(io.Discard, raw)
		return
	}
	var name string
	c := tls.Server(raw, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		name = hello.ServerName
		if known, ok := h.certs.Load(name); ok {
			return known.(*tls.Certificate), nil
		}
		cert, err := ca.leaf(name)
		if err == nil {
			h.certs.Store(name, cert)
		}
		return cert, err
	}})
	request := make([]byte, 4096)
	if _, err := c.Read(request); err != nil {
		return
	}
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	switch how {
	case dripping:
		drip(c, ok)
	case endless:
		_, _ = io.WriteString(c, ok+"Connection: close\r\n\r\n")
		h.pour(c, "x: "+string(make([]byte, 4000))+"\r\n")
	case headers:
		_, _ = io.WriteString(c, ok)
		h.pour(c, "X-More: and more and more and more and more\r\n")
	case redirects:
		_, _ = fmt.Fprintf(c, "HTTP/1.1 302 Found\r\nLocation: https://%s/.well-known/mta-sts.txt\r\nContent-Length: 0\r\n\r\n", name)
	case resets:
		_ = raw.(*net.TCPConn).SetLinger(0)
	case slowBody:
		_, _ = io.WriteString(c, ok+"Content-Length: 60000\r\n\r\n")
		drip(c, "version: STSv1\r\nmode: enforce\r\n")
	default:
		body := fmt.Sprintf("version: STSv1\r\nmode: enforce\r\nmx: mx.%s\r\nmax_age: %d\r\n", name[len("mta-sts."):], h.maxAge.Load())
		_, _ = fmt.Fprintf(c, "%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", ok, len(body), body)
	}
	_ = c.CloseWrite()
}

// drip writes a byte at a time, and goes on with blanks.
func drip(c io.Writer, text string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		b := byte('a')
		if i < len(text) {
			b = text[i]
		}
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		<-tick.C
	}
}

// pour writes for as long as it is taken.
func (h *policyHosts) pour(c io.Writer, text string) {
	for {
		n, err := io.WriteString(c, text)
		h.sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
