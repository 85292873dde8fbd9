// Package engine keeps rulings and works out new ones.
//
//	e, err := engine.New(engine.Config{Gather: gatherer.Facts, ...})
//	if err != nil { ... }
//	defer e.Close()
//	ruled := e.Rule(ctx, destination)
//
// Rule answers from a cache, or joins the flight that works the destination out.
// A flight has a context of its own: when its askers give up, the work goes on
// for the next one. A verdict ends with what it rests on (but, fingerprints apart,
// not before Config.MinTTL): near its end the next hit starts a new flight, and
// while that fails the old verdict holds to its end and not beyond.
//
// What is promised:
//
//   - a hit takes no lock that a miss can hold, logs nothing above debug, and
//     allocates nothing;
//   - at most Config.Flights destinations are worked out at once, and
//     waitingPerFlight times as many wait; more are told to come back. The places
//     are shared between clients (fairqueue.WithClient), so that one who asks for
//     everything leaves others theirs. They begin a few at a time, so that hits
//     find a processor;
//   - a failure is kept for 30 to 60 seconds, so that a dead name server is not
//     asked for every message; a strict verdict that was reached beside one is
//     kept longer, and worked out anew as often;
//   - no verdict is replaced by a laxer one that a failure is behind;
//   - fingerprints are never kept longer than the TLSA records that they are of;
//   - a defect that panics defers mail of the one destination that has it.
//
// The package does not know how an MTA asks or what it is answered.
package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"tlsverdict/internal/fairqueue"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tally"
	"tlsverdict/internal/verdict"
)

const (
	// waitingPerFlight is how many destinations may wait for each flight under way.
	waitingPerFlight = 16
	// startsPerCPU is how many flights may be in their beginning at once, for each
	// processor. While a resolver answers at once, a flight is work for the processor
	// and nothing else: hundreds of them would each time be in front of a hit, and no
	// faster for it. One that waits for the network has begun after startTime. But what
	// comes more than startLate after its time waited for a processor, and so may the
	// flight: then it is looked at again, startTries times.
	startsPerCPU = 4
	startTime    = 10 * time.Millisecond
	startLate    = time.Millisecond
	startTries   = 10
	// refusedPause is how long an asker waits who is told to come back because too many
	// are waiting, so that who comes back at once is not all that there is to do.
	refusedPause = 3 * time.Second
	// flightTime bounds a flight; it is longer than any asker waits, so that a
	// slow answer serves the next one.
	flightTime = 45 * time.Second
	// explanations is how many rulings are kept with all their facts, for those
	// who ask why; the other rulings are gathered anew when asked.
	explanations = 2048
	// explanationUnit is the size, in bytes, that counts as one explanation: one
	// of a domain with thousands of MX records takes the room of many.
	explanationUnit = 16 << 10
	// entryUnit is the same for verdicts.
	entryUnit = 512
	// beside is how long a strict verdict that was reached beside a failure may
	// be kept: longer than an MTA waits to try again, so that a destination that
	// is always slow is not always unknown.
	beside = 15 * time.Minute
)

// Config is what an Engine works with.
type Config struct {
	// Gather learns the facts of a destination; fairqueue.Client tells it on whose
	// account. Required.
	Gather func(context.Context, nexthop.Destination) verdict.Facts
	// Override returns the operator's word for a name, or nil. Optional.
	Override func(name string) *verdict.Override
	Rules    verdict.Rules
	// Enforcement returns how the MTA can hold a host to its TLSA records. It is
	// asked for each decision, and takes the place of Rules.DANE; whoever changes
	// it calls Reconsider. It may wait until that is known, within the bounds of
	// ctx. Optional: then what Gather returns holds.
	Enforcement func(ctx context.Context) verdict.Enforcement
	// Observe says that MTAs are told of no policy, so that every verdict is one that
	// is only observed.
	Observe bool
	// Told is told of each ruling with hosts that promise implicit TLS, once Cached
	// has it. It must not wait, nor call the engine but for Cached and Prepare.
	// Optional.
	Told func(nexthop.Destination, Ruled)
	// Ruled is told of each ruling that was worked out, once it is kept. It must not
	// wait, nor change anything, nor call the engine but for Raise. Optional.
	Ruled func(*Explanation)
	// Entries bounds the cache. Required.
	Entries int
	// MinTTL and MaxTTL bound how long a verdict is kept.
	MinTTL, MaxTTL time.Duration
	// RefreshAhead says that a verdict in use is worked out anew before it ends.
	RefreshAhead bool
	// Flights bounds the destinations worked out at once. Required.
	Flights int
	// Log is required.
	Log *slog.Logger
}

