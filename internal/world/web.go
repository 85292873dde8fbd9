package world

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

const policyPath = "/.well-known/mta-sts.txt"

// Host is how the policy host of a domain answers. Change reads one setting:
//
//	up                   everything as it should be again
//	down                 connections are refused
//	blocked              connections are neither accepted nor refused
//	hangs                connections are accepted, and nothing follows
//	delay DURATION       the answer is late
//	cert KIND            good, wrong-name, self-signed, expired, wildcard or cn-only
//	tls 1.1              no newer TLS than that
//	status CODE          another HTTP status than 200
//	redirect URL         a 302 to there; the policy is there as well
//	type MEDIATYPE       another Content-Type than text/plain
//	header NAME: VALUE   one more header
type Host struct {
	body     string
	down     bool
	blocked  bool
	hangs    bool
	delay    time.Duration
	cert     string
	oldTLS   bool
	status   int
	location string
	media    string
	name     string
	value    string
}

// Fetch is a connection that was made, or tried, to a policy host.
type Fetch struct {
	// Domain is the policy domain, "" where the address is no policy host's.
	Domain string
	At     time.Time
}

// Web is all policy hosts there are.
type Web struct {
	dns      *DNS
	listener *Listener
	server   *http.Server
	key      *ecdsa.PrivateKey
	ca       *x509.Certificate

	mu    sync.Mutex
	hosts map[string]*Host
	log   []Fetch
}

func newWeb(d *DNS) (*Web, error) {
	w := &Web{dns: d, listener: NewListener("web"), hosts: make(map[string]*Host)}
	var err error
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("world: key: %w", err)
	}
	root := template("The World's CA")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, root, root, &w.key.PublicKey, w.key)
	if err != nil {
		return nil, fmt.Errorf("world: CA: %w", err)
	}
	if w.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("world: CA: %w", err)
	}
	w.server = &http.Server{
		Handler:   http.HandlerFunc(w.serve),
		TLSConfig: &tls.Config{GetConfigForClient: w.config},
		// Without this map HTTP/2 would be spoken.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	go func() { _ = w.server.ServeTLS(w.listener, "", "") }()
	return w, nil
}

// Authority returns that CA's certificate as PEM, for programs that read it from a file.
func (w *Web) Authority() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.ca.Raw})
}

func (w *Web) close() {
	_ = w.server.Close()
	_ = w.listener.Close()
}

// Roots returns the CA that good certificates are from.
func (w *Web) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(w.ca)
	return pool
}

// Publish puts a policy on the policy host of a domain; nothing else changes there.
func (w *Web) Publish(domain, body string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hosts[domain]
	if h == nil {
		h = new(Host)
		w.hosts[domain] = h
	}
	h.body = body
}

// Change makes one setting of a policy host, in the words of Host.
func (w *Web) Change(domain string, words ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hosts[domain]
	if h == nil {
		return fmt.Errorf("world: %q has no policy host", domain)
	}
	if len(words) == 1 {
		return h.state(words[0])
	}
	if len(words) < 2 {
		return errors.New("world: what of the policy host?")
	}
	return h.set(words[0], strings.Join(words[1:], " "))
}

func (h *Host) state(word string) error {
	switch word {
	case "up":
		*h = Host{body: h.body}
	case "down":
		h.down = true
	case "blocked":
		h.blocked = true
	case "hangs":
		h.hangs = true
	default:
		return fmt.Errorf("world: unknown state of a policy host %q", word)
	}
	return nil
}

func (h *Host) set(key, value string) (err error) {
	switch key {
	case "delay":
		h.delay, err = time.ParseDuration(value)
	case "cert":
		if _, known := certificates(value, ""); !known {
			err = fmt.Errorf("world: unknown kind of certificate %q", value)
		}
		h.cert = value
	case "tls":
		if h.oldTLS = value == "1.1"; !h.oldTLS {
			err = fmt.Errorf("world: only \"tls 1.1\", not %q", value)
		}
	case "status":
		h.status, err = strconv.Atoi(value)
	case "redirect":
		h.location = value
	case "type":
		h.media = value
	case "header":
		h.name, h.value, _ = strings.Cut(value, ": ")
	default:
		err = fmt.Errorf("world: unknown setting of a policy host %q", key)
	}
	return err
}

