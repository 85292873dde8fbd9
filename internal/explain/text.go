package explain

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"tlsverdict/internal/verdict"
)

// Style says how a text is marked up.
type Style uint8

const (
	// Plain text: for files, pipes, and where NO_COLOR is set.
	Plain Style = iota
	// ANSI colours, for a terminal.
	ANSI
)

type colour string

const (
	bold   colour = "1"
	green  colour = "32"
	yellow colour = "33"
	red    colour = "31"
	faint  colour = "2"
)

// WriteText writes the report for people, as of now.
func (r *Report) WriteText(w io.Writer, style Style, now time.Time) error {
	t := &text{w: bufio.NewWriter(w), style: style}
	t.head(r, now)
	t.facts(&r.Facts)
	t.chain(&r.Facts)
	t.reasons(r)
	t.implicit(r.Implicit, now)
	t.replies(r.Replies)
	return t.w.Flush()
}

type text struct {
	w     *bufio.Writer
	style Style
}

func (t *text) print(format string, args ...any) { fmt.Fprintf(t.w, format, args...) }

func (t *text) paint(c colour, s string) string {
	if t.style == Plain || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// pad fills s with spaces to width before it is painted, so that columns stand.
func (t *text) pad(c colour, s string, width int) string {
	return t.paint(c, s) + strings.Repeat(" ", max(0, width-len([]rune(s))))
}

func (t *text) head(r *Report, now time.Time) {
	c := green
	switch r.Verdict {
	case "none":
		c = yellow
	case "defer":
		c = red
	}
	t.print("%s  %s", t.paint(bold, r.Destination), t.paint(c, r.Verdict))
	if r.Source != "none" {
		t.print("  by %s", r.Source)
	}
	if left := r.Expires.Sub(now).Round(time.Second); left > 0 {
		t.print("  %s", t.paint(faint, "for "+span(left)))
	}
	if r.Origin != "" {
		t.print("  %s", t.paint(faint, "("+r.Origin+")"))
	}
	t.print("\n")
	t.failure(r.Error, r.Fault)
	t.observed(r.Observed)
	if p := r.Pending; p != nil {
		t.failure("a newer look failed: "+p.Error, p.Fault)
		t.print("  until that is mended the earlier verdict holds; below is what the newer look saw\n")
	}
}

// failure says what failed, and who can mend it.
func (t *text) failure(what, fault string) {
	if what == "" {
		return
	}
	t.print("  %s\n", t.paint(red, what))
	if fault != "" {
		t.print("  to be mended by: %s\n", party(fault))
	}
}

// party names whose fault a deferral is, to the reader of the text.
func party(fault string) string {
	switch fault {
	case verdict.Operator.String():
		return "you, on this host"
	case verdict.Remote.String():
		return "the remote side"
	}
	return "tlsverdict, or its limits"
}

// span writes a duration to two units at most.
func span(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	if d >= time.Hour {
		d = d.Truncate(time.Minute)
	}
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

const (
	// nameEnd is the column at which names end, whatever their indent.
	nameEnd     = 12
	nameWidth   = nameEnd - 2
	statusWidth = 15
)

// line writes one fact: its name, its DNSSEC status, what was found.
func (t *text) line(indent int, name string, a Answer, values []string) {
	lead, width := strings.Repeat(" ", indent), nameEnd-indent
	status, c := a.DNSSEC, statusColour(a.DNSSEC)
	if a.Status == "failed" {
		status, values = "failed", []string{a.Error}
		c = red
	}
	if len(values) == 0 {
		values = []string{t.paint(faint, absence(a.Status))}
	}
	if a.Alias != "" {
		values = slices.Clone(values)
		values[0] = "-> " + a.Alias + "  " + values[0]
	}
	t.print("%s%-*s  %s%s\n", lead, width, name, t.pad(c, status, statusWidth), values[0])
	for _, v := range values[1:] {
		t.print("%s%-*s  %*s%s\n", lead, width, "", statusWidth, "", v)
	}
}

func absence(status string) string {
	if status == "nxdomain" {
		return "no such name"
	}
	return "none"
}

func statusColour(dnssec string) colour {
	switch dnssec {
	case "secure":
		return green
	case "insecure":
		return yellow
	}
	return red
}

func (t *text) facts(f *Facts) {
	if f.Override == "" && f.MX == nil && len(f.Hosts) == 0 && f.STS == nil {
		return
	}
	t.print("\n")
	if f.Override != "" {
		t.print("  %-*s  %s\n", nameWidth, "override", f.Override)
	}
	if f.MX != nil {
		var values []string
		for _, mx := range f.MX.Records {
			host := mx.Host
			if host == "" {
				host = "."
			}
			values = append(values, fmt.Sprintf("%d %s", mx.Preference, host))
		}
		t.line(2, "MX", f.MX.Answer, more(values, f.MX.LeftOut))
	}
	for i := range f.Hosts {
		t.host(&f.Hosts[i])
	}
	if f.HostsLeftOut > 0 {
		t.print("  and %d more hosts\n", f.HostsLeftOut)
	}
	if f.STS != nil {
		t.sts(f.STS)
	}
	for i := range f.Strict {
		t.strict(&f.Strict[i])
	}
	for _, s := range f.Signals {
		name, rest, _ := strings.Cut(s, " ")
		t.print("  %-*s  %s\n", nameWidth, name, rest)
	}
	if f.SignalsLeftOut > 0 {
		t.print("  and %d more of these\n", f.SignalsLeftOut)
	}
}

// more adds how many records are not shown.
func more(values []string, leftOut int) []string {
	if leftOut == 0 {
		return values
	}
	return append(slices.Clip(values), fmt.Sprintf("and %d more", leftOut))
}

func (t *text) host(h *Host) {
	t.print("  %s\n", t.paint(bold, h.Name))
	t.line(4, "A", h.A.Answer, more(h.A.Records, h.A.LeftOut))
	t.line(4, "AAAA", h.AAAA.Answer, more(h.AAAA.Records, h.AAAA.LeftOut))
	if h.CNAME != nil {
		t.line(4, "CNAME", *h.CNAME, []string{"the link itself"})
	}
	for i := range h.TLSA {
		l := &h.TLSA[i]
		values := slices.Clone(l.Records.Records)
		if len(values) > 0 && l.Class == "unusable" {
			values[0] += "  (not usable)"
		}
		if l.Base != h.Name {
			if len(values) == 0 && l.Status != "failed" {
				values = []string{absence(l.Status)}
			}
			if len(values) > 0 {
				values[0] += "  at " + l.Base
			}
		}
		t.line(4, "TLSA", l.Answer, more(values, l.LeftOut))
	}
	if h.TLSALeftOut > 0 {
		t.print("    and %d more TLSA lookups\n", h.TLSALeftOut)
	}
}

func (t *text) sts(s *STS) {
	const name = "MTA-STS"
	row := func(status, value string) {
		t.print("  %-*s  %-*s%s\n", nameWidth, name, statusWidth, status, value)
	}
	switch {
	case !s.Settled && s.Policy == nil:
		row("", t.paint(faint, "not waited for"))
		return
	case s.Policy == nil && s.Error == "":
		row("", t.paint(faint, "no policy"))
		return
	}
	if p := s.Policy; p != nil {
		value := strings.Join(p.MX[:min(len(p.MX), 5)], ", ")
		if n := len(p.MX) + p.MXLeftOut; n > 5 {
			value += fmt.Sprintf(" and %d more", n-5)
		}
		row(p.Mode, value)
		t.print("  %-*s  %-*s%s\n", nameWidth, "", statusWidth, "", t.paint(faint, "id "+p.ID+", fetched "+p.Fetched.Format(time.RFC3339)+", until "+p.Expires.Format(time.RFC3339)))
	}
	if !s.Settled {
		t.print("  %-*s  %-*s%s\n", nameWidth, "", statusWidth, "", t.paint(faint, "known before; a newer one was not waited for"))
	}
	if s.Error != "" {
		row("failed", t.paint(red, s.Error))
	}
}

// chain tells the proof, step by step.
func (t *text) chain(f *Facts) {
	if len(f.Chain) == 0 {
		return
	}
	t.print("\nhow DNSSEC proves it\n")
	for _, step := range f.Chain {
		t.print("  %s\n", step)
	}
	if f.ChainLeftOut > 0 {
		t.print("  and %d more steps\n", f.ChainLeftOut)
	}
}

func (t *text) reasons(r *Report) {
	heading := "why"
	if r.Pending != nil {
		heading = "why the newer look came to " + r.Pending.Verdict
	}
	t.print("\n%s\n", heading)
	skipped := 0
	for i, reason := range r.Reasons {
		if i == len(r.Reasons)/2 && r.ReasonsLeftOut > 0 {
			skipped = r.ReasonsLeftOut
			t.print("  ... %d more\n", skipped)
		}
		text := reason.Text
		if reason.Subject != "" && reason.Subject != strings.Trim(r.Destination, "[]") {
			text = reason.Subject + ": " + text
		}
		cite := ""
		if reason.Cite != "" {
			cite = "  " + t.paint(faint, "["+reason.Cite+"]")
		}
		t.print("  %d. %s%s\n", i+1+skipped, text, cite)
	}
}

func (t *text) replies(replies map[string]string) {
	if len(replies) == 0 {
		return
	}
	names := make([]string, 0, len(replies))
	width := 0
	for name := range replies {
		names = append(names, name)
		width = max(width, len(asker(name)))
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
	})
	t.print("\nwhat each MTA is told\n")
	for _, name := range names {
		t.print("  %-*s  %s\n", width, asker(name), cut(strings.TrimSpace(replies[name]), 300))
	}
}

// asker is a map, and the MTA that asks it where the name does not say.
func asker(mapName string) string {
	switch mapName {
	case "sts", "tls":
		return mapName + " (Sendmail)"
	}
	return mapName
}

// place has the maps of one MTA stand together, Postfix's first.
func place(mapName string) int {
	switch mapName {
	case "sts", "tls":
		return 1
	case "exim":
		return 2
	}
	return 0
}
