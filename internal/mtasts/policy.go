package mtasts

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxPolicySize is the most octets that a policy may have: the bound that
	// RFC 8461 §3.3 suggests.
	MaxPolicySize = 64 << 10
	// MaxMaxAge is the longest lifetime of a policy (RFC 8461 §3.2): about a
	// year. Longer ones are cut to it.
	MaxMaxAge = 31_557_600 * time.Second

	maxAgeDigits = 10
	policyV1     = "STSv1"
	utf8BOM      = "\xef\xbb\xbf"
)

// ErrBadPolicy: the text is no valid policy. The fetch has failed; a cached
// policy that has not expired still applies, and without one the domain counts as
// one that has no MTA-STS (RFC 8461 §3.3).
var ErrBadPolicy = errors.New("mtasts: invalid policy")

// PolicyError says what is wrong with a policy, and where. It wraps ErrBadPolicy.
type PolicyError struct {
	// Line counts from 1; 0 means the policy as a whole.
	Line int
	// Why is for people; strings of the policy in it are quoted and cut.
	Why string
}

// Error returns "mtasts: invalid policy: line 3: ...".
func (e *PolicyError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%v: %s", ErrBadPolicy, e.Why)
	}
	return fmt.Sprintf("%v: line %d: %s", ErrBadPolicy, e.Line, e.Why)
}

// Unwrap returns ErrBadPolicy.
func (e *PolicyError) Unwrap() error { return ErrBadPolicy }

// Mode says what a sender does when a host does not meet the policy. The zero
// value is no mode: a policy that was never parsed.
type Mode uint8

const (
	// ModeUnknown is the mode of no valid policy.
	ModeUnknown Mode = iota
	// ModeNone: the domain has withdrawn its policy (RFC 8461 §8.3).
	ModeNone
	// ModeTesting: failures are reported, mail is delivered (RFC 8461 §5).
	ModeTesting
	// ModeEnforce: mail must not be delivered to a host that fails (RFC 8461 §5).
	ModeEnforce
)

