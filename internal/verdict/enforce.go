package verdict

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"tlsverdict/internal/tlsa"
)

// What DANE asks is enforced by the MTA, which looks TLSA records up again and
// believes its own resolver. Where that one does not validate, "dane-only" would
// hold up all mail, and "dane" would be no policy at all. What can then be said
// without DNS is the digest of a key: DANE-EE asks for nothing else (RFC 7671 §5.1).
//
// The rule for all that follows: no host is held to less than a validating MTA
// would hold it to, and where that cannot be said in one line, mail waits. Behind
// unsigned MX records, where DANE is a choice of the sender (RFC 7672 §2.2.1), it is
// given up instead.

// wayOut is what the operator can do; Postfix logs 200 bytes of a reason.
const wayOut = `give the mail server a validating resolver on this host ([postfix] dane = "native"), or write an [[override]]`

// native reports whether the MTA looks TLSA records up itself.
func (d *decision) native() bool {
	d.byEnforcement = true
	return d.f.Rules.DANE == Native
}

// onlyDANE is for where only hosts with usable TLSA records may be used.
func (d *decision) onlyDANE(t *tally) (Verdict, Source) {
	if d.native() {
		return DANEOnly{}, FromDANE
	}
	if obstacle := d.unwritable(t); obstacle != "" {
		return d.impossible(obstacle)
	}
	return d.fingerprints(t)
}

// eachDANE is for where every host is held to its own TLSA records, if it has any.
// One line cannot say that. Where no host has usable records, and all that is
// known, "encrypt" says all that those with unusable ones ask for, and more than
// the others do. This departs from RFC 7672 §2.2, which leaves these opportunistic.
func (d *decision) eachDANE(t *tally) (Verdict, Source) {
	switch {
	case d.native():
		return DANE{Hosts: d.holders(t)}, FromDANE
	case t.of(usable) == 0 && t.hidden() < 0:
		d.say(EncryptAll, d.name(), "")
		return Encrypt{}, FromDANE
	}
	if obstacle := d.unwritable(t); obstacle != "" {
		return d.impossible(obstacle)
	}
	if t.of(usable) == 0 {
		return d.hiding(t.hidden(), t)
	}
	return d.impossible(t.exception(d.f.Hosts))
}

// holders are the names of the hosts that have usable records.
func (d *decision) holders(t *tally) []string {
	var out []string
	for i, j := range t.hosts {
		if j.class == usable {
			out = append(out, d.f.Hosts[i].Name)
		}
	}
	return out
}

// hiding is the deferral for a host whose failed lookups may hide TLSA records, where
// no digest of another host keeps it from being used as if it had none. It departs from
// RFC 7672 §2.1.2, by which the other hosts would be used: a validating MTA finds out for
// each, this one waits for whoever can mend the lookup.
func (d *decision) hiding(host int, t *tally) (Verdict, Source) {
	what := d.f.Hosts[host].Name + " may have TLSA records that could not be looked up"
	f := t.hosts[host].failure
	d.say(DANEHidden, d.f.Hosts[host].Name, f.Detail)
	v := d.failed(what, f)
	v.Text += "; with a validating resolver the mail server could use the other hosts"
	return v, FromDANE
}

// optionalDANE is for hosts behind unsigned MX records, some of which have TLSA
// records or may have. RFC 7672 §2.2.1 leaves it to the sender whether DANE is used
// there; what cannot be written is not demanded, and mail need not wait. A host
// without TLSA records would become useless by what the others are held to.
func (d *decision) optionalDANE(t *tally) (Verdict, Source) {
	switch {
	case d.native():
		d.say(DANEInsecureMX, d.name(), "")
		return DANE{Hosts: d.holders(t)}, FromDANE
	case t.of(plain) > 0:
		d.say(InsecureUnused, d.name(), "")
		return nil, FromNothing
	case t.of(usable, unusable) == 0:
		// What the failed lookups hide may be a demand.
		d.say(NoHostLeft, d.name(), "")
		return d.failed("no MX host of "+d.name()+" can be judged", t.failure()), FromDANE
	case t.of(unusable) > 0 || d.unwritable(t) != "":
		d.say(InsecureEncrypt, d.name(), "")
		return Encrypt{}, FromDANE
	}
	d.say(DANEInsecureMX, d.name(), "")
	return d.fingerprints(t)
}

