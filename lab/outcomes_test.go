package lab

// outcome is one mail and what must become of it. Its recipient is NAME@TO, and
// so is the line that names it in every log.
type outcome struct {
	name   string
	to     string // the recipient's domain
	key    string // what Postfix asks policyd; as to, when empty
	reply  string // policyd's answer from map postfix; a TEMP's text is free
	prints string // what reply tells of instead where DANE is told as fingerprints: see below
	status string // sent, deferred, bounced: the verdict of Postfix
	log    string // a regular expression that Postfix's lines of this mail match
	log310 string // the same for 3.10 and later, where it differs
	host   string // which mail host took it; "" where it was not sent
	how    string // sni (TLS with the host's name), tls (without), clear
	setup  string // where it happened, set by the lab
}

// outcome.prints holds "key:HOST" for the digest of a host's public key,
// "certificate:HOST" for that of its certificate, or a digest itself, and at last
// "sni:NAME" where how is another name than the host's. "TEMP" is for what no
// fingerprint can say: mail is deferred then, whatever the row says of it.

// What Postfix logs. "Verified" is said where the policy asked for a
// certificate and got it, "Untrusted" and "Anonymous" where nothing was asked.
const (
	verified   = `Verified TLS connection established`
	trusted    = `(Verified|Trusted) TLS connection established`
	untrusted  = `(Untrusted|Anonymous|Trusted) TLS connection established`
	noSTARTTLS = `TLS is required, but was not offered`
	mismatch   = `Server certificate not (verified|trusted)`
	// policyd answers TEMP: Postfix does not even look for a host.
	deferredByPolicy = `(?s)socketmap server temporary error: .*relay=none,.* dsn=4\.7\.5`
)

// secure returns the reply for an authenticated WebPKI connection.
func secure(match string) string {
	return "OK secure match=" + match + " servername=hostname"
}

// noKey is the digest in the TLSA records of those whom no key can please.
const noKey = "ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff"

// calm are the outcomes while nothing is attacked and everything is up that
// testdata/internet.txtar does not say is down.
func calm() []outcome {
	return append(append(calmDANE(), calmSTS()...), calmOthers()...)
}

func calmDANE() []outcome {
	return []outcome{
		{name: "dane-3-1-1", to: "dane.example", reply: "OK dane-only", prints: "key:mx.dane.example", status: "sent", log: verified, host: "mx.dane.example", how: "sni"},
		{name: "dane-3-0-1", to: "dane301.example", reply: "OK dane-only", prints: "certificate:mx.dane301.example", status: "sent", log: verified, host: "mx.dane301.example", how: "sni"},
		{name: "dane-2-1-1", to: "daneta.example", reply: "OK dane-only", prints: "TEMP", status: "sent", log: verified, host: "mx.daneta.example", how: "sni"},
		{name: "dane-mismatch", to: "danebad.example", reply: "OK dane-only", prints: noKey, status: "deferred", log: mismatch},
		{name: "dane-cname-mx", to: "danecname.example", reply: "OK dane-only", prints: "key:mx.danecname.example sni:alias.danecname.example", status: "sent", log: verified, host: "mx.danecname.example", how: "sni"},
		{name: "dane-without-mx", to: "daneapex.example", reply: "OK dane-only", prints: "key:daneapex.example", status: "sent", log: verified, host: "daneapex.example", how: "sni"},
		// The host with TLSA is down; the other has none, and mail to it goes as by may.
		{name: "dane-mixed-first-down", to: "danemixed.example", reply: "OK dane", prints: "TEMP", status: "sent", log: untrusted, host: "mx2.danemixed.example", how: "tls"},
		{name: "dane-first-tempfails", to: "danebusy.example", reply: "OK dane-only", prints: "key:mx1.danebusy.example key:mx2.danebusy.example", status: "sent", log: verified, host: "mx2.danebusy.example", how: "sni"},
		{name: "dane-unusable", to: "daneunusable.example", reply: "OK encrypt", status: "sent", log: untrusted, host: "mx.daneunusable.example", how: "tls"},
		{name: "dane-one-host-bogus", to: "danehalf.example", reply: "OK dane-only", prints: "key:mx2.danehalf.example", status: "sent", log: verified, host: "mx2.danehalf.example", how: "sni"},
		{name: "dane-all-bogus", to: "danebogus.example", reply: "TEMP", status: "deferred", log: `4\.7\.5|TLS policy`},
		{name: "dane-insecure-mx", to: "daneforeign.example", reply: "OK dane", prints: "key:mx.dane.example", status: "sent", log: trusted, host: "mx.dane.example", how: "sni"},
		{name: "mx-bogus", to: "mxbogus.example", reply: "TEMP", status: "deferred", log: `mxbogus\.example`},
		{name: "dane-u-label", to: "bücher.example", key: "xn--bcher-kva.example", reply: "OK dane-only", prints: "key:mx.xn--bcher-kva.example", status: "sent", log: verified, host: "mx.xn--bcher-kva.example", how: "sni"},
		{name: "socket-in-queue-directory", to: "inqueue.example", reply: "OK dane-only", prints: "key:mx.inqueue.example", status: "sent", log: verified, host: "mx.inqueue.example", how: "sni"},
		{name: "socket-through-proxymap", to: "proxied.example", reply: "OK dane-only", prints: "key:mx.proxied.example", status: "sent", log: verified, host: "mx.proxied.example", how: "sni"},
		{name: "dane-routed-host-port", to: "routed.example", key: "[mx.dane.example]:25", reply: "OK dane-only", prints: "key:mx.dane.example", status: "sent", log: verified, host: "mx.dane.example", how: "sni"},
	}
}

