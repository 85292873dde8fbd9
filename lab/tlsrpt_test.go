package lab

import (
	"net"
	"os"
	"path/filepath"
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
		if strings.Contains(s, domain) {
			found = append(found, s)
		}
	}
	return found
}

// reported sends mail by DANE and MTA-STS, and looks at what Postfix reports of it: by
// which policy, and how it ended (RFC 8460 §4.4). Of a host that an MTA-STS policy does
// not list Postfix reports nothing: it has not connected.
func (l *lab) reported(t *testing.T) {
	c := l.collect(t)
	l.batch(t, l.rows([]outcome{
		{name: "dane", to: "dane.example", status: "sent", log: verified, host: "mx.dane.example", how: "sni"},
		{name: "sts", to: "sts.example", status: "sent", log: verified, host: "mx.sts.example", how: "sni"},
		{name: "sts-wrong-name", to: "stsmisnamed.example", status: "deferred", log: mismatch},
	}))
	const tlsa, sts = `"policy-type":1,`, `"policy-type":2,`
	for domain, want := range map[string][]string{
		"dane.example": {tlsa, `"policy-domain": "mx.dane.example"`, `"policy-string":["3 1 1 `, `"f":0`},
		"sts.example": {
			sts, `"policy-domain": "sts.example"`, `"policy-string":["version: STSv1","mode: enforce","mx: mx.sts.example","max_age: 86400"]`,
			`"mx-host":["mx.sts.example"]`, `"f":0`,
		},
		"stsmisnamed.example": {sts, `"mx-host":["mx.stsmisnamed.example"]`, `"failure-details":[{"c":202,`, `"f":1`},
	} {
		if err := eventually(t.Context(), func() bool { return len(c.about(domain)) > 0 }); err != nil {
			t.Errorf("Postfix reports nothing of %s", domain)
		}
		for _, report := range c.about(domain) {
			for _, w := range want {
				if !strings.Contains(report, w) {
					t.Errorf("%s: the report lacks %q: %s", domain, w, report)
				}
			}
		}
	}
}
