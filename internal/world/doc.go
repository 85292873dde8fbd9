// Package world is the internet in a box, for tests: signed zones behind recursive
// resolvers, HTTPS policy hosts with a CA of their own, mail servers to be looked at, and
// the faults and attacks that they can be made to show, all in memory.
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
//		err = w.DNS.SetZone("example.com.", "servfail")
//		err = w.DNS.Attack("strip", "mx.example.com.", "A", "rrsig")
//	})
//
// Nothing in it sleeps, opens a socket or needs the network, so that everything can
// run in a synctest bubble, where an hour costs nothing. Every DNS answer, and every
// connection to a mail server, takes
// Latency, and nothing else takes time unless it is told to: in a bubble the time
// that a question took says how many DNS rounds it needed.
//
// # Zones
//
// Load reads zones as in a zone file, with two additions: "zone NAME STATUS [OPTION...]"
// begins one, and "NAME TYPE !STATUS" gives one name and type (or ANY) another status
// than its zone. The statuses:
//
//	secure      the zone is signed, and its parent says so
//	insecure    it is not signed, and a signed parent proves that
//	bogus       it is signed, and the signatures do not hold
//	servfail    its name servers are broken
//	refused     the resolver refuses to answer
//	timeout     no answer ever comes
//	slow 2s     as the zone is otherwise, but late
//
// The parent of a zone is the one that encloses it; the root is there from the
// beginning, and signed. The options say how a zone is signed:
//
//	nsec, nsec3, opt-out, compact    how it denies (RFC 4034 §4.1, RFC 5155 §3,
//	                      RFC 9824 §2); nsec is the default
//	iterations=N, salt=HEX           of NSEC3
//	algorithm=N           13 is the default; 5, 7, 8, 10, 14, 15; of any other the
//	                      keys and signatures are noise
//	digest=N              of the DS; 2 is the default
//	csk                   one key, where there are a KSK and a ZSK otherwise
//	keys=N                so many keys more, which sign nothing
//	rolled                new keys in place of those of before, at once
//	signed=FROM..TO       signed once, with signatures that hold from and to these
//	                      times from now ("-720h..+2h"); "always" is the default
//
// "$TTL 60" sets the TTL of what follows, denials included. In a record's data
// {sha256} and {sha512} stand for some digest of that length, {cert} and {key} for a
// certificate and a public key in DER. {rr "TEXT"} stands for the data of a type without
// a name (TYPE65400), as one character-string. "%repeat 20 @ MX 10 mx%d" writes the rest of
// its line twenty times, with %d as 1 to 20. {mail} is the SHA-256 digest of the key that
// all mail servers have.
//
// CNAMEs and DNAMEs are followed as a recursive resolver does, wildcards are expanded
// (RFC 4592 §3.3.1), and the answer is secure only where every link is. Names that no
// zone holds are denied by the root. NODATA and NXDOMAIN have the SOA of their zone.
//
// To a query with DO the reply has RRSIG and what proves a denial. To one with CD a
// resolver that validates passes on what is bogus, and without it SERVFAIL.
//
// # Attacks
//
// DNS.Attack changes answers on their way to all resolvers, or makes one resolver lie.
// DNS.SetClock makes the clock of this host wrong. DNS.Behave has resolvers that
// do not validate, say AD always, or know nothing of DNSSEC.
//
// # Policy hosts
//
// Web.Publish puts a policy at https://mta-sts.DOMAIN/.well-known/mta-sts.txt; the
// address of that name must be in a zone. Web.Change makes the host fail: see Host.
//
// # Mail servers
//
// Mail.Change has one listen on a port, with TLS from the first byte or, on port 25, with
// STARTTLS; or fail: see Server. They take no mail.
//
// # What it does not do
//
// It makes no referrals: there are resolvers to be asked, and no name servers. A zone's
// contents are not checked for sense. Of a key rollover it has the end only.
package world
