package doctor

import (
	"fmt"
	"strings"

	"tlsverdict/internal/finding"
)

// Host is what the verdicts stand on at this host. In the zero value nothing was looked at.
type Host struct {
	// Resolvers are those of the configuration.
	Resolvers []Resolver
	// NoResolvers is why there are none to look at.
	NoResolvers string
}

// Resolver is what a probe of a resolver found.
type Resolver struct {
	// Address is its address and port.
	Address string
	// Answers: it resolves names.
	Answers bool
	// Proves: from what it says, secure answers can be told from insecure ones.
	Proves bool
	// Problem says what is wrong, and, behind a colon, what to do.
	Problem string
}

// What is looked at on a host.
const (
	HostResolver Check = "resolver"
)

func hostKinds() map[Check]Kind {
	return map[Check]Kind{
		HostResolver: {
			Severity: finding.Error,
			Title:    "the resolver passes DNSSEC signatures on",
			Why:      "without signatures nothing can be proven: there is no DANE, and mail whose verdict depends on the DNS is deferred",
			Mend:     "`apt install unbound`, and let `/etc/resolv.conf` or `dns.servers` name 127.0.0.1",
			Cite:     "RFC 4035 §3.2.1",
		},
	}
}

// host judges the ground.
func (r *report) host() {
	r.subject = "this host"
	r.resolver()
}

// resolver judges the resolvers that policyd asks.
func (r *report) resolver() {
	if r.Host.NoResolvers != "" {
		r.unseen(HostResolver, "the resolvers of the configuration", r.Host.NoResolvers)
	}
	for _, s := range r.Host.Resolvers {
		looked := "questions with DO to " + s.Address
		problem, wayOut, _ := strings.Cut(s.Problem, ": ")
		switch {
		case s.Problem == "" && s.Proves:
			r.well(HostResolver, looked, s.Address+" answers with signatures")
		case s.Problem == "":
			r.well(HostResolver, looked, s.Address+" answers; dns.dnssec = \"off\", so that nothing is proven")
		default:
			r.wrong(HostResolver, looked, problem, words("%s", wayOut))
		}
	}
}

// words makes a sentence one that a shell passes over.
func words(format string, args ...any) string {
	if text := fmt.Sprintf(format, args...); text != "" {
		return "# " + text
	}
	return ""
}
