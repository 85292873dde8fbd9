package world_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/config"
	"tlsverdict/internal/world"
)

// TestScenarioRefusals holds that a scenario which cannot mean anything is not taken
// for one that passed.
func TestScenarioRefusals(t *testing.T) {
	const head = "It shows something.\nProves: S1.\n"
	const zones = "-- zones --\nzone example.com. secure\n@ MX 10 mx\n"
	for name, tt := range map[string]struct{ text, want string }{
		"no proof":       {"It shows something.\n-- steps --\nask postfix a.example\nwant NOTFOUND\n", "Proves"},
		"no comment":     {"Proves: S1.\n-- steps --\nask postfix a.example\nwant NOTFOUND\n", "what the scenario shows"},
		"no want":        {head + zones + "-- steps --\nask postfix example.com\n", "wants nothing"},
		"no steps":       {head + zones, "wants nothing"},
		"section":        {head + "-- zone --\n-- steps --\nask postfix a.example\nwant NOTFOUND\n", "unknown section"},
		"section twice":  {head + zones + zones + "-- steps --\nask postfix a.example\nwant NOTFOUND\n", "second section"},
		"mode":           {head + zones + "-- steps --\nask postfix a.example\nbelieve: want NOTFOUND\n", "not played"},
		"other mode":     {head + zones + "-- config --\n[dns]\ndnssec = \"trust-ad\"\n-- steps --\nvalidate: want NOTFOUND\n", "not played"},
		"verb":           {head + zones + "-- steps --\nask postfix a.example\nwants NOTFOUND\nwant NOTFOUND\n", "unknown verb"},
		"policy section": {head + "-- policy --\n-- steps --\nask postfix a.example\nwant NOTFOUND\n", "unknown section"},
	} {
		if _, err := parseScenario(name, []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
		}
	}
	for name, tt := range map[string]struct{ text, want string }{
		"zone status": {head + "-- zones --\nzone example.com. sekure\n-- steps --\nwant TEMP\n", "unknown status"},
		"record":      {head + "-- zones --\nzone example.com. secure\n@ MX ten mx\n-- steps --\nwant TEMP\n", "line 2"},
		"elsewhere":   {head + "-- zones --\nzone example.com. secure\na.example.net. A 192.0.2.1\n-- steps --\nwant TEMP\n", "not in the zone"},
		"config":      {head + "-- config --\n[dns]\nserver = []\n-- steps --\nwant TEMP\n", "unknown key"},
		"https":       {head + "-- https --\nexample.com down\n-- steps --\nwant TEMP\n", "no policy host"},
		"setting":     {head + "-- policy example.com --\nmode: none\n-- https --\nexample.com asleep\n-- steps --\nwant TEMP\n", "unknown state"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, err := parseScenario(name, []byte(tt.text))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err = newPlayer(t, s, manner{postfixFace, config.DNSSECTrustAD}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
			}
			synctest.Wait()
		})
	}
}

// TestStepsFail holds that each step which checks something can fail.
func TestStepsFail(t *testing.T) {
	const text = "It shows something.\nProves: S1.\n-- zones --\nzone example.com. insecure\n@ MX 10 mx\nmx A 192.0.2.1\n-- steps --\nwant TEMP\n"
	wrong := []string{
		"want OK dane", "says OK", "source dane", "fault remote", "reason dane-all", "reason nothing example.org", "no-reason nothing",
		"decisive mx-insecure", "asked = 3", "asked <= 3", "asked >= 5", "asked ~ 4", "question example.com. TXT", "no-question example.com. MX",
		"rounds = 1", "waited >= 1s", "fetches 1", "expires <= 1m", "at +0s", "set example.com. MX odd", "add example.com MX 10 mx.example.com.",
		"remove example.org. MX", "policy example.com down", "resolver odd", "start", "chain-asked = 1", "clock fast", "set zone example.com. secure nsec9",
		"forge example.com. MX", "sign example.com. MX example.com.", "strip example.com. MX all", "edit example.com. MX ttl 5",
		"replay example.com. OTHER", "mend example.com. MX", "warm",
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := parseScenario("right", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := newPlayer(t, s, manner{postfixFace, config.DNSSECTrustAD})
		if err != nil {
			t.Fatal(err)
		}
		defer p.end()
		if err := p.start(step{}); err != nil {
			t.Fatal(err)
		}
		if err := p.ask(step{words: strings.Fields("ask postfix example.com")}); err != nil {
			t.Fatal(err)
		}
		for _, line := range wrong {
			st := step{words: strings.Fields(line)}
			if err := actions()[st.verb()](p, st); err == nil {
				t.Errorf("%q does not fail", line)
			}
		}
	})
}

