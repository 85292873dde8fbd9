package house

import (
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tlsverdict/internal/signal"
)

// TestSignalsToPublish: the records that docs/signals.md tells to publish are read as the
// page says.
func TestSignalsToPublish(t *testing.T) {
	text := page(t, "docs/signals.md")
	read := 0
	for _, m := range regexp.MustCompile(`(?m)^_smtp-strict\S* IN TXT "(.*)"$`).FindAllStringSubmatch(text, -1) {
		read++
		s, err := signal.ParseTXT([]string{m[1]})
		if err != nil || !strings.HasSuffix(m[1], s.String()) {
			t.Errorf("%s: %+v, %v", m[1], s, err)
		}
	}
	for _, m := range regexp.MustCompile("`(tls=required[^`]*)` is\n\n```\nexample.com. IN TYPE([0-9]+) \\\\# ([0-9]+) ([0-9a-f]+)\n").FindAllStringSubmatch(text, -1) {
		read++
		data, err := hex.DecodeString(m[4])
		if err != nil || m[2] != strconv.Itoa(int(signal.DefaultRRType)) || m[3] != strconv.Itoa(len(data)) {
			t.Errorf("%s: %v", m[0], err)
		}
		if s, err := signal.ParseRR([]string{string(data)}); err != nil || s.String() != m[1] {
			t.Errorf("%s: %+v, %v", m[0], s, err)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^220 .*$`).FindAllString(text, -1) {
		read++
		if _, err := signal.ParseBanner([]string{m}); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	if read != 5 {
		t.Errorf("%d signals found in docs/signals.md, want 5", read)
	}
}

// TestSignalsSentences: what docs/signals.md quotes of "policyd explain" is what it says.
func TestSignalsSentences(t *testing.T) {
	reasons := page(t, "docs/reasons.md")
	n := 0
	for _, m := range regexp.MustCompile(`\*([^*\n]+: not believed)\*`).FindAllStringSubmatch(page(t, "docs/signals.md"), -1) {
		n++
		if !strings.Contains(reasons, "| "+m[1]+" |") {
			t.Errorf("no reason says %q", m[1])
		}
	}
	if n != 2 {
		t.Errorf("%d sentences found, want 2", n)
	}
}
