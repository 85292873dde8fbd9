package verdict

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tlsverdict/internal/tlsa"
)

// class is what DANE has to say about one host. The zero value is the least
// trusted one.
type class uint8

const (
	// unreachable: its addresses could not be looked up.
	unreachable class = iota
	// uncertain: it has addresses, but whether it has TLSA records could not be
	// learned. RFC 7672 §2.1.2: it must not be used as if it had none.
	uncertain
	// gone: it provably has no address; the MTA passes it over.
	gone
	// plain: provably without TLSA records that count.
	plain
	// unusable: TLSA records, none of them usable.
	unusable
	// usable: at least one usable TLSA record.
	usable
)

// judgement is a host's class, the reason for it, and what is behind it.
type judgement struct {
	class   class
	reason  Reason
	failure *Failure
	// unsigned: an unreachable host in a zone that is proven unsigned. It has no TLSA
	// records that count (RFC 7672 §2.2.2), so that its failure hides none.
	unsigned bool
	// records are those that count, of a usable host, and base is where they are.
	records []tlsa.Record
	base    string
}

// judge reads what was learned of one host (RFC 7672 §2.2.2, §2.2.3).
func judge(h *Host) judgement {
	a := h.Addresses()
	if !a.Found && a.Failure != nil {
		j := judgement{class: unreachable, reason: Reason{HostFailed, h.Name, a.Failure.Detail}, failure: a.Failure, unsigned: a.Unsigned}
		if j.unsigned {
			j.reason.Detail += "; its zone is not signed: no DANE"
		}
		return j
	}
	switch a.Proof {
	case Secure:
		if !a.Found {
			return judgement{class: gone, reason: Reason{Code: HostNoAddress, Subject: h.Name}}
		}
		return h.readTLSA(h.TLSA)
	case Insecure:
		return h.judgeInsecure(a)
	case Indeterminate, Bogus:
		// Also where the answer is a denial: who can forge one here would take
		// the host's TLSA records out of the decision.
		return judgement{class: uncertain, reason: Reason{Code: HostUnproven, Subject: h.Name}, failure: unvalidated()}
	}
	panic(fmt.Sprintf("verdict: address proof %v", a.Proof))
}

// judgeInsecure is for a host whose addresses are not secure. Only a name that
// is an alias can still have TLSA records that count: where the alias itself is
// in a signed zone, at the name before it (RFC 7672 §2.2.2). That holds for a
// denial of addresses too: in an unsigned zone anybody can forge one.
func (h *Host) judgeInsecure(a Addresses) judgement {
	if !a.Alias {
		if !a.Found {
			return judgement{class: gone, reason: Reason{Code: HostNoAddress, Subject: h.Name}}
		}
		return judgement{class: plain, reason: Reason{Code: HostInsecure, Subject: h.Name}}
	}
	if h.Link.Broken() {
		return judgement{class: uncertain, reason: Reason{AliasFailed, h.Name, h.Link.Failure.Detail}, failure: h.Link.Failure}
	}
	switch h.Link.Proof {
	case Insecure:
		return judgement{class: plain, reason: Reason{Code: AliasInsecure, Subject: h.Name}}
	case Secure:
		// Only the original name is left as base domain: the expanded one lies
		// in the unsigned zone.
		return h.readTLSA(onlyBase(h.TLSA, h.Name))
	case Indeterminate, Bogus:
		return judgement{class: uncertain, reason: Reason{Code: HostUnproven, Subject: h.Name}, failure: unvalidated()}
	}
	panic(fmt.Sprintf("verdict: alias proof %v", h.Link.Proof))
}

// unvalidated is the failure behind every answer that could have been proven
// and was not, because no validator works here. What is wrong is the
// destination's Facts.Trouble.
func unvalidated() *Failure {
	return &Failure{Operator, "DNSSEC validation does not work here"}
}

func onlyBase(lookups []TLSALookup, base string) []TLSALookup {
	for i := range lookups {
		if lookups[i].Base == base {
			return lookups[i : i+1]
		}
	}
	return nil
}

