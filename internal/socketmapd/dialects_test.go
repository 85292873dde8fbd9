package socketmapd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// TestSendmailLimits: Sendmail cuts long lists and cannot read long replies at all, so
// that what it gets is short, and never names what the policy does not.
func TestSendmailLimits(t *testing.T) {
	var many, hosts []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("mx%02d.example.net", i))
		hosts = append(hosts, fmt.Sprintf("in%02d.example.com", i))
	}
	name := func(n int) string {
		return strings.Repeat("l", 60) + "." + strings.Repeat("m", n-69) + ".example"
	}
	longest := strings.Repeat(strings.Repeat("l", 61)+".", 4) + "abcde" // 253 octets
	for what, c := range map[string]struct {
		patterns, hosts []string
		want            string
	}{
		"all that fit":          {patterns: many[:14], hosts: hosts[:2], want: strings.Join(many[:14], ":")},
		"one too many":          {patterns: many[:15], hosts: hosts[:2], want: strings.Join(hosts[:2], ":")},
		"too many hosts":        {patterns: many, hosts: hosts, want: strings.Join(hosts[:14], ":")},
		"no host matches":       {patterns: many, want: strings.Join(many[:14], ":")},
		"the longest name":      {patterns: []string{longest}, want: longest},
		"a long one in between": {patterns: []string{many[0], longest, many[1]}, want: many[0] + ":" + many[1]},
		"wildcards":             {patterns: []string{"*.example.net", "*.b.example.net"}, want: ".example.net:.b.example.net"},
		"as long as it may be":  {patterns: []string{name(126), name(126)}, want: name(126) + ":" + name(126)},
		"longer by one":         {patterns: []string{name(126), name(127)}, want: name(126)},
	} {
		got := string(appendSecure(nil, c.patterns, c.hosts))
		if want := "OK secure match=" + c.want + " servername=hostname"; got != want {
			t.Errorf("%s:\n got %q\nwant %q", what, got, want)
		}
		if err := stsGrammar(got); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestEximLimits: the most preferred hosts are named, as many as there is room for.
func TestEximLimits(t *testing.T) {
	var hosts []string
	for i := range 3000 {
		hosts = append(hosts, fmt.Sprintf("mx%04d.mail.example.com", i))
	}
	got := string(appendHosts(nil, hosts, ""))
	if len(got) > longestExim+1 || !strings.HasSuffix(got, ".mail.example.com") || !strings.HasPrefix(got, "OK level=secure hosts=mx0000.mail.example.com:mx0001.") {
		t.Errorf("%d octets: %.60s ... %s", len(got), got, got[len(got)-40:])
	}
}

// TestPatience: a cold answer is TEMP before the MTA gives up on the map.
func TestPatience(t *testing.T) {
	for name, want := range map[string]time.Duration{
		"postfix": 12 * time.Second, "postfix-tlsrpt": 12 * time.Second, "verdict": 12 * time.Second,
		"sts": 4 * time.Second, "tls": 4 * time.Second, "exim": 8 * time.Second,
	} {
		for _, deadline := range []time.Duration{12 * time.Second, 2 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				got := serve(&fixed{verdict: verdict.DANEOnly{}, wait: time.Minute}, Options{Deadline: deadline}, name, "example.com")
				if took := time.Since(start); took != min(want, deadline) || !strings.HasPrefix(got, "TEMP") && name != "verdict" {
					t.Errorf("%s: %q after %v", name, got, took)
				}
			})
		}
	}
}

// TestNoPolicyByForm: each map has its own word for keys to which nothing applies, and
// for what is only observed.
func TestNoPolicyByForm(t *testing.T) {
	for name, want := range map[string]string{
		"postfix": "NOTFOUND ", "sts": "NOTFOUND ", "tls": "NOTFOUND ", "exim": "OK level=none", "verdict": "OK none source=none",
	} {
		for _, key := range []string{"[192.0.2.1]", "[IPv6:2001:db8::1]", ".example.com"} {
			f := &fixed{verdict: verdict.DANEOnly{}}
			if got := serve(f, Options{}, name, key); got != want || len(f.asked) > 0 {
				t.Errorf("%s %s: %q", name, key, got)
			}
		}
		if got := serve(&fixed{verdict: verdict.DANEOnly{}}, Options{}, name, "a..b"); !strings.HasPrefix(got, "TEMP ") {
			t.Errorf("%s: a key that is no name: %q", name, got)
		}
		if got := serve(&fixed{verdict: verdict.DANEOnly{}}, Options{Observe: true}, name, "example.com"); got != want && name != "verdict" {
			t.Errorf("%s observed: %q", name, got)
		}
	}
}

