package verdict

import (
	"fmt"
	"slices"
)

// Guarantee is what a verdict promises of a delivery, whoever is on the path: a set. The
// zero value promises nothing, not even that TLS is tried.
type Guarantee uint8

// What can be promised.
const (
	// Tried: TLS is used where a host offers it.
	Tried Guarantee = 1 << iota
	// Encrypted: no message goes to any host without TLS.
	Encrypted
	// PartlyAuthenticated: the hosts that publish TLSA records are held to them.
	PartlyAuthenticated
	// Authenticated: every host that gets the message is authenticated.
	Authenticated
)

// everything is what both DANE for all hosts and MTA-STS promise.
const everything = Tried | Encrypted | PartlyAuthenticated | Authenticated

// Guarantees returns what a verdict promises; ok is false for a Defer, which promises
// nothing because it delivers nothing.
//
// DANE of all hosts and a WebPKI certificate promise the same: that every host is
// authenticated. RFC 8461 §2 has the first come before the second, but as an order of
// precedence and not of strength: who changes from one to the other goes on to demand
// authentication. DANE of some hosts promises something else than Encrypt, neither
// more nor less: a host without TLSA records may get the message without TLS
// (RFC 7672 §2.2), which Encrypt forbids, and one with them must be the right one, which
// Encrypt does not look at.
func Guarantees(v Verdict) (g Guarantee, ok bool) {
	switch v := v.(type) {
	case NoPolicy:
		return Tried, true
	case DANE:
		return Tried | PartlyAuthenticated, true
	case Encrypt:
		return Tried | Encrypted, true
	case STS, WebPKI, DANEOnly, Fingerprint:
		return everything, true
	case Defer:
		return 0, false
	case Fixed:
		return ofLevel(v.Level), true
	}
	panic(fmt.Sprintf("verdict: a verdict of type %T has no guarantees", v))
}

// ofLevel is what one of Postfix's levels promises, as an operator wrote it. Of one that is
// not known nothing is.
func ofLevel(level string) Guarantee {
	switch level {
	case "may":
		return Tried
	case "dane":
		return Tried | PartlyAuthenticated
	case "encrypt":
		return Tried | Encrypted
	case "dane-only", "fingerprint", "verify", "secure":
		return everything
	}
	return 0
}

// Weakens reports whether something that was promised before is not promised after: a
// downgrade. Between sets neither of which has all of the other, each way is one.
func Weakens(before, after Guarantee) bool { return before&^after != 0 }

// Cause names why less is promised than before, as far as the reasons tell.
type Cause string

// The causes there are. All but the last two can be what the domain's owner or the
// operator wants; none of them is proof of it.
const (
	// CauseOverride: an override began, or took another form.
	CauseOverride Cause = "override"
	// CauseOverrideEnded: an override ended, or was removed.
	CauseOverrideEnded Cause = "override-ended"
	// CauseSettings: a signal is switched off or only observed.
	CauseSettings Cause = "settings"
	// CauseWithdrawn: the MTA-STS policy says "none" (RFC 8461 §5).
	CauseWithdrawn Cause = "withdrawn"
	// CauseTesting: the MTA-STS policy says "testing" (RFC 8461 §5).
	CauseTesting Cause = "testing"
	// CauseExpired: the MTA-STS policy has expired, or had a max_age of 0, and no
	// record announces another one (RFC 8461 §3.1).
	CauseExpired Cause = "expired"
	// CauseUnrenewed: the MTA-STS policy has expired, and another one is announced or may
	// be, which could not be had (RFC 8461 §3.3).
	CauseUnrenewed Cause = "unrenewed"
	// CauseUnsigned: what DANE or a signal rests on is not signed any more.
	CauseUnsigned Cause = "unsigned"
	// CauseRecords: TLSA records are gone, or cannot be used.
	CauseRecords Cause = "tlsa"
	// CauseSignal: the signal is gone or is not believed any more.
	CauseSignal Cause = "signal"
	// CauseUnknown: the reasons do not tell.
	CauseUnknown Cause = "unknown"
)

// CauseOf tells why a verdict that rested on one source was followed by one that
// promises less, with its source and reasons.
func CauseOf(before, after Source, reasons []Reason) Cause {
	has := func(codes ...Code) bool {
		return slices.ContainsFunc(reasons, func(r Reason) bool { return slices.Contains(codes, r.Code) })
	}
	switch {
	case after == FromOverride:
		return CauseOverride
	case before == FromOverride:
		return CauseOverrideEnded
	}
	switch before {
	case FromSTS:
		return causeOfSTS(has)
	case FromDANE:
		switch {
		case has(DNSSECOff, NoFingerprints, InsecureEncrypt, InsecureUnused):
			return CauseSettings
		case has(MXInsecure, HostInsecure, TLSAInsecure, AliasInsecure):
			return CauseUnsigned
		case has(TLSAAbsent, TLSAUnusable, MXNoDomain, MXNull, HostNoAddress):
			return CauseRecords
		}
	case FromPrefix, FromTXT, FromRR, FromBanner, FromImplicitTLS:
		switch {
		case has(DNSSECOff, PrefixObserved, TXTObserved, RRObserved, BannerObserved):
			return CauseSettings
		case has(PrefixUnsigned, TXTUnsigned, RRUnsigned, MXInsecure):
			return CauseUnsigned
		}
		return CauseSignal
	case FromNothing, FromOverride:
	}
	return CauseUnknown
}

// causeOfSTS is the cause where an MTA-STS policy was enforced before.
func causeOfSTS(has func(...Code) bool) Cause {
	switch {
	case has(STSOff, STSObserved):
		return CauseSettings
	case has(STSNone):
		return CauseWithdrawn
	case has(STSTesting):
		return CauseTesting
	case has(STSFailed, STSUnfinished, STSBogus):
		return CauseUnrenewed
	case has(STSAbsent):
		return CauseExpired
	case has(DANESome, DANEInsecureMX, DANEEncrypt, STSSkipped):
		return CauseRecords
	}
	return CauseUnknown
}
