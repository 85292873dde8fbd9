package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// situation is one row of docs/mta-outcomes.md: a message, and what becomes of it
// with each mail server.
type situation struct {
	name  string   // of the row, and of the recipients: NAME.SETUP@DOMAIN
	title string   // what is so special, for readers
	when  string   // calm, stripped, down, hung: the act
	from  string   // the sender; else it is the null sender
	to    []string // the recipients' domains; several are recipients of one message

	// What policyd says of each, "dane-only by dane", and what that demands of
	// whoever takes the mail; nil where nobody who is there may. by are the only hosts
	// that may.
	verdict []string
	needs   []need
	by      []string

	// What becomes of the message for each recipient, "; " between them, by mail
	// server: "postfix-3.10", else "postfix", else "". later is what becomes of it
	// when the act is over and the queue is tried again; empty where the act changes
	// nothing.
	ends, later byServer
	notes       byServer // why an end is another than one would think

	// mayReturn says that there is nobody to wait for: returned to its sender is right.
	mayReturn bool
}

// need is how well a mail must be protected.
type need int

const (
	nothingYet   need = iota // it must wait, whoever is there: the zero value is the strictest
	authenticity             // TLS, and a certificate that proves who takes it
	encryption               // TLS with anybody
	delivery                 // any session will do
)

// byServer is a value for each mail server.
type byServer map[string]string

func (b byServer) of(m box) string {
	for _, name := range []string{m.name, m.server()} {
		if v, ok := b[name]; ok {
			return v
		}
	}
	return b[""]
}

// An end is what becomes of a mail for one recipient. "sent" has a host and how well
// the mail was protected.
const (
	waits    = "waits"
	returned = "returned"
)

// to is the end of a mail that a host took.
func to(protection, host string) string { return protection + " " + host }

// everywhere is what becomes of a mail with every mail server.
func everywhere(ends ...string) byServer { return byServer{"": strings.Join(ends, "; ")} }

// withoutDANE reports whether a mail server knows no DANE.
func (b box) withoutDANE() bool { return b.name == "sendmail-8.17" }

// noDANE is the note at what becomes of DANE there.
const noDANE = "Sendmail 8.17 has no DANE. Of this verdict it makes TLS with any host of the domain, whatever key it has, and says so in its log; what MTA-STS demands holds besides, once policyd knows the policy."

// permits reports whether a mail may end so with a mail server.
func (s situation) permits(m box, i int, end string) error {
	protection, host, taken := taker(end)
	switch {
	case end == waits, end == held, end == noMilter, strings.HasPrefix(end, "refused 4"):
		return nil
	case s.mayReturn && (end == returned || strings.HasPrefix(end, "refused 5")):
		return nil
	case end == returned:
		return fmt.Errorf("the mail should wait, and is %s", end)
	case !taken:
		return fmt.Errorf("no such end as %q", end)
	case m.withoutDANE() && strings.HasPrefix(s.verdict[i], "dane") && strings.HasSuffix(host, "."+s.to[i]) && protection != clear:
		return nil
	case !slices.Contains(s.by, strings.TrimSuffix(host, ":26")):
		return fmt.Errorf("%s is none of the hosts that may take it", host)
	}
	protections := []string{"", authenticated, encrypted, clear} // in the order of need
	if slices.Index(protections, protection) > int(s.need(i)) {
		return fmt.Errorf("%s is less than %s demands", protection, s.verdict[i])
	}
	return nil
}

func (s situation) need(i int) need {
	if s.needs == nil {
		return nothingYet
	}
	return s.needs[i]
}

// situations are the rows, in the order of the page.
func situations() []situation {
	return slices.Concat(situationsDANE(), situationsSTS(), situationsOthers(), situationsShared(), situationsStripped(), situationsOutage(), situationsImplicit(), one(requireTLS()))
}

