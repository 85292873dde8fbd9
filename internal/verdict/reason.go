package verdict

import (
	"fmt"
	"strings"
)

// Code names a step of a decision. Codes are stable: logs, "policyd explain",
// the JSON dialect and the scenarios print them.
type Code string

// The reasons there are. What each says, and the section it rests on, is in
// Reason.Text and Code.Cite.
const (
	Overridden     Code = "override"
	OverrideIgnore Code = "override-ignore"

	MXFailed      Code = "mx-failed"
	MXUnproven    Code = "mx-unproven"
	MXNoDomain    Code = "mx-nxdomain"
	MXNull        Code = "mx-null"
	MXImplicit    Code = "mx-implicit"
	MXSecure      Code = "mx-secure"
	MXInsecure    Code = "mx-insecure"
	MXNotAsked    Code = "mx-not-asked"
	DNSSECOff     Code = "dnssec-off"
	HostFailed    Code = "host-failed"
	HostNoAddress Code = "host-no-address"
	HostInsecure  Code = "host-insecure"
	HostUnproven  Code = "host-unproven"
	AliasInsecure Code = "alias-insecure"
	AliasFailed   Code = "alias-failed"

	TLSAUsable   Code = "tlsa-usable"
	TLSAUnusable Code = "tlsa-unusable"
	TLSAAbsent   Code = "tlsa-absent"
	TLSAInsecure Code = "tlsa-insecure"
	TLSAFailed   Code = "tlsa-failed"

	DANEAll        Code = "dane-all"
	DANESome       Code = "dane-some"
	DANERaised     Code = "dane-raised"
	DANERaisedTLS  Code = "dane-raised-tls"
	DANENarrowed   Code = "dane-narrowed"
	DANEOrTLS      Code = "dane-or-tls"
	DANEEncrypt    Code = "dane-encrypt"
	DANEInsecureMX Code = "dane-insecure-mx"
	DANENoHost     Code = "dane-no-host"

	Fingerprints    Code = "dane-fingerprint"
	NoFingerprints  Code = "dane-no-fingerprint"
	DANEHidden      Code = "dane-hidden"
	TLSAUnwritable  Code = "tlsa-no-fingerprint"
	EncryptAll      Code = "dane-encrypt-all"
	InsecureEncrypt Code = "dane-insecure-mx-encrypt"
	InsecureUnused  Code = "dane-insecure-mx-unused"

	STSOff         Code = "sts-off"
	STSSkipped     Code = "sts-skipped"
	STSAbsent      Code = "sts-absent"
	STSFailed      Code = "sts-failed"
	STSBogus       Code = "sts-bogus"
	STSUnfinished  Code = "sts-unfinished"
	STSHeld        Code = "sts-held"
	STSEnforce     Code = "sts-enforce"
	STSTesting     Code = "sts-testing"
	STSNone        Code = "sts-none"
	STSObserved    Code = "sts-observed"
	STSUnwritable  Code = "sts-unwritable"
	STSUnlisted    Code = "sts-unlisted"
	PrefixAll      Code = "prefix-all"
	PrefixObserved Code = "prefix-observed"
	PrefixUnsigned Code = "prefix-unsigned"
	PrefixMixed    Code = "prefix-mixed"

	TXTAbsent   Code = "txt-absent"
	TXTFailed   Code = "txt-failed"
	TXTUnsigned Code = "txt-unsigned"
	TXTInvalid  Code = "txt-invalid"
	TXTObserved Code = "txt-observed"
	TXTEncrypt  Code = "txt-encrypt"
	TXTWebPKI   Code = "txt-webpki"
	RRAbsent    Code = "rr-absent"
	RRFailed    Code = "rr-failed"
	RRUnsigned  Code = "rr-unsigned"
	RRInvalid   Code = "rr-invalid"
	RRObserved  Code = "rr-observed"
	RREncrypt   Code = "rr-encrypt"
	RRWebPKI    Code = "rr-webpki"

	BannerAll      Code = "banner-all"
	BannerObserved Code = "banner-observed"
	BannerSome     Code = "banner-some"
	BannerFailed   Code = "banner-failed"

	ImplicitPort Code = "implicit-port"

	NoHostLeft Code = "no-host-left"
	NoProof    Code = "no-proof"
	Unfinished Code = "unfinished"
	Nothing    Code = "nothing"
)

