package maillog

import "fmt"

// TLS is how well a delivery was protected. The zero value is that the log does not say.
type TLS uint8

const (
	// Unlogged: the log does not say.
	Unlogged TLS = iota
	// Clear: no TLS.
	Clear
	// Encrypted: TLS without authentication.
	Encrypted
	// Trusted: TLS, and a certificate of a known authority.
	Trusted
	// Verified: TLS, and a certificate that a policy wanted.
	Verified
)

// String is its word in reports.
func (t TLS) String() string {
	switch t {
	case Unlogged:
		return "unlogged"
	case Clear:
		return "clear"
	case Encrypted:
		return "encrypted"
	case Trusted:
		return "trusted"
	case Verified:
		return "verified"
	}
	return fmt.Sprintf("tls(%d)", uint8(t))
}

// Outcome is what became of a delivery.
type Outcome uint8

const (
	// Sent: the host took it.
	Sent Outcome = iota + 1
	// Deferred: it is tried again.
	Deferred
	// Bounced: it was given up.
	Bounced
)

// String is its word in reports.
func (o Outcome) String() string {
	switch o {
	case Sent:
		return "sent"
	case Deferred:
		return "deferred"
	case Bounced:
		return "bounced"
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Server is the mail server that wrote a line.
type Server uint8

const (
	// Postfix is smtp(8).
	Postfix Server = iota
	// Exim is exim(8).
	Exim
	// Sendmail is sendmail(8).
	Sendmail
	servers = iota
)

// String is its name.
func (s Server) String() string {
	return [...]string{"Postfix", "Exim", "Sendmail"}[s]
}

// Delivery is one recipient of one message.
type Delivery struct {
	// Domain is the recipient's, in lower case, as it was logged. Host took the message,
	// or refused it: in lower case, without a trailing dot; empty where none was reached.
	Domain, Host string
	TLS          TLS
	Outcome      Outcome
	Server       Server
}

// Totals is what was read.
type Totals struct {
	// Lines and Octets are all that was read, Cut the lines that were too long.
	Lines, Octets, Cut int64
	// Deliveries counts by server.
	Deliveries [servers]int64
	// TLSLogged says of each server whether its log told of TLS at all; where it did
	// not, Clear means nothing. Checked says whether a certificate of an authority was
	// ever recognized: where not, the server has no list of authorities, and Encrypted
	// means nothing of certificates.
	TLSLogged, Checked [servers]bool
}

// Plus adds what another log said.
func (t Totals) Plus(u Totals) Totals {
	t.Lines, t.Octets, t.Cut = t.Lines+u.Lines, t.Octets+u.Octets, t.Cut+u.Cut
	for i := range servers {
		t.Deliveries[i] += u.Deliveries[i]
		t.TLSLogged[i] = t.TLSLogged[i] || u.TLSLogged[i]
		t.Checked[i] = t.Checked[i] || u.Checked[i]
	}
	return t
}
