package socketmapd

import (
	"fmt"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// appendTLS spells a verdict for the rules that stand in Sendmail's LOCAL_TLS_RCPT.
// They ask for what FEATURE(sts) has no words for, and for each recipient, so that a
// session that one domain's policy began carries no mail of a stricter one.
func appendTLS(_ *Options, dst []byte, d nexthop.Destination, r engine.Ruled) []byte {
	switch v := sendmail(d, r.Verdict).(type) {
	case verdict.NoPolicy:
		return postfixmap.AppendNotFound(dst)
	case verdict.Encrypt:
		return append(dst, "OK encrypt"...)
	case verdict.DANE:
		return append(dst, "OK dane"...)
	case verdict.DANEOnly, verdict.Fingerprint:
		// Digests are for an MTA that cannot look TLSA records up; Sendmail can, or
		// knows that it cannot.
		return append(dst, "OK dane-only"...)
	case verdict.STS:
		return appendSecure(dst, v.Patterns, v.Hosts)
	case verdict.WebPKI:
		return appendSecure(dst, v.Hosts, nil)
	case verdict.Defer:
		return postfixmap.AppendTemp(dst, v.Text)
	default:
		panic(fmt.Sprintf("socketmapd: the tls dialect has no words for a verdict of type %T", v))
	}
}
