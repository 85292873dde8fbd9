package impact

import (
	"tlsverdict/internal/verdict"
)

// Shown is what one of a domain's MX hosts showed to a probe.
type Shown struct {
	Host string
	// Failure is why no TLS came about; Silent that the host was not reached, so that
	// it says nothing of the host.
	Failure string
	Silent  bool
	// DANE: the certificate matches secure TLSA records. WebPKI: it is from a known
	// authority and for the host's name; Why says why not.
	DANE, WebPKI bool
	Why          string
}

// The words of Row.Now.
const (
	Good    = "good"
	Bad     = "bad"
	Unclear = "unknown"
)

// Now says whether mail to a domain would go out now: whether any of its hosts showed what
// the verdict asks for. Where none did, and one was not reached, it is not known.
func Now(v verdict.Verdict, hosts []Shown) (word, why string) {
	silent := len(hosts) == 0
	for _, h := range hosts {
		reason := h.defect(v)
		switch {
		case reason == "":
			return Good, h.Host
		case h.Silent:
			silent = true
		case why == "":
			why = h.Host + ": " + reason
		}
	}
	if silent {
		return Unclear, "not every mail host could be reached from here"
	}
	return Bad, why
}

// defect is why a host does not do for a verdict; empty if it does.
func (h Shown) defect(v verdict.Verdict) string {
	if h.Failure != "" {
		return h.Failure
	}
	switch v := v.(type) {
	case verdict.DANEOnly, verdict.Fingerprint:
		if !h.DANE {
			return "no TLSA record matches its certificate"
		}
	case verdict.STS:
		return h.named(v.Patterns)
	case verdict.WebPKI:
		return h.named(v.Hosts)
	case verdict.Fixed:
		switch v.Level {
		case "dane-only", "fingerprint":
			return h.defect(verdict.DANEOnly{})
		case "secure", "verify":
			return h.named([]string{h.Host})
		}
	}
	return ""
}

func (h Shown) named(patterns []string) string {
	switch {
	case !matches(h.Host, patterns):
		return "it is not one of " + few(patterns)
	case !h.WebPKI:
		return h.Why
	}
	return ""
}

// Doubtful reports whether a probe could say more of a domain: something is demanded, and
// some of its mail is not known to have met it.
func (r *Row) Doubtful() bool { return r.Verdict != "" && r.Likely+r.Wait+r.Unknown > 0 }
