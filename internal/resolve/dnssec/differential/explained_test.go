package differential

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/resolve/dnssec"
)

// explanation is a kind of difference that is known, and why ours is right.
type explanation struct {
	name string
	ours []worth
	them []worth
	// cite is the section that ours follows; "": a bound of our own.
	cite string
	// applies reports whether a case is of the kind, by what the zones and replies hold.
	applies func(c comparison) bool
}

// comparison is one question as two validators answered it.
type comparison struct {
	in   *internet
	sp   *specimen
	q    question
	peer string
	ours said
	them said
	true truth
}

// explanations are tried in this order. docs/dnssec.md has the same names, with more
// words; TestExplanationsAreDocumented holds the two together.
func explanations() []explanation {
	any3, no, yes := []worth{failed, insecure, secure}, []worth{failed}, []worth{insecure, secure}
	return []explanation{
		{"alias with an empty signature", []worth{failed, insecure}, yes, "RFC 4035 §5.3.3", comparison.emptySeal},
		{"RSASHA1", []worth{insecure}, []worth{secure}, "RFC 9905 §2", func(c comparison) bool {
			return c.signedOnlyBy(dns.RSASHA1, dns.RSASHA1NSEC3SHA1)
		}},
		{"Ed448", []worth{insecure}, no, "RFC 4035 §5.2", func(c comparison) bool { return c.signedOnlyBy(dns.ED448) }},
		{"51 to 150 iterations", []worth{insecure}, []worth{secure}, "RFC 9276 §3.2", func(c comparison) bool {
			return c.sp.dom.iterations > dnssec.MaxIterations && c.sp.dom.iterations <= 150
		}},
		{"SHA-1 beside a SHA-256 that does not match", no, yes, "RFC 4509 §3", func(c comparison) bool {
			return c.hasDS(dns.SHA1) && c.hasDS(dns.SHA256)
		}},
		{"revoked key", no, yes, "RFC 5011 §2.1", func(c comparison) bool {
			return c.hasKey(func(k *dns.DNSKEY) bool { return k.Flags&dns.REVOKE != 0 })
		}},
		{"key that may not sign", no, yes, "RFC 4034 §2.1, §2.1.2", func(c comparison) bool {
			return c.hasKey(func(k *dns.DNSKEY) bool { return k.Flags&dns.ZONE == 0 || k.Protocol != 3 })
		}},
		{"CNAME asked for below a DNAME", yes, any3, "RFC 6672 §2.2, §5.3.1", func(c comparison) bool {
			return c.q.rtype == dns.TypeCNAME && c.in.closest(c.q).dnameAbove(c.q.name) != nil && c.holds()
		}},
		{"synthesised CNAME that is another", no, yes, "RFC 6672 §5.3.1", comparison.otherSynthesis},
		{"DS outside the answer section", no, yes, "RFC 4035 §5", comparison.strayDS},
		{"more than eight links", no, yes, "", func(c comparison) bool {
			return c.true.worth == failed && c.aliases() > dnssec.MaxLinks
		}},
		{"within the tolerance of time", yes, no, "RFC 4035 §5.3.1", func(c comparison) bool {
			return c.peer == "delv" && c.holds() && !c.sp.dom.inTime()
		}},
		{"opt-out span", []worth{insecure}, []worth{secure}, "RFC 5155 §9.2", func(c comparison) bool {
			return c.true.worth == insecure && c.hashed(byOptOut)
		}},
		{"damage where opt-out leaves all open", []worth{insecure}, no, "RFC 5155 §9.2", func(c comparison) bool {
			return c.sp.damaged && c.true.worth == insecure && c.hashed(byOptOut)
		}},
		{"signatures in an unsigned zone", []worth{insecure}, no, "RFC 4035 §5.2", func(c comparison) bool {
			return c.forged() != nil && c.true.worth == insecure && c.in.closest(c.q).standing() == insecure
		}},
		{"rcode that says otherwise than the proof", []worth{secure}, []worth{secure}, "RFC 4035 §5", func(c comparison) bool {
			return c.forged() != nil && c.holds() && slices.Equal(c.ours.records, c.them.records)
		}},
		{"damage beside the proof", yes, no, "RFC 4035 §5", func(c comparison) bool { return c.forged() != nil && c.holds() }},
		{"forgery in an unsigned zone", []worth{insecure}, []worth{insecure}, "RFC 4035 §5.2", func(c comparison) bool {
			return c.sp.damaged && c.true.worth == insecure
		}},
		{"unsigned answer that contradicts itself", no, []worth{insecure}, "RFC 2308 §5", func(c comparison) bool {
			return c.sp.damaged && c.true.worth == insecure
		}},
	}
}

