package mtasts

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ErrBadPattern: an mx value is no host name, with or without a leading "*.".
// The policy that holds it is invalid.
var ErrBadPattern = errors.New("mtasts: malformed mx pattern")

const (
	maxName  = 253
	maxLabel = 63
)

// Pattern is one mx value of a policy: a host name, or "*." and a domain. Only
// ParsePattern makes one; the zero value matches nothing. Patterns can be
// compared with ==.
type Pattern struct {
	// text is normal: lower case, checked, the wildcard included.
	text string
}

// ParsePattern reads an mx value (RFC 8461 §3.2): letters, digits and hyphens in
// labels of 1 to 63 octets, 253 in all, as A-labels, without a trailing dot.
// Upper case is made lower. Errors wrap ErrBadPattern.
//
// An underscore is accepted in labels, although the grammar of RFC 5321 §4.1.2 has
// none: hosts with such names exist, and refusing the line would drop a policy
// that its domain relies on.
func ParsePattern(value string) (Pattern, error) {
	name := strings.TrimPrefix(value, "*.")
	if len(name) > maxName {
		return Pattern{}, fmt.Errorf("%w: %s is longer than %d octets", ErrBadPattern, quote(value), maxName)
	}
	upper, length := false, 0
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			if length == 0 || length > maxLabel {
				return Pattern{}, fmt.Errorf("%w: %s has a label of %d octets", ErrBadPattern, quote(value), length)
			}
			if name[i-1] == '-' || name[i-length] == '-' {
				return Pattern{}, fmt.Errorf("%w: %s has a hyphen at the edge of a label", ErrBadPattern, quote(value))
			}
			length = 0
			continue
		}
		c := name[i]
		if !isAlnum(c) && c != '-' && c != '_' {
			return Pattern{}, fmt.Errorf("%w: %s is not a host name in A-labels", ErrBadPattern, quote(value))
		}
		upper = upper || 'A' <= c && c <= 'Z'
		length++
	}
	if upper {
		value = strings.ToLower(value)
	}
	return Pattern{text: value}, nil
}

// String returns the pattern as a policy writes it, in lower case:
// "mail.example.com", "*.example.net".
func (p Pattern) String() string { return p.text }

// MarshalText makes patterns readable in JSON and logs.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// Wildcard reports whether the pattern begins with "*.".
func (p Pattern) Wildcard() bool { return strings.HasPrefix(p.text, "*.") }

// Name returns the pattern without its "*.".
func (p Pattern) Name() string { return strings.TrimPrefix(p.text, "*.") }

// Match reports whether an MX record's host name matches (RFC 8461 §4.1). A
// wildcard stands for exactly one label, and never for none. The host must be
// normal: lower case, A-labels, no trailing dot.
func (p Pattern) Match(host string) bool {
	if p.text == "" {
		return false
	}
	if !p.Wildcard() {
		return host == p.text
	}
	label, domain, found := strings.Cut(host, ".")
	return found && label != "" && domain == p.text[2:]
}

// Renderable reports whether the pattern may be written in an MTA's policy line.
// One that may not still belongs to the policy: it matches no real host, and
// a policy of nothing else must stop the mail, not free it.
func (p Pattern) Renderable() bool { return p.Defect() == "" }

// Defect says why the pattern can never stand in an MTA's policy line, or "".
//
// A single label is refused because Postfix reads "hostname", "nexthop" and
// "dot-nexthop" in a match list as strategies, which accept names that the
// policy does not list, and because no MX host of the public DNS is a single label.
// Addresses are refused because certificates of MX hosts are matched by DNS name
// only (RFC 8461 §4.2).
func (p Pattern) Defect() string {
	name := p.Name()
	if name == "" {
		return "it is empty"
	}
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 && !p.Wildcard() {
		return "a single label names no MX host"
	}
	if allDigits(name[dot+1:]) {
		return "it is an address, or looks like one"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "it is an address"
	}
	return ""
}

func allDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}
