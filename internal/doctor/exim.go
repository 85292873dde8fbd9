package doctor

import (
	"context"
	"slices"
	"strings"

	"tlsverdict/internal/exim"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/program"
)

// Exim is what was found of Exim. In the zero value there is none.
type Exim struct {
	// Unseen is why it could not be asked.
	Unseen string
	Setup  exim.Setup
	// Resolv is what it has its resolvers from, TrustAD whether that says that their word
	// on DNSSEC is to be believed.
	Resolv  ResolvConf
	TrustAD bool
	// Policyd is where its routers ask, Answer what came of a question there as Exim's own
	// user puts it.
	Policyd string
	Answer  Answer
}

// The macro that says where the routers ask, and what it is unless set.
const (
	eximPolicyd = "TLSVERDICT_POLICYD"
	eximDefault = "inet:127.0.0.1:8461"
)

// lookExim asks the Exim of a machine.
func lookExim(ctx context.Context, m program.Machine, probe Prober) Exim {
	setup, err := exim.Examine(ctx, m)
	if err != nil {
		return Exim{Unseen: err.Error()}
	}
	x := Exim{Setup: setup}
	if setup.Version == "" {
		return x
	}
	x.Resolv, x.TrustAD = systemResolvers(ctx, m, probe)
	if setup.Unread == "" && setup.Broken == "" && setup.Router(eximAsks) >= 0 {
		x.Policyd = setup.Macros[eximPolicyd]
		x.Answer = x.ask(ctx, m)
	}
	return x
}

// ask asks where the routers ask, as they do.
func (x *Exim) ask(ctx context.Context, m program.Machine) Answer {
	if address, ok := strings.CutPrefix(x.Policyd, "inet:"); ok {
		return askTCP(ctx, address)
	}
	if !strings.HasPrefix(x.Policyd, "/") || strings.ContainsAny(x.Policyd, "${") {
		return Answer{Problem: "what it expands to is not known here", Unasked: true}
	}
	user, err := FindUser(m, x.Setup.User)
	if err != nil {
		return Answer{Problem: inside(err, m.Root), Unasked: true}
	}
	return askUnix(ctx, place{user: user, dir: m.At("/")}, x.Policyd)
}

// systemResolvers are those of the machine's own resolv.conf, and whether it has the option
// trust-ad.
func systemResolvers(ctx context.Context, m program.Machine, probe Prober) (ResolvConf, bool) {
	l := postfixLooker{Machine: m, probe: probe, seen: make(map[string]ResolvConf)}
	r := l.resolvConf(ctx, postfix.Setup{ResolvConf: m.At("etc/resolv.conf")})
	text, err := m.ReadFile("/etc/resolv.conf")
	return r, err == nil && trustsAD(string(text))
}

// trustsAD reports whether resolv.conf has the option trust-ad (resolv.conf(5)). Unlike
// nameservers, options add up.
func trustsAD(text string) bool {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "options"); ok && slices.Contains(strings.Fields(rest), "trust-ad") && strings.TrimLeft(rest, " \t") != rest {
			return true
		}
	}
	return false
}

// unproven is what is wrong with them, "" where they were not looked at.
func (v *ResolvConf) unproven() (found string, seen bool) {
	switch {
	case v.Problem != "":
		return v.Problem, false
	case len(v.Found) == 0:
		return "they were not asked", false
	}
	for _, s := range v.Found {
		if !s.Proves {
			problem, _ := halves(s.Problem)
			return problem, true
		}
	}
	return "", true
}