// readTLSA reads the lookups in the order of RFC 7672 §2.2.3: the first base
// domain that has records counts; one that fails ends the search.
func (h *Host) readTLSA(lookups []TLSALookup) judgement {
	if len(lookups) == 0 {
		panic("verdict: a host with secure addresses whose TLSA records were never asked for: " + h.Name)
	}
	result := judgement{class: plain, reason: Reason{Code: TLSAAbsent, Subject: h.Name}}
	for i := range lookups {
		l := &lookups[i]
		if l.Answer.Broken() {
			f := l.Answer.Failure
			return judgement{class: uncertain, reason: Reason{TLSAFailed, h.Name, f.Detail}, failure: f}
		}
		if l.Answer.Proof == Indeterminate {
			return judgement{class: uncertain, reason: Reason{Code: HostUnproven, Subject: h.Name}, failure: unvalidated()}
		}
		if !l.Answer.Exists() {
			continue
		}
		if l.Answer.Proof != Secure {
			result.reason = Reason{Code: TLSAInsecure, Subject: h.Name, Detail: "at " + l.Base}
			continue
		}
		return h.classify(l)
	}
	return result
}

func (h *Host) classify(l *TLSALookup) judgement {
	records := l.Answer.Records
	detail := ""
	if l.Base != h.Name {
		detail = "at " + l.Base + ", "
	}
	if tlsa.Classify(records) == tlsa.Usable {
		return judgement{class: usable, reason: Reason{TLSAUsable, h.Name, detail + few(records)}, records: records, base: l.Base}
	}
	return judgement{class: unusable, reason: Reason{TLSAUnusable, h.Name, detail + records[0].Defect()}}
}

// few writes the first of a list for people, and how many more there are.
func few[T fmt.Stringer](list []T) string {
	const most = 4
	s := ""
	for i, item := range list {
		if i == most {
			return fmt.Sprintf("%s and %d more", s, len(list)-most)
		}
		if i > 0 {
			s += ", "
		}
		s += item.String()
	}
	return s
}

// Addresses is what the two address answers of a host say together.
type Addresses struct {
	// Found: there is at least one address.
	Found bool
	// Proof is that of the addresses found; where there are none, of the denials.
	Proof Proof
	// Alias: the name is a CNAME.
	Alias bool
	// Canonical is the name at the end of the CNAME chain; empty for no alias.
	Canonical string
	// Failure is that of a lookup that failed; nil if both were answered.
	Failure *Failure
	// Unsigned: whatever failed, the name is in a zone that is proven unsigned.
	Unsigned bool
}

// Addresses joins the two address answers. One that fails beside one that was
// found does not harm the host; a host without any address is failed rather than
// gone as long as one of the two questions is open.
func (h *Host) Addresses() Addresses {
	out := Addresses{Found: h.A.Exists() || h.AAAA.Exists(), Proof: Secure, Canonical: cmp.Or(h.A.Canonical, h.AAAA.Canonical)}
	out.Alias = out.Canonical != ""
	for _, a := range []*Answer[netip.Addr]{&h.A, &h.AAAA} {
		if a.Broken() {
			out.Unsigned = a.Proof == Insecure && (out.Failure == nil || out.Unsigned)
			if out.Failure == nil {
				out.Failure = a.Failure
			}
		} else if a.Exists() == out.Found {
			out.Proof = Least(out.Proof, a.Proof)
		}
	}
	return out
}

// tally counts the hosts of each class.
type tally struct {
	hosts  []judgement
	counts [usable + 1]int
}

func count(hosts []Host) tally {
	t := tally{hosts: make([]judgement, len(hosts))}
	for i := range hosts {
		t.hosts[i] = judge(&hosts[i])
		t.counts[t.hosts[i].class]++
	}
	return t
}

func (t *tally) of(classes ...class) int {
	n := 0
	for _, c := range classes {
		n += t.counts[c]
	}
	return n
}

// names returns the names of the hosts of some classes, in their order.
func (t *tally) names(hosts []Host, classes ...class) []string {
	var out []string
	for i, j := range t.hosts {
		if slices.Contains(classes, j.class) {
			out = append(out, hosts[i].Name)
		}
	}
	return out
}

// failure returns the failure of the most preferred host that has one.
func (t *tally) failure() *Failure {
	for _, j := range t.hosts {
		if j.failure != nil {
			return j.failure
		}
	}
	return nil
}

// hidden returns the most preferred host of which it is not known whether it has TLSA
// records that count, or -1.
func (t *tally) hidden() int {
	return slices.IndexFunc(t.hosts, func(j judgement) bool {
		return (j.class == unreachable || j.class == uncertain) && !j.unsigned
	})
}

// shortest tracks the least of several lifetimes.
type shortest struct {
	ttl time.Duration
	any bool
}

func (s *shortest) add(ttl time.Duration) {
	if !s.any || ttl < s.ttl {
		s.ttl, s.any = max(ttl, 0), true
	}
}

func addAnswer[T any](s *shortest, a Answer[T]) {
	if a.Outcome != Unasked && a.Outcome != Failed {
		s.add(a.TTL)
	}
}
