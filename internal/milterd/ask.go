package milterd

import (
	"context"
	"errors"

	"tlsverdict/internal/nexthop"
)

// ErrNoVerdict says that nobody could say what holds for a next hop: policyd is not
// there, does not answer in time, or answers something else. Settings.OnError
// decides what becomes of the mail.
var ErrNoVerdict = errors.New("milterd: no verdict")

// An Asker knows, or asks for, verdicts on next hops. It is safe for concurrent use.
type Asker interface {
	// Ask returns the verdict on a next hop. Errors wrap ErrNoVerdict, or are the
	// context's.
	Ask(ctx context.Context, d nexthop.Destination) (Verdict, error)
	// Warm has the verdict worked out, so that it is known when the MTA, or Ask, asks
	// for it. An error is no more than that it may not be known then.
	Warm(ctx context.Context, d nexthop.Destination) error
	// Why returns the decisive reason of a verdict that Ask returned, in a line for
	// the sender. It costs far more than Ask. Empty where it is not known now, or
	// is not the sender's business.
	Why(ctx context.Context, d nexthop.Destination, v Verdict) string
}
