package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exim is Exim: with a configuration in one file, as its manual has it, or with
// Debian's, split into many or not.
type exim struct{ box }

// eximConf is what an administrator would have, but for paths, names and logging.
const eximConf = `primary_hostname = mta.lab.example
domainlist local_domains = mta.lab.example
local_interfaces = 127.0.0.1
acl_smtp_rcpt = accept
tls_advertise_hosts =
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
keep_environment =
log_file_path = /var/log/exim4/%slog
log_selector = +tls_certificate_verified +tls_peerdn +tls_sni
.include /usr/share/tlsverdict/exim/macros

begin routers

.include /usr/share/tlsverdict/exim/routers

dnslookup:
  driver = dnslookup
  domains = ! +local_domains
  transport = remote_smtp
  ignore_target_hosts = 0.0.0.0 : 127.0.0.0/8
  no_more

begin transports

remote_smtp:
  driver = smtp
  # One session for all mail to a host: nothing of it may leak into mail that a
  # policy holds for.
  multi_domain = true
  connection_max_messages = 500

.include /usr/share/tlsverdict/exim/transports

begin retry
* * F,2h,1h
`

// debianConf is what debconf writes for an "internet site" that takes mail from
// itself only. %t is whether the configuration is split.
const debianConf = `dc_eximconfig_configtype='internet'
dc_other_hostnames=''
dc_local_interfaces='127.0.0.1'
dc_readhost=''
dc_relay_domains=''
dc_minimaldns='false'
dc_relay_nets=''
dc_smarthost=''
CFILEMODE='644'
dc_use_split_config='%t'
dc_hide_mailname=''
dc_mailname_in_oh='true'
dc_localdelivery='mail_spool'
`

// ownMacros are an administrator's own, for Debian's configuration. REMOTE_SMTP_HELO_DATA
// is one that Debian's transport knows, and must have its effect on ours.
const ownMacros = `MAIN_HARDCODE_PRIMARY_HOSTNAME = mta.lab.example
REMOTE_SMTP_HELO_DATA = helo.lab.example
MAIN_KEEP_ENVIRONMENT =
`

// install writes the configuration of a setup: "split" and "unsplit" are Debian's.
func (x exim) install(ctx context.Context, s setup) error {
	files := map[string]string{"etc/mailname": "mta.lab.example\n"}
	for _, f := range []string{"macros", "routers", "transports", "common", "debian/main", "debian/router", "debian/transport", "debian/options"} {
		text, err := contrib("exim/" + f)
		if err != nil {
			return err
		}
		files["usr/share/tlsverdict/exim/"+f] = text
	}
	if s.stock != "" {
		return errors.Join(x.write(files), x.installStock(ctx, s.stock))
	}
	if err := x.remove("etc/exim4/exim4.conf", "etc/exim4/exim4.conf.localmacros", "etc/exim4/conf.d/*/*_tlsverdict"); err != nil {
		return err
	}
	switch s.name {
	case "split":
		files["etc/exim4/conf.d/main/000_localmacros"] = ownMacros + "TLSVERDICT_POLICYD = /run/tlsverdict/policyd.sock\n"
		files["etc/exim4/conf.d/main/05_tlsverdict"] = files["usr/share/tlsverdict/exim/debian/main"]
		files["etc/exim4/conf.d/router/190_tlsverdict"] = files["usr/share/tlsverdict/exim/debian/router"]
		files["etc/exim4/conf.d/transport/40_tlsverdict"] = files["usr/share/tlsverdict/exim/debian/transport"]
	case "unsplit":
		template, err := os.ReadFile(x.path("etc/exim4/exim4.conf.template"))
		if err != nil {
			return err
		}
		files["etc/exim4/exim4.conf.localmacros"] = ownMacros + ".include /usr/share/tlsverdict/exim/debian/main\n"
		files["etc/exim4/exim4.conf.template"] = intoTemplate(string(template))
	default:
		files["etc/exim4/exim4.conf"] = eximConf
		if s.implicit {
			files["etc/exim4/exim4.conf"] = "TLSVERDICT_SMTPS = yes\n" + eximConf
		}
		return x.write(files)
	}
	files["etc/exim4/update-exim4.conf.conf"] = fmt.Sprintf(debianConf, s.name == "split")
	if err := x.write(files); err != nil {
		return err
	}
	_, err := x.run(ctx, "update-exim4.conf")
	return err
}

// intoTemplate adds the two lines to Debian's template, once.
func intoTemplate(text string) string {
	const router, transport = ".include /usr/share/tlsverdict/exim/debian/router\n", ".include /usr/share/tlsverdict/exim/debian/transport\n"
	if strings.Contains(text, router) {
		return text
	}
	text = strings.Replace(text, "\n.ifdef DCconfig_internet\n", "\n"+router+"\n.ifdef DCconfig_internet\n", 1)
	return strings.Replace(text, "\nbegin transports\n", "\nbegin transports\n"+transport, 1)
}

func (x exim) clean() error {
	return x.remove("var/spool/exim4/*", "var/log/exim4/*")
}

// start runs Exim in the foreground, without a queue runner, and waits until it
// takes mail.
func (x exim) start(ctx context.Context, t *testing.T) {
	t.Helper()
	x.spawn(ctx, t, "var/log/exim.log", "/usr/sbin/exim4", "-bdf")
	x.awaitSMTP(ctx, t, "var/log/exim.log", eximLog, "var/log/exim4/paniclog")
}

const eximLog = "var/log/exim4/mainlog"