// String returns the mode as a policy writes it, or "unknown".
func (m Mode) String() string {
	switch m {
	case ModeUnknown:
		return "unknown"
	case ModeNone:
		return "none"
	case ModeTesting:
		return "testing"
	case ModeEnforce:
		return "enforce"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

func parseMode(s string) Mode {
	switch s {
	case "none":
		return ModeNone
	case "testing":
		return ModeTesting
	case "enforce":
		return ModeEnforce
	}
	return ModeUnknown
}

// Policy is a domain's MTA-STS policy. The zero value is no policy. Its slices
// are shared and must not be changed.
type Policy struct {
	Mode Mode
	// MX are the patterns in the policy's order, repeats included. There is at
	// least one unless Mode is ModeNone.
	MX []Pattern
	// MaxAge is 0 to MaxMaxAge, whole seconds.
	MaxAge time.Duration
	// Lines is the policy as sent, for reports (RFC 8460 §4.4, policy-string),
	// without line ends, white space before them, BOM, and blank lines at the end.
	// Together they have at most MaxPolicySize octets. They are the remote side's
	// text: UTF-8 without control characters but for tabs.
	Lines []string
}

// Text returns the policy as a text that ParsePolicy reads as the same policy.
func (p Policy) Text() string { return strings.Join(p.Lines, "\n") }

// Match reports whether an MX record's host name (lower case, A-labels, no
// trailing dot) matches any pattern (RFC 8461 §4.1).
func (p Policy) Match(host string) bool {
	for _, pattern := range p.MX {
		if pattern.Match(host) {
			return true
		}
	}
	return false
}

// Renderable returns the patterns that may be written in an MTA's policy line,
// each once, in the policy's order. An empty result for ModeEnforce means that no
// host can match: mail must wait, and a line without patterns would mean the
// opposite.
func (p Policy) Renderable() []Pattern {
	seen := make(map[Pattern]struct{}, len(p.MX))
	var list []Pattern
	for _, pattern := range p.MX {
		if _, again := seen[pattern]; again || !pattern.Renderable() {
			continue
		}
		seen[pattern] = struct{}{}
		list = append(list, pattern)
	}
	return list
}

// ParsePolicy reads a policy (RFC 8461 §3.2). Lines end in LF or CRLF, may have white
// space at their end and none at their beginning; keys and values are
// case-sensitive, except mx. Unknown fields are ignored, and of those that are not
// mx the first wins. Errors are *PolicyError.
//
// It is more lenient than the grammar in three things that live policies have: a
// UTF-8 byte order mark at the beginning, blank lines at the end, and underscores
// in mx values. Each of them refused would leave the domain's mail unprotected.
func ParsePolicy(body []byte) (Policy, error) {
	if len(body) > MaxPolicySize {
		return Policy{}, &PolicyError{Why: fmt.Sprintf("longer than %d octets", MaxPolicySize)}
	}
	var p policyParser
	text := strings.TrimPrefix(string(body), utf8BOM)
	text = strings.TrimRight(text, "\r\n\t ")
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(strings.TrimSuffix(line, "\r"), " \t")
		p.policy.Lines = append(p.policy.Lines, line)
		if why := p.line(line); why != "" {
			return Policy{}, &PolicyError{Line: len(p.policy.Lines), Why: why}
		}
	}
	if why := p.missing(); why != "" {
		return Policy{}, &PolicyError{Why: why}
	}
	return p.policy, nil
}

// policyParser holds which of the fields that count once were seen.
type policyParser struct {
	policy                Policy
	version, mode, maxAge bool
}

// line reads one line, and returns what is wrong with it or "".
func (p *policyParser) line(line string) string {
	name, value, found := strings.Cut(line, ":")
	if !found || !isFieldName(name) {
		return fmt.Sprintf("%s is not a field", quote(line))
	}
	value = strings.TrimLeft(value, " \t")
	if !isPolicyValue(value) {
		return fmt.Sprintf("%s has no value, or one that is not UTF-8 text", quote(line))
	}
	switch name {
	case "version":
		return once(&p.version, func() string { return checkVersion(value) })
	case "mode":
		return once(&p.mode, func() string { return p.setMode(value) })
	case "max_age":
		return once(&p.maxAge, func() string { return p.setMaxAge(value) })
	case "mx":
		pattern, err := ParsePattern(value)
		if err != nil {
			return strings.TrimPrefix(err.Error(), "mtasts: ")
		}
		p.policy.MX = append(p.policy.MX, pattern)
	}
	return ""
}

// once reads a field the first time it is seen and ignores it afterwards.
func once(seen *bool, read func() string) string {
	if *seen {
		return ""
	}
	*seen = true
	return read()
}

func checkVersion(value string) string {
	if value != policyV1 {
		return fmt.Sprintf("version %s is not %s", quote(value), policyV1)
	}
	return ""
}

func (p *policyParser) setMode(value string) string {
	p.policy.Mode = parseMode(value)
	if p.policy.Mode == ModeUnknown {
		return fmt.Sprintf("mode %s is not enforce, testing or none", quote(value))
	}
	return ""
}

func (p *policyParser) setMaxAge(value string) string {
	if !allDigits(value) || len(value) > maxAgeDigits {
		return fmt.Sprintf("max_age %s is not 1 to %d digits", quote(value), maxAgeDigits)
	}
	var seconds time.Duration
	for i := range len(value) {
		seconds = seconds*10 + time.Duration(value[i]-'0')
	}
	// Ten digits of seconds would overflow as a Duration: cut before scaling.
	p.policy.MaxAge = min(seconds, MaxMaxAge/time.Second) * time.Second
	return ""
}

// missing returns which required field the policy lacks, or "".
func (p *policyParser) missing() string {
	switch {
	case !p.version:
		return "it has no version"
	case !p.mode:
		return "it has no mode"
	case !p.maxAge:
		return "it has no max_age"
	case len(p.policy.MX) == 0 && p.policy.Mode != ModeNone:
		return fmt.Sprintf("mode %s needs an mx", p.policy.Mode)
	}
	return ""
}

// isPolicyValue accepts the values of unknown fields: UTF-8 that can be seen,
// with blanks between (RFC 8461 §3.2).
func isPolicyValue(s string) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' && r != '\t' || 0x7f <= r && r <= 0x9f {
			return false
		}
	}
	return true
}
