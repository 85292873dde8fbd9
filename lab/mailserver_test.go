package lab

import (
	"context"
	"testing"
)

// mailServer is a program under test. There is one implementation each for
// Postfix, Exim and Sendmail; what they have in common is in box.
//
// For each setup come install, clean, start, then any number of mails and flushes;
// what start has started ends with its test.
type mailServer interface {
	// install writes the configuration for a setup, made of contrib's files as an
	// administrator would use them. Nothing runs, and the lab's CA is in
	// /etc/ssl/certs/ca-certificates.crt. It may run programs of the machine (m4,
	// make, postmap).
	install(ctx context.Context, s setup) error

	// clean removes mail, logs, and all memory of other hosts. Nothing runs.
	clean() error

	// start runs the program, and returns when it takes mail on port 25 of
	// 127.0.0.1, from anybody there to anywhere. Mail must be tried at once, each
	// message by itself, and after that not again before it is told to. policyd is
	// up already.
	start(ctx context.Context, t *testing.T)

	// flush makes it try everything again at once that it has deferred, whatever it
	// remembers of the hosts.
	flush(ctx context.Context) error

	// attempts returns what its log says of the attempts to deliver to a recipient,
	// the oldest first. A log that is not there yet has none.
	attempts(recipient string) []attempt
}

// newMailServer returns the program of a machine, nil where the lab has none for it.
func newMailServer(b box) mailServer {
	switch b.server() {
	case "postfix":
		return postfix{b}
	case "sendmail":
		return sendmail{b}
	case "exim":
		return exim{b}
	}
	return nil
}

// attempt is what a mail server has logged about one attempt to deliver to one
// recipient.
type attempt struct {
	recipient string
	status    string   // sent, deferred, bounced
	said      string   // where it was sent: how well protected by the program's own account
	lines     []string // every line that tells why: TLS, warnings, and the result at the end
}

// attempt.said is one of these.
const (
	clear         = "clear"
	encrypted     = "encrypted"     // TLS, to whom does not matter
	authenticated = "authenticated" // TLS, and the certificate is one that the policy asked for
)
