package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityEvidence: the tests and scenarios that SECURITY.md names exist.
func TestSecurityEvidence(t *testing.T) {
	text := page(t, "SECURITY.md")
	tests := regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`").FindAllStringSubmatch(text, -1)
	scenarios := regexp.MustCompile("scenario `([a-z0-9/-]+)`").FindAllStringSubmatch(text, -1)
	if len(tests) < 30 || len(scenarios) < 8 {
		t.Fatalf("%d tests and %d scenarios: the test means nothing", len(tests), len(scenarios))
	}
	for _, m := range tests {
		if !hasTest(t, m[1], m[2]) {
			t.Errorf("SECURITY.md names %s in %s, which is not there", m[2], m[1])
		}
	}
	for _, m := range scenarios {
		if _, err := os.Stat(filepath.Join(root, "testdata/scenarios", m[1]+".txtar")); err != nil {
			t.Errorf("SECURITY.md names a scenario that is not there: %v", err)
		}
	}
}

// hasTest reports whether a package has a test.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// securityLimits are the rows of the limits in SECURITY.md.
func securityLimits() []limit {
	return []limit{
		{"connections of mail servers", "postfixmap/server.go", "DefaultMaxConnections", "4096", "4096"},
		{"connections of mail servers", "postfixmap/server.go", "MaxNewcomers", "64", "64 wait"},
		{"connections of mail servers", "postfixmap/server.go", "DefaultAdmitTimeout", "time.Second", "1 s"},
		{"one request, one reply", "postfixmap/netstring.go", "MaxRequest", "10_000", "10,000"},
		{"one request, one reply", "postfixmap/netstring.go", "MaxReply", "100_000", "100,000"},
		{"one request, one reply", "postfixmap/server.go", "DefaultRequestTimeout", "10 * time.Second", "10 s to send"},
		{"one request, one reply", "postfixmap/server.go", "DefaultWriteTimeout", "10 * time.Second", "10 s to take"},
		{"one request, one reply", "postfixmap/server.go", "DefaultIdleTimeout", "150 * time.Second", "150 s"},
		{"connections to the control socket", "internal/daemon/control.go", "maxControl", "4", "4"},
		{"connections to the pages", "internal/httpd/httpd.go", "MaxConnections", "32", "32"},
		{"domains worked out at once", "internal/daemon/stack.go", "maxFlights", "512", "512"},
		{"domains worked out at once", "internal/engine/engine.go", "flightTime", "45 * time.Second", "45 s"},
		{"domains worked out at once", "internal/engine/engine.go", "waitingPerFlight", "16", "16 times"},
		{"DNS questions", "internal/resolve/resolve.go", "DefaultMaxInflight", "1024", "1024"},
		{"DNS questions", "internal/resolve/resolve.go", "Budget", "200", "200"},
		{"proofs for one domain", "internal/resolve/dnssec/budget.go", "MaxQueries", "150", "150 questions"},
		{"proofs for one domain", "internal/resolve/dnssec/budget.go", "MaxChecks", "64", "64 signature"},
		{"proofs for one domain", "internal/resolve/dnssec/budget.go", "MaxFailures", "16", "16 of them"},
		{"proofs for one domain", "internal/resolve/dnssec/budget.go", "MaxHashes", "64", "64 NSEC3"},
		{"proofs for one domain", "internal/resolve/dnssec/budget.go", "MaxIterations", "50", "50 iterations"},
		{"proofs for one domain", "internal/resolve/dnssec/budget.go", "MaxWork", "32 * time.Millisecond", "32 ms"},
		{"keys", "internal/resolve/dnssec/algorithm.go", "maxModulus", "4096", "4096"},
		{"keys", "internal/resolve/dnssec/budget.go", "maxKeys", "64", "64 keys"},
		{"keys", "internal/resolve/dnssec/budget.go", "maxDigests", "32", "32 digests"},
		{"MX hosts of a domain", "internal/gather/gather.go", "MaxHosts", "30", "30"},
		{"names in one answer", "internal/verdict/verdict.go", "MaxNames", "100", "100"},
		{"names in one answer", "internal/verdict/verdict.go", "MaxDigests", "256", "256"},
		{"policy fetches", "internal/daemon/stack.go", "maxFetches", "64", "64 at once"},
		{"policy fetches", "internal/gather/sts.go", "maxWaiting", "16", "16 times"},
		{"policy fetches", "internal/fetch/dial.go", "maxAddresses", "6", "6 addresses"},
		{"policy fetches", "internal/fetch/fetch.go", "DefaultTimeout", "10 * time.Second", "10 s"},
		{"policy fetches", "internal/mtasts/policy.go", "MaxPolicySize", "64 << 10", "64 KB"},
		{"policy fetches", "internal/fetch/fetch.go", "maxHeaderBytes", "16 << 10", "16 KB"},
		{"a policy's age", "internal/mtasts/policy.go", "MaxMaxAge", "31_557_600 * time.Second", "31557600 s"},
		{"probes", "internal/probe/prober.go", "DefaultAtOnce", "16", "16 at once"},
		{"probes", "internal/probe/prober.go", "paceEvery", "250 * time.Millisecond", "250 ms"},
		{"probes", "internal/probe/client.go", "visitEvery", "5 * time.Second", "5 s"},
		{"probes", "internal/probe/prober.go", "maxTargets", "10_000", "10,000"},
		{"one probe", "internal/probe/client.go", "maxAddresses", "4", "4 addresses"},
		{"one probe", "internal/probe/client.go", "lookTime", "20 * time.Second", "20 s"},
		{"one probe", "internal/probe/client.go", "connectTime", "10 * time.Second", "10 s"},
		{"one probe", "internal/probe/client.go", "talkTime", "30 * time.Second", "30 s"},
		{"one probe", "internal/probe/exchange.go", "maxRead", "128 << 10", "128 KB"},
		{"pins", "internal/store/pins.go", "maxPins", "50_000", "50,000"},
		{"unwritten policies", "internal/store/store.go", "maxWaiting", "64 << 20", "64 MB"},
		{"verdicts in memory", "internal/engine/engine.go", "entryUnit", "512", "512 bytes"},
		{"explanations in memory", "internal/engine/engine.go", "explanations", "2048", "2048"},
		{"programs that are run", "internal/program/program.go", "runTime", "5 * time.Second", "5 s"},
		{"programs that are run", "internal/program/program.go", "maxOutput", "256 << 10", "256 KB"},
		{"configuration", "internal/config/config.go", "maxFile", "16 << 20", "16 MB"},
		{"milter: one frame, one command", "internal/milterd/guard.go", "maxFrame", "1 << 20", "1 MB"},
		{"milter: one frame, one command", "internal/milterd/guard.go", "maxCommand", "64 << 10", "64 KB"},
		{"milter: recipients of a message", "internal/milterd/session.go", "maxRecipients", "20_000", "20,000"},
		{"milter: questions under way", "internal/milterd/policyd.go", "maxQuestions", "256", "256"},
		{"a stop", "internal/lifecycle/lifecycle.go", "DrainTime", "15 * time.Second", "15 s"},
	}
}

// TestSecurityLimits: the limits in SECURITY.md are those of the code, and each is compared.
func TestSecurityLimits(t *testing.T) {
	checkLimits(t, "SECURITY.md", securityLimits())
	compared := map[string]bool{}
	for _, l := range securityLimits() {
		compared[l.row] = true
	}
	for _, row := range table(t, "SECURITY.md", "## Limits") {
		if !compared[row[0]] {
			t.Errorf("the limit %q of SECURITY.md is compared with nothing", row[0])
		}
	}
}
