// Package fetch gets a domain's MTA-STS policy over HTTPS (RFC 8461 §3.3).
//
//	f := &fetch.Fetcher{Resolve: resolver}
//	policy, err := f.Fetch(ctx, "example.com")
//
// asks https://mta-sts.example.com/.well-known/mta-sts.txt once and returns the
// policy that is there. The address of the policy host is chosen by whoever owns
// the domain that mail is sent to, so every part of the answer is hostile until
// proven otherwise:
//
//	where to     port 443 of public addresses only, at most 6 of them, as the
//	             resolver gave them; private ones only by Fetcher.Allow
//	who          TLS 1.2 or later, a certificate for mta-sts.<domain> by its DNS
//	             names, from the roots; never for a CNAME's target (RFC 8461 §8.2)
//	what         status 200, text/plain, not compressed, 64 KB at most;
//	             no redirects, cookies, proxies, caches or credentials
//	how long     one deadline over everything, 10 s unless set
//
// # Errors
//
// Every error is an *Error. Its Kind is a result type of RFC 8460 §4.3.2.2 and its
// Fault says who can mend it. After any of them a cached policy still applies, and
// without one the domain counts as one without MTA-STS (RFC 8461 §3.3).
//
// # What it does not do
//
// It does not read the TXT record, keep policies, or wait between attempts: that
// is for its caller, by the rules of package mtasts. It does not ask whether the
// certificate was revoked.
package fetch
