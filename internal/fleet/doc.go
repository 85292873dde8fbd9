// Package fleet lets the nodes of a fleet learn from each other: the MTA-STS policy that one
// of them fetched, and the pin that one of them learned, protect mail on all, through a
// shared store on Redis.
//
//	key, err := fleet.NewKey(secret)
//	n := fleet.New(fleet.Config{Server: server, Key: key, Store: st, Policies: true, Log: log})
//	go n.Run(ctx)
//	...
//	n.PublishPolicy(cached)            // this node fetched one
//	n.LearnPolicy(ctx, "example.com")  // this node knows none: does another?
//
// The reason is RFC 8461 §10.2: a policy protects those who have it already. Who sits between
// a node that was set up today and the world can keep it from its first one.
//
// # What is trusted
//
// A node's own store is its truth. The shared one is a place for notes, which anyone may have
// written: each note is read by the same parsers as what comes from the internet, is bounded
// in size and number, carries an HMAC of the fleet's key, and passes the rules of
// merge.go. By these nothing that is read makes a node demand less than it did, or for
// a shorter time, and what is missing takes nothing away.
//
// With no key whoever can write to the server can plant strict policies, so that mail to a
// domain waits. Then a note counts for a day at most, does not spare the node its own
// fetch, and is only read when it is asked for.
//
// # When
//
// PublishPolicy and PublishPin write behind, through a queue. LearnPolicy and LearnPins are
// for destinations that nothing is known of: they wait askTime at most, and not at all while
// the server is away. Run connects, and tries again after 1 to 60 seconds where it
// cannot; walks through all that this node knows, and writes what the shared store
// lacks, so that one that was wiped fills again; and, after each connecting, reads what other
// nodes know (only with a key).
//
// # Errors and limits
//
// There are none to the caller: without the shared store a node is what it is without a fleet.
// Problem says what is wrong, Stats counts, and the log has a record where that changes. A
// queue of maxQueue notes; records of maxRecord octets; maxPulled records taken in one
// reading of all; maxPins pins kept before no more are taken. Connections are guarded: see
// guard.go.
//
// # What it does not do
//
// It does not share verdicts, nor answers of DNS, and it has no say in what a policy means.
// Nothing is ever deleted from the shared store but by its end.
package fleet
