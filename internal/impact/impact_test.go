package impact

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/maillog"
	"tlsverdict/internal/verdict"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// full is a log in which Postfix told everything.
func full() maillog.Totals {
	var t maillog.Totals
	t.TLSLogged[maillog.Postfix], t.Checked[maillog.Postfix], t.Deliveries[maillog.Postfix] = true, true, 1
	return t
}

func delivery(host string, tls maillog.TLS) maillog.Delivery {
	return maillog.Delivery{Domain: "example.com", Host: host, TLS: tls, Outcome: maillog.Sent, Server: maillog.Postfix}
}

// TestJudge: every verdict against every way in which a message can have gone.
func TestJudge(t *testing.T) {
	sts := verdict.STS{Patterns: []string{"mx.example.com", "*.example.net"}}
	for _, c := range []struct {
		v    verdict.Verdict
		host string
		// unlogged, clear, encrypted, trusted, verified
		want string
	}{
		{nil, "mx.example.com", "unknown unknown unknown unknown unknown"},
		{verdict.NoPolicy{}, "mx.example.com", "pass pass pass pass pass"},
		{verdict.Encrypt{}, "mx.example.com", "unknown wait pass pass pass"},
		{verdict.DANE{}, "mx.example.com", "unknown unknown unknown unknown pass"},
		{verdict.DANEOnly{}, "mx.example.com", "unknown wait unknown unknown pass"},
		{verdict.Fingerprint{}, "mx.example.com", "unknown wait unknown unknown pass"},
		{sts, "mx.example.com", "unknown wait wait likely pass"},
		{sts, "a.example.net", "unknown wait wait likely pass"},
		{sts, "a.b.example.net", "unknown wait wait wait wait"},
		{verdict.WebPKI{Hosts: []string{"starttls-mx.example.com"}}, "starttls-mx.example.com", "unknown wait wait likely pass"},
		{verdict.Defer{Fault: verdict.Remote, Text: "bogus"}, "mx.example.com", "wait wait wait wait wait"},
		{verdict.Defer{Fault: verdict.Operator, Text: "no resolver"}, "mx.example.com", "unknown unknown unknown unknown unknown"},
		{verdict.Fixed{Level: "may"}, "mx.example.com", "pass pass pass pass pass"},
		{verdict.Fixed{Level: "encrypt"}, "mx.example.com", "unknown wait pass pass pass"},
		{verdict.Fixed{Level: "secure"}, "mx.example.com", "unknown wait wait likely likely"},
		{verdict.Fixed{Level: "dane-only"}, "mx.example.com", "unknown wait unknown unknown pass"},
	} {
		var got []string
		for tls := maillog.Unlogged; tls <= maillog.Verified; tls++ {
			f, why := judge(c.v, route{host: c.host, tls: tls}, true)
			got = append(got, map[fate]string{pass: "pass", likely: "likely", wait: "wait", unknown: "unknown"}[f])
			if (f == wait) && why == "" {
				t.Errorf("%T: mail waits, and nothing says why", c.v)
			}
		}
		if joined := strings.Join(got, " "); joined != c.want {
			t.Errorf("%T %v to %s: %s, want %s", c.v, c.v, c.host, joined, c.want)
		}
	}
	// A server without authorities says nothing of certificates.
	if f, _ := judge(sts, route{host: "mx.example.com", tls: maillog.Encrypted}, false); f != unknown {
		t.Errorf("without authorities: %v", f)
	}
	if f, _ := judge(sts, route{tls: maillog.Verified}, true); f != unknown {
		t.Errorf("without a host: %v", f)
	}
}

