package impact

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"tlsverdict/internal/maillog"
)

// Report is the whole answer.
type Report struct {
	Made  time.Time `json:"made"`
	Lines int64     `json:"lines"`
	// Remarks say what in the log keeps this report from saying more, and what to do.
	Remarks []string `json:"remarks,omitempty"`
	Sum     Row      `json:"sum"`
	// Rows are the domains: where most mail would wait first, then by how much they got.
	Rows []Row `json:"domains"`
	// Unruled is how many domains no verdict was asked for.
	Unruled int `json:"unruled"`
}

// NewReport puts rows together. made is the time of the report.
func NewReport(rows []Row, totals maillog.Totals, made time.Time) Report {
	r := Report{Made: made.UTC().Truncate(time.Second), Lines: totals.Lines, Remarks: remarks(totals), Rows: rows}
	slices.SortStableFunc(r.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Wait, a.Wait), cmp.Compare(b.found(), a.found()), cmp.Compare(b.Unknown, a.Unknown), cmp.Compare(b.Sent, a.Sent), strings.Compare(a.Domain, b.Domain))
	})
	r.Sum.Domain = "all"
	for _, row := range rows {
		if row.Verdict == "" {
			r.Unruled++
		}
		r.Sum.Sent += row.Sent
		r.Sum.Clear += row.Clear
		r.Sum.Encrypted += row.Encrypted
		r.Sum.Trusted += row.Trusted
		r.Sum.Verified += row.Verified
		r.Sum.Unlogged += row.Unlogged
		r.Sum.Deferred += row.Deferred
		r.Sum.Bounced += row.Bounced
		r.Sum.Pass += row.Pass
		r.Sum.Likely += row.Likely
		r.Sum.Wait += row.Wait
		r.Sum.Unknown += row.Unknown
	}
	return r
}

// found is how much mail went to hosts that a probe has found bad since.
func (r *Row) found() int64 {
	if r.Now == Bad {
		return r.Sent
	}
	return 0
}

func remarks(totals maillog.Totals) []string {
	var list []string
	some := false
	for i, n := range totals.Deliveries {
		if n == 0 {
			continue
		}
		some = true
		server := maillog.Server(i)
		switch {
		case !totals.TLSLogged[i] && server == maillog.Postfix:
			list = append(list, "Postfix logs nothing of TLS: set smtp_tls_loglevel = 1, and come back when some mail was sent")
		case !totals.TLSLogged[i] && server == maillog.Exim:
			list = append(list, "Exim logs nothing of TLS: add +tls_cipher +tls_certificate_verified to log_selector, and come back when some mail was sent")
		case !totals.TLSLogged[i]:
			list = append(list, "Sendmail logs nothing of TLS: confLOG_LEVEL must be 9 or more")
		case !totals.Checked[i] && server == maillog.Postfix:
			list = append(list, "Postfix recognized no certificate: set smtp_tls_CAfile, without which MTA-STS and the prefix cannot be enforced")
		case !totals.Checked[i]:
			list = append(list, server.String()+" recognized no certificate: it may know no certificate authorities")
		}
	}
	if !some {
		list = append(list, "no delivery to another host was found: is this the log of Postfix, Exim or Sendmail?")
	}
	if totals.Cut > 0 {
		list = append(list, fmt.Sprintf("%d lines were too long and were cut", totals.Cut))
	}
	return list
}

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteCSV writes one line a domain, after one with the names of the columns.
func (r Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if err := out.Write([]string{
		"domain", "sent", "clear", "encrypted", "trusted", "verified", "unlogged", "deferred", "bounced",
		"verdict", "source", "pass", "likely", "wait", "unknown", "why", "now", "now_why",
	}); err != nil {
		return err
	}
	for _, row := range r.Rows {
		var line []string
		line = append(line, cell(row.Domain))
		for _, n := range []int64{row.Sent, row.Clear, row.Encrypted, row.Trusted, row.Verified, row.Unlogged, row.Deferred, row.Bounced} {
			line = append(line, strconv.FormatInt(n, 10))
		}
		line = append(line, row.Verdict, row.Source)
		for _, n := range []int64{row.Pass, row.Likely, row.Wait, row.Unknown} {
			line = append(line, strconv.FormatInt(n, 10))
		}
		if err := out.Write(append(line, cell(row.Why), row.Now, cell(row.NowWhy))); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// cell keeps a spreadsheet from taking a text that strangers wrote for a formula.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// WriteText writes a table for people: the domains whose mail would wait, or of which it is
// not known, at most so many of them; 0 is all.
func (r Report) WriteText(w io.Writer, most int) error {
	var b strings.Builder
	s := r.Sum
	fmt.Fprintf(&b, "%d messages to %d domains, from %d lines\n", s.Sent, len(r.Rows), r.Lines)
	for _, remark := range r.Remarks {
		fmt.Fprintf(&b, "NOTE %s\n", remark)
	}
	fmt.Fprintf(&b, "\nhow they went      %s\n", share(s.Sent, part{"verified", s.Verified}, part{"trusted", s.Trusted}, part{"encrypted", s.Encrypted}, part{"clear", s.Clear}, part{"not logged", s.Unlogged}))
	if r.Unruled < len(r.Rows) {
		fmt.Fprintf(&b, "under the verdicts %s\n", share(s.Sent, part{"pass", s.Pass}, part{"likely", s.Likely}, part{"wait", s.Wait}, part{"unknown", s.Unknown}))
	}
	if r.Unruled > 0 {
		fmt.Fprintf(&b, "no verdict was asked for %d domains\n", r.Unruled)
	}
	if most == 0 {
		most = len(r.Rows)
	}
	shown, left := 0, 0
	for _, row := range r.Rows {
		if row.Wait == 0 && row.Now != Bad && (row.Unknown == 0 || row.Verdict == "") {
			continue
		}
		if shown++; shown > most {
			left++
			continue
		}
		if shown == 1 {
			fmt.Fprintf(&b, "\n%-32s %-10s %8s %8s %8s  %s\n", "domain", "verdict", "sent", "wait", "unknown", "why")
		}
		fmt.Fprintf(&b, "%-32s %-10s %8d %8d %8d  %s\n", row.Domain, row.Verdict, row.Sent, row.Wait, row.Unknown, row.Why)
		if row.Now != "" {
			fmt.Fprintf(&b, "%-32s a probe now: %s%s\n", "", row.Now, because(row.NowWhy))
		}
	}
	switch {
	case shown == 0 && s.Sent > 0 && r.Unruled == 0:
		b.WriteString("\nno mail would have waited\n")
	case left > 0:
		fmt.Fprintf(&b, "and %d more: --all, --json, --csv or --html show them\n", left)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ", " + why
}

type part struct {
	name string
	n    int64
}

// share writes parts of a whole, those that are none left out.
func share(whole int64, parts ...part) string {
	var words []string
	for _, p := range parts {
		if p.n > 0 {
			words = append(words, fmt.Sprintf("%d %s (%s)", p.n, p.name, percent(p.n, whole)))
		}
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func percent(n, whole int64) string {
	p := 100 * float64(n) / float64(whole)
	if p > 0 && p < 0.1 {
		return "<0.1 %"
	}
	return fmt.Sprintf("%.1f %%", p)
}
