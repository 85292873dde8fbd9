package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
)

// Observed is what would be answered if nothing were only observed: no signal, and not
// policyd as a whole.
type Observed struct {
	Verdict string `json:"verdict"`
	Source  string `json:"source"`
	// Reason is the decisive one.
	Reason       Reason   `json:"reason"`
	Match        []string `json:"match,omitempty"`
	MatchLeftOut int      `json:"match_left_out,omitempty"`
	// Reply is what Postfix would be told. Set by the caller.
	Reply string `json:"reply,omitempty"`
}

// Observe says of a report what would be answered, and by which reply to Postfix. A nil
// would changes nothing.
func (r *Report) Observe(would *verdict.Would, reply string) {
	if would == nil {
		return
	}
	r.Observed = &Observed{
		Verdict: would.Verdict.Name(), Source: would.Source.String(), Reason: told(would.Reason),
		Match: match(would.Verdict), Reply: reply,
	}
	r.shortenObserved(bounds()[0])
}

func told(reason verdict.Reason) Reason {
	return Reason{Code: string(reason.Code), Cite: cite(reason.Code), Subject: reason.Subject, Text: reason.Text()}
}

func (r *Report) shortenObserved(b bound) {
	o := r.Observed
	if o == nil {
		return
	}
	o.Match = shortList(r, o.Match, b.list, &o.MatchLeftOut)
	r.texts(b, o.Match)
	r.text(b, &o.Reason.Subject)
	r.text(b, &o.Reason.Text)
	r.text(b, &o.Reply)
}

// observed tells what would be answered.
func (t *text) observed(o *Observed) {
	if o == nil {
		return
	}
	t.print("  if nothing were only observed: %s", t.paint(yellow, o.Verdict))
	if o.Source != "none" {
		t.print("  by %s", o.Source)
	}
	t.print("  %s\n", t.paint(faint, "("+o.Reason.Text+")"))
	if o.Reply != "" {
		t.print("  Postfix would be told: %s\n", cut(strings.TrimSpace(o.Reply), 300))
	}
}

// StrictRecord is the lookup of a record by which a domain demands strict TLS.
type StrictRecord struct {
	Records
	// Signal is txt or rr, At the name and type that are asked for.
	Signal string `json:"signal"`
	At     string `json:"at"`
}

// strict are the lookups of both records. What is off is left out; what was not waited
// for has the status unasked.
func strict(f *verdict.Facts) []StrictRecord {
	if f.Override != nil || f.Rules.WithoutDNSSEC {
		return nil
	}
	var out []StrictRecord
	if f.Rules.TXT != verdict.Off {
		out = append(out, StrictRecord{
			Signal: "txt", At: signal.TXTPrefix + f.Destination.Name + " TXT", Records: records(f.TXT, strconv.Quote),
		})
	}
	if f.Rules.RR != verdict.Off {
		out = append(out, StrictRecord{
			Signal: "rr", At: fmt.Sprintf("%s TYPE%d", f.Destination.Name, f.Rules.RRType), Records: records(f.RR, rdata),
		})
	}
	return out
}

// rdata writes a record of a type without a name: its text, or else its octets in the
// form of a zone file (RFC 3597 §5).
func rdata(data string) string {
	if text, ok := signal.Text(data); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprintf(`\# %d %x`, len(data), data)
}

func (t *text) strict(s *StrictRecord) {
	name := strings.ToUpper(s.Signal)
	if s.Status == verdict.Unasked.String() {
		t.print("  %-*s  %-*s%s\n", nameWidth, name, statusWidth, "", t.paint(faint, "not waited for"))
		return
	}
	t.line(2, name, s.Answer, more(slices.Clone(s.Records.Records), s.LeftOut))
}
