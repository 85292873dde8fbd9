package dnssec

import (
	"testing"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// TestStandardWorld asks every kind of question in every style of zone.
func TestStandardWorld(t *testing.T) {
	w := standard(t)
	const (
		found, nodata, nx      = verdict.Found, verdict.NoData, verdict.NXDomain
		secure, insecure       = verdict.Secure, verdict.Insecure
		a, aaaa, mx, txt, tlsa = dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeTLSA
	)
	v := w.validator()
	for _, zone := range []string{"example.com.", "example.net.", "example.org.", "optout.org.", "plain.com.", "plain.org.", "plain.net."} {
		proof, denied, absent := secure, secure, nx
		switch {
		case zone[:5] == "plain":
			proof, denied = insecure, insecure
		case zone == "optout.org.":
			denied = insecure
		case zone == "example.org.":
			absent = nodata // compact denial says so
		}
		for _, c := range []struct {
			name    string
			rrtype  uint16
			outcome verdict.Outcome
			proof   verdict.Proof
		}{
			{"", mx, found, proof},
			{"", dns.TypeSOA, found, proof},
			{"", dns.TypeNS, found, proof},
			{"", tlsa, nodata, proof},
			{"mx1.", a, found, proof},
			{"MX1.", aaaa, found, proof},
			{"mx1.", txt, nodata, proof},
			{"_25._tcp.mx1.", tlsa, found, proof},
			{"_tcp.mx1.", tlsa, nodata, proof}, // an empty non-terminal
			{"_443._tcp.mx1.", tlsa, absent, denied},
			{"nowhere.", a, absent, denied},
			{"non.terminal.", a, nodata, proof},
			{"x.non.terminal.", a, absent, denied},
			{"alias.", a, found, proof},
			{"alias.", dns.TypeCNAME, found, proof},
			{"alias.", txt, nodata, proof},
			{"away.", a, found, insecure},
			{"across.", a, found, proof},
			{"one.wild.", a, found, denied},
			{"one.two.wild.", a, found, denied},
			{"one.wild.", tlsa, nodata, denied},
			{"*.wild.", a, found, proof},
			{"tree.wild.", a, nodata, proof},
			{"one.tree.wild.", a, absent, denied},
			{"one.cwild.", a, found, denied},
			{"host.old.", a, found, proof},
			{"host.old.", dns.TypeCNAME, found, proof},
			{"other.old.", a, absent, denied},
			{"", dns.TypeDS, found, proof},
		} {
			if c.rrtype == dns.TypeDS && proof == insecure {
				c.outcome = nodata
				if zone != "plain.com." { // an opt-out span
					c.proof = secure
				}
			}
			t.Run(c.name+zone+" "+typeName(c.rrtype), func(t *testing.T) {
				want(t, w.ask(v, c.name+zone, c.rrtype), c.outcome, c.proof)
			})
		}
	}
	want(t, w.lookup("sub.example.com.", mx), found, secure)
	want(t, w.lookup("mx.plain.example.com.", a), found, insecure)
	want(t, w.lookup("nosuch.", mx), nx, secure)
	want(t, w.lookup("nosuch.com.", mx), nx, insecure)
	want(t, w.lookup(".", dns.TypeNS), found, secure)
}
