package maillog

import "bytes"

// postfix reads a line of smtp(8).
//
//	Trusted TLS connection established to mx.example.com[192.0.2.1]:25: TLSv1.3 with ...
//	4Z1abc: to=<a@example.com>, relay=mx.example.com[192.0.2.1]:25, ..., status=sent (250 ok)
func (p *parser) postfix(process, text []byte) {
	if at := bytes.Index(text, []byte("TLS connection ")); at >= 0 {
		p.postfixTLS(process, text[:at], text[at:])
		return
	}
	if bytes.Contains(text, []byte("Cannot start TLS")) {
		delete(p.sessions, string(process)) // it goes on in clear text, or not at all
		return
	}
	message, rest, ok := bytes.Cut(text, []byte(": to="))
	if !ok {
		return
	}
	status := field(rest, "status=")
	outcome := Outcome(0)
	switch {
	case bytes.HasPrefix(status, []byte("sent")):
		outcome = Sent
	case bytes.HasPrefix(status, []byte("deferred")):
		outcome = Deferred
	case bytes.HasPrefix(status, []byte("bounced")):
		outcome = Bounced
	default:
		return
	}
	to, _, _ := bytes.Cut(rest, []byte(">"))
	d := Delivery{Domain: domainOf(to), Outcome: outcome, Server: Postfix}
	relay := field(rest, "relay=")
	if name, _, ok := bytes.Cut(relay, []byte("[")); ok {
		d.Host = hostOf(name)
	}
	switch level := field(rest, "tls="); {
	case d.Host == "":
	case level != nil: // Postfix 3.11
		p.totals.TLSLogged[Postfix] = true
		d.TLS = p.atLevel(process, level, string(relay), string(message))
	default:
		d.TLS = p.over(process, string(relay), string(message))
	}
	p.delivered(d)
}

// atLevel reads the level at which a message went, which Postfix 3.11 logs with it: "may",
// or "may:none" where it came down to less. What the certificate was worth is in the other
// line.
func (p *parser) atLevel(process, level []byte, relay, message string) TLS {
	_, last, ok := bytes.Cut(level, []byte(":"))
	if !ok {
		last = level
	}
	last, _, _ = bytes.Cut(last, []byte("/"))
	seen := p.over(process, relay, message)
	switch string(last) {
	case "none":
		return Clear
	case "dane", "dane-only", "fingerprint", "verify", "secure":
		return max(seen, Trusted)
	case "encrypt":
		return max(seen, Encrypted)
	}
	return seen
}

// postfixTLS reads what smtp(8) says of a TLS connection: before is the word that says
// what the certificate is worth.
func (p *parser) postfixTLS(process, before, text []byte) {
	_, to, ok := bytes.Cut(text, []byte(" to "))
	if !ok {
		return // smtpd(8) says "from"
	}
	// "mx.example.com[192.0.2.1]:25: TLSv1.3", or with an IPv6 address.
	end := bytes.Index(to, []byte("]:"))
	if end < 0 {
		return
	}
	port, _, _ := bytes.Cut(to[end+2:], []byte(":"))
	now := session{host: string(to[:end+2+len(port)]), tls: Encrypted}
	switch {
	case bytes.Contains(before, []byte("Verified")):
		now.tls = Verified
	case bytes.Contains(before, []byte("Trusted")):
		now.tls = Trusted
	}
	p.begin(Postfix, process, now)
}
