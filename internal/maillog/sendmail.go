package maillog

import "bytes"

// sendmail reads a line of the MTA:
//
//	STARTTLS=client, relay=mx.example.com., version=TLSv1.3, verify=OK, cipher=..., bits=256/256
//	4A1: to=<a@example.com>,<b@example.com>, ..., mailer=esmtp, ..., relay=mx.example.com. [192.0.2.1], dsn=2.0.0, stat=Sent (ok)
func (p *parser) sendmail(process, text []byte) {
	if rest, ok := bytes.CutPrefix(text, []byte("STARTTLS=client, ")); ok {
		p.sendmailTLS(process, rest)
		return
	}
	if i := bytes.Index(text, []byte(": STARTTLS=client, ")); i >= 0 {
		p.sendmailTLS(process, text[i+len(": STARTTLS=client, "):])
		return
	}
	message, rest, ok := bytes.Cut(text, []byte(": to="))
	if !ok || !bytes.Contains(field(rest, "mailer="), []byte("smtp")) {
		return
	}
	stat := field(rest, "stat=")
	outcome := Bounced
	switch {
	case bytes.HasPrefix(stat, []byte("Sent")):
		outcome = Sent
	case bytes.HasPrefix(stat, []byte("Deferred")), bytes.HasPrefix(stat, []byte("queued")), bytes.HasPrefix(field(rest, "dsn="), []byte("4")):
		outcome = Deferred
	case stat == nil:
		return
	}
	relay, _, _ := bytes.Cut(field(rest, "relay="), []byte(" "))
	host := hostOf(relay)
	tls := Unlogged
	if host != "" {
		tls = p.over(process, host, string(message))
	}
	to, _, _ := bytes.Cut(rest, []byte(", "))
	for _, address := range bytes.Split(to, []byte(",")) {
		p.delivered(Delivery{Domain: domainOf(address), Host: host, TLS: tls, Outcome: outcome, Server: Sendmail})
	}
}

func (p *parser) sendmailTLS(process, text []byte) {
	now := session{host: hostOf(field(text, "relay=")), tls: Encrypted}
	switch string(field(text, "verify=")) {
	case "OK":
		now.tls = Trusted
	case "TRUSTED":
		now.tls = Verified
	}
	p.begin(Sendmail, process, now)
}
