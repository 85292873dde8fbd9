package postfixmap

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// HostPattern returns the element of TLSPolicy.Match for a host name or for an MX pattern of
// MTA-STS, in lower case: *.example.com becomes .example.com, which Postfix matches with any
// number of labels (RFC 8461 §4.1 allows one; MXHostPatterns is the way to that).
//
// It refuses with a *PolicyError what would not mean that host on the line: the words hostname,
// nexthop and dot-nexthop, addresses, names that are not A-labels, and separators. A domain's
// policy is a stranger's text: it must pass through here.
func HostPattern(mx string) (string, error) {
	return pattern(mx, attrMatch, func(s string) (string, *PolicyError) {
		if base, ok := strings.CutPrefix(s, "*."); ok {
			return "." + base, checkHost(base)
		}
		return s, checkHostPattern(s)
	})
}

// MXHostPattern returns the element of TLSPolicy.MXHostPatterns for an MX pattern of MTA-STS
// (RFC 8461 §3.2), in lower case.
func MXHostPattern(mx string) (string, error) {
	return pattern(mx, attrMXHostPattern, func(s string) (string, *PolicyError) { return s, checkMXHostPattern(s) })
}

// PolicyString returns the element of TLSPolicy.PolicyStrings for a line of an MTA-STS policy as
// its domain sent it. White space at the ends is trimmed and tabs become spaces, as Postfix would
// do itself; both are legal in a policy (RFC 8461 §3.2) and mean nothing there.
//
// It refuses with a *PolicyError what no line can hold: nothing at all, control characters,
// braces that do not pair, other than UTF-8. The line is only for reports: leave it out then.
func PolicyString(line string) (string, error) {
	s := strings.Trim(strings.ReplaceAll(line, "\t", " "), " ")
	if err := checkPolicyString(s); err != nil {
		err.Attribute, err.Value = attrPolicyString.String(), line
		return "", err
	}
	return s, nil
}

func pattern(mx string, a attribute, form func(string) (string, *PolicyError)) (string, error) {
	s, err := form(asciiLower(mx))
	if err != nil {
		err.Attribute, err.Value = a.String(), mx
		return "", err
	}
	return s, nil
}

// Fingerprint returns the element of TLSPolicy.Match for a digest of a certificate or of a public
// key, made with the algorithm of smtp_tls_fingerprint_digest: pairs of hex digits with colons,
// the one notation that all versions match.
func Fingerprint(digest []byte) string {
	out := make([]byte, 0, 3*len(digest))
	for i := range digest {
		if i > 0 {
			out = append(out, ':')
		}
		out = hex.AppendEncode(out, digest[i:i+1])
	}
	return string(out)
}

// AppendTo appends the line, as Postfix of version v reads it, to dst. It first checks the
// policy; on an error, which is a *PolicyError, dst comes back as it was.
//
// ParseTLSPolicy of what it appended gives the same policy again.
func (p *TLSPolicy) AppendTo(dst []byte, v Version) ([]byte, error) {
	if err := p.Check(v); err != nil {
		return dst, err
	}
	start := len(dst)
	out := append(dst, p.Level.String()...)
	for a := range attrCount {
		if p.has(a) {
			out = p.appendAttribute(out, a)
		}
	}
	if n, most := len(out)-start, MaxReply-len("OK "); n > most {
		return dst, &PolicyError{Reason: fmt.Sprintf("a line of %d bytes", n), Remedy: fmt.Sprintf("keep it to %d", most)}
	}
	return out, nil
}

func (p *TLSPolicy) appendAttribute(dst []byte, a attribute) []byte {
	switch a {
	case attrMatch:
		return appendList(dst, a, p.matchWords(), p.separator())
	case attrServerName:
		return appendValue(dst, a, p.ServerName)
	case attrCiphers:
		return appendValue(dst, a, p.Ciphers)
	case attrProtocols:
		return appendList(dst, a, p.Protocols, ":")
	case attrExclude:
		return appendList(dst, a, p.Exclude, ":")
	case attrConnectionReuse:
		return appendValue(dst, a, p.ConnectionReuse.word())
	case attrEnableRPK:
		return appendValue(dst, a, p.EnableRPK.word())
	case attrPolicyType:
		return appendValue(dst, a, string(p.PolicyType))
	case attrPolicyDomain:
		return appendValue(dst, a, p.PolicyDomain)
	case attrPolicyTTL:
		return strconv.AppendInt(appendValue(dst, a, ""), int64(p.PolicyTTL/time.Second), 10)
	case attrPolicyFailure:
		return appendValue(dst, a, string(p.PolicyFailure))
	case attrTAFile:
		return appendRepeated(dst, a, p.TAFiles)
	case attrMXHostPattern:
		return appendRepeated(dst, a, p.MXHostPatterns)
	case attrPolicyString:
		for _, s := range p.PolicyStrings {
			dst = append(append(append(dst, " { policy_string = "...), s...), " }"...)
		}
		return dst
	}
	panic("postfixmap: attribute without an encoder: " + a.String())
}

