// Package dnssec proves DNS answers: a validating stub (RFC 4033, RFC 4035)
// behind recursive name servers that it need not trust.
//
// # What it does
//
// A Validator holds trust anchors and what was proven of zone cuts. A Session answers
// the questions of one destination through an Upstream, which sends queries with DO and
// CD. Every answer comes with its proof:
//
//   - Secure: a chain of signatures leads from an anchor to the records, or to the
//     NSEC or NSEC3 that deny them.
//   - Insecure: a signed zone proves that a zone on the way down is not signed, or the
//     chain ends in algorithms, iterations or an opt-out span that prove nothing.
//   - Bogus: signatures are required and do not hold. The answer has failed.
//   - Indeterminate: nothing could be learnt, and the answer has failed; or no anchor is
//     above the name, so that its records may be read and prove nothing.
//
// The chain is walked from the top: each level is a question for DS that the zone above
// must answer with proof. So an RRset is checked only with the keys of its proven zone,
// and a missing signature never makes anything insecure. The signer that a signature
// names is a hint where to walk, and no more.
//
//	v := dnssec.New(dnssec.Config{})
//	s := v.Session(upstream)
//	defer s.Close()
//	mx := s.Lookup(ctx, "example.com.", dns.TypeMX)
//	if mx.Outcome == verdict.Failed {
//		return mx.Err // "dnssec: example.com. MX: signature expired: expired at ..."
//	}
//	for _, step := range mx.Chain() {
//		fmt.Println(step) // ". DNSKEY: a trust anchor matches, signed by 20326/RSASHA256", ...
//	}
//
// What goes wrong at an anchor goes wrong for every destination: an upstream that strips
// signatures, or a clock that is off. Error.Anchor tells it from a destination that is
// bogus, and Session.Check looks for it.
//
// # Files
//
// The proofs are functions of RRsets, keys, a time and a Budget, without I/O: canonical.go
// (names and their order), message.go, rrset.go and rdata.go (what a reply holds),
// signature.go, algorithm.go, keys.go and ds.go (signatures and keys), denial.go, nsec.go
// and nsec3.go. The walk asks and remembers: walk.go (zone cuts), answer.go, alias.go and
// prove.go (answers), validator.go and flight.go (sessions and their questions), cache.go
// and refresh.go. anchor.go, edition.go, trace.go and fault.go are data.
//
// # Sharing
//
// Destinations share what is proven of zone cuts, one flight each, and, while their
// sessions are open, the replies to questions about them; answers are each session's own.
// One session's lack of time, questions or replies is never another's failure, and a reply
// that did not hold is asked for by oneself before anyone is believed to be broken. What
// panics in a goroutine of this package panics in the lookup that needs its reply.
//
// # Limits
//
// One Budget is shared by all questions of a destination: see the constants. Each kind of
// work has a bound of its own, and all of it is paid from one account of processor time,
// MaxWork. It lasts for thirty hosts that are aliases, or for eighteen in zones signed with
// P-384, and keeps the worst destination below 50 ms (BenchmarkWorst). Where it ends the
// answer has failed, and nothing is remembered of it. What the library takes to unpack a
// reply is the caller's. The cache of zone cuts is bounded by octets.
//
// Nothing is used past its TTL, which is the least of the records' TTL, the original TTL
// and the time until the signature expires, less its age, and a day for keys and
// delegations. A signature is taken for a tenth of its life, an hour to a day, before and
// after its time, since clocks differ; past its time it gives a TTL of zero. With
// Config.Refresh, those that are in use are learnt anew in the last tenth of that time.
// What does not hold is asked for once more, elsewhere; only then is a broken delegation
// remembered, for 45 seconds.
//
// Not supported: Ed448 and GOST (zones that have nothing else are insecure), RSA below 1024
// or above 4096 bits or with exponents above 64 bits (such a key signs nothing), anchors of
// unsupported algorithms only (all below them fails), RFC 5011 (Warnings says when anchors
// need renewal), answers out of cached denials (RFC 8198), and
// the types ANY, RRSIG, NSEC, NSEC3 and other meta types as questions.
package dnssec
