package verdict

import (
	"fmt"
	"time"
)

// Proof is the DNSSEC status of an answer (RFC 4033 §5). The zero value is the
// least trusted one: an answer that nobody proved anything about.
type Proof uint8

const (
	// Indeterminate: nothing could be proven, because no validator works here
	// or no trust anchor covers the name. It is never read as Insecure.
	Indeterminate Proof = iota
	// Bogus: signatures were required and do not hold.
	Bogus
	// Insecure: a signed parent proves that the zone is not signed.
	Insecure
	// Secure: the chain of trust holds from an anchor to this answer.
	Secure
)

// String returns the status in the words of RFC 4033 §5.
func (p Proof) String() string {
	switch p {
	case Indeterminate:
		return "indeterminate"
	case Bogus:
		return "bogus"
	case Insecure:
		return "insecure"
	case Secure:
		return "secure"
	}
	return fmt.Sprintf("proof(%d)", uint8(p))
}

// Least returns the less trusted of two proofs: what a conclusion drawn from
// both is worth.
func Least(a, b Proof) Proof {
	return min(a, b)
}

// Outcome is what became of a DNS question. The zero value means that it was
// never asked, which is not the same as absent: deciding on it panics.
type Outcome uint8

const (
	// Unasked: the question was never put.
	Unasked Outcome = iota
	// Failed: no usable answer: time-out, SERVFAIL, bogus, malformed.
	Failed
	// NXDomain: the name does not exist.
	NXDomain
	// NoData: the name exists, but not with this type.
	NoData
	// Found: there is at least one record.
	Found
)

// String names the outcome as DNS operators do.
func (o Outcome) String() string {
	switch o {
	case Unasked:
		return "unasked"
	case Failed:
		return "failed"
	case NXDomain:
		return "nxdomain"
	case NoData:
		return "nodata"
	case Found:
		return "found"
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Answer is the answer to one DNS question, with its proof. The outcomes other than
// Failed have Proof Indeterminate only where no validator works, so that their records
// may be read but prove nothing. Failed is never Secure. Indeterminate says no more than
// that, Bogus that an answer came and does not hold. Insecure, which only address lookups
// have, says that the name itself is in a zone that a signed parent proves unsigned: what
// the answer would be is not known, but it would be insecure.
type Answer[T any] struct {
	Outcome Outcome
	Proof   Proof
	// Records are in the order of the answer; empty unless Found.
	Records []T
	// Canonical is the owner name at the end of the CNAME chain, in lower case
	// and without a trailing dot; empty when the name is not an alias.
	Canonical string
	// TTL is how long the answer may be kept, counted from when it was asked.
	TTL time.Duration
	// Failure says what went wrong; nil unless Failed.
	Failure *Failure
	// Trail is how the proof was reached, or where it broke; nil where nobody
	// validated here. No decision rests on it.
	Trail Trail
}

// Trail tells a proof to people.
type Trail interface {
	// Steps are its links, one line each, from the trust anchor to the answer.
	Steps() []string
	// Signatures are those on which the proof stands, in the same order; not those of
	// denials.
	Signatures() []Signature
}

// Signature is when what shows something ends to be valid.
type Signature struct {
	// Subject is the record set: "example.com. DNSKEY". Of a delegation it stands for
	// the DS records as well.
	Subject string
	Expires time.Time
}

// Exists reports whether records were found. It panics for an answer that was
// never asked for, since absence must be proven, not assumed.
func (a Answer[T]) Exists() bool {
	a.asked()
	return a.Outcome == Found
}

// Absent reports whether the answer denies the records. A failure is not a
// denial (RFC 7672 §2.1.2). It panics for an answer that was never asked for.
func (a Answer[T]) Absent() bool {
	a.asked()
	return a.Outcome == NXDomain || a.Outcome == NoData
}

// Broken reports whether the lookup failed. It panics for an answer that was
// never asked for.
func (a Answer[T]) Broken() bool {
	a.asked()
	return a.Outcome == Failed
}

// Alias reports whether the question's name is a CNAME.
func (a Answer[T]) Alias() bool { return a.Canonical != "" }

func (a Answer[T]) asked() {
	if a.Outcome == Unasked {
		panic(fmt.Sprintf("verdict: a decision on an answer of type %T that was never asked for", a))
	}
}

// Fault says who can mend a failure. The zero value is ours: a failure that
// nobody classified is a defect of this program.
type Fault uint8

const (
	// Ours: this program or its limits.
	Ours Fault = iota
	// Operator: this host's resolver, clock, configuration or network.
	Operator
	// Remote: the destination's DNS, policy host or certificates.
	Remote
)

// String names the party.
func (f Fault) String() string {
	switch f {
	case Ours:
		return "tlsverdict"
	case Operator:
		return "operator"
	case Remote:
		return "remote"
	}
	return fmt.Sprintf("fault(%d)", uint8(f))
}

// Failure is a lookup that did not give a usable answer: whose fault it is, and
// in one line what happened ("SERVFAIL from 127.0.0.1:53"), for people.
type Failure struct {
	Fault  Fault
	Detail string
}

// Error makes a Failure usable as an error.
func (f *Failure) Error() string { return f.Detail }

// Fail returns the answer of a failed lookup.
func Fail[T any](fault Fault, detail string) Answer[T] {
	return Answer[T]{Outcome: Failed, Failure: &Failure{Fault: fault, Detail: detail}}
}
