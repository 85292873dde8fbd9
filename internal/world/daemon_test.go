package world_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"tlsverdict/internal/config"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/store"
	"tlsverdict/internal/world"
	"tlsverdict/postfixmap"
)

// policyd is the daemon without its sockets and signals: the rooms as
// internal/daemon wires them, with the world in place of the network.
type policyd struct {
	stack  *daemon.Stack
	serves sync.WaitGroup
	server *postfixmap.Server
	client *postfixmap.Client
	keep   *store.Store
}

func startDaemon(w *world.World, cfg *config.Config, database string, log *slog.Logger) (*policyd, error) {
	keep, err := store.Open(database, log)
	if err != nil {
		return nil, err
	}
	here := *cfg
	here.DNS.Servers = servers(cfg)
	here.MTASTS.AllowNetworks = allowed(cfg)
	here.Cache.Entries = 10_000
	if !here.Postfix.DANEResolver.IsValid() && here.Postfix.DANE != config.DANEFingerprint {
		// Not one of those that policyd asks: what happens to one of these alone is
		// nothing to Postfix.
		here.Postfix.DANEResolver = netip.MustParseAddrPort("127.0.0.53:53")
	}
	anchors, err := w.DNS.Anchors()
	if err != nil {
		return nil, err
	}
	through := daemon.Network{DialDNS: w.DNS.Dial, DialHTTPS: w.Web.Dial, DialMail: w.Mail.Dial, Own: func(netip.Addr) bool { return false }, Roots: w.Web.Roots(), Anchors: anchors, Postfix: new(postfix.Host)}
	stack, err := daemon.NewStack(&here, keep, through, log)
	if err != nil {
		return nil, err
	}
	d := &policyd{stack: stack, keep: keep}
	// The first question would probe the resolvers, which steps would count.
	stack.Resolver.Probe(context.Background())
	stack.LookAtMTA(context.Background())
	stack.Start()
	listener := world.NewListener("socketmap")
	d.server = &postfixmap.Server{Handler: stack.Responder}
	d.serves.Go(func() { _ = d.server.Serve(context.Background(), listener) })
	d.client = &postfixmap.Client{DialFunc: func(ctx context.Context) (net.Conn, error) { return listener.Dial(ctx) }}
	return d, nil
}

// close ends the daemon as SIGTERM does; what was stored can be opened again.
func (d *policyd) close() error {
	_ = d.client.Close()
	_ = d.server.Shutdown(context.Background())
	d.stack.Close()
	d.serves.Wait()
	return d.keep.Close()
}

// ask sends one socketmap request and returns the payload of its reply.
func (d *policyd) ask(mapName, key string) (string, error) {
	reply, err := d.client.Lookup(context.Background(), mapName, key)
	if err != nil {
		return "", err
	}
	return reply.Status.String() + " " + string(reply.Data), nil
}

// report asks the json map. A nil report comes with the reply that is none.
func (d *policyd) report(key string) (*explain.Report, string, error) {
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

// allowed makes the addresses of documentation public, as far as policy hosts go.
func allowed(cfg *config.Config) []netip.Prefix {
	return append([]netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32"),
	}, cfg.MTASTS.AllowNetworks...)
}
