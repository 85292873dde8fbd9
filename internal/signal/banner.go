package signal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// ErrPattern: the pattern of a banner is no host name, or covers what belongs to
// others. The banner is not believed.
var ErrPattern = errors.New("signal: pattern that cannot be used")

// MaxAge is the longest that a banner holds: 31,557,600 s, a year, as for an MTA-STS
// policy (RFC 8461 §3.2).
const MaxAge = 31_557_600 * time.Second

const directive = "strict-tls="

// Banner is what the directive in a greeting asks for.
type Banner struct {
	// Pattern covers host names.
	Pattern Pattern
	// MaxAge is how long it holds, from the time it was read: 0, which asks for
	// nothing, to MaxAge.
	MaxAge time.Duration
	// IncludeSubDomains: the pattern covers the names below it, too.
	IncludeSubDomains bool
}

// Pattern is the host names that a banner may speak of.
type Pattern struct {
	// Wildcard: any one label stands before Host.
	Wildcard bool
	// Host is in lower case, as A-labels, without a trailing dot. At least two labels.
	Host string
}

// String writes the pattern as it stands in a banner.
func (p Pattern) String() string {
	if p.Wildcard {
		return "*." + p.Host
	}
	return p.Host
}

// Covers reports whether the banner speaks of a host, which must be in lower case. It
// is never about recipient domains.
func (b *Banner) Covers(host string) bool {
	if !b.Pattern.Wildcard && host == b.Pattern.Host {
		return true
	}
	below, ok := strings.CutSuffix(host, "."+b.Pattern.Host)
	if !ok || below == "" {
		return false
	}
	return b.IncludeSubDomains || b.Pattern.Wildcard && !strings.Contains(below, ".")
}

// ParseBanner reads the lines of a greeting, without their line ends. Errors wrap
// ErrNoRecord, ErrSeveral, ErrMalformed or ErrPattern. Whether it covers the host that
// sent it is for the caller to ask (Covers), and whether to believe it.
func ParseBanner(lines []string) (Banner, error) {
	text, found := "", 0
	for _, line := range lines {
		if len(line) < 4 || line[:3] != "220" || line[3] != ' ' && line[3] != '-' {
			return Banner{}, fmt.Errorf("%w: no greeting: %s", ErrNoRecord, quote(line))
		}
		line = lower(strings.ReplaceAll(line[3:], "\t", " "))
		// A word that begins so, whatever its first character's neighbours say.
		if i := strings.Index(" "+line[1:], " "+directive); i >= 0 {
			text = line[i+1+len(directive):]
			found += strings.Count(" "+line[1:], " "+directive)
		}
	}
	switch found {
	case 0:
		return Banner{}, ErrNoRecord
	case 1:
		return parseDirective(text)
	}
	return Banner{}, fmt.Errorf("%w: %d directives", ErrSeveral, found)
}

// parseDirective reads what follows "strict-tls=", in lower case.
func parseDirective(text string) (Banner, error) {
	name, rest, _ := strings.Cut(text, ";")
	var b Banner
	var err error
	if b.Pattern, err = parsePattern(strings.TrimRight(name, " ")); err != nil {
		return Banner{}, err
	}
	age := ""
	for param := range strings.SplitSeq(rest, ";") {
		if param = strings.Trim(param, " "); param == "" {
			continue
		}
		name, value, hasValue := strings.Cut(param, "=")
		name, value = strings.TrimRight(name, " "), strings.TrimLeft(value, " ")
		switch {
		case !isName(name) || hasValue && !isValue(value) || name == "includesubdomains" && hasValue:
			return Banner{}, fmt.Errorf("%w: parameter %s", ErrMalformed, quote(param))
		case name == "includesubdomains":
			b.IncludeSubDomains = true
		case name == "max-age" && age != "" && age != value:
			return Banner{}, fmt.Errorf("%w: two values of max-age", ErrMalformed)
		case name == "max-age":
			age = value
		}
	}
	b.MaxAge, err = parseAge(age)
	if err != nil {
		return Banner{}, err
	}
	return b, nil
}

// parseAge reads digits; what is longer than MaxAge, however long, is cut to it.
func parseAge(s string) (time.Duration, error) {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, fmt.Errorf("%w: max-age=%s, want seconds", ErrMalformed, quote(s))
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > int64(MaxAge/time.Second) {
		return MaxAge, nil
	}
	return time.Duration(n) * time.Second, nil
}

// parsePattern reads a pattern in lower case. A public suffix, known or not, is
// refused: what is below it belongs to many.
func parsePattern(s string) (Pattern, error) {
	var p Pattern
	p.Host, p.Wildcard = strings.CutPrefix(s, "*.")
	if !isHost(p.Host) {
		return Pattern{}, fmt.Errorf("%w: %s is no host name", ErrPattern, quote(s))
	}
	if suffix, _ := publicsuffix.PublicSuffix(p.Host); suffix == p.Host {
		return Pattern{}, fmt.Errorf("%w: %s is a public suffix", ErrPattern, quote(s))
	}
	return p, nil
}

// isHost reports whether a name in lower case is one of labels of letters, digits and
// hyphens, and neither an address nor a label alone.
func isHost(name string) bool {
	if len(name) > 253 || !strings.Contains(name, ".") {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isLetter(c) && !isDigit(c) && c != '-' {
				return false
			}
		}
		last = label
	}
	return strings.ContainsFunc(last, func(r rune) bool { return r < '0' || r > '9' })
}
