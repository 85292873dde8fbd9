package lint

import (
	"crypto/x509"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// Evidence is what was learned of a domain. What was not asked is Unasked, and gives
// the finding that it is not known.
type Evidence struct {
	// Facts are the MX records and the hosts, gathered with DNSSEC and without MTA-STS.
	Facts verdict.Facts
	// Hosts are about Facts.Hosts, in the same order.
	Hosts []Host
	STS   STS
	// Reports are the TXT records of _smtp._tls (RFC 8460 §3).
	Reports verdict.Answer[string]
	// Strict are the TXT records of _smtp-strict.
	Strict verdict.Answer[string]
	// StrictType are the records of the type StrictNumber at the domain, with the same
	// text; each is the octets of its data (package signal).
	StrictType   verdict.Answer[string]
	StrictNumber uint16
}

// Host is what a sender does not ask about an MX host.
type Host struct {
	// Unsigned is what stands where TLSA records belong while the host's addresses
	// are not secure, so that nobody asks for them; unasked where they are.
	Unsigned verdict.Answer[tlsa.Record]
	// Misplaced are the places where nobody looks.
	Misplaced []Misplaced
	// Port25 is what the host answered there, Implicit on the port for implicit TLS;
	// nil if it was not probed.
	Port25, Implicit *Probe
}

// Misplaced is a question for TLSA records at a wrong name.
type Misplaced struct {
	Owner  string
	Answer verdict.Answer[tlsa.Record]
}

// Probe is one connection to a mail server.
type Probe struct {
	// Port is that of the connection.
	Port uint16
	// Failure is why there was no answer; empty if there was one. Then the rest is
	// empty but for what was learnt before.
	Failure string
	// Offered: EHLO offered STARTTLS, or the port needs none.
	Offered bool
	// Version is that of TLS, as crypto/tls has it; 0 where no handshake ended.
	Version uint16
	// Chain is what the server sent.
	Chain []*x509.Certificate
	// Untrusted is why the chain does not lead to a root here; empty if it does.
	Untrusted string
}

// STS is what a domain publishes for RFC 8461.
type STS struct {
	// Record is the answer for _mta-sts.
	Record verdict.Answer[string]
	// Policy is what was fetched; nil if nothing was, and why then stands in Failure.
	Policy *mtasts.Policy
	// Result is the result type of RFC 8460 §4.3.2.2 of a failed fetch.
	Result, Failure string
	// Expires is when the policy host's certificate ends; zero where it is not known.
	Expires time.Time
}
