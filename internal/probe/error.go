package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"tlsverdict/internal/verdict"
)

// ErrRefused: the address is not one that may be connected to on a stranger's word: it is
// not public, or this host's own. Nothing was sent to it.
var ErrRefused = errors.New("probe: this address is not connected to")

// ErrNotOffered: the host speaks SMTP and does not offer STARTTLS.
var ErrNotOffered = errors.New("probe: STARTTLS is not offered")

// errVisited: the address was visited a moment ago.
var errVisited = errors.New("probe: the address was visited a moment ago")

// Stage is how far a probe came.
type Stage uint8

const (
	// Internal: a defect of this program.
	Internal Stage = iota
	// Lookup: its addresses or TLSA records are not known.
	Lookup
	// Connect: no address took a connection.
	Connect
	// Handshake: it does not speak TLS, or not so that both sides understand.
	Handshake
	// Certificate: the certificate does not hold.
	Certificate
	// Dialogue: what it says is not what a mail server says that takes mail.
	Dialogue
)

// String is the stage's word in logs and reports.
func (s Stage) String() string {
	switch s {
	case Internal:
		return "internal"
	case Lookup:
		return "lookup"
	case Connect:
		return "connect"
	case Handshake:
		return "handshake"
	case Certificate:
		return "certificate"
	case Dialogue:
		return "dialogue"
	}
	return fmt.Sprintf("stage(%d)", uint8(s))
}

// Error is why a host has not proved itself.
type Error struct {
	Stage Stage
	Fault verdict.Fault
	// Detail says in one line what happened, for people.
	Detail string
	// again is set where nothing was found out, because it was not tried: how long
	// to wait with that.
	again time.Duration
	cause error
}

// Error returns "probe: connect: ...".
func (e *Error) Error() string { return fmt.Sprintf("probe: %v: %s", e.Stage, e.Detail) }

// Unwrap returns what caused the error, if anything did.
func (e *Error) Unwrap() error { return e.cause }

// Silent reports whether the probe says nothing of the host: it could not be made.
func (e *Error) Silent() bool { return e.Fault != verdict.Remote }

// fail makes an Error of what went wrong at a stage.
func fail(stage Stage, cause error) *Error {
	var known *Error
	if errors.As(cause, &known) {
		return known
	}
	e := &Error{Stage: stage, Fault: verdict.Remote, Detail: clip(cause.Error()), cause: cause}
	var failure *verdict.Failure
	switch {
	case errors.As(cause, &failure):
		e.Fault = failure.Fault
	case localTrouble(cause):
		e.Fault = verdict.Operator
	case errors.Is(cause, context.DeadlineExceeded), errors.Is(cause, os.ErrDeadlineExceeded):
		e.Detail = "no complete answer in time"
	}
	return e
}

// localTrouble reports whether this host could not send: no route, no descriptors.
func localTrouble(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EACCES, syscall.EPERM,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// clip bounds text that a stranger had a hand in, and makes one line of it.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || 0x7f <= r && r <= 0x9f || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
