package probe

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a certificate for a host of one of the kinds that the tests below name.
func (a *authority) issue(t *testing.T, kind, host string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	issuer, signer := a.cert, a.key
	switch kind {
	case "good":
	case "wrong-name":
		template.DNSNames = []string{"mx.example.net"}
	case "common-name":
		template.DNSNames = nil
	case "expired":
		template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	case "self-signed":
		issuer, signer = template, key
	default:
		panic(kind)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}
}

// peer is a host on loopback that does with each connection what it is told.
type peer struct {
	port    uint16
	mu      sync.Mutex
	heard   []string
	visits  int
	serving sync.WaitGroup
}

func listen(t *testing.T, serve func(*peer, net.Conn)) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{port: uint16(l.Addr().(*net.TCPAddr).Port)}
	p.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.visits++
			p.mu.Unlock()
			p.serving.Go(func() {
				defer c.Close()
				serve(p, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.serving.Wait()
	})
	return p
}

func (p *peer) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.heard, "|")
}

// wrapped speaks TLS from the first byte, and then a dialogue.
func wrapped(cfg *tls.Config, talk func(*peer, net.Conn)) func(*peer, net.Conn) {
	return func(p *peer, c net.Conn) {
		s := tls.Server(c, cfg)
		if s.Handshake() == nil {
			talk(p, s)
		}
		_ = s.Close()
	}
}

// dialogue is a mail server's: a greeting, then answers by the first word of a command.
// An answer of "" closes the connection.
func dialogue(greeting string, answers map[string]string) func(*peer, net.Conn) {
	return func(p *peer, c net.Conn) {
		fmt.Fprintf(c, "%s\r\n", greeting)
		in := bufio.NewScanner(c)
		for in.Scan() {
			p.mu.Lock()
			p.heard = append(p.heard, in.Text())
			p.mu.Unlock()
			word, _, _ := strings.Cut(in.Text(), " ")
			if answers[word] == "" {
				return
			}
			fmt.Fprintf(c, "%s\r\n", answers[word])
		}
	}
}

func polite() func(*peer, net.Conn) {
	return dialogue("220 smtps-mx.example.com ESMTP", map[string]string{"EHLO": "250-smtps-mx.example.com\r\n250 SIZE 1", "MAIL": "250 ok", "RSET": "250 ok", "QUIT": "221 bye"})
}

// starttls is a mail server that begins TLS when it is asked to.
func starttls(cfg *tls.Config, offer, extra string) func(*peer, net.Conn) {
	return func(p *peer, c net.Conn) {
		fmt.Fprint(c, "220 mx.example.com strict-tls=*.example.com\r\n")
		in := bufio.NewReader(c)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			p.mu.Lock()
			p.heard = append(p.heard, strings.TrimSpace(line))
			p.mu.Unlock()
			if strings.HasPrefix(line, "EHLO") {
				fmt.Fprintf(c, "250-mx.example.com\r\n250 %s\r\n", offer)
				continue
			}
			fmt.Fprintf(c, "220 go ahead\r\n%s", extra)
			s := tls.Server(c, cfg)
			if s.Handshake() == nil {
				in = bufio.NewReader(s)
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					p.mu.Lock()
					p.heard = append(p.heard, strings.TrimSpace(line))
					p.mu.Unlock()
					if strings.HasPrefix(line, "QUIT") {
						fmt.Fprint(s, "221 bye\r\n")
						return
					}
					fmt.Fprint(s, "250 mx.example.com\r\n")
				}
			}
			return
		}
	}
}

// open allows every address: the peers are on loopback.
type open struct{}

func (open) SafeAddrPort(netip.AddrPort) error          { return nil }
func (open) Safe(string, string, syscall.RawConn) error { return nil }

