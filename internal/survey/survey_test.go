package survey

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tlsverdict/internal/fetch"
	"tlsverdict/internal/lint"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// zone answers questions for TXT and TLSA records, and notes them.
type zone struct {
	mu    sync.Mutex
	asked []string
	txt   map[string]string
}

func (z *zone) note(question string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked = append(z.asked, question)
}

func (z *zone) TXT(_ context.Context, name string) verdict.Answer[string] {
	z.note("TXT " + name)
	if text, ok := z.txt[name]; ok {
		return verdict.Answer[string]{Outcome: verdict.Found, Proof: verdict.Secure, Records: []string{text}}
	}
	return verdict.Answer[string]{Outcome: verdict.NXDomain, Proof: verdict.Secure}
}

func (z *zone) TLSA(_ context.Context, name string) verdict.Answer[tlsa.Record] {
	z.note("TLSA " + name)
	return verdict.Answer[tlsa.Record]{Outcome: verdict.NXDomain, Proof: verdict.Secure}
}

func (z *zone) Private(_ context.Context, name string, rrtype uint16) verdict.Answer[string] {
	z.note(fmt.Sprintf("TYPE%d %s", rrtype, name))
	return verdict.Answer[string]{Outcome: verdict.NoData, Proof: verdict.Secure}
}

func (z *zone) Close() {}

// facts are those of a domain with these hosts, the second of which has an answer for
// TLSA already.
func facts(names ...string) verdict.Facts {
	f := verdict.Facts{Destination: nexthop.Destination{Name: "example.com", Port: 25}}
	for i, name := range names {
		h := verdict.Host{
			Name: name,
			A:    verdict.Answer[netip.Addr]{Outcome: verdict.Found, Proof: verdict.Secure, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
			AAAA: verdict.Answer[netip.Addr]{Outcome: verdict.NoData, Proof: verdict.Secure},
		}
		if i == 1 {
			h.TLSA = []verdict.TLSALookup{{Base: name, Answer: verdict.Answer[tlsa.Record]{Outcome: verdict.NoData, Proof: verdict.Secure}}}
		}
		f.Hosts = append(f.Hosts, h)
	}
	return f
}

func surveyor(z *zone, f verdict.Facts, policy error) *Surveyor {
	return &Surveyor{
		Facts:  func(context.Context, nexthop.Destination) verdict.Facts { return f },
		Open:   func() Session { return z },
		Policy: func(context.Context, string) (fetch.Seen, error) { return fetch.Seen{}, policy },
		RRType: 65400,
	}
}

// TestLook: what is asked, and what is not.
func TestLook(t *testing.T) {
	z := &zone{}
	var names []string
	for i := range MaxHosts + 2 {
		names = append(names, fmt.Sprintf("mx%d.example.com", i))
	}
	f := facts(names...)
	e := surveyor(z, f, nil).Look(t.Context(), f.Destination)
	if len(e.Hosts) != len(names) || e.STS.Record.Outcome != verdict.NXDomain || e.STS.Policy != nil {
		t.Errorf("%d hosts, %+v", len(e.Hosts), e.STS)
	}
	slices.Sort(z.asked)
	if all := slices.Compact(slices.Clone(z.asked)); len(all) != len(z.asked) {
		t.Errorf("something is asked twice: %q", z.asked)
	}
	for question, want := range map[string]bool{
		"TXT _mta-sts.example.com": true, "TXT _smtp._tls.example.com": true, "TXT _smtp-strict.example.com": true, "TYPE65400 example.com": true,
		"TLSA _25._tcp.mx0.example.com": true, "TLSA _25._tcp.mx1.example.com": false,
		"TLSA 25._tcp.mx1.example.com": true, "TLSA _25._tcp.example.com": true,
		"TLSA 25._tcp.mx9.example.com": true, "TLSA 25._tcp.mx10.example.com": false,
	} {
		if slices.Contains(z.asked, question) != want {
			t.Errorf("%s asked: %v", question, !want)
		}
	}
}

// TestPolicy: a policy is fetched where a record claims that there is one, and what went
// wrong is a fact.
func TestPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		record string
		err    error
		want   string
	}{
		"none":       {"", errors.New("fetched"), ""},
		"not ours":   {"v=spf1", errors.New("fetched"), ""},
		"malformed":  {"v=STSv1;", &fetch.Error{Kind: fetch.PolicyInvalid, Detail: "line 1"}, "sts-policy-invalid line 1"},
		"any error":  {"v=STSv1; id=1", errors.New("broken"), "sts-policy-fetch-error broken"},
		"good":       {"v=STSv1; id=1", nil, ""},
		"certifcate": {"v=STSv1; id=1", &fetch.Error{Kind: fetch.WebPKIInvalid, Detail: "expired"}, "sts-webpki-invalid expired"},
	} {
		z := &zone{txt: map[string]string{}}
		if c.record != "" {
			z.txt["_mta-sts.example.com"] = c.record
		}
		e := surveyor(z, facts("mx.example.com"), c.err).Look(t.Context(), nexthop.Destination{Name: "example.com", Port: 25})
		if got := strings.TrimSpace(e.STS.Result + " " + e.STS.Failure); got != c.want || (e.STS.Policy != nil) != (name == "good") {
			t.Errorf("%s: %q, policy %v", name, got, e.STS.Policy)
		}
	}
}

