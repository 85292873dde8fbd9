package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"syscall"

	"tlsverdict/internal/verdict"
)

// Kind is a result type of RFC 8460 §4.3.2.2.
type Kind uint8

const (
	// PolicyFetchError: no policy could be had.
	PolicyFetchError Kind = iota
	// PolicyInvalid: what was had is no policy.
	PolicyInvalid
	// WebPKIInvalid: the policy host's certificate does not hold.
	WebPKIInvalid
)

// String returns the result type as reports write it.
func (k Kind) String() string {
	switch k {
	case PolicyFetchError:
		return "sts-policy-fetch-error"
	case PolicyInvalid:
		return "sts-policy-invalid"
	case WebPKIInvalid:
		return "sts-webpki-invalid"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Error is a fetch that gave no policy.
type Error struct {
	Kind  Kind
	Fault verdict.Fault
	// Detail says in one line what happened, for people.
	Detail string
	cause  error
}

// Error returns "fetch: sts-policy-fetch-error: ...".
func (e *Error) Error() string { return fmt.Sprintf("fetch: %v: %s", e.Kind, e.Detail) }

// Unwrap returns what caused the error; nil when the answer itself is at fault.
func (e *Error) Unwrap() error { return e.cause }

// refuse is the error for an answer that came and must not be used.
func refuse(format string, args ...any) *Error {
	return &Error{Kind: PolicyFetchError, Fault: verdict.Remote, Detail: fmt.Sprintf(format, args...)}
}

// classify turns an error of the exchange into an *Error. ctx is the caller's: when
// that is over the caller gave up, and nobody else is to blame.
func classify(ctx context.Context, op string, err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	e := &Error{Kind: PolicyFetchError, Fault: verdict.Remote, Detail: op + ": " + clip(err.Error()), cause: err}
	var (
		failure *verdict.Failure
		cert    *tls.CertificateVerificationError
		roots   x509.SystemRootsError
	)
	switch {
	case ctx.Err() != nil:
		e.Fault, e.Detail = verdict.Ours, op+": given up by the caller"
	case errors.As(err, &failure):
		e.Fault = failure.Fault
	case errors.As(err, &roots):
		e.Kind, e.Fault = WebPKIInvalid, verdict.Operator
	case errors.As(err, &cert):
		e.Kind = WebPKIInvalid
	case errors.Is(err, context.DeadlineExceeded):
		e.Detail = op + ": no complete answer in time: " + clip(err.Error())
	case localTrouble(err):
		e.Fault = verdict.Operator
	}
	return e
}

// localTrouble reports whether this host could not send: no route, no descriptors.
func localTrouble(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EACCES, syscall.EPERM,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// clip bounds and escapes text that a remote side had a hand in.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		s = s[:most] + "..."
	}
	clean := make([]rune, 0, len(s))
	for _, r := range s {
		if r < ' ' || 0x7f <= r && r <= 0x9f {
			r = '?'
		}
		clean = append(clean, r)
	}
	return string(clean)
}
