// Package survey learns what the owner of a domain published, for package lint: also what
// no sender asks for.
//
//	s := &survey.Surveyor{Facts: gatherer.Facts, Open: resolver.Session, Policy: fetcher.Look}
//	findings := lint.Check(s.Look(ctx, nexthop.Destination{Name: "example.com", Port: 25}))
//
// Beside the facts that a verdict rests on it asks for TLSA records at the names where
// people put them by mistake, and in zones where they count for nothing; for the MTA-STS
// policy whether or not DANE settles the domain; and for the record for TLS reports.
//
// A lookup that fails is a fact, as everywhere; nothing here returns an error, and
// nothing decides. Limits: extra questions are asked about MaxHosts hosts, the most
// preferred ones, each in a session of its own and so within the bounds of one
// destination; the context bounds the time.
//
// With Probe set it also connects to those hosts, on the port that mail goes to and, where
// their name promises it, on the one for implicit TLS.
//
// It caches nothing and stores nothing. It is not for the daemon: one survey asks several
// times what a verdict needs.
package survey

import (
	"context"
	"crypto/x509"
	"errors"
	"strconv"
	"sync"

	"tlsverdict/internal/fetch"
	"tlsverdict/internal/lint"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// MaxHosts is how many MX hosts are asked about beyond what a verdict needs.
const MaxHosts = 10

// Session asks the DNS within one budget; gather.Session is one.
type Session interface {
	TLSA(ctx context.Context, name string) verdict.Answer[tlsa.Record]
	TXT(ctx context.Context, name string) verdict.Answer[string]
	Private(ctx context.Context, name string, rrtype uint16) verdict.Answer[string]
	Close()
}

// Surveyor looks at domains. All fields are required but those about probes.
type Surveyor struct {
	// Facts gathers with DNSSEC, and without MTA-STS.
	Facts func(context.Context, nexthop.Destination) verdict.Facts
	// Open begins a session.
	Open func() Session
	// Policy fetches the MTA-STS policy of a domain.
	Policy func(ctx context.Context, domain string) (fetch.Seen, error)
	// Probe connects to a mail server; nil where nothing is to be probed.
	Probe func(context.Context, probe.Target) probe.Result
	// Roots are the authorities that certificates may come from; nil means the system's.
	Roots *x509.CertPool
	// ImplicitPort is the one for implicit TLS.
	ImplicitPort uint16
	// RRType is the number of the record type of package signal.
	RRType uint16
}

// Look learns all that lint.Check reads of a destination.
func (s *Surveyor) Look(ctx context.Context, d nexthop.Destination) lint.Evidence {
	var (
		e  lint.Evidence
		wg sync.WaitGroup
	)
	wg.Go(func() { e.Reports = s.txt(ctx, "_smtp._tls."+d.Name) })
	wg.Go(func() { e.Strict = s.txt(ctx, signal.TXTPrefix+d.Name) })
	wg.Go(func() { e.StrictType, e.StrictNumber = s.private(ctx, d.Name), s.RRType })
	wg.Go(func() { e.STS = s.policy(ctx, d.Name) })
	e.Facts = s.Facts(ctx, d)
	e.Hosts = make([]lint.Host, len(e.Facts.Hosts))
	for i := range min(MaxHosts, len(e.Hosts)) {
		h := &e.Facts.Hosts[i]
		names := elsewhere(d.Port, h.Name)
		if i == 0 && h.Name != d.Name {
			names = append(names, owner(d.Port)+d.Name) // for all hosts
		}
		wg.Go(func() { e.Hosts[i] = s.host(ctx, d.Port, h, names) })
	}
	wg.Wait()
	if s.Probe != nil {
		s.probes(ctx, &e)
	}
	return e
}

func (s *Surveyor) txt(ctx context.Context, name string) verdict.Answer[string] {
	session := s.Open()
	defer session.Close()
	return session.TXT(ctx, name)
}

func (s *Surveyor) private(ctx context.Context, name string) verdict.Answer[string] {
	session := s.Open()
	defer session.Close()
	return session.Private(ctx, name, s.RRType)
}

// policy looks at the MTA-STS record and fetches the policy where there is one, valid or
// not: its owner wants to hear of all that is wrong at once.
func (s *Surveyor) policy(ctx context.Context, domain string) lint.STS {
	sts := lint.STS{Record: s.txt(ctx, "_mta-sts."+domain)}
	if sts.Record.Outcome != verdict.Found {
		return sts
	}
	if _, err := mtasts.ParseRecord(sts.Record.Records); errors.Is(err, mtasts.ErrNoRecord) {
		return sts
	}
	seen, err := s.Policy(ctx, domain)
	sts.Expires = seen.CertificateEnds
	var failed *fetch.Error
	switch {
	case err == nil:
		sts.Policy = &seen.Policy
	case errors.As(err, &failed):
		sts.Result, sts.Failure = failed.Kind.String(), failed.Detail
	default:
		sts.Result, sts.Failure = fetch.PolicyFetchError.String(), err.Error()
	}
	return sts
}

// host asks about one MX host what no sender asks.
func (s *Surveyor) host(ctx context.Context, port uint16, h *verdict.Host, names []string) lint.Host {
	session := s.Open()
	defer session.Close()
	var (
		more lint.Host
		wg   sync.WaitGroup
	)
	if len(h.TLSA) == 0 {
		wg.Go(func() { more.Unsigned = session.TLSA(ctx, owner(port)+h.Name) })
	}
	more.Misplaced = make([]lint.Misplaced, len(names))
	for i, name := range names {
		wg.Go(func() { more.Misplaced[i] = lint.Misplaced{Owner: name, Answer: session.TLSA(ctx, name)} })
	}
	wg.Wait()
	return more
}

// owner is what the name of TLSA records begins with (RFC 6698 §3).
func owner(port uint16) string { return "_" + strconv.Itoa(int(port)) + "._tcp." }

// elsewhere lists where people put the TLSA records of a host by mistake: without one
// underscore or both, for the ports of clients, and without a port.
func elsewhere(number uint16, host string) []string {
	port := strconv.Itoa(int(number))
	return []string{
		port + "._tcp." + host, "_" + port + ".tcp." + host, port + ".tcp." + host,
		owner(465) + host, owner(587) + host, "_tcp." + host, host,
	}
}
