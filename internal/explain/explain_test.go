package explain

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
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
		Rules: verdict.Rules{STS: verdict.Enforce, Prefix: verdict.Enforce, DANE: verdict.Native},
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
		"dane-policy": with(func(f *verdict.Facts) {
			f.STS = verdict.STSFacts{Policy: &cached}
			f.MX.Records = f.MX.Records[:1]
			f.Hosts = []verdict.Host{host("mx1.example.com", verdict.Secure, verdict.TLSALookup{Base: "mx1.example.com", Answer: found(verdict.Secure, good)})}
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
		"strict": with(func(f *verdict.Facts) {
			f.Rules.TXT, f.Rules.RR, f.Rules.RRType = verdict.Enforce, verdict.Enforce, signal.DefaultRRType
			f.MX = found(verdict.Secure, verdict.MX{Preference: 10, Host: "mx1.example.com"})
			f.Hosts = []verdict.Host{host("mx1.example.com", verdict.Insecure)}
			f.TXT = found(verdict.Secure, "v=spf1 -all", "v=SMTPSTRICT1; tls=required")
			f.RR = found(verdict.Secure, signal.RData("v=SMTPSTRICT1; tls=required; auth=webpki"), "\x01\xff")
		}),
		"observed": with(func(f *verdict.Facts) {
			f.Rules.TXT, f.Rules.RR, f.Rules.RRType = verdict.Observe, verdict.Observe, signal.DefaultRRType
			f.MX = found(verdict.Secure, verdict.MX{Preference: 10, Host: "starttls-mx1.example.com"}, verdict.MX{Preference: 20, Host: "mx2.example.com"})
			f.Hosts = []verdict.Host{host("starttls-mx1.example.com", verdict.Insecure), host("mx2.example.com", verdict.Insecure)}
			f.TXT = found(verdict.Secure, "v=SMTPSTRICT1; tls=required; auth=webpki")
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
	report.Replies = map[string]string{"postfix": "OK as an example", "exim": "OK level=example", "tls": "OK", "sts": "NOTFOUND "}
	return report
}

// reports are the examples, and what no facts lead to.
func reports(t *testing.T) map[string]*Report {
	t.Helper()
	out := make(map[string]*Report)
	for name, f := range examples(t) {
		out[name] = report(f)
	}
	failed, held := examples(t)["bogus"], engine.Ruled{Verdict: verdict.DANEOnly{}, Source: verdict.FromDANE, Until: now.Add(time.Minute)}
	out["pending"] = New(&engine.Explanation{Facts: failed, Ruling: verdict.Decide(failed), InForce: held})
	fallen := examples(t)["null-mx"]
	fallen.MX = found(verdict.Insecure, verdict.MX{Preference: 10, Host: "mx1.example.com"})
	fallen.STS.Failure = &verdict.STSFailure{Result: "sts-policy-fetch-error", Failure: verdict.Failure{Fault: verdict.Remote, Detail: "mta-sts.example.com: connection refused"}}
	out["pending-none"] = New(&engine.Explanation{Facts: fallen, Ruling: verdict.Decide(fallen), InForce: held})
	out["literal"] = Without("[198.51.100.1]", Reason{Code: "address-literal", Cite: "tlsverdict: address literal", Text: "an address literal: no signal applies to it"})
	out["crowd"] = New(crowd(t, 60))
	out["crowd"].shorten(bound{list: 4, text: 60})
	out["crowd"].Replies = map[string]string{"postfix": "OK " + strings.Repeat("x", 400)}
	return out
}

// crowd is a domain with n MX hosts that have many records each, and names that
// JSON needs more bytes for.
func crowd(t *testing.T, n int) *engine.Explanation {
	t.Helper()
	f := examples(t)["dane"]
	h := f.Hosts[0]
	for range 5 {
		h.A.Records = append(h.A.Records, h.A.Records[0])
		h.TLSA = append(h.TLSA, h.TLSA[0])
	}
	f.Hosts, f.MX.Records = nil, nil
	for i := range n {
		h.Name = fmt.Sprintf("starttls-mx%d.%s.example.com", i, strings.Repeat("<>", 1+i%30))
		f.Hosts = append(f.Hosts, h)
		f.MX.Records = append(f.MX.Records, verdict.MX{Preference: 10, Host: h.Name})
	}
	r := verdict.Decide(f)
	return &engine.Explanation{Facts: f, Ruling: r, InForce: engine.Ruled{Verdict: r.Verdict, Source: r.Source, Until: now.Add(time.Hour)}}
}

// TestText holds the texts against golden files, which are there to be read.
func TestText(t *testing.T) {
	for name, r := range reports(t) {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := r.WriteText(&b, Plain, now); err != nil {
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
	for name, r := range reports(t) {
		var plain, painted strings.Builder
		if err := r.WriteText(&plain, Plain, now); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteText(&painted, ANSI, now); err != nil {
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

// TestInForce: a script reads the verdict that is answered, and beside it the
// newer one that met a failure.
func TestInForce(t *testing.T) {
	f := examples(t)["bogus"]
	x := &engine.Explanation{
		Facts: f, Ruling: verdict.Decide(f),
		InForce: engine.Ruled{Verdict: verdict.STS{Domain: "example.com", Patterns: []string{"mx.example.com"}}, Source: verdict.FromSTS, Until: now.Add(time.Minute)},
	}
	r := New(x)
	if r.Verdict != "secure" || r.Source != "mta-sts" || len(r.Match) != 1 || !r.Expires.Equal(now.Add(time.Minute)) || r.Fault != "" || r.Error != "" {
		t.Errorf("%+v; want what is answered", r)
	}
	want := Pending{Verdict: "defer", Source: "none", Error: "the MX lookup of example.com failed: 127.0.0.1:53: bogus: signature expired", Fault: "remote"}
	if r.Pending == nil || *r.Pending != want || r.ReasonsOf != "pending" {
		t.Errorf("pending %+v, want %+v; reasons of %q", r.Pending, want, r.ReasonsOf)
	}
	x.InForce = engine.Ruled{Verdict: x.Ruling.Verdict, Source: x.Ruling.Source, Until: now.Add(time.Minute)}
	if r := New(x); r.Pending != nil || r.ReasonsOf != "" || r.Verdict != "defer" || r.Fault != "remote" {
		t.Errorf("%+v; want nothing pending", r)
	}
}

// TestEveryReasonHasACite: a section, or a rule of this program's own.
func TestEveryReasonHasACite(t *testing.T) {
	for name, r := range reports(t) {
		for _, reason := range r.Reasons {
			if reason.Cite == "" {
				t.Errorf("%s: %s has no cite", name, reason.Code)
			}
		}
	}
	for code, want := range map[verdict.Code]string{
		verdict.PrefixAll: "tlsverdict: MX name prefix", verdict.Overridden: "tlsverdict: override", verdict.MXNull: "RFC 7505 §3",
	} {
		if got := cite(code); got != want {
			t.Errorf("cite(%s) = %q, want %q", code, got, want)
		}
	}
}

// TestFit: whatever a domain publishes, its report fits, says what is missing, and
// keeps the decisive reason.
func TestFit(t *testing.T) {
	const limit = 99_000
	long := strings.Repeat("<mx>\xff", 9_000)
	wide := crowd(t, 400)
	for i := range wide.Ruling.Reasons {
		wide.Ruling.Reasons[i].Detail = long
	}
	for name, c := range map[string]struct {
		x       *engine.Explanation
		replies map[string]string
	}{
		"hosts":     {crowd(t, 1000), map[string]string{"postfix": "OK dane-only"}},
		"replies":   {crowd(t, 3), map[string]string{"a": long + long, "b": "OK short", "c": long, "d": strings.Repeat("x", 40_000)}},
		"all":       {crowd(t, 1000), map[string]string{"a": long, "b": long}},
		"long text": {wide, map[string]string{"a": long, "b": long}},
	} {
		r := New(c.x)
		r.Replies = c.replies
		if err := r.Fit(limit); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(r)
		if err != nil || len(data) > limit || !r.Truncated {
			t.Errorf("%s: %d bytes, truncated %v, %v", name, len(data), r.Truncated, err)
		}
		if got := len(r.Facts.Hosts) + r.Facts.HostsLeftOut; got != len(c.x.Facts.Hosts) {
			t.Errorf("%s: %d hosts are shown or counted, want %d", name, got, len(c.x.Facts.Hosts))
		}
		if got := len(r.Reasons) + r.ReasonsLeftOut; got != len(c.x.Ruling.Reasons) {
			t.Errorf("%s: %d reasons are shown or counted, want %d", name, got, len(c.x.Ruling.Reasons))
		}
		if last := r.Reasons[len(r.Reasons)-1]; last.Code != string(verdict.DANEAll) {
			t.Errorf("%s: the last reason is %s", name, last.Code)
		}
		for d, reply := range r.Replies {
			if whole := c.replies[d]; reply != whole && !strings.HasPrefix(whole, strings.TrimSuffix(reply, "...")) {
				t.Errorf("%s: the reply %s is another: %.40q", name, d, reply)
			}
		}
		if len(r.Replies) != len(c.replies) {
			t.Errorf("%s: %d replies, want %d", name, len(r.Replies), len(c.replies))
		}
		if name == "replies" && (r.Replies["d"] != c.replies["d"] || r.Replies["b"] != "OK short") {
			t.Error("a reply was cut that has room")
		}
	}
}

// TestFitLeavesSmallReportsAlone, and what the ruling shares with it.
func TestFitLeavesSmallReportsAlone(t *testing.T) {
	f := examples(t)["sts-held"]
	before, r := report(f), report(f)
	if err := r.Fit(99_000); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, before) || r.Truncated {
		t.Errorf("%+v became %+v", before, r)
	}
	x := crowd(t, 1000)
	name := x.Facts.MX.Records[999].Host
	New(x)
	if len(x.Facts.MX.Records) != 1000 || x.Facts.MX.Records[999].Host != name {
		t.Error("a report has changed the explanation")
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
