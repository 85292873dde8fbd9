package status

import (
	"fmt"
	"html/template"
	"strconv"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/verdict"
)

// view is what the template is given.
type view struct {
	*Snapshot
	// Explaining: it is the page of an explanation. Asked is what stands in the box,
	// Report what was found, and Problem why nothing was.
	Explaining bool
	Asked      string
	Report     *explain.Report
	Problem    string
}

// rows is how many rows of a list the page shows.
const rows = 100

// words are the functions of the template.
func words() template.FuncMap {
	return template.FuncMap{
		"count": func(n any) string { return grouped(number(n)) }, "plural": func(n any, what string) string { return plural(number(n), what) },
		"percent": percent, "span": span, "party": party, "iso": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock": func(t time.Time) string { return t.UTC().Format("15:04:05") }, "date": func(t time.Time) string { return t.UTC().Format("2006-01-02") },
		"cut": cut,
	}
}

// number takes any of the integers of a snapshot.
func number(n any) uint64 {
	switch n := n.(type) {
	case uint64:
		return n
	case int:
		return uint64(max(n, 0))
	case int64:
		return uint64(max(n, 0))
	}
	panic(fmt.Sprintf("status: %T is no number", n))
}

// grouped writes 1234567 as "1,234,567".
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(n) + " " + what
}

// percent is a part of a whole: "12 %"; a small one that is not 0 is "< 1 %".
func percent(part, whole uint64) string {
	switch {
	case part == 0 || whole == 0:
		return "0 %"
	case part*100 < whole:
		return "< 1 %"
	case part < whole && part*100 > whole*99:
		return "> 99 %"
	}
	return strconv.FormatUint((part*200+whole)/(whole*2), 10) + " %"
}

// span writes a length of time to one unit, or two where it is short: "4 min",
// "3 h 20 min", "12 days".
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 48*time.Hour:
		if m := int(d / time.Minute % 60); m > 0 {
			return fmt.Sprintf("%d h %d min", d/time.Hour, m)
		}
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// cut shortens a text that others wrote.
func cut(s string) string {
	const most = 300
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return s
}

// party names whose fault something is, to the reader of the page.
func party(fault string) string {
	switch fault {
	case verdict.Remote.String():
		return "the remote side"
	case verdict.Operator.String():
		return "you, on this host"
	case "":
		return "unknown"
	}
	return "tlsverdict, or its limits"
}

// told is a reply of a report: Asker is the map, and who asks it where the name does not
// say.
type told struct{ Asker, Reply string }

// Replies are those of the report, those of one mail server together.
func (v view) Replies() []told {
	askers := []struct{ name, asker string }{
		{"postfix", "postfix"},
		{"postfix-tlsrpt", "postfix-tlsrpt"},
		{"transport", "transport (Postfix)"},
		{"sts", "sts (Sendmail)"},
		{"tls", "tls (Sendmail)"},
		{"exim", "exim"},
	}
	var out []told
	for _, a := range askers {
		if reply, ok := v.Report.Replies[a.name]; ok {
			out = append(out, told{a.asker, reply})
		}
	}
	return out
}

// Ago is how long before the snapshot something was.
func (v view) Ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if d := v.Time.Sub(t); d >= 2*time.Second {
		return span(d) + " ago"
	}
	return "now"
}

// In is how long after the snapshot something is, or that it is over.
func (v view) In(t time.Time) string {
	if d := t.Sub(v.Time); d > 0 {
		return "in " + span(d)
	}
	return v.Ago(t)
}

// Up is for how long policyd has run.
func (v view) Up() string { return span(v.Time.Sub(v.Started)) }

// Charts are the two plots.
func (v view) Charts() []chart {
	return []chart{plot("hour", "Last hour", v.Hour), plot("day", "Last day", v.Day)}
}

// kindRow is a row of the table below the plots.
type kindRow struct {
	Kind      Kind
	Hour, Day uint64
}

// Kinds are the kinds, strictest first.
func (v view) Kinds() []kindRow {
	out := make([]kindRow, kinds)
	for k := range out {
		out[k] = kindRow{Kind(k), v.Hour.Total[k], v.Day.Total[k]}
	}
	return out
}

// group are the deferrals that one reason decided.
type group struct {
	Reason, Fault string
	List          []Deferral
}