// situationsImplicit are about MX hosts that promise TLS on port 26 by their names,
// smtps-*. Sendmail cannot begin with TLS: it goes to port 25, by the same verdict.
func situationsImplicit() []situation {
	row := func(name, title, source string) situation {
		domain := strings.ReplaceAll(name, "-", "") + ".example"
		s := situation{
			name: name, title: "an MX name that begins with `smtps-`: " + title, when: "implicit", to: one(domain),
			verdict: one(source), needs: one(authenticity), by: one("smtps-mx." + domain),
		}
		s.ends = everywhere(to(authenticated, s.by[0]))
		return s
	}
	const prefix, dane = "secure by prefix", "dane-only by dane"
	good, signed := row("port26", "TLS on port 26, and the certificate is good", prefix), row("port26-dane", "TLS on port 26, and DANE", dane)
	for _, s := range []situation{good, signed} {
		for _, server := range []string{"postfix", "exim"} {
			s.ends[server] = to(authenticated, s.by[0]+":26")
		}
	}
	signed.ends["sendmail-8.17"], signed.notes = to(encrypted, signed.by[0]), byServer{"sendmail-8.17": noDANE}
	closed, self := row("port26-closed", "nothing on port 26", prefix), row("port26-self", "TLS on port 26, and a self-signed certificate there and on port 25", prefix)
	self.needs, self.ends = nil, everywhere(waits)
	reset := row("port26-reset", "TLS on port 26 was good, and is reset now", prefix)
	on25 := to(authenticated, reset.by[0])
	reset.ends = byServer{"postfix": waits, "exim": waits, "": on25}
	reset.later = byServer{"postfix": on25, "exim": on25}
	// Postfix asks for a transport when a mail comes in.
	down := row("port26-down", "policyd is down", prefix)
	down.when = "implicit-down"
	taken := to(authenticated, down.by[0])
	down.ends, down.later = byServer{"postfix": "refused 451 4.3.0", "": waits}, byServer{"exim": taken, "sendmail": taken}
	return []situation{good, signed, closed, self, reset, down}
}

// requireTLS is a message that must have TLS on its whole way (RFC 8689). A mail server
// that does not offer that refuses it.
func requireTLS() situation {
	return situation{
		name: "requiretls", title: "the client asks for REQUIRETLS (RFC 8689), which is not offered", when: "requiretls",
		to: one("sts.example"), verdict: one("secure by mta-sts"), ends: byServer{"": "refused 555 5.5.4", "exim": "refused 501"}, mayReturn: true,
	}
}

// judged are all rows of the page: situations and petitions.
func judged() []situation {
	all := situations()
	for _, p := range slices.Concat(petitions(), blindPetitions()) {
		all = append(all, p.situation)
	}
	return all
}

func one[T any](v T) []T { return []T{v} }

