package resolve

import (
	"testing"

	"tlsverdict/internal/gather"
	"tlsverdict/internal/resolve/dnssec"
)

// TestBudgetSuffices holds that the largest set of MX hosts that is looked at can
// be asked about, each behind an alias: MX and TXT, then A, AAAA, TLSA and either
// the alias itself or TLSA at its target.
func TestBudgetSuffices(t *testing.T) {
	if need, least := 2+gather.MaxHosts*4, min(Budget, dnssec.MaxQueries); least < need {
		t.Errorf("%d questions may be needed, and %d may be sent", need, least)
	}
}
