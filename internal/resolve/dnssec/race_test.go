//go:build race

package dnssec

// raceFactor is how much slower the race detector makes everything.
const raceFactor = 20