// Ruled is a verdict as the MTA's side needs it.
type Ruled struct {
	Verdict verdict.Verdict
	Source  verdict.Source
	// Until is when the verdict ends.
	Until time.Time
	// ByEnforcement says that Reconsider drops it: see verdict.Ruling.
	ByEnforcement bool
	// Beside is that of the ruling. It is shared and must not be changed.
	Beside *verdict.Beside
}

// Explanation is a ruling with everything that it rests on. It is shared and must
// not be changed.
type Explanation struct {
	Facts  verdict.Facts
	Ruling verdict.Ruling
	// InForce is the verdict that is answered: this ruling's, or an earlier one
	// that still holds because this one met a failure.
	InForce Ruled
	// Took is how long the facts took to gather.
	Took time.Duration
}

// entry is a kept verdict. Only renewal changes after it is stored. There may be a
// million: times are those of Engine.clock, a third of a time.Time and nothing that the
// garbage collector has to follow. One more word, and each takes 64 bytes in place of 48.
type entry struct {
	verdict verdict.Verdict
	beside  *verdict.Beside
	// until is when it ends, refresh when a hit should start a new flight.
	until, refresh time.Duration
	source         verdict.Source
	byEnforcement  bool
	renewal        atomic.Uint32
}

// What entry.renewal says.
const (
	// atRefresh: the first hit after entry.refresh starts a new flight.
	atRefresh uint32 = iota
	// atOnce: the next hit does.
	atOnce
	// claimed: one did.
	claimed
	// gone: the cache has it no more.
	gone
)

// renew reports whether the caller, and nobody else, is to start a flight.
func (n *entry) renew(now time.Duration) bool {
	switch n.renewal.Load() {
	case atRefresh:
		return now >= n.refresh && n.renewal.CompareAndSwap(atRefresh, claimed)
	case atOnce:
		return n.renewal.CompareAndSwap(atOnce, claimed)
	}
	return false
}

// Engine rules on destinations. It is safe for concurrent use.
type Engine struct {
	cfg Config
	// start is where the clock begins. It has a monotonic reading, so that setting the
	// wall clock neither prolongs nor ends a verdict.
	start   time.Time
	cache   *verdicts
	why     *otter.Cache[nexthop.Destination, *Explanation]
	flights singleflight.Group
	places  *fairqueue.Queue
	starts  *fairqueue.Queue
	// epoch counts the calls of Forget and Reconsider: a flight that began before
	// one may rest on what was forgotten, and is not kept.
	epoch atomic.Uint64
	// ports are those that were ever asked for.
	ports portSet
	// crowd limits the records of refused flights.
	crowd  rate.Sometimes
	base   context.Context
	stop   context.CancelFunc
	counts counters
	// seen is told of each ruling.
	seen *observer
}

type counters struct {
	// hits are counted by all processors at once.
	hits                                                   *tally.Tally
	misses, joined, lost, refreshes, flights, busy, panics atomic.Uint64
	rulings                                                rulings
}

