package socketmapd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// sample is a verdict and what each dialect says of it. Every verdict there is
// must be in the table, and every dialect must have words for it.
type sample struct {
	name    string
	verdict verdict.Verdict
	// beside is the policy that a verdict of DANE has beside it.
	beside *verdict.STS
	// want are the replies of postfix, postfix-tlsrpt, sts, tls and exim.
	want [5]string
}

func (s sample) ruled() engine.Ruled {
	return engine.Ruled{Verdict: s.verdict, Beside: &verdict.Beside{STS: s.beside}}
}

// example is the domain of all samples.
var example = nexthop.Destination{Name: "example.com", Port: nexthop.SMTPPort}

const (
	stsLine    = "OK secure match=mx.example.com:.example.net servername=hostname"
	unwritten  = "TEMP no name of the policy can be written in a policy line"
	noSendmail = "TEMP no name of the policy can be written for Sendmail"
	digestLine = "OK fingerprint match=01:ab:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00|" +
		"00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:ff servername=hostname"
)

func samples() []sample {
	policy := []string{"version: STSv1", "mode: enforce", "mx: mx.example.com", "mx: *.example.net", "max_age: 604800"}
	testing := &verdict.STSReport{Domain: "example.com", Patterns: []string{"*.example.net"}, Lines: policy[:2]}
	sts := verdict.STS{
		Domain: "example.com", Patterns: []string{"mx.example.com", "*.example.net"}, Lines: policy,
		Hosts: []string{"mx.example.com", "in1.example.net", "in2.example.net"},
	}
	fixed := func(level string, attributes ...verdict.Attribute) verdict.Fixed {
		return verdict.Fixed{Level: level, Attributes: attributes}
	}
	all := func(reply string) [5]string { return [5]string{reply, reply, reply, reply, reply} }
	return []sample{
		{"none", verdict.NoPolicy{}, nil, [5]string{"NOTFOUND ", "NOTFOUND ", "NOTFOUND ", "NOTFOUND ", "OK level=none"}},
		{"testing", verdict.NoPolicy{Report: testing}, nil, [5]string{
			"NOTFOUND ",
			"OK may policy_type=sts policy_domain=example.com mx_host_pattern=*.example.net { policy_string = version: STSv1 } { policy_string = mode: enforce }",
			"NOTFOUND ", "NOTFOUND ", "OK level=none",
		}},
		{"fetch failed", verdict.NoPolicy{Report: &verdict.STSReport{Domain: "example.com", Result: "sts-webpki-invalid"}}, nil, [5]string{
			"NOTFOUND ",
			"OK may policy_type=sts policy_domain=example.com policy_failure=sts-webpki-invalid",
			"NOTFOUND ", "NOTFOUND ", "OK level=none",
		}},
		{"dane-only", verdict.DANEOnly{}, nil, [5]string{"OK dane-only", "OK dane-only", "NOTFOUND ", "OK dane-only", "OK level=dane-only"}},
		{"dane-only beside a policy", verdict.DANEOnly{}, &sts, [5]string{"OK dane-only", "OK dane-only", stsLine, "OK dane-only", "OK level=dane-only"}},
		{"dane", verdict.DANE{}, nil, [5]string{"OK dane", "OK dane", "NOTFOUND ", "OK dane", "OK level=dane"}},
		{"dane of hosts", verdict.DANE{Hosts: []string{"mx1.example.com", "hostname", "mx2.example.net"}}, nil, [5]string{"OK dane", "OK dane", "NOTFOUND ", "OK dane", "OK level=dane tlsa=mx1.example.com:mx2.example.net"}},
		{"dane beside a policy", verdict.DANE{}, &sts, [5]string{"OK dane", "OK dane", stsLine, "OK dane", "OK level=dane"}},
		{
			"fingerprint",
			verdict.Fingerprint{Digests: [][sha256.Size]byte{{0x01, 0xab}, {31: 0xff}}},
			nil,
			[5]string{digestLine, digestLine, "NOTFOUND ", "OK dane-only", "OK level=dane-only"},
		},
		{
			"fingerprint beside a policy",
			verdict.Fingerprint{Digests: [][sha256.Size]byte{{0x01, 0xab}, {31: 0xff}}},
			&sts,
			[5]string{digestLine, digestLine, stsLine, "OK dane-only", "OK level=dane-only"},
		},
		{"fingerprint of nothing", verdict.Fingerprint{}, nil, [5]string{unwritten, unwritten, "NOTFOUND ", "OK dane-only", "OK level=dane-only"}},
		{"sts", sts, nil, [5]string{
			stsLine,
			stsLine + " policy_type=sts policy_domain=example.com" +
				" mx_host_pattern=mx.example.com mx_host_pattern=*.example.net { policy_string = version: STSv1 } { policy_string = mode: enforce }" +
				" { policy_string = mx: mx.example.com } { policy_string = mx: *.example.net } { policy_string = max_age: 604800 }",
			stsLine, stsLine, "OK level=secure hosts=mx.example.com:in1.example.net:in2.example.net",
		}},
		{"sts that no host matches", verdict.STS{Domain: "example.com", Patterns: sts.Patterns}, nil, [5]string{
			stsLine,
			stsLine + " policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com mx_host_pattern=*.example.net",
			stsLine, stsLine, "TEMP no MX host of example.com matches its MTA-STS policy",
		}},
		{
			"sts with what no line can hold",
			verdict.STS{Domain: "example.com", Patterns: []string{"hostname"}},
			nil,
			[5]string{unwritten, unwritten, noSendmail, noSendmail, "TEMP no MX host of example.com matches its MTA-STS policy"},
		},
		{"webpki", verdict.WebPKI{Hosts: []string{"starttls-a.example.com", "smtps-b.example.com"}}, nil, [5]string{
			"OK secure match=starttls-a.example.com:smtps-b.example.com servername=hostname",
			"OK secure match=starttls-a.example.com:smtps-b.example.com servername=hostname",
			"OK secure match=starttls-a.example.com:smtps-b.example.com servername=hostname",
			"OK secure match=starttls-a.example.com:smtps-b.example.com servername=hostname",
			"OK level=secure hosts=starttls-a.example.com:smtps-b.example.com",
		}},
		{"encrypt", verdict.Encrypt{}, nil, [5]string{"OK encrypt", "OK encrypt", "NOTFOUND ", "OK encrypt", "OK level=encrypt"}},
		{"defer", verdict.Defer{Fault: verdict.Remote, Text: "SERVFAIL"}, nil, all("TEMP SERVFAIL")},

		{"override none", fixed("none"), nil, [5]string{"OK none", "OK none", "NOTFOUND ", "NOTFOUND ", "OK level=none"}},
		{"override may", fixed("may", verdict.Attribute{Name: "ciphers", Value: "high"}), nil, [5]string{"OK may ciphers=high", "OK may ciphers=high", "NOTFOUND ", "NOTFOUND ", "OK level=none"}},
		{"override encrypt", fixed("encrypt"), nil, [5]string{"OK encrypt", "OK encrypt", "NOTFOUND ", "OK encrypt", "OK level=encrypt"}},
		{
			"override encrypt with what asks for no more",
			fixed("encrypt", verdict.Attribute{Name: "servername", Value: "nexthop"}, verdict.Attribute{Name: "connection_reuse", Value: "no"}), nil,
			[5]string{"OK encrypt servername=nexthop connection_reuse=no", "OK encrypt servername=nexthop connection_reuse=no", "NOTFOUND ", "OK encrypt", "OK level=encrypt"},
		},
		{"override encrypt with protocols", fixed("encrypt", verdict.Attribute{Name: "protocols", Value: "!TLSv1"}), nil, [5]string{
			"OK encrypt protocols=!TLSv1", "OK encrypt protocols=!TLSv1",
			"TEMP the override of example.com (encrypt) cannot be told to Sendmail: take protocols= out of it, and set that in the mail server's own configuration",
			"TEMP the override of example.com (encrypt) cannot be told to Sendmail: take protocols= out of it, and set that in the mail server's own configuration",
			"TEMP the override of example.com (encrypt) cannot be told to Exim: take protocols= out of it, and set that in the mail server's own configuration",
		}},
		{"override dane", fixed("dane"), nil, [5]string{"OK dane", "OK dane", "NOTFOUND ", "OK dane", "OK level=dane"}},
		{"override dane-only", fixed("dane-only"), nil, [5]string{"OK dane-only", "OK dane-only", "NOTFOUND ", "OK dane-only", "OK level=dane-only"}},
		{"override fingerprint", fixed("fingerprint", verdict.Attribute{Name: "match", Value: strings.TrimSuffix(strings.Repeat("AB:", 32), ":")}), nil, [5]string{
			"OK fingerprint match=" + strings.TrimSuffix(strings.Repeat("AB:", 32), ":"), "OK fingerprint match=" + strings.TrimSuffix(strings.Repeat("AB:", 32), ":"),
			`TEMP the override of example.com (fingerprint) cannot be told to Sendmail: write "dane-only", "encrypt", or "secure" with match=`,
			`TEMP the override of example.com (fingerprint) cannot be told to Sendmail: write "dane-only", "encrypt", or "secure" with match=`,
			`TEMP the override of example.com (fingerprint) cannot be told to Exim: write "dane-only", "encrypt", or "secure" with match=`,
		}},
		{"override verify", fixed("verify"), nil, [5]string{
			"OK verify", "OK verify",
			"TEMP the override of example.com (verify) cannot be told to Sendmail: write the names of the MX hosts in match=",
			"TEMP the override of example.com (verify) cannot be told to Sendmail: write the names of the MX hosts in match=",
			"TEMP the override of example.com (verify) cannot be told to Exim: write the names of the MX hosts in match=",
		}},
		{"override verify with names", fixed("verify", verdict.Attribute{Name: "match", Value: "MX1.example.com"}), nil, [5]string{
			"OK verify match=MX1.example.com", "OK verify match=MX1.example.com",
			"OK secure match=mx1.example.com servername=hostname", "OK secure match=mx1.example.com servername=hostname", "OK level=secure hosts=mx1.example.com",
		}},
		{"override secure", fixed("secure"), nil, [5]string{
			"OK secure", "OK secure",
			"OK secure match=example.com:.example.com servername=hostname", "OK secure match=example.com:.example.com servername=hostname",
			"TEMP the override of example.com (secure) cannot be told to Exim: write the names of the MX hosts in match=, in full",
		}},
		{"override secure with names", fixed("secure", verdict.Attribute{Name: "match", Value: "mx1.example.com:nexthop"}, verdict.Attribute{Name: "servername", Value: "hostname"}), nil, [5]string{
			"OK secure match=mx1.example.com:nexthop servername=hostname", "OK secure match=mx1.example.com:nexthop servername=hostname",
			"OK secure match=mx1.example.com:example.com servername=hostname", "OK secure match=mx1.example.com:example.com servername=hostname",
			"OK level=secure hosts=mx1.example.com:example.com",
		}},
		{"override secure by strategy", fixed("secure", verdict.Attribute{Name: "match", Value: "mx1.example.com:hostname"}), nil, [5]string{
			"OK secure match=mx1.example.com:hostname", "OK secure match=mx1.example.com:hostname",
			"TEMP the override of example.com (secure) cannot be told to Sendmail: write the names of the MX hosts in match=",
			"TEMP the override of example.com (secure) cannot be told to Sendmail: write the names of the MX hosts in match=",
			"TEMP the override of example.com (secure) cannot be told to Exim: write the names of the MX hosts in match=",
		}},
		{
			"override secure with a name for SNI",
			fixed("secure", verdict.Attribute{Name: "match", Value: ".example.com"}, verdict.Attribute{Name: "servername", Value: "nexthop"}), nil,
			[5]string{
				"OK secure match=.example.com servername=nexthop", "OK secure match=.example.com servername=nexthop",
				"TEMP the override of example.com (secure) cannot be told to Sendmail: write servername=hostname",
				"TEMP the override of example.com (secure) cannot be told to Sendmail: write servername=hostname",
				"TEMP the override of example.com (secure) cannot be told to Exim: write servername=hostname",
			},
		},
		{
			"override secure with its own certification authority",
			fixed("secure", verdict.Attribute{Name: "match", Value: "mx.example.com"}, verdict.Attribute{Name: "tafile", Value: "/etc/ca.pem"}), nil,
			[5]string{
				"OK secure match=mx.example.com tafile=/etc/ca.pem", "OK secure match=mx.example.com tafile=/etc/ca.pem",
				"TEMP the override of example.com (secure) cannot be told to Sendmail: take tafile= out of it, and set that in the mail server's own configuration",
				"TEMP the override of example.com (secure) cannot be told to Sendmail: take tafile= out of it, and set that in the mail server's own configuration",
				"TEMP the override of example.com (secure) cannot be told to Exim: take tafile= out of it, and set that in the mail server's own configuration",
			},
		},
	}
}