func calmSTS() []outcome {
	return []outcome{
		{name: "sts-exact", to: "sts.example", reply: secure("mx.sts.example"), status: "sent", log: verified, host: "mx.sts.example", how: "sni"},
		// A domain of its own: the queue manager keeps the first spelling that it meets.
		{name: "sts-upper-case", to: "STSUpper.Example", reply: secure("mx.stsupper.example"), status: "sent", log: verified, host: "mx.stsupper.example", how: "sni"},
		{name: "sts-wildcard", to: "stswild.example", reply: secure(".stswild.example"), status: "sent", log: verified, host: "mx.stswild.example", how: "sni"},
		{name: "sts-wrong-name", to: "stsmisnamed.example", reply: secure("mx.stsmisnamed.example"), status: "deferred", log: mismatch},
		{name: "sts-self-signed", to: "stsself.example", reply: secure("mx.stsself.example"), status: "deferred", log: mismatch},
		{name: "sts-mx-not-in-policy", to: "stsforged.example", reply: secure("mx.stsforged.example"), status: "deferred", log: mismatch, log310: `does not match STS MX pattern`},
		{name: "sts-testing", to: "ststesting.example", reply: "NOTFOUND", status: "sent", log: untrusted, host: "mx.ststesting.example", how: "tls"},
		{name: "sts-unreachable-at-first-contact", to: "stsfresh.example", reply: "NOTFOUND", status: "sent", log: untrusted, host: "mx.stsfresh.example", how: "tls"},
		{name: "sts-stored", to: "stskept.example", reply: secure("mx.stskept.example"), status: "sent", log: verified, host: "mx.stskept.example", how: "sni"},
		// Self-signed: it is DANE that lets this one through.
		{name: "sts-and-dane", to: "stsdane.example", reply: "OK dane-only", prints: "key:mx.stsdane.example", status: "sent", log: verified, host: "mx.stsdane.example", how: "sni"},
		{name: "sts-does-not-mend-dane", to: "stsdanebad.example", reply: "OK dane-only", prints: noKey, status: "deferred", log: mismatch},
		{name: "alias-postfix-8461", to: "aliasresolver.example", reply: secure("mx.aliasresolver.example"), status: "sent", log: verified, host: "mx.aliasresolver.example", how: "sni"},
		{name: "alias-query-8642", to: "aliastlspol.example", reply: secure("mx.aliastlspol.example"), status: "sent", log: verified, host: "mx.aliastlspol.example", how: "sni"},
	}
}

func calmOthers() []outcome {
	return []outcome{
		{name: "prefix-verified", to: "prefix.example", reply: secure("starttls-mx.prefix.example"), status: "sent", log: verified, host: "starttls-mx.prefix.example", how: "sni"},
		{name: "prefix-smtps-on-25", to: "prefixsmtps.example", reply: secure("smtps-mx.prefixsmtps.example"), status: "sent", log: verified, host: "smtps-mx.prefixsmtps.example", how: "sni"},
		{name: "prefix-never-offers-tls", to: "prefixclear.example", reply: secure("starttls-mx.prefixclear.example"), status: "deferred", log: noSTARTTLS},
		{name: "prefix-self-signed", to: "prefixself.example", reply: secure("starttls-mx.prefixself.example"), status: "deferred", log: mismatch},
		{name: "prefix-unsigned", to: "prefixunsigned.example", reply: "NOTFOUND", status: "sent", log: untrusted, host: "starttls-mx.prefixunsigned.example", how: "tls"},
		{name: "prefix-mixed", to: "prefixmixed.example", reply: "NOTFOUND", status: "sent", log: untrusted, host: "starttls-mx.prefixmixed.example", how: "tls"},
		{name: "txt-required", to: "txt.example", reply: "OK encrypt", status: "sent", log: untrusted, host: "mx.txt.example", how: "tls"},
		{name: "txt-never-offers-tls", to: "txtclear.example", reply: "OK encrypt", status: "deferred", log: noSTARTTLS},
		{name: "txt-webpki", to: "txtauth.example", reply: secure("mx.txtauth.example"), status: "sent", log: verified, host: "mx.txtauth.example", how: "sni"},
		{name: "txt-webpki-self-signed", to: "txtself.example", reply: secure("mx.txtself.example"), status: "deferred", log: mismatch},
		{name: "txt-unsigned", to: "txtunsigned.example", reply: "NOTFOUND", status: "sent", log: `status=sent`, host: "mx.txtunsigned.example", how: "clear"},
		{name: "txt-bogus", to: "txtbogus.example", reply: "TEMP", status: "deferred", log: deferredByPolicy},
		{name: "rr-required", to: "rr.example", reply: "OK encrypt", status: "sent", log: untrusted, host: "mx.rr.example", how: "tls"},
		{name: "rr-webpki", to: "rrauth.example", reply: secure("mx.rrauth.example"), status: "sent", log: verified, host: "mx.rrauth.example", how: "sni"},
		{name: "rr-webpki-self-signed", to: "rrself.example", reply: secure("mx.rrself.example"), status: "deferred", log: mismatch},
		{name: "nothing-clear-text", to: "plain.example", reply: "NOTFOUND", status: "sent", log: `status=sent`, host: "mx.plain.example", how: "clear"},
		{name: "nothing-opportunistic", to: "opportunistic.example", reply: "NOTFOUND", status: "sent", log: untrusted, host: "mx.opportunistic.example", how: "tls"},
		{name: "null-mx", to: "nullmx.example", reply: "NOTFOUND", status: "bounced", log: `does not accept mail`},
		{name: "nxdomain", to: "nowhere.example", reply: "NOTFOUND", status: "bounced", log: `[Hh]ost or domain name not found`},
		{name: "override-encrypt", to: "overridden.example", reply: "OK encrypt", status: "deferred", log: noSTARTTLS},
		{name: "override-ignore", to: "ignored.example", reply: "NOTFOUND", status: "sent", log: trusted, host: "mx.ignored.example", how: "tls"},
	}
}

