package postfixmap

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Check says whether Postfix of version v takes the policy, and means by it what the fields say.
// A non-nil error is a *PolicyError.
//
// It is stricter than Postfix where Postfix ignores or skips: attributes at level none, empty
// list elements, an unknown cipher grade or protocol (over which every delivery would fail).
func (p *TLSPolicy) Check(v Version) error {
	if v < V3_4 {
		return &PolicyError{Reason: fmt.Sprintf("Postfix %v is not supported", v), Remedy: "use 3.4 or later"}
	}
	if p.Level == LevelInvalid || p.Level > LevelSecure {
		return &PolicyError{Reason: fmt.Sprintf("%v is not a security level", p.Level), Remedy: "set one of LevelNone to LevelSecure"}
	}
	for a := range attrCount {
		if !p.has(a) {
			continue
		}
		if err := p.checkPlace(a, v); err != nil {
			return err
		}
		if err := p.checkValue(a, v); err != nil {
			err.Attribute = a.String()
			return err
		}
	}
	return nil
}

// checkPlace says whether the attribute may be on the line at all.
func (p *TLSPolicy) checkPlace(a attribute, v Version) error {
	refuse := func(reason, remedy string) error {
		return &PolicyError{Attribute: a.String(), Reason: reason, Remedy: remedy}
	}
	switch {
	case p.Level == LevelNone:
		return refuse("ignored at level none", "leave it out, or use a level with TLS")
	case v < a.since():
		return refuse(fmt.Sprintf("unknown to Postfix %v, which then defers all mail", v),
			fmt.Sprintf("leave it out below %v", a.since()))
	case a == attrMatch && p.Level != LevelFingerprint && !p.Level.names():
		return refuse("not allowed at level "+p.Level.String(), "use fingerprint, verify or secure")
	case a == attrTAFile && !p.Level.names():
		return refuse("not allowed at level "+p.Level.String(), "use verify or secure")
	case a > attrPolicyType && p.PolicyType == "":
		return refuse("not allowed without policy_type", "set policy_type to sts or no-policy-found")
	case a == attrPolicyFailure && p.Level > LevelEncrypt:
		return refuse("makes every certificate fail at level "+p.Level.String(), "use it with may or encrypt only")
	}
	return nil
}

// checkValue says whether the attribute's value is one. The error lacks the attribute's name.
func (p *TLSPolicy) checkValue(a attribute, v Version) *PolicyError {
	switch a {
	case attrMatch:
		return p.checkMatch(v)
	case attrServerName:
		return checkHost(p.ServerName)
	case attrPolicyDomain:
		return checkHost(p.PolicyDomain)
	case attrCiphers:
		return checkOneOf(p.Ciphers, "high", "medium", "low", "export", "null")
	case attrPolicyType:
		return checkOneOf(p.PolicyType, PolicySTS, PolicyNotFound)
	case attrPolicyFailure:
		return checkOneOf(p.PolicyFailure, FailureFetch, FailureInvalid, FailureWebPKI, FailureValidation)
	case attrProtocols:
		return checkEach(p.Protocols, func(s string) *PolicyError { return checkProtocol(s, v) })
	case attrExclude:
		return checkEach(p.Exclude, checkCipher)
	case attrTAFile:
		return checkEach(p.TAFiles, checkFile)
	case attrConnectionReuse:
		return checkToggle(p.ConnectionReuse)
	case attrEnableRPK:
		return checkToggle(p.EnableRPK)
	case attrPolicyTTL:
		return checkTTL(p.PolicyTTL)
	case attrMXHostPattern:
		return checkEach(p.MXHostPatterns, checkMXHostPattern)
	case attrPolicyString:
		return checkEach(p.PolicyStrings, checkPolicyString)
	}
	panic("postfixmap: attribute without a check: " + a.String())
}

func (p *TLSPolicy) checkMatch(v Version) *PolicyError {
	if p.Level == LevelFingerprint {
		if len(p.Strategies) > 0 {
			return &PolicyError{Value: string(p.Strategies[0]), Reason: "not a fingerprint", Remedy: "leave strategies to verify and secure"}
		}
		return checkEach(p.Match, func(s string) *PolicyError { return checkFingerprint(s, v) })
	}
	for _, s := range p.Strategies {
		if err := checkOneOf(s, StrategyNexthop, StrategyDotNexthop, StrategyHostname); err != nil {
			return err
		}
	}
	return checkEach(p.Match, checkHostPattern)
}

func checkEach(list []string, check func(string) *PolicyError) *PolicyError {
	for _, s := range list {
		if err := check(s); err != nil {
			err.Value = s
			return err
		}
	}
	return nil
}

func checkOneOf[S ~string](s S, words ...S) *PolicyError {
	if slices.Contains(words, s) {
		return nil
	}
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return &PolicyError{Value: string(s), Reason: "unknown value", Remedy: "write one of " + strings.Join(list, ", ")}
}

func checkToggle(t Toggle) *PolicyError {
	if t > No {
		return &PolicyError{Reason: "neither yes nor no", Remedy: "set Yes or No"}
	}
	return nil
}

func checkTTL(d time.Duration) *PolicyError {
	if d < 0 || d%time.Second != 0 || d/time.Second > math.MaxInt32 {
		return &PolicyError{Value: d.String(), Reason: "not a whole number of seconds from 1 to 2147483647", Remedy: "round it, or leave it out"}
	}
	return nil
}

// checkHost says whether s is a host name in the form that Postfix, certificates and DNS share.
func checkHost(s string) *PolicyError {
	if isHost(s) {
		return nil
	}
	return whyNoHost(s)
}

