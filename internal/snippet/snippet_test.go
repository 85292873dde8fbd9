package snippet

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlsverdict/postfixmap"
)

func at(t *testing.T, address string) Daemon {
	t.Helper()
	a, err := postfixmap.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	return Daemon{Address: a, Resolver: netip.MustParseAddr("127.0.0.1")}
}

// lines are what would be pasted into a file.
func lines(s Snippet, file string) []string {
	var all []string
	for _, p := range s.Parts {
		if p.File == file {
			for _, l := range p.Lines {
				for line := range strings.Lines(l.Text) {
					all = append(all, strings.TrimRight(line, "\n"))
				}
			}
		}
	}
	return all
}

// TestPostfix: the line for each way to reach policyd, and what depends on the version.
func TestPostfix(t *testing.T) {
	const tcp = "inet:127.0.0.1:8461"
	for _, tc := range []struct {
		name, address string
		postfix       Postfix
		has, hasNot   []string
	}{
		{"3.4", tcp, Postfix{Version: "3.4.0", Chrooted: true}, []string{
			"smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix", "smtp_tls_mandatory_protocols = !SSLv2, !SSLv3, !TLSv1, !TLSv1.1",
			"smtp_tls_fingerprint_digest = sha256", "smtp_tls_dane_insecure_mx_policy = dane",
		}, nil},
		{"Debian 12", tcp, Postfix{Version: "3.7.11", Digest: "sha256"}, []string{"smtp_tls_dane_insecure_mx_policy = dane", "smtp_tls_mandatory_protocols = >=TLSv1.2"}, []string{"smtp_tls_fingerprint_digest = sha256"}},
		{"mended", tcp, Postfix{Version: "3.7.13"}, []string{"smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix"}, []string{"smtp_tls_dane_insecure_mx_policy = dane"}},
		{"MD5", tcp, Postfix{Version: "3.7.13", Digest: "md5"}, []string{"smtp_tls_fingerprint_digest = sha256"}, nil},
		{"3.9.1", tcp, Postfix{Version: "3.9.1"}, []string{"smtp_tls_dane_insecure_mx_policy = dane"}, nil},
		{"3.10", tcp, Postfix{Version: "3.10.0"}, []string{"smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt", "#smtp_tlsrpt_enable = yes"}, []string{"smtp_tls_dane_insecure_mx_policy = dane"}},
		{"a snapshot", tcp, Postfix{Version: "3.12-20270101"}, []string{"smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt"}, nil},
		{"every address", "inet:0.0.0.0:8461", Postfix{Version: "3.7.13"}, []string{"smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix"}, nil},
		{"every address, IPv6", "inet:[::]:8461", Postfix{Version: "3.7.13"}, []string{"smtp_tls_policy_maps = socketmap:inet:[::1]:8461:postfix"}, nil},
		{"in the queue", "unix:/var/spool/postfix/tlsverdict/policyd.sock", Postfix{Version: "3.7.13", Chrooted: true}, []string{"smtp_tls_policy_maps = socketmap:unix:tlsverdict/policyd.sock:postfix"}, nil},
		{"in another queue", "unix:/srv/q/s", Postfix{Version: "3.7.13", Queue: "/srv/q"}, []string{"smtp_tls_policy_maps = socketmap:unix:s:postfix"}, nil},
		{"outside the chroot", "unix:/run/tlsverdict/policyd.sock", Postfix{Version: "3.7.13", Chrooted: true}, []string{"smtp_tls_policy_maps = proxy:socketmap:unix:/run/tlsverdict/policyd.sock:postfix"}, nil},
		{"no chroot", "unix:/run/tlsverdict/policyd.sock", Postfix{Version: "3.7.13"}, []string{"smtp_tls_policy_maps = socketmap:unix:/run/tlsverdict/policyd.sock:postfix"}, nil},
		{"a level of its own", tcp, Postfix{Version: "3.7.13", Level: "dane"}, nil, []string{"smtp_tls_security_level = may"}},
		{"no TLS", tcp, Postfix{Version: "3.7.13", Level: "none"}, []string{"smtp_tls_security_level = may"}, nil},
		{"tables of its own", tcp, Postfix{Version: "3.7.13", PolicyMaps: "texthash:/etc/postfix/tls_policy, inline:{ {a = may}, {b = none} } socketmap:inet:127.0.0.1:8642:QUERY"}, []string{
			"smtp_tls_policy_maps = texthash:/etc/postfix/tls_policy, inline:{ {a = may}, {b = none} }, socketmap:inet:127.0.0.1:8461:postfix",
		}, nil},
		{"asked already", tcp, Postfix{Version: "3.7.13", PolicyMaps: "proxy:socketmap:unix:/run/x:postfix"}, []string{"smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix"}, nil},
	} {
		s, err := tc.postfix.For(at(t, tc.address))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got := lines(s, mainCF)
		for _, want := range tc.has {
			if !slices.Contains(got, want) {
				t.Errorf("%s: no %q in %q", tc.name, want, got)
			}
		}
		for _, not := range tc.hasNot {
			if slices.Contains(got, not) {
				t.Errorf("%s: %q is there", tc.name, not)
			}
		}
	}
	if _, err := (Postfix{Version: "3.3.9"}).For(Daemon{}); !errors.Is(err, ErrUnfit) {
		t.Errorf("3.3: %v", err)
	}
}

