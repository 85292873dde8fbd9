package lint

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
)

// leastMaxAge is the shortest max_age that protects: with a week an attacker who blocks
// the policy host is noticed before it is over (RFC 8461 §3.2 speaks of weeks).
const leastMaxAge = 7 * 24 * time.Hour

// sts looks at the record and the policy.
func (r *report) sts() {
	subject := "_mta-sts." + r.domain()
	record := &r.STS.Record
	switch {
	case record.Outcome == verdict.Unasked:
		return
	case record.Broken():
		r.fails(STSLookup, subject, record.Failure, broken(record))
		return
	case record.Absent():
		r.say(STSAbsent, r.domain(), "")
		return
	}
	if _, err := mtasts.ParseRecord(record.Records); err != nil {
		if errors.Is(err, mtasts.ErrNoRecord) {
			r.say(STSAbsent, r.domain(), "what stands at %s is something else", subject)
			return
		}
		r.say(STSRecord, subject, "%v", err)
	}
	if r.STS.Policy == nil {
		r.noPolicy()
		return
	}
	r.policy(r.STS.Policy)
	if left := r.STS.Expires.Sub(r.Facts.Now); !r.STS.Expires.IsZero() && left < certificateSoon {
		r.say(STSExpires, "mta-sts."+r.domain(), "on %s, in %s", when(r.STS.Expires), rough(left))
	}
}

// noPolicy says why there is none, by the result types of RFC 8460 §4.3.2.2.
func (r *report) noPolicy() {
	code := STSFetch
	switch r.STS.Result {
	case "sts-webpki-invalid":
		code = STSCertificate
	case "sts-policy-invalid":
		code = STSInvalid
	case "":
		return // nobody tried
	}
	r.say(code, "mta-sts."+r.domain(), "%s", r.STS.Failure)
}

func (r *report) policy(p *mtasts.Policy) {
	severity := Error
	switch p.Mode {
	case mtasts.ModeNone:
		r.say(STSNone, r.domain(), "")
		return
	case mtasts.ModeTesting:
		severity = Warning
		r.say(STSTesting, r.domain(), "")
	case mtasts.ModeEnforce:
		r.say(STSEnforced, r.domain(), "max_age %s", rough(p.MaxAge))
	}
	if p.MaxAge < leastMaxAge {
		r.say(STSMaxAge, r.domain(), "%s", rough(p.MaxAge))
	}
	hosts := r.mxNames()
	for _, host := range hosts {
		if !p.Match(host) {
			r.add(severity, STSUnlisted, host, "the policy has %s", patterns(p))
		}
	}
	for _, pattern := range p.MX {
		if !matchesAny(pattern, hosts) {
			r.say(STSUnused, r.domain(), "mx: %s", pattern)
		}
	}
}

func patterns(p *mtasts.Policy) string {
	var words []string
	for _, pattern := range p.MX {
		words = append(words, pattern.String())
	}
	return strings.Join(words, ", ")
}

func matchesAny(p mtasts.Pattern, hosts []string) bool {
	for _, host := range hosts {
		if p.Match(host) {
			return true
		}
	}
	return false
}

// mxNames are the hosts that take the mail, whether they were looked at or not.
func (r *report) mxNames() []string {
	if r.Facts.Destination.Host || r.Facts.MX.Absent() {
		return []string{r.domain()}
	}
	var names []string
	for _, mx := range r.Facts.MX.Records {
		if mx.Host != "" {
			names = append(names, mx.Host)
		}
	}
	return names
}

// reports looks at the record for TLS reports (RFC 8460 §3). Its own grammar is looked
// at as far as a slip is likely: the version, one record, and where reports go.
func (r *report) reports() {
	subject := "_smtp._tls." + r.domain()
	switch a := &r.Reports; {
	case a.Outcome == verdict.Unasked:
		return
	case a.Broken():
		r.say(ReportsFailed, subject, "%s", a.Failure.Detail)
		return
	case a.Absent():
		r.say(ReportsAbsent, r.domain(), "")
		return
	}
	var ours []string
	for _, text := range r.Reports.Records {
		if strings.HasPrefix(text, "v=TLSRPTv1") {
			ours = append(ours, text)
		}
	}
	switch {
	case len(ours) == 0:
		r.say(ReportsRecord, subject, "no record begins with v=TLSRPTv1: %q", r.Reports.Records[0])
	case len(ours) > 1:
		r.say(ReportsRecord, subject, "%d records where one must be", len(ours))
	case !asksForReports(ours[0]):
		r.say(ReportsRecord, subject, "no rua=mailto: or rua=https: in %q", ours[0])
	default:
		r.say(ReportsOK, r.domain(), "")
	}
}

func asksForReports(record string) bool {
	for _, field := range strings.Split(record, ";")[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if strings.TrimSpace(name) != "rua" {
			continue
		}
		for _, uri := range strings.Split(value, ",") {
			uri = strings.ToLower(strings.TrimSpace(uri))
			if strings.HasPrefix(uri, "mailto:") && strings.Contains(uri, "@") || strings.HasPrefix(uri, "https://") {
				return true
			}
		}
	}
	return false
}

// strict looks at the TXT record and the record type of the signals that have no
// standard.
func (r *report) strict() {
	r.strictRecord(signal.TXTPrefix+r.domain(), &r.Strict, signal.ParseTXT)
	r.strictRecord(fmt.Sprintf("%s TYPE%d", r.domain(), r.StrictNumber), &r.StrictType, signal.ParseRR)
}

func (r *report) strictRecord(subject string, a *verdict.Answer[string], parse func([]string) (signal.Strict, error)) {
	if a.Outcome == verdict.Unasked || a.Outcome != verdict.Failed && a.Absent() {
		return
	}
	if a.Broken() {
		// Behind unsigned MX records the record could hardly count: nobody waits for it.
		if r.signed() {
			r.fails(StrictFailed, subject, a.Failure, broken(a))
		}
		return
	}
	s, err := parse(a.Records)
	switch {
	case errors.Is(err, signal.ErrNoRecord):
		return
	case err != nil:
		r.say(StrictRecord, subject, "%v", err)
	case a.Proof != verdict.Secure:
		r.say(StrictUnsigned, subject, "")
	case s.Unknown != "":
		r.say(StrictAuth, subject, "%s", s)
	case s.Auth == signal.WebPKI && !r.signed():
		r.say(StrictAuth, subject, "auth=webpki counts only where the MX records are signed, too")
	default:
		r.say(StrictOK, subject, "%s", s)
	}
}