// unwritable names what cannot be written of the hosts that have usable records,
// or "". A reason is given for each such host.
func (d *decision) unwritable(t *tally) string {
	first, all := "", make(map[[sha256.Size]byte]bool)
	for i, j := range t.hosts {
		if j.class != usable {
			continue
		}
		sums := digests(j.records)
		for _, sum := range sums {
			all[sum] = true
		}
		if len(sums) > 0 {
			continue
		}
		forms := forms(j.records)
		d.say(TLSAUnwritable, d.f.Hosts[i].Name, forms)
		if first == "" {
			first = "TLSA " + forms + " of " + d.f.Hosts[i].Name + " has no fingerprint"
		}
	}
	if first == "" && len(all) > MaxDigests {
		return fmt.Sprintf("%d different TLSA records are more than the %d that are written", len(all), MaxDigests)
	}
	return first
}

// fingerprints writes the records of all hosts that have usable ones, each digest
// once. A host whose lookups failed adds none: it is held to the keys of the
// others, which leaves it unused, as RFC 7672 §2.1.2 wants it.
func (d *decision) fingerprints(t *tally) (Verdict, Source) {
	var v Fingerprint
	seen := make(map[[sha256.Size]byte]bool)
	for _, j := range t.hosts {
		if j.class != usable {
			continue
		}
		for _, sum := range digests(j.records) {
			if !seen[sum] {
				seen[sum] = true
				v.Digests = append(v.Digests, sum)
			}
		}
	}
	d.say(Fingerprints, d.name(), "")
	return v, FromDANE
}

// impossible is the deferral that a validating resolver for the MTA would mend. It
// departs from RFC 7672 §2.2, by which such mail could be delivered, since the MTA
// cannot be made to. It is no failure: it holds as long as what it rests on, or
// until the MTA has such a resolver.
func (d *decision) impossible(obstacle string) (Verdict, Source) {
	d.unwritten = true
	text := obstacle + ": " + wayOut
	d.say(NoFingerprints, d.name(), text)
	return Defer{Fault: Operator, Text: text}, FromDANE
}

// exception says which host, beside others with usable records, keeps a line of digests from being right for all.
func (t *tally) exception(hosts []Host) string {
	for i, j := range t.hosts {
		switch j.class {
		case plain, unusable:
			return hosts[i].Name + " has no usable TLSA records, other hosts have"
		case usable, gone, unreachable, uncertain:
		}
	}
	panic("verdict: all hosts are alike")
}

// digests returns those of the records that have one, sorted, so that the order in
// which a name server sends records makes no difference. That of several records
// only some can be written is no obstacle: each of them is enough to the server's
// owner (RFC 7671 §8). It departs from RFC 7671 §9, which has a client use the
// strongest digest only: SHA-256 is used beside SHA-512, as an MTA would that has no
// SHA-512.
func digests(records []tlsa.Record) [][sha256.Size]byte {
	var out [][sha256.Size]byte
	for _, r := range records {
		if sum, ok := r.Fingerprint(); ok {
			out = append(out, sum)
		}
	}
	slices.SortFunc(out, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(out)
}

// forms names the kinds of the usable records, each once: "2 1 1, 3 1 2".
func forms(records []tlsa.Record) string {
	var out []string
	for _, r := range records {
		form := fmt.Sprintf("%d %d %d", r.Usage, r.Selector, r.Matching)
		if r.Usable() && !slices.Contains(out, form) {
			out = append(out, form)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
