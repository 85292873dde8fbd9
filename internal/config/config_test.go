package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tlsverdict/internal/verdict"
)

// mustParse parses what must be fine.
func mustParse(t *testing.T, doc string) *Config {
	t.Helper()
	c, err := Parse("test", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// same reports whether two configurations say the same, whatever their files.
func same(a, b *Config) bool {
	x, y := *a, *b
	x.File, y.File = "", ""
	return reflect.DeepEqual(clean(x), clean(y))
}

func clean(c Config) Config {
	if len(c.Overrides.entries) == 0 {
		c.Overrides = Overrides{}
	}
	return c
}

func TestEmptyIsDefault(t *testing.T) {
	for _, doc := range []string{"", "# nothing\n", "[dns]\n[log]\n", "override = []", "[signals]\n[control]\n[http]"} {
		if got := mustParse(t, doc); !same(got, Default()) {
			t.Errorf("Parse(%q) = %+v, want %+v", doc, got, Default())
		}
	}
	if ws := Default().Warnings(time.Now()); len(ws) != 0 {
		t.Errorf("warnings of the defaults: %v", ws)
	}
}

// The reference and the sample file quote the table of keys, so its defaults must
// be those of Default: each is read into a Config in which all is different.
func TestKeyDefaults(t *testing.T) {
	for _, k := range keys() {
		if k.def == "" {
			t.Errorf("%s has no default", k.path)
		}
		c := mustParse(t, k.path+" = "+k.def)
		if !same(c, Default()) {
			t.Errorf("%s = %s is not the default", k.path, k.def)
		}
		var zero Config
		value := tomlValue(t, k.def)
		if err := k.set(&zero, value); err != nil {
			t.Errorf("%s: %v", k.path, err)
		}
	}
	for _, l := range laterKeys() {
		for _, idle := range l.idle {
			if c := mustParse(t, l.path+" = "+show(idle)); !same(c, Default()) {
				t.Errorf("%s = %v is not idle", l.path, idle)
			}
		}
	}
}

func tomlValue(t *testing.T, text string) any {
	t.Helper()
	r := &reader{}
	tree, ok := r.parse("x = " + text)
	if !ok {
		t.Fatal(r.problems)
	}
	return tree["x"]
}

func TestValues(t *testing.T) {
	c := mustParse(t, `
mode = "observe"
[socketmap]
listen = [
  "unix:/run/x.sock",
  "inet:[::1]:8461",
]
socket_mode = "666"
deadline = "4s"
max_connections = 10
[dns]
servers = ["127.0.0.1", "::1", "[::1]:5353", "192.0.2.1:54"]
dnssec = "off"
trust_remote = true
timeout = "500ms"
[mta_sts]
mode = "observe"
timeout = "1m"
allow_networks = ["10.0.0.0/8", "fd00::/8"]
ca_file = "/nowhere.pem"
[signals]
prefix = "off"
txt = "observe"
rr = "enforce"
rr_type = 65300
implicit_tls = "on"
implicit_tls_port = 465
implicit_tls_transport = "smtps.out-2"
implicit_tls_own = ["Example.com", ".bücher.example"]
[probe]
source = ["192.0.2.1", "2001:db8::1"]
helo = "Mail.Example.Com."
[postfix]
report_level = "may"
dane = "native"
dane_resolver = "::1"
[cache]
entries = 5
min_ttl = "0s"
max_ttl = "168h"
refresh_ahead = false
[store]
path = ""
[log]
level = "debug"
format = "json"
`)
	want := Default()
	want.Mode = verdict.Observe
	want.Socketmap.SocketMode = 0o666
	want.Socketmap.Deadline = 4 * time.Second
	want.Socketmap.MaxConnections = 10
	want.DNS = DNS{
		Servers: []netip.AddrPort{
			netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53"),
			netip.MustParseAddrPort("[::1]:5353"), netip.MustParseAddrPort("192.0.2.1:54"),
		},
		DNSSEC: DNSSECOff, TrustRemote: true, Timeout: 500 * time.Millisecond,
	}
	want.MTASTS = MTASTS{
		Mode: verdict.Observe, Timeout: time.Minute, CAFile: "/nowhere.pem",
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}
	want.Signals = Signals{
		TXT: verdict.Observe, RR: verdict.Enforce, RRType: 65300,
		Implicit: Implicit{On: true, Port: 465, Transport: "smtps.out-2", Turn: 15 * time.Minute, Own: OwnDomains{Names: []string{"example.com", ".xn--bcher-kva.example"}}},
	}
	want.Probe = Probe{Source: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Helo: "mail.example.com"}
	want.Postfix = Postfix{DANE: DANENative, DANEResolver: netip.MustParseAddrPort("[::1]:53"), ReportLevel: "may"}
	want.Cache = Cache{Entries: 5, MaxTTL: week}
	want.Store.Path = ""
	want.Log = Log{slog.LevelDebug, LogJSON}
	listen := []string{c.Socketmap.Listen[0].String(), c.Socketmap.Listen[1].String()}
	if diff := cmp.Diff([]string{"unix:/run/x.sock", "inet:[::1]:8461"}, listen); diff != "" {
		t.Error(diff)
	}
	want.Socketmap.Listen = c.Socketmap.Listen
	want.warnings = c.warnings
	if !same(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if got := c.Rules(); got != (verdict.Rules{WithoutDNSSEC: true, STS: verdict.Observe, TXT: verdict.Observe, RR: verdict.Enforce, RRType: 65300, DANE: verdict.Native, ImplicitPort: 465}) {
		t.Errorf("Rules() = %+v", got)
	}
}

// problemTest is a document and the beginnings of the lines that are said about it.
type problemTest struct {
	name, doc string
	want      []string
}

func TestProblemsOfKeys(t *testing.T) {
	checkProblems(t, []problemTest{
		{"no toml", "mode = \"enforce\"\nx y\n", []string{`f:2: not TOML: `}},
		{"twice", "[dns]\n[log]\n[dns]\n", []string{`f:3: not TOML: `}},
		{"key twice", "[log]\nlevel = \"info\"\nlevel = \"warn\"", []string{`f:3: not TOML: `}},
		{"open string", "\nmode = \"enfo", []string{`f:2: not TOML: `}},
		{"unknown", "[dns]\ntimeot = \"2s\"", []string{`f:2: unknown key dns.timeot; did you mean "timeout"?`}},
		{"unknown elsewhere", "[log]\nmode = \"observe\"", []string{`f:2: unknown key log.mode; did you mean "mode", which stands above the first [table]?`}},
		{"other table", "[log]\nlisten = []", []string{`f:2: unknown key log.listen; did you mean "listen" in [socketmap]?`}},
		{"no hint", "[log]\ncolour = 1", []string{`f:2: unknown key log.colour; [log] has level, format`}},
		{"no hint at the top", "colour = 1", []string{`f:1: unknown key colour; there are mode, [[override]], [socketmap], [postfix], [dns]`}},
		{"unknown table", "\n[mtasts]\nmode = \"off\"\nx = 1", []string{`f:2: unknown table [mtasts]; did you mean [mta_sts]?`}},
		{"unknown table array", "[[overrides]]\ndomain = \"a.example\"", []string{`f:1: unknown table [[overrides]]; did you mean [[override]]?`}},
		{"strange key", "\"a\\nb\" = 1", []string{`f:1: unknown key "a\nb"; there are mode`}},
		{"key for table", "dns = 1", []string{`f:1: dns = 1: want a table, [dns]`}},
		{"table for key", "[log.level]\nx = 1", []string{`f:1: log.level = a table: want "debug" or "info" or "warn" or "error"`}},
		{"array for table", "[[dns]]", []string{`f:1: dns = a list: want a table, [dns]`}},
	})
}

func TestProblemsOfValues(t *testing.T) {
	checkProblems(t, []problemTest{
		{"mode", "mode = \"off\"", []string{`f:1: mode = "off": want "enforce" or "observe"`}},
		{"mode number", "mode = 1", []string{`f:1: mode = 1: want "enforce" or "observe"`}},
		{"all at once, in order", "[log]\nformat = \"xml\"\nlevel = 3\n[dns]\ntimeout = 2\nfoo = 1\n", []string{
			`f:2: log.format = "xml": want "text" or "json"`, `f:3: log.level = 3: want`,
			`f:5: dns.timeout = 2: want a duration from "100ms" to "30s", in quotes and with its unit (ms, s, m or h)`, `f:6: unknown key dns.foo`,
		}},
		{"durations", "socketmap.deadline = \"0s\"\ndns.timeout = \"-1s\"\nmta_sts.timeout = \"2m\"\ncache.max_ttl = \"7d\"", []string{
			`f:1: socketmap.deadline = "0s": want a duration from "100ms" to "1m30s"`, `f:2: dns.timeout = "-1s"`,
			`f:3: mta_sts.timeout = "2m": want a duration from "100ms" to "1m"`, `f:4: cache.max_ttl = "7d": want a duration from "1s" to "168h"`,
		}},
		{"integers", "[cache]\nentries = 0\n[socketmap]\nmax_connections = \"5\"", []string{
			`f:2: cache.entries = 0: want a whole number from 1 to 100000000`, `f:4: socketmap.max_connections = "5": want a whole number from 1 to 1000000, without quotes`,
		}},
		{"boolean", "cache.refresh_ahead = \"yes\"", []string{`f:1: cache.refresh_ahead = "yes": want true or false`}},
		{"listen", "[socketmap]\nlisten = [\n 'inet:127.0.0.1:8461',\n 'tcp:1',\n 5,\n 'inet:127.0.0.1:8461',\n]", []string{
			`f:4: socketmap.listen: "tcp:1": write inet:HOST:PORT or unix:/PATH`, `f:5: socketmap.listen: 5: want an address`,
			`f:6: socketmap.listen: "inet:127.0.0.1:8461": it is there twice`,
		}},
		{"listen nowhere", "[socketmap]\nlisten = []", []string{`f:2: socketmap.listen = []: want at least one address`}},
		{"listen string", "[socketmap]\nlisten = 'inet:127.0.0.1:8461'", []string{`f:2: socketmap.listen = "inet:127.0.0.1:8461": want a list`}},
		{"socket mode", "[socketmap]\nsocket_mode = 432", []string{`f:2: socketmap.socket_mode = 432: want permissions in octal`}},
		{"socket mode digits", "[socketmap]\nsocket_mode = '0980'", []string{`f:2: socketmap.socket_mode = "0980"`}},
		{"socket mode for nobody", "[socketmap]\nsocket_mode = '0444'", []string{`f:2: socketmap.socket_mode = "0444"`}},
		{"servers", "[dns]\nservers = [\"localhost\", \"127.0.0.1:0\", \"0.0.0.0\",\n\"127.0.0.1\", \"127.0.0.1:53\", 5]", []string{
			`f:2: dns.servers: "localhost": want an IP address`, `f:2: dns.servers: "127.0.0.1:0": no resolver`, `f:2: dns.servers: "0.0.0.0": no resolver`,
			`f:3: dns.servers: "127.0.0.1:53": it is there twice`, `f:3: dns.servers: 5: want an IP address`,
		}},
		{"remote servers", "[dns]\ndnssec = \"trust-ad\"\nservers = [\"127.0.0.1\",\n\"192.0.2.1:53\",\n\"::ffff:192.0.2.2\", \"::ffff:127.0.0.2\"]", []string{
			`f:4: dns.servers: "192.0.2.1:53" is not on this host, and dns.dnssec = "trust-ad" believes`, `f:5: dns.servers: "192.0.2.2:53" is not`,
		}},
		{"networks", "[mta_sts]\nallow_networks = [\"10.0.0.1\", \"10.0.0.1/8\", \"x\", \"::ffff:10.0.0.0/104\", \"fe80::1%eth0\"]", []string{
			`f:2: mta_sts.allow_networks: "10.0.0.1": want a network; this address alone is "10.0.0.1/32"`,
			`f:2: mta_sts.allow_networks: "10.0.0.1/8": the address has bits beyond the length; the network is "10.0.0.0/8"`,
			`f:2: mta_sts.allow_networks: "x": want a network`, `f:2: mta_sts.allow_networks: "::ffff:10.0.0.0/104": want`, `f:2: mta_sts.allow_networks: "fe80::1%eth0": want`,
		}},
		{"paths", "store.path = 'policyd.db'\nmta_sts.ca_file = 5", []string{
			`f:1: store.path = "policyd.db": want an absolute path, or ""`, `f:2: mta_sts.ca_file = 5: want an absolute path`,
		}},
		{"ttls", "[cache]\nmax_ttl = \"1m\"\nmin_ttl = \"2m\"", []string{`f:3: cache.min_ttl = "2m" is above cache.max_ttl = "1m"`}},
		{"ttl above the default", "[cache]\nmin_ttl = \"25h\"", []string{`f:2: cache.min_ttl = "25h" is above cache.max_ttl = "24h"`}},
		{"ttl below the default", "[cache]\n\nmax_ttl = \"5s\"", []string{`f:3: cache.min_ttl = "30s" is above cache.max_ttl = "5s"`}},
		{"ttl wrong by itself", "[cache]\nmin_ttl = 5\nmax_ttl = \"5s\"", []string{`f:2: cache.min_ttl = 5: want`}},
		{"dane", "postfix.dane = 'dane-only'", []string{`f:1: postfix.dane = "dane-only": want "auto" or "native" or "fingerprint"`}},
		{"dane resolver", "postfix.dane_resolver = '/etc/resolv.conf'", []string{`f:1: postfix.dane_resolver = "/etc/resolv.conf": want an IP address`}},
		{"implicit TLS", "[signals]\nimplicit_tls = true\nimplicit_tls_port = 25\nimplicit_tls_transport = \"a b\"\nimplicit_tls_own = \"example.com\"", []string{
			`f:2: signals.implicit_tls = true: want "off" or "on"`, `f:3: signals.implicit_tls_port = 25: on port 25 TLS does not come first`,
			`f:4: signals.implicit_tls_transport = "a b": want the name of a transport`, `f:5: signals.implicit_tls_own = "example.com": want "auto", or a list`,
		}},
		{"implicit TLS port", "signals.implicit_tls_port = 65536", []string{`f:1: signals.implicit_tls_port = 65536: want a whole number from 1 to 65535`}},
		{"implicit TLS transport", "signals.implicit_tls_transport = \"smtp\"", []string{`f:1: signals.implicit_tls_transport = "smtp": this transport of Postfix does not begin with TLS`}},
		{"own domains", "[signals]\nimplicit_tls_own = [\"example.com\", \"192.0.2.1\",\n\"a..b\", 5, \"EXAMPLE.com.\", \"\"]", []string{
			`f:2: signals.implicit_tls_own: "192.0.2.1": want a domain`, `f:3: signals.implicit_tls_own: "a..b": want`, `f:3: signals.implicit_tls_own: 5: want`,
			`f:3: signals.implicit_tls_own: "EXAMPLE.com.": it is there twice`, `f:3: signals.implicit_tls_own: "": want`,
		}},
		{"probe", "[probe]\nsource = [\"192.0.2.1\", \"192.0.2.2\", \"::\", \"x\"]\nhelo = \"mail\"", []string{
			`f:2: probe.source: "192.0.2.2": one IPv4 and one IPv6 address`, `f:2: probe.source: "::": want an address of this host`, `f:2: probe.source: "x": want`,
			`f:3: probe.helo = "mail": want the full name of this host`,
		}},
		{"report level", "postfix.report_level = 'encrypt'", []string{`f:1: postfix.report_level = "encrypt": want "" or "may"`}},
	})
}

func TestProblemsOfEntries(t *testing.T) {
	checkProblems(t, []problemTest{
		{"banner", "[signals]\nprefix = \"enforce\"\nbanner = \"on\"", []string{
			`f:3: signals.banner = "on": want "off" or "observe" or "enforce"`,
		}},
		{"record type", "[signals]\nrr_type = 53\nrr = \"on\"", []string{
			`f:2: signals.rr_type = 53: want a whole number from 65280 to 65534`, `f:3: signals.rr = "on": want "off" or "observe" or "enforce"`,
		}},
		{"pages", "[http]\nlisten = ':8462'\nhosts = ['mx.example:8462', 'MX.example', 'mx.example', 'mx.example.']", []string{
			`f:2: http.listen = ":8462": want an IP address with a port, such as "127.0.0.1:8462" or "[::1]:8462", or "" for none`,
			`f:3: http.hosts: "mx.example:8462": want a host name without a port`, `f:3: http.hosts: "mx.example": it is there twice`,
			`f:3: http.hosts: "mx.example.": want the name without the dot at its end`,
		}},
		{"pages for strangers", "http.listen = '0.0.0.0:8462'", []string{
			`f:1: http.listen = "0.0.0.0:8462" is not on loopback, and what it serves has no password and tells whom mail is sent to: take "127.0.0.1:8462"`,
		}},
		{"override as table", "\n[override]\ndomain = 'a.example'", []string{`f:2: [override] is one entry of a list: write [[override]]`}},
		{"override as key", "override = 1", []string{`f:1: override = 1: want entries that begin with [[override]]`}},
		{"override as list", "override = [1,\n2]", []string{`f:1: override = 1: want a table`, `f:2: override = 2: want a table`}},
		{"override empty", "[[override]]", []string{`f:1: this [[override]] has no domain`, `f:1: this [[override]] has no policy`}},
		{"override keys", "[[override]]\ndomain = 'a.example'\npolicy = 'encrypt'\n[[override]]\ndomian = 'b.example'\npolicy='may'\nfrob=1", []string{
			`f:4: this [[override]] has no domain`, `f:5: unknown key override.domian; did you mean "domain"?`,
			`f:7: unknown key override.frob; [[override]] has domain, policy, reason, until`,
		}},
		{"override twice", "[[override]]\ndomain = 'a.example'\npolicy = 'encrypt'\n\n[[override]]\ndomain = 'A.Example.'\npolicy = 'may'", []string{
			`f:5: a second [[override]] for a.example: the first is at line 1`,
		}},
		{"password", "store.shared = \"redis:///:secret@host\"", []string{`f:1: store.shared = "redis:///:***@host": "": want HOST`}},
		{"long value", "mode = \"" + strings.Repeat("é", 5000) + "\"", []string{`f:1: mode = "` + strings.Repeat("é", 30) + `"...: want`}},
	})
}

// checkProblems parses documents that are wrong.
func checkProblems(t *testing.T, tests []problemTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("f", []byte(tt.doc))
			var ps Problems
			if c != nil || !errors.As(err, &ps) {
				t.Fatalf("Parse = %v, %v", c, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(ps) {
				t.Fatalf("%d lines for %d problems:\n%v", len(lines), len(ps), err)
			}
			for i := range max(len(tt.want), len(lines)) {
				if i >= len(tt.want) || i >= len(lines) || !strings.HasPrefix(lines[i], tt.want[i]) {
					t.Fatalf("got:\n%s\nwant:\n%s", err, strings.Join(tt.want, "\n"))
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Error("repeats a secret")
			}
		})
	}
}

func TestProblemForms(t *testing.T) {
	_, err := Parse("", []byte("mode = 1\nlog.level = 2"))
	if got := err.Error(); !strings.HasPrefix(got, "line:1: mode = 1") {
		t.Errorf("without a name: %q", got)
	}
	var p Problem
	if !errors.As(err, &p) || p.Key != "mode" || p.Line != 1 {
		t.Errorf("first problem: %+v", p)
	}
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 2 || ps[1].Key != "log.level" {
		t.Errorf("problems: %+v", ps)
	}
}

func TestWarnings(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name, doc string
		want      []string
	}{
		{"loopback", "[socketmap]\nlisten = ['inet:127.0.0.2:1', 'inet:[::1]:1', 'inet:localhost:1', 'unix:/run/x']", nil},
		{"open listeners", "[socketmap]\nlisten = ['inet:0.0.0.0:1',\n'inet:[::]:1',\n'inet:mx.example.com:1']", []string{
			`f:2: socketmap.listen: "inet:0.0.0.0:1" is reachable`, `f:3: socketmap.listen: "inet:[::]:1" is`, `f:4: socketmap.listen: "inet:mx.example.com:1" is`,
		}},
		{"remote resolver", "[dns]\ndnssec = 'trust-ad'\ntrust_remote = true\nservers = ['192.0.2.1']", []string{`f:4: dns.servers: "192.0.2.1:53" is not on this host`}},
		{"remote resolver, validated", "[dns]\nservers = ['192.0.2.1']", nil},
		{"pages for others", "[http]\nlisten = '192.0.2.1:8462'\npublic = true", []string{`f:2: http.listen: "192.0.2.1:8462" is reachable from other hosts`}},
		{"pages on loopback", "[http]\nlisten = '[::1]:8462'\npublic = true", []string{`f:3: http.public = true does nothing: http.listen = "[::1]:8462" is on loopback`}},
		{"no pages", "[http]\nhosts = ['mx.example']", []string{`f:2: http.hosts does nothing with http.listen = ""`}},
		{"nothing to trust", "[dns]\ntrust_remote = true\n[mta_sts]", []string{`f:2: dns.trust_remote = true does nothing with dns.dnssec = "validate"`}},
		{"no use for anchors", "[dns]\ndnssec = 'trust-ad'\ntrust_anchors = '/etc/root.key'", []string{`f:3: dns.trust_anchors does nothing with dns.dnssec = "trust-ad"`}},
		{"no DNSSEC", "[dns]\nservers = ['192.0.2.1']\ndnssec = 'off'", []string{`f:3: dns.dnssec = "off": no DANE`}},
		{"dane resolver, not looked at", "[postfix]\ndane = 'fingerprint'\ndane_resolver = '127.0.0.1'", []string{`f:3: postfix.dane_resolver = "127.0.0.1:53" is not looked at`}},
		{"dane resolver elsewhere", "[postfix]\ndane_resolver = '192.0.2.1'", []string{`f:2: postfix.dane_resolver = "192.0.2.1:53" is not on this host`}},
		{"dane resolver here", "[postfix]\ndane_resolver = '127.0.0.1'", nil},
		{"no signal", "[dns]\ndnssec = 'off'\n[mta_sts]\nmode = 'off'", []string{`f:2: dns.dnssec = "off" and mta_sts.mode = "off": no signal is left`}},
		{"timeouts", "[socketmap]\ndeadline = '4s'\n[dns]\ntimeout = '4s'", []string{
			`f:2: mta_sts.timeout = "10s" is not below socketmap.deadline = "4s"`, `f:4: dns.timeout = "4s" is not below`,
		}},
		{"a port for users", "[signals]\nimplicit_tls = 'on'\nimplicit_tls_port = 465", []string{`f:3: port 465 is for users`}},
		{"a port for users, off", "[signals]\nimplicit_tls_port = 465", nil},
		{"any network", "[mta_sts]\nallow_networks = ['::/0']", []string{`f:2: mta_sts.allow_networks: "::/0" lets policy hosts`}},
		{"newer Postfix", "[[override]]\ndomain='a.example'\npolicy='encrypt enable_rpk=yes'\n[[override]]\ndomain='b.example'\npolicy='encrypt protocols=>=TLSv1.2'", []string{
			`f:1: the [[override]] for a.example needs Postfix 3.9`, `f:4: the [[override]] for b.example needs Postfix 3.6`,
		}},
		{"ended", "[[override]]\ndomain='a.example'\npolicy='may'\nuntil=2026-12-31\n[[override]]\ndomain='b.example'\npolicy='may'\nuntil=2027-01-01", []string{
			`f:1: the [[override]] for a.example ended at 2027-01-01T00:00:00Z`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("f", []byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			got := c.Warnings(now)
			if len(got) != len(tt.want) {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			for i, w := range tt.want {
				if !strings.HasPrefix(got[i].Error(), w) {
					t.Errorf("got %q, want %q", got[i].Error(), w)
				}
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, empty := write("good.pem", certificate(t)), write("empty.pem", "nothing")

	c, err := Load(write("a.toml", "mta_sts.ca_file = '"+good+"'"))
	if err != nil {
		t.Fatal(err)
	}
	if roots, err := c.MTASTS.Roots(); err != nil || roots == nil || roots.Equal(x509.NewCertPool()) {
		t.Errorf("Roots() = %v, %v", roots, err)
	}
	if roots, err := Default().MTASTS.Roots(); err != nil || roots != nil {
		t.Errorf("Roots() of the defaults = %v, %v", roots, err)
	}
	for _, ca := range []string{empty, dir, filepath.Join(dir, "absent")} {
		path := write("b.toml", "mode = 1\n\nmta_sts.ca_file = '"+ca+"'\n[[override]]")
		_, err := Load(path)
		var ps Problems
		if !errors.As(err, &ps) || len(ps) != 4 || ps[1].Line != 3 || ps[1].Key != "mta_sts.ca_file" || !strings.Contains(ps[1].Text, ca) {
			t.Errorf("Load with ca_file %s = %v", ca, err)
		}
		if _, err := (MTASTS{CAFile: ca}).Roots(); !errors.Is(err, ErrCAFile) {
			t.Errorf("Roots() of %s = %v", ca, err)
		}
	}
	if _, err := Load(filepath.Join(dir, "absent.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of nothing = %v", err)
	}
	if _, err := Load("/dev/zero"); !errors.Is(err, ErrTooLong) {
		t.Errorf("Load of too much = %v", err)
	}
}

// certificate returns a root in PEM.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		DNSSECOff.String(): "off", DNSSECTrustAD.String(): "trust-ad", DNSSECValidate.String(): "validate", DNSSEC(9).String(): "dnssec(9)",
		LogText.String(): "text", LogJSON.String(): "json", LogFormat(9).String(): "format(9)",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	sample, err := os.ReadFile("../../contrib/policyd.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	for _, k := range keys() {
		f.Add([]byte(k.path + " = " + k.def))
		f.Add([]byte(k.path + " = [1, {a = 2027-01-31}]"))
	}
	for _, s := range []string{
		"[[override]]\ndomain = '.example.com'\npolicy = 'secure match=.example.com'\nuntil = 2027-01-31\n[[override]]\ndomain='x'\npolicy='ignore'",
		"override = [{domain = 'a', policy = \"may\", until = 10:00:00}]", "[dns]\n[[dns]]", "\"\" = 1", "a.\"b.c\"['d']", "[x]\ny = '''\n'''", "\xff\xfea = 1",
		"x = [\n[{a.b = 1}]]\n[override.x]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", c, err)
		}
		if err == nil {
			for _, w := range c.Warnings(time.Now()) {
				checkProblem(t, w, data)
			}
			return
		}
		var ps Problems
		if !errors.As(err, &ps) || len(ps) == 0 {
			t.Fatalf("%T: %v", err, err)
		}
		for _, p := range ps {
			checkProblem(t, p, data)
		}
	})
}

func checkProblem(t *testing.T, p Problem, data []byte) {
	t.Helper()
	if p.Line < 1 || p.Line > strings.Count(string(data), "\n")+1 || p.Text == "" || strings.ContainsAny(p.Text, "\n\r\x00\x1b") {
		t.Fatalf("%+v", p)
	}
}

func TestOwnDomains(t *testing.T) {
	o := OwnDomains{Names: []string{"example.com", ".example.net"}}
	for name, want := range map[string]bool{
		"example.com": true, "a.example.com": false, "example.net": false, "a.example.net": true, "a.b.example.net": true, "badexample.net": false, "com": false,
	} {
		if o.Has(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
