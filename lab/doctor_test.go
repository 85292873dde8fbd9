package lab

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// ailment is something wrong with a machine: how it comes to be, and what policyd doctor
// is to find. What the finding's own line mends is gone after it; words in it are for the
// postmaster, who is played by cure.
type ailment struct {
	name string
	// only is the version of the mail server that can have it; empty: each.
	only string
	// break and cure are for a shell on the machine.
	breaks, cure string
	// finds is "severity check"; more what else is found meanwhile.
	finds string
	more  []string
	// flags are those of the command.
	flags []string
	// stays: nothing mends it but undoing it.
	stays bool
}

// examined is what policyd doctor has found.
type examined struct {
	Subject, Severity, Check, Looked, Found, Why, Mend, In string
}

// faults are what is wrong, or worth a word.
func faults(all []examined) []string {
	var out []string
	for _, f := range all {
		if f.Severity != "ok" {
			out = append(out, f.Severity+" "+f.Check)
		}
	}
	return out
}

// examine runs policyd doctor on the machine.
func (l *lab) examine(t *testing.T, flags ...string) (all []examined, status int) {
	t.Helper()
	c := l.policyd.mta.command(t.Context(), l.policyd.root, append([]string{"policyd", "doctor", "--json"}, flags...)...)
	out, err := c.Output()
	var result struct{ Findings []examined }
	if failure := json.Unmarshal(out, &result); failure != nil {
		t.Fatalf("policyd doctor: %v: %v\n%s", failure, err, out)
	}
	return result.Findings, c.ProcessState.ExitCode()
}

// healthy are the findings about a machine that is as contrib's files make it: none but
// what the lab's own settings are worth a word.
func (l *lab) healthy() []string {
	if l.server() == "postfix" {
		// transport_maps, and transports that ask in the ways of other daemons.
		list := []string{"notice postfix-routes"}
		if l.version() != "3.7" {
			list = append(list, "notice postfix-dialect")
		}
		return list
	}
	if l.server() == "sendmail" {
		return l.sendmailHealthy()
	}
	return nil
}

// doctored has policyd doctor look at a healthy machine, and at each ailment.
func (l *lab) doctored(t *testing.T) {
	if err := l.installTools(); err != nil {
		t.Fatal(err)
	}
	all, status := l.examine(t)
	if got := faults(all); !slices.Equal(distinct(got), distinct(l.healthy())) || status != 0 {
		t.Errorf("a healthy machine: %q, exit status %d", got, status)
		for _, f := range all {
			t.Logf("%+v", f)
		}
	}
	l.fromOutside(t)
	// Of what is not there cp makes the parents all the same, and nobody else may enter them.
	l.sh(t, "rm -rf /var/tmp/kept; mkdir -p /var/tmp/kept; cp -a --parents $(ls -d /etc /var/spool/postfix/etc /var/lib/tlsverdict 2>/dev/null) /var/tmp/kept/")
	for _, a := range l.ailments() {
		if a.only != "" && a.only != l.version() {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			defer l.sh(t, "cp -a /var/tmp/kept/etc /; cp -a /var/tmp/kept/var /")
			l.ails(t, a)
		})
	}
}