// TestResolver holds the fake against what real resolvers do.
func TestResolver(t *testing.T) {
	const zones = `
zone signed.example. secure
@       MX     10 mx
mx      A      192.0.2.1
alias   CNAME  mx
out     CNAME  host.plain.example.
a.b     A      192.0.2.2
bad     A      192.0.2.3
bad     A      !bogus
dead    ANY    !servfail
zone plain.example. insecure
host    A      192.0.2.9
in      CNAME  mx.signed.example.
`
	for _, tt := range []struct {
		name   string
		qtype  uint16
		rcode  int
		answer int
		ad     bool
	}{
		{"signed.example.", dns.TypeMX, dns.RcodeSuccess, 1, true},
		{"MX.Signed.example.", dns.TypeA, dns.RcodeSuccess, 1, true},
		{"mx.signed.example.", dns.TypeAAAA, dns.RcodeSuccess, 0, true},
		{"b.signed.example.", dns.TypeA, dns.RcodeSuccess, 0, true},
		{"c.signed.example.", dns.TypeA, dns.RcodeNameError, 0, true},
		{"alias.signed.example.", dns.TypeA, dns.RcodeSuccess, 2, true},
		{"alias.signed.example.", dns.TypeCNAME, dns.RcodeSuccess, 1, true},
		{"out.signed.example.", dns.TypeA, dns.RcodeSuccess, 2, false},
		{"out.signed.example.", dns.TypeCNAME, dns.RcodeSuccess, 1, true},
		{"host.plain.example.", dns.TypeA, dns.RcodeSuccess, 1, false},
		{"in.plain.example.", dns.TypeA, dns.RcodeSuccess, 2, false},
		{"bad.signed.example.", dns.TypeA, dns.RcodeServerFailure, 0, false},
		{"dead.signed.example.", dns.TypeTXT, dns.RcodeServerFailure, 0, false},
		{"nobody.test.", dns.TypeA, dns.RcodeNameError, 0, true},
		{".", dns.TypeNS, dns.RcodeSuccess, 1, true},
		{".", dns.TypeSOA, dns.RcodeSuccess, 1, true},
		{"localhost.", dns.TypeA, dns.RcodeSuccess, 1, false},
		{"10.in-addr.arpa.", dns.TypeSOA, dns.RcodeSuccess, 1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, err := world.New()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.DNS.Load(zones); err != nil {
				t.Fatal(err)
			}
			for _, network := range []string{"udp", "tcp"} {
				m := exchange(t, w, network, tt.name, tt.qtype)
				if m.Rcode != tt.rcode || len(m.Answer) != tt.answer || m.AuthenticatedData != tt.ad {
					t.Errorf("%s %s over %s: rcode %d, %d answers, AD %v", tt.name, dns.TypeToString[tt.qtype], network, m.Rcode, len(m.Answer), m.AuthenticatedData)
				}
				if denial := len(m.Answer) == 0 && m.Rcode != dns.RcodeServerFailure; denial != (len(m.Ns) == 1) {
					t.Errorf("%s: authority %v", tt.name, m.Ns)
				}
			}
		})
	}
}

func exchange(t *testing.T, w *world.World, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	c, err := w.DNS.Dial(t.Context(), network, "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	conn := &dns.Conn{Conn: packetConn{c}}
	if network == "tcp" {
		conn.Conn = c
	}
	defer conn.Close()
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.AuthenticatedData = true
	if err := conn.WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	reply, err := conn.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// TestConnections holds the connections in memory against those of the net package.
func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := world.NewListener("here")
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "some")
		_, _ = io.WriteString(c, "thing")
		b := make([]byte, 9)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "something" {
			t.Fatalf("%q, %v", b, err)
		}
		begin := time.Now()
		_ = c.SetReadDeadline(begin.Add(time.Hour))
		if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		_ = c.Close()
		synctest.Wait()
		_ = l.Close()
		if _, err := l.Dial(context.Background()); err == nil {
			t.Error("a closed listener accepts")
		}
	})
}

// packetConn makes the dns package treat a connection as one of datagrams.
type packetConn struct{ net.Conn }

func (c packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

func (c packetConn) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }
