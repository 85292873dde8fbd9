// Package explain tells why a destination is ruled on as it is: as an object, which
// the JSON dialect and "policyd explain --json" print, and as a text for people.
//
//	report := explain.New(explanation)
//	report.WriteText(os.Stdout, explain.Plain)
//
// Both show every fact with its DNSSEC status, every reason with its section, and
// the verdict; the caller adds what each MTA is told (Report.Replies).
//
// The package decides nothing and looks nothing up.
package explain

import (
	"fmt"
	"net/netip"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// Report is a ruling with everything that it rests on, ready for JSON.
type Report struct {
	Destination string `json:"destination"`
	// Verdict is none, encrypt, secure, dane, dane-only, defer, or an override's level.
	Verdict string `json:"verdict"`
	// Source is override, dane, mta-sts, prefix or none.
	Source string `json:"source"`
	// InForce is the earlier verdict that is still answered, where this one met
	// a failure; Expires is then its end. Empty otherwise.
	InForce string `json:"in_force,omitempty"`
	// Match lists the MX names or patterns of a secure verdict.
	Match   []string  `json:"match,omitempty"`
	Expires time.Time `json:"expires"`
	// Fault and Error say whose fault a deferral is, and what failed.
	Fault   string            `json:"fault,omitempty"`
	Error   string            `json:"error,omitempty"`
	Reasons []Reason          `json:"reasons"`
	Facts   Facts             `json:"facts"`
	Replies map[string]string `json:"replies,omitempty"`
	// GatheredMS is how long the lookups took, in milliseconds.
	GatheredMS int64 `json:"gathered_ms"`
	// Origin is where the ruling comes from: "daemon", or "here" for one worked
	// out by the command itself. Set by the command.
	Origin string `json:"origin,omitempty"`
}

// Reason is a step to the verdict; the last one is decisive.
type Reason struct {
	Code    string `json:"code"`
	Cite    string `json:"cite"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// Facts is what was learned. What was not asked for is left out.
type Facts struct {
	Override string   `json:"override,omitempty"`
	MX       *MX      `json:"mx,omitempty"`
	Hosts    []Host   `json:"hosts,omitempty"`
	STS      *STS     `json:"mta_sts,omitempty"`
	Signals  []string `json:"signals,omitempty"`
}

// Answer is what every DNS answer has in common.
type Answer struct {
	// Status is found, nodata, nxdomain or failed.
	Status string `json:"status"`
	// DNSSEC is secure, insecure, bogus or indeterminate.
	DNSSEC string `json:"dnssec"`
	TTL    int64  `json:"ttl,omitempty"`
	// Alias is the name at the end of the CNAME chain.
	Alias string `json:"alias,omitempty"`
	Error string `json:"error,omitempty"`
}

// MX is the answer for the MX records.
type MX struct {
	Answer
	Records []MXRecord `json:"records,omitempty"`
}

// MXRecord is one of them.
type MXRecord struct {
	Preference uint16 `json:"preference"`
	Host       string `json:"host"`
}

// Host is one host that takes the mail.
type Host struct {
	Name  string  `json:"name"`
	A     Records `json:"a"`
	AAAA  Records `json:"aaaa"`
	CNAME *Answer `json:"cname,omitempty"`
	TLSA  []TLSA  `json:"tlsa,omitempty"`
}

// Records is an answer with its records as a zone file writes them.
type Records struct {
	Answer
	Records []string `json:"records,omitempty"`
}

// TLSA is a TLSA lookup.
type TLSA struct {
	Records
	// Base is the TLSA base domain.
	Base string `json:"base"`
	// Class is none, unusable or usable.
	Class string `json:"class,omitempty"`
}

// STS is what is known of the MTA-STS policy.
type STS struct {
	// Settled is false where DANE decided before the lookups ended.
	Settled bool     `json:"settled"`
	Record  *Records `json:"record,omitempty"`
	Policy  *Policy  `json:"policy,omitempty"`
	// Error says why no newer policy could be had; Result is its RFC 8460 type.
	Error  string `json:"error,omitempty"`
	Result string `json:"result,omitempty"`
}

// Policy is an MTA-STS policy.
type Policy struct {
	ID      string    `json:"id"`
	Mode    string    `json:"mode"`
	MX      []string  `json:"mx,omitempty"`
	MaxAge  int64     `json:"max_age"`
	Fetched time.Time `json:"fetched"`
	Expires time.Time `json:"expires"`
}

// maxListed bounds the patterns and records shown; a report must fit in a
// socketmap reply.
const maxListed = 50

// New makes a report of an explanation, without replies.
func New(x *engine.Explanation) *Report {
	r := &Report{
		Destination: x.Facts.Destination.String(),
		Verdict:     x.Ruling.Verdict.Name(),
		Source:      x.Ruling.Source.String(),
		Match:       match(x.Ruling.Verdict),
		Expires:     x.InForce.Until.UTC().Truncate(time.Second),
		Facts:       facts(&x.Facts),
		GatheredMS:  x.Took.Milliseconds(),
	}
	if x.InForce.Verdict != nil && x.InForce.Verdict.Name() != r.Verdict {
		r.InForce = x.InForce.Verdict.Name()
	}
	if v, ok := x.Ruling.Verdict.(verdict.Defer); ok {
		r.Fault, r.Error = v.Fault.String(), v.Text
	}
	for _, reason := range x.Ruling.Reasons {
		r.Reasons = append(r.Reasons, Reason{Code: string(reason.Code), Cite: reason.Code.Cite(), Subject: reason.Subject, Text: reason.Text()})
	}
	return r
}

func match(v verdict.Verdict) []string {
	switch v := v.(type) {
	case verdict.STS:
		return clip(v.Patterns)
	case verdict.WebPKI:
		return clip(v.Hosts)
	case verdict.NoPolicy, verdict.DANEOnly, verdict.DANE, verdict.Encrypt, verdict.Fixed, verdict.Defer:
		return nil
	}
	panic(fmt.Sprintf("explain: a verdict of type %T", v))
}

func clip(list []string) []string {
	return list[:min(len(list), maxListed)]
}

func facts(f *verdict.Facts) Facts {
	out := Facts{STS: sts(f), Signals: signals(f)}
	if f.Override != nil {
		out.Override = f.Override.Reason
		if out.Override == "" {
			out.Override = "no reason given"
		}
	}
	if f.MX.Outcome != verdict.Unasked {
		out.MX = &MX{Answer: answer(f.MX)}
		for _, mx := range f.MX.Records[:min(len(f.MX.Records), maxListed)] {
			out.MX.Records = append(out.MX.Records, MXRecord{mx.Preference, mx.Host})
		}
	}
	for i := range f.Hosts {
		out.Hosts = append(out.Hosts, host(&f.Hosts[i]))
	}
	return out
}

func answer[T any](a verdict.Answer[T]) Answer {
	out := Answer{Status: a.Outcome.String(), DNSSEC: a.Proof.String(), TTL: int64(a.TTL.Seconds()), Alias: a.Canonical}
	if a.Failure != nil {
		out.Error = a.Failure.Detail
	}
	return out
}

func host(h *verdict.Host) Host {
	out := Host{Name: h.Name, A: records(h.A, netip.Addr.String), AAAA: records(h.AAAA, netip.Addr.String)}
	if h.Link.Outcome != verdict.Unasked {
		link := answer(h.Link)
		out.CNAME = &link
	}
	for _, l := range h.TLSA {
		t := TLSA{Base: l.Base, Records: records(l.Answer, tlsa.Record.String)}
		if l.Answer.Outcome == verdict.Found {
			t.Class = tlsa.Classify(l.Answer.Records).String()
		}
		out.TLSA = append(out.TLSA, t)
	}
	return out
}

func records[T any](a verdict.Answer[T], spell func(T) string) Records {
	out := Records{Answer: answer(a)}
	for _, r := range a.Records[:min(len(a.Records), maxListed)] {
		out.Records = append(out.Records, spell(r))
	}
	return out
}

func sts(f *verdict.Facts) *STS {
	s := &f.STS
	if !s.Settled && s.Record.Outcome == verdict.Unasked {
		if f.Rules.STS == verdict.Off || f.Override != nil {
			return nil
		}
		return &STS{}
	}
	out := &STS{Settled: s.Settled}
	if s.Record.Outcome != verdict.Unasked {
		r := records(s.Record, func(txt string) string { return txt })
		out.Record = &r
	}
	if s.Policy != nil {
		out.Policy = policy(s.Policy)
	}
	if s.Failure != nil {
		out.Error, out.Result = s.Failure.Detail, s.Failure.Result
	}
	return out
}

func policy(c *mtasts.Cached) *Policy {
	p := &Policy{
		ID: c.ID, Mode: c.Policy.Mode.String(), MaxAge: int64(c.Policy.MaxAge.Seconds()),
		Fetched: c.Fetched.UTC().Truncate(time.Second), Expires: c.Expires().UTC().Truncate(time.Second),
	}
	for _, pattern := range c.Policy.MX[:min(len(c.Policy.MX), maxListed)] {
		p.MX = append(p.MX, pattern.String())
	}
	return p
}

// signals names the signals seen that no standard defines, believed or not.
func signals(f *verdict.Facts) []string {
	var out []string
	for _, mx := range f.MX.Records[:min(len(f.MX.Records), maxListed)] {
		if p := signal.ParsePrefix(mx.Host); p != signal.NoPrefix {
			out = append(out, "prefix "+p.String()+" "+mx.Host)
		}
	}
	return out
}
