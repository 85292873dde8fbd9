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
