package verdict

import (
	"fmt"
	"net/netip"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
)

// Facts is everything that was learned of a destination. Decide reads it and
// nothing else.
type Facts struct {
	// Now is the time of the decision: Decide has no clock.
	Now         time.Time
	Destination nexthop.Destination
	Rules       Rules

	// Trouble is why DNSSEC proves nothing on this host and what to do about
	// it, in one line; empty if nothing is known to be wrong.
	Trouble string

	// Override is the operator's word for this destination; nil if there is
	// none. With one, nothing else needs to be asked.
	Override *Override

	// MX is the answer for a domain; unasked where Destination.Host is set.
	MX Answer[MX]
	// Hosts are the hosts that take the mail, in order of preference: those of
	// MX, or the destination itself where there is no MX (RFC 5321 §5.1). Empty
	// where the MX answer already decides, and where DNSSEC is off.
	Hosts []Host
	// STS is what is known of the MTA-STS policy.
	STS STSFacts
	// TXT is the answer for the TXT record at _smtp-strict and the destination, RR
	// that for the record type Rules.RRType at the destination itself, each record as
	// the octets of its data; see package signal. Unasked where Rules has them off, and
	// where they were not waited for; see Missing.
	TXT, RR Answer[string]
	// Pins are what is kept of the banners of Pinnable, one for each name and in that
	// order. Whoever gathers asks for them once MX is known.
	Pins []Pin
	// Own says why the MTA may have a way of its own for the destination, such as
	// its own mailboxes, so that it must not be told another; empty where it has
	// none. Looked into only where Promised returns hosts.
	Own string
}

// Host is what was learned of one MX host.
type Host struct {
	// Name is the name in the MX record, before any CNAME: it is what
	// MTA-STS patterns match and what the prefix stands in.
	Name       string
	Preference uint16
	A, AAAA    Answer[netip.Addr]
	// Link is the answer to a question for the CNAME itself; asked only where
	// the addresses are insecure and the name is an alias (RFC 7672 §2.2.2).
	Link Answer[string]
	// TLSA are the lookups made for this host, in the order in which RFC 7672
	// §2.2.3 wants them read: the expanded name first, then the original.
	TLSA []TLSALookup
}

// TLSALookup is a TLSA question and what came of it.
type TLSALookup struct {
	// Base is the TLSA base domain: the owner name without "_port._tcp.".
	Base   string
	Answer Answer[tlsa.Record]
}

// STSFacts is what is known of a destination's MTA-STS policy.
type STSFacts struct {
	// Record is the answer for the _mta-sts TXT record; unasked where the MX
	// answer made it needless, or MTA-STS is off.
	Record Answer[string]
	// Policy is the policy that holds now, just fetched or cached and
	// unexpired; nil if there is none.
	Policy *mtasts.Cached
	// Failure says why no newer policy could be had although there should be
	// one; nil if nothing failed. A cached policy holds nevertheless.
	Failure *STSFailure
	// Settled says that all of the above is final. While it is false the
	// lookups may be under way still, and only a verdict on which they have
	// no bearing can be reached; Policy may be known all the same.
	Settled bool
}

// STSFailure is a failed discovery or fetch of an MTA-STS policy.
type STSFailure struct {
	// Result is the result type of RFC 8460 §4.3.2.2, such as
	// "sts-policy-fetch-error".
	Result string
	// Unfinished says that this host never came so far as to be refused a
	// policy: too much is under way, or the store cannot be read. RFC 8461 §3.3
	// excuses a fetch that failed, not one that was never made, so that mail
	// waits where no policy is known.
	Unfinished bool
	Failure
}

// Enforced reports whether a policy in mode enforce is known and unexpired.
func (s *STSFacts) Enforced(now time.Time) bool {
	return s.Policy != nil && s.Policy.Fresh(now) && s.Policy.Policy.Mode == mtasts.ModeEnforce
}

// Mode is how far a signal may go. The zero value is off.
type Mode uint8

const (
	// Off: the signal is not looked at.
	Off Mode = iota
	// Observe: it is evaluated, logged, counted and explained, and changes nothing.
	Observe
	// Enforce: it decides.
	Enforce
)

// Rules are the operator's settings that bear on a decision.
type Rules struct {
	// WithoutDNSSEC says that the operator gave DNSSEC up: no DANE, no signals
	// from DNS, MTA-STS only.
	WithoutDNSSEC bool
	STS           Mode
	Prefix        Mode
	TXT, RR       Mode
	Banner        Mode
	// RRType is the number of the record type.
	RRType uint16
	// DANE says how the MTA can hold a host to its TLSA records.
	DANE Enforcement
	// ImplicitPort is where TLS is spoken from the first byte; 0: nowhere.
	ImplicitPort uint16
}

// Enforcement is how an MTA can hold a host to its TLSA records. The zero value
// trusts nothing of the MTA's own resolver.
type Enforcement uint8

const (
	// ByFingerprint: the MTA's resolver proves nothing. To it, every TLSA record is
	// unsigned, so that it would take "dane" for "no policy". It is told the
	// digests instead, where that can be done.
	ByFingerprint Enforcement = iota
	// Native: the MTA's resolver validates. It looks TLSA records up itself.
	Native
)

// String returns the word that the configuration has for it.
func (e Enforcement) String() string {
	switch e {
	case ByFingerprint:
		return "fingerprint"
	case Native:
		return "native"
	}
	return fmt.Sprintf("enforcement(%d)", uint8(e))
}

// Override is the operator's word for a destination.
type Override struct {
	// Level and Attributes are the policy as Postfix writes it; an empty Level
	// means that there shall be no policy, whatever the signals say.
	Level      string
	Attributes []Attribute
	// Reason is the operator's own explanation, for "policyd explain".
	Reason string
	// Until is when the override ends; the zero time means never.
	Until time.Time
}

// Attribute is a name and value of a Postfix TLS policy, such as match=.example.com.
type Attribute struct{ Name, Value string }
