package socketmapd

import (
	"fmt"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// maxPolicy bounds a policy line. Postfix takes 100,000 bytes a reply; the status
// word and a margin for other implementations are left.
const maxPolicy = 90_000

// appendTLSRPT spells a verdict for Postfix 3.10 and later, which reports what it
// is told of MTA-STS policies (RFC 8460) and, from 3.10.5 on, compares MX names
// with the policy's patterns itself, as RFC 8461 §4.1 wants it.
func appendTLSRPT(opt *Options, dst []byte, d nexthop.Destination, r engine.Ruled) []byte {
	var p *postfixmap.TLSPolicy
	switch v := r.Verdict.(type) {
	case verdict.STS:
		p = secure(v.Patterns)
		addReport(p, &verdict.STSReport{Domain: v.Domain, Patterns: v.Patterns, Lines: v.Lines})
	case verdict.NoPolicy:
		if v.Report != nil && opt.ReportLevel != "" {
			// An explicit level replaces that of main.cf: the operator says
			// that they are the same.
			p = &postfixmap.TLSPolicy{Level: postfixmap.LevelMay}
			addReport(p, v.Report)
		}
	case verdict.DANEOnly, verdict.DANE, verdict.Fingerprint, verdict.Encrypt, verdict.WebPKI, verdict.Fixed, verdict.Defer:
	default:
		panic(fmt.Sprintf("socketmapd: the postfix-tlsrpt dialect has no words for a verdict of type %T", v))
	}
	if p != nil {
		if out, ok := appendReported(dst, p); ok {
			return out
		}
	}
	return appendPostfix(opt, dst, d, r)
}

// addReport adds what Postfix reports of a policy, or of a failure to get one. A
// policy's own line that cannot be written is left out of it.
func addReport(p *postfixmap.TLSPolicy, r *verdict.STSReport) {
	p.PolicyType, p.PolicyDomain, p.PolicyFailure = postfixmap.PolicySTS, r.Domain, postfixmap.PolicyFailure(r.Result)
	p.MXHostPatterns = spell(r.Patterns, postfixmap.MXHostPattern)
	p.PolicyStrings = spell(r.Lines, postfixmap.PolicyString)
}

// appendReported writes a policy with its report, without the policy's text where
// that would not fit in a reply. False: the report cannot be written at all, since
// it is too long or its domain is no host name. The line without a report is then
// the answer: mail must not wait for a report (RFC 8461 §5).
func appendReported(dst []byte, p *postfixmap.TLSPolicy) ([]byte, bool) {
	if p.Level == postfixmap.LevelSecure && len(p.Match) == 0 {
		return dst, false
	}
	if !fits(p) {
		if p.PolicyStrings = nil; !fits(p) {
			return dst, false
		}
	}
	out, err := p.AppendTo(append(dst, "OK "...), postfixmap.V3_10)
	return out, err == nil
}

// fits reports whether the line, with what separates its attributes, stays below
// maxPolicy.
func fits(p *postfixmap.TLSPolicy) bool {
	const attribute = len(" { policy_string =  }")
	n := 0
	for _, list := range [][]string{p.Match, p.MXHostPatterns, p.PolicyStrings} {
		for _, s := range list {
			n += len(s) + attribute
		}
	}
	return n < maxPolicy
}
