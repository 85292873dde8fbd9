package doctor

import (
	"maps"

	"tlsverdict/internal/finding"
)

// What is looked at of Postfix.
const (
	PostfixAsked      Check = "postfix-asked"
	PostfixMap        Check = "postfix-map"
	PostfixSocket     Check = "postfix-socket"
	PostfixDialect    Check = "postfix-dialect"
	PostfixDNSSEC     Check = "postfix-dnssec"
	PostfixResolvConf Check = "postfix-resolv-conf"
	PostfixResolver   Check = "postfix-resolver"
	PostfixInsecureMX Check = "postfix-insecure-mx"
	PostfixDigest     Check = "postfix-digest"
	PostfixLevel      Check = "postfix-level"
	PostfixProtocols  Check = "postfix-protocols"
	PostfixCAs        Check = "postfix-cas"
	PostfixRoutes     Check = "postfix-routes"
	PostfixLog        Check = "postfix-log"
	PostfixSessions   Check = "postfix-sessions"
)

func postfixKinds() map[Check]Kind {
	all := postfixAsking()
	maps.Copy(all, postfixDANE())
	maps.Copy(all, postfixSending())
	return all
}

// postfixAsking are about how it asks policyd.
func postfixAsking() map[Check]Kind {
	return map[Check]Kind{
		PostfixAsked: {
			Severity: finding.Error, Title: "Postfix tells its settings",
			Why: "what it does with a verdict is not known",
		},
		PostfixMap: {
			Severity: finding.Error, Title: "smtp(8) asks policyd for TLS policies, before any other table",
			Why:  "a verdict that nobody asks for protects no mail",
			Mend: "`postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'`",
		},
		PostfixSocket: {
			Severity: finding.Error, Title: "policyd answers smtp(8), as its user and in its chroot",
			Why:  "Postfix defers all mail while it gets no answer",
			Mend: "`postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'`",
		},
		PostfixDialect: {
			Severity: finding.Error, Title: "the map is one that this version of Postfix understands, and has all that it does",
			Why:  "below 3.10 Postfix cannot parse the attributes for reports, and defers mail to domains with MTA-STS; from then on it reports nothing without them",
			Mend: "`postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'`, from 3.10 on `:postfix-tlsrpt`",
			Cite: "RFC 8460 §4.3",
		},
	}
}

// postfixDANE are about what it needs for DANE.
func postfixDANE() map[Check]Kind {
	return map[Check]Kind{
		PostfixDNSSEC: {
			Severity: finding.Warning, Title: "smtp(8) asks for DNSSEC, and minds the answer",
			Why:  "without it Postfix takes dane for may, and defers what is dane-only; policyd tells it fingerprints instead, which cannot say all that TLSA records do",
			Mend: "`postconf -e 'smtp_dns_support_level = dnssec'`",
			Cite: "RFC 7672 §2.2",
		},
		PostfixResolvConf: {
			Severity: finding.Warning, Title: "a chrooted smtp(8) has the resolvers of the host",
			Why:  "it asks others than the host does, which may not validate, or may not answer",
			Mend: "`install -D -m 0644 /etc/resolv.conf /var/spool/postfix/etc/resolv.conf`",
		},
		PostfixResolver: {
			Severity: finding.Warning, Title: "the resolvers of smtp(8) are on this host, and validate",
			Why:  "Postfix believes their word on what is secure: without it dane is may, and dane-only defers; policyd tells it fingerprints instead, which cannot say all that TLSA records do",
			Mend: "`apt install unbound`; `nameserver 127.0.0.1` in /etc/resolv.conf",
			Cite: "RFC 7672 §2.2",
		},
		PostfixInsecureMX: {
			Severity: finding.Warning, Title: "DANE holds for hosts behind unsigned MX records",
			Why:  "the TLSA records of hosts behind unsigned MX records are passed over: by itself Postfix heeds them from 3.6.17, 3.7.13, 3.8.8 and 3.9.2 on, or while the level of main.cf is dane",
			Mend: "`postconf -e 'smtp_tls_dane_insecure_mx_policy = dane'`",
			Cite: "RFC 7672 §2.2.1",
		},
		PostfixDigest: {
			Severity: finding.Warning, Title: "fingerprints are SHA-256",
			Why:  "no certificate matches the fingerprints that policyd tells: mail to domains with DANE is deferred",
			Mend: "`postconf -e 'smtp_tls_fingerprint_digest = sha256'`",
		},
	}
}

// postfixSending are about how it sends.
func postfixSending() map[Check]Kind {
	return map[Check]Kind{
		PostfixLevel: {
			Severity: finding.Warning, Title: "mail to domains without a verdict uses TLS where it can",
			Why:  "mail to domains without a verdict goes out in clear text, also where the other side offers TLS",
			Mend: "`postconf -e 'smtp_tls_security_level = may'`",
		},
		PostfixProtocols: {
			Severity: finding.Warning, Title: "TLS below 1.2 is not taken where TLS is mandatory, SSL nowhere",
			Why:  "a verdict that demands TLS is met by a version whose protection is broken",
			Mend: "`postconf -e 'smtp_tls_mandatory_protocols = >=TLSv1.2'`, before 3.6 `!SSLv2, !SSLv3, !TLSv1, !TLSv1.1`",
			Cite: "RFC 8461 §7",
		},
		PostfixCAs: {
			Severity: finding.Error, Title: "smtp(8) has CAs to verify certificates with, where it looks for them",
			Why:  "no certificate can be verified: mail to all domains with MTA-STS or the prefix is deferred",
			Mend: "`postconf -e 'smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt'`",
			Cite: "RFC 8461 §4.2",
		},
		PostfixRoutes: {
			Severity: finding.Notice, Title: "mail goes to the hosts that the verdict is about",
			Why: "Postfix then asks for a verdict on the host that mail is sent to, not on the recipient's domain",
		},
		PostfixLog: {
			Severity: finding.Notice, Title: "the log says which TLS a delivery had",
			Why:  "nobody can see whether a verdict was met, policyd impact among them",
			Mend: "`postconf -e 'smtp_tls_loglevel = 1'`",
		},
		PostfixSessions: {
			Severity: finding.Notice, Title: "a delivery tries more than two hosts",
			Why:  "where two hosts do not meet the verdict, the third that does is not tried, and mail waits",
			Mend: "`postconf -e 'smtp_mx_session_limit = 5'`",
		},
	}
}
