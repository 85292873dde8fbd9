package lab

import (
	"os"
	"strings"
)

// installTools puts programs on a machine that a finding's line calls, and that the lab has
// no packages for: Debian's Makefile of Sendmail, and service managers, which have nothing
// to do here.
func (b box) installTools() error {
	tools := map[string]string{
		"usr/bin/systemctl": "#!/bin/sh\n", "etc/init.d/sendmail": "#!/bin/sh\n",
		"usr/bin/tlsverdict-policyd": "#!/bin/sh\nexec policyd \"$@\"\n",
	}
	if b.server() == "sendmail" {
		tools["etc/mail/Makefile"] = "all:\n\tm4 sendmail.mc >sendmail.cf\n.PHONY: all\n"
	}
	if err := b.write(tools); err != nil {
		return err
	}
	for file := range tools {
		if err := os.Chmod(b.path(file), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// atMacros puts a line in front of what includes contrib's macros.
func atMacros(line string) string {
	return "sed -i 's,^.include /usr/share/tlsverdict/exim/macros," + line + "\\n&,' /etc/exim4/exim4.conf"
}

// eximAilments are those of Exim, configured by one file.
func eximAilments() []ailment {
	const resolv = "/etc/resolv.conf"
	conf := func(sed string) string { return "sed -i '" + sed + "' /etc/exim4/exim4.conf" }
	// In contrib's files, of which the first in their place here is a copy.
	changed := func(file, sed string) string {
		return "cp -r /usr/share/tlsverdict/exim /etc/exim4/own; sed -i '" + sed + "' /etc/exim4/own/" + file + "; " + conf("s,/usr/share/tlsverdict/exim,/etc/exim4/own,; 1i TLSVERDICT_DIR = /etc/exim4/own")
	}
	const uninclude = "; rm -r /etc/exim4/own"
	return []ailment{
		{name: "no-routers", breaks: conf("/exim.routers/d"), cure: conf("s,^begin routers,&\\n\\n.include /usr/share/tlsverdict/exim/routers,"), finds: "error exim-routers"},
		{name: "another-router-before", breaks: conf("s,^begin routers,&\\n\\nown:\\n  driver = dnslookup\\n  domains = ! +local_domains\\n  transport = remote_smtp\\n,"), cure: conf("/^own:/,/transport/d"), finds: "error exim-routers"},
		{name: "no-transports", breaks: conf("/exim.transports/d"), cure: conf("s,^begin transports,&\\n\\n.include /usr/share/tlsverdict/exim/transports,"), finds: "error exim-transports"},
		{name: "another-port", breaks: atMacros("TLSVERDICT_POLICYD = inet:127.0.0.1:1"), finds: "error exim-socket"},
		{name: "no-such-socket", breaks: atMacros("TLSVERDICT_POLICYD = /run/none"), finds: "error exim-socket"},
		{name: "socket-of-root", breaks: "chmod 0600 /run/tlsverdict/policyd.sock; " + atMacros("TLSVERDICT_POLICYD = /run/tlsverdict/policyd.sock"), finds: "error exim-socket"},
		{name: "options-without-tls", breaks: "echo 'hosts_avoid_tls = *' >/etc/exim4/options; " + atMacros("TLSVERDICT_OPTIONS = /etc/exim4/options"), finds: "error exim-transports"},
		{name: "options-that-return-mail", breaks: "echo 'hosts_require_dane = *' >/etc/exim4/options; " + atMacros("TLSVERDICT_OPTIONS = /etc/exim4/options"), finds: "error exim-transports"},
		{name: "multi-domain", breaks: changed("common", "s/multi_domain = false/multi_domain/"), cure: "true" + uninclude, finds: "error exim-transports", stays: true},
		{name: "not-verified", breaks: changed("transports", "s/tls_verify_hosts = [*]/tls_verify_hosts =/"), cure: "true" + uninclude, finds: "error exim-transports", stays: true},
		{name: "tls-1.0", breaks: changed("transports", "s/+VERS-TLS1.2/&:+VERS-TLS1.0/"), cure: "true" + uninclude, finds: "warning exim-protocols", stays: true},
		{name: "without-dnssec", breaks: conf("s/^tls_advertise_hosts =.*/&\\ndns_dnssec_ok = 0/"), finds: "error exim-dnssec"},
		{name: "without-trust-ad", breaks: "sed -i '/^options/d' " + resolv, finds: "error exim-trust-ad"},
		{name: "resolver-without-ad", breaks: "sed -i 's/127.0.0.1/" + provider + "/' " + resolv, cure: "sed -i 's/" + provider + "/127.0.0.1/' " + resolv, finds: "error exim-resolver"},
		{name: "unreadable", breaks: conf("s/^begin routers/begin rooters/"), cure: conf("s/^begin rooters/begin routers/"), finds: "error exim-config"},
		lookingForPostfix("warning"),
	}
}

// lookingForPostfix is policyd as it comes, beside another mail server. Who mends it has
// one section of a name.
func lookingForPostfix(severity string) ailment {
	const toml = " /etc/tlsverdict/policyd.toml"
	return ailment{name: "looking-for-postfix", breaks: `sed -i 's/^dane = .*/dane = "auto"/'` + toml, cure: `sed -i -e '/^\[postfix\]/d' -e '/^dane = /d'` + toml, finds: severity + " dane"}
}

// sendmailAilments are those of Sendmail.
func sendmailAilments() []ailment {
	const remake = "; m4 /etc/mail/sendmail.mc 2>/dev/null >/etc/mail/sendmail.cf"
	mc := func(sed string) string { return "sed -i \"" + sed + "\" /etc/mail/sendmail.mc" + remake }
	const feature = "^FEATURE(.tlsverdict.*"
	const sts = "FEATURE(\\`sts')dnl"
	put := mc("s,^FEATURE(.sts.*,FEATURE(\\`tlsverdict')dnl,; s,^dnl gone.*,FEATURE(\\`tlsverdict')dnl,")
	return []ailment{
		{name: "no-feature", breaks: mc("s," + feature + ",dnl gone,"), cure: put, finds: "error sendmail-feature"},
		{name: "sts-instead", breaks: mc("s," + feature + "," + sts + ","), cure: put, finds: "error sendmail-feature"},
		{name: "sts-beside", breaks: mc("s," + feature + ",&\\n" + sts + ","), finds: "error sendmail-feature"},
		{name: "no-ca", breaks: mc("/confCACERT'/d"), finds: "error sendmail-ca"},
		{name: "no-ca-directory", breaks: mc("/confCACERT_PATH/d"), finds: "error sendmail-ca"},
		{name: "ca-missing", breaks: mc("s,/etc/ssl/certs/ca-certificates.crt,/etc/ssl/none.crt,"), finds: "error sendmail-ca"},
		{name: "another-port", breaks: mc("s," + feature + ",FEATURE(\\`tlsverdict'\\, \\`inet:1@127.0.0.1')dnl,"), cure: mc("s," + feature + ",FEATURE(\\`tlsverdict')dnl,"), finds: "error sendmail-socket"},
		{name: "unsafe-directory", breaks: "chmod g+w /run/tlsverdict; " + mc("s,"+feature+",FEATURE(\\`tlsverdict'\\, \\`local:/run/tlsverdict/policyd.sock')dnl,"), finds: "error sendmail-socket"},
		{name: "host-status", breaks: mc("s," + feature + ",&\\ndefine(\\`confHOST_STATUS_DIRECTORY'\\, \\`/var/lib/sendmail/host_status')dnl,"), finds: "warning sendmail-sessions"},
		{name: "not-made", breaks: "touch -d '-1 hour' /etc/mail/sendmail.cf", finds: "warning sendmail-made"},
		{name: "tls-1.0", breaks: "true", finds: "notice sendmail-protocols"},
		{name: "no-dane", only: "8.18", breaks: mc("/confDANE/d"), finds: "warning sendmail-dane"},
		{name: "resolver-without-ad", only: "8.18", breaks: "sed -i 's/127.0.0.1/" + provider + "/' /etc/resolv.conf", cure: "sed -i 's/" + provider + "/127.0.0.1/' /etc/resolv.conf", finds: "error sendmail-dane"},
		{name: "no-dane-and-no-resolver", only: "8.18", breaks: "sed -i 's/127.0.0.1/" + provider + "/' /etc/resolv.conf; " + mc("/confDANE/d"), cure: "sed -i 's/" + provider + "/127.0.0.1/' /etc/resolv.conf; " + mc("s,"+feature+",define(\\`confDANE'\\, \\`true')dnl\\n&,"), finds: "warning sendmail-dane"},
	}
}

// sendmailHealthy are the findings about a Sendmail that is as contrib's files make it.
func (b box) sendmailHealthy() []string {
	list := []string{"notice sendmail-protocols"}
	if strings.HasPrefix(b.version(), "8.17") {
		list = append(list, "notice sendmail-dane")
	}
	return list
}