// TestDialects holds every sample verdict against every dialect, and every line
// against what its MTA accepts.
func TestDialects(t *testing.T) {
	opt := &Options{ReportLevel: "may"}
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			for i, in := range dialects() {
				got := string(in.spell(opt, nil, example, s.ruled()))
				if got != s.want[i] {
					t.Errorf("%s:\n got %q\nwant %q", in.name, got, s.want[i])
				}
				if err := grammars()[in.name](got); err != nil {
					t.Errorf("%s: %q: %v", in.name, got, err)
				}
			}
		})
	}
	quiet := &Options{}
	if got := string(appendTLSRPT(quiet, nil, example, samples()[1].ruled())); got != "NOTFOUND " {
		t.Errorf("testing mode without report_level: %q; an explicit level would replace that of main.cf", got)
	}
}

// TestEveryVerdictHasASample names the verdicts that the table must hold.
func TestEveryVerdictHasASample(t *testing.T) {
	want := map[string]bool{"none": true, "dane-only": true, "dane": true, "secure": true, "encrypt": true, "fingerprint": true, "defer": true}
	for _, s := range samples() {
		delete(want, s.verdict.Name())
	}
	if len(want) > 0 {
		t.Errorf("no sample of %v", want)
	}
}

// TestLongPolicy: a policy of 60 KB of mx lines fits in a reply, and what is
// enforced of it is whole.
func TestLongPolicy(t *testing.T) {
	var v verdict.STS
	v.Domain = "example.com"
	for i := range 2500 {
		p := "*.mx" + strings.Repeat("x", i%10) + string(rune('a'+i%26)) + ".example.net"
		v.Patterns = append(v.Patterns, p)
		v.Lines = append(v.Lines, "mx: "+p)
	}
	got := appendTLSRPT(&Options{}, nil, example, engine.Ruled{Verdict: v})
	if len(got) > postfixmap.MaxReply {
		t.Fatalf("a reply of %d bytes", len(got))
	}
	p, err := postfixmap.ParseTLSPolicy(string(got[3:]), postfixmap.V3_10)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Match) != 2500 {
		t.Errorf("%d patterns are left in match=", len(p.Match))
	}
}

