package lint

import (
	"fmt"
	"strings"
	"time"

	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
)

// soon is how long before the end of a signature or certificate it is worth a word:
// signers renew some days before, certificates are renewed weeks before.
const (
	signatureSoon   = 2 * 24 * time.Hour
	certificateSoon = 14 * 24 * time.Hour
)

// report is a list of findings being written.
type report struct {
	*Evidence
	findings []Finding
}

// Check looks at the evidence. The findings come in the order of their severity, and in
// that of the things looked at.
func Check(e Evidence) []Finding {
	r := &report{Evidence: &e}
	if !r.mx() {
		return order(r.findings)
	}
	for i := range r.Facts.Hosts {
		r.host(&r.Facts.Hosts[i])
	}
	r.signatures()
	r.dane()
	r.sts()
	r.reports()
	r.prefix()
	r.strict()
	r.probes()
	return order(r.findings)
}

// say adds a finding with its usual severity.
func (r *report) say(c Code, subject, format string, args ...any) {
	r.add(Kinds()[c].Severity, c, subject, format, args...)
}

func (r *report) add(s Severity, c Code, subject, format string, args ...any) {
	r.findings = append(r.findings, Finding{Code: c, Severity: s, Subject: subject, Detail: fmt.Sprintf(format, args...)})
}

// fails adds a finding about a lookup that failed. Where the fault is not the domain's,
// nothing is known of it.
func (r *report) fails(c Code, subject string, f *verdict.Failure, detail string) {
	severity := Kinds()[c].Severity
	if f.Fault != verdict.Remote {
		severity = Unknown
	}
	r.add(severity, c, subject, "%s", detail)
}

func (r *report) domain() string { return r.Facts.Destination.Name }

// mx reads the MX answer and reports whether there is anything behind it to look at.
func (r *report) mx() bool {
	mx := &r.Facts.MX
	switch {
	case r.Facts.Destination.Host:
		return true
	case mx.Broken() && mx.Proof == verdict.Bogus:
		r.say(MXBogus, r.domain(), "%s", broken(mx))
		return false
	case mx.Broken():
		r.fails(MXFailed, r.domain(), mx.Failure, mx.Failure.Detail)
		return false
	case mx.Outcome == verdict.NXDomain:
		r.say(NoSuchDomain, r.domain(), "")
		return false
	case r.Facts.Gone():
		r.say(NullMX, r.domain(), "")
		return false
	case mx.Absent():
		r.say(MXAbsent, r.domain(), "")
	default:
		r.say(MXFound, r.domain(), "%s", hostList(mx.Records))
	}
	switch mx.Proof {
	case verdict.Secure:
		r.say(ZoneSigned, r.domain(), "")
	case verdict.Insecure:
		r.say(ZoneUnsigned, r.domain(), "")
	case verdict.Indeterminate, verdict.Bogus:
		r.say(DNSSECUnproven, r.domain(), "%s", r.Facts.Trouble)
	}
	return true
}

// broken is a failure with the link of the chain where it broke.
func broken[T any](a *verdict.Answer[T]) string {
	detail := a.Failure.Detail
	if a.Trail != nil {
		if steps := a.Trail.Steps(); len(steps) > 1 {
			detail += "; what held last: " + steps[len(steps)-2]
		}
	}
	return detail
}

func hostList(records []verdict.MX) string {
	const most = 5
	var names []string
	for i, mx := range records {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(records)-most))
			break
		}
		names = append(names, fmt.Sprintf("%d %s", mx.Preference, mx.Host))
	}
	return strings.Join(names, ", ")
}

