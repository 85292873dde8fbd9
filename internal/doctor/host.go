package doctor

import (
	"fmt"
	"strings"
	"time"

	"tlsverdict/internal/finding"
)

// Host is what the verdicts stand on at this host. In the zero value nothing was looked at.
type Host struct {
	// Resolvers are those of the configuration; NoResolvers is why there are none to look
	// at.
	Resolvers   []Resolver
	NoResolvers string
	// Signatures are those of the root, as each resolver passes them on.
	Signatures []Signature
	Anchors    Anchors
	Roots      Roots
	// Port25 is what came of connecting to mail hosts; nil: it was not wanted.
	Port25 *Reach
}

// Resolver is what a probe of a resolver found.
type Resolver struct {
	// Address is its address and port.
	Address string
	// Answers: it resolves names.
	Answers bool
	// Proves: from what it says, secure answers can be told from insecure ones. Disproven:
	// it was seen that they cannot.
	Proves, Disproven bool
	// Problem says what is wrong, and, behind a colon, what to do.
	Problem string
}

// Signature is from when until when a signature of the root holds, as a resolver has it.
type Signature struct {
	Resolver    string
	From, Until time.Time
	// Problem is why there is none.
	Problem string
}

// Anchors are the trust anchors of the configuration.
type Anchors struct {
	// Unused: nothing is validated here.
	Unused bool
	// Source is where they are from; Own: dns.trust_anchors names it.
	Source string
	Own    bool
	// Root: they cover it.
	Root bool
	// Problem is why those that are meant cannot be used.
	Problem string
	// Warnings are what the root's own keys say about them.
	Warnings []string
}

// Roots are the CAs that certificates of policy hosts must lead to.
type Roots struct {
	// Source is the file that they are from.
	Source string
	// Count is how many there are.
	Count int
	// Problem is why there are none.
	Problem string
}

// Reach is what came of connecting to port 25 of mail hosts.
type Reach struct {
	Domain string
	Hosts  []Reached
	// Problem is why there were none to connect to.
	Problem string
}

// Reached is one mail host.
type Reached struct {
	// Host is its name and address.
	Host string
	// Problem is why it did not answer; empty if it did.
	Problem string
}

// What is looked at on a host.
const (
	HostResolver Check = "resolver"
	HostClock    Check = "clock"
	HostAnchors  Check = "trust-anchors"
	HostRoots    Check = "ca-roots"
	HostPort25   Check = "port-25"
	HostMTA      Check = "mail-server"
)

func hostKinds() map[Check]Kind {
	return map[Check]Kind{
		HostResolver: {
			Severity: finding.Error,
			Title:    "the resolvers of the configuration answer, with signatures",
			Why:      "without signatures nothing can be proven: there is no DANE, and mail whose verdict depends on the DNS is deferred",
			Mend:     "`apt install unbound`; `nameserver 127.0.0.1` in /etc/resolv.conf",
			Cite:     "RFC 4035 §3.2.1",
		},
		HostClock: {
			Severity: finding.Error,
			Title:    "the clock is within the time for which the root has signed",
			Why:      "by this clock no signature holds: everything that is signed seems forged, and mail to it is deferred",
			Mend:     "`timedatectl set-ntp true`",
			Cite:     "RFC 4035 §5.3.1",
		},
		HostAnchors: {
			Severity: finding.Warning,
			Title:    "the trust anchors can be read, cover the root, and are those that it has",
			Why:      "what no anchor covers cannot be proven, and when the root's key changes nothing can",
			Mend:     "`apt install --reinstall dns-root-data && systemctl reload tlsverdict-policyd`",
			Cite:     "RFC 5011 §2.1",
		},
		HostRoots: {
			Severity: finding.Error,
			Title:    "there are CA roots",
			Why:      "without them no MTA-STS policy can be fetched",
			Mend:     "`apt install ca-certificates`",
			Cite:     "RFC 8461 §3.3",
		},
		HostMTA: {
			Severity: finding.Notice,
			Title:    "there is a mail server: Postfix, Exim or Sendmail",
			Why:      "nothing is known of the mail server that asks policyd; it may be on another host, or in a container",
			Mend:     "`policyd doctor --root DIRECTORY` looks into a container",
		},
		HostPort25: {
			Severity: finding.Error,
			Title:    "port 25 of other hosts can be reached (with `--probe DOMAIN`)",
			Why:      "no mail leaves, whatever the verdicts are, and probes see nothing",
			Mend:     "have outgoing connections to port 25 allowed",
		},
	}
}

// host judges the ground.
func (r *report) host() {
	r.subject = hostSubject
	r.resolver()
	r.clock()
	r.anchors()
	r.roots()
	r.port25()
}

