package socketmapd

import (
	"fmt"
	"slices"
	"strings"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// longestSendmail bounds what Sendmail is told, in octets and, together with them, in
// words as its rulesets split them: a line that does not fit in a workspace there is no
// error, but one that no rule applies to, so that mail would go out unchecked.
const longestSendmail = 900

// appendSTS spells a verdict for FEATURE(sts) of Sendmail 8.16 and later. It knows one
// line, which names MX hosts and has them prove their own names; and it weighs that
// against DANE itself, or has no DANE, so that it is told of a policy even where DANE
// decides (RFC 8461 §2). Where that policy is not known yet the answer is "not found":
// what DANE asks for is in the tls map, and holds either way.
func appendSTS(_ *Options, dst []byte, d nexthop.Destination, r engine.Ruled) []byte {
	switch v := sendmail(d, r.Verdict).(type) {
	case verdict.NoPolicy, verdict.Encrypt:
		return postfixmap.AppendNotFound(dst)
	case verdict.DANEOnly, verdict.DANE, verdict.Fingerprint:
		policy := r.Beside.Policy()
		if policy == nil {
			return postfixmap.AppendNotFound(dst)
		}
		return appendSecure(dst, policy.Patterns, policy.Hosts)
	case verdict.STS:
		return appendSecure(dst, v.Patterns, v.Hosts)
	case verdict.WebPKI:
		return appendSecure(dst, v.Hosts, nil)
	case verdict.Defer:
		return postfixmap.AppendTemp(dst, v.Text)
	default:
		panic(fmt.Sprintf("socketmapd: the sts dialect has no words for a verdict of type %T", v))
	}
}

// sendmail is a verdict without an operator's own words.
func sendmail(d nexthop.Destination, v verdict.Verdict) verdict.Verdict {
	fixed, ok := v.(verdict.Fixed)
	if !ok {
		return v
	}
	return translate("Sendmail", d, fixed, func(names []string) (verdict.Verdict, error) {
		// Sendmail compares them with the MX host's own name, which must be the
		// certificate's, and takes one label for the dot: less than Postfix takes.
		patterns := make([]string, len(names))
		for i, name := range names {
			if base, below := strings.CutPrefix(name, "."); below {
				name = "*." + base
			}
			patterns[i] = name
		}
		return verdict.STS{Domain: d.Name, Patterns: patterns}, nil
	})
}

// appendSecure writes the line. servername=hostname must be there, and last. Where the
// patterns are too long, the names that they match say the same of today's MX hosts.
func appendSecure(dst []byte, patterns, hosts []string) []byte {
	for _, names := range [][]string{patterns, hosts} {
		p := secure(names)
		if len(p.Match) == 0 || slices.ContainsFunc(p.Match, unreadable) {
			continue
		}
		if out := appendPolicy(dst, p); words(out[len(dst):]) <= longestSendmail {
			return out
		}
	}
	return postfixmap.AppendTemp(dst, "no name of the policy can be written for Sendmail, or too many would have to be")
}

// words is the room that a line takes in Sendmail: its octets, and one more for each
// word, which end at an operator.
func words(line []byte) int {
	n := len(line)
	for _, c := range line {
		if strings.IndexByte(".:%@!^/[]+=<>();, ", c) >= 0 {
			n += 2
		}
	}
	return n
}

// unreadable is for names of hosts that Sendmail would take apart otherwise.
func unreadable(name string) bool {
	return strings.ContainsAny(name, "%@!^/[]+=<>();,$\"\\ \t")
}
