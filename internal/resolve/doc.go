// Package resolve asks recursive name servers and says what their answers are
// worth.
//
// A TLS policy stands on DNS answers, and a forged one can take the policy away. So
// every answer carries its proof in the terms of RFC 4033 §5 (secure, insecure,
// bogus, indeterminate), and a lookup that failed is a fact of its own: it is never
// an absence (RFC 7672 §2.1.2).
//
//	r, err := resolve.New(resolve.Config{Mode: resolve.Validate})
//	defer r.Close()
//	go r.Watch(ctx)             // probes the servers, logs when that changes
//	s := r.Session()            // one destination
//	defer s.Close()
//	mx := s.MX(ctx, "example.com")
//	switch {
//	case mx.Broken():           // mx.Failure says what, and whose fault
//	case mx.Absent():           // the DNS says that there are none
//	case mx.Proof == verdict.Secure:
//		for _, rec := range mx.Records {
//			addrs := s.A(ctx, rec.Host)
//			...
//		}
//	}
//
// # Proof
//
// Mode Validate proves each answer in this process (package dnssec): queries have DO and
// CD, and no server is believed. An answer that does not hold is asked for at another
// server, or, where there is none, once more without CD, so that a validating server
// looks for a better one (RFC 4035 §4.7). What can go wrong is told apart:
//
//	what does not hold                     answer            proof
//	a signature, key or denial that the    Failed            Bogus, fault Remote
//	destination's own chain requires
//	the keys of the root: signatures are   as it was sent    Indeterminate
//	stripped, the clock or the anchors
//	are wrong
//	no server answers                      Failed            Indeterminate
//	the same, for addresses in a zone      Failed            Insecure
//	that is proven unsigned
//
// The probe validates the keys of the root and a denial by it through each server alone.
// A server that does not pass is asked after the others. Watch logs a trust anchor that
// is revoked, or a new key that is none, once a day.
//
// Mode TrustAD takes the AD bit of a validating resolver (RFC 4035 §3.2.3) for it,
// as Postfix does. The bit is worth what the resolver and the way to it are worth:
//
//	server passes the probe   AD    proof
//	yes                       set   Secure
//	yes                       clear Insecure
//	no                        any   Indeterminate
//
// The probe asks each server for the signed root, which must come with AD, also the
// second time, when it comes from a cache; and for what nobody signs, which must
// come without. So it tells a validator from a server that forwards, echoes the bit,
// always sets it, or forgets it. The server must be on loopback, unless TrustRemote
// vouches for the way. A probe is believed for ten minutes; where nobody watches, a
// lookup that finds none that young waits for a new one. Health says in words what
// is wrong with each server, and what to do.
//
// These were found to be judged rightly, on signed, unsigned and bogus names: Unbound
// 1.17 (validating and not, with identity hidden), BIND 9.18 (validating and not),
// Knot Resolver 5.6, systemd-resolved 252 with DNSSEC=yes, and dnsmasq 2.90 with
// dnssec, with proxy-dnssec and a cache (refused: it forgets AD), and without.
//
// Mode Off proves nothing: all answers of servers are Indeterminate, and the caller must know
// from its own configuration that this is no defect.
//
// # What a reply must be
//
// Each query has a socket, hence a random port, and a random ID of its own (RFC 5452
// §9.2). A packet counts only when it comes from the server asked, is a response, and
// repeats ID and question; anything else is passed over until the time-out. EDNS
// offers 1232 octets; a truncated or larger reply is asked for again over TCP.
//
// Of a reply, only the answer section counts, and in it only the CNAME chain from the
// name asked and the records at its end: at most eight links, each name with one.
// A malformed record spoils its set; a chain without records and without an SOA, a
// DNAME without its CNAME, a referral, or a reply shorter than its counts is a
// failure and no denial.
//
// # Failures
//
// An answer that is Failed says in one line what happened and names the server; its
// Fault is
//
//	Remote    SERVFAIL or silence of a server that is well otherwise, also where the
//	          caller would wait no longer; an answer marked stale; a reply that
//	          makes no sense; records wanted of a name that is no host's
//	Operator  a server that cannot be reached, refuses, does not recurse, was told
//	          to block the name, or fails its probe or does not end it in time
//	Ours      the budget is spent, or the caller gave up before the question was sent
//
// In mode TrustAD, SERVFAIL is all that is learnt of bogus data. Where it adds an extended
// error that says so (RFC 8914 §4), the proof is Bogus, else Indeterminate. What it
// marks as stale, answer or denial, fails for every type: nothing stale is ever used.
//
// # What is kept
//
// In mode Validate, what was learnt of hosts outlives a session, since many domains share
// them: addresses, aliases and TLSA records, in the first half of their TTL, for an hour
// and in 32 MiB at most. The validator keeps keys and delegations. In the other modes
// nothing is kept: a resolver's word ends when it is found to be worth nothing.
//
// # Limits
//
// A session sends at most Budget questions, retries and TCP included, and an equal
// question once. A server has Timeout for a try and gets two when it is silent; after
// SERVFAIL one more server is asked, if it is as trustworthy. A server that failed is
// tried after the others for 30 seconds.
//
// MaxInflight bounds the questions on their way, hence the sockets and file
// descriptors. A session has 16 of them at most, unless hardly anyone else asks; what
// more it asks waits. Half of MaxInflight is kept for the first four of a session. So
// destinations whose servers keep silent delay themselves: beside a hundred of the
// kind others still get their turn at once. Beyond that the next turn goes to whoever
// has the fewest.
//
// Names are given as A-labels of letters, digits, hyphens and underscores, with or
// without the trailing dot. Others are not asked for. A name that no zone can have,
// with a label that is empty or longer than 63 octets, or more than 255 on the wire, is
// NXDomain, Secure, for an hour: also a TLSA name that is too long because its host's
// is nearly so. A name that a zone can have and no host, with a space or a U-label, is
// answered so for A and AAAA, since no MTA connects to it; other types are Failed
// there. Host names in answers are in lower case without the trailing dot; what no
// host name has is written \DDD. TXT holds any octets.
//
// # What it does not do
//
// It does not notice stale answers of a resolver that does not mark them (Unbound
// does with ede-serve-expired, beside serve-expired). It follows no referral, uses no search list and no hosts file. It
// re-reads resolv.conf only while someone watches. It cannot see that a resolver was told
// to let bogus data pass (Unbound's val-permissive-mode), to leave some names unchecked
// (negative trust anchors), or that a forwarder on loopback without a cache passes on
// the AD bit of a resolver elsewhere: the proof is then as good as the way there.
package resolve
