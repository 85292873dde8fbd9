package lab

import (
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/miekg/dns"
)

// What only Exim does, or does otherwise than Postfix and Sendmail: it looks TLSA
// records up by itself, also behind MX records that nobody has signed; it tells the hosts of a
// policy by their names; it leaves a host that has failed alone, for all domains; and
// what it makes of policyd's answer is written in its configuration.

// eximsOwn goes through situations that the table does not have.
func (l *lab) eximsOwn(t *testing.T) {
	for _, s := range []situation{
		{
			name: "dane-ta", to: one("daneta.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("mx.daneta.example"), ends: everywhere(to(authenticated, "mx.daneta.example")),
		},
		{
			name: "dane-alias", to: one("danecname.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("mx.danecname.example"), ends: everywhere(to(authenticated, "mx.danecname.example")),
		},
		{
			name: "dane-apex", to: one("daneapex.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("daneapex.example"), ends: everywhere(to(authenticated, "daneapex.example")),
		},
		{
			name: "dane-half-bogus", to: one("danehalf.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("mx2.danehalf.example"), ends: everywhere(to(authenticated, "mx2.danehalf.example")),
		},
		{
			name: "dane-unsigned-mx", to: one("daneforeign.example"), verdict: one("dane by dane"), needs: one(authenticity),
			by: one("mx.dane.example"), ends: everywhere(to(authenticated, "mx.dane.example")),
		},
		{
			name: "sts-upper-case", to: one("STSUpper.Example"), verdict: one("secure by mta-sts"), needs: one(authenticity),
			by: one("mx.stsupper.example"), ends: everywhere(to(authenticated, "mx.stsupper.example")),
		},
		{
			name: "u-label", to: one("bücher.example"), verdict: one("dane-only by dane"), needs: one(authenticity),
			by: one("mx.xn--bcher-kva.example"), ends: everywhere(to(authenticated, "mx.xn--bcher-kva.example")),
		},
		// A host that is not good enough for one domain ...
		{
			name: "strict-first", to: one("strictbad.example"), verdict: one("secure by mta-sts"),
			ends: everywhere(waits),
		},
		// ... is good enough, at once, for another.
		{
			name: "lax-after", to: one("laxbad.example"), verdict: one("none by none"), needs: one(delivery),
			by: one("bad.provider.example"), ends: everywhere(to(encrypted, "bad.provider.example")),
		},
	} {
		l.single(t, s)
	}
	l.policyd.kill(t)
	l.answers(t)
}

// deceived is Exim behind a resolver that lies to it, and not to policyd.
func (l *lab) deceived(t *testing.T) {
	for _, s := range []situation{
		// Exim goes to the hosts that policyd names.
		{
			name: "mx-forged", to: one("liests.example"), verdict: one("secure by mta-sts"), needs: one(authenticity),
			by: one("mx.liests.example"), ends: everywhere(to(authenticated, "mx.liests.example")),
		},
		{
			name: "mx-denied", to: one("limitsts.example"), verdict: one("secure by mta-sts"), needs: one(authenticity),
			by: one("mx.limitsts.example"), ends: everywhere(to(authenticated, "mx.limitsts.example")),
		},
		{
			name: "address-forged", to: one("liestsaddress.example"), verdict: one("secure by mta-sts"),
			ends: everywhere(waits),
		},
		// With DANE, it looks for them itself. What is not there for it is not returned.
		{
			name: "dane-mx-forged", to: one("liemta.example"), verdict: one("dane-only by dane"),
			ends: everywhere(waits),
		},
		{
			name: "dane-unproven", to: one("daneforeign.example"), verdict: one("dane by dane"),
			ends: everywhere(waits),
		},
		{
			// The host with TLSA records is down; the other has none.
			name: "dane-mixed-unproven", to: one("danemixed.example"), verdict: one("dane by dane"), needs: one(delivery),
			by: one("mx2.danemixed.example"), ends: everywhere(to(encrypted, "mx2.danemixed.example")),
		},
		{
			name: "dane-domain-denied", to: one("liemxnxdomain.example"), verdict: one("dane-only by dane"),
			ends: everywhere(waits),
		},
	} {
		l.single(t, s)
	}
}

// liesToExim are what deceived expects to be said.
func liesToExim() []lie {
	const impostor = " 60 MX 10 mx.impostor.example."
	return []lie{
		toMTA(forge("liests.example." + impostor)),
		toMTA(forge("liemta.example." + impostor)),
		toMTA(nxdomain("limitsts.example.", dns.TypeMX)), toMTA(nxdomain("limitsts.example.", dns.TypeA)), toMTA(nxdomain("limitsts.example.", dns.TypeAAAA)),
		toMTA(nxdomain("liemxnxdomain.example.", dns.TypeMX)), toMTA(nxdomain("liemxnxdomain.example.", dns.TypeA)), toMTA(nxdomain("liemxnxdomain.example.", dns.TypeAAAA)),
		toMTA(forge("mx.liestsaddress.example. 60 A 198.51.100.1", "mx.liestsaddress.example. 60 AAAA 2001:db8:100::1")),
	}
}

// single sends the mail of one situation and judges what becomes of it.
func (l *lab) single(t *testing.T, s situation) {
	t.Helper()
	t.Run(s.name, func(t *testing.T) {
		mail := letter{recipients: s.recipients(l.setup), header: "Subject: lab"}
		if domain := s.to[0]; strings.ContainsFunc(domain, func(r rune) bool { return r > unicode.MaxASCII }) {
			mail.parameters = "SMTPUTF8"
		}
		receipt, err := hand(t.Context(), l.dial, mail)
		if err != nil || !strings.HasPrefix(receipt.data, "250") {
			t.Fatalf("%s takes no mail: %+v, %v", l.name, receipt, err)
		}
		l.conclude(t, s, s.ends.of(l.box), func(end string) bool { return end != "" })
		l.compareVerdict(t, s)
	})
}

// script is a policyd that says what it is told to say.
type script struct {
	mu    sync.Mutex
	asked []string          // the questions, as they came
	says  map[string]string // the answer to a map, octet by octet
}

// serve answers until the listener is closed.
func (s *script) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			question, err := io.ReadAll(c) // Exim closes its half
			if err != nil {
				return
			}
			_, text, _ := strings.Cut(strings.TrimSuffix(string(question), ","), ":")
			mapName, _, _ := strings.Cut(text, " ")
			s.mu.Lock()
			s.asked = append(s.asked, text)
			answer := s.says[mapName]
			s.mu.Unlock()
			io.WriteString(c, answer) // whether Exim has it shows in what it does
		}()
	}
}

// become changes the script, and returns what was asked before.
func (s *script) become(says map[string]string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked, s.says = nil, says
	return asked
}

// netstring is a text as it should be on the wire.
func netstring(text string) string { return strconv.Itoa(len(text)) + ":" + text + "," }

// routed is what Exim makes of an answer.
type routed struct {
	name      string
	options   []string // of exim, in front of -bt
	transport string   // what map transport answers; a netstring is made of it
	exim      string   // what map exim answers
	raw       bool     // exim is to be sent as it is
	asked     []string // nil: not compared
	becomes   string   // the transport of Exim, or what it says of the address
}

// answers shows Exim answers, right and wrong, and asks where mail would go.
func (l *lab) answers(t *testing.T) {
	s := &script{}
	listener, err := l.mta.listen("127.0.0.1:8461")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go s.serve(listener)
	for _, r := range slices.Concat(understood(), notUnderstood()) {
		t.Run(r.name, func(t *testing.T) {
			exim := r.exim
			if !r.raw {
				exim = netstring(exim)
			}
			s.become(map[string]string{"exim": exim, "transport": netstring(r.transport)})
			args := append(append([]string{"/usr/sbin/exim4"}, r.options...), "-bt", "u@dane.example")
			out, err := l.run(t.Context(), args...)
			if err != nil {
				out = err.Error() // what cannot be sent anywhere is an error to -bt
			}
			if !strings.Contains(out+"\n", r.becomes+"\n") {
				t.Errorf("%q becomes\n%s\nwant %q", r.exim, out, r.becomes)
			}
			if asked := s.become(nil); r.asked != nil && !slices.Equal(asked, r.asked) {
				t.Errorf("asked %q, want %q", asked, r.asked)
			}
		})
	}
}

func understood() []routed {
	const none, on26 = "NOTFOUND ", "OK tls26:dane.example:26"
	by := func(transport string) string { return "transport = " + transport }
	smtps := []string{"-DTLSVERDICT_SMTPS=yes"}
	relay := []string{"-DTLSVERDICT_SMARTHOST=mx.sts.example"}
	return []routed{
		{name: "none", exim: "OK level=none", asked: one("exim dane.example"), becomes: by("remote_smtp")},
		{name: "not-found", exim: "NOTFOUND ", becomes: by("remote_smtp")},
		{name: "encrypt", exim: "OK level=encrypt", becomes: by("tlsverdict_encrypt")},
		{name: "dane", exim: "OK level=dane", becomes: by("tlsverdict_dane")},
		{name: "dane-tlsa", exim: "OK level=dane tlsa=mx.dane.example:mx.sts.example", becomes: by("tlsverdict_dane")},
		{name: "dane-only", exim: "OK level=dane-only", becomes: by("tlsverdict_dane_only")},
		{name: "secure", exim: "OK level=secure hosts=mx.dane.example", becomes: by("tlsverdict_secure")},
		{name: "secure-hosts", exim: "OK level=secure hosts=mx.sts.example:mx.plain.example", becomes: by("tlsverdict_secure")},
		{name: "temp", exim: "TEMP bogus, says \"us\": <a@b> ${run} $h_x:", becomes: `tlsverdict: bogus, says "us": <a@b> ${run} $h_x:`},
		{name: "no-host", exim: "OK level=secure hosts=mx.nowhere.example", becomes: "cannot be resolved at this time: lookup failed for all hosts in tlsverdict_hosts router: host_find_failed=ignore host_all_ignored=defer"},
		{name: "smtps", options: smtps, transport: on26, exim: "OK level=dane-only", asked: []string{"transport dane.example", "exim dane.example:26"}, becomes: by("tlsverdict_dane_only_smtps")},
		{name: "smtps-secure", options: smtps, transport: on26, exim: "OK level=secure hosts=mx.dane.example", becomes: by("tlsverdict_secure_smtps")},
		{name: "smtps-encrypt", options: smtps, transport: on26, exim: "OK level=encrypt", becomes: by("tlsverdict_encrypt_smtps")},
		{name: "smtps-not", options: smtps, transport: none, exim: "OK level=dane-only", asked: []string{"transport dane.example", "exim dane.example"}, becomes: by("tlsverdict_dane_only")},
		{name: "smtps-temp", options: smtps, transport: "TEMP later", exim: "OK level=none", asked: one("transport dane.example"), becomes: "tlsverdict: later"},
		{name: "smtps-strange", options: smtps, transport: "OK smtp:[mx.dane.example]:26", exim: "OK level=none", asked: one("transport dane.example"), becomes: "tlsverdict: policyd says what is not known here: OK smtp:[mx.dane.example]:26"},
		{name: "smarthost", options: relay, exim: "OK level=dane-only", asked: one("exim [mx.sts.example]"), becomes: by("tlsverdict_dane_only")},
		{name: "smarthost-587", options: append(relay, "-DTLSVERDICT_SMARTPORT=587"), exim: "OK level=secure hosts=mx.sts.example", asked: one("exim [mx.sts.example]:587"), becomes: by("tlsverdict_secure")},
		{name: "smarthost-465", options: append(relay, "-DTLSVERDICT_SMARTPORT=465"), exim: "OK level=secure hosts=mx.sts.example", asked: one("exim [mx.sts.example]:465"), becomes: by("tlsverdict_secure_smtps")},
		{name: "smarthost-none", options: relay, exim: "OK level=none", becomes: by("remote_smtp")},
	}
}

// notUnderstood are answers that must never be taken for "no policy".
func notUnderstood() []routed {
	var all []routed
	for name, answer := range map[string]string{
		"none-and-more": "OK level=none ", "none-and-attribute": "OK level=none policy=x", "upper-case": "OK level=NONE", "may": "OK level=may",
		"no-level": "OK", "empty-level": "OK level=", "no-hosts": "OK level=secure", "empty-hosts": "OK level=secure hosts=", "half-hosts": "OK level=secure hosts=mx.dane.example:",
		"option-in-hosts": "OK level=secure hosts=mx.dane.example byname", "literal-in-hosts": "OK level=secure hosts=[198.51.100.100]", "hosts-of-dane": "OK level=dane hosts=mx.dane.example",
		"tlsa-of-dane-only": "OK level=dane-only tlsa=mx.dane.example", "empty-tlsa": "OK level=dane tlsa=", "half-tlsa": "OK level=dane tlsa=mx.dane.example:",
		"perm": "PERM no", "timeout": "TIMEOUT no", "not-found-and-more": "NOTFOUND x",
	} {
		all = append(all, routed{name: "unknown-" + name, exim: answer, becomes: "cannot be resolved at this time: tlsverdict: policyd says what is not known here: " + answer})
	}
	for name, answer := range map[string]string{
		"nothing": "", "too-long": "14:OK level=none,", "too-short": "12:OK level=none,", "no-comma": "13:OK level=none", "two": "13:OK level=none,13:OK level=none,",
		"leading-zero": "013:OK level=none,", "no-length": "OK level=none,", "end-of-line": "13:OK level=none,\n", "end-of-line-inside": "14:OK level=none\n,",
		"nul": "16:OK level=none\x00\x00\x00,", "huge": "99999999999999999999:OK level=none,", "http": "HTTP/1.1 400 Bad Request\r\n\r\n", "half": "13:OK lev",
	} {
		all = append(all, routed{name: "broken-" + name, exim: answer, raw: true, becomes: "cannot be resolved at this time: tlsverdict: no usable answer from policyd at inet:127.0.0.1:8461"})
	}
	slices.SortFunc(all, func(a, b routed) int { return strings.Compare(a.name, b.name) })
	return all
}