func TestCollect(t *testing.T) {
	c := NewCollector()
	for range 3 {
		c.Add(delivery("mx.example.com", maillog.Verified))
	}
	c.Add(delivery("mx.example.com", maillog.Clear))
	for _, o := range []maillog.Outcome{maillog.Deferred, maillog.Deferred, maillog.Bounced} {
		d := delivery("mx.example.com", maillog.Clear)
		d.Outcome = o
		c.Add(d)
	}
	row := c.Judge("example.com", full(), Ruled{verdict.DANEOnly{}, verdict.FromDANE})
	want := Row{
		Domain: "example.com", Sent: 4, Verified: 3, Clear: 1, Deferred: 2, Bounced: 1, Verdict: "dane-only", Source: "dane",
		Pass: 3, Wait: 1, Why: "it went in clear text",
	}
	if row != want {
		t.Errorf("%+v\nwant %+v", row, want)
	}
	// A log that tells nothing of TLS makes clear text an unknown.
	if row := c.Judge("example.com", maillog.Totals{}, Ruled{verdict.Encrypt{}, verdict.FromDANE}); row.Wait != 0 || row.Unknown != 1 || row.Clear != 0 {
		t.Errorf("%+v", row)
	}
	if row := c.Judge("nowhere.example", full(), Ruled{}); row != (Row{Domain: "nowhere.example"}) {
		t.Errorf("%+v", row)
	}
	// However many hosts there are, what is kept is bounded and no message is lost.
	for i := range 1000 {
		c.Add(delivery(fmt.Sprintf("mx%d.example.com", i), maillog.Verified))
	}
	row = c.Judge("example.com", full(), Ruled{verdict.STS{Patterns: []string{"*.example.com"}}, verdict.FromSTS})
	if len(c.domains["example.com"].routes) > hostsKept+1 || row.Sent != 1004 || row.Unknown != 1000-(hostsKept-2) {
		t.Errorf("%d routes, %+v", len(c.domains["example.com"].routes), row)
	}
	c.Add(maillog.Delivery{Domain: "a.example", Host: "h", TLS: maillog.Clear, Outcome: maillog.Sent})
	if got := strings.Join(c.Domains(), " "); got != "example.com a.example" {
		t.Errorf("domains %s", got)
	}
}

func report() Report {
	rows := []Row{
		{Domain: "good.example", Sent: 90, Verified: 90, Verdict: "dane-only", Source: "dane", Pass: 90},
		{Domain: "=cmd.example", Sent: 10, Clear: 10, Verdict: "secure", Source: "mta-sts", Wait: 10, Why: `a <b> & "c"`, Now: "bad", NowWhy: "no STARTTLS"},
		{Domain: "later.example", Sent: 0, Verdict: "secure", Now: Bad, NowWhy: "expired"},
		{Domain: "dark.example", Sent: 1, Encrypted: 1, Verdict: "dane", Source: "dane", Unknown: 1, Why: "nobody looked"},
	}
	return NewReport(rows, maillog.Totals{Lines: 1000, Cut: 1, Deliveries: [3]int64{100, 1, 0}, TLSLogged: [3]bool{true, false, false}}, now)
}

func TestReport(t *testing.T) {
	r := report()
	if r.Rows[0].Domain != "=cmd.example" || r.Rows[1].Domain != "dark.example" || r.Sum.Sent != 101 || r.Sum.Wait != 10 || r.Sum.Pass != 90 || r.Sum.Unknown != 1 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"smtp_tls_CAfile", "log_selector", "too long"} {
		if !strings.Contains(strings.Join(r.Remarks, "\n"), want) {
			t.Errorf("remarks %q lack %q", r.Remarks, want)
		}
	}
	var text strings.Builder
	if err := r.WriteText(&text, 1); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"101 messages to 4 domains, from 1000 lines", "90 verified (89.1 %), 1 encrypted (1.0 %), 10 clear (9.9 %)",
		"90 pass (89.1 %), 10 wait (9.9 %), 1 unknown (1.0 %)", "=cmd.example", "a probe now: bad, no STARTTLS", "and 2 more",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if strings.Contains(text.String(), "good.example") || strings.Contains(text.String(), "dark.example") {
		t.Errorf("too much in\n%s", &text)
	}
	text.Reset()
	if err := NewReport([]Row{{Domain: "good.example", Sent: 1, Verdict: "none", Pass: 1}}, full(), now).WriteText(&text, 0); err != nil || !strings.Contains(text.String(), "no mail would have waited") {
		t.Errorf("%v\n%s", err, &text)
	}
}

func TestFormats(t *testing.T) {
	r := report()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Rows) != 4 || back.Rows[0] != r.Rows[0] || !back.Made.Equal(now) {
		t.Errorf("%v %+v", err, back)
	}
	b.Reset()
	if err := r.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(lines) != 5 || len(lines[0]) != 18 || lines[1][0] != "'=cmd.example" || lines[1][13] != "10" {
		t.Errorf("%v %q", err, lines)
	}
	b.Reset()
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{`a &lt;b&gt; &amp; &#34;c&#34;`, `class="clear"`, "good.example", "default-src 'none'"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, bad := range []string{"<script", "http://", "https://", "<b> &", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q in the page", bad)
		}
	}
}

// file is a file that is read and then written behind.
type file struct {
	*strings.Reader
	bytes.Buffer
}

func (f *file) Read(p []byte) (int, error) { return f.Reader.Read(p) }

