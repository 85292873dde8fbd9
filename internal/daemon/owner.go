package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/postfix"
)

const (
	// ownTime bounds the question whether Postfix has a way of its own for a domain.
	// A verdict waits for it.
	ownTime = 4 * time.Second
	// routesTime is how long an answer of Postfix holds, silenceTime how long it is not
	// asked again after it failed to give one.
	routesTime  = 5 * time.Minute
	silenceTime = 30 * time.Second
	// ownAtOnce bounds the questions under way: each runs a few programs, one at a time.
	ownAtOnce = 4
	// maxOwn bounds the answers that are kept. Strangers choose the domains.
	maxOwn = 1000
)

// owner knows for which domains the MTA has a way of its own.
type owner struct {
	setting config.OwnDomains
	host    postfix.Host
	log     *slog.Logger
	turns   chan struct{}

	mu sync.Mutex
	// routes is what Postfix says of its settings.
	routes kept[postfix.Routes]
	// domains is what it says of domains: a setting, or "".
	domains map[string]kept[string]
	// said is when it was last logged that something cannot be found out.
	said time.Time
}

// kept is an answer, or why there is none, with its end.
type kept[T any] struct {
	value T
	err   error
	until time.Time
}

// keep makes an answer of what a call returned.
func keep[T any](value T, err error) kept[T] {
	life := routesTime
	if err != nil {
		life = silenceTime
	}
	return kept[T]{value, err, time.Now().Add(life)}
}

func (k kept[T]) fresh() bool { return time.Now().Before(k.until) }

func newOwner(setting config.OwnDomains, host postfix.Host, log *slog.Logger) *owner {
	return &owner{setting: setting, host: host, log: log, turns: make(chan struct{}, ownAtOnce), domains: make(map[string]kept[string])}
}

// own is for gather.Gatherer.Own. What cannot be found out may be the operator's own.
func (o *owner) own(ctx context.Context, domain string) string {
	if o.setting.Has(domain) {
		return "signals.implicit_tls_own"
	}
	if !o.setting.Ask {
		return ""
	}
	setting, err := o.ask(ctx, domain)
	if err != nil {
		o.warn(domain, err)
		return "it cannot be found out: " + err.Error()
	}
	return setting
}

// ask returns what is kept of a domain, or asks when it is its turn.
func (o *owner) ask(ctx context.Context, domain string) (string, error) {
	if k, ok := o.known(domain); ok {
		return k.value, k.err
	}
	ctx, cancel := context.WithTimeout(ctx, ownTime)
	defer cancel()
	select {
	case o.turns <- struct{}{}:
		defer func() { <-o.turns }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if k, ok := o.known(domain); ok {
		return k.value, k.err
	}
	routes, err := o.look(ctx)
	if err != nil {
		return "", err
	}
	k := keep(o.host.Own(ctx, routes, domain))
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.domains) >= maxOwn {
		clear(o.domains)
	}
	o.domains[domain] = k
	return k.value, k.err
}

func (o *owner) known(domain string) (kept[string], bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := o.domains[domain]
	return k, k.fresh()
}

// look returns the settings of Postfix, which change rarely. Several may look at once.
func (o *owner) look(ctx context.Context) (postfix.Routes, error) {
	o.mu.Lock()
	k := o.routes
	o.mu.Unlock()
	if !k.fresh() {
		k = keep(o.host.Routes(ctx))
		o.mu.Lock()
		o.routes = k
		o.mu.Unlock()
	}
	return k.value, k.err
}

// warn says that something cannot be found out, once a minute.
func (o *owner) warn(domain string, err error) {
	o.mu.Lock()
	quiet := time.Since(o.said) < time.Minute
	if !quiet {
		o.said = time.Now()
	}
	o.mu.Unlock()
	if quiet {
		return
	}
	const wayOut = "list the domains that this host has mailboxes or another way for in signals.implicit_tls_own"
	o.log.Warn("mail is not sent to the port of implicit TLS: it cannot be found out whether Postfix has a way of its own for the domain", "domain", domain, "error", err, "way_out", wayOut)
}
