package milterd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/nexthop"
	"tlsverdict/postfixmap"
)

const (
	// maxQuestions bounds the questions under way at policyd, and with them the
	// connections. More wait for their turn.
	maxQuestions = 256
	// keptConnections is how many are kept for the next questions.
	keptConnections = 64
	// againTime is how long a question waits before it is asked again on a new
	// connection: one that was kept may lead nowhere any more, without an error.
	againTime = 2 * time.Second
	// restartTime is how long a policyd that cannot be reached is taken to be
	// starting again, and waited for. It is tried after firstPause, and after twice
	// as long each time up to longestPause.
	restartTime  = 2 * time.Second
	firstPause   = 20 * time.Millisecond
	longestPause = 400 * time.Millisecond
	// silentTime is how long a question waits while policyd answers none: long
	// enough to notice that it is back, and no MTA is held up for it.
	silentTime = time.Second
	// oldTime is how long a policyd without the map "verdict" is asked for reports
	// instead before that map is tried again.
	oldTime = 10 * time.Minute
)

// Policyd asks a policyd through its socketmap: by the map "verdict", which costs next
// to nothing, and by "json" for reasons, which costs a thousand times as much. It is
// safe for concurrent use; make it with NewPolicyd.
//
// Each question has a connection of its own while it is under way: policyd answers
// those on one connection in their order, so that a domain that nobody knew yet would
// hold up all behind it.
type Policyd struct {
	client *postfixmap.Client
	log    *slog.Logger
	start  time.Time
	places chan struct{}
	once   sync.Once

	// heard is when it answered last, oldUntil until when it is asked for reports in
	// place of verdicts; both since start.
	heard, oldUntil atomic.Int64
	// troubled says that one of the following is set.
	troubled atomic.Bool
	mu       sync.Mutex
	// away is since when it cannot be reached, silent says that it answers nothing.
	away   time.Time
	silent bool
	// told says that the log tells of it.
	told bool
}

// NewPolicyd returns an Asker of the policyd at an address. It connects when it is
// asked, and again when a connection is lost.
func NewPolicyd(address postfixmap.Address, log *slog.Logger) *Policyd {
	return newPolicyd(&postfixmap.Client{Address: address, MaxIdle: keptConnections}, log)
}

func newPolicyd(client *postfixmap.Client, log *slog.Logger) *Policyd {
	return &Policyd{client: client, log: log, start: time.Now(), places: make(chan struct{}, maxQuestions)}
}

// Close closes the connections.
func (p *Policyd) Close() error { return p.client.Close() }

// Ask asks.
func (p *Policyd) Ask(ctx context.Context, d nexthop.Destination) (Verdict, error) {
	if !p.old() {
		reply, err := p.lookup(ctx, "verdict", d)
		if err != nil {
			return Verdict{}, err
		}
		if !p.unknownMap(reply) {
			return readVerdict(reply)
		}
	}
	r, err := p.report(ctx, d)
	if err != nil {
		return Verdict{}, err
	}
	return Judge(r)
}

// Warm asks and forgets the answer.
func (p *Policyd) Warm(ctx context.Context, d nexthop.Destination) error {
	if p.old() {
		// A report is too much for what nobody waits for.
		_, err := p.lookup(ctx, "postfix", d)
		return err
	}
	reply, err := p.lookup(ctx, "verdict", d)
	if err == nil && p.unknownMap(reply) {
		return p.Warm(ctx, d)
	}
	return err
}

// Why asks for a report.
func (p *Policyd) Why(ctx context.Context, d nexthop.Destination, v Verdict) string {
	if p.old() {
		// The verdict was in a report, with its reason.
		return v.Why
	}
	r, err := p.report(ctx, d)
	if err != nil {
		return ""
	}
	return Why(r, v)
}

func (p *Policyd) report(ctx context.Context, d nexthop.Destination) (*explain.Report, error) {
	reply, err := p.lookup(ctx, "json", d)
	if err != nil {
		return nil, err
	}
	return readReport(reply)
}

// old reports whether this policyd has no map "verdict".
func (p *Policyd) old() bool { return time.Since(p.start) < time.Duration(p.oldUntil.Load()) }

// unknownMap reports whether a reply says that there is no map "verdict", and
// remembers it.
func (p *Policyd) unknownMap(reply postfixmap.Reply) bool {
	if reply.Status != postfixmap.StatusTemp || string(reply.Data) != `unknown map "verdict"` {
		return false
	}
	p.oldUntil.Store(int64(time.Since(p.start) + oldTime))
	p.once.Do(func() {
		p.log.Warn("policyd is older than the milter: it is asked for reports, which costs it far more")
	})
	return true
}