func TestState(t *testing.T) {
	out := &file{Reader: strings.NewReader("")}
	s, err := NewState(out, now)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]verdict.Verdict{
		"a.example": verdict.NoPolicy{}, "b.example": verdict.Encrypt{}, "c.example": verdict.DANE{}, "d.example": verdict.DANEOnly{},
		"e.example": verdict.STS{Patterns: []string{"*.e.example"}}, "f.example": verdict.WebPKI{Hosts: []string{"mx"}},
		"g.example": verdict.Fixed{Level: "encrypt"}, "h.example": verdict.Fingerprint{}, "i.example": verdict.Defer{},
	}
	for domain, v := range all {
		if err := s.Save(domain, Ruled{v, verdict.FromDANE}, now); err != nil {
			t.Fatal(err)
		}
	}
	written := out.String()
	again, err := NewState(&file{Reader: strings.NewReader(written)}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for domain, v := range all {
		r, ok := again.Known(domain)
		if _, open := v.(verdict.Defer); open == ok || ok && (r.Verdict.Name() != v.Name() || r.Source != verdict.FromDANE) {
			t.Errorf("%s: %v, %v", domain, r, ok)
		}
	}
	if r, _ := again.Known("e.example"); r.Verdict.(verdict.STS).Patterns[0] != "*.e.example" {
		t.Errorf("%v", r)
	}
	old, err := NewState(&file{Reader: strings.NewReader(written)}, now.Add(25*time.Hour))
	if err != nil || len(old.known) != 0 {
		t.Errorf("%v, %d known", err, len(old.known))
	}
	// A last line that was cut short is forgotten, and does not spoil the next one.
	cut := &file{Reader: strings.NewReader(written + `{"domain":"z.exa`)}
	if s, err = NewState(cut, now); err != nil || len(s.known) != len(all)-1 || cut.String() != "\n" {
		t.Errorf("%v, %q", err, cut.String())
	}
	for _, foreign := range []string{"# a file\nof somebody\n", "x\n", written + "x\n" + written} {
		if _, err := NewState(&file{Reader: strings.NewReader(foreign)}, now); err == nil {
			t.Errorf("%.20q is taken", foreign)
		}
	}
}

func TestNow(t *testing.T) {
	sts := verdict.STS{Patterns: []string{"*.example.com"}}
	good := Shown{Host: "mx.example.com", WebPKI: true}
	dane := Shown{Host: "mx.example.com", DANE: true, Why: "self-signed"}
	clear := Shown{Host: "mx.example.com", Failure: "it does not offer STARTTLS"}
	away := Shown{Host: "mx2.example.com", Failure: "refused", Silent: true}
	for _, c := range []struct {
		v     verdict.Verdict
		hosts []Shown
		want  string
	}{
		{sts, []Shown{good}, "good mx.example.com"},
		{sts, []Shown{clear, good}, "good mx.example.com"},
		{sts, []Shown{dane}, "bad mx.example.com: self-signed"},
		{sts, []Shown{{Host: "mx.example.net", WebPKI: true}}, "bad mx.example.net: it is not one of *.example.com"},
		{sts, []Shown{clear, away}, "unknown not every mail host could be reached from here"},
		{sts, nil, "unknown not every mail host could be reached from here"},
		{verdict.WebPKI{Hosts: []string{"mx.example.com"}}, []Shown{good}, "good mx.example.com"},
		{verdict.DANEOnly{}, []Shown{good}, "bad mx.example.com: no TLSA record matches its certificate"},
		{verdict.DANEOnly{}, []Shown{dane}, "good mx.example.com"},
		{verdict.Encrypt{}, []Shown{dane}, "good mx.example.com"},
		{verdict.Encrypt{}, []Shown{clear}, "bad mx.example.com: it does not offer STARTTLS"},
		{verdict.Fixed{Level: "secure"}, []Shown{dane}, "bad mx.example.com: self-signed"},
		{verdict.Fixed{Level: "dane-only"}, []Shown{dane}, "good mx.example.com"},
	} {
		word, why := Now(c.v, c.hosts)
		if got := word + " " + why; got != c.want {
			t.Errorf("%T %v: %s, want %s", c.v, c.hosts, got, c.want)
		}
	}
	if r := (Row{Verdict: "secure", Likely: 1}); !r.Doubtful() {
		t.Error("likely is no doubt")
	}
	if r := (Row{Unknown: 1}); r.Doubtful() {
		t.Error("a domain without a verdict is probed")
	}
}