func situationsDANE() []situation {
	return []situation{
		{
			name: "dane-good", title: "DANE, and the key is the right one", when: "calm",
			to: one("dane.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("mx.dane.example"), ends: byServer{"": to(authenticated, "mx.dane.example"), "sendmail-8.17": to(encrypted, "mx.dane.example")},
			notes: byServer{"sendmail-8.17": noDANE},
		},
		{
			name: "dane-mismatch", title: "DANE, and another key, in a certificate of a public CA for the right name", when: "calm",
			to: one("danebad.example"), verdict: one("dane-only by dane"),
			ends:  byServer{"": waits, "sendmail-8.17": to(encrypted, "mx.danebad.example")},
			notes: byServer{"sendmail-8.17": noDANE},
		},
		{
			name: "dane-unusable", title: "TLSA records that are unusable", when: "calm",
			to: one("daneunusable.example"), verdict: one("encrypt by dane"), needs: one(encryption),
			by: one("mx.daneunusable.example"), ends: everywhere(to(encrypted, "mx.daneunusable.example")),
		},
		{
			name: "dane-unusable-clear", title: "TLSA records that are unusable, and no STARTTLS", when: "calm",
			to: one("daneunusableclear.example"), verdict: one("encrypt by dane"), needs: one(encryption),
			ends: everywhere(waits),
		},
		{
			name: "mixed", title: "DANE at one MX host, which is down; the other has none", when: "calm",
			to: one("danemixed.example"), verdict: one("dane by dane"), needs: one(delivery),
			by: one("mx2.danemixed.example"), ends: everywhere(to(encrypted, "mx2.danemixed.example")),
		},
		{
			name: "mixed-mismatch", title: "DANE at one MX host, which has another key; the other has none", when: "calm",
			to: one("danemixedbad.example"), verdict: one("dane by dane"), needs: one(delivery),
			by:   one("mx2.danemixedbad.example"),
			ends: byServer{"": to(encrypted, "mx2.danemixedbad.example"), "sendmail-8.17": to(encrypted, "mx1.danemixedbad.example"), "sendmail-8.18": waits},
			notes: byServer{
				"sendmail-8.17": noDANE,
				"sendmail-8.18": "Once a host has failed DANE, Sendmail 8.18.1 takes each further one of that delivery to fail it too.",
			},
		},
		{
			name: "bogus-tlsa", title: "TLSA records whose signature is wrong", when: "calm",
			to: one("danebogus.example"), verdict: one("defer"), ends: everywhere(waits),
		},
		{
			name: "bogus-mx", title: "MX records whose signature is wrong", when: "calm",
			to: one("mxbogus.example"), verdict: one("defer"), ends: everywhere(waits),
		},
	}
}

func situationsSTS() []situation {
	return []situation{
		{
			name: "sts-good", title: "MTA-STS, and the certificate is good", when: "calm",
			to: one("sts.example"), verdict: one("secure by mta-sts"), needs: one(authenticity),
			by: one("mx.sts.example"), ends: everywhere(to(authenticated, "mx.sts.example")),
		},
		{
			name: "sts-wildcard", title: "MTA-STS with `mx: *.stswild.example`", when: "calm",
			to: one("stswild.example"), verdict: one("secure by mta-sts"), needs: one(authenticity),
			by: one("mx.stswild.example"), ends: everywhere(to(authenticated, "mx.stswild.example")),
		},
		{
			name: "sts-wrong-name", title: "MTA-STS, and a certificate for another name", when: "calm",
			to: one("stsmisnamed.example"), verdict: one("secure by mta-sts"), ends: everywhere(waits),
		},
		{
			name: "sts-self-signed", title: "MTA-STS, and a self-signed certificate", when: "calm",
			to: one("stsself.example"), verdict: one("secure by mta-sts"), ends: everywhere(waits),
		},
		{
			name: "sts-mx-mismatch", title: "MTA-STS, and an MX host that the policy does not list, with a good certificate for its own name", when: "calm",
			to: one("stsforged.example"), verdict: one("secure by mta-sts"), ends: everywhere(waits),
		},
		{
			name: "sts-testing", title: "MTA-STS in mode testing, and a certificate for another name", when: "calm",
			to: one("ststesting.example"), verdict: one("none by none"), needs: one(delivery),
			by: one("mx.ststesting.example"), ends: everywhere(to(encrypted, "mx.ststesting.example")),
		},
		{
			name: "sts-and-dane-mismatch", title: "MTA-STS that holds, and DANE with another key", when: "calm",
			to: one("stsdanebad.example"), verdict: one("dane-only by dane"),
			ends:  byServer{"": waits, "sendmail-8.17": to(authenticated, "mx.stsdanebad.example")},
			notes: byServer{"sendmail-8.17": noDANE},
		},
	}
}

func situationsOthers() []situation {
	return []situation{
		{
			name: "prefix-good", title: "an MX name that begins with `starttls-`, and the certificate is good", when: "calm",
			to: one("prefix.example"), verdict: one("secure by prefix"), needs: one(authenticity),
			by: one("starttls-mx.prefix.example"), ends: everywhere(to(authenticated, "starttls-mx.prefix.example")),
		},
		{
			name: "prefix-self-signed", title: "an MX name that begins with `starttls-`, and a self-signed certificate", when: "calm",
			to: one("prefixself.example"), verdict: one("secure by prefix"), ends: everywhere(waits),
		},
		{
			name: "encrypt-only", title: "TLS is demanded, and nothing of the certificate", when: "calm",
			to: one("encryptonly.example"), verdict: one("encrypt by override"), needs: one(encryption),
			by: one("mx.encryptonly.example"), ends: everywhere(to(encrypted, "mx.encryptonly.example")),
		},
		{
			name: "encrypt-only-clear", title: "TLS is demanded, and there is no STARTTLS", when: "calm",
			to: one("overridden.example"), verdict: one("encrypt by override"), ends: everywhere(waits),
		},
		{
			name: "opportunistic", title: "nothing is demanded; a self-signed certificate", when: "calm",
			to: one("opportunistic.example"), verdict: one("none by none"), needs: one(delivery),
			by: one("mx.opportunistic.example"), ends: everywhere(to(encrypted, "mx.opportunistic.example")),
		},
		{
			name: "plain", title: "nothing is demanded; no STARTTLS", when: "calm",
			to: one("plain.example"), verdict: one("none by none"), needs: one(delivery),
			by: one("mx.plain.example"), ends: everywhere(to(clear, "mx.plain.example")),
		},
		{
			name: "null-mx", title: "the domain takes no mail (RFC 7505)", when: "calm",
			to: one("nullmx.example"), verdict: one("none by none"), ends: everywhere(returned), mayReturn: true,
		},
	}
}

// shared is a message to two domains with one MX host: one demands a good
// certificate, the other nothing.
func shared(name, title string, strict, lax, host string) situation {
	return situation{
		name: name, title: title, when: "calm", to: []string{strict, lax},
		verdict: []string{"secure by mta-sts", "none by none"}, needs: []need{authenticity, delivery}, by: one(host),
	}
}

func situationsShared() []situation {
	good := shared("shared-good", "one message to a domain with MTA-STS and one without, with the same MX host: its certificate is good",
		"strictgood.example", "laxgood.example", "good.provider.example")
	good.ends = everywhere(to(authenticated, good.by[0]), to(encrypted, good.by[0]))
	bad := shared("shared-bad", "one message to a domain with MTA-STS and one without, with the same MX host: its certificate is self-signed",
		"strictbad.example", "laxbad.example", "bad.provider.example")
	bad.ends = everywhere(waits, to(encrypted, bad.by[0]))
	// The same the other way round: who is named first decides which session is opened first.
	swapped := shared("shared-bad-swapped", "one message to a domain without MTA-STS and one with, with the same MX host: its certificate is self-signed",
		"laxworse.example", "strictworse.example", "worse.provider.example")
	slices.Reverse(swapped.verdict)
	slices.Reverse(swapped.needs)
	swapped.ends = everywhere(to(encrypted, swapped.by[0]), waits)
	stripped := shared("shared-stripped", "one message to a domain with MTA-STS and one without, with the same MX host: STARTTLS is stripped",
		"strictgood.example", "laxgood.example", "good.provider.example")
	stripped.when = "stripped"
	stripped.ends = everywhere(waits, to(clear, stripped.by[0]))
	stripped.later = everywhere(to(authenticated, stripped.by[0]), to(clear, stripped.by[0]))
	return []situation{good, bad, swapped, stripped}
}

func situationsStripped() []situation {
	return []situation{
		{
			name: "dane-stripped", title: "DANE, and STARTTLS is stripped", when: "stripped",
			to: one("dane301.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("mx.dane301.example"), ends: everywhere(waits),
			later: byServer{"": to(authenticated, "mx.dane301.example"), "sendmail-8.17": to(encrypted, "mx.dane301.example")},
			notes: byServer{"sendmail-8.17": noDANE},
		},
		{
			name: "sts-stripped", title: "MTA-STS, and STARTTLS is stripped", when: "stripped",
			to: one("sts.example"), verdict: one("secure by mta-sts"), needs: one(authenticity),
			by: one("mx.sts.example"), ends: everywhere(waits), later: everywhere(to(authenticated, "mx.sts.example")),
		},
		{
			name: "prefix-stripped", title: "an MX name that begins with `starttls-`, and STARTTLS is stripped", when: "stripped",
			to: one("prefix.example"), verdict: one("secure by prefix"), needs: one(authenticity),
			by: one("starttls-mx.prefix.example"), ends: everywhere(waits), later: everywhere(to(authenticated, "starttls-mx.prefix.example")),
		},
		{
			name: "nothing-stripped", title: "nothing is demanded, and STARTTLS is stripped", when: "stripped",
			to: one("opportunistic.example"), verdict: one("none by none"), needs: one(delivery),
			by: one("mx.opportunistic.example"), ends: everywhere(to(clear, "mx.opportunistic.example")),
		},
	}
}

func situationsOutage() []situation {
	var rows []situation
	for _, act := range []struct{ when, what string }{{"down", "policyd is down"}, {"hung", "policyd accepts, and never answers"}} {
		dane, plain := "dane"+act.when+".example", "plain"+act.when+".example"
		rows = append(rows,
			situation{
				name: "dane-" + act.when, title: act.what + "; DANE", when: act.when,
				to: one(dane), verdict: one("dane-only by dane"), needs: one(authenticity),
				by: one("mx." + dane), ends: everywhere(waits),
				later: byServer{"": to(authenticated, "mx."+dane), "sendmail-8.17": to(encrypted, "mx."+dane)},
				notes: byServer{"sendmail-8.17": noDANE},
			},
			situation{
				name: "plain-" + act.when, title: act.what + "; a domain that demands nothing", when: act.when,
				to: one(plain), verdict: one("none by none"), needs: one(delivery),
				by: one("mx." + plain), ends: everywhere(waits), later: everywhere(to(clear, "mx."+plain)),
			})
	}
	return rows
}

// TestSituations checks the table itself: no cell is empty, and none expects what
// the verdict forbids.
func TestSituations(t *testing.T) {
	names := map[string]bool{}
	for _, s := range judged() {
		if names[s.name] {
			t.Errorf("%s: there are two", s.name)
		}
		names[s.name] = true
		if len(s.verdict) != len(s.to) || s.needs != nil && len(s.needs) != len(s.to) {
			t.Fatalf("%s: not every recipient has a verdict and a need", s.name)
		}
		for _, m := range sixServers() {
			for _, ends := range []string{s.ends.of(m), s.later.of(m)} {
				if ends == "" && s.later.of(m) == "" && s.ends.of(m) != "" {
					continue
				}
				each := strings.Split(ends, "; ")
				if ends == noMilter {
					continue
				}
				if len(each) != len(s.to) {
					t.Errorf("%s, %s: %q is not an end for each of %q", s.name, m.name, ends, s.to)
					continue
				}
				for i, end := range each {
					if err := s.permits(m, i, end); err != nil {
						t.Errorf("%s, %s: %v", s.name, m.name, err)
					}
				}
			}
		}
	}
}

// sixServers are the mail servers that the page tells of, in its order.
func sixServers() []box {
	var all []box
	for _, name := range []string{"postfix-3.7", "postfix-3.10", "exim-4.96", "exim-4.98", "sendmail-8.17", "sendmail-8.18"} {
		all = append(all, box{name: name})
	}
	return all
}
