package lint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func found[T any](proof verdict.Proof, records ...T) verdict.Answer[T] {
	return verdict.Answer[T]{Outcome: verdict.Found, Proof: proof, Records: records}
}

func absent[T any](proof verdict.Proof) verdict.Answer[T] {
	return verdict.Answer[T]{Outcome: verdict.NoData, Proof: proof}
}

func bogus[T any]() verdict.Answer[T] {
	a := verdict.Fail[T](verdict.Remote, "bogus: signature expired")
	a.Proof = verdict.Bogus
	return a
}

// trail ends with signatures that are written down.
type trail struct {
	steps []string
	ends  []verdict.Signature
}

func (t trail) Steps() []string                 { return t.steps }
func (t trail) Signatures() []verdict.Signature { return t.ends }

// cert makes a self-signed certificate.
func cert(t *testing.T, name string, until time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.AddDate(0, -2, 0), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
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

func key(c *x509.Certificate) tlsa.Record {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: sum[:]}
}

func form(u tlsa.Usage, s tlsa.Selector) tlsa.Record {
	return tlsa.Record{Usage: u, Selector: s, Matching: tlsa.SHA2256, Data: make([]byte, 32)}
}

func policy(t *testing.T, mode, maxAge string, mx ...string) *mtasts.Policy {
	t.Helper()
	text := "version: STSv1\nmode: " + mode + "\nmax_age: " + maxAge + "\n"
	for _, p := range mx {
		text += "mx: " + p + "\n"
	}
	parsed, err := mtasts.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &parsed
}

// good is a signed domain with two hosts in which everything is in order.
func good(t *testing.T) *Evidence {
	e := &Evidence{
		Facts: verdict.Facts{
			Now: now, Destination: nexthop.Destination{Name: "example.com", Port: 25},
			MX: found(verdict.Secure, verdict.MX{Preference: 10, Host: "mx1.example.com"}, verdict.MX{Preference: 20, Host: "mx2.example.com"}),
		},
		Reports: found(verdict.Secure, "v=TLSRPTv1; rua=mailto:tls@example.com"),
		Strict:  absent[string](verdict.Secure),

		StrictType: absent[string](verdict.Secure), StrictNumber: signal.DefaultRRType,
	}
	e.STS.Record = found(verdict.Secure, "v=STSv1; id=1")
	e.STS.Policy = policy(t, "enforce", "1209600", "mx1.example.com", "mx2.example.com")
	for _, mx := range e.Facts.MX.Records {
		c := cert(t, mx.Host, now.AddDate(0, 2, 0))
		e.Facts.Hosts = append(e.Facts.Hosts, verdict.Host{
			Name: mx.Host, A: found(verdict.Secure, netip.MustParseAddr("192.0.2.1")), AAAA: absent[netip.Addr](verdict.Secure),
			TLSA: []verdict.TLSALookup{{Base: mx.Host, Answer: found(verdict.Secure, key(c))}},
		})
		e.Hosts = append(e.Hosts, Host{Port25: &Probe{Port: 25, Offered: true, Version: tls.VersionTLS13, Chain: []*x509.Certificate{c}}})
	}
	return e
}

// unsign makes the domain of good an unsigned one.
func unsign(e *Evidence) {
	e.Facts.MX.Proof = verdict.Insecure
	for i := range e.Facts.Hosts {
		h := &e.Facts.Hosts[i]
		h.A.Proof, h.AAAA.Proof, h.TLSA = verdict.Insecure, verdict.Insecure, nil
	}
}

func rename(e *Evidence, i int, name string) {
	e.Facts.MX.Records[i].Host, e.Facts.Hosts[i].Name = name, name
}

func setTLSA(e *Evidence, i int, records ...tlsa.Record) {
	e.Facts.Hosts[i].TLSA[0].Answer.Records = records
}

// TestGood: nothing is found where all is in order, and what was looked at is said.
func TestGood(t *testing.T) {
	findings := Check(*good(t))
	if Worst(findings) != OK {
		t.Errorf("%v", findings)
	}
	var codes []Code
	for _, f := range findings {
		codes = append(codes, f.Code)
	}
	for _, want := range []Code{MXFound, ZoneSigned, TLSAUsable, TLSAMatches, STSEnforced, ReportsOK, CertOK} {
		if !slices.Contains(codes, want) {
			t.Errorf("no finding %s in %v", want, codes)
		}
	}
}

