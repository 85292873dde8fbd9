package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"tlsverdict/internal/finding"
)

// Result is the findings, as they are told.
type Result struct {
	// Worst is the severity of the gravest finding.
	Worst    string  `json:"worst"`
	Findings []Entry `json:"findings"`

	severities []finding.Severity
}

// Entry is a finding with the words of its kind. Checks and severities are stable, for
// scripts; the words are for people.
type Entry struct {
	Subject  string `json:"subject"`
	Severity string `json:"severity"`
	Check    Check  `json:"check"`
	Title    string `json:"title"`
	Looked   string `json:"looked,omitempty"`
	Found    string `json:"found,omitempty"`
	Why      string `json:"why,omitempty"`
	In       string `json:"in,omitempty"`
	Mend     string `json:"mend,omitempty"`
	Cite     string `json:"cite,omitempty"`
}

// NewResult puts findings into words.
func NewResult(findings []Finding) Result {
	r := Result{severities: Severities(findings), Findings: make([]Entry, 0, len(findings))}
	r.Worst = finding.Worst(r.severities).String()
	for _, f := range findings {
		k := f.Kind()
		e := Entry{
			Subject: f.Subject, Severity: f.Severity.String(), Check: f.Check, Title: k.Title,
			Looked: f.Looked, Found: f.Found, In: f.In, Mend: f.Mend, Cite: k.Cite,
		}
		if f.Severity != finding.OK && f.Severity != finding.Unknown {
			e.Why = k.Why
		}
		r.Findings = append(r.Findings, e)
	}
	return r
}

// WriteJSON writes the result as one JSON object.
func (r Result) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// WriteText writes the result for people: a line that says how it stands, as monitoring
// shows it, then each subject with its findings.
func (r Result) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, cmp.Or(finding.Count(r.severities), "all in order"))
	subject := ""
	for _, e := range r.Findings {
		if e.Subject != subject {
			subject = e.Subject
			fmt.Fprintf(&b, "\n%s\n", subject)
		}
		e.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// write writes one finding: in one line what is in order or was not looked at, and at
// length what is to be mended.
func (e Entry) write(b *strings.Builder) {
	switch e.Severity {
	case finding.OK.String():
		fmt.Fprintf(b, "  %-8s %-22s %s\n", e.Severity, e.Check, cmp.Or(e.Found, e.Title))
		return
	case finding.Unknown.String():
		fmt.Fprintf(b, "  %-8s %-22s not looked at: %s, because %s\n", e.Severity, e.Check, e.Looked, e.Found)
		return
	default:
		fmt.Fprintf(b, "  %-8s %-22s %s\n", e.Severity, e.Check, e.Found)
		e.line(b, "looked", e.Looked)
	}
	e.line(b, "so", e.Why)
	mend := "mend"
	if e.In != "" {
		e.line(b, "mend", "in "+e.In+":")
		mend = ""
	}
	for line := range strings.Lines(e.Mend) {
		e.line(b, mend, strings.TrimRight(line, "\n"))
		mend = ""
	}
	e.line(b, "see", e.Cite)
}

func (e Entry) line(b *strings.Builder, word, text string) {
	if text != "" {
		fmt.Fprintf(b, "           %-7s %s\n", word, text)
	}
}