// Stats is a snapshot of an Engine's counters.
type Stats struct {
	// Hits found a verdict in force, Misses did not. Of those, Joined had another's flight to
	// wait for, and Lost ended before it did.
	Hits, Misses, Joined, Lost uint64
	// Flights worked a destination out, Refreshes among them before its verdict ended; Busy
	// had no place, and Panics met a defect.
	Flights, Refreshes, Busy, Panics uint64
	// Rulings counts what was worked out, by verdict and source; Deferrals those that defer,
	// by the decisive reason and whose fault it is.
	Rulings   map[RulingKind]uint64
	Deferrals map[DeferralKind]uint64
	// Observed are the rulings that would have been answered otherwise if nothing were
	// only observed. Signals counts the rulings that tell of a signal without a
	// standard, believed or not, by reason.
	Observed uint64
	Signals  map[verdict.Code]uint64
	// Entries is about how many verdicts are kept, Evicted how many were dropped before
	// their time to make room.
	Entries int
	Evicted uint64
}

// New returns an Engine; Close ends it.
func New(cfg Config) (*Engine, error) {
	e := &Engine{cfg: cfg, start: time.Now(), crowd: rate.Sometimes{Interval: 10 * time.Second}}
	e.places = fairqueue.New(cfg.Flights, waitingPerFlight*cfg.Flights)
	e.counts.hits = tally.New(1)
	e.starts = fairqueue.New(startsPerCPU*runtime.GOMAXPROCS(0), cfg.Flights)
	var err error
	e.base, e.stop = context.WithCancel(context.Background())
	e.cache, err = newVerdicts(e.base, cfg.Entries, e.start, func(n *entry) uint32 {
		return weight(size(n.verdict)+besideSize(n.beside), entryUnit, cfg.Entries)
	})
	if err != nil {
		e.stop()
		return nil, err
	}
	e.why, err = otter.New(&otter.Options[nexthop.Destination, *Explanation]{
		MaximumWeight: uint64(min(explanations, cfg.Entries)),
		Weigher: func(_ nexthop.Destination, x *Explanation) uint32 {
			return weight(x.size(), explanationUnit, min(explanations, cfg.Entries))
		},
	})
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("engine: cache of explanations: %w", err)
	}
	if e.seen, err = newObserver(cfg.Observe, cfg.Log); err != nil {
		return nil, fmt.Errorf("engine: cache of what was observed: %w", err)
	}
	return e, nil
}

// Close ends the flights under way; their askers are told to come back.
func (e *Engine) Close() {
	e.stop()
	e.cache.close()
	e.why.StopAllGoroutines()
	e.seen.said.StopAllGoroutines()
}

// Stats returns the counters.
func (e *Engine) Stats() Stats {
	s := Stats{
		Hits: e.counts.hits.Load(0), Misses: e.counts.misses.Load(), Joined: e.counts.joined.Load(), Lost: e.counts.lost.Load(),
		Flights: e.counts.flights.Load(), Refreshes: e.counts.refreshes.Load(), Busy: e.counts.busy.Load(), Panics: e.counts.panics.Load(),
		Entries: e.cache.size(), Evicted: e.cache.evicted.Load(),
	}
	s.Rulings, s.Deferrals = e.counts.rulings.copy()
	e.seen.stats(&s)
	return s
}

// Rule returns how strict TLS must be for d. When ctx ends first the answer is a
// deferral that is not kept. fairqueue.WithClient says in ctx who asks.
func (e *Engine) Rule(ctx context.Context, d nexthop.Destination) Ruled {
	if r, ok := e.Cached(d); ok {
		return r
	}
	e.counts.misses.Add(1)
	return e.join(ctx, d).InForce
}

// Cached returns the verdict that is in force, if one is known. It never waits.
func (e *Engine) Cached(d nexthop.Destination) (Ruled, bool) {
	n, now, ok := e.cache.get(d)
	if !ok {
		return Ruled{}, false
	}
	e.hit(d, n, now)
	return e.ruled(n), true
}

