// Package explain tells why a destination is ruled on as it is: as an object, which
// the JSON dialect and "policyd explain --json" print, and as a text for people.
//
//	report := explain.New(explanation)
//	report.WriteText(os.Stdout, explain.Plain, time.Now())
//
// Both show what is answered now, every fact with its DNSSEC status, and every
// reason with its section; the caller adds what each MTA is told (Report.Replies).
// Where a newer look met a failure, so that an earlier verdict is still answered,
// they show both, and the facts and reasons are those of the newer one.
//
// A domain decides how long its lists are. A report shows a bounded part of each
// and counts the rest, so that it can be read, and sent (Report.Fit).
//
// The package decides nothing and looks nothing up.
package explain

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// Report is what is answered of a destination, with everything that it rests on,
// ready for JSON.
type Report struct {
	Destination string `json:"destination"`
	// Verdict is what is answered now: none, encrypt, secure, dane, dane-only,
	// fingerprint, defer, or an override's level.
	Verdict string `json:"verdict"`
	// Source is override, dane, mta-sts, prefix, txt, rr, banner, implicit-tls or none.
	Source string `json:"source"`
	// Match lists the MX names or patterns of a secure verdict, and the SHA-256
	// digests of a fingerprint one, in hexadecimal.
	Match        []string `json:"match,omitempty"`
	MatchLeftOut int      `json:"match_left_out,omitempty"`
	// Expires is when the verdict ends. Zero, and not in the JSON, for a key to
	// which nothing applies.
	Expires time.Time `json:"expires,omitzero"`
	// Fault and Error say whose fault a deferral is, and what failed.
	Fault string `json:"fault,omitempty"`
	Error string `json:"error,omitempty"`
	// Pending is a newer ruling that met a failure, so that it is not answered
	// while the earlier one holds. Reasons and Facts are then those of Pending.
	Pending *Pending `json:"pending,omitempty"`
	// Observed is what would be answered if nothing were only observed; nil where
	// that is the same.
	Observed       *Observed `json:"observed,omitempty"`
	Reasons        []Reason  `json:"reasons"`
	ReasonsLeftOut int       `json:"reasons_left_out,omitempty"`
	// ReasonsOf is "pending" where Reasons and Facts are not those of Verdict;
	// empty otherwise.
	ReasonsOf string `json:"reasons_of,omitempty"`
	Facts     Facts  `json:"facts"`
	// Implicit is of a domain whose MX hosts promise implicit TLS, where that is
	// switched on.
	Implicit *Implicit `json:"implicit_tls,omitempty"`
	// Replies maps a dialect to what its MTA is told.
	Replies map[string]string `json:"replies,omitempty"`
	// GatheredMS is how long the lookups took, in milliseconds.
	GatheredMS int64 `json:"gathered_ms"`
	// Truncated says that lists or texts were cut: each list has a count of what
	// was left out of it, and a text that was cut ends in "...".
	Truncated bool `json:"truncated,omitempty"`
	// Origin is a remark for people on who made the report: "from the daemon at
	// unix:/run/x", or "worked out here, not by a daemon". Set by the command.
	Origin string `json:"origin,omitempty"`
}

// Pending is a ruling that is not answered.
type Pending struct {
	Verdict string `json:"verdict"`
	Source  string `json:"source"`
	// Error says what failed; Fault whose it is, where mail would wait for it.
	Error string `json:"error"`
	Fault string `json:"fault,omitempty"`
}