// TestManyFingerprints: as many as a verdict can have fit in a reply, with room.
func TestManyFingerprints(t *testing.T) {
	var v verdict.Fingerprint
	for i := range verdict.MaxDigests {
		v.Digests = append(v.Digests, [sha256.Size]byte{byte(i)})
	}
	got := appendTLSRPT(&Options{}, nil, example, engine.Ruled{Verdict: v})
	if len(got) > postfixmap.MaxReply/2 {
		t.Fatalf("a reply of %d bytes", len(got))
	}
	p, err := postfixmap.ParseTLSPolicy(string(got[3:]), postfixmap.V3_4)
	if err != nil || len(p.Match) != verdict.MaxDigests {
		t.Errorf("%d of %d digests: %v", len(p.Match), verdict.MaxDigests, err)
	}
}

// TestReportsNeverDefer: policy_string and policy_domain are only reported, so what
// cannot be written of them is left out; the mail goes on (RFC 8461 §5).
func TestReportsNeverDefer(t *testing.T) {
	const secured = "OK secure match=mx.example.com servername=hostname"
	lines := []string{"version:\tSTSv1", "comment: }{", "mode: enforce", "x: {", "max_age:\t86400"}
	written := " { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = max_age: 86400 }"
	mx := []string{"mx.example.com"}
	huge := []string{strings.Repeat("x", maxPolicy)}
	for _, c := range []struct {
		name    string
		verdict verdict.Verdict
		want    string
	}{
		{
			"lines, enforced",
			verdict.STS{Domain: "example.com", Patterns: mx, Lines: lines},
			secured + " policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com" + written,
		},
		{
			"lines, testing",
			verdict.NoPolicy{Report: &verdict.STSReport{Domain: "example.com", Patterns: mx, Lines: lines}},
			"OK may policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com" + written,
		},
		{"domain, enforced", verdict.STS{Domain: "foo-.example.com", Patterns: mx, Lines: lines}, secured},
		{"domain, testing", verdict.NoPolicy{Report: &verdict.STSReport{Domain: "foo-.example.com", Patterns: mx}}, "NOTFOUND "},
		{"domain, fetch error", verdict.NoPolicy{Report: &verdict.STSReport{Domain: "foo-.example.com", Result: "sts-policy-fetch-error"}}, "NOTFOUND "},
		{"a result that Postfix does not know", verdict.NoPolicy{Report: &verdict.STSReport{Domain: "example.com", Result: "dane-required"}}, "NOTFOUND "},
		{
			"a long line",
			verdict.STS{Domain: "example.com", Patterns: mx, Lines: huge},
			secured + " policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com",
		},
	} {
		got := string(appendTLSRPT(&Options{ReportLevel: "may"}, nil, example, engine.Ruled{Verdict: c.verdict}))
		if got != c.want {
			t.Errorf("%s:\n got %.300q\nwant %q", c.name, got, c.want)
		}
	}
}

