package dnssec

import (
	"context"
	"testing"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// fuzzQuestion and what is true of it: an attacker who has none of the keys can neither
// add to it nor make it insecure.
const fuzzQuestion = "mx1.example.com."

// FuzzReply lets an attacker write the whole reply to one question of a lookup: the
// answer itself, or the DS or DNSKEY on the way. Whatever it is, nothing panics or loops,
// and what comes out is the truth or nothing.
func FuzzReply(f *testing.F) {
	w := standard(f)
	targets := []Query{
		{Name: fuzzQuestion, Type: dns.TypeA},
		{Name: "example.com.", Type: dns.TypeDS},
		{Name: "example.com.", Type: dns.TypeDNSKEY},
		{Name: "com.", Type: dns.TypeDS},
		{Name: ".", Type: dns.TypeDNSKEY},
	}
	seed := func(target int, m *dns.Msg) {
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(target), packed)
	}
	for i, q := range targets {
		m := w.reply(q.Name, q.Type)
		m.Response = true
		seed(i, m)
		m = m.Copy()
		stripped(m)
		seed(i, m)
	}
	for _, n := range []string{"alias", "host.old", "nowhere", "one.wild", "non.terminal", "away", "loop1"} {
		for _, zone := range []string{".example.com.", ".example.net.", ".example.org.", ".plain.com."} {
			m := w.reply(n+zone, dns.TypeA)
			m.Response = true
			m.Question[0].Name = fuzzQuestion
			seed(0, m)
		}
	}
	v := w.validator()
	w.ask(v, fuzzQuestion, dns.TypeA)
	f.Fuzz(func(t *testing.T, target byte, packet []byte) {
		w.t = t
		m := new(dns.Msg)
		if m.Unpack(packet) != nil {
			return
		}
		q := targets[int(target)%len(targets)]
		up := &replacing{w: w, q: q, m: m}
		v := v
		if q.Type != dns.TypeA {
			v = w.validator() // the way there is walked anew
		}
		s := v.Session(up)
		defer s.Close()
		a := s.Lookup(context.Background(), fuzzQuestion, dns.TypeA)
		switch a.Outcome {
		case verdict.Failed:
			if a.Err == nil || a.Proof == verdict.Secure || a.Proof == verdict.Insecure && a.Err.Why != NoReply {
				t.Errorf("%v %v", a.Proof, a.Err)
			}
		case verdict.Found:
			if a.Proof != verdict.Secure || len(a.Records) != 1 || a.Records[0].(*dns.A).A.String() != "192.0.2.1" {
				t.Errorf("believed: %v %v\n%v", a.Proof, a.Records, a.Chain())
			}
		default:
			t.Errorf("believed: %v %v\n%v", a.Outcome, a.Proof, a.Chain())
		}
		if spent := s.Spent(); spent.Queries > MaxQueries || spent.Failures > MaxFailures || spent.Checks > checkUnits {
			t.Errorf("spent %+v", spent)
		}
		for _, step := range a.Chain() {
			_ = step.String()
		}
	})
}

// replacing is the world with one reply replaced.
type replacing struct {
	w *world
	q Query
	m *dns.Msg
}

func (r *replacing) Exchange(ctx context.Context, q Query) (*dns.Msg, error) {
	if q.Name == r.q.Name && q.Type == r.q.Type {
		m := r.m.Copy()
		m.Response = true
		m.Question = []dns.Question{{Name: q.Name, Qtype: q.Type, Qclass: dns.ClassINET}}
		if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			m.Rcode = dns.RcodeSuccess
		}
		return m, nil
	}
	return r.w.Exchange(ctx, q)
}

// FuzzDenial lets the reply to a name that does not exist be anything made of what the
// zone's owner signed: which records, in which section, under which rcode. The name
// never exists, and never turns insecure.
func FuzzDenial(f *testing.F) {
	w := standard(f)
	zones := []string{"example.com.", "example.net.", "example.org."}
	var pools [][]dns.RR
	for _, zone := range zones {
		z := w.zones[zone]
		var pool []dns.RR
		for _, n := range []string{"nowhere.", "one.wild.", "x.tree.wild.", "*.wild.", "alias.", "mx1.", "host.old.", "zzz.", "sub.", "plain.", "*."} {
			m := new(dns.Msg)
			z.deny(m, n+zone, n+zone)
			pool = append(pool, m.Ns...)
			if rrs := z.get(n+zone, dns.TypeA); rrs != nil {
				pool = append(pool, z.signed(rrs)...)
			}
		}
		pools = append(pools, pool)
	}
	v := w.validator()
	f.Add(byte(0), byte(0), []byte{0, 1, 2, 3, 4, 5, 6})
	f.Add(byte(1), byte(3), []byte{10, 11, 12, 13, 14, 15, 16, 17})
	f.Add(byte(2), byte(3), []byte{1, 2, 3, 30, 31, 32})
	f.Fuzz(func(t *testing.T, zone, rcode byte, picks []byte) {
		w.t = t
		at := int(zone) % len(zones)
		m := new(dns.Msg)
		m.Rcode = int(rcode) % 2 * dns.RcodeNameError
		for i, p := range picks {
			rr := pools[at][int(p)%len(pools[at])]
			if i%5 == 4 {
				m.Answer = append(m.Answer, rr)
			} else {
				m.Ns = append(m.Ns, rr)
			}
		}
		// mx1 exists, with an A: none of it may deny that.
		n := "mx1." + zones[at]
		m.Answer = without(m.Answer, dns.TypeA)
		s := v.Session(&replacing{w: w, q: Query{Name: n, Type: dns.TypeA}, m: m})
		defer s.Close()
		a := s.Lookup(context.Background(), n, dns.TypeA)
		if a.Outcome != verdict.Failed {
			t.Errorf("%s: believed %v %v\n%v", n, a.Outcome, a.Proof, a.Chain())
		}
	})
}
