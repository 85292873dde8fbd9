// Package mtasts reads and applies MTA-STS (RFC 8461): the TXT record that says
// that a domain has a policy, the policy itself, the MX host patterns in it, and
// how long a sender keeps it.
//
//	_mta-sts.example.com. TXT "v=STSv1; id=20260101T000000;"
//
//	https://mta-sts.example.com/.well-known/mta-sts.txt:
//	version: STSv1
//	mode: enforce
//	mx: mail.example.com
//	mx: *.example.net
//	max_age: 604800
//
// A caller goes through it in this order:
//
//	rec, err := mtasts.ParseRecord(txts)      // what DNS says
//	policy, err := mtasts.ParsePolicy(body)   // what the policy host says
//	kept := mtasts.Cached{Domain: "example.com"}.AfterSuccess(now, rec.ID, policy, jitter)
//	kept.Fresh(later)                         // may it be applied?
//	kept.Policy.Match("a.example.net")        // true: exactly one label more
//	kept.Policy.Match("a.b.example.net")      // false
//	kept.Next(later)                          // wait, fetch it again, retire or drop it?
//
// # Errors
//
// ParseRecord returns ErrNoRecord, ErrMultipleRecords or ErrBadRecord; after each
// of them no policy is discovered, and a cached one that has not expired still
// applies (RFC 8461 §3.1, §5.1). ParsePolicy returns a *PolicyError that names the
// line; such a fetch has failed, and again a cached policy still applies.
//
// # Limits
//
// A policy has at most MaxPolicySize octets; every mx line that fits is kept. Work
// and memory grow with the size of the input and no faster.
//
// # What it does not do
//
// It asks nothing: no DNS, no HTTPS, no clock (the time is a parameter, and so is
// the jitter). It does not compare certificates, which the MTA does, and it does
// not weigh MTA-STS against other signals, which package verdict does.
package mtasts
