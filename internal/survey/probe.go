package survey

import (
	"context"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"tlsverdict/internal/lint"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/signal"
)

// probes connects to the hosts that were asked about: to each on the port that mail goes
// to, and then, where its name promises it, on the port for implicit TLS.
func (s *Surveyor) probes(ctx context.Context, e *lint.Evidence) {
	var wg sync.WaitGroup
	for i := range min(MaxHosts, len(e.Hosts)) {
		h := &e.Facts.Hosts[i]
		if !h.Addresses().Found {
			continue
		}
		wg.Go(func() {
			to := probe.Target{Host: h.Name, Port: e.Facts.Destination.Port, Kind: probe.StartTLS}
			e.Hosts[i].Port25 = s.seen(s.Probe(ctx, to))
			if signal.ParsePrefix(h.Name) != signal.SMTPS || s.ImplicitPort == 0 {
				return
			}
			to.Port, to.Kind = s.ImplicitPort, probe.Implicit
			e.Hosts[i].Implicit = s.seen(s.Probe(ctx, to))
		})
	}
	wg.Wait()
}

// seen is what a probe says of a host. A certificate that does not hold is no failure
// here: what is wrong with it is said of it.
func (s *Surveyor) seen(r probe.Result) *lint.Probe {
	p := &lint.Probe{Port: r.Target.Port, Offered: r.Offered, Version: r.Version, Chain: r.Chain}
	switch {
	case len(r.Chain) > 0 && (r.Err == nil || r.Err.Stage == probe.Certificate):
		p.Untrusted = s.untrusted(r.Chain, r.Began)
	case r.Err == nil:
	case errors.Is(r.Err, probe.ErrNotOffered): // that is the finding
	default:
		p.Failure = r.Err.Stage.String() + ": " + r.Err.Detail
	}
	return p
}

// untrusted is why a chain leads to no authority, whatever its names. A certificate out
// of its time is not asked: that is another finding.
func (s *Surveyor) untrusted(chain []*x509.Certificate, now time.Time) string {
	if now.After(chain[0].NotAfter) || now.Before(chain[0].NotBefore) {
		return ""
	}
	if err := Vouched(chain, "", s.Roots); err != nil {
		return err.Error()
	}
	return ""
}

// Vouched reports why no authority vouches for a chain now, its own certificate first, as
// that of a host; with an empty host, for any name. Nil roots are the system's.
func Vouched(chain []*x509.Certificate, host string, roots *x509.CertPool) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), DNSName: host}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opts)
	return err
}