// facts are those of a host on loopback with some TLSA records.
func facts(records ...tlsa.Record) func(context.Context, nexthop.Destination) verdict.Facts {
	return func(_ context.Context, d nexthop.Destination) verdict.Facts {
		h := verdict.Host{
			Name: d.Name,
			A:    verdict.Answer[netip.Addr]{Outcome: verdict.Found, Proof: verdict.Secure, Records: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, TTL: time.Hour},
			AAAA: verdict.Answer[netip.Addr]{Outcome: verdict.NoData, Proof: verdict.Secure, TTL: time.Hour},
		}
		answer := verdict.Answer[tlsa.Record]{Outcome: verdict.NoData, Proof: verdict.Secure, TTL: time.Hour}
		if len(records) > 0 {
			answer.Outcome, answer.Records = verdict.Found, records
		}
		h.TLSA = []verdict.TLSALookup{{Base: d.Name, Answer: answer}}
		return verdict.Facts{Destination: d, Hosts: []verdict.Host{h}}
	}
}

func newClient(a *authority) *Client {
	return &Client{Facts: facts(), Guard: open{}, Roots: a.pool(), Hello: "client.example.net"}
}

func (p *peer) target(k Kind) Target {
	return Target{Host: "smtps-mx.example.com", Port: p.port, Kind: k}
}

// TestImplicit: what becomes of each kind of peer.
func TestImplicit(t *testing.T) {
	const host = "smtps-mx.example.com"
	a := newAuthority(t)
	cfg := func(kind string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{a.issue(t, kind, host)}}
	}
	old := cfg("good")
	old.MaxVersion, old.MinVersion = tls.VersionTLS11, tls.VersionTLS10
	never := dialogue("220-still", nil)
	for _, tc := range []struct {
		name   string
		serve  func(*peer, net.Conn)
		stage  Stage
		detail string
	}{
		{"good", wrapped(cfg("good"), polite()), 0, ""},
		{"wrong name", wrapped(cfg("wrong-name"), polite()), Certificate, "mx.example.net, not smtps-mx.example.com"},
		{"common name only", wrapped(cfg("common-name"), polite()), Certificate, "x509"},
		{"expired", wrapped(cfg("expired"), polite()), Certificate, "expired"},
		{"self-signed", wrapped(cfg("self-signed"), polite()), Certificate, "unknown authority"},
		{"old TLS", wrapped(old, polite()), Handshake, "protocol version"},
		{"plaintext", polite(), Handshake, `it does not speak TLS, and began with "220 s"`},
		{"closed at once", func(*peer, net.Conn) {}, Handshake, ""},
		{"reset", func(_ *peer, c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
		}, Handshake, "reset"},
		{"garbage", func(_ *peer, c net.Conn) { fmt.Fprintf(c, "\x16\x03\x03\x40\x00%s", strings.Repeat("\xff", 0x4000)) }, Handshake, ""},
		{"busy", wrapped(cfg("good"), dialogue("421 too busy", nil)), Dialogue, "it greets with 421 too busy"},
		{"no mail here", wrapped(cfg("good"), dialogue("554-go\r\n554 away", nil)), Dialogue, "it greets with 554 go / away"},
		{"another protocol", wrapped(cfg("good"), dialogue("* OK IMAP4rev1", nil)), Dialogue, `not an SMTP reply: "* OK IMAP4rev1"`},
		{"EHLO refused", wrapped(cfg("good"), dialogue("220 hello", map[string]string{"EHLO": "550 you\r\n"})), Dialogue, "it answers EHLO with 550 you"},
		{"for users only", wrapped(cfg("good"), dialogue("220 hello", map[string]string{"EHLO": "250 hello", "MAIL": "530 5.7.0 Authentication required"})), Dialogue, "it answers MAIL with 530 5.7.0 Authentication required"},
		{"gone after the greeting", wrapped(cfg("good"), dialogue("220 hello", nil)), Dialogue, "EOF"},
		{"no farewell", wrapped(cfg("good"), dialogue("220 hello", map[string]string{"EHLO": "250 hello", "MAIL": "250 ok", "RSET": "250 ok"})), 0, ""},
		{"farewell is garbage", wrapped(cfg("good"), dialogue("220 hello", map[string]string{"EHLO": "250 hello", "MAIL": "250 ok", "RSET": "250 ok", "QUIT": "what?"})), 0, ""},
		{"myself", wrapped(cfg("good"), dialogue("220 Client.Example.Net ESMTP", nil)), Dialogue, "it calls itself client.example.net, as this host does"},
		{"myself, later", wrapped(cfg("good"), dialogue("220 hello", map[string]string{"EHLO": "250 client.example.net."})), Dialogue, "as this host does"},
		{"endless lines", wrapped(cfg("good"), func(p *peer, c net.Conn) {
			for {
				if _, err := io.WriteString(c, "220-and on\r\n"); err != nil {
					return
				}
			}
		}), Dialogue, "more than 100 lines"},
		{"an endless line", wrapped(cfg("good"), func(p *peer, c net.Conn) {
			for {
				if _, err := io.WriteString(c, "220 and on and on and on "); err != nil {
					return
				}
			}
		}), Dialogue, "a line of more than 2048 octets"},
		{"an unfinished greeting", wrapped(cfg("good"), never), Dialogue, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, tc.serve)
			c := newClient(a)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if tc.name == "an unfinished greeting" {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			r := c.Probe(ctx, p.target(Implicit))
			if shown := tc.stage == 0 || tc.stage == Certificate || tc.stage == Dialogue; shown != (len(r.Chain) > 0) || !r.Offered {
				t.Errorf("offered %v, %d certificates", r.Offered, len(r.Chain))
			}
			if tc.stage == 0 {
				if r.Err != nil || r.By != ByWebPKI || r.Version < tls.VersionTLS12 || r.NotAfter.IsZero() || r.Address.Port() != p.port || r.Greeting == "" {
					t.Errorf("%+v: %v", r, r.Err)
				}
				if got := p.said(); got != "EHLO client.example.net|MAIL FROM:<>|RSET|QUIT" {
					t.Errorf("it heard %q", got)
				}
				return
			}
			if r.Err == nil || r.Err.Stage != tc.stage || !strings.Contains(r.Err.Detail, tc.detail) {
				t.Errorf("%+v, want %v %q", r.Err, tc.stage, tc.detail)
			}
			if strings.ContainsAny(r.Err.Detail, "\r\n") {
				t.Errorf("%q is not one line", r.Err.Detail)
			}
			if tc.stage == Handshake || tc.stage == Certificate {
				if strings.Contains(p.said(), "EHLO") {
					t.Errorf("it heard %q", p.said())
				}
			}
		})
	}
}