// TestCommands: the same settings, each a word for a shell.
func TestCommands(t *testing.T) {
	d := at(t, "inet:127.0.0.1:8461")
	d.Implicit = Implicit{On: true, Transport: "tls465"}
	s, err := Postfix{Version: "3.10.5", Chrooted: true, TransportMaps: "hash:/it's"}.For(d)
	if err != nil {
		t.Fatal(err)
	}
	got := s.Commands()
	for _, want := range []string{
		"postconf -e 'smtp_tls_mandatory_protocols = >=TLSv1.2'\n",
		`postconf -e 'transport_maps = hash:/it'\''s, socketmap:inet:127.0.0.1:8461:transport'` + "\n",
		"postconf -M tls465/unix='tls465 unix - - y - - smtp -o syslog_name=postfix/tls465 -o smtp_tls_wrappermode=yes -o smtp_tls_security_level=encrypt -o smtp_fallback_relay='\n",
		"\npostfix reload\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "tlsrpt_enable") {
		t.Errorf("what is commented out is a command:\n%s", got)
	}
}

// TestExim: each layout, and the settings that are not as in contrib.
func TestExim(t *testing.T) {
	d := at(t, "unix:/run/tlsverdict/policyd.sock")
	d.Implicit = Implicit{On: true, AsksPostfix: true}
	good := Exim{Version: "4.98.2", TLS: true, DANE: true}
	for _, tc := range []struct {
		change func(*Exim)
		want   []string
	}{
		{func(x *Exim) { x.Router, x.Domains = "remote", "! +local_domains : !+relay" }, []string{
			"# /etc/exim4/exim4.conf, near its top:\nTLSVERDICT_POLICYD = /run/tlsverdict/policyd.sock\nTLSVERDICT_DOMAINS = ! +local_domains : !+relay\nTLSVERDICT_SMTPS = yes\n.include /usr/share/tlsverdict/exim/macros\n",
			"in front of \"remote:\", the router for remote domains:\n.include /usr/share/tlsverdict/exim/routers\n",
			"[postfix]\ndane_resolver = \"127.0.0.1\"\n", "[signals]\nimplicit_tls_own = []\n",
		}},
		{func(x *Exim) { x.Domains = "!+local_domains" }, []string{"policyd.sock\nTLSVERDICT_SMTPS"}},
		{func(x *Exim) { x.Layout = DebianSplit; x.Smarthost, x.Port = "smtp.example.net", "587" }, []string{
			"# /etc/exim4/conf.d/main/05_tlsverdict, a file of its own:\nTLSVERDICT_POLICYD = /run/tlsverdict/policyd.sock\nTLSVERDICT_SMARTHOST = smtp.example.net\nTLSVERDICT_SMARTPORT = 587\n.include /usr/share/tlsverdict/exim/debian/main\n",
			"# Then: update-exim4.conf\n",
		}},
		{func(x *Exim) { x.Layout = DebianUnsplit }, []string{"# /etc/exim4/exim4.conf.template, below \"begin transports\":\n.include /usr/share/tlsverdict/exim/debian/transport\n"}},
	} {
		x := good
		tc.change(&x)
		s, err := x.For(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			if !strings.Contains(s.Text(), want) {
				t.Errorf("%+v: no %q in\n%s", x, want, s.Text())
			}
		}
	}
	for _, x := range []Exim{{Version: "4.95", TLS: true, DANE: true}, {Version: "4.98", DANE: true}, {Version: "4.98", TLS: true}} {
		if _, err := x.For(d); !errors.Is(err, ErrUnfit) {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

// TestSendmail: with DANE and without, and each kind of address.
func TestSendmail(t *testing.T) {
	for address, want := range map[string]string{
		"inet:127.0.0.1:8461": "FEATURE(`tlsverdict')dnl", "inet:0.0.0.0:8461": "FEATURE(`tlsverdict')dnl",
		"inet:127.0.0.1:9": "FEATURE(`tlsverdict', `inet:9@127.0.0.1')dnl", "inet:[::1]:8461": "FEATURE(`tlsverdict', `inet6:8461@::1')dnl",
		"unix:/run/tlsverdict/policyd.sock": "FEATURE(`tlsverdict', `local:/run/tlsverdict/policyd.sock')dnl",
	} {
		s, err := Sendmail{Version: "8.18.1", DANE: true}.For(at(t, address))
		if got := lines(s, sendmailMC); err != nil || !slices.Contains(got, want) || !slices.Contains(got, "define(`confDANE', `true')dnl") {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
	for _, m := range []Sendmail{{Version: "8.17.1.9"}, {Version: "8.18.1"}} {
		s, err := m.For(Daemon{})
		if err != nil || slices.Contains(lines(s, sendmailMC), "define(`confDANE', `true')dnl") || !strings.Contains(s.Text(), `dane = "native"`) {
			t.Errorf("without DANE: %v\n%s", err, s.Text())
		}
	}
	s, err := Sendmail{Version: "8.18.1", DANE: true}.For(Daemon{})
	if err != nil || !slices.Contains(lines(s, sendmailMC), "dnl define(`confDANE', `true')dnl") {
		t.Errorf("without a resolver: %v\n%s", err, s.Text())
	}
	for _, m := range []Sendmail{{Version: "8.16.1"}, {Version: "8.18.1", Lacks: []string{"SOCKETMAP"}}} {
		if _, err := m.For(Daemon{}); !errors.Is(err, ErrUnfit) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

// contrib are the lines of files of contrib, those that are commented out apart.
func contrib(t *testing.T, mark string, files ...string) (set, commented []string) {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join("../../contrib", file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			if rest, ok := strings.CutPrefix(line, mark); ok {
				commented = append(commented, rest, strings.TrimSpace(rest))
			} else if line != "" {
				set = append(set, line)
			}
		}
	}
	return set, commented
}

// TestContrib: what is printed stands in contrib, and what stands there is printed, for
// one release or the other.
func TestContrib(t *testing.T) {
	implicit := at(t, "inet:127.0.0.1:8461")
	implicit.Implicit = Implicit{On: true}
	redHat := at(t, "inet:127.0.0.1:8461")
	redHat.CAFile = "/etc/pki/tls/certs/ca-bundle.crt"
	queue, run := at(t, "unix:/var/spool/postfix/tlsverdict/policyd.sock"), at(t, "unix:/run/tlsverdict/policyd.sock")
	for _, tc := range []struct {
		files   []string
		daemons []Daemon
		postfix []Postfix
	}{
		{[]string{"postfix/main.cf-chrooted"}, []Daemon{at(t, "inet:127.0.0.1:8461"), queue, run}, []Postfix{{Version: "3.7.11", Chrooted: true}, {Version: "3.5.0", Chrooted: true}, {Version: "3.7.13", Digest: "md5", Chrooted: true}}},
		{[]string{"postfix/main.cf-unchrooted"}, []Daemon{redHat}, []Postfix{{Version: "3.7.11", Digest: "md5"}}},
		{[]string{"postfix/main.cf-chrooted", "postfix/main.cf-tlsrpt"}, []Daemon{at(t, "inet:127.0.0.1:8461")}, []Postfix{{Version: "3.10.5", Chrooted: true}, {Version: "3.7.11", Digest: "md5", Chrooted: true}}},
		{[]string{"postfix/main.cf-chrooted", "postfix/main.cf-implicit-tls"}, []Daemon{implicit}, []Postfix{{Version: "3.7.11", Digest: "md5", Chrooted: true}}},
	} {
		set, commented := contrib(t, "#", tc.files...)
		var printed []string
		for _, d := range tc.daemons {
			for _, p := range tc.postfix {
				s, err := p.For(d)
				if err != nil {
					t.Fatal(err)
				}
				printed = append(printed, append(lines(s, mainCF), lines(s, masterCF)...)...)
			}
		}
		for _, line := range printed {
			plain := strings.TrimPrefix(line, "#")
			_, value, _ := strings.Cut(line, " = ")
			inWords := slices.ContainsFunc(commented, func(c string) bool { return value != "" && strings.Contains(c, value) })
			if !slices.Contains(set, line) && !slices.Contains(commented, plain) && !inWords {
				t.Errorf("%v does not have %q", tc.files, line)
			}
		}
		for _, line := range set {
			if !slices.Contains(printed, line) {
				t.Errorf("%v: nothing prints %q", tc.files, line)
			}
		}
	}

	set, commented := contrib(t, "dnl ", "sendmail/sendmail.mc-tlsverdict")
	printed := make(map[string]bool)
	for _, d := range []Daemon{{}, at(t, "inet:127.0.0.1:8461")} {
		s, err := Sendmail{Version: "8.18.1", DANE: true}.For(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines(s, sendmailMC) {
			printed[line] = true
			if !slices.Contains(set, line) && !slices.Contains(commented, strings.TrimPrefix(line, "dnl ")) {
				t.Errorf("sendmail.mc-tlsverdict does not have %q", line)
			}
		}
	}
	for _, line := range set {
		if line != "dnl" && !printed[line] {
			t.Errorf("sendmail.mc-tlsverdict: nothing prints %q", line)
		}
	}
}

// TestPages: what the pages show is what is printed.
func TestPages(t *testing.T) {
	d := at(t, DefaultAddress)
	for page, made := range map[string]func() (Snippet, error){
		"postfix": func() (Snippet, error) { return Postfix{Version: "3.10.13", Chrooted: true, Level: "may"}.For(d) },
		"exim": func() (Snippet, error) {
			return Exim{Version: "4.98.2", TLS: true, DANE: true, Layout: DebianSplit}.For(d)
		},
		"sendmail": func() (Snippet, error) { return Sendmail{Version: "8.18.1", DANE: true}.For(d) },
	} {
		text, err := os.ReadFile("../../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		s, err := made()
		if err != nil || !strings.Contains(string(text), "```\n"+s.Text()+"```\n") {
			t.Errorf("docs/%s.md does not have (%v)\n%s", page, err, s.Text())
		}
	}
}

// TestIncluded: each file that a snippet for Exim includes is one of contrib, which names
// the place that the snippet says.
func TestIncluded(t *testing.T) {
	for _, layout := range []Layout{OneFile, DebianSplit, DebianUnsplit} {
		s, err := Exim{Version: "4.98.2", TLS: true, DANE: true, Layout: layout}.For(at(t, DefaultAddress))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.Parts {
			for _, l := range lines(Snippet{Parts: []Part{p}}, p.File) {
				name, ok := strings.CutPrefix(l, ".include "+eximFiles)
				if !ok {
					continue
				}
				text, err := os.ReadFile(filepath.Join("../../contrib/exim", name))
				if err != nil || layout != OneFile && !strings.Contains(string(text), p.File) {
					t.Errorf("%s: %s: %v", p.File, name, err)
				}
			}
		}
	}
}

// TestTextIsComment: all but the settings is a comment in the syntax of its file.
func TestTextIsComment(t *testing.T) {
	s, err := Sendmail{DANE: true, HasSTS: true}.For(Daemon{})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(s.Text()) {
		line = strings.TrimRight(line, "\n")
		if line != "" && !strings.HasPrefix(line, "dnl ") && !strings.HasPrefix(line, "# ") && !slices.Contains(lines(s, sendmailMC), line) && !slices.Contains(lines(s, defaultConfig), line) {
			t.Errorf("%q", line)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"3.10.13", "8.17.1.9", "3.12-20260101", "", ".", "99999999999999999999.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v := parseVersion(s); v[0] < 0 || v[1] < 0 || v[2] < 0 || v.before(0, 0, 0) {
			t.Errorf("%q: %v", s, v)
		}
	})
}

func FuzzBeside(f *testing.F) {
	f.Add("texthash:/a, inline:{ {a = b}, c } socketmap:inet:x:1:postfix")
	f.Add("}}{,,")
	f.Fuzz(func(t *testing.T, tables string) {
		got := beside(tables, "socketmap:inet:127.0.0.1:8461:postfix")
		if !strings.HasSuffix(got, "socketmap:inet:127.0.0.1:8461:postfix") {
			t.Errorf("%q: %q", tables, got)
		}
		if again := beside(got, "socketmap:inet:127.0.0.1:8461:postfix"); strings.Count(tables, "{") == strings.Count(tables, "}") && !strings.Contains(tables, "}") && again != got {
			t.Errorf("%q: pasted twice it is %q", got, again)
		}
	})
}
