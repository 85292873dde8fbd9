package daemon

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/fetch"
	"tlsverdict/internal/gather"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/resolve"
)

// visitor is what it takes to connect to mail servers.
type visitor struct {
	cfg      *config.Config
	through  Network
	resolver *resolve.Resolver
	roots    *x509.CertPool
	log      *slog.Logger
	// visits are of all ports: it is the address that must not be visited too often.
	visits *probe.Visits
}

// helloTime is how long the first visit waits to learn the name of this host.
const helloTime = 5 * time.Second

// helo is the name that mail servers know this host by: that of the settings, that of its
// Postfix, or its own.
func (v visitor) helo(ctx context.Context) string {
	if v.cfg.Probe.Helo != "" {
		return v.cfg.Probe.Helo
	}
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	if routes, err := v.through.machine().Routes(ctx); err == nil && strings.Contains(routes.Name, ".") {
		return routes.Name
	}
	// Without a name the client gives its address.
	name, _ := os.Hostname()
	return name
}

// client makes a client for one port.
func (v visitor) client(port uint16) *probe.Client {
	// A host's addresses and TLSA records are all that a probe needs.
	g := &gather.Gatherer{Open: func() gather.Session { return v.resolver.Session() }, Log: v.log}
	own := v.through.Own
	if own == nil {
		own = ownAddress
	}
	return &probe.Client{
		Facts: g.Facts, Guard: fetch.Guardian(v.cfg.MTASTS.AllowNetworks, port), Own: own, Roots: v.roots,
		Visits: v.visits, Hello: v.cfg.Probe.Helo, Source: v.cfg.Probe.Source, DialContext: v.through.DialMail,
	}
}
