package doctor

import (
	"net/netip"
	"strings"
	"testing"

	"tlsverdict/internal/exim"
	"tlsverdict/internal/finding"
	"tlsverdict/internal/sendmail"
	"tlsverdict/postfixmap"
)

// validating is a resolv.conf with a good resolver.
func validating() ResolvConf {
	return ResolvConf{
		File: "/etc/resolv.conf", Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")},
		Found: []Resolver{{Address: "127.0.0.1:53", Answers: true, Proves: true}},
	}
}

// otherwise is a host with Exim and Sendmail, on which all is in order.
func otherwise(t *testing.T) *Evidence {
	t.Helper()
	address, err := postfixmap.ParseAddress("inet:127.0.0.1:8461")
	if err != nil {
		t.Fatal(err)
	}
	x := exim.Setup{
		Version: "4.98.2", TLS: "GnuTLS", DANE: true, Config: "/etc/exim4/exim4.conf", User: "Debian-exim",
		Options: map[string]string{exim.DNSSECOk: "-1"}, Macros: map[string]string{eximPolicyd: eximDefault},
		Routers: []exim.Block{{Name: eximAsks}, {Name: "dnslookup", Options: map[string]string{"driver": "dnslookup"}}},
	}
	for name, special := range demands() {
		b := exim.Block{Name: name, Options: map[string]string{"tls_require_ciphers": "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"}}
		for _, d := range append(always(), special...) {
			b.Options[d.option] = d.want
		}
		x.Transports = append(x.Transports, b)
	}
	m := sendmail.Setup{
		Version: "8.18.1", Compiled: map[string]bool{"DANE": true}, Asks: true, Maps: map[string]string{"tls": "socket -d5 inet:8461@127.0.0.1"},
		Options: map[string]string{"CACertFile": "/ca", "CACertPath": "/cas", "DANE": "true", "ConnectionCacheSize": "1", "ClientSSLOptions": "+SSL_OP_NO_TLSv1 +SSL_OP_NO_TLSv1_1"},
	}
	for _, name := range sendmail.Needs() {
		m.Compiled[name] = true
	}
	return &Evidence{
		Policyd: Policyd{Listen: []Listener{{Address: address, Answer: Answer{Policyd: true}}}},
		MTAs: MTAs{
			Looked:   true,
			Exim:     Exim{Setup: x, Resolv: validating(), TrustAD: true, Policyd: eximDefault, Answer: Answer{Policyd: true}},
			Sendmail: Sendmail{Setup: m, Resolv: validating(), Answer: Answer{Policyd: true}, CAs: 140, Bundle: "/ca"},
		},
	}
}

// ofOthers are the findings about Exim and Sendmail.
func ofOthers(e *Evidence) []Finding {
	r := &report{Evidence: e}
	r.exim()
	r.sendmail()
	r.dane()
	return r.findings
}

// TestOthersWell: nothing is said about what is in order, and each check says so.
func TestOthersWell(t *testing.T) {
	seen := make(map[Check]bool)
	for _, f := range ofOthers(otherwise(t)) {
		if f.Severity != finding.OK {
			t.Errorf("%+v", f)
		}
		seen[f.Check] = true
	}
	for check := range Kinds() {
		other := strings.HasPrefix(string(check), "exim-") || strings.HasPrefix(string(check), "sendmail-")
		if other && !seen[check] && check != EximAsked && check != SendmailAsked {
			t.Errorf("%s says nothing", check)
		}
	}
}

// TestOthers: what cannot be had on the lab's machines, and what it is told from.
func TestOthers(t *testing.T) {
	for _, tc := range []struct {
		name string
		made func(*Exim, *Sendmail, *Policyd)
		want string
		mend string
	}{
		{"old Exim", func(x *Exim, _ *Sendmail, _ *Policyd) { x.Setup.Version = "4.95" }, "error exim-version", ""},
		{"no TLS", func(x *Exim, _ *Sendmail, _ *Policyd) { x.Setup.TLS = "" }, "error exim-build", ""},
		{"no DANE", func(x *Exim, _ *Sendmail, _ *Policyd) { x.Setup.DANE = false }, "error exim-build", ""},
		{"not root", func(x *Exim, _ *Sendmail, _ *Policyd) { x.Setup.Unread = "ask as root" }, "unknown exim-settings", ""},
		{"not run", func(x *Exim, _ *Sendmail, _ *Policyd) { x.Unseen = "it hangs" }, "unknown exim-settings", ""},
		{"not asked", func(x *Exim, _ *Sendmail, _ *Policyd) { x.Resolv.Found = nil }, "unknown exim-resolver", ""},
		{"OpenSSL", func(x *Exim, _ *Sendmail, _ *Policyd) { x.Setup.TLS = "OpenSSL" }, "notice exim-protocols", "openssl_options = +no_sslv3 +no_tlsv1 +no_tlsv1_1"},
		{"Debian's files", func(x *Exim, _ *Sendmail, _ *Policyd) {
			x.Setup.Debian, x.Setup.Options[exim.DNSSECOk] = exim.Debian{Type: "internet", Split: true}, "0"
		}, "error exim-dnssec", "sed -i 's|^dns_dnssec_ok *=.*|dns_dnssec_ok = 1|' /etc/exim4/conf.d/main/* && update-exim4.conf && systemctl restart exim4"},
		{"something else", func(x *Exim, _ *Sendmail, _ *Policyd) {
			x.Policyd, x.Answer = "inet:127.0.0.1:25", Answer{Reply: "PERM"}
		}, "error exim-socket", "sed -i 's|^TLSVERDICT_POLICYD *=.*|TLSVERDICT_POLICYD = inet:127.0.0.1:8461|' /etc/exim4/exim4.conf && systemctl restart exim4"},
		{"policyd down", func(x *Exim, _ *Sendmail, p *Policyd) {
			x.Answer, p.Listen = Answer{Problem: "refused"}, nil
		}, "error exim-socket", "systemctl enable --now tlsverdict-policyd"},
		{"old Sendmail", func(_ *Exim, s *Sendmail, _ *Policyd) { s.Setup.Version = "8.16.1" }, "error sendmail-version", ""},
		{"no socketmap", func(_ *Exim, s *Sendmail, _ *Policyd) { delete(s.Setup.Compiled, "SOCKETMAP") }, "error sendmail-build", ""},
		{"no second map", func(_ *Exim, s *Sendmail, _ *Policyd) {
			s.Setup.Options["DANE"], s.Setup.Compiled["DANE"] = "", false
		}, "error sendmail-maps", ""},
		{"no map", func(_ *Exim, s *Sendmail, _ *Policyd) { s.Setup.Maps = nil }, "error sendmail-maps", ""},
		{"many sessions", func(_ *Exim, s *Sendmail, _ *Policyd) { s.Setup.Options["ConnectionCacheSize"] = "2" }, "error sendmail-sessions", ""},
		{"no Postfix", func(_ *Exim, _ *Sendmail, p *Policyd) { p.Seeks = true }, "warning dane", "[postfix]\ndane_resolver = \"127.0.0.1\""},
	} {
		e := otherwise(t)
		tc.made(&e.MTAs.Exim, &e.MTAs.Sendmail, &e.Policyd)
		found := false
		for _, f := range ofOthers(e) {
			if f.Severity.String()+" "+string(f.Check) != tc.want {
				continue
			}
			found = true
			if tc.mend != "" && f.Mend != tc.mend || f.Severity != finding.Unknown && f.Mend == "" {
				t.Errorf("%s: %q", tc.name, f.Mend)
			}
		}
		if !found {
			t.Errorf("%s: no %q in %+v", tc.name, tc.want, ofOthers(e))
		}
	}
}

// TestTrustsAD: as the C library reads it.
func TestTrustsAD(t *testing.T) {
	for text, want := range map[string]bool{
		"options edns0 trust-ad\n": true, "nameserver 127.0.0.1\noptions edns0\noptions\ttrust-ad": true,
		"": false, "# options trust-ad\n": false, "optionstrust-ad\n": false, "options trust-adx\n": false,
	} {
		if got := trustsAD(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
