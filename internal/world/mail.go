package world

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server is how a mail server answers on one port. Nobody listens there until Mail.Change
// reads one of these:
//
//	up                   as it should be: on port 25 with STARTTLS, on others with TLS
//	                     from the first byte
//	down                 connections are refused
//	blocked              connections are neither accepted nor refused
//	reset                connections are reset
//	hangs                connections are accepted, and nothing follows
//	plain                no TLS, neither first nor later
//	cert KIND            good, wrong-name, self-signed, expired, wildcard or cn-only
//	greeting TEXT        another greeting than "220 NAME ESMTP"
//
// Its key is that of {mail}, the SHA-256 digest for a TLSA record 3 1 1.
type Server struct {
	state    string
	cert     string
	greeting string
}

// Visit is a connection that was made, or tried, to a mail server.
type Visit struct {
	// Server is "mx.example.com:26"; "" where nobody listens.
	Server string
	At     time.Time
}

// Mail is all mail servers there are.
type Mail struct {
	dns *DNS
	web *Web

	mu      sync.Mutex
	servers map[string]*Server
	log     []Visit
}

func newMail(d *DNS, w *Web) *Mail {
	return &Mail{dns: d, web: w, servers: make(map[string]*Server)}
}

// Change makes one setting of a server, "HOST:PORT", in the words of Server.
func (m *Mail) Change(server string, words ...string) error {
	_, port, err := net.SplitHostPort(server)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || len(words) == 0 {
		return errors.New("world: want \"HOST:PORT SETTING\"")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.servers[server]
	if s == nil {
		s = &Server{state: "up"}
		m.servers[server] = s
	}
	if len(words) == 1 {
		if !slices.Contains([]string{"up", "down", "blocked", "reset", "hangs", "plain"}, words[0]) {
			return fmt.Errorf("world: unknown state of a mail server %q", words[0])
		}
		*s = Server{state: words[0]}
		return nil
	}
	value := strings.Join(words[1:], " ")
	switch words[0] {
	case "cert":
		if _, known := certificates(value, ""); !known {
			return fmt.Errorf("world: unknown kind of certificate %q", value)
		}
		s.cert = value
	case "greeting":
		s.greeting = value
	default:
		return fmt.Errorf("world: unknown setting of a mail server %q", words[0])
	}
	return nil
}

// Visited returns the connections so far.
func (m *Mail) Visited() []Visit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log)
}

// Dial connects to a mail server by its address. It has what net.Dialer.DialContext has.
func (m *Mail) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("world: dial: %w", err)
	}
	select {
	case <-time.After(Latency):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	name, s := m.at(to)
	failed := func(why syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: network, Addr: Addr(address), Err: why}
	}
	switch s.state {
	case "", "down":
		return nil, failed(syscall.ECONNREFUSED)
	case "reset":
		return nil, failed(syscall.ECONNRESET)
	case "blocked":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	server, client := pair(stream, address)
	if s.state == "hangs" {
		return client, nil
	}
	talk := &talk{mail: m, server: s, name: name, conn: server, wrapped: to.Port() != 25}
	go func() {
		defer server.Close()
		talk.run()
	}()
	return client, nil
}

// at returns who listens at an address, and notes the visit.
func (m *Mail) at(to netip.AddrPort) (string, Server) {
	m.mu.Lock()
	defer m.mu.Unlock()
	visit := Visit{At: time.Now()}
	defer func() { m.log = append(m.log, visit) }()
	names := make([]string, 0, len(m.servers))
	for server := range m.servers {
		names = append(names, server)
	}
	slices.Sort(names)
	for _, server := range names {
		host, port, _ := net.SplitHostPort(server)
		if port == strconv.Itoa(int(to.Port())) && m.dns.Has(host+".", to.Addr()) {
			visit.Server = server
			return host, *m.servers[server]
		}
	}
	return "", Server{}
}

// talk is one connection to a mail server.
type talk struct {
	mail    *Mail
	server  Server
	name    string
	conn    net.Conn
	wrapped bool
}

func (t *talk) run() {
	secure := t.wrapped && t.server.state != "plain"
	if secure && !t.tls() {
		return
	}
	greeting := t.server.greeting
	if greeting == "" {
		greeting = "220 " + t.name + " ESMTP"
	}
	fmt.Fprintf(t.conn, "%s\r\n", greeting)
	for in := bufio.NewScanner(t.conn); in.Scan(); {
		word, _, _ := strings.Cut(strings.ToUpper(in.Text()), " ")
		switch {
		case word == "EHLO" && !t.wrapped && !secure && t.server.state != "plain":
			fmt.Fprintf(t.conn, "250-%s\r\n250 STARTTLS\r\n", t.name)
		case word == "EHLO":
			fmt.Fprintf(t.conn, "250 %s\r\n", t.name)
		case word == "STARTTLS" && !t.wrapped && !secure && t.server.state != "plain":
			fmt.Fprint(t.conn, "220 go ahead\r\n")
			if secure = t.tls(); !secure {
				return
			}
			in = bufio.NewScanner(t.conn)
		case word == "MAIL", word == "RSET":
			fmt.Fprint(t.conn, "250 ok\r\n")
		case word == "QUIT":
			fmt.Fprint(t.conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(t.conn, "500 what?\r\n")
		}
	}
}

// tls has TLS spoken from here on.
func (t *talk) tls() bool {
	cert, err := t.mail.certificate(t.server.cert, t.name)
	if err != nil {
		return false
	}
	secure := tls.Server(t.conn, &tls.Config{Certificates: []tls.Certificate{cert}})
	t.conn = secure
	return secure.Handshake() == nil
}

// certificate is one for the key of {mail}, issued by the CA of the policy hosts.
func (m *Mail) certificate(kind, name string) (tls.Certificate, error) {
	template, _ := certificates(kind, name)
	issuer, signer := m.web.ca, m.web.key
	if kind == "self-signed" {
		issuer, signer = template, m.dns.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &m.dns.key.PublicKey, signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("world: certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: m.dns.key}, nil
}