// Known reports whether a code is one of this release: one that was stored may be another's,
// and has no sentence.
func (c Code) Known() bool {
	switch c {
	case Overridden, OverrideIgnore, MXFailed, MXUnproven, MXNoDomain, MXNull, MXImplicit, MXSecure, MXInsecure,
		MXNotAsked, DNSSECOff, HostFailed, HostNoAddress, HostInsecure, HostUnproven, AliasInsecure, AliasFailed,
		TLSAUsable, TLSAUnusable, TLSAAbsent, TLSAInsecure, TLSAFailed, DANEAll, DANESome, DANERaised, DANERaisedTLS,
		DANENarrowed, DANEOrTLS, DANEEncrypt, DANEInsecureMX, DANENoHost, Fingerprints, NoFingerprints, DANEHidden,
		TLSAUnwritable, EncryptAll, InsecureEncrypt, InsecureUnused, STSOff, STSSkipped, STSAbsent, STSFailed,
		STSBogus, STSUnfinished, STSHeld, STSEnforce, STSTesting, STSNone, STSObserved, STSUnwritable, STSUnlisted,
		PrefixAll, PrefixObserved, PrefixUnsigned, PrefixMixed, TXTAbsent, TXTFailed, TXTUnsigned, TXTInvalid,
		TXTObserved, TXTEncrypt, TXTWebPKI, RRAbsent, RRFailed, RRUnsigned, RRInvalid, RRObserved, RREncrypt,
		RRWebPKI, BannerAll, BannerObserved, BannerSome, BannerFailed, ImplicitPort, NoHostLeft, NoProof, Unfinished,
		Nothing:
		return true
	}
	return false
}

// Reason is a step of a decision: what was found, of whom, and by which rule it
// matters.
type Reason struct {
	Code Code
	// Subject is the name it is about: the destination, a host, a policy domain.
	Subject string
	// Detail is what was seen ("SERVFAIL from 127.0.0.1:53"); may be empty.
	Detail string
}

// Cite returns the section that makes the step count, or "" where the operator
// or this program's own rule does.
func (c Code) Cite() string {
	switch c {
	case MXFailed, TLSAFailed, AliasFailed, HostFailed, DANENoHost, DANEOrTLS, DANEHidden, NoHostLeft:
		return "RFC 7672 §2.1.2"
	case MXUnproven, HostUnproven, NoProof:
		return "RFC 7672 §2.1.1"
	case MXNoDomain, MXImplicit:
		return "RFC 5321 §5.1"
	case MXNull:
		return "RFC 7505 §3"
	case MXSecure, MXInsecure, DANEInsecureMX, InsecureEncrypt, InsecureUnused:
		return "RFC 7672 §2.2.1"
	case MXNotAsked, HostInsecure, HostNoAddress:
		return "RFC 7672 §2.2.2"
	case AliasInsecure, TLSAInsecure:
		return "RFC 7672 §2.1.3"
	case TLSAUsable, TLSAUnusable, TLSAAbsent, DANEAll, DANESome, DANEEncrypt, EncryptAll, NoFingerprints:
		return "RFC 7672 §2.2"
	case Fingerprints, TLSAUnwritable:
		return "RFC 7671 §5.1"
	case DANERaised, DANENarrowed, STSSkipped:
		return "RFC 8461 §2"
	case STSAbsent:
		return "RFC 8461 §3.1"
	case STSFailed, STSUnfinished:
		return "RFC 8461 §3.3"
	case STSBogus:
		return "RFC 4035 §5.5"
	case STSHeld:
		return "RFC 8461 §5.1"
	case STSEnforce, STSTesting, STSNone, STSObserved:
		return "RFC 8461 §5"
	case STSUnwritable, STSUnlisted:
		return "RFC 8461 §4.1"
	case Overridden, OverrideIgnore, DNSSECOff, STSOff, Nothing, Unfinished,
		PrefixAll, PrefixObserved, PrefixUnsigned, PrefixMixed, ImplicitPort, DANERaisedTLS,
		TXTAbsent, TXTFailed, TXTUnsigned, TXTInvalid, TXTObserved, TXTEncrypt, TXTWebPKI,
		RRAbsent, RRFailed, RRUnsigned, RRInvalid, RRObserved, RREncrypt, RRWebPKI,
		BannerAll, BannerObserved, BannerSome, BannerFailed:
		return ""
	}
	panic(fmt.Sprintf("verdict: reason %q has no citation", string(c)))
}