// TestVerdictMap: a program is told the word and what it rests on, also of what MTAs are
// not told.
func TestVerdictMap(t *testing.T) {
	for _, c := range []struct {
		ruled   engine.Ruled
		observe bool
		want    string
	}{
		{ruled: engine.Ruled{Verdict: verdict.NoPolicy{}}, want: "OK none source=none"},
		{ruled: engine.Ruled{Verdict: verdict.DANEOnly{}, Source: verdict.FromDANE}, want: "OK dane-only source=dane"},
		{ruled: engine.Ruled{Verdict: verdict.STS{}, Source: verdict.FromSTS}, want: "OK secure source=mta-sts"},
		{ruled: engine.Ruled{Verdict: verdict.Fixed{Level: "may"}, Source: verdict.FromOverride}, want: "OK may source=override"},
		{ruled: engine.Ruled{Verdict: verdict.Defer{Fault: verdict.Remote}, Source: verdict.FromDANE}, want: "OK defer source=dane fault=remote"},
		{ruled: engine.Ruled{Verdict: verdict.Defer{}}, observe: true, want: "OK defer source=none fault=tlsverdict mode=observe"},
		{ruled: engine.Ruled{Verdict: verdict.WebPKI{}, Source: verdict.FromPrefix}, observe: true, want: "OK secure source=prefix mode=observe"},
	} {
		got := string(appendVerdict(&Options{Observe: c.observe}, nil, example, c.ruled))
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		if err := verdictGrammar(got); err != nil {
			t.Errorf("%q: %v", got, err)
		}
	}
	if got := serve(&fixed{verdict: verdict.DANEOnly{}}, Options{Observe: true}, "verdict", "example.com"); got != "OK dane-only source=none mode=observe" {
		t.Errorf("a program in observe mode: %q", got)
	}
}

// TestWordsCostNothing: where the answer is a word, a question that did not come lately
// allocates the text of its key and nothing else, on any map.
func TestWordsCostNothing(t *testing.T) {
	for _, v := range []verdict.Verdict{verdict.NoPolicy{}, verdict.DANEOnly{}, verdict.DANE{}, verdict.Encrypt{}, verdict.Defer{Text: "SERVFAIL"}} {
		r := New(&known{v}, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		for _, in := range append(dialects(), mustLookUp(t, "verdict")) {
			req := postfixmap.Request{Map: []byte(in.name), Key: []byte("example.com")}
			buf := make([]byte, 0, 256)
			ctx := context.Background()
			if n := testing.AllocsPerRun(100, func() { r.ServeMap(ctx, req, buf) }); n > 1 {
				t.Errorf("%s, %s: %v allocations", in.name, v.Name(), n)
			}
		}
	}
}

// BenchmarkMaps is a hit on each map, where the answer is a word and where it is a line.
func BenchmarkMaps(b *testing.B) {
	sts := verdict.STS{Domain: "example.com", Patterns: []string{"mx.example.com", "*.example.net"}, Hosts: []string{"mx.example.com", "in.example.net"}}
	for _, v := range []verdict.Verdict{verdict.DANEOnly{}, sts} {
		r := New(&known{v}, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		for _, in := range append(dialects(), mustLookUp(b, "verdict")) {
			b.Run(v.Name()+"/"+in.name, func(b *testing.B) {
				req := postfixmap.Request{Map: []byte(in.name), Key: []byte("example.com")}
				buf := make([]byte, 0, 1024)
				ctx := context.Background()
				b.ReportAllocs()
				for b.Loop() {
					r.ServeMap(ctx, req, buf)
				}
			})
		}
	}
}
