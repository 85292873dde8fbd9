// Package browser has tests only: the status page in a real Chromium, as its readers
// see it.
//
//	make browser                        # installs Debian's chromium
//	TLSVERDICT_BROWSER=1 go test -v ./browser/
//	TLSVERDICT_BROWSER=1 go test ./browser/ -shots DIR     # writes what it saw as PNG files
//	TLSVERDICT_BROWSER=1 go test ./browser/ -run TestPictures -update    # the pictures of docs/status.md
//
// Two things are looked at: a policyd process that works on the signed internet of
// package world, which is reached through loopback; and the page of a snapshot that has
// something of everything, hostile names included. Both on a desk and on a telephone, by
// day and by night, with scripts switched off: nothing may overflow, nothing may be
// blocked or complained of, every number must be there, every text must stand out from
// what is behind it (WCAG 2.1 §1.4.3), and the box must work by keyboard alone.
//
// Without TLSVERDICT_BROWSER nothing runs; with it, a Chromium that is not there fails.
package browser
