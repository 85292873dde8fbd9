// Package bench holds tests only: it measures whole processes of the real policyd,
// and writes what it found into docs/performance.md.
//
//	make bench-tables                # everything; half an hour
//	make bench-tables PART=warm      # one part
//	make bench-peers                 # another daemon beside it; root, on Debian
//
// A figure alone says more of the machine than of the program. So nearly everything
// is measured beside the floor: a server that reads a netstring and echoes it, with
// no limits, no deadlines and no meaning. It is a process of its own, in the same
// language, on the same transport, asked the same questions by the same client in
// the same run. The two take turns, in rounds of under a second, and what counts is
// the median of the rounds' quotients: whatever else the machine does hits both.
//
// # Parts
//
//	warm     rate, CPU and percentiles of answers that are known
//	worst    the slowest answer while a million domains are filled, refreshed, expired and stored
//	memory   bytes a domain, and the process with a million of them
//	start    from exec to the first answer
//	cold     time, CPU and DNS questions of domains that nobody knew
//	fleet    ten million deliveries in a simulated week
//	growth   how all this grows with domains and connections; the plots
//	milter   messages through cmd/milter, beside the milter library doing nothing
//
// # Who is measured
//
// warm, start and cold run "policyd serve" with a configuration file, against a name
// server of this package on loopback: either a synthetic one for any number of
// domains, which says AD, or the signed one of internal/world.
//
// worst, memory and growth need a million domains, and a command that is run again
// must end in minutes. They run the stand-in: this test binary as a process that holds
// policyd's engine, store, dialects and server, with facts made up in place of DNS
// answers. From the socket to the cache it is the same code; the part warm measures
// both at a thousand domains, so that it shows if they differ.
//
// fleet runs the engine in a synctest bubble, where a week takes a minute.
//
// # Limits
//
// Client and server share the processors of one machine: rates are lower than a
// server alone would have, for the floor just as much. Percentiles are those of a
// client that asks again as soon as it has its answer, but in worst, where questions
// are due at fixed times and a late answer delays no clock.
//
// Nothing here judges: no test fails because a machine is slow, and none runs in CI.
// Without TLSVERDICT_BENCH in the environment only the tests of the room's own parts
// run. With TLSVERDICT_BENCH=write the tables and plots in docs are written anew.
package bench
