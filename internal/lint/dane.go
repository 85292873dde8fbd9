package lint

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// dane looks at the TLSA records of every host.
func (r *report) dane() {
	with, without, unknown := 0, 0, 0
	for i := range r.Facts.Hosts {
		h, more := &r.Facts.Hosts[i], &r.Hosts[i]
		set, secure := r.records(h, more)
		r.misplaced(h, more, len(set) > 0)
		switch {
		case len(set) > 0:
			with++
		case slices.ContainsFunc(h.TLSA, func(l verdict.TLSALookup) bool { return l.Answer.Broken() }):
			unknown++
		case h.Addresses().Found:
			without++
		}
		if secure && len(set) > 0 {
			r.forms(h, set)
			r.match(h, more, set)
		}
	}
	switch {
	case with == 0 && unknown == 0 && r.signed() && without > 0:
		r.say(TLSAAbsent, r.domain(), "")
	case with > 0 && without > 0:
		r.say(TLSASomeHosts, r.domain(), "%d of %d", with, with+without)
	}
}

// records returns the TLSA records that stand for a host, and whether a sender believes
// them. What is wrong with the lookup itself is said here.
func (r *report) records(h *verdict.Host, more *Host) (set []tlsa.Record, secure bool) {
	for i := range h.TLSA {
		l := &h.TLSA[i]
		switch {
		case l.Answer.Broken():
			r.fails(TLSAFailed, "_25._tcp."+l.Base, l.Answer.Failure, broken(&l.Answer))
			return nil, false
		case !l.Answer.Exists():
			continue
		case l.Answer.Proof == verdict.Secure:
			return l.Answer.Records, true
		case l.Answer.Proof == verdict.Insecure:
			r.say(TLSAUnsigned, "_25._tcp."+l.Base, "%s", list(l.Answer.Records))
			return l.Answer.Records, false
		}
	}
	if more.Unsigned.Outcome == verdict.Found && more.Unsigned.Proof != verdict.Indeterminate {
		r.say(TLSAUnsigned, "_25._tcp."+h.Name, "%s", list(more.Unsigned.Records))
		return more.Unsigned.Records, false
	}
	return nil, false
}

func list(records []tlsa.Record) string {
	const most = 4
	var words []string
	for i, record := range records {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(records)-most))
			break
		}
		words = append(words, record.String())
	}
	return strings.Join(words, ", ")
}

// misplaced names the owner names of records that nobody looks for. Beside records in
// the right place they do no harm, and those for the ports of clients may be meant so.
func (r *report) misplaced(h *verdict.Host, more *Host, right bool) {
	for _, m := range more.Misplaced {
		if m.Answer.Outcome != verdict.Found {
			continue
		}
		severity := Warning
		if right && (strings.HasPrefix(m.Owner, "_465.") || strings.HasPrefix(m.Owner, "_587.")) {
			continue
		}
		if right {
			severity = Notice
		}
		r.add(severity, TLSAMisplaced, m.Owner, "for %s senders ask at _25._tcp.%s", h.Name, h.Name)
	}
}

// forms looks at the records themselves.
func (r *report) forms(h *verdict.Host, set []tlsa.Record) {
	usable, lasting := 0, 0
	for _, record := range set {
		defect := record.Defect()
		if defect == "" {
			usable++
			if record.Usage != tlsa.DANEEE || record.Selector == tlsa.SPKI {
				lasting++
			}
			continue
		}
		code, severity := TLSAUnusable, Error
		if record.Usage == tlsa.PKIXTA || record.Usage == tlsa.PKIXEE {
			code = TLSAPKIX
		}
		if tlsa.Classify(set) == tlsa.Usable {
			severity = Warning // the others hold
		}
		r.add(severity, code, h.Name, "%s: %s", record, defect)
	}
	if usable == 0 {
		return
	}
	r.say(TLSAUsable, h.Name, "%s", list(set))
	if lasting == 0 {
		r.say(TLSARenewal, h.Name, "%s", list(set))
	}
}

// match holds the certificate that the host showed against its records.
func (r *report) match(h *verdict.Host, more *Host, set []tlsa.Record) {
	p := more.Port25
	if p == nil || len(p.Chain) == 0 || tlsa.Classify(set) != tlsa.Usable {
		return
	}
	shown := tlsa.Presented{Chain: p.Chain, Names: r.names(h), Now: r.Facts.Now}
	_, err := tlsa.Authenticate(set, shown)
	switch {
	case errors.Is(err, tlsa.ErrAnchor):
		r.say(TLSAAnchor, h.Name, "%v", err)
	case err != nil:
		r.say(TLSAMismatch, h.Name, "%s; the key in use is 3 1 1 %s", list(set), digest(p.Chain[0]))
	default:
		r.say(TLSAMatches, h.Name, "")
		for _, record := range set {
			if _, err := tlsa.Authenticate([]tlsa.Record{record}, shown); err != nil && record.Usable() {
				r.say(TLSALeftover, h.Name, "%s", record)
			}
		}
	}
}

// names are the reference identifiers of a host (RFC 7672 §3.2.2): the TLSA base
// domain, and what the sender began with.
func (r *report) names(h *verdict.Host) []string {
	var names []string
	for i := range h.TLSA {
		if h.TLSA[i].Answer.Outcome == verdict.Found {
			names = append(names, h.TLSA[i].Base)
			break
		}
	}
	return append(names, h.Name, r.domain())
}
