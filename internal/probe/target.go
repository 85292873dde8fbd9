package probe

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"
)

// Kind is how TLS begins. The zero value is none.
type Kind uint8

const (
	// Implicit: with the first byte.
	Implicit Kind = iota + 1
	// StartTLS: after the command of that name (RFC 3207 §4).
	StartTLS
)

// String is the kind's word in logs and reports.
func (k Kind) String() string {
	switch k {
	case Implicit:
		return "implicit"
	case StartTLS:
		return "starttls"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Target is a host to be probed: its name in lower case, as A-labels and without a
// trailing dot, its port, and the kind of probe.
type Target struct {
	Host string
	Port uint16
	Kind Kind
}

// String writes "[mx.example.com]:26/implicit".
func (t Target) String() string { return fmt.Sprintf("[%s]:%d/%v", t.Host, t.Port, t.Kind) }

// By is what vouches for a host.
type By uint8

const (
	// ByNothing: it has not proved itself.
	ByNothing By = iota
	// ByWebPKI: a certificate authority, for the literal host name.
	ByWebPKI
	// ByDANE: its TLSA records.
	ByDANE
)

// String is its word in logs and reports.
func (b By) String() string {
	switch b {
	case ByNothing:
		return "nothing"
	case ByWebPKI:
		return "webpki"
	case ByDANE:
		return "dane"
	}
	return fmt.Sprintf("by(%d)", uint8(b))
}

// Result is what one probe found. The host has proved itself if Err is nil; the other
// fields hold what was learned so far.
type Result struct {
	Target Target
	// Began is when the probe began, Took how long it took.
	Began time.Time
	Took  time.Duration
	// Address is the one that took the connection; the zero value if none did.
	Address netip.AddrPort
	By      By
	// Greeting is the text of the 220 reply, its lines joined with "\n": for StartTLS
	// what came in clear text, which the TLS that followed on the same connection
	// vouches for no more than for anything else in clear text.
	Greeting string
	// Offered: the host offered TLS; on a port for implicit TLS it does so by being there.
	Offered bool
	// Named: the certificate is one by a certificate authority for the literal host name,
	// whatever vouches for the host.
	Named bool
	// Chain is what the host showed, its own certificate first, whether it holds or not.
	// A Prober does not keep it.
	Chain []*x509.Certificate
	// Version is that of TLS, as in crypto/tls; NotAfter the end of the certificate.
	Version  uint16
	NotAfter time.Time
	Err      *Error
}

// State is what is known of a target now.
type State struct {
	// Probed: Last is the result of the last probe that came to one.
	Probed bool
	Last   Result
	// Good: the host is believed, until Until.
	Good  bool
	Until time.Time
	// Next is when it is probed next, if somebody wants it then.
	Next time.Time
}
