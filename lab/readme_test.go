package lab

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// asInREADME holds the output of policyd explain that the README begins with against what
// is printed here. Keys are new in every lab, and time passes; of the records that the
// lab's policyd also asks for, and a default one does not, nothing is in the README.
func asInREADME(t *testing.T, printed string) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, found := strings.Cut(string(readme), "$ policyd explain dane.example\n")
	shown, _, ended := strings.Cut(shown, "```")
	if !found || !ended {
		t.Fatal("README.md shows no output of policyd explain dane.example")
	}
	if want, got := withoutKeys(shown), withoutKeys(printed); want != got {
		t.Errorf("README.md shows something else than is printed.\nshown, but for keys and times:\n%s\nprinted:\n%s", want, got)
	}
}

// withoutKeys is a text of policyd explain without what differs from lab to lab.
func withoutKeys(text string) string {
	more := regexp.MustCompile(`(?m)^  (TXT|RR|_smtp-strict|dane\.example\. TYPE65400).*\n`)
	text = more.ReplaceAllString(text, "")
	changing := regexp.MustCompile(`\b\d+/ECDSAP256SHA256|\b[0-9a-f]{16}\.\.\.|for \d+s`)
	return changing.ReplaceAllString(text, "...")
}
