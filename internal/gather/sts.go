package gather

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"tlsverdict/internal/fairqueue"
	"tlsverdict/internal/fetch"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/verdict"
)

// stsLookup is the MTA-STS side of one Facts call: the TXT record is asked for
// at once, the policy fetched when the MX answer shows that there is mail to
// deliver.
type stsLookup struct {
	domain string
	known  mtasts.Cached
	has    bool
	// unread is why it is not known whether there is a cached policy.
	unread  error
	allowed chan bool
	done    chan struct{}
	facts   verdict.STSFacts
}

// startSTS begins the lookup. With MTA-STS off it is settled at once. dns bounds
// the TXT question, ctx the whole.
func (g *Gatherer) startSTS(ctx, dns context.Context, s Session, domain string) *stsLookup {
	l := &stsLookup{domain: domain, allowed: make(chan bool, 1), done: make(chan struct{})}
	if g.Rules.STS == verdict.Off {
		l.facts.Settled = true
		close(l.done)
		return l
	}
	l.known, l.has, l.unread = g.Policies.Known(domain, g.now())
	others := g.Policies.askOthers(ctx, l)
	go func() {
		defer close(l.done)
		defer func() { l.facts.Settled = true }()
		defer g.recovered(func() { l.facts = l.heldFacts(unfinished("internal error")) })
		record := g.txt(dns, s, "_mta-sts."+domain)
		if <-l.allowed {
			cold := others()
			l.facts = g.Policies.resolve(ctx, &cold, record)
		} else {
			l.facts = l.heldFacts(nil)
		}
	}()
	return l
}

// askOthers begins to ask the fleet about a domain of which no policy is known here, and
// returns how to have the lookup with what it knew. Who sits between this host and the
// world can keep a first policy from it, but not one that another node has (RFC 8461
// §10.2).
func (p *Policies) askOthers(ctx context.Context, l *stsLookup) func() stsLookup {
	// What is asked beside, soFar and knownEnforced, goes on to see what was known at first.
	cold := *l
	if p.fleet == nil || l.has || l.unread != nil {
		return func() stsLookup { return cold }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.recovered(l.domain)
		p.fleet.LearnPolicy(ctx, l.domain)
		cold.known, cold.has, cold.unread = p.Known(l.domain, p.clock())
	}()
	return func() stsLookup {
		<-done
		return cold
	}
}

// recovered is deferred where strangers' data is read: a defect there must not end the
// process.
func (p *Policies) recovered(domain string) {
	if r := recover(); r != nil {
		p.log.Error("a defect in tlsverdict spoils what other nodes know of a policy", "domain", domain, "panic", r, "stack", string(debug.Stack()))
	}
}

// mayFetch says whether the policy may be fetched. It must be called once.
func (l *stsLookup) mayFetch(yes bool) { l.allowed <- yes }

// knownEnforced reports whether an unexpired, enforced policy is known already.
func (l *stsLookup) knownEnforced() bool {
	return l.has && l.known.Policy.Mode == mtasts.ModeEnforce
}

func (l *stsLookup) wait() verdict.STSFacts {
	<-l.done
	return l.facts
}

// soFar is the policy that is known without waiting; nil for none.
func (l *stsLookup) soFar() *mtasts.Cached {
	select {
	case <-l.done:
		return l.facts.Policy
	default:
	}
	if l.has {
		return &l.known
	}
	return nil
}

// heldFacts are the facts when no newer policy could be had, or none was sought.
func (l *stsLookup) heldFacts(f *verdict.STSFailure) verdict.STSFacts {
	if l.has {
		return verdict.STSFacts{Policy: &l.known, Failure: f}
	}
	if l.unread != nil {
		// There may be a policy: to go on as if there were none would hand the
		// domain's mail to whoever can damage the store.
		f = unfinished("the policy kept for " + l.domain + " cannot be read: " + l.unread.Error())
	}
	return verdict.STSFacts{Failure: f}
}

// unfinished is a failure to find out, by our own fault, whether there is a policy.
func unfinished(detail string) *verdict.STSFailure {
	return &verdict.STSFailure{
		Result: fetch.PolicyFetchError.String(), Unfinished: true,
		Failure: verdict.Failure{Fault: verdict.Ours, Detail: detail},
	}
}

