package probe

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// maxRead is how many octets are read from a host in all. The longest chains of
// certificates have a tenth of it.
const maxRead = 128 << 10

// exchange is what is said to one host on one connection.
type exchange struct {
	client *Client
	result *Result
	held   verdict.Authentication
	// stage is what is being done.
	stage Stage

	conn net.Conn
	in   *bufio.Reader
}

// run speaks with the host until it has proved itself, or not.
func (e *exchange) run(conn net.Conn) error {
	e.stage = Dialogue
	if err := conn.SetDeadline(time.Now().Add(talkTime)); err != nil {
		return &Error{Stage: Internal, Fault: verdict.Ours, Detail: err.Error(), cause: err}
	}
	counted := &bounded{Conn: conn, left: maxRead}
	e.over(counted)
	switch e.result.Target.Kind {
	case Implicit:
		return e.implicit(counted)
	case StartTLS:
		return e.startTLS(counted)
	}
	panic("probe: " + e.result.Target.String())
}

// over has the dialogue go on over a connection.
func (e *exchange) over(conn net.Conn) {
	e.conn, e.in = conn, bufio.NewReaderSize(conn, maxLine)
}

func (e *exchange) implicit(conn net.Conn) error {
	e.result.Offered = true
	if err := e.tls(conn); err != nil {
		return err
	}
	if err := e.greeting(); err != nil {
		return err
	}
	if _, err := e.hello(); err != nil {
		return err
	}
	// A port for users' mail greets everyone, and wants a login for mail: whoever sends
	// mail there has it returned at once.
	for _, command := range []string{"MAIL FROM:<>", "RSET"} {
		if _, err := e.ask(command, 250); err != nil {
			return err
		}
	}
	e.quit()
	return nil
}

func (e *exchange) startTLS(conn net.Conn) error {
	if err := e.greeting(); err != nil {
		return err
	}
	offer, err := e.hello()
	if err != nil {
		return err
	}
	if !offer.offers("STARTTLS") {
		return &Error{Stage: e.stage, Fault: verdict.Remote, Detail: "it does not offer STARTTLS", cause: ErrNotOffered}
	}
	e.result.Offered = true
	if _, err := e.ask("STARTTLS", 220); err != nil {
		return err
	}
	// What came in clear text beyond the reply would be read as if TLS had
	// protected it.
	if n := e.in.Buffered(); n > 0 {
		return e.bad("%d octets in clear text after the reply to STARTTLS", n)
	}
	if err := e.tls(conn); err != nil {
		return err
	}
	// Both sides forget what was said before (RFC 3207 §4.2).
	if _, err := e.hello(); err != nil {
		return err
	}
	e.quit()
	return nil
}

// bad is a host that does not say what it should.
func (e *exchange) bad(format string, args ...any) error {
	return &Error{Stage: e.stage, Fault: verdict.Remote, Detail: clip(fmt.Sprintf(format, args...))}
}

// greeting reads the first reply (RFC 5321 §3.1). A host that is well may refuse this
// client all the same: an MTA would not get further.
func (e *exchange) greeting() error {
	r, err := readReply(e.in)
	if err != nil {
		return err
	}
	if r.code != 220 {
		return e.bad("it greets with %v", r)
	}
	e.result.Greeting = strings.Join(r.lines, "\n")
	return e.notMyself(r)
}

// hello says who this host is.
func (e *exchange) hello() (reply, error) {
	r, err := e.ask("EHLO "+e.myName(), 250)
	if err != nil {
		return r, err
	}
	return r, e.notMyself(r)
}

// notMyself refuses a server that has the name of this host: mail for it would come back.
func (e *exchange) notMyself(r reply) error {
	if name := strings.ToLower(strings.TrimSuffix(e.client.Hello, ".")); name != "" && r.name() == name {
		return e.bad("it calls itself %s, as this host does", name)
	}
	return nil
}