// Groups are the deferrals by reason, the newest first.
func (v view) Groups() []group {
	var out []group
	place := make(map[[2]string]int)
	for _, d := range v.Deferrals[:min(len(v.Deferrals), rows)] {
		key := [2]string{d.Reason, d.Fault}
		i, ok := place[key]
		if !ok {
			i = len(out)
			place[key] = i
			out = append(out, group{Reason: d.Reason, Fault: d.Fault})
		}
		out[i].List = append(out[i].List, d)
	}
	return out
}

// quiet is after how long without a question no mail waits any more, most likely: as mail
// servers come, Postfix tries again after 67 minutes at most, Sendmail after an hour, and
// Exim after six.
const quiet = 8 * time.Hour

// State is what becomes of a destination's mail now.
func (v view) State(d Deferral) string {
	switch {
	case !d.Over.IsZero():
		return "passes"
	case v.Time.Sub(d.Last) > quiet:
		return "not asked"
	}
	return "waits"
}

// Waiting is how many destinations mail waits for.
func (v view) Waiting() int {
	n := 0
	for _, d := range v.Deferrals {
		if v.State(d) == "waits" {
			n++
		}
	}
	return n
}

// NotShown is how many of a list the page leaves out.
func (v view) NotShown(n int) int { return max(0, n-rows) }

// FirstChanges returns the rows that the page shows.
func (v view) FirstChanges() []Change { return v.Changes.List[:min(len(v.Changes.List), rows)] }

// Stale reports whether the policies were looked at too long ago to trust.
func (v view) Stale() bool { return v.Time.Sub(v.Policies.Checked) > 5*time.Minute }

// concern is something that a postmaster should look at.
type concern struct {
	Text string
	// Where is the part of the page that has more.
	Where string
}

// Concerns are what is not as it should be, the worst first.
func (v view) Concerns() []concern {
	var out []concern
	add := func(wrong bool, where, format string, args ...any) {
		if wrong {
			out = append(out, concern{fmt.Sprintf(format, args...), where})
		}
	}
	d := v.DNSSEC
	off := d.Mode == "off"
	add(!d.Works && !off && d.Checked.IsZero(), "dnssec", "The resolvers have not been tried yet.")
	add(!d.Works && !off && !d.Checked.IsZero(), "dnssec", "DNSSEC proves nothing here: mail waits, unless an MTA-STS policy decides.")
	add(off, "dnssec", "DNSSEC is switched off: no DANE, and MTA-STS only.")
	add(v.Observe, "verdicts", "Observing only: mail servers are told of no policy.")
	sick := 0
	for _, u := range v.Upstreams {
		if u.Problem != "" {
			sick++
		}
	}
	add(d.Works && sick > 0, "dnssec", "%s of %d cannot be relied on.", plural(uint64(sick), "resolver"), len(v.Upstreams))
	add(len(d.Warnings) > 0, "dnssec", "The trust anchors need attention.")
	add(!v.Store.Durable && !v.Store.Memory, "store", "The store cannot be written: a restart would forget policies.")
	mine := 0
	for _, x := range v.Deferrals {
		if v.State(x) == "waits" && x.Fault != verdict.Remote.String() {
			mine++
		}
	}
	add(mine > 0, "deferrals", "Mail to %s waits for something on this host.", plural(uint64(mine), "destination"))
	down := v.Changes.Downgrades
	add(down > 0, "changes", "%s in the last day: less is demanded than before.", plural(uint64(down), "downgrade"))
	add(v.Policies.Failing > 0, "policies", "%s could not be fetched again.", policies(v.Policies.Failing))
	add(v.Cache.Panics > 0, "cache", "A defect in tlsverdict spoiled %s; the log has more.", plural(v.Cache.Panics, "ruling"))
	return out
}

func policies(n int) string {
	if n == 1 {
		return "1 MTA-STS policy"
	}
	return grouped(uint64(n)) + " MTA-STS policies"
}

// HitRate is the part of the questions that were answered at once.
func (c Cache) HitRate() string { return percent(c.Hits, c.Hits+c.Misses) }

// Status says what a resolver is good for.
func (u Upstream) Status() string {
	switch {
	case u.Checked.IsZero():
		return "not tried yet"
	case !u.Answers:
		return "does not answer"
	case !u.Validates:
		return "answers, proves nothing"
	}
	return "works"
}
