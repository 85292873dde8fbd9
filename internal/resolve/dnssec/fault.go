package dnssec

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Why is the kind of a failure. The zero value is a defect of this program.
type Why uint8

// The reasons, with the extended DNS error (RFC 8914 §4) that says the same, where
// there is one.
const (
	// Unclassified is never returned.
	Unclassified Why = iota
	// NoReply: the upstream gave no usable answer. It may pass.
	NoReply
	// OverBudget: the destination costs more than is spent on one.
	OverBudget
	// Malformed: the reply contradicts itself or is not of its form.
	Malformed
	// NoSignature: an RRset that must be signed is not (10).
	NoSignature
	// Expired: every signature that could hold is past its time (7).
	Expired
	// NotYet: every signature that could hold is before its time (8).
	NotYet
	// BadSignature: signatures were checked and do not hold (6).
	BadSignature
	// NoKey: keys of the zone came, and none of them could have made a signature, or none
	// is what the DS or trust anchors say (9).
	NoKey
	// NoDenial: that the records do not exist is not proven (12).
	NoDenial
	// Loop: the aliases form a loop, or too long a chain.
	Loop
	// NoKeys: no keys of the zone came at all, though it has DS or trust anchors (9).
	NoKeys
	// NoAnchor: none of the zone's trust anchors has a supported algorithm and digest (5).
	// It is about this program's settings, and never about a destination.
	NoAnchor
)

// String returns the reason in words.
func (w Why) String() string {
	switch w {
	case Unclassified:
		return "unclassified"
	case NoReply:
		return "no reply"
	case OverBudget:
		return "too expensive"
	case Malformed:
		return "malformed"
	case NoSignature:
		return "not signed"
	case Expired:
		return "signature expired"
	case NotYet:
		return "signature not yet valid"
	case BadSignature:
		return "bad signature"
	case NoKey:
		return "no matching key"
	case NoDenial:
		return "denial not proven"
	case Loop:
		return "alias loop"
	case NoKeys:
		return "no keys"
	case NoAnchor:
		return "no usable trust anchor"
	}
	return fmt.Sprintf("why(%d)", uint8(w))
}

// ExtendedError returns the code of RFC 8914 §4 for a reason, or 0 ("other").
func (w Why) ExtendedError() uint16 {
	switch w {
	case NoAnchor:
		return 5
	case BadSignature, Malformed, Loop:
		return 6
	case Expired:
		return 7
	case NotYet:
		return 8
	case NoKey, NoKeys:
		return 9
	case NoSignature:
		return 10
	case NoDenial:
		return 12
	case NoReply:
		return 22
	}
	return 0
}

// Error is why a question has no answer that can be used. It reads
// "dnssec: mx.example.com. A: signature expired: ...".
type Error struct {
	// Why is the kind.
	Why Why
	// Subject is the RRset that it is about: "example.com. DS".
	Subject string
	// Detail says more, in words that a DNS operator uses; it may be empty.
	Detail string
	// Anchor: it went wrong at a trust anchor, before any zone of the destination was
	// reached. Then validation does not work here, and nothing is known about the
	// destination.
	Anchor bool
	// Err is the upstream's error, where there is one.
	Err error

	// doubtful: nobody could be asked again whether it is so. It is not remembered.
	doubtful bool
}

func (e *Error) Error() string {
	s := "dnssec: " + e.Subject + ": " + e.Why.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return clip(s)
}

// mostText bounds a line for people, in octets: a name alone may take a thousand.
const mostText = 1000

// clip makes a text fit for a line of a log.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > mostText {
		s = strings.ToValidUTF8(s[:mostText], "") + "..."
	}
	return s
}

// Unwrap returns the upstream's error.
func (e *Error) Unwrap() error { return e.Err }

// Bogus reports whether the failure says that signatures which are required do not
// hold, rather than that nothing could be learnt.
func (e *Error) Bogus() bool {
	switch e.Why {
	case NoReply, OverBudget, NoAnchor, Unclassified:
		return false
	}
	return !e.Anchor
}

// passing reports a failure of the asker or its moment, which says nothing to others.
func (e *Error) passing() bool { return e.Why == NoReply || e.Why == OverBudget }

var errBudget = errors.New("the destination's budget is spent")
