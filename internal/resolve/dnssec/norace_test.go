//go:build !race

package dnssec

const raceFactor = 1
