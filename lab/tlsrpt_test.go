package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// tlsrptSocket is where contrib's lines have Postfix report to.
const tlsrptSocket = "var/spool/postfix/run/tlsrpt/tlsrpt-collector.sock"

// collector takes the datagrams that Postfix sends to whoever writes TLSRPT reports.
type collector struct {
	mu   sync.Mutex
	sent []string
}

func (b box) collect(t *testing.T) *collector {
	t.Helper()
	socket := b.path(tlsrptSocket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(socket) // of an earlier setup, or not there
	in, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	c := new(collector)
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, err := in.Read(buffer)
			if err != nil {
				return // closed
			}
			c.mu.Lock()
			c.sent = append(c.sent, string(buffer[:n]))
			c.mu.Unlock()
		}
	}()
	t.Cleanup(func() { in.Close() })
	return c
}

// about returns what was reported of a domain.
func (c *collector) about(domain string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	for _, s := range c.sent {
		if strings.Contains(s, `"d": "`+domain+`"`) {
			found = append(found, s)
		}
	}
	return found
}

// reporting is what Postfix reports of mail to a domain (RFC 8460 §4.3), and of what
// becomes of the mail.
type reporting struct {
	name, title string
	mail        string // sent or deferred
	cell        string
	may         string // with report_level = "may", where that is another
}

// What Postfix says of a policy, and how the mail went by it.
const (
	noReport    = "nothing"
	noPolicy    = "`no-policy-found`, success"
	tlsaSuccess = "`tlsa`, success"
	stsSuccess  = "`sts`, success"
	stsTesting  = "`sts` in mode testing, success"
)

func tlsaFailure(result string) string { return "`tlsa`, failure: `" + result + "`" }
func stsFailure(result string) string  { return "`sts`, failure: `" + result + "`" }

func reportings() []reporting {
	return []reporting{
		{"rptdane", "DANE, and the key is the right one", "sent", tlsaSuccess, ""},
		{"rptdanebad", "DANE, and another key", "deferred", tlsaFailure("certificate-not-trusted"), ""},
		{"rptdaneclear", "DANE, and no STARTTLS", "deferred", tlsaFailure("starttls-not-supported"), ""},
		{"rptdaneunusable", "TLSA records that are unusable: mandatory TLS", "sent", noPolicy, ""},
		{"rptsts", "MTA-STS, and the certificate is good", "sent", stsSuccess, ""},
		{"rptstsmisnamed", "MTA-STS, and a certificate for another name", "deferred", stsFailure("certificate-host-mismatch"), ""},
		{"rptstsexpired", "MTA-STS, and a certificate that has expired", "deferred", stsFailure("certificate-expired"), ""},
		{"rptstsselfsigned", "MTA-STS, and a self-signed certificate", "deferred", stsFailure("validation-failure"), ""},
		{"rptstsclear", "MTA-STS, and no STARTTLS", "deferred", stsFailure("starttls-not-supported"), ""},
		{"rptstsunlisted", "MTA-STS, and an MX host that the policy does not list", "deferred", noReport, ""},
		{"rptststesting", "MTA-STS in mode testing, and the certificate is good", "sent", noPolicy, stsTesting},
		{"rptststestingbad", "MTA-STS in mode testing, and a certificate for another name", "sent", noPolicy, stsTesting},
		{"rptststestingunlisted", "MTA-STS in mode testing, and an MX host that the policy does not list", "sent", noPolicy, stsTesting},
		{"rptststestingclear", "MTA-STS in mode testing, and no STARTTLS", "sent", noReport, ""},
		{"rptstsdown", "MTA-STS, and the policy cannot be fetched", "sent", noPolicy, stsSuccess},
		{"rptnone", "no policy; a self-signed certificate", "sent", noPolicy, ""},
		{"rptnoneclear", "no policy; no STARTTLS", "sent", noReport, ""},
		{"rptunasked", "MTA-STS, and no record asks for reports", "sent", noReport, ""},
	}
}

// in is the cell of a setup.
func (r reporting) in(s setup) string {
	if r.may != "" && s.more != "" {
		return r.may
	}
	return r.cell
}

