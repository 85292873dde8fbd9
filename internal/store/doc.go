// Package store keeps what must survive a restart: the MTA-STS policies that a
// sender has fetched, and the pins of mail hosts that showed a banner (package signal).
// Without it every restart would be a first contact, which is
// the moment an attacker who blocks a policy host waits for (RFC 8461 §10.2).
//
//	s, err := store.Open("/var/lib/tlsverdict/policyd.db", log)
//	s.Update("example.com", func(old mtasts.Cached, found bool) (mtasts.Cached, bool) {
//		return old.AfterSuccess(now, id, policy, jitter), true // returns at once
//	})
//	cached, found, err := s.Policy("example.com") // sees it at once
//	for _, domain := range s.Due(now, 100) {      // to be looked at, earliest first
//		...
//	}
//	err = s.Sync(ctx)                             // all of it is on disk
//
// # How it works
//
// Changes go to memory and are visible from there; one goroutine writes all that
// have gathered in one transaction of a bbolt file, so that a thousand changes cost
// about as much as one. A reader waits neither for the disk nor for that goroutine.
// Of policies nothing is loaded at start but the list of free pages.
//
// The file has three buckets: "policies" has a record for each domain, "due" has
// a key for each record, its next refresh in order of time, and "pins" a record for each
// pinned host. All change in one transaction. A record keeps the policy as its domain sent it: reading it goes
// through the parser again, which stays the one gate for policies. Records have a
// version and a checksum.
//
// Changes of one domain come one after the other, also those of several users of the
// store: Update reads what is newest, lets its caller change it, and keeps that.
//
// # Errors
//
// Open fails only where somebody must act: the file is in use (ErrLocked), or the
// path can never be a file. Policy, and Pin, fails where it cannot be known whether there is
// a policy; what is in memory is known all the same. Everything else is
// survived, said in the log once, and counted in Stats:
//
//	disk full, read-only     policies stay in memory, and writing is tried again;
//	                         what is on disk is still read
//	file cannot be read      Policy fails for all that is not in memory, until
//	                         the file can be read again
//	file damaged             moved aside to NAME.corrupt-<time>; every record that can be
//	                         reached is copied to a new file. Until then Policy fails
//	                         where it meets the damage
//	pin damaged, or of       the host counts as pinned for 7 days, or until it is
//	another version          learned anew
//	record damaged, or of    Policy fails until a policy is put in its place, for at most
//	another version          7 days after its NextTry; then it is removed
//
// # Limits
//
// Changes that are not on disk yet, or with an empty path all policies, take at most
// 64 MB; beyond that those that were not asked for longest are forgotten, counted and
// logged. All pins are in memory, 50,000 at most: beyond that no more are taken (ErrFull),
// and none is forgotten. One process has the file at a time. Times are kept to the nanosecond, in UTC.
//
// Which domains a lost page had cannot be known: after the rest has been copied, they
// are domains without a policy. The log says that it happened.
//
// A damaged pointer from one page of the file's tree to another that is above it
// sends bbolt down for ever, until the stack or the memory is used up, which nothing
// within the process can survive. Each page carries its number and bbolt compares it, so that pages in
// the wrong place are noticed; it takes a changed pointer that happens to be the
// number of such a page. Only a walk through the whole file before each use
// would find it. Where a daemon dies or hangs at each start and a stack trace shows
// bbolt's cursor, move the file away.
//
// # What it does not do
//
// It does not fetch, and it does not drop what has expired: its user does, when
// Due names it and mtasts.Cached's Next says so.
package store
