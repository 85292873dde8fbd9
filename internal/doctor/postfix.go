package doctor

import (
	"context"

	"tlsverdict/internal/finding"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/program"
)

// Postfix is what was found of Postfix. In the zero value there is none.
type Postfix struct {
	Setup postfix.Setup
	// Unseen is why it could not be asked.
	Unseen string
}

// lookPostfix asks the Postfix of a machine.
func lookPostfix(ctx context.Context, m program.Machine) Postfix {
	setup, err := postfix.Host{Root: m.Root, Path: m.Path, Run: m.Runner}.Examine(ctx)
	if err != nil {
		return Postfix{Unseen: err.Error()}
	}
	return Postfix{Setup: setup}
}

// What is looked at of Postfix.
const (
	PostfixAsked  Check = "postfix-asked"
	PostfixDNSSEC Check = "postfix-dnssec"
)

func postfixKinds() map[Check]Kind {
	return map[Check]Kind{
		PostfixAsked: {
			Severity: finding.Error,
			Title:    "Postfix can be asked for its settings",
			Why:      "what it does with a verdict is not known",
		},
		PostfixDNSSEC: {
			Severity: finding.Error,
			Title:    "smtp(8) asks for DNSSEC, and minds the answer",
			Why:      "without it Postfix takes dane for may, and defers what is dane-only; policyd answers fingerprints in their place",
			Mend:     "`postconf -e 'smtp_dns_support_level = dnssec'`",
			Cite:     "RFC 7672 §2.2",
		},
	}
}

// postfix judges it.
func (r *report) postfix() {
	p := &r.MTAs.Postfix
	r.subject = "Postfix"
	if p.Unseen != "" {
		r.unseen(PostfixAsked, "postconf", p.Unseen)
		return
	}
	if p.Setup.Version == "" {
		return
	}
	r.subject = "Postfix " + p.Setup.Version
	if p.Setup.DANE {
		r.well(PostfixDNSSEC, "postconf", "smtp_dns_support_level = dnssec")
		return
	}
	r.wrong(PostfixDNSSEC, "postconf", p.Setup.Obstacle.Because, "postconf -e '"+p.Setup.Obstacle.WayOut+"'")
}
