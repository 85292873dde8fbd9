package status

import (
	"fmt"
	"strings"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/verdict"
)

// line is a fact of an explanation.
type line struct {
	// Host: it heads the lines of a host. Indent: it is one of those.
	Host, Indent bool
	Name, Status string
	// Bad: it failed.
	Bad    bool
	Values []string
}

// lines collects them.
type lines []line

// Facts are the lines of the report's facts.
func (v view) Facts() []line {
	f := &v.Report.Facts
	var out lines
	if f.Override != "" {
		out = append(out, line{Name: "override", Values: []string{f.Override}})
	}
	if f.MX != nil {
		var values []string
		for _, mx := range f.MX.Records {
			values = append(values, fmt.Sprintf("%d %s", mx.Preference, orRoot(mx.Host)))
		}
		out.add(line{Name: "MX", Values: more(values, f.MX.LeftOut)}, f.MX.Answer)
	}
	for i := range f.Hosts {
		out.host(&f.Hosts[i])
	}
	out.rest("hosts", f.HostsLeftOut)
	if f.STS != nil {
		out.sts(f.STS)
	}
	for _, s := range f.Strict {
		l := line{Name: strings.ToUpper(s.Signal), Values: more(s.Records.Records, s.LeftOut)}
		if s.Status == verdict.Unasked.String() {
			l.Values = []string{"not waited for"}
			out = append(out, l)
			continue
		}
		out.add(l, s.Answer)
	}
	for _, s := range f.Signals {
		name, rest, _ := strings.Cut(s, " ")
		out = append(out, line{Name: name, Values: []string{rest}})
	}
	out.rest("signals", f.SignalsLeftOut)
	return out
}

// orRoot writes the name of a null MX.
func orRoot(name string) string {
	if name == "" {
		return "."
	}
	return name
}

// more adds how many values are not shown.
func more(values []string, leftOut int) []string {
	if leftOut == 0 {
		return values
	}
	return append(values[:len(values):len(values)], fmt.Sprintf("and %d more", leftOut))
}

// add adds the line of a DNS answer.
func (out *lines) add(l line, a explain.Answer) {
	l.Status = a.DNSSEC
	if a.Status == verdict.Failed.String() {
		l.Status, l.Bad, l.Values = "failed", true, []string{a.Error}
	}
	if len(l.Values) == 0 {
		l.Values = []string{"none"}
		if a.Status == verdict.NXDomain.String() {
			l.Values[0] = "no such name"
		}
	}
	if a.Alias != "" {
		l.Values = append([]string{"alias of " + a.Alias}, l.Values...)
	}
	*out = append(*out, l)
}

func (out *lines) rest(name string, leftOut int) {
	if leftOut > 0 {
		*out = append(*out, line{Name: name, Values: more(nil, leftOut)})
	}
}

func (out *lines) host(h *explain.Host) {
	*out = append(*out, line{Host: true, Name: h.Name})
	out.add(line{Indent: true, Name: "A", Values: more(h.A.Records, h.A.LeftOut)}, h.A.Answer)
	out.add(line{Indent: true, Name: "AAAA", Values: more(h.AAAA.Records, h.AAAA.LeftOut)}, h.AAAA.Answer)
	if h.CNAME != nil {
		out.add(line{Indent: true, Name: "CNAME", Values: []string{"the link itself"}}, *h.CNAME)
	}
	for _, t := range h.TLSA {
		l := line{Indent: true, Name: "TLSA", Values: more(t.Records.Records, t.LeftOut)}
		if t.Class == "unusable" {
			l.Values = append([]string{"not usable:"}, l.Values...)
		}
		if t.Base != h.Name && len(l.Values) > 0 {
			l.Values = append([]string{"at " + t.Base}, l.Values...)
		}
		out.add(l, t.Answer)
	}
	out.rest("TLSA", h.TLSALeftOut)
}

func (out *lines) sts(s *explain.STS) {
	l := line{Name: "MTA-STS"}
	if p := s.Policy; p != nil {
		l.Status = p.Mode
		l.Values = append(more(p.MX, p.MXLeftOut), fmt.Sprintf("id %s, fetched %s, until %s", p.ID, p.Fetched.Format(time.RFC3339), p.Expires.Format(time.RFC3339)))
	}
	switch {
	case !s.Settled && s.Policy == nil:
		l.Values = []string{"not waited for"}
	case s.Policy == nil && s.Error == "":
		l.Values = []string{"no policy"}
	case !s.Settled:
		l.Values = append(l.Values, "known before; a newer one was not waited for")
	}
	if s.Error != "" {
		l.Bad, l.Values = s.Policy == nil, append(l.Values, "failed: "+s.Error)
	}
	*out = append(*out, l)
}

// Shade is the kind whose colour an explained verdict has.
func (v view) Shade() Kind {
	for k := range kinds {
		if k.String() == v.Report.Verdict && v.Report.Source != verdict.FromOverride.String() {
			return k
		}
	}
	return Override
}
