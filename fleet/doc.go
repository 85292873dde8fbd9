// Package fleet is for tests only: three policyd processes that share real Redis servers,
// with everything that can go wrong between them. "make fleet" runs it; it needs root, and
// on Debian it fetches Redis through apt, without installing it.
//
// Every process is in a network namespace of its own, below one that has the internet of
// package world on real sockets. Nothing is seen outside, and nothing is left.
//
// While a fault lasts, every node is asked the same questions over and over, and each
// answer must be what it was before.
package fleet
