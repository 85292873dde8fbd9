package daemon

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/engine"
	"tlsverdict/internal/fetch"
	"tlsverdict/internal/fleet"
	"tlsverdict/internal/gather"
	"tlsverdict/internal/metrics"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/socketmapd"
	"tlsverdict/internal/status"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
)

const (
	// maxFlights bounds the destinations worked out at once. Each holds a few
	// goroutines and, at most, resolve's bound of questions.
	maxFlights = 512
	// maxFetches bounds the policy fetches under way.
	maxFetches = 64
)

// Stack is everything between a question and its answer, made from one
// configuration. A reload makes a new one.
type Stack struct {
	Responder *socketmapd.Responder
	Engine    *engine.Engine
	Resolver  *resolve.Resolver

	// cfg is what it was made from, and does not change.
	cfg *config.Config
	mta *mta
	// fetches counts policy fetches by result.
	fetches func() map[string]uint64
	// waits are the destinations that mail waits for.
	waits *status.Deferrals
	// refetch fetches a domain's MTA-STS policy now.
	refetch func(ctx context.Context, domain string) error
	// ports is nil where implicit TLS is off.
	ports *ports
	// fleet is nil where nothing is shared.
	fleet *fleet.Node
	// banners is nil where the banner is off.
	banners   *banners
	refresher *engine.Refresher
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// Network is what a Stack reaches the world through. The zero value is the
// operating system's; tests put a world of their own in its place.
type Network struct {
	// DialDNS and DialHTTPS open connections to resolvers and to policy hosts.
	// DialMail does to mail servers.
	DialDNS, DialHTTPS, DialMail func(ctx context.Context, network, address string) (net.Conn, error)
	// Roots take the place of those of the configuration; nil leaves them.
	Roots *x509.CertPool
	// Anchors take the place of the trust anchors of the configuration, as DS or
	// DNSKEY records; nil leaves them.
	Anchors []byte
	// Questions and Fetches are how many DNS questions and policy fetches may be under
	// way at once, and Probes how many probes; 0 leaves the defaults.
	Questions, Fetches, Probes int
	// Durations are told how long things took; nil forgets them.
	Durations *metrics.Durations
	// Own reports whether an address is this host's own; nil asks the system.
	Own func(netip.Addr) bool
	// Postfix is the machine that Postfix may be on; nil is this one.
	Postfix *postfix.Host
}

// NewStack wires the rooms. It sends nothing; Start begins the work in the
// background, and Close ends it. The store belongs to the caller.
func NewStack(cfg *config.Config, st *store.Store, through Network, log *slog.Logger) (*Stack, error) {
	resolver, err := newResolver(cfg, through, log)
	if err != nil {
		return nil, err
	}
	fetcher, err := newFetcher(cfg, through, resolver)
	if err != nil {
		return nil, err
	}
	s := &Stack{cfg: cfg, waits: new(status.Deferrals), Resolver: resolver}
	if s.fleet, err = s.newFleet(st, log); err != nil {
		return nil, err
	}
	var e *engine.Engine
	policies := gather.NewPolicies(gather.PoliciesConfig{
		Store: st, Fetcher: fetcher,
		Now: time.Now, Jitter: rand.Float64, MaxFetches: cmp.Or(through.Fetches, maxFetches),
		// Nothing is fetched before the engine is there.
		Learned: func(domain string) { e.Learned(domain) }, Fetched: through.Durations.Fetch, Log: log, Fleet: others(s.fleet),
	})
	g := &gather.Gatherer{
		Open:     func() gather.Session { return resolver.Session() },
		Policies: policies, Pins: st, Fleet: others(s.fleet), Rules: cfg.Rules(),
		Trouble: func() string { return resolver.Health().Problem },
		// What an asker waits for, less what a verdict needs after the last answer.
		Patience: cfg.Socketmap.Deadline * 3 / 4,
		Log:      log,
	}
	if cfg.Signals.Implicit.On {
		g.Own = newOwner(cfg.Signals.Implicit.Own, through.machine(), log).own
	}
	mta := newMTA(cfg, through, log)
	visits := visitor{cfg, through, resolver, fetcher.Roots, log, new(probe.Visits)}
	learning := newBanners(visits, st, s.fleet)
	seen := chronicle{st, log}
	var responder *socketmapd.Responder
	e, err = engine.New(engine.Config{
		Gather: g.Facts, Enforcement: mta.enforcement, Rules: cfg.Rules(), Entries: cfg.Cache.Entries,
		Override: func(name string) *verdict.Override { return cfg.Overrides.Active(name, time.Now()) },
		MinTTL:   cfg.Cache.MinTTL, MaxTTL: cfg.Cache.MaxTTL, RefreshAhead: cfg.Cache.RefreshAhead,
		// Nothing is ruled on before the responder is there.
		Told:    func(d nexthop.Destination, r engine.Ruled) { responder.Told(d, r) },
		Ruled:   func(x *engine.Explanation) { learning.ruled(x); seen.ruled(x); follow(s.waits, x) },
		Flights: maxFlights, Observe: cfg.Mode == verdict.Observe, Log: log,
	})
	if err != nil {
		return nil, err
	}
	mta.changed = e.Reconsider
	learning.raise(e)
	opt := socketmapd.Options{
		Observe: cfg.Mode == verdict.Observe, Deadline: cfg.Socketmap.Deadline,
		ReportLevel: cfg.Postfix.ReportLevel, Cold: through.Durations.Cold, Log: log,
	}
	hosts := newPorts(visits)
	if hosts != nil {
		opt.Implicit = &socketmapd.Implicit{Port: hosts.port, Transport: cfg.Signals.Implicit.Transport, Turn: cfg.Signals.Implicit.Turn, Ports: hosts}
	}
	responder = socketmapd.New(e, opt)
	s.mta, s.ports, s.banners, s.Engine, s.Responder, s.fetches = mta, hosts, learning, e, responder, policies.Fetches
	s.refetch = func(context.Context, string) error { return nil }
	if cfg.MTASTS.Mode != verdict.Off {
		s.refetch = func(ctx context.Context, domain string) error {
			session := resolver.Session()
			defer session.Close()
			return policies.Refetch(ctx, session, domain)
		}
		s.refresher = newRefresher(st, policies, resolver, e, log)
	}
	st.KeepHistory(cfg.Store.History)
	return s, nil
}

// newResolver makes the resolver of the configuration, and logs what is wrong with the
// trust anchors.
func newResolver(cfg *config.Config, through Network, log *slog.Logger) (*resolve.Resolver, error) {
	anchors, err := trustAnchors(cfg, through)
	if anchors == nil && err != nil {
		return nil, err
	}
	if err != nil {
		log.Error("the system's trust anchors cannot be used; those built in are", "error", err, "way_out", "apt install --reinstall dns-root-data, and reload")
	}
	if gap := anchorGap(anchors); gap != "" {
		log.Warn("configuration", "problem", gap)
	}
	return resolve.New(resolve.Config{
		Servers: cfg.DNS.Servers, Mode: proofMode(cfg.DNS.DNSSEC), Anchors: anchors, TrustRemote: cfg.DNS.TrustRemote,
		Timeout: cfg.DNS.Timeout, MaxInflight: through.Questions, Dial: through.DialDNS, Told: through.Durations.Question, Log: log,
	})
}

// newFetcher makes the fetcher of the configuration.
func newFetcher(cfg *config.Config, through Network, r *resolve.Resolver) (*fetch.Fetcher, error) {
	roots, err := cfg.MTASTS.Roots()
	if err != nil {
		return nil, err
	}
	if through.Roots != nil {
		roots = through.Roots
	}
	return &fetch.Fetcher{
		Resolve: r, Roots: roots, Allow: cfg.MTASTS.AllowNetworks, Timeout: cfg.MTASTS.Timeout,
		DialContext: through.DialHTTPS,
	}, nil
}

func newRefresher(st *store.Store, p *gather.Policies, r *resolve.Resolver, e *engine.Engine, log *slog.Logger) *engine.Refresher {
	return &engine.Refresher{
		Due: st.Due,
		Refresh: func(ctx context.Context, domain string) (bool, error) {
			s := r.Session()
			defer s.Close()
			return p.Refresh(ctx, s, domain)
		},
		Changed: e.Forget,
		Log:     log,
	}
}

// Start watches the resolvers and refreshes policies until Close.
func (s *Stack) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.running.Go(func() {
		// Watch ends with the context's error, which says nothing new.
		_ = s.Resolver.Watch(ctx)
	})
	if !s.mta.without {
		s.running.Go(func() { s.mta.watch(ctx) })
	}
	if s.ports != nil {
		s.running.Go(func() { s.ports.run(ctx) })
	}
	if s.fleet != nil {
		s.running.Go(func() { s.fleet.Run(ctx) })
	}
	if s.banners != nil {
		s.running.Go(func() { s.banners.run(ctx) })
	}
	if s.refresher != nil {
		s.running.Go(func() { s.refresher.Run(ctx) })
	}
}