// Reason is a step to the verdict; the last one is decisive.
type Reason struct {
	Code string `json:"code"`
	// Cite is the section that makes the step count ("RFC 8461 §5"), or
	// "tlsverdict: " and which of this program's own rules does.
	Cite    string `json:"cite"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// Facts is what was learned. What was not asked for is left out.
type Facts struct {
	Override     string `json:"override,omitempty"`
	MX           *MX    `json:"mx,omitempty"`
	Hosts        []Host `json:"hosts,omitempty"`
	HostsLeftOut int    `json:"hosts_left_out,omitempty"`
	STS          *STS   `json:"mta_sts,omitempty"`
	// Strict are the TXT record and the record type, as far as they are on.
	Strict         []StrictRecord `json:"strict,omitempty"`
	Signals        []string       `json:"signals,omitempty"`
	SignalsLeftOut int            `json:"signals_left_out,omitempty"`
	// Chain is how DNSSEC proves the answers above, or where it breaks: one step a
	// line, each once, from the trust anchor down. Empty where a resolver validates.
	Chain        []string `json:"chain,omitempty"`
	ChainLeftOut int      `json:"chain_left_out,omitempty"`
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
	LeftOut int        `json:"left_out,omitempty"`
}

// MXRecord is one of them.
type MXRecord struct {
	Preference uint16 `json:"preference"`
	Host       string `json:"host"`
}

// Host is one host that takes the mail.
type Host struct {
	Name        string  `json:"name"`
	A           Records `json:"a"`
	AAAA        Records `json:"aaaa"`
	CNAME       *Answer `json:"cname,omitempty"`
	TLSA        []TLSA  `json:"tlsa,omitempty"`
	TLSALeftOut int     `json:"tlsa_left_out,omitempty"`
}

// Records is an answer with its records as a zone file writes them.
type Records struct {
	Answer
	Records []string `json:"records,omitempty"`
	LeftOut int      `json:"left_out,omitempty"`
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
	// Settled is false where DANE decided before the lookups ended; Policy is then
	// what was known without them.
	Settled bool     `json:"settled"`
	Record  *Records `json:"record,omitempty"`
	Policy  *Policy  `json:"policy,omitempty"`
	// Error says why no newer policy could be had; Result is its RFC 8460 type.
	Error  string `json:"error,omitempty"`
	Result string `json:"result,omitempty"`
}

// Policy is an MTA-STS policy.
type Policy struct {
	ID        string    `json:"id"`
	Mode      string    `json:"mode"`
	MX        []string  `json:"mx,omitempty"`
	MXLeftOut int       `json:"mx_left_out,omitempty"`
	MaxAge    int64     `json:"max_age"`
	Fetched   time.Time `json:"fetched"`
	Expires   time.Time `json:"expires"`
}

// New makes a report of an explanation, without replies. Long lists and texts are
// cut to what a reader can take in; Fit cuts further.
func New(x *engine.Explanation) *Report {
	r := &Report{
		Destination: x.Facts.Destination.String(),
		Verdict:     x.InForce.Verdict.Name(),
		Source:      x.InForce.Source.String(),
		Match:       match(x.InForce.Verdict),
		Expires:     x.InForce.Until.UTC().Truncate(time.Second),
		Facts:       facts(&x.Facts),
		GatheredMS:  x.Took.Milliseconds(),
	}
	if v, ok := x.InForce.Verdict.(verdict.Defer); ok {
		r.Fault, r.Error = v.Fault.String(), v.Text
	}
	if r.Pending = pending(x); r.Pending != nil {
		r.ReasonsOf = "pending"
	}
	for _, reason := range x.Ruling.Reasons {
		r.Reasons = append(r.Reasons, told(reason))
	}
	r.Observe(x.Ruling.Would, "")
	r.shorten(bounds()[0])
	return r
}

// pending is the ruling, where it is not the one that is answered.
func pending(x *engine.Explanation) *Pending {
	if x.Ruling.Source == x.InForce.Source && reflect.DeepEqual(x.Ruling.Verdict, x.InForce.Verdict) {
		return nil
	}
	p := &Pending{Verdict: x.Ruling.Verdict.Name(), Source: x.Ruling.Source.String()}
	if v, ok := x.Ruling.Verdict.(verdict.Defer); ok {
		p.Fault, p.Error = v.Fault.String(), v.Text
		return p
	}
	// A failure that leads to another verdict than a deferral is only a step.
	for _, reason := range x.Ruling.Reasons {
		if p.Error == "" || failure(reason.Code) {
			p.Error = reason.Subject + ": " + reason.Text()
		}
	}
	return p
}

// failure reports whether a step tells of a lookup that gave no usable answer.
func failure(c verdict.Code) bool {
	switch c {
	case verdict.MXFailed, verdict.MXUnproven, verdict.HostFailed, verdict.HostUnproven,
		verdict.AliasFailed, verdict.TLSAFailed, verdict.STSFailed, verdict.STSBogus, verdict.STSHeld, verdict.BannerFailed:
		return true
	}
	return false
}

// Without makes the report of a key to which nothing applies, so that the MTA's own
// default holds; reason says why nothing applies.
func Without(key string, reason Reason) *Report {
	return &Report{
		Destination: key,
		Verdict:     verdict.NoPolicy{}.Name(),
		Source:      verdict.FromNothing.String(),
		Reasons:     []Reason{reason},
	}
}

// cite is never empty: where no section makes a step count, a rule of this program
// or the operator's word does.
func cite(c verdict.Code) string {
	if section := c.Cite(); section != "" {
		return section
	}
	switch c {
	case verdict.Overridden, verdict.OverrideIgnore:
		return own + ": override"
	case verdict.DNSSECOff, verdict.STSOff:
		return own + ": configuration"
	case verdict.PrefixAll, verdict.PrefixObserved, verdict.PrefixUnsigned, verdict.PrefixMixed:
		return own + ": MX name prefix"
	case verdict.TXTAbsent, verdict.TXTFailed, verdict.TXTUnsigned, verdict.TXTInvalid, verdict.TXTObserved, verdict.TXTEncrypt, verdict.TXTWebPKI:
		return own + ": TXT record"
	case verdict.RRAbsent, verdict.RRFailed, verdict.RRUnsigned, verdict.RRInvalid, verdict.RRObserved, verdict.RREncrypt, verdict.RRWebPKI:
		return own + ": record type"
	case verdict.BannerAll, verdict.BannerObserved, verdict.BannerSome, verdict.BannerFailed:
		return own + ": banner"
	case verdict.DANERaisedTLS:
		return own + ": never weaken one signal by another"
	case verdict.ImplicitPort:
		return own + ": implicit TLS"
	case verdict.Unfinished:
		return own + ": limits"
	case verdict.Nothing:
		return own + ": no signal"
	}
	return own
}

// own begins the citation of a rule that no RFC has.
const own = "tlsverdict"

func match(v verdict.Verdict) []string {
	switch v := v.(type) {
	case verdict.STS:
		return slices.Clone(v.Patterns)
	case verdict.WebPKI:
		return slices.Clone(v.Hosts)
	case verdict.Fingerprint:
		var out []string
		for _, sum := range v.Digests {
			out = append(out, hex.EncodeToString(sum[:]))
		}
		return out
	case verdict.NoPolicy, verdict.DANEOnly, verdict.DANE, verdict.Encrypt, verdict.Fixed, verdict.Defer:
		return nil
	}
	panic(fmt.Sprintf("explain: a verdict of type %T", v))
}

func facts(f *verdict.Facts) Facts {
	out := Facts{STS: sts(f), Strict: strict(f), Signals: signals(f), Chain: chain(f)}
	if f.Override != nil {
		out.Override = f.Override.Reason
		if out.Override == "" {
			out.Override = "no reason given"
		}
	}
	if f.MX.Outcome != verdict.Unasked {
		out.MX = &MX{Answer: answer(f.MX)}
		for _, mx := range f.MX.Records {
			out.MX.Records = append(out.MX.Records, MXRecord{mx.Preference, mx.Host})
		}
	}
	for i := range f.Hosts {
		out.Hosts = append(out.Hosts, host(&f.Hosts[i]))
	}
	return out
}

// chain joins the proofs of all answers. A step that several need is told once.
func chain(f *verdict.Facts) []string {
	var steps []string
	told := make(map[string]bool)
	tell := func(t verdict.Trail) {
		if t == nil {
			return
		}
		for _, step := range t.Steps() {
			if !told[step] {
				told[step] = true
				steps = append(steps, step)
			}
		}
	}
	tell(f.MX.Trail)
	for i := range f.Hosts {
		h := &f.Hosts[i]
		tell(h.A.Trail)
		tell(h.AAAA.Trail)
		tell(h.Link.Trail)
		for _, l := range h.TLSA {
			tell(l.Answer.Trail)
		}
	}
	tell(f.STS.Record.Trail)
	tell(f.TXT.Trail)
	tell(f.RR.Trail)
	return steps
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
	for _, r := range a.Records {
		out.Records = append(out.Records, spell(r))
	}
	return out
}

func sts(f *verdict.Facts) *STS {
	s := &f.STS
	if !s.Settled && s.Record.Outcome == verdict.Unasked && s.Policy == nil {
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
	for _, pattern := range c.Policy.MX {
		p.MX = append(p.MX, pattern.String())
	}
	return p
}

// signals names the signals seen that no standard defines, believed or not.
func signals(f *verdict.Facts) []string {
	var out []string
	for _, mx := range f.MX.Records {
		if p := signal.ParsePrefix(mx.Host); p != signal.NoPrefix {
			out = append(out, "prefix "+p.String()+" "+mx.Host)
		}
	}
	for _, p := range f.Pins {
		if f.Now.Before(p.Until) {
			out = append(out, strings.TrimSpace("banner "+p.Host+" pinned until "+p.Until.UTC().Format(time.RFC3339)+" "+p.Banner))
		}
	}
	return out
}
