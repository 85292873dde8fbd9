package lab

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// mailHost is one SMTP server of the lab. It believes everything and keeps
// nothing but a record of who came, and how well protected.
type mailHost struct {
	name        string
	number      int    // the last part of both addresses
	kind        string // of certificate: trusted, self-signed, misnamed, private
	certificate tls.Certificate
	described   string // its behaviour in testdata/internet.txtar
	implicit    bool   // it listens on port 26 as well, where TLS comes first

	mu        sync.Mutex
	behaviour string           // starttls, cleartext, tempfail, down; resets: that port 26 does to all who come
	banner    string           // what it promises in its greeting
	shows     *tls.Certificate // of somebody in between, who reads all; nil while nobody is there
	seen      []sighting
	lines     []string // a transcript for failed tests
}

// sighting is one recipient that a mail host was told about. The zero TLS
// version is clear text.
type sighting struct {
	recipient string
	delivered bool   // false: RCPT only
	version   uint16 // tls.VersionTLS13, ...
	sni       string // lower case
	port      string // it came to
	read      bool   // by somebody in between, with a certificate of his own
	message   string // what was delivered
}

func newMailHost(name, certificate string, behaviour []string, ca authorities) (*mailHost, error) {
	h := &mailHost{name: name, kind: certificate, described: "starttls"}
	if i := slices.Index(behaviour, "port26"); i >= 0 {
		h.implicit, behaviour = true, slices.Delete(slices.Clone(behaviour), i, i+1)
	}
	if i := slices.Index(behaviour, "banner"); i >= 0 {
		h.banner, behaviour = promise(name), slices.Delete(slices.Clone(behaviour), i, i+1)
	}
	if len(behaviour) > 0 {
		h.described = behaviour[0]
	}
	if !slices.Contains([]string{"starttls", "cleartext", "tempfail", "down"}, h.described) {
		return nil, fmt.Errorf("no such behaviour as %q", h.described)
	}
	h.become(h.described)
	var err error
	h.certificate, err = ca.certificate(certificate, name)
	return h, err
}

func (h *mailHost) ipv4() string { return fmt.Sprintf("198.51.100.%d", h.number) }
func (h *mailHost) ipv6() string { return fmt.Sprintf("2001:db8:100::%d", h.number) }

// become changes the behaviour from the next EHLO on: "cleartext" is an
// attacker on the path who strips STARTTLS.
func (h *mailHost) become(behaviour string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.behaviour = behaviour
}

func (h *mailHost) behaves() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.behaviour
}

// intercept puts somebody between the host and whoever connects from now on, who
// ends their TLS with a certificate of his own. Zero: he goes away.
func (h *mailHost) intercept(c tls.Certificate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shows = nil
	if c.Certificate != nil {
		h.shows = &c
	}
}

// shown returns the certificate that a client is shown now, and whether it is of somebody
// in between.
func (h *mailHost) shown() (c tls.Certificate, between bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shows != nil {
		return *h.shows, true
	}
	return h.certificate, false
}

// promise is a banner for one host.
func promise(name string) string { return "strict-tls=" + name + "; max-age=604800" }

// promises changes the banner, as whoever is on the way can: it is clear text.
func (h *mailHost) promises(banner string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.banner = banner
}

// greeting is the host's first line.
func (h *mailHost) greeting() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.TrimSpace("220 " + h.name + " ESMTP " + h.banner)
}

// does reports whether a behaviour is one of those of now: "resets,cleartext" is two.
func (h *mailHost) does(behaviour string) bool {
	return slices.Contains(strings.Split(h.behaves(), ","), behaviour)
}

func (h *mailHost) note(s sighting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, s)
}

func (h *mailHost) tell(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, h.name+" "+fmt.Sprintf(format, args...))
}

// sightings returns what the host heard of a recipient.
func (h *mailHost) sightings(recipient string) []sighting {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []sighting
	for _, s := range h.seen {
		if strings.EqualFold(s.recipient, recipient) {
			found = append(found, s)
		}
	}
	return found
}

// transcript returns what happened here, for people.
func (h *mailHost) transcript() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.lines)
}

// serve answers each connection until the listener is closed.
func (h *mailHost) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			s := session{host: h, conn: c, in: bufio.NewReader(c)}
			_, s.port, _ = net.SplitHostPort(c.LocalAddr().String())
			h.tell("session from %s to port %s ended: %v", c.RemoteAddr(), s.port, s.run())
		}()
	}
}

