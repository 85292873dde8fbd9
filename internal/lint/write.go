package lint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"tlsverdict/internal/finding"
)

// Result is the findings about one domain, as they are told.
type Result struct {
	Domain string `json:"domain"`
	// Worst is the severity of the gravest finding.
	Worst    string  `json:"worst"`
	Findings []Entry `json:"findings"`

	severities []Severity
}

// Entry is a finding with the words of its kind. Codes and severities are stable, for
// scripts; the words are for people.
type Entry struct {
	Severity string `json:"severity"`
	Code     Code   `json:"code"`
	Subject  string `json:"subject"`
	Title    string `json:"title"`
	Detail   string `json:"detail,omitempty"`
	Why      string `json:"why,omitempty"`
	Mend     string `json:"mend,omitempty"`
	Cite     string `json:"cite,omitempty"`
}

// NewResult puts the findings about a domain into words.
func NewResult(domain string, findings []Finding) Result {
	r := Result{Domain: domain, Worst: Worst(findings).String(), Findings: make([]Entry, 0, len(findings))}
	for _, f := range findings {
		k := f.Kind()
		e := Entry{Severity: f.Severity.String(), Code: f.Code, Subject: f.Subject, Title: k.Title, Detail: f.Detail, Cite: k.Cite}
		if f.Severity != OK {
			// What is to be done stands with the domain's own names.
			names := strings.NewReplacer("DOMAIN", domain, "HOST", f.Subject)
			e.Why, e.Mend = k.Why, names.Replace(k.Mend)
		}
		r.Findings = append(r.Findings, e)
		r.severities = append(r.severities, f.Severity)
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

// WriteText writes the result as a checklist for people.
func (r Result) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.Domain, r.count())
	for _, e := range r.Findings {
		if e.Severity == OK.String() {
			continue
		}
		fmt.Fprintf(&b, "\n%s  %s\n", strings.ToUpper(e.Severity), e.Title)
		for _, line := range [][2]string{{"where", e.Subject}, {"found", e.Detail}, {"so", e.Why}, {"mend", e.Mend}, {"see", join(e.Cite, string(e.Code))}} {
			if line[1] != "" {
				fmt.Fprintf(&b, "  %-6s %s\n", line[0], line[1])
			}
		}
	}
	title := "\nin order\n"
	for _, e := range r.Findings {
		if e.Severity != OK.String() {
			continue
		}
		b.WriteString(title)
		title = ""
		fmt.Fprintf(&b, "  %-28s  %s\n", e.Subject, join(e.Title, e.Detail))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + ": " + b
}

// count says in a few words how bad it is.
func (r Result) count() string { return cmp.Or(finding.Count(r.severities), "all in order") }