// isHost agrees with whyNoHost in one pass: every name of every answer goes through it.
func isHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	start, number := 0, true
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if i == start || i-start > 63 || s[start] == '-' || s[i-1] == '-' {
				return false
			}
			if i == len(s) {
				return !number
			}
			start, number = i+1, true
			continue
		}
		c := s[i]
		if notHostByte(rune(c)) {
			return false
		}
		number = number && '0' <= c && c <= '9'
	}
	return false
}

// whyNoHost says what is wrong with a name, if anything is.
func whyNoHost(s string) *PolicyError {
	bad := func(reason, remedy string) *PolicyError {
		return &PolicyError{Value: s, Reason: reason, Remedy: remedy}
	}
	if s == "" || len(s) > 253 {
		return bad("not a host name: empty or longer than 253 bytes", "leave it out")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e }) {
		return bad("not ASCII", "write A-labels: xn--...")
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return bad("a label is empty or longer than 63 bytes", "write the name without a final dot")
		}
		if label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notHostByte) {
			return bad("not a host name", "use letters, digits, inner hyphens and dots only")
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return bad("an address or a number, which no certificate name matches", "write the host's name")
	}
	return nil
}

func notHostByte(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// checkHostPattern says whether s is a literal in match= at verify and secure.
func checkHostPattern(s string) *PolicyError {
	if base, ok := strings.CutPrefix(s, "*."); ok {
		return &PolicyError{Reason: "a wildcard is never matched here", Remedy: "write ." + base}
	}
	for _, w := range []Strategy{StrategyHostname, StrategyNexthop, StrategyDotNexthop} {
		if strings.EqualFold(s, string(w)) {
			return &PolicyError{Reason: "a strategy of Postfix, not a host", Remedy: "put it into Strategies if that is what you mean"}
		}
	}
	return checkHost(strings.TrimPrefix(s, "."))
}

func checkMXHostPattern(s string) *PolicyError {
	if base, ok := strings.CutPrefix(s, "."); ok {
		return &PolicyError{Reason: "not a pattern of MTA-STS", Remedy: "write *." + base}
	}
	return checkHost(strings.TrimPrefix(s, "*."))
}

// checkFingerprint takes the lengths of MD5 to SHA-512, in either notation.
func checkFingerprint(s string, v Version) *PolicyError {
	hex := s
	if strings.Contains(s, ":") {
		for i := range len(s) {
			if (i%3 == 2) != (s[i] == ':') {
				return &PolicyError{Reason: "not pairs of hex digits with colons between", Remedy: "use Fingerprint"}
			}
		}
		hex = strings.ReplaceAll(s, ":", "")
	} else if v < V3_6 {
		return &PolicyError{
			Reason: "never matches below 3.6, which compares the text, colons included",
			Remedy: "write colons between the pairs, as Fingerprint does",
		}
	}
	if strings.Trim(hex, "0123456789abcdefABCDEF") != "" || !slices.Contains([]int{32, 40, 56, 64, 96, 128}, len(hex)) {
		return &PolicyError{Reason: "not a digest in hex", Remedy: "use Fingerprint"}
	}
	return nil
}

func checkProtocol(s string, v Version) *PolicyError {
	name := strings.TrimPrefix(s, "!")
	if strings.HasPrefix(s, ">=") || strings.HasPrefix(s, "<=") {
		if v < V3_6 {
			return &PolicyError{Reason: fmt.Sprintf("unknown to Postfix %v", v), Remedy: "exclude protocols with ! below 3.6"}
		}
		name = s[2:]
	}
	switch name {
	case "SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3":
		return nil
	}
	return &PolicyError{Reason: "unknown protocol, over which every TLS session would fail", Remedy: "write >=TLSv1.2 or !TLSv1.1"}
}

func checkCipher(s string) *PolicyError {
	if s == "" || strings.IndexByte("!+-@", s[0]) >= 0 {
		return &PolicyError{Reason: "empty, or begins with a modifier", Remedy: "write the cipher's name alone"}
	}
	if strings.ContainsFunc(s, func(r rune) bool { return notHostByte(r) && r != '+' && r != '=' && r != '@' && r != '.' }) {
		return &PolicyError{Reason: "not an OpenSSL cipher name", Remedy: "write one name for each element"}
	}
	return nil
}

func checkFile(s string) *PolicyError {
	if !strings.HasPrefix(s, "/") {
		return &PolicyError{Reason: "not an absolute path", Remedy: "write it from /"}
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ',' || r == '{' || r == '}' }) {
		return &PolicyError{Reason: "a path with spaces, commas, braces or other than ASCII cannot be written", Remedy: "move the file"}
	}
	return nil
}

// checkPolicyString takes what survives between braces unchanged: Postfix trims the ends, turns
// white space into spaces, and counts braces.
func checkPolicyString(s string) *PolicyError {
	switch {
	case s == "" || strings.Trim(s, " ") != s:
		return &PolicyError{Reason: "empty, or with spaces at an end", Remedy: "trim the line"}
	case !utf8.ValidString(s):
		return &PolicyError{Reason: "not UTF-8", Remedy: "leave the line out"}
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return &PolicyError{Reason: "a control character", Remedy: "give one line for each element, without its end"}
	case !balanced(s):
		return &PolicyError{Reason: "braces that do not pair", Remedy: "leave the line out"}
	}
	return nil
}

func balanced(s string) bool {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth < 0 {
			return false
		}
	}
	return depth == 0
}
