package world_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/engine"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/fetch"
	"tlsverdict/internal/gather"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/socketmapd"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
	"tlsverdict/internal/world"
	"tlsverdict/postfixmap"
)

// daemon is policyd without its command line: the same rooms, wired as cmd/policyd
// wires them, with the world in place of sockets.
type daemon struct {
	stop   context.CancelFunc
	done   sync.WaitGroup
	engine *engine.Engine
	server *postfixmap.Server
	client *postfixmap.Client
	keep   *store.Store
}

func startDaemon(w *world.World, cfg *config.Config, database string, log *slog.Logger) (*daemon, error) {
	resolver, err := resolve.New(resolve.Config{
		Servers: servers(cfg), Mode: mode(cfg), TrustRemote: cfg.DNS.TrustRemote, Timeout: cfg.DNS.Timeout,
		Dial: w.DNS.Dial, Log: log,
	})
	if err != nil {
		return nil, err
	}
	keep, err := store.Open(database, log)
	if err != nil {
		return nil, err
	}
	policies := gather.NewPolicies(gather.PoliciesConfig{
		Store: keep,
		Fetcher: &fetch.Fetcher{
			Resolve: resolver, Roots: w.Web.Roots(), Allow: allowed(cfg), Timeout: cfg.MTASTS.Timeout, DialContext: w.Web.Dial,
		},
		Now: time.Now, Jitter: rand.Float64, MaxFetches: 32, Log: log,
	})
	gatherer := &gather.Gatherer{
		Open: func() gather.Session { return resolver.Session() }, Policies: policies, Rules: cfg.Rules(),
		Trouble: func() string { return resolver.Health().Problem }, Log: log,
	}
	d := &daemon{keep: keep}
	d.engine, err = engine.New(engine.Config{
		Gather:   gatherer.Facts,
		Override: func(name string) *verdict.Override { return cfg.Overrides.Active(name, time.Now()) },
		Rules:    cfg.Rules(), Entries: 10_000, MinTTL: cfg.Cache.MinTTL, MaxTTL: cfg.Cache.MaxTTL,
		RefreshAhead: cfg.Cache.RefreshAhead, Flights: 64, Log: log,
	})
	if err != nil {
		return nil, err
	}
	d.background(resolver, policies, log)
	d.listen(socketmapd.New(d.engine, socketmapd.Options{
		Observe: cfg.Mode == verdict.Observe, Deadline: cfg.Socketmap.Deadline, ReportLevel: cfg.Postfix.ReportLevel, Log: log,
	}))
	return d, nil
}

// background probes the resolver, as the daemon does before it says that it is
// ready, and starts what runs beside the requests.
func (d *daemon) background(resolver *resolve.Resolver, policies *gather.Policies, log *slog.Logger) {
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	resolver.Probe(ctx)
	refresher := &engine.Refresher{
		Due: d.keep.Due,
		Refresh: func(ctx context.Context, domain string) (bool, error) {
			return policies.Refresh(ctx, resolver.Session(), domain)
		},
		Changed: d.engine.Forget,
		Log:     log,
	}
	d.done.Go(func() { refresher.Run(ctx) })
	d.done.Go(func() { _ = resolver.Watch(ctx) })
}

func (d *daemon) listen(handler postfixmap.Handler) {
	listener := world.NewListener("socketmap")
	d.server = &postfixmap.Server{Handler: handler}
	d.done.Go(func() { _ = d.server.Serve(context.Background(), listener) })
	d.client = &postfixmap.Client{DialFunc: func(ctx context.Context) (net.Conn, error) { return listener.Dial(ctx) }}
}

// close ends the daemon as SIGTERM does; what was stored can be opened again.
func (d *daemon) close() error {
	_ = d.client.Close()
	_ = d.server.Shutdown(context.Background())
	d.stop()
	d.engine.Close()
	d.done.Wait()
	return d.keep.Close()
}

// ask sends one socketmap request and returns the payload of its reply.
func (d *daemon) ask(mapName, key string) (string, error) {
	reply, err := d.client.Lookup(context.Background(), mapName, key)
	if err != nil {
		return "", err
	}
	return reply.Status.String() + " " + string(reply.Data), nil
}

// report asks the json map. A nil report comes with the reply that is none.
func (d *daemon) report(key string) (*explain.Report, string, error) {
	reply, err := d.ask("json", key)
	if err != nil {
		return nil, "", err
	}
	object, ok := bytes.CutPrefix([]byte(reply), []byte("OK "))
	if !ok {
		return nil, reply, nil
	}
	r := new(explain.Report)
	if err := json.Unmarshal(object, r); err != nil {
		return nil, reply, fmt.Errorf("the json map: %w", err)
	}
	return r, reply, nil
}

func servers(cfg *config.Config) []netip.AddrPort {
	if len(cfg.DNS.Servers) > 0 {
		return cfg.DNS.Servers
	}
	return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
}

func mode(cfg *config.Config) resolve.Mode {
	switch cfg.DNS.DNSSEC {
	case config.DNSSECTrustAD:
		return resolve.TrustAD
	case config.DNSSECOff:
		return resolve.Off
	}
	panic(fmt.Sprintf("world: no resolver for dnssec = %v", cfg.DNS.DNSSEC))
}

// allowed makes the addresses of documentation public, as far as policy hosts go.
func allowed(cfg *config.Config) []netip.Prefix {
	return append([]netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32"),
	}, cfg.MTASTS.AllowNetworks...)
}
