package resolve

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// raw answers every query with a fixed body, so that what is measured is the asker.
func raw(b *testing.B) netip.AddrPort {
	fixed := packed(b, address(b, new(dns.Msg).SetQuestion("mx.example.", dns.TypeA), truth))
	honest := validator(b, silent)
	return serve(b, func(w dns.ResponseWriter, q *dns.Msg) {
		if m := honest(q); m != nil {
			_ = w.WriteMsg(m)
			return
		}
		out := append([]byte(nil), fixed...)
		out[0], out[1] = byte(q.Id>>8), byte(q.Id)
		_, _ = w.Write(out)
	})
}

// BenchmarkLookup is one question over a loopback socket, the server's work included.
func BenchmarkLookup(b *testing.B) {
	r := resolver(b, Config{Mode: TrustAD, Servers: []netip.AddrPort{raw(b)}})
	r.Probe(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		if a := r.Session().A(b.Context(), "mx.example"); !a.Exists() {
			b.Fatal(a.Failure)
		}
	}
}

// BenchmarkRead is a reply from octets to an answer.
func BenchmarkRead(b *testing.B) {
	q := newQuestion("mx.example", dns.TypeA)
	query := q.query(queryBits{})
	packet := packed(b, address(b, new(dns.Msg).SetQuestion("mx.example.", dns.TypeA), truth))
	packet[0], packet[1] = query[0], query[1]
	b.ReportAllocs()
	for b.Loop() {
		if !answers(query, packet) {
			b.Fatal("not the answer")
		}
		m, err := parse(packet)
		if err != nil {
			b.Fatal(err)
		}
		res, err := interpret(q, m)
		if err != nil || len(typed(res, readA).Records) != 1 {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuery(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		const name = "_25._tcp.mx.example.com"
		q := newQuestion(name, dns.TypeTLSA)
		if kindOf(name) != hostish || len(q.query(queryBits{header: bitAD})) == 0 {
			b.Fatal("no query")
		}
	}
}
