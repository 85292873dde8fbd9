package house

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	sendmailPage    = "docs/sendmail.md"
	sendmailFeature = "contrib/sendmail/tlsverdict.m4"
)

// sendmailCode returns the feature without the notes for its readers.
func sendmailCode(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(page(t, sendmailFeature)) {
		if !strings.HasPrefix(line, "dnl ") && line != "dnl\n" {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestSendmailPage holds docs/sendmail.md and contrib/sendmail against one another: the
// lines to paste, the names of rulesets, and what Sendmail logs.
func TestSendmailPage(t *testing.T) {
	code, text := sendmailCode(t), page(t, sendmailPage)
	for _, file := range []string{"contrib/sendmail/sendmail.mc-tlsverdict", "contrib/sendmail/sendmail.mc-milter"} {
		for line := range strings.Lines(page(t, file)) {
			if strings.Contains(line, "(`") && !strings.Contains(text, "\n"+line) {
				t.Errorf("%s does not have this line of %s: %s", sendmailPage, file, line)
			}
		}
	}
	milter := strings.TrimSuffix(lineWith(page(t, "contrib/sendmail/sendmail.mc-milter"), "INPUT_MAIL_FILTER"), "dnl")
	if milter == "" || lineWith(page(t, "docs/milter.md"), "INPUT_MAIL_FILTER") != milter {
		t.Errorf("docs/milter.md has another line than contrib/sendmail: %s", milter)
	}
	for _, name := range words(text, `TlsVerdict\w*`) {
		if !strings.Contains(code, "\nS"+name+"\n") {
			t.Errorf("%s has %s, which is no ruleset", sendmailPage, name)
		}
	}
	for _, said := range words(text, `tlsverdict (?:[a-z-]+ )+for `) {
		verdict := strings.TrimSuffix(strings.TrimPrefix(said, "tlsverdict "), " for ")
		if !strings.Contains(code, "$@ "+verdict+"\n") && verdict != "dane-only" {
			t.Errorf("%s has %q in a log, which no rule returns", sendmailPage, verdict)
		}
	}
	var logged []string
	for _, row := range table(t, sendmailPage, "## When mail waits") {
		logged = append(logged, row[0])
	}
	refusals := sendmailRefusals(t, code)
	for _, said := range logged {
		if strings.HasPrefix(said, "reject=450") && !slices.ContainsFunc(refusals, func(r *regexp.Regexp) bool { return r.MatchString(said) }) {
			t.Errorf("%s has %q, which no rule says", sendmailPage, said)
		}
	}
	for _, r := range refusals {
		if !slices.ContainsFunc(logged, r.MatchString) {
			t.Errorf("%s does not tell of a refusal like %s", sendmailPage, r)
		}
	}
}

// lineWith returns the first line that has a word, "" where none has.
func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// sendmailRefusals are the messages of the rules, as patterns: what a rule fills in is
// anything.
func sendmailRefusals(t *testing.T, code string) []*regexp.Regexp {
	t.Helper()
	var all []*regexp.Regexp
	filledIn := regexp.MustCompile(`\$&\{\w+\}|\$\d`)
	for _, m := range regexp.MustCompile(`\$#error \$@ (4\.7\.\d) \$: "450 (.*)`).FindAllStringSubmatch(code, -1) {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(filledIn.ReplaceAllString(m[2], "\x00")), "\x00", ".+")
		pattern = strings.ReplaceAll(pattern, `"`, "")
		pattern = regexp.MustCompile(` *\.\+ *`).ReplaceAllString(pattern, ` ?.+ ?`)
		if pattern == "no TLS verdict" { // what no rule should let through to
			continue
		}
		all = append(all, regexp.MustCompile("^reject=450 "+regexp.QuoteMeta(m[1])+" .*"+pattern+"$"))
	}
	if len(all) == 0 {
		t.Fatalf("%s refuses nothing", sendmailFeature)
	}
	return all
}

// TestSendmailFeature looks for what m4 and Sendmail make something else of than it looks
// like: both are silent about it.
func TestSendmailFeature(t *testing.T) {
	text := page(t, sendmailFeature)
	builtin := regexp.MustCompile(`\b(define|undefine|include|divert|dnl|eval|format|ifdef|ifelse|incr|index|len|m4exit|popdef|pushdef|regexp|shift|substr|syscmd|translit|unix|FEATURE|HACK|MAILER|LOCAL_\w+)\b`)
	rulesets := map[string]bool{}
	for number, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "dnl"):
		case strings.HasPrefix(line, "#"):
			if word := builtin.FindString(line); word != "" {
				t.Errorf("%s:%d: m4 expands %s in this comment", sendmailFeature, number+1, word)
			}
			if strings.ContainsAny(line, "`'") {
				t.Errorf("%s:%d: m4 takes the quote in this comment for its own", sendmailFeature, number+1)
			}
		case strings.HasPrefix(line, "R"):
			if fields := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' }); len(fields) != 2 {
				t.Errorf("%s:%d: this rule has %d fields, and not two with tabs between: %s", sendmailFeature, number+1, len(fields), line)
			}
		case strings.HasPrefix(line, "S") && !strings.Contains(line, " "):
			name := strings.TrimSuffix(line, "')") // of a macro that ends there
			rulesets[name[1:]] = true
		}
	}
	for _, name := range words(text, `\$>(?:\$`+"`"+`')?TlsVerdict\w*`) {
		if name = name[strings.Index(name, "Tls"):]; !rulesets[name] {
			t.Errorf("%s calls %s, which is not there", sendmailFeature, name)
		}
	}
}