// fixed plays the engine.
type fixed struct {
	verdict verdict.Verdict
	known   bool
	asked   []nexthop.Destination
	wait    time.Duration
}

func (f *fixed) Cached(d nexthop.Destination) (engine.Ruled, bool) {
	if f.known {
		f.asked = append(f.asked, d)
	}
	return engine.Ruled{Verdict: f.verdict}, f.known
}

func (f *fixed) Hold(nexthop.Destination) *engine.Hold { return nil }

func (f *fixed) Rule(ctx context.Context, d nexthop.Destination) engine.Ruled {
	f.asked = append(f.asked, d)
	select {
	case <-time.After(f.wait):
		return engine.Ruled{Verdict: f.verdict}
	case <-ctx.Done():
		return engine.Ruled{Verdict: verdict.Defer{Text: "not yet"}}
	}
}

func (f *fixed) Explain(_ context.Context, d nexthop.Destination) *engine.Explanation {
	return &engine.Explanation{
		Facts:   verdict.Facts{Destination: d},
		Ruling:  verdict.Ruling{Verdict: f.verdict, Source: verdict.FromDANE, Reasons: []verdict.Reason{{Code: verdict.DANEAll, Subject: d.Name}}},
		InForce: engine.Ruled{Verdict: f.verdict, Until: time.Now().Add(time.Hour)},
	}
}