// hit counts a question for a known verdict, and has it renewed when it is time to.
func (e *Engine) hit(d nexthop.Destination, n *entry, now time.Duration) {
	e.counts.hits.Add(0)
	if e.cfg.RefreshAhead && n.renew(now) {
		e.counts.refreshes.Add(1)
		// The refresh is the program's own idea, and on nobody's account.
		_, _ = e.fly(d, "")
	}
}

// Prepare has d worked out, unless it is known or under way, and does not wait.
// fairqueue.WithClient says in ctx on whose account.
func (e *Engine) Prepare(ctx context.Context, d nexthop.Destination) {
	if _, ok := e.Cached(d); !ok {
		_, _ = e.fly(d, fairqueue.Client(ctx))
	}
}

// clock is the time since the engine's start.
func (e *Engine) clock() time.Duration { return time.Since(e.start) }

// ruled is what an entry tells the MTA's side.
func (e *Engine) ruled(n *entry) Ruled {
	return Ruled{Verdict: n.verdict, Source: n.source, Until: e.start.Add(n.until), ByEnforcement: n.byEnforcement, Beside: n.beside}
}

// Explain returns the ruling on d with its facts: the one in force while those
// are still known, else one worked out anew, which is kept.
func (e *Engine) Explain(ctx context.Context, d nexthop.Destination) *Explanation {
	if x, ok := e.why.GetIfPresent(d); ok && time.Now().Before(x.InForce.Until) {
		return x
	}
	return e.join(ctx, d)
}

// Forget drops what is kept of a name, as a domain and as a host, on every port that
// was ever asked for, because it is known to have changed. A flight under way is not kept.
func (e *Engine) Forget(name string) {
	e.epoch.Add(1)
	for port := range e.ports.all() {
		for _, host := range []bool{false, true} {
			e.forget(nexthop.Destination{Name: name, Port: port, Host: host})
		}
	}
}

// Reconsider drops every verdict that rests on how the MTA enforces DANE, because
// that has changed. A flight under way is not kept.
func (e *Engine) Reconsider() {
	e.epoch.Add(1)
	for d, n := range e.cache.all() {
		if n.byEnforcement {
			e.forget(d)
		}
	}
	for d, x := range e.why.All() {
		if x.InForce.ByEnforcement || x.Ruling.ByEnforcement {
			e.forget(d)
		}
	}
}

// Learned says that a domain has an MTA-STS policy that was not known before, or
// another one. A verdict of DANE did not wait for it: the next hit works it out anew.
func (e *Engine) Learned(domain string) {
	for _, host := range []bool{false, true} {
		d := nexthop.Destination{Name: domain, Port: nexthop.SMTPPort, Host: host}
		if n, _, ok := e.cache.get(d); ok && n.source == verdict.FromDANE {
			n.renewal.CompareAndSwap(atRefresh, atOnce)
		}
	}
}

// Drop drops every verdict that rests on a source, because less may be demanded than was
// known. A flight under way is not kept.
func (e *Engine) Drop(source verdict.Source) {
	e.epoch.Add(1)
	for d, n := range e.cache.all() {
		if n.source == source {
			e.forget(d)
		}
	}
}

// Raise says that more may be demanded of a name than was known. What demands less than
// certificates of all hosts is dropped; flights under way are kept.
func (e *Engine) Raise(name string) {
	for port := range e.ports.all() {
		for _, host := range []bool{false, true} {
			d := nexthop.Destination{Name: name, Port: port, Host: host}
			if n, _, ok := e.cache.get(d); ok && verdict.Strictness(n.verdict) < verdict.Strictness(verdict.WebPKI{}) {
				e.forget(d)
			}
		}
	}
}

func (e *Engine) forget(d nexthop.Destination) {
	e.flights.Forget(d.String())
	e.cache.drop(d)
	e.why.Invalidate(d)
}

