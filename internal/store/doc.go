// Package store keeps what must survive a restart: the MTA-STS policies that a
// sender has fetched. Without it every restart would be a first contact, which is
// the moment an attacker who blocks a policy host waits for (RFC 8461 §10.2).
//
//	s, err := store.Open("/var/lib/tlsverdict/policyd.db", log)
//	s.PutPolicy(cached)                      // returns at once
//	cached, found, err := s.Policy("example.com") // sees it at once; err: it cannot be known
//	for _, domain := range s.Due(now, 100) { // whose refresh is due, earliest first
//		...
//	}
//	err = s.Sync(ctx)                        // all of it is on disk
//
// # How it works
//
// Changes go to memory and are visible from there; one goroutine writes all that
// have gathered in one transaction of a bbolt file, so that a thousand changes cost
// about as much as one. A reader waits neither for the disk nor for that goroutine.
// Nothing is loaded at start but the list of free pages.
//
// The file has two buckets: "policies" has a record for each domain, "due" has
// a key for each record, its next refresh in order of time. Both change in one
// transaction. A record keeps the policy as its domain sent it: reading it goes
// through the parser again, which stays the one gate for policies. Records have a
// version and a checksum; one that is damaged or of another version is ignored,
// counted and logged, and later removed.
//
// # Errors
//
// Open fails only where somebody must act: the file is in use (ErrLocked), or the
// path can never be a file. Everything else is survived, said in the log once, and
// counted in Stats:
//
//	disk full, read-only     policies stay in memory, and writing is tried again;
//	                         what is on disk is still read
//	file damaged at start    moved aside to NAME.corrupt-<time>, started empty
//	file damaged later       the same, with every record that can still be read
//
// # Limits
//
// Changes that are not on disk yet, or with an empty path all policies, take at most
// 64 MB; more are refused, counted and logged. One process has the file at a
// time. Times are kept to the nanosecond, in UTC.
//
// # What it does not do
//
// It does not fetch, and it does not drop what has expired: its user does, when
// Due names it.
package store