func (f *fixed) Prepare(context.Context, nexthop.Destination) {}

func serve(f *fixed, opt Options, mapName, key string) string {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Deadline == 0 {
		opt.Deadline = time.Minute
	}
	return string(New(f, opt).ServeMap(context.Background(), postfixmap.Request{Map: []byte(mapName), Key: []byte(key)}, nil))
}

func TestKeys(t *testing.T) {
	for key, want := range map[string]string{
		"example.com":           "OK dane-only",
		"Example.COM.":          "OK dane-only",
		"bücher.example":        "OK dane-only",
		"[mx.example.com]:587":  "OK dane-only",
		".example.com":          "NOTFOUND ",
		"[192.0.2.1]":           "NOTFOUND ",
		"[IPv6:2001:db8::1]:25": "NOTFOUND ",
	} {
		f := &fixed{verdict: verdict.DANEOnly{}}
		if got := serve(f, Options{}, "postfix", key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
		if want == "NOTFOUND " && len(f.asked) > 0 {
			t.Errorf("%s: the engine was asked for %v", key, f.asked)
		}
	}
	for _, key := range []string{"", "a..b", "[mx.example.com", "example.com:x"} {
		if got := serve(&fixed{verdict: verdict.DANEOnly{}}, Options{}, "postfix", key); !strings.HasPrefix(got, "TEMP ") {
			t.Errorf("%q: %q, want TEMP", key, got)
		}
	}
}

func TestMaps(t *testing.T) {
	for _, name := range []string{"postfix", "QUERY", "query", "postfix-tlsrpt", "QUERYwithTLSRPT"} {
		if got := serve(&fixed{verdict: verdict.DANEOnly{}, known: true}, Options{}, name, "example.com"); got != "OK dane-only" {
			t.Errorf("%s: %q", name, got)
		}
	}
	var log bytes.Buffer
	opt := Options{Log: slog.New(slog.NewTextHandler(&log, nil))}
	if got := serve(&fixed{}, opt, "postfx", "example.com"); got != `TEMP unknown map "postfx"` {
		t.Errorf("an unknown map: %q", got)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "postfx") {
		t.Errorf("an unknown map is not in the log as an error: %s", log.String())
	}
}

func TestObserve(t *testing.T) {
	for _, v := range []verdict.Verdict{verdict.DANEOnly{}, verdict.Defer{Text: "SERVFAIL"}} {
		f := &fixed{verdict: v}
		if got := serve(f, Options{Observe: true}, "postfix", "example.com"); got != "NOTFOUND " {
			t.Errorf("%s observed: %q", v.Name(), got)
		}
		if len(f.asked) != 1 {
			t.Error("nothing was evaluated")
		}
	}
}

// TestObserveTellsNothing: in observe mode the MTA is told "not found" whatever it
// asks of a map that exists.
func TestObserveTellsNothing(t *testing.T) {
	for _, name := range []string{"postfix", "QUERY", "query", "postfix-tlsrpt", "QUERYwithTLSRPT"} {
		for _, key := range []string{"", "a..b", "[mx.example.com", "example.com:x", "*", "[192.0.2.1]", ".example.com"} {
			if got := serve(&fixed{verdict: verdict.DANEOnly{}}, Options{Observe: true}, name, key); got != "NOTFOUND " {
				t.Errorf("%s %q: %q", name, key, got)
			}
		}
	}
	if got := serve(&fixed{}, Options{Observe: true}, "postfx", "example.com"); !strings.HasPrefix(got, "TEMP ") {
		t.Errorf("an unknown map: %q", got)
	}
	if got := serve(&fixed{}, Options{Observe: true}, "json", "a..b"); !strings.HasPrefix(got, "TEMP ") {
		t.Errorf("a program that asks for a report: %q, and not why there is none", got)
	}
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got := serve(&fixed{verdict: verdict.DANEOnly{}, wait: time.Minute}, Options{Deadline: 12 * time.Second}, "postfix", "example.com")
		if got != "TEMP not yet" || time.Since(start) != 12*time.Second {
			t.Errorf("%q after %v, want TEMP after 12 s", got, time.Since(start))
		}
	})
}

