package maillog

import "bytes"

// eximText returns a line of Exim's main log without its date and time, which it begins
// with: "2026-05-01 12:00:00 ", and perhaps more of a time.
func eximText(line []byte) ([]byte, bool) {
	const date = len("2026-05-01 12:00:00")
	if len(line) < date+2 || line[4] != '-' || line[7] != '-' || line[10] != ' ' || line[13] != ':' || line[16] != ':' {
		return nil, false
	}
	space := bytes.IndexByte(line[date:], ' ')
	if space < 0 {
		return nil, false
	}
	return line[date+space+1:], true
}

// exim reads a line about a delivery:
//
//	1r2BcD-000000001ab-0aBc => a@example.com R=dnslookup T=remote_smtp H=mx.example.com [192.0.2.1] X=TLS1.3:... CV=yes ...
//	1r2BcD-000000001ab-0aBc == a@example.com R=dnslookup T=remote_smtp defer (-53): ...
//	1r2BcD-000000001ab-0aBc ** a@example.com R=dnslookup T=remote_smtp: ...
func (p *parser) exim(text []byte) {
	words := text
	// A time zone and a process may come before the message.
	for word := next(&words); len(word) > 0 && (word[0] == '[' || word[0] == '+' || word[0] == '-'); {
		word = next(&words)
	}
	outcome := Outcome(0)
	switch string(next(&words)) {
	case "=>", "->":
		outcome = Sent
	case "==":
		outcome = Deferred
	case "**":
		outcome = Bounced
	default:
		return
	}
	address := next(&words)
	if !bytes.Contains(address, []byte("@")) {
		address = next(&words) // the original address, in angle brackets
	}
	d := Delivery{Domain: domainOf(address), Outcome: outcome, Server: Exim}
	host, encrypted, verified := remote(words)
	if host == nil && outcome == Sent {
		return // a local delivery
	}
	d.Host = hostOf(host)
	switch {
	case host == nil:
	case !encrypted:
		d.TLS = Clear
	case verified == "dane":
		d.TLS = Verified
	case verified == "yes":
		d.TLS = Trusted
	default:
		d.TLS = Encrypted
	}
	if d.TLS > Clear {
		p.totals.TLSLogged[Exim] = true
	}
	if d.TLS >= Trusted {
		p.totals.Checked[Exim] = true
	}
	p.delivered(d)
}

// remote reads H=, X= and CV= of a line, up to the host's answer. Each counts where it is
// first: what follows, such as the certificate's subject, is the other side's.
func remote(words []byte) (host []byte, encrypted bool, verified string) {
	for len(words) > 0 {
		word := next(&words)
		switch {
		case host == nil && bytes.HasPrefix(word, []byte("H=")):
			host = word[2:]
		case bytes.HasPrefix(word, []byte("X=")):
			encrypted = true
		case verified == "" && bytes.HasPrefix(word, []byte("CV=")):
			verified = string(word[3:])
		case bytes.HasPrefix(word, []byte(`C="`)):
			return host, encrypted, verified
		}
	}
	return host, encrypted, verified
}

// next takes the first word off a text.
func next(text *[]byte) []byte {
	word, rest, _ := bytes.Cut(*text, []byte(" "))
	*text = rest
	return word
}