// TestByTLSA: a host with usable TLSA records is held to them and to nothing else.
func TestByTLSA(t *testing.T) {
	const host = "smtps-mx.example.com"
	a := newAuthority(t)
	own := a.issue(t, "self-signed", host)
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	digest := func(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }
	ee := tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: digest(leaf.RawSubjectPublicKeyInfo)}
	ta := tlsa.Record{Usage: tlsa.DANETA, Selector: tlsa.Cert, Matching: tlsa.SHA2256, Data: digest(a.cert.Raw)}
	pkix := tlsa.Record{Usage: tlsa.PKIXEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: digest(leaf.RawSubjectPublicKeyInfo)}
	other := ee
	other.Data = make([]byte, 32)
	for _, tc := range []struct {
		name    string
		cert    tls.Certificate
		records []tlsa.Record
		by      By
	}{
		{"self-signed, 3 1 1", own, []tlsa.Record{other, ee}, ByDANE},
		{"self-signed, another 3 1 1", own, []tlsa.Record{other}, ByNothing},
		{"good for the WebPKI, another 3 1 1", a.issue(t, "good", host), []tlsa.Record{ee}, ByNothing},
		{"good, 2 0 1", a.issue(t, "good", host), []tlsa.Record{ta}, ByDANE},
		{"wrong name, 2 0 1", a.issue(t, "wrong-name", host), []tlsa.Record{ta}, ByNothing},
		{"expired, 2 0 1", a.issue(t, "expired", host), []tlsa.Record{ta}, ByNothing},
		{"good, unusable records", a.issue(t, "good", host), []tlsa.Record{pkix}, ByWebPKI},
		{"self-signed, unusable records", own, []tlsa.Record{pkix}, ByNothing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := listen(t, wrapped(&tls.Config{Certificates: []tls.Certificate{tc.cert}}, polite()))
			c := newClient(a)
			c.Facts = facts(tc.records...)
			r := c.Probe(t.Context(), p.target(Implicit))
			if r.By != tc.by || (r.Err == nil) != (tc.by != ByNothing) || r.Err != nil && r.Err.Stage != Certificate {
				t.Errorf("by %v: %v", r.By, r.Err)
			}
		})
	}
}

