package lab

import (
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// deceit is one mail whose domain a resolver lies about, to policyd and to
// Postfix: what it says, and what becomes of the mail. The impostor is a mail host
// with a certificate of the trusted CA for its own name, mx.impostor.example: as
// for all rows, it is an error if it is as much as told the recipient, where the
// row does not say so.
//
// What is deferred is delivered when the resolver is mended: mended says how, if the
// lab waits for it. Nothing is restarted for it.
type deceit struct {
	lies []lie
	outcome
	mended outcome // what it has of its own: reply or prints, host and how
}

// genuine is what a domain gets that has one host, mx, with 3 1 1.
func genuine(domain string) outcome {
	host := "mx." + domain
	return outcome{prints: "key:" + host, status: "sent", log: verified, host: host, how: "sni"}
}

// deferred is a row of a domain whose mail must wait, because policyd does not
// believe what it is told.
func deferred(name, domain string) outcome {
	return outcome{name: name, to: domain, reply: "TEMP", status: "deferred", log: deferredByPolicy}
}

// impostor is an address record for a host.
func impostor(l *lab, host string) []string {
	h := l.internet.host("mx.impostor.example")
	return []string{host + " 60 A " + h.ipv4(), host + " 60 AAAA " + h.ipv6()}
}

// forgedAnswers are lies about single domains. Each answer carries AD besides, so
// that who believes that bit believes all of this.
func (l *lab) forgedAnswers() []deceit {
	key, err := association(l.internet.host("mx.impostor.example"), "3", "1", "1")
	if err != nil {
		panic(err) // a programmer's error: the key is there
	}
	toImpostor := func(host string) lie { return forge(impostor(l, host)...) }
	const mx = " 60 MX 10 mx.impostor.example."
	return []deceit{
		// MX.
		{[]lie{forge("liemx.example." + mx)}, deferred("mx-forged", "liemx.example"), genuine("liemx.example")},
		{[]lie{bare("liemxbare.example.", dns.TypeMX), forge("liemxbare.example." + mx)}, deferred("mx-forged-unsigned", "liemxbare.example"), genuine("liemxbare.example")},
		{[]lie{forge("liecname.example. 60 CNAME impostor.example.")}, deferred("cname-injected", "liecname.example"), genuine("liecname.example")},
		{[]lie{servfail("liemxservfail.example.", dns.TypeMX)}, outcome{
			// Postfix looks for the host first, and so does not even ask policyd.
			name: "mx-servfail", to: "liemxservfail.example", reply: "TEMP", status: "deferred", log: `Host or domain name not found.*try again`,
		}, genuine("liemxservfail.example")},
		// The host's address.
		{[]lie{toImpostor("mx.lieaddress.example.")}, deferred("address-forged", "lieaddress.example"), genuine("lieaddress.example")},
		// TLSA, and the address, so that the lie would be of use.
		{[]lie{toImpostor("mx.lietlsa.example."), forge("_25._tcp.mx.lietlsa.example. 60 TLSA 3 1 1 " + key)}, deferred("tlsa-and-address-forged", "lietlsa.example"), genuine("lietlsa.example")},
		{[]lie{forge("_25._tcp.mx.lietlsadigest.example. 60 TLSA 3 1 1 " + key)}, deferred("tlsa-forged", "lietlsadigest.example"), genuine("lietlsadigest.example")},
		{[]lie{nodata("_25._tcp.mx.lietlsanodata.example.", dns.TypeTLSA)}, deferred("tlsa-nodata", "lietlsanodata.example"), genuine("lietlsanodata.example")},
		{[]lie{nxdomain("_25._tcp.mx.lietlsanxdomain.example.", dns.TypeTLSA)}, deferred("tlsa-nxdomain", "lietlsanxdomain.example"), genuine("lietlsanxdomain.example")},
		{[]lie{servfail("_25._tcp.mx.lietlsaservfail.example.", dns.TypeTLSA)}, deferred("tlsa-servfail", "lietlsaservfail.example"), genuine("lietlsaservfail.example")},
		{[]lie{bare("_25._tcp.mx.lietlsabare.example.", dns.TypeTLSA)}, deferred("tlsa-unsigned", "lietlsabare.example"), genuine("lietlsabare.example")},
		// One host of two: mail goes to the other, safely.
		{
			lies:    []lie{toImpostor("mx1.lietwo.example."), forge("_25._tcp.mx1.lietwo.example. 60 TLSA 3 1 1 " + key)},
			outcome: outcome{name: "tlsa-of-one-host-forged", to: "lietwo.example", prints: "key:mx2.lietwo.example", status: "sent", log: verified, host: "mx2.lietwo.example", how: "sni"},
		},
		// The whole zone, made to look as if nobody had signed it, or somebody else. That
		// a delegation is broken is remembered longer than this test lasts (RFC 4035 §4.7).
		{
			lies:    []lie{nodata("lieds.example.", dns.TypeDS), unsigned("lieds.example."), forge("lieds.example." + mx)},
			outcome: deferred("ds-nodata", "lieds.example"),
		},
		{
			lies:    []lie{resigned("lieresigned.example.", "lieresigned.example."+mx)},
			outcome: deferred("zone-signed-with-another-key", "lieresigned.example"),
		},
		{
			lies:    []lie{usurped("lieusurped.example.", "lieusurped.example."+mx)},
			outcome: deferred("zone-and-ds-replaced", "lieusurped.example"),
		},
		// Domains without DANE, whose mail DNSSEC and MTA-STS keep from the impostor.
		{[]lie{forge("lieprefix.example." + mx)}, deferred("prefix-mx-forged", "lieprefix.example"), outcome{
			reply: secure("starttls-mx.lieprefix.example"), status: "sent", log: verified, host: "starttls-mx.lieprefix.example", how: "sni",
		}},
		{[]lie{forge("liesigned.example." + mx)}, deferred("signed-mx-forged", "liesigned.example"), outcome{
			reply: "NOTFOUND", status: "sent", log: untrusted, host: "mx.liesigned.example", how: "tls",
		}},
	}
}

// toPostfixOnly are the same lies where only Postfix hears them: policyd's verdict
// is the right one, and Postfix must hold the impostor to it.
func (l *lab) toPostfixOnly() []deceit {
	const mx = " 60 MX 10 mx.impostor.example."
	held := func(name, domain string) outcome {
		o := genuine(domain)
		return outcome{name: name, to: domain, prints: o.prints, status: "deferred", log: mismatch}
	}
	return []deceit{
		{[]lie{toMTA(forge("liemta.example." + mx))}, held("mx-forged-to-postfix", "liemta.example"), genuine("liemta.example")},
		{[]lie{toMTA(forge(impostor(l, "mx.liemtaaddress.example.")...))}, held("address-forged-to-postfix", "liemtaaddress.example"), genuine("liemtaaddress.example")},
	}
}

// domainsWithSTS are lies about domains that MTA-STS protects.
func (l *lab) domainsWithSTS() []deceit {
	const mx = " 60 MX 10 mx.impostor.example."
	held := func(name, domain string) outcome {
		return outcome{name: name, to: domain, reply: secure("mx." + domain), status: "deferred", log: mismatch}
	}
	sent := func(domain string) outcome {
		return outcome{reply: secure("mx." + domain), status: "sent", log: verified, host: "mx." + domain, how: "sni"}
	}
	forged := held("sts-mx-forged", "liests.example")
	forged.log310 = `does not match STS MX pattern`
	return []deceit{
		{[]lie{forge("liests.example." + mx)}, forged, sent("liests.example")},
		{[]lie{forge(impostor(l, "mx.liestsaddress.example.")...)}, held("sts-address-forged", "liestsaddress.example"), sent("liestsaddress.example")},
		// Signed, and made to look unsigned: MTA-STS does not make up for a broken chain.
		{
			lies:    []lie{nodata("liestsds.example.", dns.TypeDS), unsigned("liestsds.example.")},
			outcome: deferred("sts-ds-nodata", "liestsds.example"),
		},
	}
}

// limits are lies that succeed, whatever policyd's verdict is.
//
// The impostor gets the mail, in clear text if he likes, where nothing is signed and
// no policy is known, and where only Postfix hears the lie about a domain that
// demands nothing.
//
// Postfix looks for the host before it asks policyd: told that there is none, it
// returns the mail to its sender. Nobody else gets it.
func (l *lab) limits() []deceit {
	const mx = " 60 MX 10 mx.impostor.example."
	taken := func(name, domain string) outcome {
		return outcome{name: name, to: domain, reply: "NOTFOUND", status: "sent", log: trusted, host: "mx.impostor.example", how: "tls"}
	}
	returned := func(name, domain string) outcome {
		return outcome{name: name, to: domain, reply: "TEMP", status: "bounced", log: `Host or domain name not found`}
	}
	return []deceit{
		{lies: []lie{nodata("liemxnodata.example.", dns.TypeMX)}, outcome: returned("limit-mx-nodata", "liemxnodata.example")},
		{lies: []lie{nxdomain("liemxnxdomain.example.", dns.TypeMX)}, outcome: returned("limit-mx-nxdomain", "liemxnxdomain.example")},
		{lies: []lie{forge("limitunsigned.example." + mx)}, outcome: taken("limit-unsigned", "limitunsigned.example")},
		{lies: []lie{toMTA(forge("limitmta.example." + mx))}, outcome: taken("limit-signed-without-policy-to-postfix", "limitmta.example")},
		{lies: []lie{forge("limitsts.example." + mx), nxdomain("_mta-sts.limitsts.example.", dns.TypeTXT)}, outcome: taken("limit-sts-first-contact", "limitsts.example")},
	}
}

// misled has a Postfix that is left to judge DANE by the AD bit of a resolver that
// lies to it alone: it takes the impostor for the host that DNSSEC vouches for. That
// this can happen where DANE is left to Postfix is what fingerprints are for; policyd
// has said so, at its start.
func (l *lab) misled(t *testing.T) {
	key, err := association(l.internet.host("mx.impostor.example"), "3", "1", "1")
	if err != nil {
		t.Fatal(err)
	}
	l.deceive(t, []deceit{{
		lies: []lie{
			toMTA(forge("liemta.example. 60 MX 10 mx.impostor.example.")),
			toMTA(forge("_25._tcp.mx.impostor.example. 60 TLSA 3 1 1 " + key)),
		},
		outcome: outcome{name: "limit-native-and-lying", to: "liemta.example", reply: "OK dane-only", status: "sent", log: verified, host: "mx.impostor.example", how: "sni"},
	}})
}

// forged lies about each domain of the tables above in its own way, all at once,
// to a policyd that has found its resolver well; then the resolver is mended.
func (l *lab) forged(t *testing.T) {
	l.deceive(t, slices.Concat(l.forgedAnswers(), l.toPostfixOnly(), l.domainsWithSTS(), l.limits()))
}

// stripped has a resolver that lets no DNSSEC through, from before policyd's start
// on, and forges besides.
func (l *lab) stripped(t *testing.T) {
	const mx = " 60 MX 10 mx.impostor.example."
	l.deceive(t, []deceit{
		{outcome: deferred("dane-stripped-of-dnssec", "dane.example"), mended: genuine("dane.example")},
		{outcome: deferred("prefix-stripped-of-dnssec", "prefix.example"), mended: outcome{
			reply: secure("starttls-mx.prefix.example"), status: "sent", log: verified, host: "starttls-mx.prefix.example", how: "sni",
		}},
		{lies: []lie{forge("liesigned.example." + mx)}, outcome: deferred("signed-forged-and-stripped", "liesigned.example")},
		// That it is not signed cannot be seen either.
		{outcome: deferred("unsigned-stripped-of-dnssec", "opportunistic.example"), mended: outcome{
			reply: "NOTFOUND", status: "sent", log: untrusted, host: "mx.opportunistic.example", how: "tls",
		}},
		// MTA-STS needs no DNSSEC (RFC 8461 §2).
		{outcome: outcome{
			name: "sts-stripped-of-dnssec", to: "sts.example", reply: secure("mx.sts.example"), status: "sent", log: verified, host: "mx.sts.example", how: "sni",
		}},
		{lies: []lie{forge("liests.example." + mx)}, outcome: outcome{
			name: "sts-forged-and-stripped", to: "liests.example", reply: secure("mx.liests.example"), status: "deferred", log: mismatch, log310: `does not match STS MX pattern`,
		}},
	})
}

// deceive lies beside what the setup lies already, sends all mails, and judges
// them; then it mends the resolver and expects the deferred ones to be delivered.
func (l *lab) deceive(t *testing.T, rows []deceit) {
	t.Helper()
	lies := slices.Clone(l.setup.lies)
	told := map[string]*atomic.Int32{} // by domain, so that no row passes for want of a lie
	var before, after []outcome
	for _, d := range rows {
		n := new(atomic.Int32)
		for _, each := range d.lies {
			lies = append(lies, counted(each, n))
			told[d.to] = n
		}
		before = append(before, d.outcome)
		if d.mended.status != "" {
			d.mended.name, d.mended.to = d.name, d.to
			after = append(after, d.mended)
		}
	}
	l.liar.become(lies...)
	l.batch(t, l.rows(before))
	for _, domain := range slices.Sorted(maps.Keys(told)) {
		if told[domain].Load() == 0 {
			t.Errorf("nothing was asked that the resolver could have lied about for %s", domain)
		}
	}
	l.mend(t, l.rows(after))
}

// mend makes the resolver honest, waits until policyd has seen it, flushes the
// queue, and judges what had been deferred.
func (l *lab) mend(t *testing.T, rows []outcome) {
	t.Helper()
	l.liar.become()
	for _, o := range rows {
		if err := eventually(t.Context(), func() bool {
			reply, _ := l.policyd.query(t.Context(), "postfix", o.question())
			return reply == o.reply
		}); err != nil {
			t.Errorf("policyd does not see that the resolver is mended: %s: %v", o.to, err)
		}
	}
	if err := l.program.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, o := range rows {
		l.waitFor(t, o, 2)
		t.Run(o.name+"-mended", func(t *testing.T) { l.judge(t, o) })
	}
}
