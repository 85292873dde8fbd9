package lab

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write docs/mta-outcomes.md and docs/attacks.md anew, if all mail servers that they tell of were run; the run still fails")

// outcomesPage is where the page is.
const outcomesPage = "../docs/mta-outcomes.md"

// page is one of the pages of docs that a run writes, while it is being written. Its
// tables are made of what the rows expect, which each run holds against what happens;
// the lines of the logs below them are those of the run.
type page struct {
	file    string
	servers []box    // that it tells of
	rows    []string // each with lines of each of them
	text    func(p *page) string

	mu    sync.Mutex
	lines map[string]map[string][]string // by row, by mail server
}

// newOutcomes returns docs/mta-outcomes.md with nothing in it yet.
func newOutcomes() *page {
	p := &page{file: outcomesPage, servers: sixServers(), text: (*page).outcomes}
	for _, r := range rows() {
		p.rows = append(p.rows, r.name)
	}
	return p
}

// note keeps what a mail server has logged for a row.
func (p *page) note(row string, b box, lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lines == nil {
		p.lines = map[string]map[string][]string{}
	}
	if p.lines[row] == nil {
		p.lines[row] = map[string][]string{}
	}
	p.lines[row][b.name] = normal(lines)
}

// row is what the page's table says of one situation.
type row struct {
	name, title string
	verdict     string
	cells       byServer // what the page says
	notes       byServer // why a cell is another than one would think
}

// rows are all rows of the page.
func rows() []row {
	var all []row
	for _, s := range judged() {
		r := row{name: s.name, title: s.title, verdict: strings.Join(s.verdict, " / "), cells: byServer{}, notes: s.notes}
		for _, b := range sixServers() {
			r.cells[b.name] = shown(s.ends.of(b))
			if later := s.later.of(b); later != "" && later != s.ends.of(b) {
				r.cells[b.name] += ", then " + shown(later)
			}
		}
		all = append(all, r)
	}
	return all
}

// shown is an end as the page shows it: without the host, which the row's title
// leaves no doubt about.
func shown(ends string) string {
	var words []string
	for end := range strings.SplitSeq(ends, "; ") {
		if protection, host, taken := taker(end); taken {
			end = protection
			if strings.HasSuffix(host, ":26") {
				end += " on port 26"
			}
		}
		words = append(words, end)
	}
	return strings.Join(words, " / ")
}

const pageHead = `# What becomes of mail

What six mail servers do in each situation, and what they log. Written by ` + "`make lab`" + `, which runs all of them on a small internet
of their own, with the files of [contrib](../contrib), and fails where a cell is not what happens. Each cell is what the mail server's own
log says, and what the mail host says that took the mail, or that did not.

| word | is |
|---|---|
| authenticated | sent over TLS, to a host whose certificate is the one that the verdict asks for |
| encrypted | sent over TLS; nobody asked who the host is |
| clear | sent in clear text |
| waits | nothing was sent, no host was even told the recipient; the mail stays in the queue and is tried again |
| returned | to its sender, with the reason |
| refused 550 5.7.10, 451 4.7.10 ... | while it was handed over, with that code: the sender still has it. 4xx: and tries again |
| held | taken, and kept until an operator releases it |
| no milter | Exim speaks to none |

"waits, then ..." is what happens as soon as the fault is mended. "a / b" are two recipients of one message. The verdict is what policyd
decides, and by what. A number is that of a note below the table.

**In no cell is mail sent with less than the verdict demands, or to a host with another certificate, nor returned where it should wait.**
Each run holds what it has seen against that, whatever a cell expects. There is one exception, which the first note is about: of DANE,
Sendmail 8.17 does what it can, and never sends in clear text.

## The table

`