// explain returns the explanation of a difference, or nil.
func explain(c comparison) *explanation {
	for _, e := range explanations() {
		if slices.Contains(e.ours, c.ours.worth) && slices.Contains(e.them, c.them.worth) && e.applies(c) {
			return &e
		}
	}
	return nil
}

// holds reports that what we say is all true.
func (c comparison) holds() bool {
	return c.ours.worth == c.true.worth && (c.ours.rcode == c.true.rcode || c.true.either) && slices.Equal(c.ours.records, content(c.true.records, c.q.rtype))
}

// signedOnlyBy is of the zone that varies.
func (c comparison) signedOnlyBy(algorithms ...uint8) bool {
	return !slices.ContainsFunc(c.sp.dom.signers, func(s *signer) bool { return !slices.Contains(algorithms, s.rr.Algorithm) })
}

func (c comparison) hasDS(digest uint8) bool {
	return slices.ContainsFunc(c.sp.dom.ds, func(rr dns.RR) bool { return rr.(*dns.DS).DigestType == digest })
}

func (c comparison) hasKey(is func(*dns.DNSKEY) bool) bool {
	return slices.ContainsFunc(c.sp.dom.signers, func(s *signer) bool { return is(s.rr) })
}

// hashed reports that a zone of the specimen denies in this way.
func (c comparison) hashed(s style) bool {
	return slices.ContainsFunc(c.sp.zones, func(z *zone) bool { return z.style == s })
}

func (z *zone) inTime() bool { return z.from <= 0 && z.to >= time.Minute }

// aliases counts the links from the name asked, at most twenty.
func (c comparison) aliases() int {
	n, next := 0, c.q.name
	for next != "" && n < 20 {
		_, next = c.in.truthAt(question{next, c.q.rtype})
		n++
	}
	return n - 1
}

// forged is what was put in the place of a reply of the specimen, or nil.
func (c comparison) forged() *dns.Msg {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	for q, m := range c.in.forged {
		if dns.IsSubDomain(c.sp.top, q.name) {
			return m
		}
	}
	return nil
}

// emptySeal reports a CNAME or DNAME whose RRSIG has no octets in it.
func (c comparison) emptySeal() bool {
	m := c.forged()
	return m != nil && slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return ok && sig.Signature == "" && (sig.TypeCovered == dns.TypeCNAME || sig.TypeCovered == dns.TypeDNAME)
	})
}

// strayDS reports a DS that is in the authority section only.
func (c comparison) strayDS() bool {
	m := c.forged()
	isDS := func(rr dns.RR) bool { return isType(rr, dns.TypeDS) }
	return m != nil && slices.ContainsFunc(m.Ns, isDS) && !slices.ContainsFunc(m.Answer, isDS)
}

// otherSynthesis reports a CNAME that is not what the DNAME beside it makes of the name.
func (c comparison) otherSynthesis() bool {
	m := c.forged()
	if m == nil {
		return false
	}
	for _, rr := range m.Answer {
		if d, ok := rr.(*dns.DNAME); ok {
			return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
				alias, ok := rr.(*dns.CNAME)
				return ok && alias.Hdr.Name == c.q.name && alias.Target != c.q.name[:len(c.q.name)-len(d.Hdr.Name)]+d.Target
			})
		}
	}
	return false
}

// TestExplanationsAreDocumented: docs/dnssec.md has a row for each, with its section.
func TestExplanationsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/dnssec.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range explanations() {
		_, row, ok := strings.Cut(string(text), "\n| "+e.name+" | ")
		row, _, _ = strings.Cut(row, "\n")
		if !ok || !strings.Contains(row, e.cite) {
			t.Errorf("docs/dnssec.md has no row %q with %q", e.name, e.cite)
		}
	}
}