// reported sends mail by every kind of policy, and looks at what Postfix reports of it. A
// host with two addresses is reported of twice, and both say the same.
func (l *lab) reported(t *testing.T) {
	c := l.collect(t)
	var rows []outcome
	for _, r := range reportings() {
		rows = append(rows, outcome{name: r.name, to: r.name + ".example"})
	}
	rows = l.rows(rows)
	l.send(t, rows...)
	for i, r := range reportings() {
		l.waitFor(t, rows[i], 1)
		attempts := l.program.attempts(rows[i].recipient())
		if got := attempts[len(attempts)-1].status; got != r.mail {
			t.Errorf("%s: %s, not %s", r.title, got, r.mail)
		}
		want := r.in(l.setup)
		var got string
		seen := func() bool { got = cellOf(t, c.about(r.name+".example")); return got == want }
		if err := eventually(t.Context(), seen); err != nil {
			t.Errorf("%s: Postfix reports %s, not %s: %q", r.title, got, want, c.about(r.name+".example"))
		}
	}
	// Nothing that was to be nothing came later.
	for _, r := range reportings() {
		if got := cellOf(t, c.about(r.name+".example")); got != r.in(l.setup) {
			t.Errorf("%s: Postfix reports %s in the end, not %s", r.title, got, r.in(l.setup))
		}
	}
	for _, want := range []string{
		`"policy-domain": "rptsts.example"`, `"policy-string":["version: STSv1","mode: enforce","mx: mx.rptsts.example","max_age: 86400"]`,
		`"mx-host":["mx.rptsts.example"]`, `"pr": "v=TLSRPTv1; rua=mailto:reports@rptsts.example"`,
	} {
		if got := strings.Join(c.about("rptsts.example"), "\n"); !strings.Contains(got, want) {
			t.Errorf("rptsts.example: the report lacks %q: %s", want, got)
		}
	}
	if got := strings.Join(c.about("rptdane.example"), "\n"); !strings.Contains(got, `"policy-string":["3 1 1 `) {
		t.Errorf("rptdane.example: the report lacks the TLSA record: %s", got)
	}
}

// cellOf is what datagrams of one domain come to.
func cellOf(t *testing.T, sent []string) string {
	t.Helper()
	var cells []string
	for _, text := range sent {
		var d struct {
			Policies []struct {
				Type     int      `json:"policy-type"`
				Strings  []string `json:"policy-string"`
				Failures []struct {
					Code int `json:"c"`
				} `json:"failure-details"`
				Final int `json:"f"`
			} `json:"policies"`
		}
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		for _, p := range d.Policies {
			cell := map[int]string{1: "`tlsa`", 2: "`sts`", 9: "`no-policy-found`"}[p.Type]
			if slices.Contains(p.Strings, "mode: testing") {
				cell += " in mode testing"
			}
			cell += map[int]string{0: ", success", 1: ", failure"}[p.Final]
			for _, f := range p.Failures {
				cell += ": `" + map[int]string{
					201: "starttls-not-supported", 202: "certificate-host-mismatch", 203: "certificate-not-trusted", 204: "certificate-expired", 205: "validation-failure",
				}[f.Code] + "`"
			}
			cells = append(cells, cell)
		}
	}
	slices.Sort(cells)
	return cmp.Or(strings.Join(slices.Compact(cells), "; "), noReport)
}

// tlsrptTable renders the table of docs/tlsrpt.md.
func tlsrptTable() string {
	var b strings.Builder
	b.WriteString("| situation | mail | Postfix reports | with `report_level = \"may\"` |\n|---|---|---|---|\n")
	for _, r := range reportings() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.title, map[string]string{"sent": "sent", "deferred": "waits"}[r.mail], r.cell, cmp.Or(r.may, "the same"))
	}
	return b.String()
}

// TestTLSRPTPage: docs/tlsrpt.md has the table that the lab holds against what happens.
func TestTLSRPTPage(t *testing.T) {
	text, err := os.ReadFile("../docs/tlsrpt.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), "| situation |")
	_, tail, found2 := strings.Cut(rest, "|\n\n")
	if !found || !found2 {
		t.Fatal("docs/tlsrpt.md has no table")
	}
	want := head + tlsrptTable() + "\n" + tail
	if string(text) == want {
		return
	}
	if *update {
		if err := os.WriteFile("../docs/tlsrpt.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("docs/tlsrpt.md has another table than\n%s", tlsrptTable())
}