// TestSNI: the name of the host, or of the TLSA base domain.
func TestSNI(t *testing.T) {
	a := newAuthority(t)
	const base = "real.example.org"
	var names []string
	cert := a.issue(t, "good", base)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	p := listen(t, wrapped(&tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		names = append(names, hello.ServerName)
		return &cert, nil
	}}, polite()))
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	plain := facts(tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: sum[:]})
	c := newClient(a)
	c.Facts = func(ctx context.Context, d nexthop.Destination) verdict.Facts {
		f := plain(ctx, d)
		f.Hosts[0].A.Canonical, f.Hosts[0].TLSA[0].Base = base, base
		return f
	}
	if r := c.Probe(t.Context(), p.target(Implicit)); r.Err != nil {
		t.Error(r.Err)
	}
	c = newClient(a)
	if r := c.Probe(t.Context(), p.target(Implicit)); r.Err == nil {
		t.Error("a certificate for another name was taken")
	}
	if got := strings.Join(names, " "); got != base+" smtps-mx.example.com" {
		t.Errorf("SNI %s", got)
	}
}

// TestStartTLS: the same on port 25, where the greeting is in clear text.
func TestStartTLS(t *testing.T) {
	const host = "smtps-mx.example.com"
	a := newAuthority(t)
	cfg := func(kind string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{a.issue(t, kind, host)}}
	}
	for _, tc := range []struct {
		name   string
		serve  func(*peer, net.Conn)
		stage  Stage
		detail string
	}{
		{"good", starttls(cfg("good"), "STARTTLS", ""), 0, ""},
		{"in small letters", starttls(cfg("good"), "starttls now", ""), 0, ""},
		{"stripped", starttls(cfg("good"), "SIZE", ""), Dialogue, "it does not offer STARTTLS"},
		{"named as a host", dialogue("220 x", map[string]string{"EHLO": "250 STARTTLS"}), Dialogue, "it does not offer STARTTLS"},
		{"self-signed", starttls(cfg("self-signed"), "STARTTLS", ""), Certificate, "unknown authority"},
		{"more in clear text", starttls(cfg("good"), "STARTTLS", "250 injected\r\n"), Dialogue, "octets in clear text after the reply to STARTTLS"},
		{"offered and refused", dialogue("220 x", map[string]string{"EHLO": "250-x\r\n250 STARTTLS", "STARTTLS": "454 not now"}), Dialogue, "it answers STARTTLS with 454 not now"},
		{"offered and not spoken", dialogue("220 x", map[string]string{"EHLO": "250-x\r\n250 STARTTLS", "STARTTLS": "220 now"}), Handshake, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, tc.serve)
			r := newClient(a).Probe(t.Context(), p.target(StartTLS))
			if r.Err != nil && errors.Is(r.Err, ErrNotOffered) == r.Offered {
				t.Errorf("offered %v: %v", r.Offered, r.Err)
			}
			if offered := tc.detail != "it does not offer STARTTLS"; r.Offered != offered {
				t.Errorf("offered %v, want %v", r.Offered, offered)
			}
			if tc.stage != 0 {
				if r.Err == nil || r.Err.Stage != tc.stage || !strings.Contains(r.Err.Detail, tc.detail) {
					t.Errorf("%v, want %v %q", r.Err, tc.stage, tc.detail)
				}
				return
			}
			if r.Err != nil || r.By != ByWebPKI || r.Greeting != "mx.example.com strict-tls=*.example.com" {
				t.Errorf("%+v: %v", r, r.Err)
			}
			if got := p.said(); got != "EHLO client.example.net|STARTTLS|EHLO client.example.net|QUIT" {
				t.Errorf("it heard %q", got)
			}
		})
	}
}