// host looks at the addresses of one host.
func (r *report) host(h *verdict.Host) {
	a := h.Addresses()
	switch {
	case !a.Found && a.Failure != nil && (h.A.Proof == verdict.Bogus || h.AAAA.Proof == verdict.Bogus):
		failed := &h.A
		if failed.Failure == nil {
			failed = &h.AAAA
		}
		r.say(HostBogus, h.Name, "%s", broken(failed))
	case !a.Found && a.Failure != nil:
		r.fails(HostFailed, h.Name, a.Failure, a.Failure.Detail)
	case !a.Found:
		r.say(HostNoAddress, h.Name, "")
	}
	if a.Alias && !r.Facts.Destination.Host && !r.Facts.MX.Absent() {
		r.say(HostAlias, h.Name, "it leads to %s", a.Canonical)
	}
	if a.Found && a.Proof == verdict.Insecure && r.signed() {
		r.say(HostUnsigned, h.Name, "")
	}
}

// signed reports whether the MX records are proven.
func (r *report) signed() bool {
	return !r.Facts.Destination.Host && r.Facts.MX.Proof == verdict.Secure
}

// signatures warns of those that end soon, each once.
func (r *report) signatures() {
	seen := make(map[string]bool)
	for _, t := range r.trails() {
		if t == nil {
			continue
		}
		for _, s := range t.Signatures() {
			left := s.Expires.Sub(r.Facts.Now)
			if left > signatureSoon || seen[s.Subject] {
				continue
			}
			seen[s.Subject] = true
			if left < 0 {
				r.add(Error, SignatureEnds, s.Subject, "it ended %s, %s ago: it is taken only since clocks differ", when(s.Expires), rough(-left))
				continue
			}
			r.say(SignatureEnds, s.Subject, "on %s, in %s", when(s.Expires), rough(left))
		}
	}
}

func (r *report) trails() []verdict.Trail {
	list := []verdict.Trail{r.Facts.MX.Trail}
	for i := range r.Facts.Hosts {
		h := &r.Facts.Hosts[i]
		list = append(list, h.A.Trail, h.AAAA.Trail, h.Link.Trail)
		for j := range h.TLSA {
			list = append(list, h.TLSA[j].Answer.Trail)
		}
	}
	return append(list, r.STS.Record.Trail, r.Reports.Trail, r.Strict.Trail, r.StrictType.Trail)
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// rough says a time as people do.
func rough(d time.Duration) string {
	switch {
	case d < time.Hour:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// prefix looks at the names of the MX hosts.
func (r *report) prefix() {
	with, smtps := 0, false
	for _, h := range r.Facts.Hosts {
		switch signal.ParsePrefix(h.Name) {
		case signal.SMTPS:
			smtps = true
			with++
		case signal.StartTLS:
			with++
		case signal.NoPrefix:
		}
	}
	switch {
	case with == 0:
		return
	case with < len(r.Facts.Hosts):
		r.say(PrefixSomeHosts, r.domain(), "%d of %d", with, len(r.Facts.Hosts))
	case !r.signed():
		r.say(PrefixUnsigned, r.domain(), "")
	default:
		r.say(PrefixOK, r.domain(), "")
	}
	if smtps {
		r.implicit()
	}
}

// implicit looks at the port for implicit TLS of the hosts that promise it.
func (r *report) implicit() {
	for i, h := range r.Facts.Hosts {
		if signal.ParsePrefix(h.Name) != signal.SMTPS || r.Hosts[i].Implicit == nil {
			continue
		}
		p := r.Hosts[i].Implicit
		problem := p.Failure
		if problem == "" {
			problem = p.defect(h.Name, r.Facts.Now)
		}
		if problem != "" {
			r.say(SMTPSNoPort, h.Name, "port %d: %s", p.Port, problem)
			continue
		}
		r.say(SMTPSPort, h.Name, "port %d", p.Port)
	}
}

// prefixed reports whether the prefix is believed, so that certificates matter.
func (r *report) prefixed() bool {
	for _, h := range r.Facts.Hosts {
		if signal.ParsePrefix(h.Name) == signal.NoPrefix {
			return false
		}
	}
	return r.signed() && len(r.Facts.Hosts) > 0
}
