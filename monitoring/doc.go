// Package monitoring has tests only: the alerts and the dashboard of contrib, by a real
// Prometheus that scrapes a real policyd.
//
//	make metrics-check                 # fetches Debian's prometheus, and installs nothing
//	TLSVERDICT_MONITORING=$(monitoring/setup) go test -v ./monitoring/
//
// The policyd has name servers of this package, which fail for everything, and a store with
// a policy whose host is gone, so that there is something wrong to tell. All of it is on
// loopback.
//
// Without TLSVERDICT_MONITORING nothing runs.
package monitoring