// TestHello: a name without a dot is no full name, and the address is one.
func TestHello(t *testing.T) {
	a := newAuthority(t)
	p := listen(t, wrapped(&tls.Config{Certificates: []tls.Certificate{a.issue(t, "good", "smtps-mx.example.com")}}, polite()))
	for _, name := range []string{"", "mail"} {
		c := newClient(a)
		c.Hello = name
		if r := c.Probe(t.Context(), p.target(Implicit)); r.Err != nil {
			t.Error(r.Err)
		}
	}
	if got := p.said(); got != "EHLO [127.0.0.1]|MAIL FROM:<>|RSET|QUIT|EHLO [127.0.0.1]|MAIL FROM:<>|RSET|QUIT" {
		t.Errorf("it heard %q", got)
	}
}

// refusing is a guard that lets nothing through.
type refusing struct{ open }

func (refusing) SafeAddrPort(netip.AddrPort) error { return errors.New("not public") }

// late is one that notices at the socket only.
type late struct{ open }

func (late) Safe(string, string, syscall.RawConn) error { return errors.New("not public") }

// TestRefused: nothing is sent to addresses that a stranger must not lead to.
func TestRefused(t *testing.T) {
	a := newAuthority(t)
	p := listen(t, polite())
	for name, change := range map[string]func(*Client){
		"not public":    func(c *Client) { c.Guard = refusing{} },
		"at the socket": func(c *Client) { c.Guard = late{} },
		"this host's":   func(c *Client) { c.Own = netip.Addr.IsLoopback },
		"whoever dials": func(c *Client) {
			c.Guard = refusing{}
			c.DialContext = func(context.Context, string, string) (net.Conn, error) { panic("dialled") }
		},
	} {
		c := newClient(a)
		change(c)
		r := c.Probe(t.Context(), p.target(Implicit))
		if r.Err == nil || r.Err.Stage != Connect || r.Err.Silent() || name != "at the socket" && !errors.Is(r.Err, ErrRefused) {
			t.Errorf("%s: %v", name, r.Err)
		}
	}
	if p.visits != 0 {
		t.Errorf("%d connections", p.visits)
	}
}

// TestLookups: what is not known of a host is not taken for nothing.
func TestLookups(t *testing.T) {
	a := newAuthority(t)
	p := listen(t, wrapped(&tls.Config{Certificates: []tls.Certificate{a.issue(t, "good", "smtps-mx.example.com")}}, polite()))
	good := facts()
	for name, change := range map[string]func(*verdict.Host){
		"TLSA fails": func(h *verdict.Host) { h.TLSA[0].Answer = verdict.Fail[tlsa.Record](verdict.Remote, "SERVFAIL") },
		"address fails": func(h *verdict.Host) {
			h.A, h.AAAA = verdict.Fail[netip.Addr](verdict.Remote, "SERVFAIL"), verdict.Fail[netip.Addr](verdict.Remote, "SERVFAIL")
		},
		"no address": func(h *verdict.Host) {
			h.A = verdict.Answer[netip.Addr]{Outcome: verdict.NoData, Proof: verdict.Secure}
		},
		"unproven": func(h *verdict.Host) { h.A.Proof, h.AAAA.Proof = verdict.Indeterminate, verdict.Indeterminate },
	} {
		c := newClient(a)
		c.Facts = func(ctx context.Context, d nexthop.Destination) verdict.Facts {
			f := good(ctx, d)
			change(&f.Hosts[0])
			return f
		}
		if r := c.Probe(t.Context(), p.target(Implicit)); r.Err == nil || r.Err.Stage != Lookup || r.Err.Silent() != (name == "unproven") {
			t.Errorf("%s: %v", name, r.Err)
		}
	}
	c := newClient(a)
	c.Facts = func(context.Context, nexthop.Destination) verdict.Facts { return verdict.Facts{} }
	if r := c.Probe(t.Context(), p.target(Implicit)); r.Err == nil || r.Err.Stage != Internal {
		t.Errorf("no host: %v", r.Err)
	}
	if p.visits != 0 {
		t.Errorf("%d connections", p.visits)
	}
}