// Quiesce ends what Start began, and leaves the engine to those who wait for it.
func (s *Stack) Quiesce() {
	if s.stop != nil {
		s.stop()
	}
	s.running.Wait()
}

// Close ends what Start began, and the engine.
func (s *Stack) Close() {
	s.Quiesce()
	s.Engine.Close()
	s.Resolver.Close()
}

// trustAnchors reads what validation begins with; nil where nothing is validated. An
// error beside anchors says that they are only the second best.
func trustAnchors(cfg *config.Config, through Network) (*dnssec.Anchors, error) {
	switch {
	case cfg.DNS.DNSSEC != config.DNSSECValidate:
		return nil, nil
	case through.Anchors != nil:
		return dnssec.ParseAnchors(through.Anchors)
	case cfg.DNS.TrustAnchors != "":
		return resolve.LoadAnchors(cfg.DNS.TrustAnchors)
	}
	return resolve.DefaultAnchors(resolve.SystemAnchors)
}

func proofMode(d config.DNSSEC) resolve.Mode {
	switch d {
	case config.DNSSECOff:
		return resolve.Off
	case config.DNSSECTrustAD:
		return resolve.TrustAD
	case config.DNSSECValidate:
		return resolve.Validate
	}
	panic(fmt.Sprintf("daemon: dnssec setting %v", d))
}
