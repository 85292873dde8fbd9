// Package house holds the tests that keep the house in order: which room may
// import which, what each citation rests on. It has no code of its own.
package house
