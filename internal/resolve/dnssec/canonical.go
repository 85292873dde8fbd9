package dnssec

import (
	"cmp"
	"errors"
	"strings"

	"github.com/miekg/dns"
)

// name is a domain name in wire form without compression, its letters in lower
// case: what RFC 4034 §6.2 signs and §6.1 orders. Two names are the same if and
// only if they are equal as strings, whatever octets and dots their labels hold.
type name string

const root name = "\x00"

// maxName is the size of the longest name (RFC 1035 §3.1).
const maxName = 255

var errName = errors.New("dnssec: not a domain name")

// parseName reads the form of a zone file, as the library hands out names. A
// missing last dot is no error.
func parseName(s string) (name, error) {
	var buf [maxName + 1]byte
	n, err := dns.PackDomainName(dns.Fqdn(s), buf[:], 0, nil, false)
	if err != nil || n > maxName {
		return "", errName
	}
	lowerLetters(buf[:n])
	return name(buf[:n]), nil
}

// lowerLetters folds the ASCII letters of a name in wire form. Length octets are
// below 64 and hence no letters.
func lowerLetters(wire []byte) {
	for i, c := range wire {
		if 'A' <= c && c <= 'Z' {
			wire[i] = c + 'a' - 'A'
		}
	}
}

// String returns the form of a zone file, with its last dot.
func (n name) String() string {
	s, _, err := dns.UnpackDomainName([]byte(n), 0)
	if err != nil {
		return "?"
	}
	return s
}

// labels counts the labels, the root's not among them.
func (n name) labels() int {
	count := 0
	for i := 0; i < len(n) && n[i] != 0; i += int(n[i]) + 1 {
		count++
	}
	return count
}

// parent is the name without its left-most label. The root is its own parent.
func (n name) parent() name {
	if n == root || n == "" {
		return n
	}
	return n[int(n[0])+1:]
}

// suffix returns the right-most count labels, or all where there are no more.
func (n name) suffix(count int) name {
	for extra := n.labels() - count; extra > 0; extra-- {
		n = n.parent()
	}
	return n
}

// levels lists the names from the one of count+1 labels down to the name itself.
func (n name) levels(count int) []name {
	var at [maxName / 2]uint8
	all := n.offsets(&at)
	list := make([]name, 0, max(0, all-count))
	for i := all - count - 1; i >= 0; i-- {
		list = append(list, n[at[i]:])
	}
	return list
}

// within reports whether the name is the other one or below it.
func (n name) within(ancestor name) bool {
	if len(n) < len(ancestor) || !strings.HasSuffix(string(n), string(ancestor)) {
		return false
	}
	// The suffix must begin where a label begins.
	for len(n) > len(ancestor) {
		n = n.parent()
	}
	return len(n) == len(ancestor)
}

// below reports whether the name is properly below the other one.
func (n name) below(ancestor name) bool { return n != ancestor && n.within(ancestor) }

// wildcard is "*." before the name; it reports whether that fits.
func (n name) wildcard() (name, bool) {
	return "\x01*" + n, len(n)+2 <= maxName
}

func (n name) isWildcard() bool { return strings.HasPrefix(string(n), "\x01*") }

// signedLabels is what an RRSIG's label count must be for an owner that is no
// expansion: a leading asterisk label is not counted (RFC 4034 §3.1.3).
func (n name) signedLabels() int {
	if n.isWildcard() {
		return n.labels() - 1
	}
	return n.labels()
}

// underscored reports whether the left-most label begins with an underscore: the
// name of a service, and hardly ever a zone.
func (n name) underscored() bool { return len(n) > 1 && n[0] > 0 && n[1] == '_' }

// common returns the longest name that both are within.
func common(a, b name) name {
	for len(a) != len(b) || a != b {
		if len(a) >= len(b) {
			a = a.parent()
		} else {
			b = b.parent()
		}
	}
	return a
}

// compare orders names as RFC 4034 §6.1 does: by labels from the right, each as
// octets, what is missing first.
func compare(a, b name) int {
	var as, bs [maxName / 2]uint8
	i, j := a.offsets(&as), b.offsets(&bs)
	for i > 0 && j > 0 {
		i, j = i-1, j-1
		if c := cmp.Compare(a.labelAt(as[i]), b.labelAt(bs[j])); c != 0 {
			return c
		}
	}
	return cmp.Compare(i, j)
}

func (n name) offsets(at *[maxName / 2]uint8) int {
	count := 0
	for i := 0; i < len(n) && n[i] != 0 && count < len(at); i += int(n[i]) + 1 {
		at[count] = uint8(i)
		count++
	}
	return count
}

func (n name) labelAt(i uint8) string {
	return string(n[int(i)+1 : int(i)+1+int(n[i])])
}
