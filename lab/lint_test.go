package lab

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// linted has policyd look at domains for their owners: it finds each fault, and nothing
// on the good one.
func (l *lab) linted(t *testing.T) {
	for domain, want := range map[string]string{
		"lintgood.example":     "",
		"dane301.example":      "warning tlsa-renewal",
		"danebad.example":      "error tlsa-mismatch",
		"daneunusable.example": "error tlsa-pkix-usage",
		"danemixed.example":    "warning tlsa-some-hosts",
		"danebogus.example":    "error tlsa-failed",
		"danecname.example":    "warning host-alias",
		"mxbogus.example":      "error mx-bogus",
		"lintslip.example":     "warning tlsa-misplaced",
		"lintport.example":     "warning tlsa-misplaced",
		"lintopen.example":     "error tlsa-unsigned, warning prefix-unsigned",
		"lintport26.example":   "warning smtps-no-port",
		"lintlist.example":     "error sts-mx-unlisted",
		"stsmisnamed.example":  "error certificate-name, warning sts-max-age",
		"stsself.example":      "error certificate-untrusted, warning sts-max-age",
		"stsfresh.example":     "error sts-policy-fetch",
		"plain.example":        "warning starttls-absent",
		"unsignedprefix.lint":  "error no-such-domain",
	} {
		got, err := l.lint(t, domain)
		if err != nil {
			t.Errorf("%s: %v", domain, err)
			continue
		}
		if got != want {
			t.Errorf("%s: found %q, want %q", domain, got, want)
		}
	}
}

// lint returns the errors and warnings about a domain.
func (l *lab) lint(t *testing.T, domain string) (string, error) {
	// It ends with an exit status of its own.
	out, failure := l.policyd.mta.command(t.Context(), l.policyd.root, "policyd", "lint", "--probe", "--json", domain).Output()
	var result struct {
		Findings []struct{ Severity, Code string }
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return "", failure
	}
	var found []string
	for _, f := range result.Findings {
		if word := f.Severity + " " + f.Code; (f.Severity == "error" || f.Severity == "warning") && !slices.Contains(found, word) {
			found = append(found, word)
		}
	}
	return strings.Join(found, ", "), nil
}
