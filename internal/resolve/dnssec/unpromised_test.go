package dnssec

import (
	"context"
	"testing"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// TestUnpromised: the addresses of a name cannot be looked up. Where its zone is proven
// unsigned, that is known nevertheless; a name that only leads into such a zone is not
// in it.
func TestUnpromised(t *testing.T) {
	w := standard(t)
	w.zones["example.com."].add("away CNAME www.plain.org.")
	dead := func(q Query) bool {
		return (q.Type == dns.TypeA || q.Type == dns.TypeAAAA || q.Type == dns.TypeTXT)
	}
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if dead(q) {
			return nil
		}
		return m
	}
	for _, tc := range []struct {
		name   string
		rrtype uint16
		proof  verdict.Proof
	}{
		{"www.plain.org.", dns.TypeA, verdict.Insecure},
		{"www.plain.org.", dns.TypeAAAA, verdict.Insecure},
		{"deep.down.plain.org.", dns.TypeA, verdict.Insecure},
		{"plain.org.", dns.TypeA, verdict.Insecure},
		{"www.plain.org.", dns.TypeTXT, verdict.Indeterminate},
		{"mx1.example.com.", dns.TypeA, verdict.Indeterminate},
		{"away.example.com.", dns.TypeA, verdict.Indeterminate},
	} {
		a := w.lookup(tc.name, tc.rrtype)
		if refused(t, a, NoReply); a.Proof != tc.proof {
			t.Errorf("%s %s: %v, want %v", tc.name, dns.TypeToString[tc.rrtype], a.Proof, tc.proof)
		}
	}

	// Without proof that the zone is unsigned nothing is known.
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if dead(q) || q.Type == dns.TypeDS && q.Name == "plain.org." {
			return nil
		}
		return m
	}
	if a := w.lookup("www.plain.org.", dns.TypeA); a.Proof != verdict.Indeterminate {
		t.Errorf("with DS withheld: %v", a.Proof)
	}
}

// patient is an upstream that never answers questions for addresses.
type patient struct {
	*world
	proven chan struct{}
}

func (p patient) Exchange(ctx context.Context, q Query) (*dns.Msg, error) {
	if q.Type == dns.TypeA {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	m, err := p.world.Exchange(ctx, q)
	if q.Type == dns.TypeDS && q.Name == "plain.org." {
		close(p.proven)
	}
	return m, err
}

// TestUnpromisedWhenGivenUp: what came while the question was on its way is read although
// nobody waits any longer.
func TestUnpromisedWhenGivenUp(t *testing.T) {
	w := standard(t)
	v := w.validator()
	if a := w.ask(v, "www.signed.org.", dns.TypeMX); a.Err != nil && !a.Err.Bogus() && a.Outcome == verdict.Failed {
		t.Fatal(a.Err) // what is above plain.org is known by now
	}
	up := patient{w, make(chan struct{})}
	s := v.Session(up)
	defer s.Close()
	ctx, giveUp := context.WithCancel(t.Context())
	go func() {
		<-up.proven
		s.ahead.Wait()
		giveUp()
	}()
	if a := s.Lookup(ctx, "www.plain.org.", dns.TypeA); a.Proof != verdict.Insecure {
		t.Errorf("%v: %v\n%v", a.Proof, a.Err, a.Chain())
	}
}
