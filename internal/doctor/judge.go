package doctor

import (
	"context"
	"time"

	"tlsverdict/internal/finding"
	"tlsverdict/internal/program"
)

// Evidence is what was looked at. The zero value of each part was not looked at.
type Evidence struct {
	// Now is the time that the host has.
	Now     time.Time
	Host    Host
	Policyd Policyd
	MTAs    MTAs
}

// MTAs is what was found of the mail servers.
type MTAs struct {
	// Looked: somebody looked for them at all.
	Looked   bool
	Postfix  Postfix
	Exim     Exim
	Sendmail Sendmail
}

// LookAtMTAs asks each mail server that is on a machine. What cannot be learnt is said
// in the evidence. With a nil probe no resolver is asked.
func LookAtMTAs(ctx context.Context, m program.Machine, probe Prober) MTAs {
	return MTAs{Looked: true, Postfix: lookPostfix(ctx, m, probe), Exim: lookExim(ctx, m, probe), Sendmail: lookSendmail(ctx, m, probe)}
}

// Whom findings are about, beside the mail servers.
const (
	hostSubject    = "this host"
	policydSubject = "policyd"
)

// report is a list of findings being written.
type report struct {
	*Evidence
	// subject is whom the next findings are about.
	subject  string
	findings []Finding
}

// Judge looks at the evidence. The findings come by subject, this host first, and in each
// by their severity.
func Judge(e Evidence) []Finding {
	r := &report{Evidence: &e}
	r.host()
	r.policyd()
	r.postfix()
	r.exim()
	r.sendmail()
	r.mailServer()
	return order(r.findings)
}

// mailServer says so where there is none.
func (r *report) mailServer() {
	for _, f := range r.findings {
		if f.Subject != hostSubject && f.Subject != policydSubject {
			return
		}
	}
	r.subject = hostSubject
	const looked = "postconf, exim4, exim, sendmail"
	if !r.MTAs.Looked {
		r.unseen(HostMTA, looked, "they were not looked for")
		return
	}
	r.wrong(HostMTA, looked, "no mail server was found on this host", words("policyd doctor --root DIRECTORY looks into a container"))
}

// well adds a finding that something is in order: looked at is what, found what stands
// there.
func (r *report) well(c Check, looked, found string) {
	r.add(Finding{Check: c, Severity: finding.OK, Looked: looked, Found: found})
}

// unseen adds a finding that something could not be looked at, and why.
func (r *report) unseen(c Check, looked, because string) {
	r.add(Finding{Check: c, Severity: finding.Unknown, Looked: looked, Found: because})
}

// wrong adds a finding with its usual severity.
func (r *report) wrong(c Check, looked, found, mend string) {
	r.add(Finding{Check: c, Severity: Kinds()[c].Severity, Looked: looked, Found: found, Mend: mend})
}

// add adds a finding about the subject.
func (r *report) add(f Finding) {
	f.Subject = r.subject
	r.findings = append(r.findings, f)
}