// resolver judges the resolvers that policyd asks.
func (r *report) resolver() {
	if r.Host.NoResolvers != "" {
		r.unseen(HostResolver, "the resolvers of the configuration", r.Host.NoResolvers)
	}
	for _, s := range r.Host.Resolvers {
		looked := "questions to " + s.Address
		problem, wayOut := halves(s.Problem)
		switch {
		case s.Problem == "" && s.Proves:
			r.well(HostResolver, looked, s.Address+" answers, with what proves it")
		case s.Problem == "":
			r.well(HostResolver, looked, s.Address+" answers; dns.dnssec = \"off\", so that nothing is proven")
		default:
			r.wrong(HostResolver, looked, problem, words("%s", wayOut))
		}
	}
}

// clock holds the time here against the root's signatures. One that holds is enough: a
// resolver that passes on what is old is not the clock's fault.
func (r *report) clock() {
	const looked = "the signature on the root's SOA record"
	now, because := r.Now.UTC(), r.Host.NoResolvers
	var off *Signature
	for i, s := range r.Host.Signatures {
		switch {
		case s.Problem != "":
			because = s.Resolver + ": " + s.Problem
		case now.Before(s.From) || now.After(s.Until):
			off = &r.Host.Signatures[i]
		default:
			r.well(HostClock, looked, "it is "+moment(now)+", and the root has signed from "+moment(s.From)+" to "+moment(s.Until))
			return
		}
	}
	if off == nil {
		r.unseen(HostClock, looked, because)
		return
	}
	r.wrong(HostClock, looked, fmt.Sprintf("it is %s, and the root has signed from %s to %s, says %s", moment(now), moment(off.From), moment(off.Until), off.Resolver),
		"timedatectl set-ntp true")
}

// moment is a time as people write it.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// anchors judges the trust anchors.
func (r *report) anchors() {
	a := &r.Host.Anchors
	const renew = "apt install --reinstall dns-root-data && systemctl reload tlsverdict-policyd"
	switch {
	case a.Source == "" && a.Problem == "":
		r.unseen(HostAnchors, "the trust anchors", r.Host.NoResolvers)
	case a.Problem != "" && a.Own:
		// policyd does not start with them.
		r.add(Finding{Check: HostAnchors, Severity: finding.Error, Looked: a.Source, Found: a.Problem, Mend: words("name a file with the root's DS record in dns.trust_anchors, or leave it out; then restart policyd")})
	case a.Problem != "":
		r.wrong(HostAnchors, a.Source, a.Problem, renew)
	case a.Unused:
		r.well(HostAnchors, a.Source, "not needed: policyd does not validate itself")
	case !a.Root:
		r.wrong(HostAnchors, a.Source, a.Source+" has no anchor of the root", words("name a file with the root's DS record in dns.trust_anchors, or leave it out; then reload"))
	case len(a.Warnings) > 0:
		r.wrong(HostAnchors, a.Source+", and the root's keys", strings.Join(a.Warnings, "; "), renew)
	default:
		r.well(HostAnchors, a.Source, a.Source)
	}
}

// roots judges the CA store.
func (r *report) roots() {
	s := &r.Host.Roots
	switch {
	case s.Problem != "":
		r.wrong(HostRoots, s.Source, s.Problem, "apt install ca-certificates")
	case s.Count == 0:
		r.unseen(HostRoots, "the CA roots", r.Host.NoResolvers)
	default:
		r.well(HostRoots, s.Source, fmt.Sprintf("%d in %s", s.Count, s.Source))
	}
}

// port25 judges what came of connecting to mail hosts. One that answers shows that the
// port is open outwards.
func (r *report) port25() {
	p := r.Host.Port25
	switch {
	case p == nil:
		return
	case p.Problem != "":
		r.unseen(HostPort25, "the mail hosts of "+p.Domain, p.Problem)
		return
	}
	var problems []string
	for _, h := range p.Hosts {
		if h.Problem == "" {
			r.well(HostPort25, "port 25 of the mail hosts of "+p.Domain, h.Host+" answers")
			return
		}
		problems = append(problems, h.Host+": "+h.Problem)
	}
	r.wrong(HostPort25, "port 25 of the mail hosts of "+p.Domain, strings.Join(problems, "; "),
		words("have the provider, or the firewall, let connections to port 25 out; or is it %s that is down? Try another domain.", p.Domain))
}

// halves takes what a probe says apart: what is wrong, and, behind the first colon that is
// not in parentheses, what to do.
func halves(problem string) (wrong, wayOut string) {
	depth := 0
	for i, c := range problem {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ':' && depth == 0 && strings.HasPrefix(problem[i:], ": "):
			return problem[:i], problem[i+2:]
		}
	}
	return problem, ""
}

// words makes a sentence one that a shell passes over.
func words(format string, args ...any) string {
	if text := fmt.Sprintf(format, args...); text != "" {
		return "# " + text
	}
	return ""
}
