// Package lint tells the owner of a domain what is wrong with the signals by which
// senders learn that its mail needs TLS, and how to mend it.
//
//	findings := lint.Check(evidence)
//	for _, f := range findings {
//		fmt.Println(f.Severity, f.Code, f.Subject, f.Detail)
//		fmt.Println(f.Kind().Why, f.Kind().Mend)
//	}
//
// It looks at what the rest of the program believes or passes over: the MX records and
// their DNSSEC status, TLSA records and the places where people put them by mistake,
// the MTA-STS record and policy, the record for TLS reports, the MX prefix, and the
// strict-TLS records. Where the hosts were probed it holds their certificates against
// all that. What is in order is a finding as well, so that a list without a line about
// DANE cannot be taken for one that has passed it.
//
// Severities:
//
//	error      senders that look at the signal delay mail, or the signal protects nothing
//	warning    it works, and a step that is usual will break it, or it protects less than it seems to
//	notice     something that could be published and is not
//	unknown    it could not be looked at, and why
//	ok         looked at, and in order
//
// The package is pure: evidence in, findings out. It does not ask; package survey does.
//
// What it does not do: it does not look at the ciphers, at SPF, DKIM or DMARC, or at
// how the mail server treats mail; and of a host that it was not allowed to probe it
// knows no certificate.
package lint
