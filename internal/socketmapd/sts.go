package socketmapd

import (
	"fmt"
	"strings"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// longestMatch bounds the names that Sendmail is told of, in octets. It cuts a list of
// more than 255 where it stands, so that good hosts are refused and half a name counts as
// one; and from about 900 on it cannot read the reply, which to its rules is as if there
// were none: mail would go out unchecked. Measured on 8.17.1.9 and 8.18.1.
const longestMatch = 253

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
// patterns are too long, the MX names that they match take their place; and of these, or
// of patterns that match none, as many as there is room for, most preferred first: a host
// that is left out gets no mail.
func appendSecure(dst []byte, patterns, hosts []string) []byte {
	names := spell(patterns, postfixmap.HostPattern)
	if octets(names) > longestMatch && len(hosts) > 0 {
		names = spell(hosts, postfixmap.HostPattern)
	}
	fitting := names[:0]
	for room := longestMatch; len(names) > 0; names = names[1:] {
		if need := len(names[0]) + 1; need <= room+1 {
			fitting, room = append(fitting, names[0]), room-need
		}
	}
	if len(fitting) == 0 {
		return postfixmap.AppendTemp(dst, "no name of the policy can be written for Sendmail")
	}
	p := postfixmap.TLSPolicy{Level: postfixmap.LevelSecure, Match: fitting, ServerName: postfixmap.ServerNameHostname}
	return appendPolicy(dst, &p)
}

// octets is how long names are with a colon between them.
func octets(names []string) int {
	n := len(names) - 1
	for _, name := range names {
		n += len(name)
	}
	return n
}