func distinct(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// ails breaks the machine, and mends it by what policyd doctor says.
func (l *lab) ails(t *testing.T, a ailment) {
	l.sh(t, a.breaks)
	all, status := l.examine(t, a.flags...)
	i := slices.IndexFunc(all, func(f examined) bool { return f.Severity+" "+f.Check == a.finds })
	if i < 0 {
		t.Fatalf("found %q, and not %q", faults(all), a.finds)
	}
	f := all[i]
	t.Logf("%s: %s\n%s", f.Subject, f.Found, f.Mend)
	if severe := strings.HasPrefix(a.finds, "error") || strings.HasPrefix(a.finds, "warning"); severe != (status == 1) && len(a.more) == 0 {
		t.Errorf("exit status %d", status)
	}
	want := append(slices.Clone(l.healthy()), a.more...)
	well := strings.HasPrefix(a.finds, "ok ")
	if !well {
		want = append(want, a.finds)
	}
	if got := distinct(faults(all)); !slices.Equal(got, distinct(want)) {
		t.Errorf("found %q, want %q", got, distinct(want))
	}
	if f.Looked == "" || f.Why == "" && !well {
		t.Errorf("what was looked at, or why it matters, is missing: %+v", f)
	}
	if a.stays {
		l.sh(t, a.cure)
		return
	}
	if f.Mend == "" {
		t.Fatal("nothing mends it")
	}
	l.sh(t, a.cure)
	if f.In != "" {
		l.sh(t, fmt.Sprintf("printf '%%s\\n' %s >>%s", shellWord(f.Mend), f.In))
	} else {
		l.sh(t, f.Mend)
	}
	all, _ = l.examine(t, a.flags...)
	if got := faults(all); slices.Contains(got, a.finds) && !slices.Contains(l.healthy(), a.finds) {
		t.Errorf("mended by %q, and still found: %q", f.Mend, got)
		for _, f := range all {
			t.Logf("%+v", f)
		}
	}
}

func shellWord(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// sh runs a script on the machine, which must succeed.
func (l *lab) sh(t *testing.T, script string) {
	t.Helper()
	if script == "" {
		return
	}
	if out, err := l.run(t.Context(), "sh", "-ec", script); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// ailments are those of the mail server of this machine, and of what all have in common.
func (l *lab) ailments() []ailment {
	switch l.server() {
	case "postfix":
		return append(postfixAilments(), hostAilments()...)
	case "exim":
		return eximAilments()
	}
	severity := "warning"
	if l.withoutDANE() {
		severity = "notice"
	}
	return append(sendmailAilments(), lookingForPostfix(severity))
}

// hostAilments are those of the machine, and of policyd.
func hostAilments() []ailment {
	conf := func(sed string) string { return "sed -i -E '" + sed + "' /etc/tlsverdict/policyd.toml" }
	// To who looks at signatures of last year, the clock is a year ahead.
	const old = `cd /srv/dns; key=$(ls K.+*.key); ldns-signzone -o . -i 20250101000000 -e 20250201000000 -f ..zone ..zone.in "${key%.key}"; kill -HUP "$(cat nsd.pid)"
for i in $(seq 100); do drill -D -o CD SOA . @127.0.0.1 | grep -q 20250201 && exit 0; sleep 0.2; done; exit 1`
	return []ailment{
		{name: "observe", breaks: `sed -i '1i mode = "observe"' /etc/tlsverdict/policyd.toml`, cure: "sed -i 1d /etc/tlsverdict/policyd.toml", finds: "notice mode", stays: true},
		{name: "bad-configuration", breaks: "echo 'xyz = 1' >>/etc/tlsverdict/policyd.toml", finds: "error configuration", more: []string{"unknown answers", "unknown clock", "unknown resolver", "unknown store", "unknown trust-anchors", "unknown ca-roots"}, stays: true},
		{name: "nobody-answers", breaks: conf(`s/127.0.0.1:8642/127.0.0.1:8643/`), finds: "error answers", stays: true},
		{name: "store-of-root", breaks: "printf '\n[control]\nsocket = \"\"\n' >>/etc/tlsverdict/policyd.toml; echo 'tlsverdict:x:7777:7777::/:/bin/false' >>/etc/passwd", finds: "error store"},
		{name: "no-anchor-of-the-root", breaks: "sed 's/^\\./other.example./' /srv/dns/anchor.ds >/etc/anchor.ds; " + conf(`s,/srv/dns/anchor.ds,/etc/anchor.ds,`), finds: "warning trust-anchors", more: []string{"error resolver"}, stays: true},
		{name: "resolver-without-signatures", breaks: conf(`s/^dnssec = .*/servers = ["198.51.100.200:53"]\ntimeout = "300ms"\n&/`), finds: "error resolver", more: []string{"unknown clock"}, stays: true},
		{name: "port-25-open", flags: []string{"--probe", "dane.example"}, breaks: "true", finds: "ok port-25", stays: true},
		{name: "port-25-blocked", flags: []string{"--probe", "[mx1.danemixed.example]"}, breaks: "true", finds: "error port-25", stays: true},
		{name: "clock", breaks: old, finds: "error clock", more: []string{"error resolver", "warning postfix-resolver"}, stays: true},
	}
}

// postfixAilments are those of Postfix.
func postfixAilments() []ailment {
	// Not by postconf -e, which waits for two seconds each time.
	set := func(line string) string {
		name, _, _ := strings.Cut(line, " ")
		return "sed -i '/^" + name + " *=/d' /etc/postfix/main.cf; echo '" + line + "' >>/etc/postfix/main.cf"
	}
	own := func(line string) string { return "postconf -P -e '" + line + "'" }
	const unreachable = "198.51.100.200"
	other := "printf 'nameserver %s\\n' " + provider + " >"
	return []ailment{
		{name: "without-dnssec", breaks: set("smtp_dns_support_level ="), finds: "warning postfix-dnssec"},
		{name: "without-dnssec-in-master.cf", breaks: own("smtp/unix/smtp_dns_support_level = enabled"), finds: "warning postfix-dnssec"},
		{name: "hosts-file", breaks: set("smtp_host_lookup = native"), finds: "warning postfix-dnssec"},
		{name: "lets-mx-lookups-fail", breaks: set("ignore_mx_lookup_error = yes"), finds: "warning postfix-dnssec"},
		{name: "other-resolv-conf", breaks: other + "/var/spool/postfix/etc/resolv.conf", finds: "warning postfix-resolv-conf", more: []string{"warning postfix-resolver"}},
		{name: "no-resolv-conf", breaks: "echo 'nameserver " + unreachable + "' >/var/spool/postfix/etc/resolv.conf", finds: "warning postfix-resolv-conf", more: []string{"warning postfix-resolver"}},
		{
			name: "resolver-without-ad", breaks: other + "/etc/resolv.conf; cp /etc/resolv.conf /var/spool/postfix/etc/resolv.conf",
			cure: "printf 'nameserver 127.0.0.1\\noptions edns0 trust-ad\\n' >/etc/resolv.conf", finds: "warning postfix-resolver",
		},
		{name: "insecure-mx", breaks: set("smtp_tls_dane_insecure_mx_policy = may"), finds: "warning postfix-insecure-mx"},
		{name: "insecure-mx-by-default", only: "3.7", breaks: "sed -i /smtp_tls_dane_insecure_mx_policy/d /etc/postfix/main.cf", finds: "warning postfix-insecure-mx"},
		{name: "md5", breaks: set("smtp_tls_fingerprint_digest = md5"), finds: "warning postfix-digest"},
		{name: "md5-and-fingerprints", breaks: set("smtp_tls_fingerprint_digest = md5") + "; " + set("smtp_dns_support_level ="), finds: "error postfix-digest", more: []string{"warning postfix-dnssec"}},
		{name: "answers-it-cannot-parse", only: "3.7", breaks: set("smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt"), finds: "error postfix-dialect"},
		{name: "answers-without-reports", only: "3.10", breaks: set("smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix"), finds: "notice postfix-dialect"},
		{name: "level-none", breaks: set("smtp_tls_security_level = none"), finds: "warning postfix-level"},
		{name: "level-empty", breaks: set("smtp_tls_security_level ="), finds: "warning postfix-level"},
		{name: "level-none-in-master.cf", breaks: own("smtp/unix/smtp_tls_security_level = none"), finds: "warning postfix-level"},
		{name: "no-map", breaks: set("smtp_tls_policy_maps ="), finds: "error postfix-map"},
		{name: "no-map-for-relay", breaks: own("relay/unix/smtp_tls_policy_maps ="), finds: "error postfix-map"},
		{name: "another-map", breaks: set("smtp_tls_policy_maps = texthash:/etc/postfix/transport"), finds: "error postfix-map"},
		{name: "after-a-table", breaks: "sed -i 's,^smtp_tls_policy_maps = ,&texthash:/etc/postfix/transport\\, ,' /etc/postfix/main.cf", finds: "notice postfix-map"},
		{name: "after-a-daemon", breaks: "sed -i 's,^smtp_tls_policy_maps = ,&socketmap:inet:127.0.0.1:8642:other\\, ,' /etc/postfix/main.cf", finds: "warning postfix-map"},
		{name: "proxymap-refuses", breaks: set("proxy_read_maps = $local_recipient_maps") + "; " + set("smtp_tls_policy_maps = proxy:socketmap:unix:/run/tlsverdict/policyd.sock:postfix"), finds: "error postfix-map", more: []string{"notice postfix-map"}},
		{name: "socket-out-of-the-chroot", breaks: set("smtp_tls_policy_maps = socketmap:unix:/run/tlsverdict/policyd.sock:postfix"), finds: "error postfix-socket"},
		{
			name: "socket-out-of-the-chroot-without-tcp", breaks: set("smtp_tls_policy_maps = socketmap:unix:/run/tlsverdict/policyd.sock:postfix") +
				`; sed -i 's/"inet:127.0.0.1:8[0-9]*",//g' /etc/tlsverdict/policyd.toml`, finds: "error postfix-socket",
		},
		{name: "socket-of-root", breaks: "chmod 0600 /run/tlsverdict/policyd.sock; " + set("smtp_tls_policy_maps = proxy:socketmap:unix:/run/tlsverdict/policyd.sock:postfix"), cure: "chmod 0666 /run/tlsverdict/policyd.sock", finds: "error postfix-socket", more: []string{"notice postfix-socket"}},
		{name: "socket-of-nobody", breaks: set("smtp_tls_policy_maps = socketmap:inet:127.0.0.1:9999:postfix"), finds: "error postfix-socket"},
		{name: "tls-1.0", breaks: set("smtp_tls_mandatory_protocols = >=TLSv1"), finds: "warning postfix-protocols"},
		{name: "tls-1.0-of-old", breaks: set("smtp_tls_mandatory_protocols = !SSLv2, !SSLv3"), finds: "warning postfix-protocols"},
		{name: "ssl", breaks: set("smtp_tls_protocols = !SSLv2"), finds: "warning postfix-protocols"},
		{name: "no-cas", breaks: set("smtp_tls_CAfile ="), finds: "error postfix-cas"},
		{name: "no-ca-file", breaks: set("smtp_tls_CAfile = /etc/ssl/none.pem"), finds: "error postfix-cas"},
		{name: "cas-out-of-the-chroot", breaks: set("smtp_tls_CAfile =") + "; " + set("smtp_tls_CApath = /etc/ssl/certs"), finds: "error postfix-cas"},
		{name: "silent-log", breaks: set("smtp_tls_loglevel = 0"), finds: "notice postfix-log"},
		{name: "two-sessions", breaks: set("smtp_mx_session_limit = 2"), finds: "notice postfix-sessions"},
		{name: "relayhost", breaks: set("relayhost = [mx.dane.example]"), finds: "notice postfix-routes", stays: true},
		{name: "other-transport", breaks: own("inqueue/unix/smtp_tls_security_level = none"), finds: "notice postfix-level"},
	}
}

// fromOutside: --root looks at the machine in a directory.
func (l *lab) fromOutside(t *testing.T) {
	c := exec.CommandContext(t.Context(), "ip", "netns", "exec", string(l.policyd.mta), l.path("usr/bin/policyd"), "doctor", "--json", "--root", l.root)
	out, _ := c.Output()
	var result struct{ Findings []examined }
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := distinct(faults(result.Findings)); !slices.Equal(got, distinct(l.healthy())) {
		t.Errorf("from outside: %q", got)
	}
}
