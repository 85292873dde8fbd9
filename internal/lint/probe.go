package lint

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/verdict"
)

// probes looks at what the hosts showed on port 25.
func (r *report) probes() {
	asked := false
	for i := range r.Facts.Hosts {
		if p := r.Hosts[i].Port25; p != nil {
			asked = true
			r.probe(&r.Facts.Hosts[i], p)
		}
	}
	if !asked && len(r.Facts.Hosts) > 0 {
		r.say(NotProbed, r.domain(), "")
	}
}

func (r *report) probe(h *verdict.Host, p *Probe) {
	switch {
	case p.Failure != "" && p.Offered:
		r.say(NoHandshake, h.Name, "%s", p.Failure)
		return
	case p.Failure != "":
		r.say(Unreachable, h.Name, "%s", p.Failure)
		return
	case !p.Offered:
		severity := Warning
		if r.demandsTLS(h) {
			severity = Error
		}
		r.add(severity, NoSTARTTLS, h.Name, "")
		return
	}
	r.certificate(h, p)
}

// certificate says what a sender that checks names and authorities thinks of it. It is an
// error where such senders exist.
func (r *report) certificate(h *verdict.Host, p *Probe) {
	severity := Notice
	if r.demandsWebPKI(h) {
		severity = Error
	}
	leaf := p.Chain[0]
	good := true
	if r.Facts.Now.After(leaf.NotAfter) || r.Facts.Now.Before(leaf.NotBefore) {
		good = false
		r.add(severity, CertExpired, h.Name, "valid from %s to %s", when(leaf.NotBefore), when(leaf.NotAfter))
	} else if left := leaf.NotAfter.Sub(r.Facts.Now); left < certificateSoon {
		ends := Notice
		if severity == Error {
			ends = Warning
		}
		r.add(ends, CertEnds, h.Name, "on %s, in %s", when(leaf.NotAfter), rough(left))
	}
	if err := leaf.VerifyHostname(h.Name); err != nil {
		good = false
		r.add(severity, CertName, h.Name, "%v", err)
	}
	if p.Untrusted != "" {
		good = false
		r.add(severity, CertUntrusted, h.Name, "%s", p.Untrusted)
	}
	if good {
		r.say(CertOK, h.Name, "%s until %s", tls.VersionName(p.Version), when(leaf.NotAfter))
	}
}

// demandsTLS reports whether some sender must not use the host without TLS.
func (r *report) demandsTLS(h *verdict.Host) bool {
	for i := range h.TLSA {
		if a := &h.TLSA[i].Answer; a.Outcome == verdict.Found && a.Proof == verdict.Secure {
			return true
		}
	}
	return r.demandsWebPKI(h)
}

// demandsWebPKI reports whether some sender holds the host to a certificate of an
// authority.
func (r *report) demandsWebPKI(h *verdict.Host) bool {
	if p := r.STS.Policy; p != nil && p.Mode == mtasts.ModeEnforce && p.Match(h.Name) {
		return true
	}
	return r.prefixed()
}

// defect is why a probe does not authenticate the host by name; empty if it does.
func (p *Probe) defect(host string, now time.Time) string {
	if !p.Offered || len(p.Chain) == 0 {
		return "no TLS"
	}
	leaf := p.Chain[0]
	switch err := leaf.VerifyHostname(host); {
	case now.After(leaf.NotAfter) || now.Before(leaf.NotBefore):
		return fmt.Sprintf("the certificate is valid from %s to %s", when(leaf.NotBefore), when(leaf.NotAfter))
	case err != nil:
		return err.Error()
	}
	return p.Untrusted
}

func digest(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
