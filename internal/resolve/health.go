package resolve

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tlsverdict/internal/verdict"
)

const (
	// penalty is how long a server that failed is tried after the others.
	penalty = 30 * time.Second
	// probeLife is how long a probe is believed. Watch probes more often; where
	// nobody watches, the next lookup probes first.
	probeLife = 10 * time.Minute
	// healthyPause and sickPause are the time from one probe of Watch to the next;
	// after the first sick one it grows from firstPause, so that a resolver that
	// starts a moment after this program is found at once.
	healthyPause = 5 * time.Minute
	sickPause    = time.Minute
	firstPause   = 2 * time.Second
)

// Health is what the last probes found. The zero value: never probed.
type Health struct {
	// Validates: through at least one server secure answers can be told from insecure
	// ones. Without it every answer is Indeterminate.
	Validates bool
	// Problem says in one line what is wrong with the first server that is not
	// as it should be, and what to do; "" when all are well.
	Problem string
	// Warnings say that the trust anchors will not do for ever, each once.
	Warnings []string
	// Servers are in the configured order.
	Servers []ServerHealth
	// Checked is when the oldest of the probes ended; zero before the first.
	Checked time.Time
}

// ServerHealth is what the last probe of one server found.
type ServerHealth struct {
	Addr netip.AddrPort
	// Answers: it resolves names for us.
	Answers bool
	// Validates: its AD bit is believed, or what it passes on can be validated here.
	Validates bool
	// Disproven: in mode TrustAD, what keeps it from being believed was seen: where it
	// is, or AD missing or set where it must not be. Without it and Validates, answers
	// failed or did not come, and nothing is known of it.
	Disproven bool
	// Problem is why not, and what to do; "" when it is as the mode needs it.
	Problem string
	// Warnings are what the validated keys of the root say about the trust anchors.
	Warnings []string
	// Checked is when the probe ended; zero before the first.
	Checked time.Time
}

// server is one upstream.
type server struct {
	addr  netip.AddrPort
	name  string
	state atomic.Pointer[ServerHealth]
	// until is when its penalty ends, in nanoseconds since 1970.
	until atomic.Int64
	// replies counts questions by what came of them.
	replies [replies]atomic.Uint64
}

func newServer(addr netip.AddrPort) *server {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	srv := &server{addr: addr, name: addr.String()}
	srv.state.Store(&ServerHealth{Addr: addr})
	return srv
}

func (srv *server) health() *ServerHealth     { return srv.state.Load() }
func (srv *server) blame(now time.Time)       { srv.until.Store(now.Add(penalty).UnixNano()) }
func (srv *server) excuse()                   { srv.until.Store(0) }
func (srv *server) lapsed(now time.Time) bool { return now.UnixNano() < srv.until.Load() }

// remoteUnlessSick names the party to a failure that a healthy server only
// passes on.
func (srv *server) remoteUnlessSick() verdict.Fault {
	if h := srv.health(); h.Answers || h.Checked.IsZero() {
		return verdict.Remote
	}
	return verdict.Operator
}

// Health returns what the last probes found, without asking anything.
func (r *Resolver) Health() Health {
	var h Health
	for _, srv := range r.servers() {
		s := *srv.health()
		h.Servers = append(h.Servers, s)
		h.Validates = h.Validates || s.Validates
		if h.Problem == "" {
			h.Problem = s.Problem
		}
		for _, w := range s.Warnings {
			if !slices.Contains(h.Warnings, w) {
				h.Warnings = append(h.Warnings, w)
			}
		}
		if h.Checked.IsZero() || s.Checked.Before(h.Checked) {
			h.Checked = s.Checked
		}
	}
	return h
}

// Probe examines all servers now and returns what it found; a probe that is under
// way is joined. When ctx ends first, the probe goes on, and what is returned is
// what was known before.
func (r *Resolver) Probe(ctx context.Context) Health {
	r.probes.Lock()
	done := r.probing
	if done == nil {
		done = make(chan struct{})
		r.probing = done
		go r.probeAll(context.WithoutCancel(ctx), done)
	}
	r.probes.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return r.Health()
}

// probeAll is bounded by the time-outs of its questions.
func (r *Resolver) probeAll(ctx context.Context, done chan struct{}) {
	var all sync.WaitGroup
	for _, srv := range r.servers() {
		all.Go(func() {
			h := r.scheme.probe(ctx, r, srv)
			h.Addr, h.Checked = srv.addr, r.now()
			if before := srv.state.Swap(&h); h.Validates && !before.Validates {
				r.mended()
			}
		})
	}
	all.Wait()
	r.probes.Lock()
	r.probing = nil
	r.probes.Unlock()
	close(done)
}

// mended lets what did not hold while a server was sick be looked at anew.
func (r *Resolver) mended() {
	if v, ok := r.scheme.(validating); ok {
		v.Forgive()
	}
}

// ready probes where no probe can be believed.
func (r *Resolver) ready(ctx context.Context) {
	oldest := r.now().Add(-probeLife)
	for _, srv := range r.servers() {
		if !srv.health().Checked.After(oldest) {
			r.Probe(ctx)
			return
		}
	}
}

// Watch probes at once and then every five minutes, while something is wrong every
// minute, until ctx ends, and returns its error. It logs changes only.
func (r *Resolver) Watch(ctx context.Context) error {
	var last Health
	warned := make(map[string]time.Time)
	pause := firstPause
	for {
		r.renew(ctx)
		h := r.Probe(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.report(ctx, last, h)
		r.warn(ctx, warned, h.Warnings)
		last = h
		wait := healthyPause
		if h.Problem != "" {
			wait, pause = pause, min(2*pause, sickPause)
		} else {
			pause = firstPause
		}
		timer := time.NewTimer(jitter(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// jitter keeps a fleet from probing in step: between 80 % and 100 % of d.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}

// warn logs what the trust anchors need, each thing once a day.
func (r *Resolver) warn(ctx context.Context, warned map[string]time.Time, warnings []string) {
	for _, w := range warnings {
		if now := r.now(); now.Sub(warned[w]) >= 24*time.Hour {
			warned[w] = now
			r.log.WarnContext(ctx, "the trust anchors need attention", slog.String("problem", w))
		}
	}
}

// report logs a change of health: what it means, and what to do.
func (r *Resolver) report(ctx context.Context, before, now Health) {
	if before.Problem == now.Problem && before.Validates == now.Validates && !before.Checked.IsZero() {
		return
	}
	switch {
	case now.Problem == "":
		r.log.InfoContext(ctx, "name servers are well", slog.Bool("validates", now.Validates))
	case now.Validates:
		r.log.WarnContext(ctx, "a name server cannot be relied on", slog.String("problem", now.Problem))
	default:
		r.log.ErrorContext(ctx, "no name server can be relied on", slog.String("problem", now.Problem))
	}
}