// Text says the reason in a sentence for a postmaster.
func (r Reason) Text() string {
	text := r.Code.sentence()
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

// sentence is what a code means, without its subject and detail.
func (c Code) sentence() string {
	switch c {
	case Overridden:
		return "the operator's override decides"
	case OverrideIgnore:
		return "the operator's override: no policy, whatever the signals say"
	case MXFailed:
		return "the MX lookup failed, so nothing is known of this domain"
	case MXUnproven:
		return "DNSSEC validation does not work here, so nobody can tell whether this domain is signed"
	case MXNoDomain:
		return "the domain does not exist; the MTA will say so itself"
	case MXNull:
		return "a null MX: the domain takes no mail; the MTA will say so itself"
	case MXImplicit:
		return "no MX records: the domain itself is the host"
	case MXSecure:
		return "the MX records are DNSSEC-secure"
	case MXInsecure:
		return "the MX records are not signed"
	case MXNotAsked:
		return "a host, not a domain: no MX lookup"
	case DNSSECOff:
		return "DNSSEC is switched off here: no DANE and no signals from DNS"
	case HostFailed:
		return "the address lookups failed; the host cannot be used"
	case HostNoAddress:
		return "the host has no address; it is passed over"
	case HostInsecure:
		return "its addresses are not signed: no DANE"
	case HostUnproven:
		return "DNSSEC validation does not work here; the host cannot be judged"
	case AliasInsecure:
		return "a CNAME into an unsigned zone, and itself unsigned: no DANE"
	case AliasFailed:
		return "the lookup of its CNAME failed; the host cannot be used"
	case TLSAUsable:
		return "usable TLSA records"
	case TLSAUnusable:
		return "TLSA records, none of them usable: TLS is mandatory there, unauthenticated"
	case TLSAAbsent:
		return "no TLSA records"
	case TLSAInsecure:
		return "TLSA records that are not signed count for nothing"
	case TLSAFailed:
		return "the TLSA lookup failed; the host cannot be used"
	}
	return c.conclusion()
}

// conclusion is the sentence of a code that weighs facts rather than states one.
func (c Code) conclusion() string {
	switch c {
	case DANEAll:
		return "every host that can be used has usable TLSA records"
	case DANESome:
		return "some hosts have TLSA records: each is held to its own"
	case DANERaised:
		return "hosts without usable TLSA records are not used, since another signal demands authentication"
	case DANERaisedTLS:
		return "hosts without usable TLSA records are not used, since another signal demands TLS of all, which no line can say beside DANE"
	case DANEOrTLS:
		return "another signal demands TLS of all hosts, and this one may have TLSA records that could not be looked up: no line can say both"
	case DANENarrowed:
		return "only the hosts that provably have no usable TLSA records may be authenticated by the other signal"
	case DANEEncrypt:
		return "no host has a usable TLSA record, and all have one: TLS is mandatory, unauthenticated"
	case DANEInsecureMX:
		return "hosts have TLSA records, but the MX records are not signed: DANE is used, the delivery is not secure"
	case DANENoHost:
		return "no host is left that DANE allows and whose lookups work"
	case Fingerprints:
		return "Postfix's resolver does not validate: hosts are held to the keys of their TLSA records by fingerprint"
	case NoFingerprints:
		return "Postfix's resolver does not validate, and fingerprints cannot say what this domain asks"
	case DANEHidden:
		return "Postfix's resolver does not validate, and this host may have TLSA records that could not be looked up"
	case TLSAUnwritable:
		return "no usable TLSA record of this host can be written as a fingerprint"
	case EncryptAll:
		return "Postfix's resolver does not validate: TLS is mandatory for every host, unauthenticated, since some have unusable TLSA records"
	case InsecureEncrypt:
		return "all hosts have TLSA records, but the MX records are not signed, and fingerprints cannot say them: TLS is mandatory, unauthenticated"
	case InsecureUnused:
		return "some hosts have TLSA records, but the MX records are not signed, so that nothing was promised, and Postfix's resolver does not validate: DANE is not used"
	case STSOff:
		return "MTA-STS is switched off here"
	case STSSkipped:
		return "DANE decides; MTA-STS was not waited for"
	case STSAbsent:
		return "no MTA-STS policy is announced"
	case STSFailed:
		return "an MTA-STS policy could not be had"
	case STSBogus:
		return "whether there is an MTA-STS policy cannot be known: the signatures of the _mta-sts record, or of its denial, do not hold"
	case STSUnfinished:
		return "whether there is an MTA-STS policy could not be found out yet"
	case STSHeld:
		return "no newer policy could be had; the cached one holds until it expires"
	case STSEnforce:
		return "MTA-STS policy, mode enforce"
	case STSTesting:
		return "MTA-STS policy, mode testing: not enforced"
	case STSNone:
		return "MTA-STS policy, mode none"
	case STSObserved:
		return "MTA-STS is only observed here; enforced it would demand WebPKI certificates"
	case STSUnwritable:
		return "the MTA-STS policy is enforced, and no mx pattern in it could ever match an MX host"
	case STSUnlisted:
		return "this MX host matches no pattern of the MTA-STS policy: it must not get the mail"
	case PrefixAll:
		return "every MX name begins with starttls- or smtps-, and the MX records are signed"
	case PrefixObserved:
		return "every MX name begins with starttls- or smtps-; the prefix is only observed here"
	case PrefixUnsigned:
		return "MX names begin with starttls- or smtps-, but the MX records are not signed: not believed"
	case PrefixMixed:
		return "only some MX names begin with starttls- or smtps-: not believed"
	case TXTAbsent, TXTFailed, TXTUnsigned, TXTInvalid, TXTObserved, TXTEncrypt, TXTWebPKI:
		return c.ofRecord("TXT record", "txt")
	case RRAbsent, RRFailed, RRUnsigned, RRInvalid, RRObserved, RREncrypt, RRWebPKI:
		return c.ofRecord("record of the private type", "rr")
	case BannerAll, BannerObserved, BannerSome, BannerFailed:
		return c.ofBanner()
	case ImplicitPort:
		return "on this port TLS is spoken from the first byte: it is mandatory, whatever else is demanded"
	case NoHostLeft:
		return "the lookups of every host failed"
	case NoProof:
		return "without proof, mail to a domain that may have TLSA records must wait"
	case Unfinished:
		return "no verdict yet"
	case Nothing:
		return "nothing demands more than the MTA's own default"
	}
	panic(fmt.Sprintf("verdict: reason %q has no sentence", string(c)))
}

// ofRecord is the sentence of a code about the TXT record or the record type.
func (c Code) ofRecord(what, word string) string {
	switch strings.TrimPrefix(string(c), word+"-") {
	case "absent":
		return "no " + what + " demands strict TLS"
	case "failed":
		return "the " + what + " that may demand strict TLS could not be looked up"
	case "unsigned":
		return "a " + what + " demands strict TLS, but is not signed: not believed"
	case "invalid":
		return "the " + what + " for strict TLS is not believed"
	case "observed":
		return "a signed " + what + " demands strict TLS; it is only observed here"
	case "encrypt":
		return "a signed " + what + " demands TLS of every host"
	case "webpki":
		return "a signed " + what + " demands TLS, with certificates for the MX names"
	}
	panic(fmt.Sprintf("verdict: reason %q has no sentence", string(c)))
}
