package milterd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/nexthop"
	"tlsverdict/postfixmap"
)

// ErrNoVerdict says that nobody could say what holds for a next hop: policyd is not
// there, does not answer in time, or answers something else. Settings.OnError
// decides what becomes of the mail.
var ErrNoVerdict = errors.New("milterd: no verdict")

// An Asker knows, or asks for, the verdict on a next hop. The report is the caller's
// to read and nobody's to change.
type Asker interface {
	Ask(ctx context.Context, d nexthop.Destination) (*explain.Report, error)
	// Warm has the verdict worked out, so that it is known when the MTA, or Ask, asks
	// for it. An error is no more than that it may not be known then.
	Warm(ctx context.Context, d nexthop.Destination) error
}

const (
	// askIdle is how many connections to policyd are kept: as many recipients are
	// asked for at once without dialing.
	askIdle = 16
	// restartTime is how long a policyd that has answered may be away before
	// the milter stops waiting for it, and restartPause how often it is tried.
	restartTime  = 2 * time.Second
	restartPause = 100 * time.Millisecond
)

// Policyd asks a policyd through its socketmap, by the map "json". It is safe for
// concurrent use; make it with NewPolicyd.
type Policyd struct {
	client *postfixmap.Client
	// seen is when it answered last, in nanoseconds of Unix time.
	seen atomic.Int64
}

// NewPolicyd returns an Asker of the policyd at an address. It connects when it is
// asked, and again when a connection is lost.
func NewPolicyd(address postfixmap.Address) *Policyd {
	return &Policyd{client: &postfixmap.Client{Address: address, MaxIdle: askIdle}}
}

// Close closes the connections.
func (p *Policyd) Close() error { return p.client.Close() }

// Ask asks. A policyd that answered a moment ago and cannot be reached is taken to
// be starting again, and waited for a little. Errors wrap ErrNoVerdict.
func (p *Policyd) Ask(ctx context.Context, d nexthop.Destination) (*explain.Report, error) {
	for {
		reply, err := p.client.Lookup(ctx, "json", d.String())
		if err == nil {
			p.seen.Store(time.Now().UnixNano())
			return report(reply)
		}
		if !p.restarting(err) || !pause(ctx, restartPause) {
			return nil, fmt.Errorf("%w: %w", ErrNoVerdict, err)
		}
	}
}

// Warm asks by the map "postfix": an answer there costs policyd next to nothing, a
// report a thousand times as much.
func (p *Policyd) Warm(ctx context.Context, d nexthop.Destination) error {
	_, err := p.client.Lookup(ctx, "postfix", d.String())
	return err
}

// restarting reports whether an error may be a policyd that is just started again.
func (p *Policyd) restarting(err error) bool {
	var op *net.OpError
	lost := errors.As(err, &op) && !op.Timeout() || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	return lost && time.Since(time.Unix(0, p.seen.Load())) < restartTime
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// report reads a reply of the map "json".
func report(reply postfixmap.Reply) (*explain.Report, error) {
	switch reply.Status {
	case postfixmap.StatusOK:
		r := &explain.Report{}
		if err := json.Unmarshal(reply.Data, r); err != nil {
			return nil, fmt.Errorf("%w: the answer is no report: %w", ErrNoVerdict, err)
		}
		return r, nil
	case postfixmap.StatusTemp, postfixmap.StatusTimeout, postfixmap.StatusNotFound, postfixmap.StatusPerm:
		return nil, fmt.Errorf("%w: the answer is %s %s", ErrNoVerdict, reply.Status, reply.Data)
	}
	panic(fmt.Sprintf("milterd: reply status %v", reply.Status))
}
