package socketmapd

import (
	"errors"
	"fmt"
	"strings"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// longestExim bounds the names that Exim is told of, in octets. Those that are left out
// are the least preferred ones, and are not used.
const longestExim = 30_000

// eximNone is the answer where there is no policy. It is found, so that a configuration
// can take every other answer than one it knows for a reason to wait.
const eximNone = "OK level=none"

// appendExim spells a verdict for Exim, whose configuration takes it apart by
// ${extract{level}{...}}. Exim compares the MX host with exact names only, and verifies
// the certificate for that name, so that patterns are expanded to the MX names that
// match them. Where none does there is no host that mail could go to: it waits.
func appendExim(_ *Options, dst []byte, d nexthop.Destination, r engine.Ruled) []byte {
	switch v := exim(d, r.Verdict).(type) {
	case verdict.NoPolicy:
		return append(dst, eximNone...)
	case verdict.Encrypt:
		return append(dst, "OK level=encrypt"...)
	case verdict.DANE:
		return appendDANE(dst, v.Hosts)
	case verdict.DANEOnly, verdict.Fingerprint:
		// Digests are for an MTA that cannot look TLSA records up.
		return append(dst, "OK level=dane-only"...)
	case verdict.STS:
		return appendHosts(dst, v.Hosts, "no MX host of "+d.Name+" matches its MTA-STS policy")
	case verdict.WebPKI:
		return appendHosts(dst, v.Hosts, "no MX name of "+d.Name+" is a host name")
	case verdict.Defer:
		return postfixmap.AppendTemp(dst, v.Text)
	default:
		panic(fmt.Sprintf("socketmapd: the exim dialect has no words for a verdict of type %T", v))
	}
}

// appendDANE writes the line of DANE for some hosts, with the names of those that are
// known to have usable TLSA records: where Exim's own resolver proves nothing, Exim would use
// these as if they had none (RFC 7672 §2.2).
func appendDANE(dst []byte, hosts []string) []byte {
	const begin = "OK level=dane"
	out := append(dst, begin...)
	sep := " tlsa="
	for _, name := range hosts {
		text, err := postfixmap.HostPattern(name)
		if err != nil || strings.HasPrefix(text, ".") || len(out)-len(dst)+len(text) > longestExim {
			continue
		}
		out = append(append(out, sep...), text...)
		sep = ":"
	}
	return out
}

// exim is a verdict without an operator's own words.
func exim(d nexthop.Destination, v verdict.Verdict) verdict.Verdict {
	fixed, ok := v.(verdict.Fixed)
	if !ok {
		return v
	}
	return translate("Exim", d, fixed, func(names []string) (verdict.Verdict, error) {
		for _, name := range names {
			if strings.HasPrefix(name, ".") {
				return nil, errors.New("write the names of the MX hosts in match=, in full")
			}
		}
		return verdict.WebPKI{Hosts: names}, nil
	})
}

// appendHosts writes the line of MX names, or why there is none.
func appendHosts(dst []byte, hosts []string, nothing string) []byte {
	const begin = "OK level=secure hosts="
	out := append(dst, begin...)
	for _, name := range hosts {
		text, err := postfixmap.HostPattern(name)
		if err != nil || strings.HasPrefix(text, ".") {
			continue
		}
		if len(out)-len(dst)+len(text) > longestExim {
			break
		}
		if len(out)-len(dst) > len(begin) {
			out = append(out, ':')
		}
		out = append(out, text...)
	}
	if len(out)-len(dst) == len(begin) {
		return postfixmap.AppendTemp(dst, nothing)
	}
	return out
}