// tableText renders the table.
func tableText() string {
	var b, notes strings.Builder
	b.WriteString("| situation | verdict |")
	for _, m := range sixServers() {
		fmt.Fprintf(&b, " %s |", m.title())
	}
	b.WriteString("\n|---|---|---|---|---|---|---|---|\n")
	numbers := map[string]int{}
	for _, r := range rows() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |", r.title, r.name, r.verdict)
		for _, m := range sixServers() {
			cell := r.cells.of(m)
			if note := r.notes.of(m); note != "" {
				if numbers[note] == 0 {
					numbers[note] = len(numbers) + 1
					fmt.Fprintf(&notes, "%d. %s\n", numbers[note], note)
				}
				cell += fmt.Sprintf(" (%d)", numbers[note])
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	if notes.Len() > 0 {
		b.WriteString("\n" + notes.String())
	}
	return b.String()
}

// title is a mail server's name for readers: "Postfix 3.10".
func (b box) title() string {
	return strings.ToUpper(b.name[:1]) + strings.Replace(b.name[1:], "-", " ", 1)
}

// outcomes renders docs/mta-outcomes.md.
func (p *page) outcomes() string {
	var b strings.Builder
	b.WriteString(pageHead + tableText())
	b.WriteString("\n## What they log\n\nWithout times, process and queue numbers, addresses and the like.\n")
	for _, r := range rows() {
		fmt.Fprintf(&b, "\n### %s\n\n%s.\n", r.name, strings.ToUpper(r.title[:1])+r.title[1:])
		b.WriteString(p.logs(r.name))
	}
	return b.String()
}

// logs renders what the mail servers have logged for a row.
func (p *page) logs(row string) string {
	var b strings.Builder
	if len(p.alike(row)) == 0 {
		b.WriteString("\nNothing.\n")
	}
	for _, same := range p.alike(row) {
		fmt.Fprintf(&b, "\n%s:\n\n```\n%s\n```\n", same.servers, strings.Join(same.lines, "\n"))
	}
	return b.String()
}

// alike are the mail servers that log the same.
type alike struct {
	servers string
	lines   []string
}

func (p *page) alike(row string) []alike {
	var all []alike
	for _, m := range p.servers {
		lines := p.lines[row][m.name]
		if len(lines) == 0 {
			continue
		}
		i := slices.IndexFunc(all, func(a alike) bool { return slices.Equal(a.lines, lines) })
		if i < 0 {
			all = append(all, alike{m.title(), lines})
		} else {
			all[i].servers += ", " + m.title()
		}
	}
	return all
}

// compare holds the page of a run against the file. Nothing is said of a run of some
// mail servers only.
func (p *page) compare(t *testing.T) {
	t.Helper()
	for _, m := range p.servers {
		for _, row := range p.rows {
			if p.lines[row][m.name] == nil {
				t.Logf("%s is not compared: %s has no %q", p.file, m.name, row)
				if *update {
					t.Logf("it would be\n%s", p.text(p))
				}
				return
			}
		}
	}
	want := p.text(p)
	got, err := os.ReadFile(p.file)
	if err == nil && string(got) == want {
		return
	}
	if !*update {
		t.Errorf("%s is not what this run saw (%v): make lab UPDATE=-update writes it anew\n%s", p.file, err, difference(string(got), want))
		return
	}
	if err := os.WriteFile(p.file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Errorf("%s is written anew; read it, and run again", p.file)
}

// difference names the lines that are in one text only.
func difference(was, is string) string {
	var b strings.Builder
	old, now := strings.Split(was, "\n"), strings.Split(is, "\n")
	for _, line := range old {
		if !slices.Contains(now, line) {
			fmt.Fprintf(&b, "-%s\n", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			fmt.Fprintf(&b, "+%s\n", line)
		}
	}
	return b.String()
}

// masks are what is different in each run, and what stands there instead.
func masks() []mask {
	return []mask{
		// The beginning of a line: syslog's, Exim's.
		{regexp.MustCompile(`^\w{3} +\d+ [\d:]+ \S+ `), ""},
		{regexp.MustCompile(`^[\d-]{10} [\d:.]+ (\[\d+\] )?`), ""},
		{regexp.MustCompile(`^([\w/-]+)\[\d+\]: `), "$1: "},
		{regexp.MustCompile(`(^|: )(NOQUEUE|[0-9A-F]{5,}|[0-9A-Za-z]{14}|[0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4}):? `), "$1"},
		// Addresses.
		{regexp.MustCompile(`\[(IPv6:)?[0-9a-fA-F:.]+\]`), "[ADDRESS]"},
		{regexp.MustCompile(`\b(198\.51\.100|192\.0\.2)\.\d+\b`), "ADDRESS"},
		// What took how long; how TLS was negotiated.
		{regexp.MustCompile(` (x?delays?|QT|DT|RT)=[\d.:/+sm]+,?`), ""},
		{regexp.MustCompile(`TLSv?1\.\d(\.\d)?( with cipher .*|:[\w-]+:\d+)`), "TLS"},
		{regexp.MustCompile(`, cipher=[\w-]+, bits=\d+/\d+`), ""},
		// What depends on the order of mails.
		{regexp.MustCompile(`,? (conn_use|pri)=\d+`), ""},
		// Postfix cuts the text off, at what depends on the number of the key.
		{regexp.MustCompile(`bad signature: key .*`), "bad signature ..."},
		// The setup, in the local part of the recipient.
		{regexp.MustCompile(`([\w-]+)\.(table|milter|implicit|attacks)@`), "$1@"},
	}
}

type mask struct {
	what    *regexp.Regexp
	instead string
}

// normal returns log lines without what is different in each run. A line that comes
// more than once, as for two addresses of a host, is given once.
func normal(lines []string) []string {
	out := []string{}
	for _, line := range lines {
		for _, m := range masks() {
			line = m.what.ReplaceAllString(line, m.instead)
		}
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

func TestNormal(t *testing.T) {
	for line, want := range map[string]string{
		"Nov 23 13:12:01 mta postfix/smtp[7]: 4B1C2D3E4F: to=<a.table@a.example>, relay=mx.a.example[198.51.100.11]:25, delay=0.05, delays=0.01/0/0.04/0, dsn=2.0.0, status=sent (250 2.0.0 stored)": "postfix/smtp: to=<a@a.example>, relay=mx.a.example[ADDRESS]:25, dsn=2.0.0, status=sent (250 2.0.0 stored)",
	} {
		if got := normal([]string{line, line}); len(got) != 1 || got[0] != want {
			t.Errorf("normal(%q)\n= %q\nwant %q", line, got, want)
		}
	}
}

// TestOutcomesPage holds the table of the page against the rows: every run of the lab
// asserts each of their cells.
func TestOutcomesPage(t *testing.T) {
	text, err := os.ReadFile(outcomesPage)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), pageHead+tableText()) {
		t.Errorf("%s is not what the lab expects: make lab UPDATE=-update writes it anew", outcomesPage)
	}
	for _, r := range rows() {
		for _, m := range sixServers() {
			if r.cells.of(m) == "" {
				t.Errorf("%s, %s: an empty cell", r.name, m.name)
			}
		}
	}
}
