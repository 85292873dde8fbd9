package milterd

import (
	"errors"
	"fmt"
	"strings"

	"tlsverdict/internal/nexthop"
)

// ErrPattern says that a text is no address pattern.
var ErrPattern = errors.New("milterd: not an address pattern")

// Pattern matches envelope addresses. The zero value matches none.
type Pattern struct {
	text string
	// any matches every address, null only the null sender.
	any, null bool
	// local is a text in which * stands for any letters; "*" is any.
	local string
	// domain is a name in A-labels, or empty for any; below means the names under
	// it, but not itself.
	domain string
	below  bool
}

// ParsePattern reads a pattern:
//
//   - every address, the null sender too
//     <>                 the null sender
//     bob@example.com    this address
//     bob-*@example.com  * stands for any letters of the local part
//     *@example.com      every address of the domain
//     *@*.example.com    every address of every domain below it, not of itself
//     bob@*              the local part in every domain
//
// Capitals do not matter, nor do quotes around a local part or the spelling of an
// internationalized domain. The only error is ErrPattern.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{text: text}
	switch text {
	case "*":
		p.any = true
		return p, nil
	case "<>":
		p.null = true
		return p, nil
	}
	at := strings.LastIndexByte(text, '@')
	if at < 1 || at == len(text)-1 || strings.ContainsAny(text, "<> \t") {
		return Pattern{}, fmt.Errorf("%w: %q: want local@domain, such as \"*@example.com\", or \"*\"", ErrPattern, text)
	}
	p.local = foldLocal(text[:at])
	domain := text[at+1:]
	if domain == "*" {
		return p, nil
	}
	domain, p.below = strings.CutPrefix(domain, "*.")
	if strings.ContainsRune(domain, '*') {
		return Pattern{}, fmt.Errorf("%w: %q: in a domain * stands for all of it, or, as \"*.\", for the names below", ErrPattern, text)
	}
	if strings.HasPrefix(domain, "[") && !p.below {
		p.domain = strings.ToLower(domain)
		return p, nil
	}
	name, err := nexthop.Normalize(domain)
	if err != nil {
		return Pattern{}, fmt.Errorf("%w: %q: %q is no domain", ErrPattern, text, domain)
	}
	p.domain = name
	return p, nil
}

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Match reports whether an address, without angle brackets, matches.
func (p Pattern) Match(address string) bool {
	switch {
	case p.any:
		return true
	case p.null:
		return address == ""
	case p.local == "" || address == "":
		return false
	}
	local, domain := splitAddress(address)
	if !glob(p.local, local) {
		return false
	}
	switch {
	case p.domain == "":
		return true
	case p.below:
		return strings.HasSuffix(domain, "."+p.domain)
	}
	return domain == p.domain
}

// splitAddress returns the parts of an address in the form in which they are
// compared. The domain is empty where there is none.
func splitAddress(address string) (local, domain string) {
	// A source route says by which hosts the mail should go, and is ignored
	// (RFC 5321 §4.1.2).
	if strings.HasPrefix(address, "@") {
		if _, rest, ok := strings.Cut(address, ":"); ok {
			address = rest
		}
	}
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return foldLocal(address), ""
	}
	local, domain = foldLocal(address[:at]), address[at+1:]
	if name, err := nexthop.Normalize(domain); err == nil {
		return local, name
	}
	return local, strings.ToLower(domain)
}

// foldLocal makes one spelling of those that mean the same local part: "bob", in
// quotes, is bob (RFC 5321 §4.1.2). Capitals could make a difference there, and
// nowhere do.
func foldLocal(local string) string {
	if len(local) >= 2 && local[0] == '"' && local[len(local)-1] == '"' {
		var b strings.Builder
		inner := local[1 : len(local)-1]
		for i := 0; i < len(inner); i++ {
			if inner[i] == '\\' && i+1 < len(inner) {
				i++
			}
			b.WriteByte(inner[i])
		}
		local = b.String()
	}
	return strings.ToLower(local)
}

// glob matches a text against a pattern in which * stands for any letters, in time
// that grows with the product of their lengths at most.
func glob(pattern, text string) bool {
	star, mark := -1, 0
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
