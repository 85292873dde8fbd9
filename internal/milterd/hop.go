package milterd

import (
	"errors"
	"strings"

	"tlsverdict/internal/nexthop"
)

// hop is where mail for a recipient goes from here.
type hop struct {
	// local says that it does not leave by SMTP.
	local bool
	// dests are the destinations that the MTA may choose from, literal that one of
	// them is an address, for which nothing can speak.
	dests   []nexthop.Destination
	literal bool
	// text is for people.
	text string
	// err says that the next hop cannot be understood.
	err error
}

// envelope is what the MTA says of a recipient.
type envelope struct {
	address string
	// told says that it named the mailer; mailer and host are then its choice.
	told         bool
	mailer, host string
}

// hop finds the next hop that the MTA will use: what it says itself, since it knows
// its aliases, transports and relay hosts; else the domain of the address.
func (set *Settings) hop(e envelope) hop {
	_, domain := splitAddress(e.address)
	if e.told && set.LocalMailers[strings.ToLower(e.mailer)] {
		return hop{local: true, text: domain}
	}
	if e.told && strings.HasPrefix(e.host, "unix:") {
		// Only LMTP has such next hops in Postfix: they end on this host.
		return hop{local: true, text: domain}
	}
	next := domain
	if e.told && e.host != "" {
		next = overTCP(e.host)
	} else if domain == "" || set.LocalDomains[domain] {
		return hop{local: true, text: domain}
	}
	h := hop{text: domain}
	direct := false
	for _, one := range splitHosts(next) {
		d, err := nexthop.Parse(one)
		switch {
		case errors.Is(err, nexthop.ErrLiteral):
			h.literal = true
			direct = direct || one == domain
		case err != nil:
			h.err = err
		default:
			h.dests = append(h.dests, d)
			direct = direct || d.Name == domain && !d.Host
		}
	}
	if len(h.dests) == 0 && !h.literal && h.err == nil {
		h.err = nexthop.ErrInvalid
	}
	if !direct {
		h.text = strings.TrimSpace(domain + " by way of " + next)
	}
	return h
}

// overTCP writes "inet:host:port", which only LMTP has in Postfix and which names one host,
// as any other next hop that is a host.
func overTCP(next string) string {
	host, ok := strings.CutPrefix(next, "inet:")
	if !ok || strings.HasPrefix(host, "[") {
		return host
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		return "[" + host[:i] + "]" + host[i:]
	}
	return "[" + host + "]"
}

// splitHosts takes a list of next hops apart: Postfix writes "[a]:25, b", Sendmail
// "a.example.:b.example.".
func splitHosts(next string) []string {
	var out []string
	for _, part := range strings.FieldsFunc(next, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
		depth, start := 0, 0
		for i := range len(part) {
			switch c := part[i]; {
			case c == '[':
				depth++
			case c == ']':
				depth--
			case c == ':' && depth == 0 && !isPort(part[i+1:]):
				out = append(out, part[start:i])
				start = i + 1
			}
		}
		out = append(out, part[start:])
	}
	for i, one := range out {
		out[i] = withoutDot(one)
	}
	return out
}

// isPort reports whether what follows a colon is a port, or a service that has one, and
// not another host.
func isPort(s string) bool {
	s, _, _ = strings.Cut(s, ":")
	_, err := nexthop.Parse("host.example:" + s)
	return s != "" && !strings.ContainsAny(s, ".[") && err == nil
}

// withoutDot takes the dot off that Sendmail puts behind a host name; within
// brackets a name may have one too.
func withoutDot(s string) string {
	return strings.TrimSuffix(strings.Replace(s, ".]", "]", 1), ".")
}