func TestJSON(t *testing.T) {
	got := serve(&fixed{verdict: verdict.STS{Domain: "example.com", Patterns: []string{"*.example.com"}}}, Options{}, "json", "Example.com")
	data, ok := strings.CutPrefix(got, "OK ")
	if !ok {
		t.Fatal(got)
	}
	var r explain.Report
	if err := json.Unmarshal([]byte(data), &r); err != nil {
		t.Fatal(err)
	}
	if r.Destination != "example.com" || r.Verdict != "secure" || len(r.Match) != 1 || r.Replies["postfix"] != "OK secure match=.example.com servername=hostname" ||
		len(r.Reasons) != 1 || r.Reasons[0].Cite != "RFC 7672 §2.2" {
		t.Errorf("%+v", r)
	}
}

// crowd plays an engine whose one destination is as large as a domain can make it.
type crowd struct {
	fixed
	facts   verdict.Facts
	reasons []verdict.Reason
}

func (c *crowd) Explain(_ context.Context, d nexthop.Destination) *engine.Explanation {
	c.facts.Destination = d
	return &engine.Explanation{
		Facts:   c.facts,
		Ruling:  verdict.Ruling{Verdict: c.verdict, Source: verdict.FromSTS, Reasons: c.reasons},
		InForce: engine.Ruled{Verdict: c.verdict, Source: verdict.FromSTS, Until: time.Now().Add(time.Hour)},
	}
}

