package socketmapd

import (
	"encoding/hex"
	"fmt"
	"strings"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// appendPostfix spells a verdict for smtp_tls_policy_maps (Postfix 3.4 and later).
func appendPostfix(_ *Options, dst []byte, _ nexthop.Destination, r engine.Ruled) []byte {
	switch v := r.Verdict.(type) {
	case verdict.NoPolicy:
		return postfixmap.AppendNotFound(dst)
	case verdict.DANEOnly:
		return append(dst, "OK dane-only"...)
	case verdict.DANE:
		return append(dst, "OK dane"...)
	case verdict.Fingerprint:
		return appendFingerprint(dst, v)
	case verdict.Encrypt:
		return append(dst, "OK encrypt"...)
	case verdict.STS:
		return appendPolicy(dst, secure(v.Patterns))
	case verdict.WebPKI:
		return appendPolicy(dst, secure(v.Hosts))
	case verdict.Fixed:
		return appendFixed(dst, v)
	case verdict.Defer:
		return postfixmap.AppendTemp(dst, v.Text)
	}
	panic(fmt.Sprintf("socketmapd: the postfix dialect has no words for a verdict of type %T", r.Verdict))
}

// secure is a WebPKI policy. servername=hostname sends the MX host as SNI, which
// RFC 8461 §7 demands and Postfix does not do by itself at this level.
func secure(names []string) *postfixmap.TLSPolicy {
	return &postfixmap.TLSPolicy{
		Level: postfixmap.LevelSecure, Match: spell(names, postfixmap.HostPattern), ServerName: postfixmap.ServerNameHostname,
	}
}

// fingerprint is DANE-EE without DNS: Postfix makes TLSA records 3 0 and 3 1 of each
// digest, for the algorithm of smtp_tls_fingerprint_digest. servername=hostname has
// it send SNI, which it does not by itself at this level. It departs from RFC 7672
// §8.1 where the MX host is an alias: SNI is then its own name, and not the one that
// the TLSA records are at.
func fingerprint(v verdict.Fingerprint) *postfixmap.TLSPolicy {
	p := &postfixmap.TLSPolicy{Level: postfixmap.LevelFingerprint, ServerName: postfixmap.ServerNameHostname}
	for i := range v.Digests {
		p.Match = append(p.Match, postfixmap.Fingerprint(v.Digests[i][:]))
	}
	return p
}

// appendFingerprint writes that policy as its encoder does, which takes ten times as
// long: there is nothing in a digest that has to be checked.
func appendFingerprint(dst []byte, v verdict.Fingerprint) []byte {
	if len(v.Digests) == 0 {
		return appendPolicy(dst, fingerprint(v))
	}
	dst = append(dst, "OK fingerprint match="...)
	for i := range v.Digests {
		for j := range v.Digests[i] {
			dst = append(hex.AppendEncode(dst, v.Digests[i][j:j+1]), ':')
		}
		dst[len(dst)-1] = '|'
	}
	return append(dst[:len(dst)-1], " servername=hostname"...)
}

// spell writes names and mx values as an attribute has them. In match=,
// "*.example.com" is ".example.com": Postfix then accepts any number of labels,
// where RFC 8461 §4.1 wants one; the postfix-tlsrpt dialect mends that from
// Postfix 3.10.5 on. What cannot be written is left out, so that fewer
// certificates match.
func spell(names []string, form func(string) (string, error)) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		if s, err := form(name); err == nil {
			out = append(out, s)
		}
	}
	return out
}

// appendFixed writes an override word for word. It was checked when the
// configuration was read.
func appendFixed(dst []byte, v verdict.Fixed) []byte {
	dst = append(append(dst, "OK "...), v.Level...)
	for _, a := range v.Attributes {
		if strings.ContainsAny(a.Value, " \t") {
			dst = append(append(append(append(append(dst, " { "...), a.Name...), " = "...), a.Value...), " }"...)
			continue
		}
		dst = append(append(append(append(dst, ' '), a.Name...), '='), a.Value...)
	}
	return dst
}

// appendPolicy encodes a policy strictly. What cannot be encoded defers: a line
// that Postfix reads differently would be a silent downgrade, and so would one
// that lost all it matches, since main.cf would then say what does.
func appendPolicy(dst []byte, p *postfixmap.TLSPolicy) []byte {
	if len(p.Match) == 0 {
		return postfixmap.AppendTemp(dst, "no name of the policy can be written in a policy line")
	}
	out, err := p.AppendTo(append(dst, "OK "...), postfixmap.V3_4)
	if err != nil {
		return postfixmap.AppendTemp(dst[:len(dst):len(dst)], err.Error())
	}
	return out
}