// fly starts a flight for d on a client's account, unless one is under way. When the result
// is there, own says whether it was started.
func (e *Engine) fly(d nexthop.Destination, client string) (landed <-chan singleflight.Result, own *bool) {
	e.ports.add(d.Port)
	own = new(bool)
	return e.flights.DoChan(d.String(), func() (any, error) {
		*own = true
		return e.work(d, client), nil
	}), own
}

// join waits for the flight of d.
func (e *Engine) join(ctx context.Context, d nexthop.Destination) *Explanation {
	landed, own := e.fly(d, fairqueue.Client(ctx))
	select {
	case r := <-landed:
		if !*own {
			e.counts.joined.Add(1)
		}
		return r.Val.(*Explanation)
	case <-ctx.Done():
		e.counts.lost.Add(1)
		e.cfg.Log.Info("an asker could not wait for a ruling and was told to come back", "dest", d.String())
		return e.unkept(d, verdict.Defer{Fault: verdict.Remote, Text: d.Name + " is not worked out yet; the lookups go on, ask again"})
	}
}

// work is a flight: gather, decide, keep, say.
func (e *Engine) work(d nexthop.Destination, client string) (x *Explanation) {
	epoch := e.epoch.Load()
	defer func() {
		if r := recover(); r != nil {
			e.counts.panics.Add(1)
			e.cfg.Log.Error("a defect in tlsverdict defers mail of one destination", "dest", d.String(), "panic", r, "stack", string(debug.Stack()))
			x = e.nothing(d, "internal error while working out "+d.Name, epoch)
		}
	}()
	if e.places.Enter(e.base, client) != nil {
		e.counts.busy.Add(1)
		e.crowd.Do(func() {
			e.cfg.Log.Warn("too many destinations are being worked out; some askers are told to come back", "dest", d.String(), "refused", e.counts.busy.Load())
		})
		if client != "" {
			e.pause(refusedPause)
		}
		return e.nothing(d, "too many destinations are being worked out; ask again", epoch)
	}
	defer e.places.Leave(client)
	if e.starts.Enter(e.base, client) != nil {
		return e.nothing(d, "policyd stops; ask again", epoch)
	}
	defer e.begin(client)()
	e.counts.flights.Add(1)
	start := time.Now()
	x = &Explanation{Facts: e.facts(d, client)}
	if e.cfg.Enforcement != nil && x.Facts.Override == nil {
		x.Facts.Rules.DANE = e.cfg.Enforcement(e.base)
	}
	x.Took = time.Since(start)
	x.Ruling = verdict.Decide(x.Facts)
	e.keep(d, x, epoch)
	e.counts.rulings.count(&x.Ruling)
	e.say(d, x)
	e.seen.see(d, &x.Ruling)
	if e.cfg.Ruled != nil {
		e.cfg.Ruled(x)
	}
	return x
}

// beginning is the place of a flight among those that begin.
type beginning struct {
	engine *Engine
	client string

	mu    sync.Mutex
	timer *time.Timer
	due   time.Time
	tries int
	over  bool
}

// begin takes note that a flight begins. The function that it returns gives its place
// back, if that was not done when the flight had begun.
func (e *Engine) begin(client string) (end func()) {
	b := &beginning{engine: e, client: client, due: time.Now().Add(startTime), tries: startTries}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = time.AfterFunc(startTime, b.look)
	return b.end
}

// look ends the beginning after its time, unless it was too late to tell.
func (b *beginning) look() {
	b.mu.Lock()
	late := time.Since(b.due) > startLate
	if late && b.tries > 0 && !b.over {
		b.tries--
		b.due = time.Now().Add(startTime)
		b.timer.Reset(startTime)
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	b.end()
}

func (b *beginning) end() {
	b.mu.Lock()
	was := b.over
	b.over = true
	b.timer.Stop()
	b.mu.Unlock()
	if !was {
		b.engine.starts.Leave(b.client)
	}
}

// pause waits, unless the engine is closed.
func (e *Engine) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.base.Done():
	}
}