// attacked are the outcomes while STARTTLS is stripped on the way to the hosts
// of strippedHosts, after policyd was restarted with every policy host down.
func attacked() []outcome {
	return []outcome{
		{name: "dane-stripped", to: "dane301.example", reply: "OK dane-only", prints: "certificate:mx.dane301.example", status: "deferred", log: noSTARTTLS},
		{name: "sts-stripped", to: "sts.example", reply: secure("mx.sts.example"), status: "deferred", log: noSTARTTLS},
		{name: "sts-wildcard-stripped", to: "stswild.example", reply: secure(".stswild.example"), status: "deferred", log: noSTARTTLS},
		{name: "prefix-stripped", to: "prefix.example", reply: secure("starttls-mx.prefix.example"), status: "deferred", log: noSTARTTLS},
		{name: "txt-stripped", to: "txt.example", reply: "OK encrypt", status: "deferred", log: noSTARTTLS},
		{name: "rr-stripped", to: "rrauth.example", reply: secure("mx.rrauth.example"), status: "deferred", log: noSTARTTLS},
		{name: "sts-kept-policy-host-down", to: "stskept.example", reply: secure("mx.stskept.example"), status: "sent", log: verified, host: "mx.stskept.example", how: "sni"},
		// What opportunistic TLS is worth: the attacker gets his way.
		{name: "nothing-stripped", to: "opportunistic.example", reply: "NOTFOUND", status: "sent", log: `status=sent`, host: "mx.opportunistic.example", how: "clear"},
	}
}

func strippedHosts() []string {
	return []string{"mx.dane301.example", "mx.sts.example", "mx.stswild.example", "starttls-mx.prefix.example", "mx.txt.example", "mx.rrauth.example", "mx.opportunistic.example", "good.provider.example"}
}

// outage are the outcomes around policyd's death: first each is deferred, and
// after the restart each is delivered as here.
func outage() []outcome {
	return []outcome{
		// policyd is killed while it waits for this domain's policy host.
		{name: "policyd-killed-mid-query", to: "stshang.example", reply: secure("mx.stshang.example"), status: "sent", log: verified, host: "mx.stshang.example", how: "sni"},
		{name: "policyd-down", to: "danedown.example", reply: "OK dane-only", prints: "key:mx.danedown.example", status: "sent", log: verified, host: "mx.danedown.example", how: "sni"},
	}
}

// explained are the domains that policyd explain is shown on, and what its text
// must name: the deciding section, and the line for Postfix, or the way out.
func explained(s setup) map[string][]string {
	all := map[string][]string{
		"dane.example":      {"RFC 7672", "trust anchor", "a DS of zone", "dane-only"},
		"sts.example":       {"RFC 8461", "secure match=mx.sts.example servername=hostname"},
		"prefix.example":    {"starttls-mx.prefix.example", "secure match=starttls-mx.prefix.example servername=hostname"},
		"danebogus.example": {"bogus", "signature does not match", "TEMP"},
		"plain.example":     {"mx.plain.example", "NOTFOUND"},
	}
	if s.prints {
		all["dane.example"] = []string{"RFC 7672", "trust anchor", "a DS of zone", "fingerprint match="}
		all["daneta.example"] = []string{"2 1 1", `dane = "native"`, "[[override]]", "TEMP"}
		all["danemixed.example"] = []string{"mx2.danemixed.example", `dane = "native"`, "[[override]]", "TEMP"}
	}
	return all
}
