package socketmapd

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"tlsverdict/postfixmap"
)

// grammars check a whole reply as strictly as the MTA of a dialect reads it, or more so.
func grammars() map[string]func(string) error {
	return map[string]func(string) error{
		"postfix":        func(reply string) error { return postfixGrammar(reply, postfixmap.V3_4) },
		"postfix-tlsrpt": func(reply string) error { return postfixGrammar(reply, postfixmap.V3_10) },
		"sts":            stsGrammar,
		"tls":            tlsGrammar,
		"exim":           eximGrammar,
		"verdict":        verdictGrammar,
	}
}

// waits accepts a deferral: one line of printable characters.
func waits(reply string) (ok bool, err error) {
	text, ok := strings.CutPrefix(reply, "TEMP ")
	if !ok {
		return false, nil
	}
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return true, errors.New("a deferral without a reason, or of more than a line")
	}
	return true, nil
}

func postfixGrammar(reply string, v postfixmap.Version) error {
	if ok, err := waits(reply); ok || reply == "NOTFOUND " {
		return err
	}
	line, ok := strings.CutPrefix(reply, "OK ")
	if !ok {
		return errors.New("no status that is known")
	}
	_, err := postfixmap.ParseTLSPolicy(line, v)
	return err
}

var (
	// A host name as a certificate has it; "." before it stands for one label.
	nameForm = `[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*`
	// Nothing may follow servername=hostname, and "*." is never matched.
	sendmailLine = regexp.MustCompile(`^OK secure match=\.?` + nameForm + `(:\.?` + nameForm + `)* servername=hostname$`)
	eximLine     = regexp.MustCompile(`^OK level=(none|encrypt|dane|dane-only|(dane tlsa|secure hosts)=` + nameForm + `(:` + nameForm + `)*)$`)
	verdictLine  = regexp.MustCompile(`^OK (none|may|encrypt|dane|dane-only|fingerprint|verify|secure|defer) source=[a-z-]+( fault=(remote|operator|tlsverdict))?( mode=observe)?$`)
)

func stsGrammar(reply string) error {
	if ok, err := waits(reply); ok || reply == "NOTFOUND " {
		return err
	}
	if !sendmailLine.MatchString(reply) {
		return errors.New("FEATURE(sts) would not take it")
	}
	list, _, _ := strings.Cut(strings.TrimPrefix(reply, "OK secure match="), " ")
	if len(list) > 255 {
		return errors.New("Sendmail would cut the list")
	}
	if strings.Contains(reply, "match=hostname") || strings.Contains(reply, ":hostname") {
		return errors.New("a strategy of Postfix among the names")
	}
	return nil
}

func tlsGrammar(reply string) error {
	switch reply {
	case "OK encrypt", "OK dane", "OK dane-only":
		return nil
	}
	return stsGrammar(reply)
}

func eximGrammar(reply string) error {
	if ok, err := waits(reply); ok {
		return err
	}
	if !eximLine.MatchString(reply) {
		return errors.New("the configuration of Exim would not take it")
	}
	return nil
}

func verdictGrammar(reply string) error {
	if !verdictLine.MatchString(reply) {
		return fmt.Errorf("it is not of the form %v", verdictLine)
	}
	return nil
}