// nothing ends a flight that came to nothing by our fault. A refresh is tried
// again, and the verdict that it was for holds.
func (e *Engine) nothing(d nexthop.Destination, text string, epoch uint64) *Explanation {
	x := e.unkept(d, verdict.Defer{Fault: verdict.Ours, Text: text})
	now := e.clock()
	if old, _, ok := e.cache.get(d); ok {
		x.InForce = e.ruled(old)
		e.set(d, postponed(old, now), epoch)
	}
	return x
}

// facts gathers, unless the operator has spoken.
func (e *Engine) facts(d nexthop.Destination, client string) verdict.Facts {
	var override *verdict.Override
	if e.cfg.Override != nil {
		override = e.cfg.Override(d.Name)
	}
	now := time.Now()
	if override != nil && (override.Until.IsZero() || now.Before(override.Until)) {
		return verdict.Facts{Now: now, Destination: d, Rules: e.cfg.Rules, Override: override}
	}
	ctx, cancel := context.WithTimeout(fairqueue.WithClient(e.base, client), flightTime)
	defer cancel()
	return e.cfg.Gather(ctx, d)
}

// keep stores the verdict, unless it is laxer than an older one that still holds
// and stems from a failure: a verdict is not lowered because a lookup failed.
func (e *Engine) keep(d nexthop.Destination, x *Explanation, epoch uint64) {
	now := e.clock()
	life, again := e.lifetime(&x.Ruling, x.Took)
	n := &entry{
		verdict: x.Ruling.Verdict, beside: x.Ruling.Beside, source: x.Ruling.Source, byEnforcement: x.Ruling.ByEnforcement,
		until: now + life, refresh: now + again,
	}
	if old, _, ok := e.cache.get(d); ok {
		unknown := x.Facts.STS.Policy == nil && !x.Facts.STS.Settled
		switch {
		case x.Ruling.Provisional && laxer(n.verdict, old.verdict):
			n = postponed(old, now)
		case old.beside.Policy() != nil && n.source == verdict.FromDANE && unknown:
			// The store could not tell: what it told before holds as long as it did.
			n.beside, n.until = n.beside.With(old.beside.STS), min(n.until, old.until)
		}
	}
	x.InForce = e.ruled(n)
	e.why.Set(d, x)
	e.set(d, n, epoch)
	if n.beside != nil && n.beside.Implicit != nil && e.cfg.Told != nil {
		e.cfg.Told(d, x.InForce)
	}
}

// set stores a verdict, unless something was forgotten since its flight began.
// Forget counts first and drops then, so that one of the two sees the other.
func (e *Engine) set(d nexthop.Destination, n *entry, epoch uint64) {
	if e.clock() < n.until {
		e.cache.set(d, n)
	} else {
		// A TTL of 0: it was the answer to those who wait, and to nobody else.
		e.cache.drop(d)
	}
	if e.epoch.Load() != epoch {
		e.cache.drop(d)
		e.why.Invalidate(d)
	}
}

// postponed is a verdict whose refresh came to nothing: it holds to its end, and
// the refresh is tried again.
func postponed(old *entry, now time.Duration) *entry {
	return &entry{
		verdict: old.verdict, beside: old.beside, source: old.source, byEnforcement: old.byEnforcement,
		until: old.until, refresh: now + spread(verdict.FailureTTL),
	}
}

// laxer reports whether a verdict that a failure is behind must not replace an
// older one: it demands less, or it defers where an answer is known.
func laxer(v, old verdict.Verdict) bool {
	switch old := old.(type) {
	case verdict.Defer:
		return false
	case verdict.Fingerprint:
		if v, ok := v.(verdict.Fingerprint); ok {
			// What is missing is hidden by the failure, and is still true.
			return part(v.Digests, old.Digests)
		}
	case verdict.DANE:
		// RFC 8461 §2: what DANE holds hosts to is not replaced by another signal
		// because a lookup failed, whatever that one demands.
		switch v.(type) {
		case verdict.DANE, verdict.DANEOnly:
			return false
		}
		return true
	}
	_, deferred := v.(verdict.Defer)
	return deferred || verdict.Strictness(v) < verdict.Strictness(old)
}

