// Package differential holds tests only: the validator beside other people's.
//
// A generator makes a small internet of some thousand specimens, each a top-level
// domain of its own with zones below it: every algorithm, key layout, phase of a
// rollover and kind of denial, and then every kind of damage that an attacker or a
// careless operator can do to a reply. One server answers, as a recursive resolver with
// CD does. Our validator, Debian's unbound and, for a sample, delv ask it the same
// questions, each with the generated root's keys as anchor, and what they say is
// compared: secure, insecure or bogus, the outcome, and the records.
//
// There are two judgements. The zones themselves say what is true, so that whatever is
// secure must be true and nothing that is signed may be insecure, whoever agrees. And
// every difference from another validator must be of a kind that explained_test.go
// explains, with the section of the standard; docs/dnssec.md has the same table. One
// that is not explained fails the run.
//
// To run it, as root on Debian:
//
//	make differential
//
// which takes the programs out of the roots that the lab unpacks, one after another, and
// half a minute for each. TLSVERDICT_DIFFERENTIAL is set to the seed that the choices
// come from (make differential SEED=7), and TLSVERDICT_PEERS to the root with the
// programs; without that, they are this machine's own. Keys are new each time. Without
// the variables only the tests run that need no other program.
//
// TestBeside measures what proof costs, ours and unbound's side by side:
//
//	make bench-dnssec
//
// What it does not do: it says nothing of how a resolver finds servers, or of caches that
// hold bad data.
package differential