// Store keeps policies beyond a restart.
type Store interface {
	// Policy returns what is kept for a domain. After an error it is not known
	// whether there is anything.
	Policy(domain string) (c mtasts.Cached, found bool, err error)
	// Update changes what is kept, from what is newest; change returns false to
	// drop it.
	Update(domain string, change func(old mtasts.Cached, found bool) (mtasts.Cached, bool))
	// Touch notes that the policy was used.
	Touch(domain string, now time.Time)
}

// Fleet is the other nodes of a fleet.
type Fleet interface {
	// LearnPolicy has the Store learn what they know of a domain's policy. It waits a
	// moment at most.
	LearnPolicy(ctx context.Context, domain string)
	// PublishPolicy tells them of one that was fetched here. It does not wait.
	PublishPolicy(c mtasts.Cached)
	// LearnPins has the store of Pins learn what they know of hosts. It waits a moment at
	// most.
	LearnPins(ctx context.Context, hosts []string)
}

// Fetcher fetches the policy that a domain publishes over HTTPS (RFC 8461 §3.3).
type Fetcher interface {
	Fetch(ctx context.Context, domain string) (mtasts.Policy, error)
}

// Policies knows the MTA-STS policy of each domain: the cached one, or one fetched
// because there is none or its id changed. It is safe for concurrent use.
//
// A fetch is one flight a domain and outlives the asker: when nobody waits any
// longer its result is kept for the next one.
type Policies struct {
	store   Store
	fetcher Fetcher
	clock   func() time.Time
	jitter  func() float64
	learned func(domain string)
	fleet   Fleet
	log     *slog.Logger
	slots   *fairqueue.Queue

	// fetched is told of each fetch; counts are those of FetchStats.
	fetched func(took time.Duration)

	mu      sync.Mutex
	counts  map[string]uint64
	flights map[string]*flight
	// failed remembers, for domains without a policy, when a fetch failed:
	// RFC 8461 §3.3 wants five minutes between tries for the same id.
	failed map[string]mtasts.Cached
}

// PoliciesConfig is what Policies works with; every field but Learned, Fetched and Fleet must be set.
type PoliciesConfig struct {
	Store   Store
	Fetcher Fetcher
	Now     func() time.Time
	// Jitter returns a number from 0 up to 1, to spread refreshes.
	Jitter func() float64
	// MaxFetches bounds the fetches under way.
	MaxFetches int
	// Learned is told of each domain for which a policy was fetched that demands
	// something else than what was known of it, once that is kept.
	Learned func(domain string)
	// Fetched is told how long each fetch took, whatever came of it. It must not wait.
	// Optional.
	Fetched func(took time.Duration)
	// Fleet is nil where there is none.
	Fleet Fleet
	Log   *slog.Logger
}

// NewPolicies returns a Policies.
func NewPolicies(c PoliciesConfig) *Policies {
	return &Policies{
		store:   c.Store,
		fetcher: c.Fetcher,
		clock:   c.Now,
		jitter:  c.Jitter,
		learned: c.Learned,
		fetched: c.Fetched,
		counts:  make(map[string]uint64),
		fleet:   c.Fleet,
		log:     c.Log,
		slots:   fairqueue.New(c.MaxFetches, maxWaiting*c.MaxFetches),
		flights: make(map[string]*flight),
		failed:  make(map[string]mtasts.Cached),
	}
}

// maxFailed bounds the memory of failed fetches; past it the memory of an
// arbitrary domain is dropped, which costs one early try.
const maxFailed = 10_000

// maxWaiting is how many fetches may wait for each one under way.
const maxWaiting = 16

// Known returns the cached, unexpired policy of a domain. After an error it is not
// known whether there is one.
func (p *Policies) Known(domain string, now time.Time) (mtasts.Cached, bool, error) {
	c, ok, err := p.store.Policy(domain)
	if err != nil || !ok || !c.Fresh(now) {
		return mtasts.Cached{}, false, err
	}
	p.store.Touch(domain, now)
	return c, true, nil
}

