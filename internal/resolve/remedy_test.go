package resolve

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/resolve/dnssec"
)

// TestRemedies: what needs another remedy is told apart.
func TestRemedies(t *testing.T) {
	srv := newServer(netip.MustParseAddrPort("127.0.0.1:53"))
	for why, words := range map[dnssec.Why]string{
		dnssec.BadSignature: "distrust it",

		dnssec.NoKeys:      "let it pass DNSSEC records on",
		dnssec.NoKey:       "match a trust anchor: renew them",
		dnssec.NoAnchor:    "name others in [dns] trust_anchors",
		dnssec.NoSignature: "it does not pass DNSSEC records on",
		dnssec.NotYet:      "check this host's clock",
		dnssec.NoReply:     "check that 127.0.0.1:53 answers",
	} {
		got := remedy(&dnssec.Error{Why: why}, srv, time.Unix(0, 0))
		if !strings.Contains(got, words) {
			t.Errorf("%v: %s", why, got)
		}
		if renew := strings.Contains(got, "renew"); renew != (why == dnssec.NoKey) {
			t.Errorf("%v: %s", why, got)
		}
	}
}
