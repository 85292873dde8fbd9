package explain

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

var update = flag.Bool("update", false, "write the golden files anew; the run still fails")

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func found[T any](p verdict.Proof, records ...T) verdict.Answer[T] {
	return verdict.Answer[T]{Outcome: verdict.Found, Proof: p, Records: records, TTL: time.Hour}
}

func absent[T any](p verdict.Proof) verdict.Answer[T] {
	return verdict.Answer[T]{Outcome: verdict.NoData, Proof: p, TTL: time.Hour}
}

// examples are facts whose texts a reader should understand at once.
func examples(t *testing.T) map[string]verdict.Facts {
	t.Helper()
	policy, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: mx1.example.com\nmx: *.example.net\nmax_age: 604800\n"))
	if err != nil {
		t.Fatal(err)
	}
	cached := mtasts.Cached{Domain: "example.com"}.AfterSuccess(now.Add(-time.Hour), "20261101", policy, 0)
	data := make([]byte, 32)
	good := tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: data}
	pkix := tlsa.Record{Usage: tlsa.PKIXEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: data}
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	host := func(name string, p verdict.Proof, lookups ...verdict.TLSALookup) verdict.Host {
		return verdict.Host{Name: name, A: found(p, v4), AAAA: found(p, v6), TLSA: lookups}
	}
	base := verdict.Facts{
		Now: now, Destination: nexthop.Destination{Name: "example.com", Port: 25},
		Rules: verdict.Rules{STS: verdict.Enforce, Prefix: verdict.Enforce},
		MX:    found(verdict.Secure, verdict.MX{Preference: 10, Host: "mx1.example.com"}, verdict.MX{Preference: 20, Host: "mx2.example.com"}),
		STS:   verdict.STSFacts{Record: absent[string](verdict.Secure), Settled: true},
	}
	with := func(change func(*verdict.Facts)) verdict.Facts {
		f := base
		change(&f)
		return f
	}
	alias := host("mx2.example.com", verdict.Secure,
		verdict.TLSALookup{Base: "mx.hoster.example", Answer: absent[tlsa.Record](verdict.Secure)},
		verdict.TLSALookup{Base: "mx2.example.com", Answer: found(verdict.Secure, pkix)})
	alias.A.Canonical, alias.AAAA.Canonical = "mx.hoster.example", "mx.hoster.example"
	return map[string]verdict.Facts{
		"dane": with(func(f *verdict.Facts) {
			f.STS = verdict.STSFacts{}
			f.Hosts = []verdict.Host{
				host("mx1.example.com", verdict.Secure, verdict.TLSALookup{Base: "mx1.example.com", Answer: found(verdict.Secure, good)}),
				{
					Name: "mx2.example.com",
					A:    verdict.Fail[netip.Addr](verdict.Remote, "SERVFAIL from 127.0.0.1:53 (broken or bogus)"),
					AAAA: verdict.Fail[netip.Addr](verdict.Remote, "SERVFAIL from 127.0.0.1:53 (broken or bogus)"),
				},
			}
		}),
		"sts-held": with(func(f *verdict.Facts) {
			f.MX.Proof = verdict.Insecure
			f.STS = verdict.STSFacts{
				Record: found(verdict.Insecure, "v=STSv1; id=20261102;"), Policy: &cached, Settled: true,
				Failure: &verdict.STSFailure{Result: "sts-policy-fetch-error", Failure: verdict.Failure{Fault: verdict.Remote, Detail: "mta-sts.example.com: connection refused"}},
			}
		}),
		"alias": with(func(f *verdict.Facts) {
			f.Hosts = []verdict.Host{host("mx1.example.com", verdict.Secure, verdict.TLSALookup{Base: "mx1.example.com", Answer: absent[tlsa.Record](verdict.Secure)}), alias}
		}),
		"prefix": with(func(f *verdict.Facts) {
			f.MX = found(verdict.Secure, verdict.MX{Preference: 10, Host: "starttls-mx.example.com"})
			f.Hosts = []verdict.Host{host("starttls-mx.example.com", verdict.Secure, verdict.TLSALookup{Base: "starttls-mx.example.com", Answer: absent[tlsa.Record](verdict.Secure)})}
		}),
		"null-mx": with(func(f *verdict.Facts) { f.MX = found(verdict.Secure, verdict.MX{}) }),
		"bogus": with(func(f *verdict.Facts) {
			f.MX = verdict.Fail[verdict.MX](verdict.Remote, "127.0.0.1:53: bogus: signature expired")
			f.MX.Proof = verdict.Bogus
		}),
		"override": with(func(f *verdict.Facts) {
			f.Override = &verdict.Override{Level: "encrypt", Reason: "broken certificate, ticket 4711"}
			f.MX, f.STS = verdict.Answer[verdict.MX]{}, verdict.STSFacts{}
		}),
	}
}

func report(f verdict.Facts) *Report {
	r := verdict.Decide(f)
	x := &engine.Explanation{Facts: f, Ruling: r, InForce: engine.Ruled{Verdict: r.Verdict, Source: r.Source, Until: now.Add(r.TTL)}}
	report := New(x)
	report.Replies = map[string]string{"postfix": "OK as an example", "json": "OK"}
	return report
}

// TestText holds the texts against golden files, which are there to be read.
func TestText(t *testing.T) {
	for name, f := range examples(t) {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := report(f).WriteText(&b, Plain, now); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
					t.Fatal(err)
				}
				t.Fatal("written anew; read it, and run again without -update")
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
			}
		})
	}
}

// TestColours: the same text, painted.
func TestColours(t *testing.T) {
	for name, f := range examples(t) {
		var plain, painted strings.Builder
		if err := report(f).WriteText(&plain, Plain, now); err != nil {
			t.Fatal(err)
		}
		if err := report(f).WriteText(&painted, ANSI, now); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(painted.String(), "\x1b[") || strip(painted.String()) != plain.String() {
			t.Errorf("%s: painted text differs from the plain one in more than colour", name)
		}
	}
}

func strip(s string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "\x1b[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, s, _ = strings.Cut(rest, "m")
	}
}

// TestInForce: an earlier verdict that still holds is told.
func TestInForce(t *testing.T) {
	f := examples(t)["bogus"]
	x := &engine.Explanation{
		Facts: f, Ruling: verdict.Decide(f),
		InForce: engine.Ruled{Verdict: verdict.DANEOnly{}, Until: now.Add(time.Minute)},
	}
	var b strings.Builder
	if err := New(x).WriteText(&b, Plain, now); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "still answered: dane-only") {
		t.Error(b.String())
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		29 * time.Second: "29s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h",
		70 * time.Minute: "1h10m", 10 * time.Hour: "10h", 72 * time.Hour: "3 days",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}