// resolve turns a TXT answer into facts (RFC 8461 §3.1, §3.3, §5.1).
func (p *Policies) resolve(ctx context.Context, l *stsLookup, record verdict.Answer[string]) (facts verdict.STSFacts) {
	defer func() { facts.Record = record }()
	if record.Broken() {
		// RFC 8461 §3.1 excuses a domain whose DNS is broken, not a host that
		// cannot ask.
		unfinished := record.Failure.Fault != verdict.Remote
		return l.heldFacts(&verdict.STSFailure{Unfinished: unfinished, Failure: *record.Failure})
	}
	rec, err := mtasts.ParseRecord(record.Records)
	switch {
	case errors.Is(err, mtasts.ErrNoRecord) && !l.has:
		return l.heldFacts(nil)
	case err != nil:
		return l.heldFacts(recordFailure(l.domain, err))
	case l.has && l.known.ID == rec.ID:
		return l.heldFacts(nil)
	}
	return p.fetchNew(ctx, l, rec.ID)
}

// recordFailure is why no id could be read although something may be there.
func recordFailure(domain string, err error) *verdict.STSFailure {
	f := &verdict.STSFailure{Failure: verdict.Failure{Fault: verdict.Remote, Detail: "_mta-sts." + domain + ": " + err.Error()}}
	if !errors.Is(err, mtasts.ErrNoRecord) {
		f.Result = fetch.PolicyInvalid.String()
	}
	return f
}

// fetchNew fetches a policy whose id is new, and falls back to the one that is
// known: a failed fetch never ends a valid policy (RFC 8461 §3.3).
func (p *Policies) fetchNew(ctx context.Context, l *stsLookup, id string) verdict.STSFacts {
	if before := p.remembered(l); !before.MayFetch(p.clock(), id) {
		return l.heldFacts(&verdict.STSFailure{
			Result:  fetch.PolicyFetchError.String(),
			Failure: verdict.Failure{Fault: verdict.Remote, Detail: before.LastFailure + "; not tried again yet"},
		})
	}
	fl := p.start(ctx, l.domain, id)
	select {
	case <-fl.done:
	case <-ctx.Done():
		// The fetcher bounds its own time: what took so long is the queue.
		return l.heldFacts(unfinished("the policy of " + l.domain + " is being fetched"))
	}
	if fl.failure != nil {
		return l.heldFacts(fl.failure)
	}
	return verdict.STSFacts{Policy: &fl.policy}
}

// remembered is what is known of earlier failures: with a policy, expired or not,
// where there is one.
func (p *Policies) remembered(l *stsLookup) mtasts.Cached {
	if l.has {
		return l.known
	}
	if c, ok, err := p.store.Policy(l.domain); ok && err == nil {
		return c
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed[l.domain]
}

// flight is a fetch under way. Its results may be read once done is closed.
type flight struct {
	done    chan struct{}
	policy  mtasts.Cached
	failure *verdict.STSFailure
	// changed: the policy demands something else than the one before.
	changed bool
}

// start begins a fetch, or joins the one under way for the domain. Those that wait are
// bounded, and the places shared between the clients for whom it is done: whoever runs
// many domains with slow policy hosts must not fill the memory, nor keep the policies
// of others from being fetched.
func (p *Policies) start(ctx context.Context, domain, id string) *flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fl, ok := p.flights[domain]; ok {
		return fl
	}
	fl := &flight{done: make(chan struct{})}
	p.flights[domain] = fl
	go p.fly(fl, fairqueue.Client(ctx), domain, id)
	return fl
}

// fly fetches and keeps the result. It waits for a place for as long as it takes: the
// fetcher bounds its own time, so that those before it end, and it does although no
// asker's context ends it.
func (p *Policies) fly(fl *flight, client, domain, id string) {
	defer func() {
		p.mu.Lock()
		delete(p.flights, domain)
		p.mu.Unlock()
		close(fl.done)
	}()
	if p.slots.Enter(context.Background(), client) != nil {
		fl.failure = unfinished("too many policy fetches are under way")
		return
	}
	defer p.slots.Leave(client)
	defer func() {
		if r := recover(); r != nil {
			p.log.Error("a defect in tlsverdict spoils a policy fetch", "domain", domain, "panic", r, "stack", string(debug.Stack()))
			fl.failure = unfinished("internal error while fetching the policy of " + domain)
		}
	}()
	policy, err := p.fetch(domain)
	now := p.clock()
	if err != nil {
		fl.failure = fetchFailure(domain, err)
		if fl.failure.Unfinished {
			return
		}
		p.keepFailure(domain, id, fl.failure.Detail, now)
		return
	}
	p.store.Update(domain, func(old mtasts.Cached, _ bool) (mtasts.Cached, bool) {
		old.Domain = domain
		fl.policy = old.AfterSuccess(now, id, policy, p.jitter())
		fl.changed = !old.Fresh(now) || old.Policy.Text() != policy.Text()
		return fl.policy, true
	})
	p.mu.Lock()
	delete(p.failed, domain)
	p.mu.Unlock()
	if p.fleet != nil {
		p.fleet.PublishPolicy(fl.policy)
	}
	if fl.changed && p.learned != nil {
		p.learned(domain)
	}
}