// TestJSONFits: a report is an answer whatever a domain publishes: a policy of 60 KB,
// 3,000 MX hosts, or both. What is cut says so.
func TestJSONFits(t *testing.T) {
	var sts verdict.STS
	sts.Domain = "example.com"
	for i := range 2200 {
		p := fmt.Sprintf("mx%d.mail.example.com", i)
		sts.Patterns, sts.Lines = append(sts.Patterns, p), append(sts.Lines, "mx: "+p)
	}
	var facts verdict.Facts
	var reasons []verdict.Reason
	var webpki verdict.WebPKI
	for i := range 3000 {
		name := fmt.Sprintf("starttls-mx%d.mail.example.com", i)
		webpki.Hosts = append(webpki.Hosts, name)
		facts.MX.Records = append(facts.MX.Records, verdict.MX{Preference: 10, Host: name})
		facts.Hosts = append(facts.Hosts, verdict.Host{Name: name})
		reasons = append(reasons, verdict.Reason{Code: verdict.TLSAAbsent, Subject: name})
	}
	facts.MX.Outcome = verdict.Found
	short := []verdict.Reason{{Code: verdict.STSEnforce}}
	for name, c := range map[string]*crowd{
		"policy of 60 KB": {fixed: fixed{verdict: sts}, reasons: short},
		"3000 hosts":      {fixed: fixed{verdict: webpki}, facts: facts, reasons: reasons},
		"both":            {fixed: fixed{verdict: sts}, facts: facts, reasons: reasons},
	} {
		r := New(c, Options{Deadline: time.Minute, Log: slog.New(slog.DiscardHandler)})
		got := r.ServeMap(t.Context(), postfixmap.Request{Map: []byte("json"), Key: []byte("example.com")}, nil)
		if len(got) > postfixmap.MaxReply {
			t.Errorf("%s: a reply of %d bytes", name, len(got))
		}
		data, _ := bytes.CutPrefix(got, []byte("OK "))
		var report explain.Report
		if err := json.Unmarshal(data, &report); err != nil {
			t.Fatalf("%s: %v: %.100s", name, err, got)
		}
		if !report.Truncated || report.Verdict != "secure" || len(report.Match) == 0 || report.MatchLeftOut == 0 || len(report.Replies) != len(dialects()) {
			t.Errorf("%s: %.500s", name, got)
		}
		if want := string(appendPostfix(&r.opt, nil, example, engine.Ruled{Verdict: c.verdict})); name == "policy of 60 KB" && report.Replies["postfix"] != want {
			t.Errorf("%s: the reply has %d bytes of %d, and room", name, len(report.Replies["postfix"]), len(want))
		}
	}
}

// TestNothingApplies: a key that no signal applies to has a report of its own, for
// people.
func TestNothingApplies(t *testing.T) {
	for _, key := range []string{"[198.51.100.1]", "[IPv6:2001:db8::1]:25", ".example.com"} {
		_, err := nexthop.Parse(key)
		r := NothingApplies(key, err)
		if r == nil || r.Destination != key || r.Verdict != "none" || len(r.Reasons) != 1 || r.Reasons[0].Cite == "" {
			t.Fatalf("%s: %+v", key, r)
		}
		for _, d := range dialects() {
			if got := serve(&fixed{}, Options{}, d.name, key); r.Replies[d.name] != got {
				t.Errorf("%s: the report tells of %q, the %s map of %q", key, r.Replies[d.name], d.name, got)
			}
		}
	}
	for _, key := range []string{"", "a..b", "example.com"} {
		_, err := nexthop.Parse(key)
		if r := NothingApplies(key, err); r != nil {
			t.Errorf("%q: %+v", key, r)
		}
	}
}