// flush makes Exim forget which hosts have failed, and tries everything again.
func (x exim) flush(ctx context.Context) error {
	if err := x.remove("var/spool/exim4/db/*"); err != nil {
		return err
	}
	_, err := x.run(ctx, "/usr/sbin/exim4", "-qff")
	return err
}

func (x exim) attempts(recipient string) []attempt {
	text, err := os.ReadFile(x.path(eximLog))
	if err != nil {
		return nil
	}
	all := readEximLog(string(text))
	return slices.DeleteFunc(all, func(a attempt) bool { return !strings.EqualFold(a.recipient, recipient) })
}

var ( // compiled once, never changed
	eximLine = regexp.MustCompile(`^[\d-]{10} [\d:.]+ ([0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4}) (.*)$`)
	eximEnd  = regexp.MustCompile(`^(=>|->|==|\*\*) (\S+@[^\s:]+)`)
)

// readEximLog finds the delivery attempts in a main log. What Exim logs of a message
// before it tells what became of a recipient is about one of the recipients; which
// one it does not say.
func readEximLog(text string) []attempt {
	var found []attempt
	pending, told := map[string][]string{}, map[string]bool{} // by message
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		m := eximLine.FindStringSubmatch(line)
		if m == nil || strings.HasPrefix(m[2], "<= ") || m[2] == "Completed" || strings.HasPrefix(m[2], "Frozen") {
			continue
		}
		id := m[1]
		end := eximEnd.FindStringSubmatch(m[2])
		if end == nil {
			if told[id] {
				pending[id], told[id] = nil, false
			}
			pending[id] = append(pending[id], line)
			continue
		}
		told[id] = true
		a := attempt{recipient: end[2], lines: append(slices.Clone(pending[id]), line)}
		switch end[1] {
		case "==":
			a.status = "deferred"
		case "**":
			a.status = "bounced"
		default:
			a.status, a.said = "sent", eximSaid(m[2])
		}
		found = append(found, a)
	}
	return found
}

// eximSaid reads how well a delivery was protected off its line. "CV=yes" is also
// logged of a certificate that nobody asked for, and so only counts with a transport
// that did ask.
func eximSaid(line string) string {
	switch {
	case !strings.Contains(line, " X=TLS"):
		return clear
	case strings.Contains(line, " T=tlsverdict_secure") && strings.Contains(line, " CV=yes "),
		strings.Contains(line, " T=tlsverdict_dane") && strings.Contains(line, " CV=dane "):
		return authenticated
	}
	return encrypted
}

func TestReadEximLog(t *testing.T) {
	const text = `2026-11-23 19:43:10 1xVZwU-00013q-0x <= <> H=localhost (localhost) [127.0.0.1] P=smtp S=306
2026-11-23 19:43:10 1xVZwU-00013q-0x => a@a.example R=tlsverdict_mx T=tlsverdict_dane_only H=mx.a.example [198.51.100.11] X=TLS1.3:ECDHE_X25519__AES_128_GCM:128 CV=dane DN="CN=mx.a.example" C="250 2.0.0 stored"
2026-11-23 19:43:10 1xVZwU-00013q-0x -> b@a.example R=tlsverdict_hosts T=tlsverdict_secure H=mx.a.example [198.51.100.11] X=TLS1.3:ECDHE_X25519__AES_128_GCM:128 CV=yes DN="CN=mx.a.example" C="250 2.0.0 stored"
2026-11-23 19:43:10 1xVZwU-00013q-0x Completed
2026-11-23 19:43:12 1xVZwW-0000000016U-25O5 => c@c.example R=dnslookup T=remote_smtp H=mx.c.example [198.51.100.12] X=TLS1.3:ECDHE_X25519__AES_128_GCM:128 CV=yes C="250 2.0.0 stored"
2026-11-23 19:43:12 1xVZwW-0000000016V-25O5 => d@d.example R=dnslookup T=remote_smtp H=mx.d.example [198.51.100.13] C="250 2.0.0 stored"
2026-11-23 19:43:16 1xVZwZ-0001D8-2o H=mx.e.example [198.51.100.18]: a TLS session is required, but the server did not offer TLS support
2026-11-23 19:43:16 1xVZwZ-0001D8-2o == e@e.example R=tlsverdict_mx T=tlsverdict_dane_only defer (-38) H=mx.e.example [198.51.100.18]: a TLS session is required, but the server did not offer TLS support
2026-11-23 19:43:19 1xVZwZ-0001D8-2o == e@e.example R=tlsverdict_ask defer (-1): tlsverdict: no
2026-11-23 19:43:19 1xVZwd-0001He-0G ** f@f.example: Unrouteable address
2026-11-23 19:43:19 1xVZwd-0001He-0G Frozen (delivery error message)
`
	got := readEximLog(text)
	want := []attempt{
		{recipient: "a@a.example", status: "sent", said: authenticated},
		{recipient: "b@a.example", status: "sent", said: authenticated},
		{recipient: "c@c.example", status: "sent", said: encrypted},
		{recipient: "d@d.example", status: "sent", said: clear},
		{recipient: "e@e.example", status: "deferred"},
		{recipient: "e@e.example", status: "deferred"},
		{recipient: "f@f.example", status: "bounced"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d attempts, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		if a := got[i]; a.recipient != w.recipient || a.status != w.status || a.said != w.said {
			t.Errorf("attempt %d = %+v, want %+v", i, a, w)
		}
	}
	if n := len(got[4].lines); n != 2 {
		t.Errorf("%d lines tell why e@e.example waits, want 2: %q", n, got[4].lines)
	}
}
