package verdict

import (
	"errors"
	"fmt"

	"tlsverdict/internal/signal"
)

// The TXT record and the record type carry one text (package signal) and are read in one
// way. They only ever raise a verdict, and like DANE they are a promise: a lookup that
// fails is not taken for "none", unless the zone is proven unsigned, where nothing would
// be believed anyway.

// strictRecord is one of the two, with the words for it.
type strictRecord struct {
	source Source
	mode   Mode
	answer *Answer[string]
	parse  func([]string) (signal.Strict, error)
	// at is where it is looked for.
	at    string
	codes recordCodes
}

// recordCodes are the reasons that speak of a record.
type recordCodes struct {
	absent, failed, unsigned, invalid, observed, encrypt, webpki Code
}

func (f *Facts) txtRecord() *strictRecord {
	return &strictRecord{
		source: FromTXT, mode: f.Rules.TXT, answer: &f.TXT, parse: signal.ParseTXT, at: signal.TXTPrefix + f.Destination.Name,
		codes: recordCodes{TXTAbsent, TXTFailed, TXTUnsigned, TXTInvalid, TXTObserved, TXTEncrypt, TXTWebPKI},
	}
}

func (f *Facts) rrRecord() *strictRecord {
	return &strictRecord{
		source: FromRR, mode: f.Rules.RR, answer: &f.RR, parse: signal.ParseRR,
		at:    fmt.Sprintf("%s TYPE%d", f.Destination.Name, f.Rules.RRType),
		codes: recordCodes{RRAbsent, RRFailed, RRUnsigned, RRInvalid, RRObserved, RREncrypt, RRWebPKI},
	}
}

// finding is a record that was read: what it demands, and the reason.
type finding struct {
	verdict Verdict
	source  Source
	reason  Reason
}

// records returns what the two demand together: the stricter of them.
func (d *decision) records() (Verdict, Source) {
	if d.f.Rules.TXT == Off && d.f.Rules.RR == Off {
		return nil, FromNothing
	}
	if d.f.Rules.WithoutDNSSEC || d.f.unprovenHost() || !d.f.Destination.Host && d.f.MX.Proof == Indeterminate {
		return nil, FromNothing
	}
	first := d.read(d.f.txtRecord())
	second := finding{}
	if rr := d.f.rrRecord(); rr.answer.Outcome != Unasked || !authenticates(first.verdict) {
		second = d.read(rr)
	}
	if outranks(second.verdict, first.verdict) {
		first, second = second, first
	}
	// The decisive reason comes last.
	for _, a := range []finding{second, first} {
		if a.reason.Code != "" {
			d.reasons = append(d.reasons, a.reason)
		}
	}
	return first.verdict, first.source
}

// outranks: a certificate is the most that either can demand. Short of that, one that
// could not be looked up may demand it, and mail waits.
func outranks(v, than Verdict) bool {
	rank := func(v Verdict) int {
		switch v.(type) {
		case nil:
			return 0
		case Encrypt:
			return 1
		case Defer:
			return 2
		case WebPKI:
			return 3
		}
		panic(fmt.Sprintf("verdict: a record demands %T", v))
	}
	return rank(v) > rank(than)
}

func authenticates(v Verdict) bool {
	_, ok := v.(WebPKI)
	return ok
}

// read reads one record.
func (d *decision) read(r *strictRecord) finding {
	says := func(v Verdict, c Code, detail string) finding {
		return finding{v, r.source, Reason{c, r.at, detail}}
	}
	switch {
	case r.mode == Off:
		return finding{}
	case r.answer.Outcome == Unasked:
		if r.mode == Enforce && !d.f.unsigned() && d.missing == FromNothing {
			d.missing = r.source
		}
		return finding{}
	case r.answer.Broken():
		return says(d.recordFailed(r, r.answer.Failure), r.codes.failed, r.answer.Failure.Detail)
	case r.answer.Proof == Indeterminate:
		return says(d.recordFailed(r, unvalidated()), r.codes.failed, unvalidated().Detail)
	}
	if r.mode == Enforce && !d.f.unsigned() {
		addAnswer(&d.also, *r.answer)
	}
	strict, err := r.parse(r.answer.Records)
	switch {
	case errors.Is(err, signal.ErrNoRecord):
		return says(nil, r.codes.absent, "")
	case r.answer.Proof != Secure:
		return says(nil, r.codes.unsigned, "")
	case err != nil:
		return says(nil, r.codes.invalid, err.Error())
	case r.mode == Observe:
		return says(nil, r.codes.observed, strict.String())
	}
	v, detail := d.strict(strict)
	if _, ok := v.(Encrypt); ok {
		return says(v, r.codes.encrypt, detail)
	}
	return says(v, r.codes.webpki, detail)
}

// recordFailed is what a record demands that could not be looked up: mail waits, unless
// the record could not count.
func (d *decision) recordFailed(r *strictRecord, f *Failure) Verdict {
	if r.mode != Enforce || d.f.unsigned() {
		return nil
	}
	return d.failed("what "+r.at+" demands is not known", f)
}

// strict is what a believed record demands. auth=webpki is about the names in the MX
// records: whoever can forge these has certificates for his own.
func (d *decision) strict(s signal.Strict) (Verdict, string) {
	switch {
	case s.Auth != signal.WebPKI && s.Unknown == "":
		return Encrypt{}, ""
	case s.Auth != signal.WebPKI:
		return Encrypt{}, "auth=" + s.Unknown + " is not known here"
	case !d.f.Destination.Host && d.f.MX.Proof != Secure:
		return Encrypt{}, "auth=webpki needs signed MX records"
	}
	hosts := writable(d.mxNames())
	if len(hosts) == 0 {
		return Defer{Remote, "no MX name of " + d.name() + " is a host name that a certificate could be for"}, ""
	}
	return WebPKI{Hosts: hosts}, ""
}

// unsigned reports whether the destination's own name is in a zone that is proven
// unsigned, and so all that could be below it. Behind an alias that is not known: the
// alias itself may be signed.
func (f *Facts) unsigned() bool {
	if !f.Destination.Host {
		return f.MX.Proof == Insecure && !f.MX.Alias()
	}
	a := f.Hosts[0].Addresses()
	return a.Unsigned || a.Proof == Insecure && !a.Alias && (a.Found || a.Failure == nil)
}

// Missing returns which record the verdict needs and has not yet: FromTXT, FromRR, or
// FromNothing where Decide can be called. All other facts must be there, as far as
// STSMatters tells.
func Missing(f Facts) Source {
	d := decision{f: &f}
	d.ladder()
	return d.missing
}
