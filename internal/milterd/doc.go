// Package milterd judges mail at the moment when a mail server accepts it: it speaks
// the milter protocol of Sendmail and Postfix, asks for the verdict on each
// recipient's next hop, and holds it against the operator's rules.
//
//	server := milterd.New(milterd.Options{
//		Settings: &milterd.Settings{Rules: rules, Asker: milterd.NewPolicyd(address, log), Deadline: 15 * time.Second},
//		MaxConnections: 1024, Log: log,
//	})
//	go server.Serve(listener)
//	...
//	err := server.Shutdown(ctx)
//
// # One message
//
//  1. MAIL tells the sender, whether he logged in, and REQUIRETLS (RFC 8689 §4.1).
//  2. RCPT tells a recipient, and by macros the next hop that the MTA chose. Rules.Match
//     finds the rule; if that needs no headers, and the MTA can refuse a recipient, the
//     verdict is asked for and Decide says what is answered. Else it is asked for
//     ahead of time.
//  3. Header fields are looked at one by one and not kept.
//  4. At the end of the message what is left is decided, the strictest answer is the
//     message's, and the header is written.
//
// An answer that somebody reads has a reason. Reasons cost policyd a thousand times as
// much as verdicts, so that they are asked for then only, once for a next hop, and an
// answer goes without where they do not come at once.
//
// Rules, Judge, Decide and Worst are pure: facts in, decision out. Everything that
// waits is in Server, and everything that a peer can do wrong ends at Guard.
//
// # Errors
//
// Where no verdict can be had (ErrNoVerdict) mail to which a rule applies is deferred,
// or accepted if Settings.OnError says so. It is never refused for good for a reason
// that may pass: a verdict to defer leads to a temporary answer too. A panic in a
// callback, or in an Asker, is a deferral and a record.
//
// # Limits
//
// Guard bounds connections, the size of packets and the time that they take. A message
// has 16 questions under way at most, and 20,000 recipients; 64 questions are asked
// ahead of time, 16 for reasons, and 256 of a policyd in all. The text of an answer has
// 440 bytes of printable ASCII.
//
// # What it does not do
//
// It enforces nothing on the wire: the MTA does, by the policies that policyd answers.
// It does not look at bodies, and changes no recipients. It cannot know what the MTA
// does with mail after it was accepted: a later alias, or a transport that is changed
// while mail waits, leads elsewhere.
package milterd
