package bench

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// The population is a number of domains that anyone can tell the kind of from the
// name: of twenty, fourteen have no policy, three have DANE, three have MTA-STS. That
// is stricter than any real mail: no policy is what costs least.

type kind int

const (
	plain kind = iota
	dane
	sts
	mixed // all of them
)

func (k kind) String() string {
	return [...]string{"no policy", "DANE", "MTA-STS", "mixed"}[k]
}

// domain names the i-th domain; names are as long as real ones, 27 octets.
func domain(i int) string { return string(appendDomain(nil, i)) }

func appendDomain(dst []byte, i int) []byte {
	dst = append(dst, "mail-domain-0000000"...)
	for at := len(dst) - 1; i > 0; at-- {
		dst[at] = byte('0' + i%10)
		i /= 10
	}
	return append(dst, ".example"...)
}

// number is the reverse of domain, for names below it too; -1 for others.
func number(name string) int {
	_, digits, ok := strings.Cut(strings.TrimSuffix(name, "."), "mail-domain-")
	digits, isDomain := strings.CutSuffix(digits, ".example")
	i, err := strconv.Atoi(digits)
	if !ok || !isDomain || err != nil {
		return -1
	}
	return i
}

func kindOf(i int) kind {
	switch i % 20 {
	case 3, 9, 15:
		return dane
	case 5, 11, 17:
		return sts
	}
	return plain
}

// policyOf is the MTA-STS policy of a domain.
func policyOf(i int, now time.Time) mtasts.Cached {
	name := domain(i)
	p, err := mtasts.ParsePolicy([]byte("version: STSv1\r\nmode: enforce\r\nmx: mx1." + name + "\r\nmx: *." + name + "\r\nmax_age: 2419200\r\n"))
	if err != nil {
		panic(err)
	}
	return mtasts.Cached{Domain: name}.AfterSuccess(now, "20260101", p, float64(i%97)/97)
}

// madeUp stands in for a Gatherer: the facts of the population, as the DNS would show
// them, with a TTL.
func madeUp(d nexthop.Destination, k kind, ttl time.Duration) verdict.Facts {
	now := time.Now()
	f := verdict.Facts{Now: now, Destination: d, Rules: verdict.Rules{STS: verdict.Enforce, Prefix: verdict.Enforce, DANE: verdict.Native}}
	f.STS.Settled = true
	f.STS.Record = verdict.Answer[string]{Outcome: verdict.NXDomain, Proof: verdict.Insecure, TTL: ttl}
	host := "mx1." + d.Name
	f.MX = verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Insecure, TTL: ttl, Records: []verdict.MX{{Preference: 10, Host: host}}}
	a := verdict.Answer[netip.Addr]{Outcome: verdict.Found, Proof: verdict.Insecure, TTL: ttl, Records: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1})}}
	aaaa := verdict.Answer[netip.Addr]{Outcome: verdict.NoData, Proof: verdict.Insecure, TTL: ttl}
	switch k {
	case dane:
		f.MX.Proof, a.Proof, aaaa.Proof = verdict.Secure, verdict.Secure, verdict.Secure
		record := tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: make([]byte, 32)}
		f.Hosts = []verdict.Host{{Name: host, Preference: 10, A: a, AAAA: aaaa, TLSA: []verdict.TLSALookup{{
			Base: host, Answer: verdict.Answer[tlsa.Record]{Outcome: verdict.Found, Proof: verdict.Secure, TTL: ttl, Records: []tlsa.Record{record}},
		}}}}
	case sts:
		policy := policyOf(max(number(d.Name), 0), now)
		policy.Domain = d.Name
		f.STS.Policy = &policy
		f.STS.Record = verdict.Answer[string]{Outcome: verdict.Found, Proof: verdict.Insecure, TTL: ttl, Records: []string{"v=STSv1; id=20260101"}}
	default:
		f.Hosts = []verdict.Host{{Name: host, Preference: 10, A: a, AAAA: aaaa}}
	}
	return f
}

func TestPopulation(t *testing.T) {
	want := map[kind]string{plain: "none", dane: "dane-only", sts: "secure"}
	for _, i := range []int{0, 3, 5, 19, 123456, 9_999_999} {
		if got := number("_25._tcp.mx1." + domain(i) + "."); got != i || len(domain(i)) != 27 {
			t.Errorf("%s is number %d, of %d octets", domain(i), got, len(domain(i)))
		}
		d, err := nexthop.Parse(domain(i))
		if err != nil {
			t.Fatal(err)
		}
		r := verdict.Decide(madeUp(d, kindOf(i), time.Hour))
		if r.Verdict.Name() != want[kindOf(i)] || r.Provisional {
			t.Errorf("%s: %s, want %s", d, r.Verdict.Name(), want[kindOf(i)])
		}
	}
}

// gatherFor returns a Gather that knows the population, all of one kind or mixed.
func gatherFor(k kind, ttl func() time.Duration) func(context.Context, nexthop.Destination) verdict.Facts {
	return func(_ context.Context, d nexthop.Destination) verdict.Facts {
		i, mine, life := max(number(d.Name), 0), k, ttl()
		if k == mixed {
			mine = kindOf(i)
		}
		if i >= hot && i < fresh {
			life = longLived * time.Second
		}
		return madeUp(d, mine, life)
	}
}