func certificate(t *testing.T, until time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestProbes: hosts are probed where their name says so, and a probe's result becomes
// evidence.
func TestProbes(t *testing.T) {
	good, expired := certificate(t, time.Now().Add(time.Hour)), certificate(t, time.Now().Add(-time.Minute))
	roots := x509.NewCertPool()
	roots.AddCert(good)
	var (
		mu     sync.Mutex
		probed []string
	)
	f := facts("mx.example.com", "smtps-mx.example.com", "away.example.com")
	f.Hosts[2].A.Outcome, f.Hosts[2].A.Records = verdict.NoData, nil
	s := surveyor(&zone{}, f, nil)
	s.ImplicitPort, s.Roots = 26, roots
	s.Probe = func(_ context.Context, to probe.Target) probe.Result {
		mu.Lock()
		defer mu.Unlock()
		probed = append(probed, to.String())
		return probe.Result{Target: to, Began: time.Now(), Offered: true, Chain: []*x509.Certificate{good}}
	}
	e := s.Look(t.Context(), f.Destination)
	slices.Sort(probed)
	if got := strings.Join(probed, " "); got != "[mx.example.com]:25/starttls [smtps-mx.example.com]:25/starttls [smtps-mx.example.com]:26/implicit" {
		t.Errorf("probed %s", got)
	}
	if e.Hosts[0].Port25 == nil || e.Hosts[0].Implicit != nil || e.Hosts[1].Implicit == nil || e.Hosts[2].Port25 != nil {
		t.Errorf("%+v", e.Hosts)
	}

	for name, c := range map[string]struct {
		result probe.Result
		want   lint.Probe
	}{
		"good":      {probe.Result{Offered: true, Chain: []*x509.Certificate{good}}, lint.Probe{Offered: true}},
		"untrusted": {probe.Result{Offered: true, Chain: []*x509.Certificate{certificate(t, time.Now().Add(time.Hour))}, Err: &probe.Error{Stage: probe.Certificate}}, lint.Probe{Offered: true, Untrusted: "unknown authority"}},
		"expired":   {probe.Result{Offered: true, Chain: []*x509.Certificate{expired}, Err: &probe.Error{Stage: probe.Certificate}}, lint.Probe{Offered: true}},
		"refused":   {probe.Result{Err: &probe.Error{Stage: probe.Connect, Detail: "refused"}}, lint.Probe{Failure: "connect: refused"}},
		"handshake": {probe.Result{Offered: true, Err: &probe.Error{Stage: probe.Handshake, Detail: "alert"}}, lint.Probe{Offered: true, Failure: "handshake: alert"}},
	} {
		c.result.Began = time.Now()
		got := s.seen(c.result)
		if got.Offered != c.want.Offered || got.Failure != c.want.Failure || !strings.Contains(got.Untrusted, c.want.Untrusted) || (got.Untrusted == "") != (c.want.Untrusted == "") {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
