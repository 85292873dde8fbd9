// Package siege holds tests only: the real policyd, as a process, under attack and
// with everything around it broken.
//
// Each test starts the daemon with a configuration of its own, in network and mount
// namespaces that belong to the test run alone, beside a resolver and policy hosts
// that do what the test wants: keep silent, lose packets, drip bytes, lie. Attackers
// are processes of their own, at a lower priority, so that what is measured is the
// daemon and not who attacks it. Two clients are asked to tell what an MTA would
// see: one asks for what is known, the other for what is not.
//
// To run it, on Linux with Go, as root or as any user who may make user namespaces:
//
//	make siege     # everything, in full: some 15 minutes
//	make soak      # an hour of mixed load and faults
//	TLSVERDICT_SIEGE=1 go test -v ./siege    # the short form, as CI runs it
//
// Without the variable only the tests of its own parts run. Each test prints its
// figures in lines that begin with "figure:"; docs/reliability.md has those of one
// run. Limits that a test holds are far from its figures, since a busy machine is slow
// and not wrong; what must never happen (an answer lost, a verdict lowered, a bound
// exceeded) is held exactly.
//
// What it does not do: it measures no speed (internal/... and docs/performance.md do)
// and forges no signature; those attacks are scenarios. The resolver here serves signed
// zones, and policyd validates what it says; some floods are tried with "trust-ad" too.
package siege
