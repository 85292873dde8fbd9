// Package doctor tells a postmaster what the verdicts stand on at this host, what is
// wrong with it, and the line that mends it: the resolver, the clock, the anchors and
// roots, the daemon itself, and each mail server that is set up here.
//
//	e := doctor.Evidence{Now: time.Now(), Host: ..., Policyd: ...}
//	e.MTAs = doctor.LookAtMTAs(ctx, program.Here())
//	for _, f := range doctor.Judge(e) {
//		fmt.Println(f.Severity, f.Check, f.Subject, f.Found)
//		fmt.Println(f.Mend)
//	}
//
// Judge is pure: evidence in, findings out. What looks at the world is thin and beside
// it: LookAtMTAs runs the mail servers' own tools (postconf, exim, sendmail) on a
// program.Machine; what policyd's own settings have to do with is looked at by the caller.
//
// Severities:
//
//	error      mail is held up, or goes out with less TLS than the verdict demands
//	warning    it works, and protects less than it seems to, or will not for long
//	notice     nothing is wrong, and worth knowing
//	unknown    it was not looked at, and why
//	ok         looked at, and in order
//
// Nothing is guessed: what could not be looked at is a finding of its own, and never one
// that it is in order.
//
// Each check has a name, which is stable, for scripts. Kinds lists them all; docs/doctor.md
// has the same list. A finding's Mend is what to type at a shell as root, or, where In
// names a file, what to write there.
//
// To add a mail server: evidence that its look function fills, a method of report that
// judges it, its kinds in a table; and one line each in LookAtMTAs, Judge and Kinds.
//
// What it does not do: it changes nothing. It does not send mail, and of the mail servers
// it looks at the settings that a verdict depends on, and no others.
package doctor
