package verdict

import (
	"fmt"
	"slices"
	"strings"

	"tlsverdict/internal/mtasts"
)

// policy is a policy with the hosts that it allows. names are the patterns as text, and
// the texts that are kept: none is there twice.
func (d *decision) policy(patterns []mtasts.Pattern, names []string) STS {
	hosts := d.allowed(patterns, names)
	if slices.Equal(hosts, names) {
		hosts = names
	}
	return STS{Domain: d.name(), Patterns: names, Hosts: hosts}
}

// allowed expands patterns to the MX names that match (RFC 8461 §4.1). Where the MX
// answer has no names and may be a lie, those that the policy writes in full are all
// that is known.
func (d *decision) allowed(patterns []mtasts.Pattern, names []string) []string {
	var out []string
	if !d.f.Destination.Host && d.f.Gone() {
		for i, p := range patterns {
			if !p.Wildcard() && len(out) < MaxNames {
				out = append(out, names[i])
			}
		}
		return out
	}
	for _, host := range writable(d.mxNames()) {
		if len(out) == MaxNames {
			break
		}
		i := slices.IndexFunc(patterns, func(p mtasts.Pattern) bool { return p.Match(host) })
		switch {
		case i < 0:
		case patterns[i].Wildcard():
			out = append(out, host)
		default:
			out = append(out, names[i])
		}
	}
	return out
}

// Beside is what a ruling has beside its verdict, and few have. Rulings are kept by the
// million: so it is one pointer in them, and nil where there is nothing to say.
type Beside struct {
	// Implicit are the MX hosts, in order of preference, all of which promise
	// implicit TLS on Rules.ImplicitPort. Whether they keep it is for a probe to say.
	Implicit []string
	// STS is the enforced MTA-STS policy of a domain for which DANE decides, without
	// Lines: for MTAs that weigh the two themselves, or have no DANE. Nil also where
	// it is not known yet: nobody waits for it there.
	STS *STS
}

// Policy is b.STS, or nil where there is nothing beside a verdict.
func (b *Beside) Policy() *STS {
	if b == nil {
		return nil
	}
	return b.STS
}

// With returns b with another policy; b itself stays as it is.
func (b *Beside) With(sts *STS) *Beside {
	if b == nil {
		return &Beside{STS: sts}
	}
	return &Beside{Implicit: b.Implicit, STS: sts}
}

// beside is what there is to say beside a verdict.
func (d *decision) beside(v Verdict) *Beside {
	b := Beside{Implicit: d.implicit(v), STS: d.known(v)}
	if b.Implicit == nil && b.STS == nil {
		return nil
	}
	return &b
}

// known is the policy of Beside.STS. Where it is not known yet nothing is lost: what
// DANE asks is asked all the same. RFC 8461 §2 has DANE go first, and that is left to
// the MTA.
func (d *decision) known(v Verdict) *STS {
	switch v.(type) {
	case DANEOnly, DANE, Fingerprint:
	case NoPolicy, Encrypt, STS, WebPKI, Fixed, Defer:
		return nil
	default:
		panic(fmt.Sprintf("verdict: a verdict of type %T", v))
	}
	if d.f.Rules.STS != Enforce || !d.f.STS.Enforced(d.f.Now) {
		return nil
	}
	patterns := d.f.STS.Policy.Policy.Renderable()
	if len(patterns) == 0 {
		return nil
	}
	names := spell(patterns)
	for i := range names {
		// The policy's whole text would be kept with a part of it.
		names[i] = strings.Clone(names[i])
	}
	p := d.policy(patterns, names)
	return &p
}