// session is one SMTP connection.
type session struct {
	host       *mailHost
	conn       net.Conn
	port       string
	in         *bufio.Reader
	read       bool // by somebody in between
	state      tls.ConnectionState
	recipients []string
}

// run speaks SMTP until QUIT (nil) or until the connection fails.
func (s *session) run() error {
	if err := s.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if s.port == "26" {
		if s.host.does("resets") {
			if _, err := s.in.Peek(1); err != nil { // the client begins with TLS
				return err
			}
			return s.conn.(*net.TCPConn).SetLinger(0) // closing it then sends a reset
		}
		if err := s.handshake(); err != nil {
			return err
		}
	}
	s.say("%s", s.host.greeting())
	for {
		line, err := s.line()
		if err != nil {
			return err
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch verb = strings.ToUpper(verb); verb {
		case "EHLO":
			s.greet()
		case "STARTTLS":
			err = s.startTLS()
		case "RCPT":
			s.recipient(rest)
		case "DATA":
			err = s.data()
		case "QUIT":
			s.say("221 2.0.0 bye")
			return s.conn.Close() // sends TLS's close_notify, which Postfix waits for
		default:
			s.say("250 2.0.0 ok")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
}

func (s *session) say(format string, args ...any) {
	fmt.Fprintf(s.conn, format+"\r\n", args...) // a failed write shows at the next read
}

func (s *session) line() (string, error) {
	line, err := s.in.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func (s *session) greet() {
	s.say("250-%s", s.host.name)
	if s.state.Version == 0 && !s.host.does("cleartext") {
		s.say("250-STARTTLS")
	}
	s.say("250-SMTPUTF8\r\n250-8BITMIME\r\n250 PIPELINING")
}

func (s *session) startTLS() error {
	if s.host.does("cleartext") {
		s.say("502 5.5.1 not here")
		return nil
	}
	s.say("220 2.0.0 go ahead")
	return s.handshake()
}

func (s *session) handshake() error {
	certificate, between := s.host.shown()
	conn := tls.Server(s.conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err := conn.Handshake(); err != nil {
		return err
	}
	s.state, s.conn, s.in, s.read = conn.ConnectionState(), conn, bufio.NewReader(conn), between
	s.host.tell("%s, SNI %q", tls.VersionName(s.state.Version), s.state.ServerName)
	return nil
}

func (s *session) recipient(argument string) {
	_, address, _ := strings.Cut(argument, "<")
	address, _, _ = strings.Cut(address, ">")
	s.note(sighting{recipient: address})
	if s.host.behaves() == "tempfail" {
		s.say("451 4.3.0 try later")
		return
	}
	s.recipients = append(s.recipients, address)
	s.say("250 2.1.5 ok")
}

func (s *session) note(what sighting) {
	what.version, what.sni, what.port = s.state.Version, strings.ToLower(s.state.ServerName), s.port
	what.read = s.read
	s.host.note(what)
	s.host.tell("recipient %s, delivered=%v, TLS version %#x", what.recipient, what.delivered, what.version)
}

func (s *session) data() error {
	if len(s.recipients) == 0 {
		s.say("554 5.5.1 no recipients")
		return nil
	}
	s.say("354 go ahead")
	var message strings.Builder
	for {
		line, err := s.line()
		if err != nil {
			return err
		}
		if line == "." {
			break
		}
		message.WriteString(line + "\n")
	}
	for _, r := range s.recipients {
		s.note(sighting{recipient: r, delivered: true, message: message.String()})
	}
	s.recipients = nil
	s.say("250 2.0.0 stored")
	return nil
}

func TestMailHost(t *testing.T) {
	ca, err := newAuthorities()
	if err != nil {
		t.Fatal(err)
	}
	h, err := newMailHost("mx.example", "trusted", nil, ca)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go h.serve(l)

	dial := func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
	for _, behaviour := range []string{"starttls", "cleartext", "tempfail"} {
		h.become(behaviour)
		err := sendMail(context.Background(), dial, behaviour+"@example")
		if (err != nil) != (behaviour == "tempfail") {
			t.Errorf("%s: sending gives %v", behaviour, err)
		}
		seen := h.sightings(behaviour + "@example")
		delivered := slices.ContainsFunc(seen, func(s sighting) bool { return s.delivered })
		if len(seen) == 0 || delivered == (behaviour == "tempfail") {
			t.Errorf("%s: seen %+v", behaviour, seen)
		}
	}
}
