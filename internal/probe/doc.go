// Package probe finds out what mail servers do, by connecting to them as a client
// would, and remembers it for a while. It sends no mail.
//
//	client := &probe.Client{Facts: gatherer.Facts, Guard: guardian, Hello: "mail.example.net"}
//	prober := probe.New(probe.Config{Probe: client.Probe, Log: log})
//	go prober.Run(ctx)
//	...
//	target := probe.Target{Host: "smtps-mx.example.com", Port: 26, Kind: probe.Implicit}
//	prober.Want(target)
//	if prober.Good(target) { ... }
//
// # One probe
//
// Client.Probe makes one probe of one host, of one of two kinds:
//
//	Implicit   connect, TLS from the first byte, "220", EHLO, MAIL FROM:<>, RSET, QUIT
//	StartTLS   connect, "220", EHLO, STARTTLS, TLS, EHLO, QUIT
//
// The host has proved itself where all of that went well and its certificate holds: by
// its TLSA records where it has usable ones, which must be secure (RFC 7672 §2.2), and
// otherwise by a certificate authority for the literal host name. That is what Postfix
// will ask of it on the same port. TLSA records none of which can be used ask for
// nothing that would prove a host, so that it is held to its name there, too.
//
// Names and addresses are a stranger's word. The addresses come from the resolver that
// verdicts come from; those that are not public are refused (Guard), and those of this
// host itself (Own), so that nobody's DNS makes this program look around in its
// operator's network. What is connected to is the address that was checked. One address is
// visited at most once in visitEvery, whatever the name.
//
// The peer gets the name of this host in EHLO, a moment of its time, and QUIT. It can
// answer slowly or without end: a probe takes talkTime after it has connected, and
// reads maxRead octets.
//
// # Many probes
//
// Prober makes probes in the background, and never on behalf of somebody who waits: Want
// and Renew note that a host is of interest and return. At most Config.AtOnce probes are
// under way, one begins every paceEvery at most, and maxTargets hosts are remembered.
// Places, and turns of those that are not believed, are shared out between the registered
// domains that the hosts are in: one with many leaves others theirs. Several clients share
// their Visits.
//
//	what became of it   believed     probed again, while somebody wants it
//	it proved itself    goodFor      after half to three quarters of that
//	it did not          not at all   after 5 minutes, then twice as long each time, up to 4 hours
//
// Config.Pace has other times, for who does not rely on the latest result.
//
// A result is never believed beyond its time. A probe that could not be made, because of
// this host or its resolver, says nothing of the other: an earlier good result then holds
// to its end. Renew has a host that is believed looked at soon, but not within freshAfter
// of the last look: for whoever is about to rely on it, or has just failed to.
//
// # Errors
//
// What kept a host from proving itself is an *Error with the stage and whose fault it is.
//
// # What it does not do
//
// It decides nothing. It knows nothing of domains: which hosts a domain has, and what
// may be concluded from them, is for packages verdict and socketmapd. Results are not
// stored: after a restart every host has to prove itself again. A certificate is not
// checked for revocation.
package probe
