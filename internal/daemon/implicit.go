package daemon

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/probe"
)

// ports has hosts probed on the port of implicit TLS. It implements socketmapd.Ports.
type ports struct {
	port   uint16
	client *probe.Client
	prober *probe.Prober
	visits visitor
}

// newPorts returns nil where implicit TLS is off.
func newPorts(visits visitor) *ports {
	i := &visits.cfg.Signals.Implicit
	if !i.On {
		return nil
	}
	client := visits.client(i.Port)
	return &ports{
		port: i.Port, client: client, visits: visits,
		prober: probe.New(probe.Config{Probe: client.Probe, AtOnce: visits.through.probesEach(visits.cfg), Random: rand.Float64, Log: visits.log}),
	}
}

// run probes until ctx ends.
func (p *ports) run(ctx context.Context) {
	p.client.Hello = p.visits.helo(ctx)
	p.prober.Run(ctx)
}

// ownAddress reports whether an address is one of this host's interfaces.
func ownAddress(addr netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().WithZone("") == addr {
			return true
		}
	}
	return false
}

func (p *ports) target(host string) probe.Target {
	return probe.Target{Host: host, Port: p.port, Kind: probe.Implicit}
}

func (p *ports) targets(hosts []string) []probe.Target {
	out := make([]probe.Target, len(hosts))
	for i, host := range hosts {
		out[i] = p.target(host)
	}
	return out
}

// Good implements socketmapd.Ports.
func (p *ports) Good(host string) bool { return p.prober.Good(p.target(host)) }

// Want implements socketmapd.Ports.
func (p *ports) Want(hosts []string) { p.prober.Want(p.targets(hosts)...) }

// Renew implements socketmapd.Ports.
func (p *ports) Renew(hosts []string) { p.prober.Renew(p.targets(hosts)...) }

// State implements socketmapd.Ports.
func (p *ports) State(host string) explain.Port {
	s := p.prober.State(p.target(host))
	out := explain.Port{Host: host, State: "unknown", Next: s.Next.UTC().Truncate(time.Second)}
	if s.Next.IsZero() {
		out.Next = time.Time{}
	}
	switch {
	case s.Good:
		out.State, out.By, out.Until = "good", s.Last.By.String(), s.Until.UTC().Truncate(time.Second)
	case s.Probed && s.Last.Err != nil:
		out.State, out.Stage, out.Error = "bad", s.Last.Err.Stage.String(), s.Last.Err.Detail
	}
	return out
}

// machine is where Postfix may be.
func (n Network) machine() postfix.Host {
	if n.Postfix != nil {
		return *n.Postfix
	}
	return postfix.Here()
}
