package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// steps is a trail that is written down.
type steps []string

func (s steps) Steps() []string { return s }

func (s steps) Signatures() []verdict.Signature { return nil }

// TestChain: the proofs of all answers are told, each step once, and bounded.
func TestChain(t *testing.T) {
	with := func(proof verdict.Proof, s ...string) verdict.Answer[netip.Addr] {
		a := found(proof, netip.MustParseAddr("192.0.2.1"))
		a.Trail = steps(s)
		return a
	}
	f := examples(t)["dane"]
	f.MX.Trail = steps{"root", "com", "mx"}
	f.Hosts[0].A = with(verdict.Secure, "root", "com", "a")
	f.Hosts[0].TLSA[0].Answer = verdict.Fail[tlsa.Record](verdict.Remote, "bogus")
	f.Hosts[0].TLSA[0].Answer.Trail = steps{"root", "com", "broken"}
	f.STS.Record.Trail = steps{"root", "com", "txt"}
	r := New(&engine.Explanation{Facts: f, Ruling: verdict.Decide(f), InForce: engine.Ruled{Verdict: verdict.DANEOnly{}}})
	if want := []string{"root", "com", "mx", "a", "broken", "txt"}; !slices.Equal(r.Facts.Chain, want) {
		t.Errorf("chain %q, want %q", r.Facts.Chain, want)
	}
	var text strings.Builder
	if err := r.WriteText(&text, Plain, now); err != nil || !strings.Contains(text.String(), "\nhow DNSSEC proves it\n  root\n  com\n  mx\n  a\n  broken\n  txt\n\nwhy") {
		t.Errorf("%v\n%s", err, &text)
	}

	for i := range 200 {
		f.MX.Trail = append(f.MX.Trail.(steps), fmt.Sprint(i))
	}
	r = New(&engine.Explanation{Facts: f, Ruling: verdict.Decide(f), InForce: engine.Ruled{Verdict: verdict.DANEOnly{}}})
	if len(r.Facts.Chain)+r.Facts.ChainLeftOut != 206 || r.Facts.ChainLeftOut == 0 || !r.Truncated {
		t.Errorf("%d steps, and %d left out", len(r.Facts.Chain), r.Facts.ChainLeftOut)
	}
}
