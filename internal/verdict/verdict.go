package verdict

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// Verdict is how strict TLS must be for a destination. The set is closed: every
// switch over it ends in a panic that names the type it forgot. The nil Verdict
// is none of them and must never be answered with.
type Verdict interface {
	// Name is the verdict's word in logs, JSON and scenarios.
	Name() string
	sealed()
}

// NoPolicy: nothing demands more than the MTA's own default.
type NoPolicy struct {
	// Report is what TLSRPT should hear of (RFC 8460); nil if nothing.
	Report *STSReport
}

// STSReport is an MTA-STS policy that is not enforced, or could not be had.
type STSReport struct {
	Domain   string
	Patterns []string
	// Lines is the policy as it was sent; empty if none could be had.
	Lines []string
	// Result is the result type of RFC 8460 §4.3.2.2; empty if nothing failed.
	Result string
}

// DANEOnly: every host used must match its TLSA records (RFC 7672).
type DANEOnly struct{}

// DANE: hosts with TLSA records must match them; the others are opportunistic.
type DANE struct {
	// Hosts are the MX names of those that are known to have usable TLSA records, in order
	// of preference, for an MTA that would otherwise take a resolver's word that a host has
	// none. Empty where that is not known, as in an override.
	Hosts []string
}

// Fingerprint: what DANEOnly asks, for an MTA that cannot look TLSA records up
// itself: the host's certificate or public key has one of the digests.
type Fingerprint struct {
	// Digests are SHA-256, of certificates and of public keys alike, each once, in
	// the order of the hosts. Never empty, at most MaxDigests.
	Digests [][sha256.Size]byte
}

// MaxDigests is how many digests a Fingerprint has at most: thirty hosts with eight
// keys each fit, and the line that Postfix gets stays at a quarter of what it takes.
const MaxDigests = 256

// STS: an enforced MTA-STS policy: WebPKI certificates for hosts that match its
// patterns (RFC 8461 §4).
type STS struct {
	// Domain is the policy domain.
	Domain string
	// Patterns are the mx values that can be written in a policy line, in
	// the policy's order, wildcards as "*.example.com". Never empty.
	Patterns []string
	// Lines is the policy as it was sent, for reports (RFC 8460 §4.4).
	Lines []string
	// Hosts are the MX names that the patterns match, most preferred first, each
	// once, at most MaxNames; for MTAs that compare names only. Empty where none
	// matches, and mail must wait.
	Hosts []string
}

// MaxNames is how many MX names a policy's patterns are expanded to at most. The
// largest sets in use have about twenty; a name that is left out is not used.
const MaxNames = 100

// WebPKI: a WebPKI certificate for the literal name of one of the MX hosts.
type WebPKI struct {
	// Hosts are the MX names in order of preference. Never empty.
	Hosts []string
}

// Encrypt: TLS is mandatory, the certificate is not checked.
type Encrypt struct{}

// Fixed: what an override says, word for word.
type Fixed struct {
	Level      string
	Attributes []Attribute
}

// Defer: no verdict can be reached now; mail waits.
type Defer struct {
	Fault Fault
	// Text is one line for the MTA's log: what failed and whose fault it is.
	Text string
}

func (NoPolicy) Name() string { return "none" }
func (DANEOnly) Name() string { return "dane-only" }
func (DANE) Name() string     { return "dane" }
func (Fingerprint) Name() string {
	return "fingerprint"
}
func (STS) Name() string     { return "secure" }
func (WebPKI) Name() string  { return "secure" }
func (Encrypt) Name() string { return "encrypt" }
func (v Fixed) Name() string {
	return v.Level
}
func (Defer) Name() string { return "defer" }

func (NoPolicy) sealed()    {}
func (DANEOnly) sealed()    {}
func (DANE) sealed()        {}
func (Fingerprint) sealed() {}
func (STS) sealed()         {}
func (WebPKI) sealed()      {}
func (Encrypt) sealed()     {}
func (Fixed) sealed()       {}
func (Defer) sealed()       {}

// Source says which signal a verdict rests on.
type Source uint8

const (
	// FromNothing: no signal asked for anything.
	FromNothing Source = iota
	// FromOverride: the operator's word.
	FromOverride
	// FromDANE: TLSA records (RFC 7672).
	FromDANE
	// FromSTS: an MTA-STS policy (RFC 8461).
	FromSTS
	// FromPrefix: MX names with a prefix in a signed zone.
	FromPrefix
	// FromTXT: a TXT record in a signed zone.
	FromTXT
	// FromRR: a record of the project's own type in a signed zone.
	FromRR
	// FromBanner: banners that were read before, of all hosts.
	FromBanner
	// FromImplicitTLS: the port alone, where TLS comes first.
	FromImplicitTLS
)

// String is the source's word in logs, JSON and scenarios.
func (s Source) String() string {
	switch s {
	case FromNothing:
		return "none"
	case FromOverride:
		return "override"
	case FromDANE:
		return "dane"
	case FromSTS:
		return "mta-sts"
	case FromPrefix:
		return "prefix"
	case FromTXT:
		return "txt"
	case FromRR:
		return "rr"
	case FromBanner:
		return "banner"
	case FromImplicitTLS:
		return "implicit-tls"
	}
	return fmt.Sprintf("source(%d)", uint8(s))
}

// Strictness orders verdicts by what they demand of every host. DANE ranks low
// because it demands nothing of hosts without TLSA records, though of the others
// it demands more than Encrypt, STS and WebPKI do; an operator's own words are
// compared with nothing and rank highest.
func Strictness(v Verdict) int {
	switch v.(type) {
	case NoPolicy:
		return 0
	case DANE:
		return 1
	case Encrypt:
		return 2
	case STS, WebPKI:
		return 3
	case DANEOnly, Fingerprint:
		return 4
	case Defer:
		return 5
	case Fixed:
		return 6
	}
	panic(fmt.Sprintf("verdict: a verdict of type %T has no rank", v))
}

// FailureTTL is how long a conclusion that rests on a failed lookup is kept at
// least; the engine spreads it up to twice that, so that a resolver which comes
// back is not met by every destination at once.
const FailureTTL = 30 * time.Second

// Ruling is a verdict with its reasons.
type Ruling struct {
	Verdict Verdict
	Source  Source
	// Reasons are the steps to the verdict, in the order in which they were
	// taken; the last one is decisive.
	Reasons []Reason
	// TTL is how long the verdict holds, counted from Facts.Now: the least of
	// the lifetimes of what it rests on. The engine clamps it to its settings, but
	// never lengthens that of a Fingerprint: it has a copy of TLSA records, which
	// the MTA does not look up again.
	TTL time.Duration
	// ByEnforcement says that Rules.DANE decided: under the other setting the
	// verdict, or what it means to the MTA, would be another.
	ByEnforcement bool
	// Beside is what there is to say beside the verdict; nil for almost all.
	Beside *Beside
	// Would is what the ruling would be if no signal were only observed; nil where that
	// is the same, and so for almost all.
	Would *Would
	// Provisional says that a lookup failed on the way, so that the verdict
	// should be reached anew soon, whatever the TTL of the rest.
	Provisional bool
}