// part reports whether all digests are among the others, which are more.
func part(digests, others [][sha256.Size]byte) bool {
	for _, sum := range digests {
		if !slices.Contains(others, sum) {
			return false
		}
	}
	return len(digests) < len(others)
}

// lifetime is how long a ruling that took some time is kept, and after which time it
// is worked out anew if it is in use.
func (e *Engine) lifetime(r *verdict.Ruling, took time.Duration) (life, again time.Duration) {
	if r.Source == verdict.FromOverride {
		life = min(r.TTL, e.cfg.MaxTTL)
		return life, life
	}
	life = min(max(r.TTL, e.cfg.MinTTL), e.cfg.MaxTTL)
	if _, ok := r.Verdict.(verdict.Fingerprint); ok {
		// The MTA does not look TLSA records up again: these must not outlive
		// their TTL, which ran while the rest was asked for.
		life = max(min(r.TTL, e.cfg.MaxTTL)-took, 0)
	}
	if !r.Provisional {
		return life, life - life/5
	}
	again = min(life, spread(verdict.FailureTTL))
	if !e.cfg.RefreshAhead {
		return again, again
	}
	switch r.Verdict.(type) {
	case verdict.DANEOnly, verdict.Fingerprint, verdict.STS, verdict.WebPKI, verdict.Encrypt:
		return min(life, beside), again
	}
	return again, again
}

// spread returns a duration from d up to twice d, so that what failed together is
// not tried together.
func spread(d time.Duration) time.Duration {
	return d + rand.N(d)
}

// unkept is an answer that is not stored: the next asker tries again.
func (e *Engine) unkept(d nexthop.Destination, v verdict.Defer) *Explanation {
	now := time.Now()
	return &Explanation{
		Facts:   verdict.Facts{Now: now, Destination: d, Rules: e.cfg.Rules},
		Ruling:  verdict.Ruling{Verdict: v, Reasons: []verdict.Reason{{Code: verdict.Unfinished, Subject: d.Name, Detail: v.Text}}, Provisional: true},
		InForce: Ruled{Verdict: v, Until: now},
	}
}

// say writes the one record of a ruling. The level follows the fault.
func (e *Engine) say(d nexthop.Destination, x *Explanation) {
	level := slog.LevelInfo
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("dest", d.String()), slog.String("verdict", x.Ruling.Verdict.Name()), slog.String("source", x.Ruling.Source.String()))
	if v, ok := x.Ruling.Verdict.(verdict.Defer); ok {
		attrs = append(attrs, slog.String("fault", v.Fault.String()), slog.String("error", v.Text))
		level = severity(v.Fault)
	} else if f := x.Facts.STS.Failure; f != nil {
		attrs = append(attrs, slog.String("fault", f.Fault.String()), slog.String("sts_error", f.Detail))
		level = severity(f.Fault)
	}
	last := x.Ruling.Reasons[len(x.Ruling.Reasons)-1]
	attrs = append(attrs, slog.String("reason", string(last.Code)), slog.Duration("ttl", time.Until(x.InForce.Until).Round(time.Second)), slog.Duration("took", x.Took.Round(time.Millisecond)))
	e.cfg.Log.LogAttrs(e.base, level, "ruling", attrs...)
}

// severity: what the operator can mend is a warning, what only a change of this
// program can is an error, and what others must mend is news.
func severity(f verdict.Fault) slog.Level {
	switch f {
	case verdict.Ours:
		return slog.LevelError
	case verdict.Operator:
		return slog.LevelWarn
	case verdict.Remote:
		return slog.LevelInfo
	}
	panic(fmt.Sprintf("engine: fault %v", f))
}