// myName is the name of this host, or its address where that is no full name.
func (e *exchange) myName() string {
	if strings.Contains(e.client.Hello, ".") {
		return e.client.Hello
	}
	at, err := netip.ParseAddrPort(e.conn.LocalAddr().String())
	if err != nil {
		return "[127.0.0.1]"
	}
	if addr := at.Addr().Unmap().WithZone(""); addr.Is6() {
		return "[IPv6:" + addr.String() + "]"
	}
	return "[" + at.Addr().Unmap().String() + "]"
}

// ask sends a command and wants a code.
func (e *exchange) ask(command string, code int) (reply, error) {
	if _, err := io.WriteString(e.conn, command+"\r\n"); err != nil {
		return reply{}, err
	}
	r, err := readReply(e.in)
	if err != nil {
		return r, err
	}
	if r.code != code {
		verb, _, _ := strings.Cut(command, " ")
		return r, e.bad("it answers %s with %v", verb, r)
	}
	return r, nil
}

// quit takes leave (RFC 5321 §4.1.1.10). The host has proved itself, whatever it says.
func (e *exchange) quit() {
	_, _ = e.ask("QUIT", 221)
	_ = e.conn.Close()
}

// tls makes the handshake and checks the certificate.
func (e *exchange) tls(conn net.Conn) error {
	e.stage = Handshake
	name := e.result.Target.Host
	if len(e.held.Records) > 0 {
		// RFC 7672 §8.1: SNI is the TLSA base domain.
		name = e.held.Base
	}
	secure := tls.Client(conn, &tls.Config{
		ServerName: name,
		MinVersion: tls.VersionTLS12,
		// It is checked by verify, in both ways that there are.
		InsecureSkipVerify: true,
		VerifyConnection:   e.verify,
	})
	if err := secure.Handshake(); err != nil {
		var record tls.RecordHeaderError
		if errors.As(err, &record) {
			return e.bad("it does not speak TLS, and began with %q", record.RecordHeader[:])
		}
		return err
	}
	e.stage = Dialogue
	e.over(secure)
	return nil
}

// verify holds the certificate to the TLSA records of the host, or else to its name.
func (e *exchange) verify(cs tls.ConnectionState) error {
	r := e.result
	r.Version = cs.Version
	if len(cs.PeerCertificates) == 0 {
		return e.refuse(errors.New("it shows no certificate"))
	}
	leaf := cs.PeerCertificates[0]
	r.NotAfter, r.Chain = leaf.NotAfter, cs.PeerCertificates
	if len(e.held.Records) > 0 {
		// RFC 7672 §3.2.2: the base domain, and the name that led there.
		shown := tlsa.Presented{Chain: cs.PeerCertificates, Names: []string{e.held.Base, r.Target.Host}, Now: time.Now()}
		if _, err := tlsa.Authenticate(e.held.Records, shown); err != nil {
			return e.refuse(err)
		}
		r.By, r.Named = ByDANE, e.named(leaf) == nil
		return nil
	}
	if err := e.named(leaf); err != nil {
		return e.refuse(err)
	}
	r.By, r.Named = ByWebPKI, true
	return nil
}

// named holds a certificate to the literal host name, and to the authorities.
func (e *exchange) named(leaf *x509.Certificate) error {
	r := e.result
	opts := x509.VerifyOptions{Roots: e.client.Roots, Intermediates: x509.NewCertPool(), DNSName: r.Target.Host}
	for _, cert := range r.Chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := leaf.Verify(opts)
	return err
}

// refuse is the error for a certificate that does not hold.
func (e *exchange) refuse(cause error) *Error {
	out := &Error{Stage: Certificate, Fault: verdict.Remote, Detail: clip(cause.Error()), cause: cause}
	var roots x509.SystemRootsError
	if errors.As(cause, &roots) {
		out.Fault = verdict.Operator
	}
	return out
}

// bounded is a connection on which so many octets may be read.
type bounded struct {
	net.Conn
	left int
}

// errTooMuch: the host says more than there is to say.
var errTooMuch = errors.New("probe: it sends too much")

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooMuch
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