// lookup asks one question. A policyd that cannot be reached is taken to be starting
// again and waited for a little; one that answers nobody is not waited for long.
func (p *Policyd) lookup(ctx context.Context, mapName string, d nexthop.Destination) (postfixmap.Reply, error) {
	ctx, cancel := p.patient(ctx)
	defer cancel()
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return postfixmap.Reply{}, fmt.Errorf("%w: %d questions are under way: %w", ErrNoVerdict, maxQuestions, context.Cause(ctx))
	}
	if over(ctx) {
		return postfixmap.Reply{}, fmt.Errorf("%w: %w", ErrNoVerdict, cmp.Or(context.Cause(ctx), context.DeadlineExceeded))
	}
	began := time.Since(p.start)
	for longest := firstPause; ; longest = min(2*longest, longestPause) {
		reply, err := p.try(ctx, mapName, d.String())
		if err == nil {
			p.answered()
			return reply, nil
		}
		// Between half of it and all, so that those who wait do not come at once.
		if !p.restarting(ctx, began, err) || !pause(ctx, longest/2+rand.N(longest/2)) {
			return postfixmap.Reply{}, fmt.Errorf("%w: %w", ErrNoVerdict, err)
		}
	}
}

// try asks, and once more on a new connection if there is no answer for a while.
func (p *Policyd) try(ctx context.Context, mapName, key string) (postfixmap.Reply, error) {
	first, cancel := context.WithTimeout(ctx, againTime)
	defer cancel()
	reply, err := p.client.Lookup(first, mapName, key)
	if err == nil || !over(first) || over(ctx) {
		return reply, err
	}
	p.client.CloseIdle()
	return p.client.Lookup(ctx, mapName, key)
}

// over reports whether a context has ended, or is about to: a connection that has its
// deadline may be faster.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(end) <= 0
}

// patient bounds how long a question waits while policyd answers none.
func (p *Policyd) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.troubled.Load() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.silent {
			return context.WithTimeout(ctx, silentTime)
		}
	}
	return context.WithCancel(ctx)
}

// answered notes that policyd is there.
func (p *Policyd) answered() {
	p.heard.Store(int64(time.Since(p.start)))
	if !p.troubled.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.silent = time.Time{}, false
	p.troubled.Store(false)
	if p.told {
		p.told = false
		p.log.Info("policyd answers again")
	}
}

// restarting notes why a question that began at some time has no answer, and reports
// whether policyd may be there in a moment.
func (p *Policyd) restarting(ctx context.Context, began time.Duration, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return false
	case over(ctx):
		if time.Duration(p.heard.Load()) > began {
			// Others are answered: it is this destination that takes long.
			return false
		}
		p.silent = true
	case !unreachable(err):
		return false
	default:
		if p.away.IsZero() {
			p.away = time.Now()
		}
		if p.troubled.Store(true); time.Since(p.away) < restartTime {
			return true
		}
	}
	p.troubled.Store(true)
	if !p.told {
		p.told = true
		p.log.Warn("policyd does not answer", "error", err)
	}
	return false
}

// unreachable reports whether an error is that of a policyd that is not there.
func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
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

// readReport reads a reply of the map "json".
func readReport(reply postfixmap.Reply) (*explain.Report, error) {
	data, err := found(reply)
	if err != nil {
		return nil, err
	}
	r := &explain.Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%w: the answer is no report: %w", ErrNoVerdict, err)
	}
	return r, nil
}

// found returns the data of a reply that has some.
func found(reply postfixmap.Reply) ([]byte, error) {
	switch reply.Status {
	case postfixmap.StatusOK:
		return reply.Data, nil
	case postfixmap.StatusTemp, postfixmap.StatusTimeout, postfixmap.StatusNotFound, postfixmap.StatusPerm:
		return nil, fmt.Errorf("%w: the answer is %s %s", ErrNoVerdict, reply.Status, reply.Data)
	}
	panic(fmt.Sprintf("milterd: reply status %v", reply.Status))
}

// readVerdict reads a reply of the map "verdict": a name, and words that say more of it,
// of which those that are not known here are passed over.
func readVerdict(reply postfixmap.Reply) (Verdict, error) {
	data, err := found(reply)
	if err != nil {
		return Verdict{}, err
	}
	name, rest, _ := strings.Cut(string(data), " ")
	var source, fault string
	observed := false
	for _, word := range strings.Fields(rest) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "source":
			source = value
		case "fault":
			fault = value
		case "mode":
			// There is one mode now. Whatever another one is, the MTA is not
			// told what it would be told without.
			observed = true
		}
	}
	v, err := NewVerdict(name, source)
	if err != nil {
		return Verdict{}, err
	}
	v.Fault = fault
	if observed {
		v = v.Observed()
	}
	return v, nil
}
