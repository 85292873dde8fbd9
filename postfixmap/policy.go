package postfixmap

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrPolicy is what every *PolicyError wraps: Postfix of the version asked about would not take
// the policy, or would take it to mean something else.
var ErrPolicy = errors.New("postfixmap: TLS policy")

// A PolicyError says what is wrong with a policy and what to do about it. An error in a policy
// line makes Postfix defer all mail for the destination with 4.7.5, so none may leave here.
type PolicyError struct {
	// Attribute is the attribute at fault, as it is written, or "" when it is the level, the
	// version or the line as a whole.
	Attribute string
	// Value is the value at fault, if there is one.
	Value string
	// Reason says what is wrong.
	Reason string
	// Remedy says what to write instead.
	Remedy string
}

// Error returns one line with all four.
func (e *PolicyError) Error() string {
	var b strings.Builder
	b.WriteString(ErrPolicy.Error())
	if e.Attribute != "" {
		b.WriteString(": " + e.Attribute)
	}
	if e.Value != "" {
		fmt.Fprintf(&b, " %.80q", e.Value)
	}
	b.WriteString(": " + e.Reason)
	if e.Remedy != "" {
		b.WriteString(": " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns ErrPolicy.
func (e *PolicyError) Unwrap() error { return ErrPolicy }

// A Version is a release of Postfix, ordered as the releases are: what a policy line may say
// depends on it. The zero Version accepts nothing.
type Version uint32

// The releases that changed the line. Any release from 3.4 on can be asked about.
const (
	V3_4  Version = 3_004_000 // connection_reuse, servername
	V3_6  Version = 3_006_000 // protocols >= and <=; fingerprints are no longer compared as text
	V3_9  Version = 3_009_000 // enable_rpk
	V3_10 Version = 3_010_000 // policy_type and its company; values in braces
)

// ParseVersion reads what "postconf -h mail_version" prints: 3.7.11, 3.10, or a snapshot such as
// 3.11-20250101, which counts as 3.11.
func ParseVersion(s string) (Version, error) {
	release, _, _ := strings.Cut(s, "-")
	parts := strings.Split(release, ".")
	var v Version
	for i := range 3 {
		var n uint64
		var err error
		if i < len(parts) {
			n, err = strconv.ParseUint(parts[i], 10, 16)
		}
		if err != nil || n > 999 || len(parts) < 2 || len(parts) > 3 {
			return 0, fmt.Errorf("postfixmap: not a Postfix version: %q", s)
		}
		v = v*1000 + Version(n)
	}
	return v, nil
}

// String returns 3.10, or 3.10.5 where the patch level is not 0.
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d", v/1_000_000, v/1000%1000)
	if p := v % 1000; p != 0 {
		s += fmt.Sprintf(".%d", p)
	}
	return s
}

// A Level is a TLS security level. The zero value is none at all: it cannot be written.
type Level uint8

// The levels, as smtp_tls_policy_maps(5) orders them.
const (
	LevelInvalid     Level = iota
	LevelNone              // clear text; takes no attributes
	LevelMay               // TLS if offered, clear text if not
	LevelEncrypt           // TLS, any certificate
	LevelDANE              // TLSA records where there are usable ones; without AD, the same as may
	LevelDANEOnly          // usable TLSA records, or no delivery
	LevelFingerprint       // a certificate or key with one of the digests in Match
	LevelVerify            // a certificate for a name that DNS gave: not for unsigned MX records
	LevelSecure            // a certificate for a name in Match
)

// String returns the word on the line, or Level(n) for a number that is none.
func (l Level) String() string {
	switch l {
	case LevelNone:
		return "none"
	case LevelMay:
		return "may"
	case LevelEncrypt:
		return "encrypt"
	case LevelDANE:
		return "dane"
	case LevelDANEOnly:
		return "dane-only"
	case LevelFingerprint:
		return "fingerprint"
	case LevelVerify:
		return "verify"
	case LevelSecure:
		return "secure"
	}
	return fmt.Sprintf("Level(%d)", uint8(l))
}

// names says whether certificates are checked by name at the level.
func (l Level) names() bool { return l == LevelVerify || l == LevelSecure }

// A Strategy is a word in match= that stands for a name that Postfix fills in.
type Strategy string

// The strategies. StrategyHostname trusts the DNS answer that named the host: at secure it is as
// weak as that answer.
const (
	StrategyNexthop    Strategy = "nexthop"     // the domain asked about
	StrategyDotNexthop Strategy = "dot-nexthop" // names below it
	StrategyHostname   Strategy = "hostname"    // the MX host
)

// ServerNameHostname and ServerNameNexthop are values of ServerName that Postfix fills in: SNI is
// the MX host's name, or the domain asked about.
const (
	ServerNameHostname = "hostname"
	ServerNameNexthop  = "nexthop"
)

// A Toggle is yes, no, or not said, and then main.cf decides.
type Toggle uint8

// The values of a Toggle.
const (
	Unset Toggle = iota
	Yes
	No
)

// A PolicyType tells TLSRPT (RFC 8460) what kind of policy the line was made from.
type PolicyType string

// The policy types that Postfix accepts; it knows of DANE by itself.
const (
	PolicySTS      PolicyType = "sts"
	PolicyNotFound PolicyType = "no-policy-found"
)

// A PolicyFailure tells TLSRPT that no policy could be had, and why. It also makes any
// certificate count as not matching, so it is refused at the levels that need a match.
type PolicyFailure string

// The failures that Postfix accepts, with the result types of RFC 8460 §4.3.
const (
	FailureFetch      PolicyFailure = "sts-policy-fetch-error"
	FailureInvalid    PolicyFailure = "sts-policy-invalid"
	FailureWebPKI     PolicyFailure = "sts-webpki-invalid"
	FailureValidation PolicyFailure = "validation-failure"
)

// A TLSPolicy is one right-hand side of smtp_tls_policy_maps: a level, and attributes that
// override main.cf for one destination. The zero value cannot be written.
//
// In the fields below, empty means that the attribute is not on the line.
type TLSPolicy struct {
	Level Level
	// Match is what the certificate must match, any one of it. At verify and secure: A-label
	// host names, or .NAME for every name below NAME, at any depth (see HostPattern). At
	// fingerprint: digests in hex (see Fingerprint). At other levels it must be empty.
	Match []string
	// Strategies are further alternatives for Match, at verify and secure. They are apart from
	// it so that a host that is called "hostname" cannot become one.
	Strategies []Strategy
	// ServerName is the name sent as SNI: a host name, ServerNameHostname or ServerNameNexthop.
	// Postfix sends it at fingerprint, verify and secure; with DANE it sends its own.
	ServerName string
	// Ciphers is the least cipher grade: high, medium, low, export or null.
	Ciphers string
	// Protocols are TLS versions: ">=TLSv1.2" (3.6 and later), "!TLSv1", "TLSv1.3".
	Protocols []string
	// Exclude are OpenSSL cipher names not to be used.
	Exclude []string
	// TAFiles are absolute paths of PEM files with trust anchors that replace the CA store, at
	// verify and secure. Postfix defers when it cannot read one; that is not checked here.
	TAFiles []string
	// ConnectionReuse says whether TLS connections may be used for further deliveries.
	ConnectionReuse Toggle
	// EnableRPK says whether raw public keys are asked for (3.9 and later).
	EnableRPK Toggle

	// The rest needs 3.10 and is for TLSRPT, except that from 3.10.5 PolicySTS, Match and
	// MXHostPatterns together make Postfix check the MX host's name against the patterns and
	// the certificate against that name (RFC 8461 §4.1).

	// PolicyType must be set for any of the others to be.
	PolicyType PolicyType
	// PolicyDomain is the domain that published the policy.
	PolicyDomain string
	// PolicyTTL is a whole number of seconds, 1 s to 68 years. Deprecated by Postfix.
	PolicyTTL time.Duration
	// PolicyFailure says why there is no policy.
	PolicyFailure PolicyFailure
	// MXHostPatterns are the policy's mx patterns as published: mx.example.com, *.example.net
	// (see MXHostPattern).
	MXHostPatterns []string
	// PolicyStrings are the lines of the policy, without line ends (see PolicyString).
	PolicyStrings []string
}

// attribute is one name on the line, in the order in which the encoder writes them. Sendmail
// wants servername right behind match, and nothing after it.
type attribute uint8

const (
	attrMatch attribute = iota
	attrServerName
	attrCiphers
	attrProtocols
	attrExclude
	attrTAFile
	attrConnectionReuse
	attrEnableRPK
	attrPolicyType
	attrPolicyDomain
	attrPolicyTTL
	attrPolicyFailure
	attrMXHostPattern
	attrPolicyString
	attrCount
)

func (a attribute) String() string {
	return [attrCount]string{
		"match", "servername", "ciphers", "protocols", "exclude", "tafile", "connection_reuse", "enable_rpk",
		"policy_type", "policy_domain", "policy_ttl", "policy_failure", "mx_host_pattern", "policy_string",
	}[a]
}

// since says which release first took the attribute: to an older one its name is an error.
func (a attribute) since() Version {
	switch {
	case a == attrEnableRPK:
		return V3_9
	case a >= attrPolicyType:
		return V3_10
	}
	return V3_4
}

// repeats says whether the attribute may be on the line more than once.
func (a attribute) repeats() bool {
	return a == attrMatch || a == attrTAFile || a == attrMXHostPattern || a == attrPolicyString
}

// has says whether the attribute is on the line.
func (p *TLSPolicy) has(a attribute) bool {
	switch a {
	case attrMatch:
		return len(p.Match)+len(p.Strategies) > 0
	case attrServerName:
		return p.ServerName != ""
	case attrCiphers:
		return p.Ciphers != ""
	case attrProtocols:
		return len(p.Protocols) > 0
	case attrExclude:
		return len(p.Exclude) > 0
	case attrTAFile:
		return len(p.TAFiles) > 0
	case attrConnectionReuse:
		return p.ConnectionReuse != Unset
	case attrEnableRPK:
		return p.EnableRPK != Unset
	case attrPolicyType:
		return p.PolicyType != ""
	case attrPolicyDomain:
		return p.PolicyDomain != ""
	case attrPolicyTTL:
		return p.PolicyTTL != 0
	case attrPolicyFailure:
		return p.PolicyFailure != ""
	case attrMXHostPattern:
		return len(p.MXHostPatterns) > 0
	case attrPolicyString:
		return len(p.PolicyStrings) > 0
	}
	panic("postfixmap: attribute without a field: " + a.String())
}