// TestFaults: each fault is found, and nothing else.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*testing.T, *Evidence)
		want  string // severity code subject, of what is not in order
	}{
		"nothing": {func(*testing.T, *Evidence) {}, ""},
		"MX fails": {func(_ *testing.T, e *Evidence) {
			e.Facts.MX, e.Facts.Hosts = verdict.Fail[verdict.MX](verdict.Remote, "SERVFAIL"), nil
		}, "error mx-failed example.com"},
		"MX fails, by our fault": {func(_ *testing.T, e *Evidence) {
			e.Facts.MX, e.Facts.Hosts = verdict.Fail[verdict.MX](verdict.Operator, "no server answers"), nil
		}, "unknown mx-failed example.com"},
		"MX bogus": {func(_ *testing.T, e *Evidence) {
			e.Facts.MX, e.Facts.Hosts = bogus[verdict.MX](), nil
		}, "error mx-bogus example.com"},
		"no domain": {func(_ *testing.T, e *Evidence) {
			e.Facts.MX, e.Facts.Hosts = verdict.Answer[verdict.MX]{Outcome: verdict.NXDomain, Proof: verdict.Secure}, nil
		}, "error no-such-domain example.com"},
		"null MX": {func(_ *testing.T, e *Evidence) {
			e.Facts.MX, e.Facts.Hosts = found(verdict.Secure, verdict.MX{}), nil
		}, ""},
		"validation does not work": {func(_ *testing.T, e *Evidence) {
			e.Facts.MX.Proof, e.Facts.Trouble, e.Facts.Hosts, e.Hosts = verdict.Indeterminate, "signatures are stripped", nil, nil
		}, "unknown dnssec-unproven example.com"},
		"unsigned": {func(_ *testing.T, e *Evidence) {
			unsign(e)
		}, "notice zone-unsigned example.com"},
		"TLSA in an unsigned zone": {func(_ *testing.T, e *Evidence) {
			unsign(e)
			e.Hosts[0].Unsigned, e.Hosts[1].Unsigned = found(verdict.Insecure, form(tlsa.DANEEE, tlsa.SPKI)), found(verdict.Insecure, form(tlsa.DANEEE, tlsa.SPKI))
		}, "error tlsa-unsigned _25._tcp.mx1.example.com, error tlsa-unsigned _25._tcp.mx2.example.com, notice zone-unsigned example.com"},
		"a host elsewhere, unsigned": {func(_ *testing.T, e *Evidence) {
			h := &e.Facts.Hosts[1]
			h.A.Proof, h.AAAA.Proof, h.TLSA = verdict.Insecure, verdict.Insecure, nil
		}, "warning host-unsigned mx2.example.com, warning tlsa-some-hosts example.com"},
		"a host without address": {func(_ *testing.T, e *Evidence) {
			e.Facts.Hosts[1].A = absent[netip.Addr](verdict.Secure)
			e.Facts.Hosts[1].TLSA, e.Hosts[1].Port25 = nil, nil
		}, "error host-no-address mx2.example.com"},
		"a host that fails": {func(_ *testing.T, e *Evidence) {
			e.Facts.Hosts[1].A, e.Facts.Hosts[1].TLSA = verdict.Fail[netip.Addr](verdict.Remote, "SERVFAIL"), nil
			e.Facts.Hosts[1].AAAA, e.Hosts[1].Port25 = e.Facts.Hosts[1].A, nil
		}, "error host-failed mx2.example.com"},
		"a bogus host": {func(_ *testing.T, e *Evidence) {
			e.Facts.Hosts[1].A, e.Facts.Hosts[1].TLSA = bogus[netip.Addr](), nil
			e.Facts.Hosts[1].AAAA, e.Hosts[1].Port25 = e.Facts.Hosts[1].A, nil
		}, "error host-bogus mx2.example.com"},
		"an alias": {func(_ *testing.T, e *Evidence) {
			e.Facts.Hosts[1].A.Canonical = "real.example.com"
		}, "warning host-alias mx2.example.com"},
		"a signature that ends": {func(_ *testing.T, e *Evidence) {
			e.Facts.MX.Trail = trail{ends: []verdict.Signature{{Subject: "example.com. MX", Expires: now.Add(5 * time.Hour)}, {Subject: "com. DNSKEY", Expires: now.AddDate(0, 0, 9)}}}
			e.Facts.Hosts[0].A.Trail = e.Facts.MX.Trail
		}, "warning signature-ends example.com. MX"},
		"a signature that has ended": {func(_ *testing.T, e *Evidence) {
			e.Facts.MX.Trail = trail{ends: []verdict.Signature{{Subject: "example.com. MX", Expires: now.Add(-time.Hour)}}}
		}, "error signature-ends example.com. MX"},
		"no TLSA": {func(_ *testing.T, e *Evidence) {
			for i := range e.Facts.Hosts {
				e.Facts.Hosts[i].TLSA[0].Answer = absent[tlsa.Record](verdict.Secure)
			}
		}, "notice tlsa-absent example.com"},
		"TLSA without underscores": {func(_ *testing.T, e *Evidence) {
			for i := range e.Facts.Hosts {
				h := &e.Facts.Hosts[i]
				e.Hosts[i].Misplaced = []Misplaced{{Owner: "25._tcp." + h.Name, Answer: h.TLSA[0].Answer}, {Owner: "_25.tcp." + h.Name, Answer: absent[tlsa.Record](verdict.Secure)}}
				h.TLSA[0].Answer = absent[tlsa.Record](verdict.Secure)
			}
		}, "warning tlsa-misplaced 25._tcp.mx1.example.com, warning tlsa-misplaced 25._tcp.mx2.example.com, notice tlsa-absent example.com"},
		"TLSA at the right place and elsewhere": {func(_ *testing.T, e *Evidence) {
			e.Hosts[0].Misplaced = []Misplaced{{Owner: "_25._tcp.example.com", Answer: e.Facts.Hosts[0].TLSA[0].Answer}}
		}, "notice tlsa-misplaced _25._tcp.example.com"},
		"one host without TLSA": {func(_ *testing.T, e *Evidence) {
			e.Facts.Hosts[1].TLSA[0].Answer = absent[tlsa.Record](verdict.Secure)
		}, "warning tlsa-some-hosts example.com"},
		"TLSA fails": {func(_ *testing.T, e *Evidence) {
			e.Facts.Hosts[1].TLSA[0].Answer = bogus[tlsa.Record]()
			e.Facts.Hosts[1].TLSA[0].Answer.Trail = trail{steps: []string{"com. DNSKEY: a DS matches", "broken"}}
		}, "error tlsa-failed _25._tcp.mx2.example.com"},
		"usage 1": {func(_ *testing.T, e *Evidence) {
			setTLSA(e, 0, form(tlsa.PKIXEE, tlsa.SPKI))
			setTLSA(e, 1, form(tlsa.PKIXTA, tlsa.SPKI))
		}, "error tlsa-pkix-usage mx1.example.com, error tlsa-pkix-usage mx2.example.com"},
		"usage 1 beside 3": {func(_ *testing.T, e *Evidence) {
			setTLSA(e, 0, form(tlsa.PKIXEE, tlsa.SPKI), e.Facts.Hosts[0].TLSA[0].Answer.Records[0])
		}, "warning tlsa-pkix-usage mx1.example.com"},
		"a cut digest": {func(_ *testing.T, e *Evidence) {
			setTLSA(e, 0, tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: []byte{1}})
		}, "error tlsa-unusable mx1.example.com"},
		"3 0 1": {func(_ *testing.T, e *Evidence) {
			c := e.Hosts[0].Port25.Chain[0]
			sum := sha256.Sum256(c.Raw)
			setTLSA(e, 0, tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.Cert, Matching: tlsa.SHA2256, Data: sum[:]})
		}, "warning tlsa-renewal mx1.example.com"},
		"3 0 1 beside 3 1 1": {func(_ *testing.T, e *Evidence) {
			c := e.Hosts[0].Port25.Chain[0]
			sum := sha256.Sum256(c.Raw)
			setTLSA(e, 0, tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.Cert, Matching: tlsa.SHA2256, Data: sum[:]}, key(c))
		}, ""},
		"another key": {func(t *testing.T, e *Evidence) {
			setTLSA(e, 0, key(cert(t, "mx1.example.com", now)))
		}, "error tlsa-mismatch mx1.example.com"},
		"the key to come": {func(t *testing.T, e *Evidence) {
			setTLSA(e, 0, key(cert(t, "mx1.example.com", now)), e.Facts.Hosts[0].TLSA[0].Answer.Records[0])
		}, "notice tlsa-leftover mx1.example.com"},
		"an anchor, and another name": {func(t *testing.T, e *Evidence) {
			c := cert(t, "elsewhere.example.net", now.AddDate(0, 2, 0))
			r := key(c)
			r.Usage = tlsa.DANETA
			setTLSA(e, 0, r)
			e.Hosts[0].Port25.Chain = []*x509.Certificate{c}
		}, "error tlsa-anchor mx1.example.com, error certificate-name mx1.example.com"},
		"no policy": {func(_ *testing.T, e *Evidence) {
			e.STS = STS{Record: absent[string](verdict.Secure)}
		}, "notice sts-absent example.com"},
		"a wildcard TXT": {func(_ *testing.T, e *Evidence) {
			e.STS = STS{Record: found(verdict.Secure, "v=spf1 -all")}
		}, "notice sts-absent example.com"},
		"two records": {func(_ *testing.T, e *Evidence) {
			e.STS.Record.Records = []string{"v=STSv1; id=1", "v=STSv1; id=2"}
		}, "error sts-record _mta-sts.example.com"},
		"a record without id": {func(_ *testing.T, e *Evidence) {
			e.STS.Record.Records = []string{"v=STSv1;"}
		}, "error sts-record _mta-sts.example.com"},
		"the record fails": {func(_ *testing.T, e *Evidence) {
			e.STS = STS{Record: bogus[string]()}
		}, "error sts-lookup-failed _mta-sts.example.com"},
		"media type": {func(_ *testing.T, e *Evidence) {
			e.STS.Policy, e.STS.Result, e.STS.Failure = nil, "sts-policy-fetch-error", "media type text/html"
		}, "error sts-policy-fetch mta-sts.example.com"},
		"the policy host's certificate": {func(_ *testing.T, e *Evidence) {
			e.STS.Policy, e.STS.Result, e.STS.Failure = nil, "sts-webpki-invalid", "expired"
		}, "error sts-policy-certificate mta-sts.example.com"},
		"an invalid policy": {func(_ *testing.T, e *Evidence) {
			e.STS.Policy, e.STS.Result, e.STS.Failure = nil, "sts-policy-invalid", "line 3"
		}, "error sts-policy-invalid mta-sts.example.com"},
		"a host that is not listed": {func(t *testing.T, e *Evidence) {
			e.STS.Policy = policy(t, "enforce", "1209600", "mx1.example.com")
		}, "error sts-mx-unlisted mx2.example.com"},
		"a host that is not listed, testing": {func(t *testing.T, e *Evidence) {
			e.STS.Policy = policy(t, "testing", "1209600", "mx1.example.com", "old.example.com")
		}, "warning sts-mx-unlisted mx2.example.com, notice sts-testing example.com, notice sts-pattern-unused example.com"},
		"a short max_age": {func(t *testing.T, e *Evidence) {
			e.STS.Policy = policy(t, "enforce", "3600", "*.example.com")
		}, "warning sts-max-age example.com"},
		"mode none": {func(t *testing.T, e *Evidence) {
			e.STS.Policy = policy(t, "none", "3600")
		}, "notice sts-none example.com"},
		"the policy host's certificate ends": {func(_ *testing.T, e *Evidence) {
			e.STS.Expires = now.AddDate(0, 0, 3)
		}, "warning sts-certificate-ends mta-sts.example.com"},
		"no reports": {func(_ *testing.T, e *Evidence) {
			e.Reports = absent[string](verdict.Secure)
		}, "notice tlsrpt-absent example.com"},
		"reports to nowhere": {func(_ *testing.T, e *Evidence) {
			e.Reports.Records[0] = "v=TLSRPTv1; rua=tls@example.com"
		}, "warning tlsrpt-record _smtp._tls.example.com"},
		"two report records": {func(_ *testing.T, e *Evidence) {
			e.Reports.Records = append(e.Reports.Records, e.Reports.Records[0])
		}, "warning tlsrpt-record _smtp._tls.example.com"},
		"a prefix on one host": {func(t *testing.T, e *Evidence) {
			rename(e, 0, "starttls-mx1.example.com")
			e.STS.Policy = policy(t, "enforce", "1209600", "*.example.com")
			unsign(e)
			e.Hosts[0].Port25.Chain[0] = cert(t, "starttls-mx1.example.com", now.AddDate(0, 2, 0))
		}, "warning prefix-some-hosts example.com, notice zone-unsigned example.com"},
		"a prefix, unsigned": {func(t *testing.T, e *Evidence) {
			rename(e, 0, "starttls-mx1.example.com")
			rename(e, 1, "smtps-mx2.example.com")
			e.STS = STS{Record: absent[string](verdict.Insecure)}
			unsign(e)
		}, "warning prefix-unsigned example.com, notice zone-unsigned example.com, notice sts-absent example.com, notice certificate-name starttls-mx1.example.com, notice certificate-name smtps-mx2.example.com"},
		"smtps- without the port": {func(t *testing.T, e *Evidence) {
			for i, name := range []string{"smtps-mx1.example.com", "smtps-mx2.example.com"} {
				rename(e, i, name)
				c := cert(t, name, now.AddDate(0, 2, 0))
				e.Hosts[i].Port25.Chain[0] = c
				setTLSA(e, i, key(c))
			}
			e.STS.Policy = policy(t, "enforce", "1209600", "*.example.com")
			e.Hosts[0].Implicit = &Probe{Port: 26, Failure: "connection refused"}
			e.Hosts[1].Implicit = &Probe{Port: 26, Offered: true, Chain: e.Hosts[1].Port25.Chain}
		}, "warning smtps-no-port smtps-mx1.example.com"},
		"strict, unsigned": {func(_ *testing.T, e *Evidence) {
			e.Strict = found(verdict.Insecure, "v=SMTPSTRICT1; tls=required")
		}, "warning strict-unsigned _smtp-strict.example.com"},
		"strict, malformed": {func(_ *testing.T, e *Evidence) {
			e.Strict = found(verdict.Secure, "v=SMTPSTRICT1; tls=maybe")
		}, "error strict-record _smtp-strict.example.com"},
		"strict, fails": {func(_ *testing.T, e *Evidence) {
			e.Strict = bogus[string]()
		}, "error strict-lookup-failed _smtp-strict.example.com"},
		"strict with auth, MX unsigned": {func(_ *testing.T, e *Evidence) {
			unsign(e)
			e.Strict = found(verdict.Secure, "v=SMTPSTRICT1; tls=required; auth=webpki")
		}, "warning strict-auth _smtp-strict.example.com, notice zone-unsigned example.com"},
		"strict": {func(_ *testing.T, e *Evidence) {
			e.Strict = found(verdict.Secure, "v=SMTPSTRICT1; tls=required")
		}, ""},
		"strict type": {func(_ *testing.T, e *Evidence) {
			e.StrictType = found(verdict.Secure, signal.RData("v=SMTPSTRICT1; tls=required"))
		}, ""},
		"strict type, malformed": {func(_ *testing.T, e *Evidence) {
			e.StrictType = found(verdict.Secure, signal.RData("v=SMTPSTRICT1; tls=maybe"))
		}, "error strict-record example.com TYPE65400"},
		"strict type, somebody else's": {func(_ *testing.T, e *Evidence) {
			e.StrictType = found(verdict.Secure, "\xff\x01")
		}, ""},
		"strict type, fails": {func(_ *testing.T, e *Evidence) {
			e.StrictType = bogus[string]()
		}, "error strict-lookup-failed example.com TYPE65400"},
		"strict, fails in an unsigned domain": {func(_ *testing.T, e *Evidence) {
			unsign(e)
			e.Strict, e.StrictType = bogus[string](), bogus[string]()
		}, "notice zone-unsigned example.com"},
		"not probed": {func(_ *testing.T, e *Evidence) {
			e.Hosts[0].Port25, e.Hosts[1].Port25 = nil, nil
		}, "unknown not-probed example.com"},
		"unreachable": {func(_ *testing.T, e *Evidence) {
			e.Hosts[0].Port25 = &Probe{Port: 25, Failure: "timeout"}
		}, "unknown host-unreachable mx1.example.com"},
		"no STARTTLS where it is demanded": {func(_ *testing.T, e *Evidence) {
			e.Hosts[0].Port25 = &Probe{Port: 25}
		}, "error starttls-absent mx1.example.com"},
		"no STARTTLS": {func(_ *testing.T, e *Evidence) {
			unsign(e)
			e.STS = STS{Record: absent[string](verdict.Insecure)}
			e.Hosts[0].Port25 = &Probe{Port: 25}
		}, "warning starttls-absent mx1.example.com, notice zone-unsigned example.com, notice sts-absent example.com"},
		"a handshake that fails": {func(_ *testing.T, e *Evidence) {
			e.Hosts[0].Port25 = &Probe{Port: 25, Offered: true, Failure: "handshake failure"}
		}, "error tls-handshake mx1.example.com"},
		"untrusted, with a policy": {func(_ *testing.T, e *Evidence) {
			e.Hosts[0].Port25.Untrusted = "unknown authority"
		}, "error certificate-untrusted mx1.example.com"},
		"untrusted, DANE only": {func(_ *testing.T, e *Evidence) {
			e.STS = STS{Record: absent[string](verdict.Secure)}
			e.Hosts[0].Port25.Untrusted = "unknown authority"
		}, "notice sts-absent example.com, notice certificate-untrusted mx1.example.com"},
		"expired, with a policy": {func(t *testing.T, e *Evidence) {
			c := cert(t, "mx1.example.com", now.Add(-time.Hour))
			e.Hosts[0].Port25.Chain[0] = c
			setTLSA(e, 0, key(c))
		}, "error certificate-expired mx1.example.com"},
		"ends soon": {func(t *testing.T, e *Evidence) {
			c := cert(t, "mx1.example.com", now.Add(50*time.Hour))
			e.Hosts[0].Port25.Chain[0] = c
			setTLSA(e, 0, key(c))
		}, "warning certificate-ends mx1.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			e := good(t)
			c.spoil(t, e)
			var got []string
			for _, f := range Check(*e) {
				if f.Severity != OK {
					got = append(got, fmt.Sprint(f.Severity, " ", f.Code, " ", f.Subject))
				}
			}
			if joined := strings.Join(got, ", "); joined != c.want {
				t.Errorf("found %s\nwant  %s", joined, c.want)
			}
		})
	}
}

