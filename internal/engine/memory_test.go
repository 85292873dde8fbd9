package engine

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// bytesPerEntry fills a cache with rulings and returns what the heap grew by for each.
func bytesPerEntry(t testing.TB, domains int, rule func(nexthop.Destination) verdict.Ruling) float64 {
	t.Helper()
	e := newEngine(t, answering(time.Hour), func(c *Config) { c.Entries = 4 * domains })
	defer e.Close()
	before := heap()
	now := e.clock()
	for i := range domains {
		d := nexthop.Destination{Name: fmt.Sprintf("mail-domain-%d.example", i), Port: 25}
		r := rule(d)
		e.cache.set(d, &entry{verdict: r.Verdict, beside: r.Beside, source: r.Source, until: now + time.Hour, refresh: now + 48*time.Minute})
	}
	e.cache.tidy()
	after := heap()
	if n := e.cache.size(); n < domains*9/10 {
		t.Fatalf("%d of %d domains are kept", n, domains)
	}
	runtime.KeepAlive(e)
	return float64(after-before) / float64(domains)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestEntryIsSmall: what a cached domain costs. Policies have two names, as most have.
func TestEntryIsSmall(t *testing.T) {
	ruling := func(p verdict.Proof, policy string) func(nexthop.Destination) verdict.Ruling {
		return func(d nexthop.Destination) verdict.Ruling { return verdict.Decide(published(t, d, p, policy)) }
	}
	for _, c := range []struct {
		name    string
		domains int
		most    float64
		rule    func(nexthop.Destination) verdict.Ruling
	}{
		{"no policy", 200_000, 400, nothing},
		{"DANE", 10_000, 400, ruling(verdict.Secure, "")},
		{"DANE beside a policy", 10_000, 700, ruling(verdict.Secure, "mx: mx1.NAME\nmx: mx2.NAME\n")},
		{"DANE beside wildcards", 10_000, 700, ruling(verdict.Secure, "mx: *.NAME\nmx: mx2.NAME\n")},
		{"MTA-STS", 10_000, 700, ruling(verdict.Insecure, "mx: mx1.NAME\nmx: mx2.NAME\n")},
		{"MTA-STS with wildcards", 10_000, 700, ruling(verdict.Insecure, "mx: *.NAME\nmx: mx2.NAME\n")},
	} {
		if n := bytesPerEntry(t, c.domains, c.rule); n > c.most {
			t.Errorf("%s: a cached domain costs %.0f bytes, want at most %.0f", c.name, n, c.most)
		} else {
			t.Logf("%s: %.0f bytes", c.name, n)
		}
	}
}

func nothing(nexthop.Destination) verdict.Ruling { return verdict.Ruling{Verdict: verdict.NoPolicy{}} }

// published are facts of a domain with two MX hosts, with TLSA records where its zone is
// secure, and with a policy unless it is "". Its texts are its own, as from the network.
func published(t testing.TB, d nexthop.Destination, zone verdict.Proof, policy string) verdict.Facts {
	t.Helper()
	addr := verdict.Answer[netip.Addr]{Outcome: verdict.Found, Proof: zone, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, TTL: time.Hour}
	record := tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: make([]byte, 32)}
	f := verdict.Facts{
		Now: time.Now(), Destination: d, Rules: verdict.Rules{STS: verdict.Enforce, DANE: verdict.Native},
		MX: verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: zone, TTL: time.Hour},
	}
	for _, label := range []string{"mx1.", "mx2."} {
		name := label + d.Name
		f.MX.Records = append(f.MX.Records, verdict.MX{Host: name})
		f.Hosts = append(f.Hosts, verdict.Host{Name: name, A: addr, AAAA: addr, TLSA: []verdict.TLSALookup{{
			Base: name, Answer: verdict.Answer[tlsa.Record]{Outcome: verdict.Found, Proof: zone, Records: []tlsa.Record{record}, TTL: time.Hour},
		}}})
	}
	f.STS = verdict.STSFacts{Settled: true, Record: verdict.Answer[string]{Outcome: verdict.NoData, TTL: time.Hour}}
	if policy == "" {
		return f
	}
	p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\n" + strings.ReplaceAll(policy, "NAME", d.Name) + "max_age: 604800\n"))
	if err != nil {
		t.Fatal(err)
	}
	cached := mtasts.Cached{Domain: strings.Clone(d.Name)}.AfterSuccess(time.Now(), "1", p, 0)
	f.STS.Policy = &cached
	return f
}

// TestPolicyBesideIsNoMore: of a long policy, what is told beside DANE keeps no more in
// memory than its size says.
func TestPolicyBesideIsNoMore(t *testing.T) {
	long := "mx: mx1.NAME\nx-comment: " + strings.Repeat("x", 50_000) + "\n"
	rule := func(d nexthop.Destination) verdict.Ruling {
		r := verdict.Decide(published(t, d, verdict.Secure, long))
		if r.Beside.Policy() == nil {
			t.Fatalf("%s: nothing beside %s", d.Name, r.Verdict.Name())
		}
		return r
	}
	if n := bytesPerEntry(t, 2000, rule); n > 1000 {
		t.Errorf("a cached domain costs %.0f bytes", n)
	}
}