// Fetched returns the connections so far.
func (w *Web) Fetched() []Fetch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Fetch(nil), w.log...)
}

// Dial connects to a policy host by its address.
func (w *Web) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("world: dial: %w", err)
	}
	refused := &net.OpError{Op: "dial", Net: network, Addr: Addr(address), Err: errors.New("connection refused")}
	host := w.at(to.Addr())
	if to.Port() != 443 || host.down {
		return nil, refused
	}
	if host.blocked {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if host.hangs {
		_, client := pair(stream, address)
		return client, nil
	}
	return w.listener.Dial(ctx)
}

// at returns the settings of the policy host at an address, and notes the visit.
// Several may share one; then one that fails counts.
func (w *Web) at(addr netip.Addr) Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found Host
	visit := Fetch{At: time.Now()}
	for domain, h := range w.hosts {
		if w.dns.Has("mta-sts."+domain+".", addr) {
			visit.Domain = domain
			if found = *h; h.down || h.blocked || h.hangs {
				break
			}
		}
	}
	w.log = append(w.log, visit)
	found.down = found.down || visit.Domain == ""
	return found
}

func (w *Web) host(name string) (Host, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hosts[strings.TrimPrefix(strings.ToLower(name), "mta-sts.")]
	if h == nil {
		return Host{}, false
	}
	return *h, true
}

// config picks the certificate for the name that a client wants.
func (w *Web) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	h, ok := w.host(hello.ServerName)
	if !ok {
		return nil, fmt.Errorf("world: nobody is %q here", hello.ServerName)
	}
	cert, err := w.certificate(h.cert, hello.ServerName)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10}
	if h.oldTLS {
		c.MaxVersion = tls.VersionTLS11
	}
	return c, nil
}

func (w *Web) serve(rw http.ResponseWriter, r *http.Request) {
	h, _ := w.host(r.TLS.ServerName)
	if h.delay > 0 {
		late := time.NewTimer(h.delay)
		defer late.Stop()
		select {
		case <-late.C:
		case <-r.Context().Done():
			return
		}
	}
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if h.media != "" {
		rw.Header().Set("Content-Type", h.media)
	}
	if h.name != "" {
		rw.Header().Set(h.name, h.value)
	}
	switch {
	case r.URL.Path != policyPath && h.location == "":
		http.NotFound(rw, r)
		return
	case r.URL.Path == policyPath && h.location != "":
		rw.Header().Set("Location", h.location)
		rw.WriteHeader(http.StatusFound)
	case h.status != 0:
		rw.WriteHeader(h.status)
	}
	_, _ = io.WriteString(rw, h.body)
}

func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(2, 0, 0),
	}
}

// certificates returns the template for each kind of certificate.
func certificates(kind, name string) (*x509.Certificate, bool) {
	t := template(name)
	t.DNSNames = []string{name}
	switch kind {
	case "", "good", "self-signed":
	case "wrong-name":
		t.DNSNames = []string{"www.example.org"}
	case "expired":
		t.NotBefore, t.NotAfter = t.NotBefore.AddDate(-1, 0, 0), t.NotBefore
	case "wildcard":
		_, parent, _ := strings.Cut(name, ".")
		t.DNSNames = []string{"*." + parent}
	case "cn-only":
		t.DNSNames = nil
	default:
		return nil, false
	}
	return t, true
}

func (w *Web) certificate(kind, name string) (tls.Certificate, error) {
	t, _ := certificates(kind, name)
	issuer := w.ca
	if kind == "self-signed" {
		issuer = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, &w.key.PublicKey, w.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("world: certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: w.key}, nil
}
