// Package verdict decides how strict TLS must be for a destination.
//
// It is the shared verdict engine's heart, and pure: Facts go in, a Ruling comes
// out. There is no context, error, logger, clock or I/O in it; time is Facts.Now.
//
//	facts := gatherer.Facts(ctx, destination)
//	ruling := verdict.Decide(facts)
//	switch v := ruling.Verdict.(type) {
//	case verdict.DANEOnly: ...
//
// # What it rests on
//
// Each fact is an Answer: found, proven absent, or failed, with its DNSSEC status.
// A failure is a fact like any other and never stands for absence. The zero values
// are the least trusted ones: an Answer that was never asked for makes Decide
// panic, since to decide on it is a defect of the caller.
//
// # What it promises
//
//   - A failed lookup never makes a verdict laxer than the answer it hides would.
//   - An unproven answer is never read as an unsigned one: Indeterminate defers.
//   - The signals beside DANE and MTA-STS only ever raise a verdict.
//   - Every ruling says why: the last of its Reasons is decisive, each carries the
//     section it rests on.
//
// # What it does not do
//
// It does not look anything up (package gather), keep rulings (package engine), or
// know how an MTA spells a verdict (package socketmapd).
package verdict
