package socketmapd

import (
	"fmt"

	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// maxPolicy bounds a policy line. Postfix takes 100,000 bytes a reply; the status
// word and a margin for other implementations are left.
const maxPolicy = 90_000

// appendTLSRPT spells a verdict for Postfix 3.10 and later, which reports what it
// is told of MTA-STS policies (RFC 8460) and, from 3.10.5 on, compares MX names
// with the policy's patterns itself, as RFC 8461 §4.1 wants it.
func appendTLSRPT(opt *Options, dst []byte, v verdict.Verdict) []byte {
	switch v := v.(type) {
	case verdict.STS:
		p := secure(v.Patterns)
		p.PolicyType, p.PolicyDomain, p.PolicyStrings = postfixmap.PolicySTS, v.Domain, v.Lines
		p.MXHostPatterns = spell(v.Patterns, postfixmap.MXHostPattern)
		return appendBounded(dst, p)
	case verdict.NoPolicy:
		if v.Report != nil && opt.ReportLevel != "" {
			return appendReport(opt, dst, v.Report)
		}
	case verdict.DANEOnly, verdict.DANE, verdict.Encrypt, verdict.WebPKI, verdict.Fixed, verdict.Defer:
	default:
		panic(fmt.Sprintf("socketmapd: the postfix-tlsrpt dialect has no words for a verdict of type %T", v))
	}
	return appendPostfix(opt, dst, v)
}

// appendReport hands over a policy that is not enforced, or a failure to get one,
// at the level that the operator says is main.cf's own: an explicit level
// replaces that one.
func appendReport(opt *Options, dst []byte, r *verdict.STSReport) []byte {
	p := &postfixmap.TLSPolicy{
		Level: postfixmap.LevelMay, PolicyType: postfixmap.PolicySTS, PolicyDomain: r.Domain,
		MXHostPatterns: spell(r.Patterns, postfixmap.MXHostPattern), PolicyStrings: r.Lines, PolicyFailure: postfixmap.PolicyFailure(r.Result),
	}
	return appendBounded(dst, p)
}

// appendBounded drops what is only reported where the line would not fit in a
// reply, or where a policy's own text cannot be written in it; never what is
// enforced.
func appendBounded(dst []byte, p *postfixmap.TLSPolicy) []byte {
	if fits(p) && p.Check(postfixmap.V3_10) == nil {
		return appendPolicy(dst, p, postfixmap.V3_10)
	}
	if p.PolicyStrings = nil; fits(p) {
		return appendPolicy(dst, p, postfixmap.V3_10)
	}
	p.PolicyType, p.PolicyDomain, p.MXHostPatterns, p.PolicyFailure = "", "", nil, ""
	return appendPolicy(dst, p, postfixmap.V3_10)
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