func (p *TLSPolicy) matchWords() []string {
	if len(p.Strategies) == 0 {
		return p.Match
	}
	words := append(make([]string, 0, len(p.Match)+len(p.Strategies)), p.Match...)
	for _, s := range p.Strategies {
		words = append(words, string(s))
	}
	return words
}

// separator is what stands between the elements of match: fingerprints have colons in them.
func (p *TLSPolicy) separator() string {
	if p.Level == LevelFingerprint {
		return "|"
	}
	return ":"
}

func (t Toggle) word() string {
	if t == Yes {
		return "yes"
	}
	return "no"
}

func appendValue(dst []byte, a attribute, value string) []byte {
	dst = append(append(append(dst, ' '), a.String()...), '=')
	return append(dst, value...)
}

func appendList(dst []byte, a attribute, list []string, sep string) []byte {
	dst = appendValue(dst, a, "")
	for i, s := range list {
		if i > 0 {
			dst = append(dst, sep...)
		}
		dst = append(dst, s...)
	}
	return dst
}

func appendRepeated(dst []byte, a attribute, list []string) []byte {
	for _, s := range list {
		dst = appendValue(dst, a, s)
	}
	return dst
}

// ParseTLSPolicy reads a line as Postfix of version v does, and refuses with a *PolicyError what
// Postfix refuses: an unknown level or attribute, an empty value, an attribute that may not be
// repeated or not be there. It also refuses what Postfix takes without meaning it, or takes to
// mean less than was written; see Check. What it returns passes Check(v).
func ParseTLSPolicy(line string, v Version) (TLSPolicy, error) {
	var p TLSPolicy
	if err := checkLine(line); err != nil {
		return TLSPolicy{}, err
	}
	level, rest := cutToken(line)
	if p.Level = levelOf(level); p.Level == LevelInvalid {
		return TLSPolicy{}, &PolicyError{Value: level, Reason: "not a security level", Remedy: "begin the line with none, may, encrypt, dane, dane-only, fingerprint, verify or secure"}
	}
	var seen [attrCount]bool
	for {
		var token string
		if token, rest = cutToken(rest); token == "" {
			break
		}
		name, value, err := splitAttribute(token, v)
		if err != nil {
			return TLSPolicy{}, err
		}
		a, known := attributeOf(name)
		switch {
		case !known:
			return TLSPolicy{}, &PolicyError{Attribute: name, Reason: "unknown attribute", Remedy: "leave it out"}
		case value == "":
			return TLSPolicy{}, &PolicyError{Attribute: name, Reason: "empty", Remedy: "leave it out"}
		case seen[a] && !a.repeats():
			return TLSPolicy{}, &PolicyError{Attribute: name, Reason: "given twice", Remedy: "give it once"}
		}
		seen[a] = true
		if err := p.set(a, value); err != nil {
			return TLSPolicy{}, err
		}
	}
	if err := p.Check(v); err != nil {
		return TLSPolicy{}, err
	}
	return p, nil
}

// checkLine refuses what has no business on a line: Postfix reads C strings, and calls more
// characters white space than it splits at.
func checkLine(line string) error {
	if len(line) > MaxReply-len("OK ") {
		return &PolicyError{Reason: fmt.Sprintf("a line of %d bytes", len(line)), Remedy: "keep it to 99997"}
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\r\n", r) || r == 0x7f }); i >= 0 {
		return &PolicyError{Value: line[i : i+1], Reason: "a control character", Remedy: "leave it out"}
	}
	return nil
}

const lineSpace = ", \t\r\n"