// TestBrokenLink: the link of the chain that broke is named, with what held before.
func TestBrokenLink(t *testing.T) {
	e := good(t)
	e.Facts.MX = bogus[verdict.MX]()
	e.Facts.MX.Trail = trail{steps: []string{". DNSKEY: a trust anchor matches", "com. DNSKEY: a DS of zone . matches", "example.com. DNSKEY: broken"}}
	e.Facts.Hosts = nil
	findings := Check(*e)
	if want := "bogus: signature expired; what held last: com. DNSKEY: a DS of zone . matches"; len(findings) != 1 || findings[0].Detail != want {
		t.Errorf("%+v", findings)
	}
}

// TestKinds: every code has words, and a fault says how to mend it.
func TestKinds(t *testing.T) {
	for _, code := range slices.Sorted(maps.Keys(Kinds())) {
		k := Kinds()[code]
		if k.Title == "" || strings.HasSuffix(k.Title, ".") {
			t.Errorf("%s: title %q", code, k.Title)
		}
		if (k.Severity == Error || k.Severity == Warning) && k.Mend == "" && code != StrictAuth {
			t.Errorf("%s: nothing says how to mend it", code)
		}
	}
}

// TestWorst: an exit status follows the most severe finding.
func TestWorst(t *testing.T) {
	for _, c := range []struct {
		have []Severity
		want Severity
	}{
		{nil, Unknown},
		{[]Severity{OK, Unknown}, Unknown},
		{[]Severity{Unknown, Notice, OK}, Notice},
		{[]Severity{Warning, Notice}, Warning},
		{[]Severity{Warning, Error, OK}, Error},
	} {
		var findings []Finding
		for _, s := range c.have {
			findings = append(findings, Finding{Severity: s})
		}
		if got := Worst(findings); got != c.want {
			t.Errorf("%v: %v, want %v", c.have, got, c.want)
		}
	}
}
