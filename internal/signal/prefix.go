// Package signal holds the grammars of the signals that have no standard behind
// them: names and records by which a domain asks for strict TLS.
//
// # The MX name prefix
//
// An MX host whose left-most label begins with "starttls-" or "smtps-" promises
// that TLS is mandatory there, with a WebPKI certificate for the literal name:
//
//	prefixed = ( "starttls-" / "smtps-" ) 1*( letter / digit / "-" ) "." domain
//
// Example: "starttls-mx1.example.com" is prefixed; "starttls.example.com" and
// "mx.starttls-x.example.com" are not.
//
// It is believed only where the MX record set is DNSSEC-secure and every MX host
// carries the prefix: without a signature whoever can strip STARTTLS can rename
// the host as well, and with one host left out an attacker would choose that one.
// What an attacker can do: without the zone's key, nothing but cause a deferral.
// "smtps-" says in addition that implicit TLS is spoken on a port of its own.
//
// The package is pure. It decides whether a name has the form; package verdict
// decides whether it is believed.
package signal

import "strings"

// Prefix is what the left-most label of an MX host name promises.
type Prefix uint8

const (
	// NoPrefix: the name promises nothing.
	NoPrefix Prefix = iota
	// StartTLS: TLS on port 25 is mandatory.
	StartTLS
	// SMTPS: the same, and implicit TLS is spoken on another port.
	SMTPS
)

// String returns the prefix as it stands in a name, without its hyphen.
func (p Prefix) String() string {
	switch p {
	case StartTLS:
		return "starttls"
	case SMTPS:
		return "smtps"
	case NoPrefix:
		return "none"
	}
	panic("signal: a prefix that does not exist")
}

// ParsePrefix returns the prefix of an MX host name, which must be in lower case.
func ParsePrefix(host string) Prefix {
	label, _, _ := strings.Cut(host, ".")
	if rest, ok := strings.CutPrefix(label, "starttls-"); ok && rest != "" {
		return StartTLS
	}
	if rest, ok := strings.CutPrefix(label, "smtps-"); ok && rest != "" {
		return SMTPS
	}
	return NoPrefix
}