// cutToken takes the next token off the line. Braces keep spaces inside a token.
func cutToken(line string) (token, rest string) {
	line = strings.TrimLeft(line, lineSpace)
	depth := 0
	for i := range len(line) {
		switch c := line[i]; {
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case depth == 0 && strings.IndexByte(lineSpace, c) >= 0:
			return line[:i], line[i:]
		}
	}
	return line, ""
}

// splitAttribute splits name=value, or { name = value } from 3.10 on.
func splitAttribute(token string, v Version) (name, value string, err error) {
	braced := token[0] == '{'
	inner := token
	if braced {
		if v < V3_10 {
			return "", "", &PolicyError{Value: token, Reason: fmt.Sprintf("braces are unknown to Postfix %v", v), Remedy: "write name=value without spaces"}
		}
		if len(token) < 2 || token[len(token)-1] != '}' || !balanced(token) || !balanced(token[1:len(token)-1]) {
			return "", "", &PolicyError{Value: token, Reason: "braces that do not pair", Remedy: "write { name = value }"}
		}
		inner = strings.Trim(token[1:len(token)-1], " ")
	} else if strings.ContainsAny(token, "{}") {
		return "", "", &PolicyError{Value: token, Reason: "a brace inside a value", Remedy: "write { name = value }"}
	}
	name, value, ok := strings.Cut(inner, "=")
	name = strings.TrimRight(name, " ")
	if !ok || name == "" || strings.ContainsAny(name, " \t\r\n") {
		return "", "", &PolicyError{Value: token, Reason: "not an attribute", Remedy: "write name=value"}
	}
	return name, strings.Trim(value, " "), nil
}

// asciiLower is how strcasecmp sees a word. Unicode knows a k and an s outside ASCII that are
// lower or upper case of those inside; to Postfix, DNS and certificates they are other letters.
func asciiLower(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// levelOf and attributeOf ignore case, as Postfix does.
func levelOf(word string) Level {
	word = asciiLower(word)
	for l := LevelNone; l <= LevelSecure; l++ {
		if word == l.String() {
			return l
		}
	}
	return LevelInvalid
}

func attributeOf(name string) (attribute, bool) {
	name = asciiLower(name)
	for a := range attrCount {
		if name == a.String() {
			return a, true
		}
	}
	return 0, false
}

// set takes a value into its field; Check judges it later.
func (p *TLSPolicy) set(a attribute, value string) error {
	lower := asciiLower(value)
	switch a {
	case attrMatch:
		p.setMatch(value)
	case attrServerName:
		p.ServerName = value
	case attrCiphers:
		p.Ciphers = lower
	case attrProtocols:
		p.Protocols = strings.Split(value, ":")
	case attrExclude:
		p.Exclude = strings.Split(value, ":")
	case attrTAFile:
		p.TAFiles = append(p.TAFiles, value)
	case attrConnectionReuse:
		return setToggle(&p.ConnectionReuse, a, lower)
	case attrEnableRPK:
		return setToggle(&p.EnableRPK, a, lower)
	case attrPolicyType:
		p.PolicyType = PolicyType(lower)
	case attrPolicyDomain:
		p.PolicyDomain = value
	case attrPolicyTTL:
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n == 0 {
			return &PolicyError{Attribute: a.String(), Value: value, Reason: "not a number of seconds from 1 to 2147483647", Remedy: "leave it out"}
		}
		p.PolicyTTL = time.Duration(n) * time.Second
	case attrPolicyFailure:
		p.PolicyFailure = PolicyFailure(lower)
	case attrMXHostPattern:
		p.MXHostPatterns = append(p.MXHostPatterns, value)
	case attrPolicyString:
		p.PolicyStrings = append(p.PolicyStrings, value)
	}
	return nil
}

func (p *TLSPolicy) setMatch(value string) {
	for word := range strings.SplitSeq(value, p.separator()) {
		switch s := Strategy(asciiLower(word)); s {
		case StrategyHostname, StrategyNexthop, StrategyDotNexthop:
			p.Strategies = append(p.Strategies, s)
		default:
			p.Match = append(p.Match, word)
		}
	}
}

func setToggle(t *Toggle, a attribute, word string) error {
	switch word {
	case "yes":
		*t = Yes
	case "no":
		*t = No
	default:
		return &PolicyError{Attribute: a.String(), Value: word, Reason: "neither yes nor no", Remedy: "write yes or no"}
	}
	return nil
}