// fetch fetches, and counts it.
func (p *Policies) fetch(domain string) (mtasts.Policy, error) {
	began := time.Now()
	policy, err := p.fetcher.Fetch(context.Background(), domain)
	if p.fetched != nil {
		p.fetched(time.Since(began))
	}
	result := Fetched
	if err != nil {
		result = fetchFailure(domain, err).Result
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[result]++
	return policy, err
}

// Fetched is the result of a fetch that gave a policy.
const Fetched = "ok"

// Fetches returns how many fetches had each result: Fetched, or a type of RFC 8460
// §4.3.2.2.
func (p *Policies) Fetches() map[string]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// keepFailure remembers a failed fetch: with the policy, where there is one, and
// whatever became of that since the fetch began.
func (p *Policies) keepFailure(domain, id, why string, now time.Time) {
	kept := false
	p.store.Update(domain, func(old mtasts.Cached, found bool) (mtasts.Cached, bool) {
		if kept = found; !found {
			return old, false
		}
		return old.AfterFailure(now, id, why, p.jitter()), true
	})
	if kept {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.failed) >= maxFailed {
		for other := range p.failed {
			delete(p.failed, other)
			break
		}
	}
	p.failed[domain] = p.failed[domain].AfterFailure(now, id, why, p.jitter())
}

func fetchFailure(domain string, err error) *verdict.STSFailure {
	f := &verdict.STSFailure{
		Result:  fetch.PolicyFetchError.String(),
		Failure: verdict.Failure{Fault: verdict.Remote, Detail: "policy of " + domain + ": " + err.Error()},
	}
	var known *fetch.Error
	if errors.As(err, &known) {
		f.Result, f.Fault, f.Detail = known.Kind.String(), known.Fault, known.Detail
	}
	// A fetch that never left this host is no answer of the domain's.
	f.Unfinished = f.Fault == verdict.Ours
	return f
}

// Refetch fetches a domain's policy now, whatever is known of it, where its TXT record
// announces one. A failure leaves the policy that is known (RFC 8461 §3.3).
func (p *Policies) Refetch(ctx context.Context, s Session, domain string) error {
	record := s.TXT(ctx, "_mta-sts."+domain)
	if record.Outcome != verdict.Found {
		return nil
	}
	rec, err := mtasts.ParseRecord(record.Records)
	if err != nil {
		return nil
	}
	fl := p.start(ctx, domain, rec.ID)
	select {
	case <-fl.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if fl.failure != nil {
		return fl.failure
	}
	return nil
}

// Refresh does with a domain's policy what its time has come for (RFC 8461 §3.3,
// §10.2): it is fetched anew, whatever its TXT record says, or left alone where no
// mail uses it, or dropped where it has been dead for long. It reports whether the
// policy demands something else than before.
func (p *Policies) Refresh(ctx context.Context, s Session, domain string) (changed bool, err error) {
	c, ok, err := p.store.Policy(domain)
	if err != nil || !ok {
		return false, err
	}
	now := p.clock()
	switch action := c.Next(now); action {
	case mtasts.Wait:
		return false, nil
	case mtasts.Retire, mtasts.Drop:
		p.store.Update(domain, func(old mtasts.Cached, found bool) (mtasts.Cached, bool) {
			if !found || old.Next(now) != action {
				return old, found
			}
			return old.Retired(now), action == mtasts.Retire
		})
		return false, nil
	case mtasts.Fetch:
	}
	id := c.ID
	if record := s.TXT(ctx, "_mta-sts."+domain); record.Outcome == verdict.Found {
		if rec, err := mtasts.ParseRecord(record.Records); err == nil {
			id = rec.ID
		}
	}
	fl := p.start(ctx, domain, id)
	select {
	case <-fl.done:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if fl.failure != nil {
		return false, fl.failure
	}
	return fl.changed, nil
}
