package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/finding"
	"tlsverdict/internal/postfix"
	"tlsverdict/postfixmap"
)

// now is when the host was looked at.
func now() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func address(t *testing.T, text string) postfixmap.Address {
	t.Helper()
	a, err := postfixmap.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// well is a host with nothing wrong, and a Postfix 3.10 as contrib's files make it.
func well(t *testing.T) *Evidence {
	t.Helper()
	local := ResolvConf{
		File: "/etc/resolv.conf", Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")},
		Found: []Resolver{{Address: "127.0.0.1:53", Answers: true, Proves: true}},
	}
	inside := local
	inside.File = "/var/spool/postfix/etc/resolv.conf"
	settings := map[string]string{
		"mail_owner": "postfix", "queue_directory": "/var/spool/postfix", "default_transport": "smtp", "relay_transport": "relay",
		"smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:postfix-tlsrpt", "smtp_dns_support_level": "dnssec",
		"smtp_tls_fingerprint_digest": "sha256", "smtp_tls_security_level": "may", "smtp_tls_mandatory_protocols": ">=TLSv1.2", "smtp_tls_protocols": ">=TLSv1",
		"smtp_tls_dane_insecure_mx_policy": "dane", "smtp_tls_loglevel": "1", "smtp_mx_session_limit": "5", "smtp_tls_CAfile": "/etc/ssl/certs/ca-certificates.crt",
	}
	smtp := Transport{
		Client: postfix.Client{
			Service: "smtp/unix", Settings: settings, Own: map[string]bool{},
			Setup: postfix.Setup{Version: "3.10.13", Chrooted: true, DANE: true, Digest: "sha256"},
		},
		Resolv: inside, Tables: []Table{parseTable(settings["smtp_tls_policy_maps"])}, CAs: CAs{Count: 140, Source: "/etc/ssl/certs/ca-certificates.crt", Bundle: "/etc/ssl/certs/ca-certificates.crt"},
	}
	smtp.Tables[0].Answer = Answer{Policyd: true}
	return &Evidence{
		Now: now(),
		Host: Host{
			Resolvers:  []Resolver{{Address: "127.0.0.1:53", Answers: true, Proves: true}},
			Signatures: []Signature{{Resolver: "127.0.0.1:53", From: now().Add(-24 * time.Hour), Until: now().Add(240 * time.Hour)}},
			Anchors:    Anchors{Source: "/usr/share/dns/root.ds", Root: true}, Roots: Roots{Source: "/etc/ssl/certs/ca-certificates.crt", Count: 140},
		},
		Policyd: Policyd{
			File: "/etc/tlsverdict/policyd.toml", Listen: []Listener{{address(t, "inet:127.0.0.1:8461"), Answer{Policyd: true}}},
			Store: Store{
				Path: "/var/lib/tlsverdict/policyd.db", User: User{Name: "tlsverdict", ID: 77, Groups: []uint32{78}}, Free: 1 << 40,
				Dir: &Stat{Path: "/var/lib/tlsverdict", Mode: 0o700, User: 77}, File: &Stat{Path: "/var/lib/tlsverdict/policyd.db", Mode: 0o600, User: 77},
			},
		},
		MTAs: MTAs{Looked: true, Postfix: Postfix{
			System:    local,
			Instances: []Instance{{Instance: postfix.Instance{Config: "/etc/postfix", Default: true, Version: "3.10.13", Main: settings}, Transports: []Transport{smtp}, Outward: 1}},
		}},
	}
}

// smtp is its smtp(8).
func (e *Evidence) smtp() *Transport { return &e.MTAs.Postfix.Instances[0].Transports[0] }

// setting gives smtp(8) another value of a setting.
func (e *Evidence) setting(name, value string) { e.smtp().Settings[name] = value }

// maps gives it other tables, which nobody answers.
func (e *Evidence) maps(items ...string) {
	e.setting("smtp_tls_policy_maps", strings.Join(items, ", "))
	e.smtp().Tables = nil
	for _, item := range items {
		e.smtp().Tables = append(e.smtp().Tables, parseTable(item))
	}
}

// version makes it another Postfix.
func (e *Evidence) version(v string) { e.MTAs.Postfix.Instances[0].Version = v }

// TestWell: there is nothing to say about what is in order, and each check says so.
func TestWell(t *testing.T) {
	var seen []Check
	for _, f := range Judge(*well(t)) {
		if f.Severity != finding.OK {
			t.Errorf("%+v", f)
		}
		seen = append(seen, f.Check)
	}
	for check := range Kinds() {
		other := strings.HasPrefix(string(check), "exim") || strings.HasPrefix(string(check), "sendmail")
		if check != HostPort25 && check != HostMTA && check != PostfixAsked && !other && !slices.Contains(seen, check) {
			t.Errorf("%s says nothing", check)
		}
	}
}

// TestNothing: of what was not looked at, nothing is said to be in order.
func TestNothing(t *testing.T) {
	for _, f := range Judge(Evidence{}) {
		if f.Severity != finding.Unknown {
			t.Errorf("%+v", f)
		}
	}
}

// TestJudge: each thing that can be wrong, what is said of it, and the line that mends it.
func TestJudge(t *testing.T) {
	reload := " && postfix reload"
	for _, tc := range []struct {
		name string
		made func(*Evidence)
		// want is "severity check: found", of which the end may be missing.
		want, mend string
	}{
		{"silent resolver", func(e *Evidence) {
			e.Host.Resolvers[0] = Resolver{Address: "127.0.0.1:53", Problem: "127.0.0.1:53 cannot be used (unreachable: read: refused): check that a resolver runs there"}
		}, "error resolver: 127.0.0.1:53 cannot be used (unreachable: read: refused)", "# check that a resolver runs there"},
		{"no resolver", func(e *Evidence) { e.Host.Resolvers, e.Host.NoResolvers = nil, "there is none" }, "unknown resolver: there is none", ""},
		{"clock behind", func(e *Evidence) { e.Now = now().Add(-48 * time.Hour) }, "error clock: it is 2026-11-22 12:00 UTC, and the root has signed from 2026-11-23 12:00 UTC to 2026-12-04 12:00 UTC, says 127.0.0.1:53", "timedatectl set-ntp true"},
		{"clock ahead", func(e *Evidence) { e.Now = now().Add(241 * time.Hour) }, "error clock: it is 2026-12-04 13:00 UTC", "timedatectl set-ntp true"},
		{"clock unseen", func(e *Evidence) { e.Host.Signatures[0] = Signature{Resolver: "a", Problem: "silent"} }, "unknown clock: a: silent", ""},
		{"anchors not read", func(e *Evidence) { e.Host.Anchors.Problem = "no such" }, "warning trust-anchors: no such", "apt install --reinstall dns-root-data && systemctl reload tlsverdict-policyd"},
		{"own anchors not read", func(e *Evidence) { e.Host.Anchors.Problem, e.Host.Anchors.Own = "no such", true }, "error trust-anchors: no such", "# name a file with the root's DS record"},
		{"anchors not of the root", func(e *Evidence) { e.Host.Anchors.Root = false }, "warning trust-anchors: /usr/share/dns/root.ds has no anchor of the root", "# name a file"},
		{"new key", func(e *Evidence) { e.Host.Anchors.Warnings = []string{"a key"} }, "warning trust-anchors: a key", "apt install --reinstall dns-root-data"},
		{"no roots", func(e *Evidence) { e.Host.Roots.Problem = "none" }, "error ca-roots: none", "apt install ca-certificates"},
		{"port 25", func(e *Evidence) {
			e.Host.Port25 = &Reach{Domain: "d.example", Hosts: []Reached{{"mx", "i/o timeout"}}}
		}, "error port-25: mx: i/o timeout", "# have the provider"},
		{"port 25 of one", func(e *Evidence) {
			e.Host.Port25 = &Reach{Domain: "d.example", Hosts: []Reached{{"mx1", "i/o timeout"}, {"mx2", ""}}}
		}, "ok port-25: mx2 answers", ""},
		{"no mail hosts", func(e *Evidence) { e.Host.Port25 = &Reach{Domain: "d.example", Problem: "no such domain"} }, "unknown port-25: no such domain", ""},

		{"bad configuration", func(e *Evidence) { e.Policyd = Policyd{File: "f", Problem: "line 3"} }, "error configuration: line 3", "# mend that line"},
		{"warning", func(e *Evidence) { e.Policyd.Warnings = []string{"an override ended"} }, "warning configuration: an override ended", ""},
		{"observe", func(e *Evidence) { e.Policyd.Observe = true }, `notice mode: mode = "observe"`, `mode = "enforce"`},
		{"down", func(e *Evidence) { e.Policyd.Listen[0].Answer = Answer{Problem: "connection refused"} }, "error answers: inet:127.0.0.1:8461: connection refused", "systemctl enable --now tlsverdict-policyd"},
		{"other daemon", func(e *Evidence) { e.Policyd.Listen[0].Answer = Answer{Reply: "NOTFOUND"} }, "error answers: inet:127.0.0.1:8461: what listens there answers NOTFOUND, and is not policyd", "# end what listens there"},
		{"may not ask", func(e *Evidence) {
			e.Policyd.Listen[0].Answer = Answer{Denied: true, Problem: "permission denied"}
		}, "unknown answers: permission denied", ""},
		{"no store", func(e *Evidence) { e.Policyd.Store = Store{} }, "notice store: store.path", ""},
		{"no directory", func(e *Evidence) { e.Policyd.Store.Dir = nil }, "error store: /var/lib/tlsverdict is not there", "install -d -o tlsverdict -m 0700 /var/lib/tlsverdict"},
		{"root's store", func(e *Evidence) { e.Policyd.Store.Dir.User = 0 }, "error store: /var/lib/tlsverdict is -rwx------ of the user 0", "chown -R tlsverdict /var/lib/tlsverdict && chmod u+rwx /var/lib/tlsverdict"},
		{"root's file", func(e *Evidence) { e.Policyd.Store.File.User = 0 }, "error store: /var/lib/tlsverdict/policyd.db is -rw------- of the user 0", "chown tlsverdict /var/lib/tlsverdict/policyd.db"},
		{"read-only", func(e *Evidence) { e.Policyd.Store.ReadOnly = true }, "error store: /var/lib/tlsverdict is on a file system", "mount -o remount,rw"},
		{"full", func(e *Evidence) { e.Policyd.Store.Free = 3 << 20 }, "warning store: 3 MB are left", "# make room"},
		{"unknown user", func(e *Evidence) { e.Policyd.Store.NoUser = "nobody says so" }, "unknown store: nobody says so", ""},
		{"unreadable", func(e *Evidence) { e.Policyd.Store.Problem = "permission denied" }, "unknown store: permission denied", ""},

		{"no mail server", func(e *Evidence) { e.MTAs = MTAs{Looked: true} }, "notice mail-server: no mail server was found", "# policyd doctor --root"},
		{"not asked", func(e *Evidence) { e.MTAs.Postfix = Postfix{Unseen: "postconf fails"} }, "unknown postfix-asked: postconf fails", ""},
		{"no smtp", func(e *Evidence) { e.MTAs.Postfix.Instances[0].Transports = nil }, "unknown postfix-asked: master.cf has no service", ""},
		{"no map", func(e *Evidence) { e.maps(); e.setting("smtp_tls_policy_maps", "") }, "error postfix-map: smtp_tls_policy_maps is empty", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt'" + reload},
		{"another map", func(e *Evidence) { e.maps("hash:/etc/postfix/tls") }, "error postfix-map: smtp_tls_policy_maps asks hash:/etc/postfix/tls, and not policyd", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt, hash:/etc/postfix/tls'" + reload},
		{"after a table", func(e *Evidence) { e.maps("hash:/etc/postfix/tls", "socketmap:inet:127.0.0.1:8461:postfix-tlsrpt") }, "notice postfix-map: hash:/etc/postfix/tls is asked before policyd", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt, hash:/etc/postfix/tls'" + reload},
		{"after a daemon", func(e *Evidence) { e.maps("socketmap:unix:a:b", "socketmap:inet:127.0.0.1:8461:postfix-tlsrpt") }, "warning postfix-map: socketmap:unix:a:b is asked", "postconf -e"},
		{"only a socket", func(e *Evidence) {
			e.maps()
			e.setting("smtp_tls_policy_maps", "")
			e.Policyd.Listen[0].Address, _ = postfixmap.ParseAddress("unix:/run/p.sock")
		}, "error postfix-map: ", "postconf -e 'smtp_tls_policy_maps = proxy:socketmap:unix:/run/p.sock:postfix-tlsrpt'" + reload},
		{"not allowed", func(e *Evidence) { e.maps("proxy:socketmap:unix:/run/p.sock:postfix-tlsrpt") }, "error postfix-map: proxymap(8) may not read", "postconf -e 'proxy_read_maps = proxy:socketmap:unix:/run/p.sock:postfix-tlsrpt'" + reload},
		{"refused", func(e *Evidence) { e.smtp().Tables[0].Answer = Answer{Problem: "connection refused"} }, "error postfix-socket: inet:127.0.0.1:8461 cannot be reached by smtp(8): connection refused", "systemctl restart tlsverdict-policyd"},
		{"out of the chroot", func(e *Evidence) {
			e.maps("socketmap:unix:/run/p.sock:postfix-tlsrpt")
			e.smtp().Tables[0].Answer = Answer{Problem: "no such file or directory"}
		}, "error postfix-socket: unix:/run/p.sock cannot be reached by smtp(8), as the user postfix in the chroot /var/spool/postfix: no such", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt'" + reload},
		{"out of the chroot, no TCP", func(e *Evidence) {
			e.maps("socketmap:unix:/run/p.sock:postfix-tlsrpt")
			e.Policyd.Listen[0].Address, _ = postfixmap.ParseAddress("unix:/run/p.sock")
			e.smtp().Tables[0].Answer = Answer{Problem: "no such file or directory"}
		}, "error postfix-socket: ", "postconf -e 'smtp_tls_policy_maps = proxy:socketmap:unix:/run/p.sock:postfix-tlsrpt'" + reload},
		{"not asked as postfix", func(e *Evidence) { e.smtp().Tables[0].Answer = Answer{Problem: "it takes root", Unasked: true} }, "unknown postfix-socket: it takes root", ""},
		{"other daemon for Postfix", func(e *Evidence) { e.smtp().Tables[0].Answer = Answer{Reply: "TEMP"} }, "error postfix-socket: inet:127.0.0.1:8461 answers TEMP, and is not policyd", "systemctl restart"},
		{"dialect of 3.10", func(e *Evidence) { e.version("3.7.11") }, "error postfix-dialect: Postfix 3.7.11 does not understand", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'" + reload},
		{"dialect of 3.10 by another name", func(e *Evidence) { e.version("3.9.1"); e.maps("socketmap:inet:127.0.0.1:8461:QUERYwithTLSRPT") }, "error postfix-dialect: ", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:QUERY'" + reload},
		{"dialect of old", func(e *Evidence) { e.maps("socketmap:inet:127.0.0.1:8461:postfix") }, "notice postfix-dialect: ", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt'" + reload},
		{"dialect, and out of the chroot", func(e *Evidence) {
			e.version("3.7.11")
			e.maps("socketmap:unix:/run/p.sock:postfix-tlsrpt")
			e.smtp().Tables[0].Answer = Answer{Problem: "no such file or directory"}
		}, "error postfix-dialect: ", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'" + reload},
		{"out of the chroot, and dialect", func(e *Evidence) {
			e.version("3.7.11")
			e.maps("socketmap:unix:/run/p.sock:postfix-tlsrpt")
			e.smtp().Tables[0].Answer = Answer{Problem: "no such file or directory"}
		}, "error postfix-socket: ", "postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'" + reload},
		{"no AD, and not wanted", func(e *Evidence) {
			e.Policyd.Fingerprints = true
			e.smtp().Setup.Chrooted = false
			e.smtp().Resolv.Found[0] = Resolver{Address: "127.0.0.1:53", Disproven: true, Problem: "127.0.0.1:53 does not validate: switch it on"}
		}, "notice postfix-resolver: 127.0.0.1:53 does not validate", "# apt install unbound; let /etc/resolv.conf name 127.0.0.1 and nothing else; then\npostfix reload"},
		{"strange version", func(e *Evidence) { e.version("next") }, "unknown postfix-dialect: ", ""},
		{"no DNSSEC", func(e *Evidence) {
			e.smtp().Setup.DANE, e.smtp().Setup.Obstacle = false, postfix.Obstacle{Because: "it does not ask", WayOut: "smtp_dns_support_level = dnssec"}
		}, "warning postfix-dnssec: it does not ask", "postconf -e 'smtp_dns_support_level = dnssec'" + reload},
		{"no DNSSEC, native", func(e *Evidence) {
			e.Policyd.Native = true
			e.smtp().Setup.DANE, e.smtp().Setup.Obstacle = false, postfix.Obstacle{Because: "it does not ask", WayOut: "smtp_dns_resolver_options ="}
			e.smtp().Own["smtp_dns_resolver_options"] = true
		}, "error postfix-dnssec: it does not ask", "postconf -P -e 'smtp/unix/smtp_dns_resolver_options = '" + reload},
		{"other resolv.conf", func(e *Evidence) { e.MTAs.Postfix.System.Servers = nil }, "warning postfix-resolv-conf: smtp(8) has 127.0.0.1 from /var/spool/postfix/etc/resolv.conf", "install -D -m 0644 /etc/resolv.conf /var/spool/postfix/etc/resolv.conf" + reload},
		{"odd resolv.conf", func(e *Evidence) { e.smtp().Resolv.Problem = "the line x" }, "warning postfix-resolv-conf: the line x", "install -D"},
		{"no AD", func(e *Evidence) {
			e.smtp().Resolv.Found[0] = Resolver{Address: "127.0.0.1:53", Disproven: true, Problem: "127.0.0.1:53 does not validate: switch it on"}
		}, "warning postfix-resolver: 127.0.0.1:53 does not validate", "# apt install unbound"},
		{"silent resolver of Postfix", func(e *Evidence) { e.smtp().Resolv.Found[0] = Resolver{Address: "127.0.0.1:53", Problem: "silent"} }, "warning postfix-resolver: silent", "# see to it"},
		{"not probed", func(e *Evidence) { e.smtp().Resolv.Found = nil }, "unknown postfix-resolver: they were not asked", ""},
		{"insecure MX", func(e *Evidence) { e.version("3.7.12"); e.setting("smtp_tls_dane_insecure_mx_policy", "may") }, "warning postfix-insecure-mx: ", "postconf -e 'smtp_tls_dane_insecure_mx_policy = dane'" + reload},
		{"md5", func(e *Evidence) {
			e.smtp().Setup.Digest = "md5"
			e.setting("smtp_tls_fingerprint_digest", "md5")
		}, "warning postfix-digest: smtp_tls_fingerprint_digest = md5", "postconf -e 'smtp_tls_fingerprint_digest = sha256'" + reload},
		{"md5, and fingerprints", func(e *Evidence) { e.smtp().Setup.Digest, e.smtp().Setup.DANE = "md5", false }, "error postfix-digest: ", "postconf -e"},
		{"none", func(e *Evidence) { e.setting("smtp_tls_security_level", "none") }, "warning postfix-level: smtp_tls_security_level = none", "postconf -e 'smtp_tls_security_level = may'" + reload},
		{"empty", func(e *Evidence) { e.setting("smtp_tls_security_level", "") }, "warning postfix-level: smtp_tls_security_level is empty", "postconf -e 'smtp_tls_security_level = may'" + reload},
		{"of old", func(e *Evidence) { e.setting("smtp_tls_security_level", ""); e.setting("smtp_use_tls", "yes") }, "ok postfix-level: ", ""},
		{"TLS 1.0", func(e *Evidence) { e.setting("smtp_tls_mandatory_protocols", ">=TLSv1") }, "warning postfix-protocols: smtp_tls_mandatory_protocols = >=TLSv1 allows TLSv1, TLSv1.1", "postconf -e 'smtp_tls_mandatory_protocols = >=TLSv1.2'" + reload},
		{"TLS 1.0, 3.5", func(e *Evidence) { e.version("3.5.6"); e.setting("smtp_tls_mandatory_protocols", "!SSLv2, !SSLv3") }, "warning postfix-protocols: ", "postconf -e 'smtp_tls_mandatory_protocols = !SSLv2, !SSLv3, !TLSv1, !TLSv1.1'" + reload},
		{"SSL", func(e *Evidence) { e.setting("smtp_tls_protocols", "!SSLv2") }, "warning postfix-protocols: smtp_tls_protocols = !SSLv2 allows SSLv3", "postconf -e 'smtp_tls_protocols = >=TLSv1'" + reload},
		{"strange protocol", func(e *Evidence) { e.setting("smtp_tls_mandatory_protocols", ">=0303") }, "unknown postfix-protocols: ", ""},
		{"no CAs", func(e *Evidence) { e.smtp().CAs = CAs{Problem: "none"} }, "error postfix-cas: none", "apt install ca-certificates\npostconf -e 'smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt'" + reload},
		{"CAs elsewhere", func(e *Evidence) { e.smtp().CAs = CAs{Problem: "none", Bundle: "/b.pem"} }, "error postfix-cas: none", "postconf -e 'smtp_tls_CAfile = /b.pem'" + reload},
		{"relayhost", func(e *Evidence) { e.setting("relayhost", "[r.example]") }, "notice postfix-routes: relayhost = [r.example]", ""},
		{"no log", func(e *Evidence) { e.setting("smtp_tls_loglevel", "0") }, "notice postfix-log: ", "postconf -e 'smtp_tls_loglevel = 1'" + reload},
		{"two sessions", func(e *Evidence) { e.setting("smtp_mx_session_limit", "2") }, "notice postfix-sessions: ", "postconf -e 'smtp_mx_session_limit = 5'" + reload},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := well(t)
			tc.made(e)
			var said []string
			for _, f := range Judge(*e) {
				text := f.Severity.String() + " " + string(f.Check) + ": " + f.Found
				said = append(said, text)
				if strings.HasPrefix(text, tc.want) {
					if !strings.HasPrefix(f.Mend, tc.mend) || (tc.mend == "") != (f.Mend == "") {
						t.Errorf("mended by %q, want %q", f.Mend, tc.mend)
					}
					return
				}
			}
			t.Errorf("no %q among\n%s", tc.want, strings.Join(said, "\n"))
		})
	}
}

// TestTransports: what the transports say that mail takes by default is said for each; what
// others say is worth a word where it differs.
func TestTransports(t *testing.T) {
	e := well(t)
	i := &e.MTAs.Postfix.Instances[0]
	copied := func(service, level string, own bool) Transport {
		c := i.Transports[0]
		c.Service = service
		settings := make(map[string]string)
		for k, v := range c.Settings {
			settings[k] = v
		}
		settings["smtp_tls_security_level"] = level
		c.Settings, c.Own = settings, map[string]bool{"smtp_tls_security_level": own}
		return c
	}
	i.Transports = append(i.Transports, copied("relay/unix", "none", true), copied("lan/unix", "none", true), copied("tls26/unix", "encrypt", true))
	i.Outward = 2
	var said []string
	for _, f := range Judge(*e) {
		if f.Check == PostfixLevel {
			said = append(said, f.Severity.String()+" "+f.Found+"; "+f.Mend)
		}
	}
	want := []string{
		"warning relay: smtp_tls_security_level = none; postconf -P -e 'relay/unix/smtp_tls_security_level = may' && postfix reload",
		"notice transport lan: smtp_tls_security_level = none; postconf -P -e 'lan/unix/smtp_tls_security_level = may' && postfix reload",
		"ok smtp_tls_security_level = may; ",
	}
	if !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
	i.Default, i.Config = false, "/etc/postfix-out"
	i.Transports[0].Settings["smtp_tls_loglevel"] = "0"
	for _, f := range Judge(*e) {
		if f.Check == PostfixLog && f.Severity != finding.OK && (f.Subject != "Postfix 3.10.13, /etc/postfix-out" || f.Mend != "postconf -c /etc/postfix-out -e 'smtp_tls_loglevel = 1' && postfix -c /etc/postfix-out reload") {
			t.Errorf("%+v", f)
			break
		}
	}
}

func TestInsecureMXMended(t *testing.T) {
	for text, want := range map[string]bool{
		"3.4.10": false, "3.6.16": false, "3.6.17": true, "3.7.12": false, "3.7.13": true, "3.8.7": false, "3.8.8": true, "3.9.1": false, "3.9.2": true, "3.10.0": true, "3.11.1": true,
	} {
		v, err := postfixmap.ParseVersion(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := insecureMXMended(v); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

func TestProtocols(t *testing.T) {
	for list, want := range map[string]string{
		"":                                 "SSLv3 TLSv1 TLSv1.1 TLSv1.2 TLSv1.3",
		">=TLSv1.2":                        "TLSv1.2 TLSv1.3",
		">=TLSv1, <=TLSv1.1":               "TLSv1 TLSv1.1",
		"!SSLv2, !SSLv3, !TLSv1, !TLSv1.1": "TLSv1.2 TLSv1.3",
		"!SSLv2:!SSLv3":                    "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3",
		"TLSv1.2 TLSv1.3":                  "TLSv1.2 TLSv1.3",
		"tlsv1.2":                          "TLSv1.2",
		"TLSv1":                            "TLSv1",
		">=TLSv1.1 !TLSv1.2":               "TLSv1.1 TLSv1.3",
		">=0303":                           "error",
		"!!TLSv1":                          "error",
		"TLSv9":                            "error",
	} {
		got, err := protocols(list)
		text := strings.Join(got, " ")
		if err != nil {
			text = "error"
		}
		if text != want {
			t.Errorf("%q allows %q, want %q", list, text, want)
		}
	}
}

func FuzzProtocols(f *testing.F) {
	for _, s := range []string{"", ">=TLSv1.2", "!SSLv2, !SSLv3", "TLSv1.2:TLSv1.3", "<=!x", "= ,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		got, err := protocols(list)
		if err != nil && got != nil {
			t.Errorf("%q: both", list)
		}
		for _, p := range got {
			if !slices.Contains(versions(), p) || p == "SSLv2" {
				t.Errorf("%q allows %q", list, p)
			}
		}
	})
}

func TestParseTable(t *testing.T) {
	for item, want := range map[string]Table{
		"hash:/etc/postfix/tls":                      {},
		"socketmap:inet:127.0.0.1:8461:postfix":      {Socketmap: true, Network: "inet", Address: "127.0.0.1:8461", Name: "postfix"},
		"proxy:socketmap:unix:/run/p.sock:QUERY":     {Proxied: true, Socketmap: true, Network: "unix", Address: "/run/p.sock", Name: "QUERY"},
		"socketmap:inet:[::1]:8461:postfix-tlsrpt":   {Socketmap: true, Network: "inet", Address: "[::1]:8461", Name: "postfix-tlsrpt"},
		"socketmap:unix:tlsverdict/p.sock:transport": {Socketmap: true, Network: "unix", Address: "tlsverdict/p.sock", Name: "transport"},
		"socketmap:": {Socketmap: true},
		"proxy:":     {Proxied: true},
	} {
		want.Item = item
		if got := parseTable(item); got != want {
			t.Errorf("%s: %+v", item, got)
		}
	}
}

// TestHalves: a colon in parentheses does not end what is wrong.
func TestHalves(t *testing.T) {
	for text, want := range map[string][2]string{
		"a (b: c) d: e: f": {"a (b: c) d", "e: f"},
		"127.0.0.1:53 x":   {"127.0.0.1:53 x", ""},
		"":                 {"", ""},
	} {
		if a, b := halves(text); a != want[0] || b != want[1] {
			t.Errorf("%q: %q, %q", text, a, b)
		}
	}
}
