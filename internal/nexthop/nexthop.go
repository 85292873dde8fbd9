// Package nexthop reads the keys that an MTA asks a TLS policy for.
//
// Postfix looks a policy up by its next-hop destination, in the form that its
// transport uses it (seen on 3.7 and 3.10):
//
//	example.com               a domain: its MX hosts are looked up
//	example.com:26            the same, on another port
//	[mx.example.com]          a host: no MX lookup
//	[mx.example.com]:587      the same, on another port
//	[192.0.2.1], [IPv6:::1]   an address: nothing in DNS or HTTPS speaks for it
//	.example.com              a parent key: asked after "a.example.com" had no policy
//
// Parse turns a key into a Destination in which names are in lower case, A-labels
// (RFC 5890 §2.3.2.1) and without a trailing dot, so that every spelling of a
// destination has one ruling.
//
// Addresses, parent keys and names that cannot exist are told apart by error,
// because the answer differs: there is no policy for the first two
// (ErrLiteral, ErrParent), and the last is a mistake worth a temporary failure
// (ErrInvalid).
package nexthop

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// SMTPPort is the port of SMTP between mail servers (RFC 5321 §4.5.4.2).
const SMTPPort = 25

var (
	// ErrLiteral: the key is an IP address. No signal applies to it.
	ErrLiteral = errors.New("nexthop: an address literal has no policy")
	// ErrParent: the key begins with a dot. Postfix asks it for parent-domain
	// matching; RFC 8461 §3.4 and RFC 7672 know no such thing.
	ErrParent = errors.New("nexthop: a parent-domain key has no policy")
	// ErrInvalid: the key is no destination that DNS could hold.
	ErrInvalid = errors.New("nexthop: not a destination")
)

// Destination is a next hop: a domain whose MX hosts take the mail, or one host.
// The zero value names nothing.
type Destination struct {
	// Name is the domain or host: lower case, A-labels, no trailing dot.
	Name string
	// Port is the TCP port, 25 unless the key names another.
	Port uint16
	// Host says that Name takes the mail itself: no MX lookup is done.
	Host bool
}

// String writes the destination as Postfix does: "example.com",
// "[mx.example.com]:587".
func (d Destination) String() string {
	s := d.Name
	if d.Host {
		s = "[" + s + "]"
	}
	if d.Port != SMTPPort {
		s += ":" + strconv.Itoa(int(d.Port))
	}
	return s
}

// Parse reads a policy key. Errors wrap ErrLiteral, ErrParent or ErrInvalid.
func Parse(key string) (Destination, error) {
	if strings.HasPrefix(key, ".") {
		return Destination{}, ErrParent
	}
	name, port, host, err := split(key)
	if err != nil {
		return Destination{}, err
	}
	if isLiteral(name) {
		return Destination{}, ErrLiteral
	}
	name, err = Normalize(name)
	if err != nil {
		return Destination{}, err
	}
	if isLiteral(name) {
		// A trailing dot, or digits of another script, had hidden it.
		return Destination{}, ErrLiteral
	}
	return Destination{Name: name, Port: port, Host: host}, nil
}

// split takes brackets and port off a key.
func split(key string) (name string, port uint16, host bool, err error) {
	name, rest := key, ""
	if strings.HasPrefix(key, "[") {
		end := strings.IndexByte(key, ']')
		if end < 0 {
			return "", 0, false, fmt.Errorf("%w: %q has no closing bracket", ErrInvalid, key)
		}
		name, rest, host = key[1:end], key[end+1:], true
		if rest == "" {
			return name, SMTPPort, host, nil
		}
		if rest[0] != ':' {
			return "", 0, false, fmt.Errorf("%w: %q has text after the bracket", ErrInvalid, key)
		}
		rest = rest[1:]
	} else {
		if strings.Count(key, ":") > 1 {
			// A bare IPv6 address.
			return key, SMTPPort, true, nil
		}
		var found bool
		if name, rest, found = strings.Cut(key, ":"); !found {
			return name, SMTPPort, host, nil
		}
	}
	port, err = parsePort(rest)
	return name, port, host, err
}

func parsePort(s string) (uint16, error) {
	// Postfix accepts service names as well; only those of SMTP are known here,
	// since a service database differs from host to host.
	switch s {
	case "smtp":
		return SMTPPort, nil
	case "submission":
		return 587, nil
	case "smtps", "submissions":
		return 465, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: port %q is not 1 to 65535", ErrInvalid, s)
	}
	return uint16(n), nil
}

func isLiteral(name string) bool {
	if len(name) > 5 && strings.EqualFold(name[:5], "ipv6:") {
		return true
	}
	// An IPv4 address ends with a digit. Most names do not, and need no try,
	// whose error would be made for nothing.
	if name == "" || strings.IndexByte(name, ':') < 0 && (name[len(name)-1] < '0' || name[len(name)-1] > '9') {
		return false
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// Normalize returns a domain or host name in lower case, as A-labels, without a
// trailing dot. The error wraps ErrInvalid.
func Normalize(name string) (string, error) {
	name = strings.TrimSuffix(lowerASCII(name), ".")
	if wellFormed(name) && !claimsALabel(name) {
		return name, nil
	}
	if strings.HasSuffix(name, ".") {
		return "", fmt.Errorf("%w: %q ends with an empty label", ErrInvalid, name)
	}
	// idna.Lookup would refuse names with an underscore, which exist as
	// destinations, and accept empty labels.
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: %q is not UTF-8", ErrInvalid, name)
	}
	profile := idna.New(idna.MapForLookup(), idna.Transitional(false),
		idna.StrictDomainName(false), idna.VerifyDNSLength(true), idna.BidiRule())
	ascii, err := profile.ToASCII(name)
	if err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrInvalid, name, err)
	}
	// The mapping turns other full stops (U+3002 and its kin) into dots: one at
	// the end would make a second spelling of the same destination.
	if ascii = strings.TrimSuffix(ascii, "."); !wellFormed(ascii) {
		return "", fmt.Errorf("%w: %q is no host name", ErrInvalid, name)
	}
	if again, err := profile.ToASCII(ascii); err != nil || again != ascii {
		return "", fmt.Errorf("%w: %q has no A-label form that stands", ErrInvalid, name)
	}
	return ascii, nil
}

// lowerASCII lowers letters A to Z; a name without them costs nothing. It comes
// before the mapping of IDNA, which refuses some ASCII names ("-A.example",
// "AB--cd.example") that DNS has.
func lowerASCII(name string) string {
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			return strings.Map(func(r rune) rune {
				if 'A' <= r && r <= 'Z' {
					r += 'a' - 'A'
				}
				return r
			}, name)
		}
	}
	return name
}

// wellFormed reports whether a name is made of lower-case letters, digits, hyphens
// and underscores, in labels of 1 to 63 octets and 253 in all: what neither a log
// line, nor a policy line, nor a file could take for something else.
func wellFormed(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	label := 0
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			if label++; label > 63 {
				return false
			}
		default:
			return false
		}
	}
	return label > 0
}

// claimsALabel reports whether a label begins with "xn--": its Punycode must be
// checked, so that it has one spelling.
func claimsALabel(name string) bool {
	return strings.HasPrefix(name, "xn--") || strings.Contains(name, ".xn--")
}
