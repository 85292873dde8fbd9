package gather

import (
	"context"
	"errors"
	"sync"
	"time"

	"tlsverdict/internal/fetch"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/verdict"
)

// stsLookup is the MTA-STS side of one Facts call: the TXT record is asked for
// at once, the policy fetched when the MX answer shows that there is mail to
// deliver.
type stsLookup struct {
	policies *Policies
	domain   string
	known    mtasts.Cached
	has      bool
	allowed  chan bool
	done     chan struct{}
	facts    verdict.STSFacts
}

// startSTS begins the lookup. With MTA-STS off it is settled at once.
func (g *Gatherer) startSTS(ctx context.Context, s Session, domain string) *stsLookup {
	l := &stsLookup{policies: g.Policies, domain: domain, allowed: make(chan bool, 1), done: make(chan struct{})}
	if g.Rules.STS == verdict.Off {
		l.facts.Settled = true
		close(l.done)
		return l
	}
	now := g.now()
	l.known, l.has = g.Policies.Known(domain, now)
	go func() {
		defer close(l.done)
		record := s.TXT(ctx, "_mta-sts."+domain)
		if <-l.allowed {
			l.facts = g.Policies.resolve(ctx, l, record)
		} else {
			l.facts = l.heldFacts(nil)
		}
		l.facts.Settled = true
	}()
	return l
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

// heldFacts are the facts when no newer policy could be had, or none was sought.
func (l *stsLookup) heldFacts(f *verdict.STSFailure) verdict.STSFacts {
	facts := verdict.STSFacts{Failure: f}
	if l.has {
		facts.Policy = &l.known
	}
	return facts
}

// Store keeps policies beyond a restart.
type Store interface {
	Policy(domain string) (c mtasts.Cached, found bool, err error)
	PutPolicy(mtasts.Cached)
	DeletePolicy(domain string)
	Touch(domain string, now time.Time)
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
	slots   chan struct{}

	mu      sync.Mutex
	flights map[string]*flight
	// failed remembers, for domains without a policy, when a fetch failed:
	// RFC 8461 §3.3 wants five minutes between tries for the same id.
	failed map[string]mtasts.Cached
}

// PoliciesConfig is what Policies works with; every field must be set.
type PoliciesConfig struct {
	Store   Store
	Fetcher Fetcher
	Now     func() time.Time
	// Jitter returns a number from 0 up to 1, to spread refreshes.
	Jitter func() float64
	// MaxFetches bounds the fetches under way.
	MaxFetches int
}

// NewPolicies returns a Policies.
func NewPolicies(c PoliciesConfig) *Policies {
	return &Policies{
		store:   c.Store,
		fetcher: c.Fetcher,
		clock:   c.Now,
		jitter:  c.Jitter,
		slots:   make(chan struct{}, c.MaxFetches),
		flights: make(map[string]*flight),
		failed:  make(map[string]mtasts.Cached),
	}
}

// maxFailed bounds the memory of failed fetches; past it the memory of an
// arbitrary domain is dropped, which costs one early try.
const maxFailed = 10_000

// maxWaiting is how many fetches may wait for each one under way.
const maxWaiting = 16

var errBusy = errors.New("gather: too many policy fetches are under way")

// Known returns the cached, unexpired policy of a domain.
func (p *Policies) Known(domain string, now time.Time) (mtasts.Cached, bool) {
	c, ok, err := p.store.Policy(domain)
	if err != nil || !ok || !c.Fresh(now) {
		return mtasts.Cached{}, false
	}
	p.store.Touch(domain, now)
	return c, true
}

// resolve turns a TXT answer into facts (RFC 8461 §3.1, §3.3, §5.1).
func (p *Policies) resolve(ctx context.Context, l *stsLookup, record verdict.Answer[string]) verdict.STSFacts {
	if record.Broken() {
		facts := l.heldFacts(&verdict.STSFailure{Failure: *record.Failure})
		facts.Record = record
		return facts
	}
	rec, err := mtasts.ParseRecord(record.Records)
	if err != nil {
		facts := l.heldFacts(recordFailure(l.domain, err))
		if errors.Is(err, mtasts.ErrNoRecord) && !l.has {
			facts.Failure = nil
		}
		facts.Record = record
		return facts
	}
	if l.has && l.known.ID == rec.ID {
		facts := l.heldFacts(nil)
		facts.Record = record
		return facts
	}
	facts := p.fetchNew(ctx, l, rec.ID)
	facts.Record = record
	return facts
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
	before := p.remembered(l)
	if !before.MayFetch(p.clock(), id) {
		return l.heldFacts(&verdict.STSFailure{
			Result:  fetch.PolicyFetchError.String(),
			Failure: verdict.Failure{Fault: verdict.Remote, Detail: before.LastFailure + "; not tried again yet"},
		})
	}
	fl := p.start(before, id)
	if fl == nil {
		return l.heldFacts(&verdict.STSFailure{
			Result:  fetch.PolicyFetchError.String(),
			Failure: verdict.Failure{Fault: verdict.Ours, Detail: "too many policy fetches are under way"},
		})
	}
	select {
	case <-fl.done:
	case <-ctx.Done():
		return l.heldFacts(&verdict.STSFailure{
			Result:  fetch.PolicyFetchError.String(),
			Failure: verdict.Failure{Fault: verdict.Remote, Detail: "the policy host of " + l.domain + " has not answered yet"},
		})
	}
	if fl.failure != nil {
		return l.heldFacts(fl.failure)
	}
	return verdict.STSFacts{Policy: &fl.policy}
}

// remembered is the state that a fetch starts from: the cached policy, or what
// is known of earlier failures.
func (p *Policies) remembered(l *stsLookup) mtasts.Cached {
	if l.has {
		return l.known
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.failed[l.domain]; ok {
		return c
	}
	return mtasts.Cached{Domain: l.domain}
}

// flight is a fetch under way. Its results may be read once done is closed.
type flight struct {
	done    chan struct{}
	policy  mtasts.Cached
	failure *verdict.STSFailure
}

// start begins a fetch, or joins the one under way for the domain. It returns
// nil when too many are waiting: whoever runs many domains with slow policy hosts
// must not fill the memory.
func (p *Policies) start(before mtasts.Cached, id string) *flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fl, ok := p.flights[before.Domain]; ok {
		return fl
	}
	if len(p.flights) >= maxWaiting*cap(p.slots) {
		return nil
	}
	fl := &flight{done: make(chan struct{})}
	p.flights[before.Domain] = fl
	go func() {
		p.slots <- struct{}{}
		defer func() { <-p.slots }()
		p.fly(fl, before, id)
	}()
	return fl
}

// fly fetches and keeps the result. The fetcher bounds its own time, so that the
// flight ends although no asker's context ends it.
func (p *Policies) fly(fl *flight, before mtasts.Cached, id string) {
	defer func() {
		p.mu.Lock()
		delete(p.flights, before.Domain)
		p.mu.Unlock()
		close(fl.done)
	}()
	policy, err := p.fetcher.Fetch(context.Background(), before.Domain)
	now := p.clock()
	if err != nil {
		fl.failure = fetchFailure(before.Domain, err)
		p.keepFailure(before.AfterFailure(now, id, fl.failure.Detail, p.jitter()), now)
		return
	}
	fl.policy = before.AfterSuccess(now, id, policy, p.jitter())
	p.store.PutPolicy(fl.policy)
	p.mu.Lock()
	delete(p.failed, before.Domain)
	p.mu.Unlock()
}

// keepFailure remembers a failed fetch: with the policy, where there is one.
func (p *Policies) keepFailure(c mtasts.Cached, now time.Time) {
	if c.Fresh(now) {
		p.store.PutPolicy(c)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.failed) >= maxFailed {
		for domain := range p.failed {
			delete(p.failed, domain)
			break
		}
	}
	p.failed[c.Domain] = c
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
	return f
}

// Refresh fetches the policy of a domain anew because its time has come,
// whatever its TXT record says (RFC 8461 §3.3, §10.2). An expired policy is
// dropped instead, and one that nothing used for long is left to expire.
func (p *Policies) Refresh(ctx context.Context, s Session, domain string) error {
	now := p.clock()
	c, ok, err := p.store.Policy(domain)
	if err != nil || !ok {
		return err
	}
	if !c.Fresh(now) {
		p.store.DeletePolicy(domain)
		return nil
	}
	if c.Idle(now, mtasts.IdleLimit) {
		p.store.PutPolicy(c.Retire())
		return nil
	}
	id := c.ID
	if record := s.TXT(ctx, "_mta-sts."+domain); record.Outcome == verdict.Found {
		if rec, err := mtasts.ParseRecord(record.Records); err == nil {
			id = rec.ID
		}
	}
	fl := p.start(c, id)
	if fl == nil {
		return errBusy
	}
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
