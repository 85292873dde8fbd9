// Package world is the internet in a box, for tests: a recursive resolver with a
// DNSSEC status for each answer, HTTPS policy hosts with a CA of their own, and the
// faults and attacks that they can be made to show, all in memory.
//
//	synctest.Test(t, func(t *testing.T) {
//		w, err := world.New()
//		...
//		defer w.Close()
//		err = w.DNS.Load(`
//	zone example.com. secure
//	@            MX   10 mx
//	mx           A    192.0.2.1
//	_25._tcp.mx  TLSA 3 1 1 {sha256}
//	`)
//		resolver, err := resolve.New(resolve.Config{Dial: w.DNS.Dial, ...})
//		...
//		w.DNS.SetStatus("example.com.", world.Status{Kind: world.ServFail})
//	})
//
// Nothing in it sleeps, opens a socket or needs the network, so that everything can
// run in a synctest bubble, where an hour costs nothing. Every DNS answer takes
// Latency, and nothing else takes time unless it is told to: in a bubble the time
// that a question took says how many DNS rounds it needed.
//
// # Zones
//
// Load reads zones as in a zone file, with two additions: "zone NAME STATUS" begins
// one, and "NAME TYPE !STATUS" gives one name and type (or ANY) another status than
// its zone. The statuses:
//
//	secure      the answer validates: AD
//	insecure    the zone is not signed
//	bogus       the signatures do not hold: SERVFAIL with extended error 6
//	servfail    the zone's name servers are broken
//	refused     the resolver refuses to answer
//	timeout     no answer ever comes
//	slow 2s     as the zone's status, but late
//
// "$TTL 60" sets the TTL of what follows, denials included. In a record's data
// {sha256} and {sha512} stand for some digest of that length, {cert} and {key} for a
// certificate and a public key in DER. "%repeat 20 @ MX 10 mx%d" writes the rest of
// its line twenty times, with %d as 1 to 20.
//
// CNAMEs are followed as a recursive resolver does, and the answer is secure only
// where every link is. Names that no zone holds are denied by a signed root. NODATA
// and NXDOMAIN have the SOA of their zone.
//
// # Policy hosts
//
// Web.Publish puts a policy at https://mta-sts.DOMAIN/.well-known/mta-sts.txt; the
// address of that name must be in a zone. Web.Change makes the host fail: see Host.
//
// # What it does not do
//
// It does not sign: a validator that wants RRSIGs finds none. It has no DNAME and no
// wildcards. A zone's contents are not checked for sense.
package world