// TestHitAllocatesNextToNothing: the key and nothing else.
func TestHitAllocatesNextToNothing(t *testing.T) {
	r := New(hit{}, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	req := postfixmap.Request{Map: []byte("postfix"), Key: []byte("example.com")}
	buf := make([]byte, 0, 128)
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() { r.ServeMap(ctx, req, buf) }); n > 1 {
		t.Errorf("a hit allocates %v times", n)
	}
}

// TestHitIsLoggedAtDebug: one record a question, at debug only.
func TestHitIsLoggedAtDebug(t *testing.T) {
	var log bytes.Buffer
	for level, want := range map[slog.Level]string{
		slog.LevelInfo:  "",
		slog.LevelDebug: "level=DEBUG msg=answered map=postfix dest=[mx.example.com]:587 verdict=dane-only cached=true\n",
	} {
		log.Reset()
		opt := Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))}
		serve(&fixed{verdict: verdict.DANEOnly{}, known: true}, opt, "postfix", "[MX.example.com]:587")
		if _, got, _ := strings.Cut(log.String(), " "); got != want {
			t.Errorf("at %v: %q, want %q", level, got, want)
		}
	}
	log.Reset()
	opt := Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	serve(&fixed{verdict: verdict.DANEOnly{}}, opt, "postfix", "example.com")
	if log.Len() > 0 {
		t.Errorf("a miss, of which the engine has its own record: %s", log.String())
	}
}

// TestReportsLeaveRoomForHits: reports wait for each other, within the deadline, and
// nothing else waits for them.
func TestReportsLeaveRoomForHits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(hit{&fixed{verdict: verdict.DANEOnly{}}}, Options{Deadline: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
		for i := range runtime.GOMAXPROCS(0) {
			go func() { _ = r.reports.Enter(t.Context(), fmt.Sprint("busy", i)) }()
		}
		synctest.Wait()
		start := time.Now()
		if got := string(r.ServeMap(t.Context(), postfixmap.Request{Map: []byte("postfix"), Key: []byte("example.com")}, nil)); got != "OK dane-only" {
			t.Errorf("a hit: %q", got)
		}
		got := string(r.ServeMap(t.Context(), postfixmap.Request{Map: []byte("json"), Key: []byte("example.com")}, nil))
		if !strings.HasPrefix(got, "TEMP too many reports") || time.Since(start) != 5*time.Second {
			t.Errorf("a report: %q after %v", got, time.Since(start))
		}
	})
}

type hit struct{ *fixed }

func (hit) Cached(nexthop.Destination) (engine.Ruled, bool) {
	return engine.Ruled{Verdict: verdict.DANEOnly{}}, true
}

func BenchmarkServeMap(b *testing.B) {
	for _, s := range samples() {
		b.Run(strings.ReplaceAll(s.name, " ", "-"), func(b *testing.B) {
			r := New(&known{s.verdict}, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
			req := postfixmap.Request{Map: []byte("postfix"), Key: []byte("example.com")}
			buf := make([]byte, 0, 1024)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				r.ServeMap(ctx, req, buf)
			}
		})
	}
}

type known struct{ v verdict.Verdict }

func (k *known) Cached(nexthop.Destination) (engine.Ruled, bool) {
	return engine.Ruled{Verdict: k.v}, true
}

func (k *known) Hold(nexthop.Destination) *engine.Hold { return nil }

func (k *known) Rule(context.Context, nexthop.Destination) engine.Ruled {
	return engine.Ruled{Verdict: k.v}
}

func (k *known) Explain(context.Context, nexthop.Destination) *engine.Explanation {
	panic("not asked here")
}

func (k *known) Prepare(context.Context, nexthop.Destination) {}

// TestFingerprintLine: the short way to the line gives the line.
func TestFingerprintLine(t *testing.T) {
	for n := 1; n < 4; n++ {
		var v verdict.Fingerprint
		for i := range n {
			v.Digests = append(v.Digests, sha256.Sum256([]byte{byte(i)}))
		}
		want := string(appendPolicy(nil, fingerprint(v)))
		if got := string(appendFingerprint(nil, v)); got != want || !strings.HasPrefix(got, "OK fingerprint match=") {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