// TestVisits: an address is not visited twice at once, whatever the name; and another
// family's stays open.
func TestVisits(t *testing.T) {
	a := newAuthority(t)
	p := listen(t, wrapped(&tls.Config{Certificates: []tls.Certificate{a.issue(t, "good", "smtps-mx.example.com")}}, polite()))
	c := newClient(a)
	if r := c.Probe(t.Context(), p.target(Implicit)); r.Err != nil {
		t.Fatal(r.Err)
	}
	other := p.target(Implicit)
	other.Host = "smtps-2.example.net"
	r := c.Probe(t.Context(), other)
	if r.Err == nil || !errors.Is(r.Err, errVisited) || r.Err.again <= 0 || r.Err.again > visitEvery {
		t.Errorf("%+v", r.Err)
	}
	if p.visits != 1 {
		t.Errorf("%d connections", p.visits)
	}
}

// TestVisitsAreShared: two clients, for two ports, visit one address as seldom as one does.
func TestVisitsAreShared(t *testing.T) {
	a := newAuthority(t)
	p := listen(t, wrapped(&tls.Config{Certificates: []tls.Certificate{a.issue(t, "good", "smtps-mx.example.com")}}, polite()))
	one, two := newClient(a), newClient(a)
	one.Visits = new(Visits)
	two.Visits = one.Visits
	if r := one.Probe(t.Context(), p.target(Implicit)); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := two.Probe(t.Context(), p.target(Implicit)); r.Err == nil || !errors.Is(r.Err, errVisited) {
		t.Errorf("%+v", r.Err)
	}
	if p.visits != 1 {
		t.Errorf("%d connections", p.visits)
	}
}

// TestAddresses: they are tried in turn, up to a number, and the first that takes a
// connection has to prove itself.
func TestAddresses(t *testing.T) {
	a := newAuthority(t)
	p := listen(t, wrapped(&tls.Config{Certificates: []tls.Certificate{a.issue(t, "good", "smtps-mx.example.com")}}, polite()))
	var tried []string
	c := newClient(a)
	good := facts()
	c.Facts = func(ctx context.Context, d nexthop.Destination) verdict.Facts {
		f := good(ctx, d)
		f.Hosts[0].A.Records = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.2")}
		f.Hosts[0].AAAA = verdict.Answer[netip.Addr]{Outcome: verdict.Found, Proof: verdict.Secure, Records: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
		return f
	}
	reached := ""
	c.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		tried = append(tried, address)
		if strings.HasPrefix(address, reached) && reached != "" {
			return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", p.port))
		}
		if strings.HasPrefix(address, "[") {
			return nil, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}
		}
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	r := c.Probe(t.Context(), Target{"smtps-mx.example.com", 26, Implicit})
	if r.Err == nil || r.Err.Silent() || !errors.Is(r.Err, syscall.ECONNREFUSED) {
		t.Errorf("%v", r.Err)
	}
	if got := strings.Join(tried, " "); got != "[2001:db8::1]:26 192.0.2.1:26 192.0.2.2:26" {
		t.Errorf("tried %s", got)
	}
	c.Visits, reached = new(Visits), "192.0.2.2"
	if r := c.Probe(t.Context(), Target{"smtps-mx.example.com", 26, Implicit}); r.Err != nil {
		t.Errorf("%v", r.Err)
	}
	var many []netip.Addr
	for i := range 100 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	if got := order(many, nil); len(got) != maxAddresses {
		t.Errorf("%d addresses", len(got))
	}
}

// TestGivenUp: the end of the context ends a probe at any stage, and says nothing of the
// host.
func TestGivenUp(t *testing.T) {
	a := newAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{a.issue(t, "good", "smtps-mx.example.com")}}
	silent := func(_ *peer, c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	drip := func(_ *peer, c net.Conn) {
		for {
			if _, err := io.WriteString(c, "2"); err != nil {
				return
			}
			select {
			case <-t.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	for name, serve := range map[string]func(*peer, net.Conn){
		"silent": silent, "drips": drip, "silent after TLS": wrapped(cfg, silent), "drips after TLS": wrapped(cfg, drip),
	} {
		t.Run(name, func(t *testing.T) {
			p := listen(t, serve)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			begin := time.Now()
			r := newClient(a).Probe(ctx, p.target(Implicit))
			// What drips is no TLS, which shows before time is up.
			if r.Err == nil || !r.Err.Silent() && name != "drips" {
				t.Errorf("%v", r.Err)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
