package doctor

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"tlsverdict/internal/finding"
	"tlsverdict/postfixmap"
)

// opinion is what a check says of one transport. The zero value is nothing at all.
type opinion struct {
	severity            finding.Severity
	looked, found, mend string
}

func fine(looked, found string) opinion {
	return opinion{severity: finding.OK, looked: looked, found: found}
}

func (r *report) fault(c Check, looked, found, mend string) opinion {
	return opinion{Kinds()[c].Severity, looked, found, mend}
}

// examination is one check of a transport.
type examination struct {
	check Check
	of    func(*report, *Instance, *Transport) opinion
}

func examinations() []examination {
	return []examination{
		{PostfixSocket, (*report).postfixSocket},
		{PostfixDialect, (*report).postfixDialect},
		{PostfixMap, (*report).postfixMap},
		{PostfixDNSSEC, (*report).postfixDNSSEC},
		{PostfixResolvConf, (*report).postfixResolvConf},
		{PostfixResolver, (*report).postfixResolver},
		{PostfixInsecureMX, (*report).postfixInsecureMX},
		{PostfixDigest, (*report).postfixDigest},
		{PostfixLevel, (*report).postfixLevel},
		{PostfixProtocols, (*report).postfixProtocols},
		{PostfixCAs, (*report).postfixCAs},
		{PostfixRoutes, (*report).postfixRoutes},
		{PostfixLog, (*report).postfixLog},
		{PostfixSessions, (*report).postfixSessions},
	}
}

// postfix judges each instance.
func (r *report) postfix() {
	p := &r.MTAs.Postfix
	r.subject = "Postfix"
	if p.Unseen != "" {
		r.unseen(PostfixAsked, "postconf", p.Unseen)
	}
	for i := range p.Instances {
		one := &p.Instances[i]
		r.subject = "Postfix " + one.Version
		if !one.Default {
			r.subject += ", " + one.Config
		}
		if len(one.Transports) == 0 {
			r.unseen(PostfixAsked, "postconf -F", "master.cf has no service that runs smtp(8)")
			continue
		}
		for _, e := range examinations() {
			r.examine(one, e)
		}
	}
}

// examine says what a check comes to for the transports that mail takes by default, and
// what differs for the others: they may be meant to differ.
func (r *report) examine(i *Instance, e examination) {
	var said []opinion
	for n := range i.Transports {
		t := &i.Transports[n]
		var o opinion
		if t.Unclear != nil {
			o = opinion{looked: "master.cf", found: t.Unclear.Error()}
		} else {
			o = e.of(r, i, t)
		}
		if o == (opinion{}) || slices.Contains(said, o) {
			continue
		}
		said = append(said, o)
		switch {
		case n >= i.Outward && (o.severity == finding.OK || o.severity == finding.Unknown):
			continue
		case n >= i.Outward:
			o.severity = finding.Notice
			o.found = "transport " + strings.TrimSuffix(t.Service, "/unix") + ": " + o.found
		case len(said) > 1:
			o.found = strings.TrimSuffix(t.Service, "/unix") + ": " + o.found
		}
		r.add(Finding{Check: e.check, Severity: o.severity, Looked: o.looked, Found: o.found, Mend: o.mend})
	}
}

// looked is the command that shows a setting.
func looked(i *Instance, t *Transport, names ...string) string {
	words := []string{"postconf"}
	if !i.Default {
		words = append(words, "-c "+i.Config)
	}
	var main []string
	for _, name := range names {
		if t.Own[name] {
			words = append(words, "-P "+t.Service+"/"+name)
		} else {
			main = append(main, name)
		}
	}
	if len(main) > 0 && len(main) < len(names) {
		// Some of each.
		return strings.Join(words, " ") + ", and in main.cf " + strings.Join(main, " ")
	}
	return strings.Join(append(words, main...), " ")
}

// set is the command that sets a setting, where it stands.
func set(i *Instance, t *Transport, name, value string) string {
	of := ""
	if !i.Default {
		of = " -c " + i.Config
	}
	edit := " -e " + quote(name+" = "+value)
	if t.Own[name] {
		edit = " -P -e " + quote(t.Service+"/"+name+" = "+value)
	}
	return "postconf" + of + edit + " && postfix" + of + " reload"
}

// quote makes one word of a text for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// is writes a setting as main.cf has it.
func is(t *Transport, name string) string {
	if value := t.Settings[name]; value != "" {
		return name + " = " + value
	}
	return name + " is empty"
}

// graver makes a fault of DANE an error where the operator leaves DANE to Postfix, and
// worth no more than a word where he has chosen fingerprints.
func (r *report) graver(o opinion) opinion {
	switch {
	case r.Policyd.Native:
		o.severity = finding.Error
	case r.Policyd.Fingerprints:
		o.severity = finding.Notice
	}
	return o
}

func (r *report) postfixDNSSEC(i *Instance, t *Transport) opinion {
	what := looked(i, t, "smtp_dns_support_level", "smtp_host_lookup", "ignore_mx_lookup_error", "smtp_dns_resolver_options")
	if t.Setup.DANE {
		return fine(what, is(t, "smtp_dns_support_level"))
	}
	name, value, _ := strings.Cut(t.Setup.Obstacle.WayOut, " =")
	return r.graver(r.fault(PostfixDNSSEC, what, t.Setup.Obstacle.Because, set(i, t, name, strings.TrimSpace(value))))
}

func (r *report) postfixResolvConf(i *Instance, t *Transport) opinion {
	if !t.Setup.Chrooted {
		return opinion{}
	}
	system, own := &r.MTAs.Postfix.System, &t.Resolv
	what := system.File + ", " + own.File
	copied := fmt.Sprintf("install -D -m 0644 %s %s && postfix reload", system.File, path.Join(t.Settings["queue_directory"], "etc/resolv.conf"))
	switch {
	case own.Problem != "":
		return r.fault(PostfixResolvConf, what, own.Problem, copied)
	case system.Problem != "":
		return opinion{looked: what, found: system.Problem}
	case !slices.Equal(system.Servers, own.Servers):
		return r.fault(PostfixResolvConf, what, fmt.Sprintf("smtp(8) has %s from %s, the host %s", addresses(own.Servers), own.File, addresses(system.Servers)), copied)
	}
	return fine(what, own.File+" names "+addresses(own.Servers)+", as "+system.File+" does")
}

func addresses(servers []netip.AddrPort) string {
	var list []string
	for _, s := range servers {
		list = append(list, s.Addr().String())
	}
	return strings.Join(list, ", ")
}

func (r *report) postfixResolver(_ *Instance, t *Transport) opinion {
	v := &t.Resolv
	what := "questions with AD to the resolvers of " + v.File
	if v.Problem != "" {
		return opinion{looked: what, found: v.Problem}
	}
	if len(v.Found) == 0 {
		return opinion{looked: what, found: "they were not asked"}
	}
	for _, s := range v.Found {
		if s.Proves {
			continue
		}
		problem, _ := halves(s.Problem)
		if !s.Disproven {
			// Silent, or broken otherwise: what is wrong is not that it does not validate.
			return r.graver(r.fault(PostfixResolver, what, problem, words("see to it that a resolver that validates answers at %s", s.Address)))
		}
		mend := words("apt install unbound; let /etc/resolv.conf name 127.0.0.1 and nothing else; then") + "\npostfix reload"
		if t.Setup.Chrooted {
			mend = strings.Replace(mend, "\n", fmt.Sprintf("\ninstall -D -m 0644 /etc/resolv.conf %s && ", v.File), 1)
		}
		return r.graver(r.fault(PostfixResolver, what, problem, mend))
	}
	return fine(what, addresses(v.Servers)+" validates")
}

// insecureMXMended reports whether a version passes over the TLSA records of hosts behind
// unsigned MX records only where it is told to.
func insecureMXMended(v postfixmap.Version) bool {
	for _, mended := range []postfixmap.Version{3_006_017, 3_007_013, 3_008_008, 3_009_002} {
		if v/1000 == mended/1000 {
			return v >= mended
		}
	}
	return v >= postfixmap.V3_10
}

func (r *report) postfixInsecureMX(i *Instance, t *Transport) opinion {
	const name = "smtp_tls_dane_insecure_mx_policy"
	what := looked(i, t, name)
	v, err := postfixmap.ParseVersion(i.Version)
	switch {
	case t.Settings[name] == "dane":
		return fine(what, is(t, name))
	case err != nil:
		return opinion{looked: "mail_version", found: err.Error()}
	case insecureMXMended(v) && t.Settings[name] == "":
		return fine(what, "Postfix "+i.Version+" does by itself")
	}
	return r.fault(PostfixInsecureMX, what, is(t, name), set(i, t, name, "dane"))
}

func (r *report) postfixDigest(i *Instance, t *Transport) opinion {
	const name = "smtp_tls_fingerprint_digest"
	what := looked(i, t, name)
	if t.Setup.Digest == "sha256" {
		return fine(what, is(t, name))
	}
	o := r.fault(PostfixDigest, what, is(t, name), set(i, t, name, "sha256"))
	if !r.Policyd.Native && !t.daneItself() {
		// Fingerprints are what it is told.
		o.severity = finding.Error
	}
	return o
}

// daneItself reports whether it was seen that Postfix can do DANE without fingerprints.
func (t *Transport) daneItself() bool {
	return t.Setup.DANE && len(t.Resolv.Found) > 0 && !slices.ContainsFunc(t.Resolv.Found, func(s Resolver) bool { return !s.Proves })
}

func (r *report) postfixLevel(i *Instance, t *Transport) opinion {
	const name = "smtp_tls_security_level"
	what := looked(i, t, name)
	switch t.Settings[name] {
	case "none":
	case "":
		// Two settings of old still mean something where this one is empty.
		if t.Settings["smtp_use_tls"] == "yes" || t.Settings["smtp_enforce_tls"] == "yes" {
			return fine(what, "smtp_use_tls or smtp_enforce_tls, for which smtp_tls_security_level has come")
		}
	default:
		return fine(what, is(t, name))
	}
	return r.fault(PostfixLevel, what, is(t, name), set(i, t, name, "may"))
}

func (r *report) postfixProtocols(i *Instance, t *Transport) opinion {
	const name, lax = "smtp_tls_mandatory_protocols", "smtp_tls_protocols"
	what := looked(i, t, name, lax)
	v, err := postfixmap.ParseVersion(i.Version)
	if err != nil {
		return opinion{looked: "mail_version", found: err.Error()}
	}
	from := func(least string) string {
		switch {
		case v >= 3_006_000:
			return ">=" + least
		case least == "TLSv1":
			return "!SSLv2, !SSLv3"
		}
		return "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1"
	}
	low, err := protocols(t.Settings[name])
	if err != nil {
		return opinion{looked: what, found: is(t, name) + ": " + err.Error()}
	}
	if low = slices.DeleteFunc(low, func(p string) bool { return p == "TLSv1.2" || p == "TLSv1.3" }); len(low) > 0 {
		return r.fault(PostfixProtocols, what, is(t, name)+" allows "+strings.Join(low, ", ")+" where TLS is mandatory", set(i, t, name, from("TLSv1.2")))
	}
	low, err = protocols(t.Settings[lax])
	if err != nil {
		return opinion{looked: what, found: is(t, lax) + ": " + err.Error()}
	}
	if low = slices.DeleteFunc(low, func(p string) bool { return !strings.HasPrefix(p, "SSL") }); len(low) > 0 {
		return r.fault(PostfixProtocols, what, is(t, lax)+" allows "+strings.Join(low, ", "), set(i, t, lax, from("TLSv1")))
	}
	return fine(what, is(t, name))
}

func (r *report) postfixCAs(i *Instance, t *Transport) opinion {
	what := looked(i, t, "smtp_tls_CAfile", "smtp_tls_CApath")
	c := &t.CAs
	switch {
	case c.Problem == "":
		return fine(what, fmt.Sprintf("%d in %s", c.Count, c.Source))
	case c.Source == "tls_append_default_CA":
		return opinion{looked: what, found: "those of OpenSSL's own directory are used (tls_append_default_CA = yes)"}
	case c.Bundle == "":
		return r.fault(PostfixCAs, what, c.Problem, "apt install ca-certificates\n"+set(i, t, "smtp_tls_CAfile", Bundles()[0]))
	}
	return r.fault(PostfixCAs, what, c.Problem, set(i, t, "smtp_tls_CAfile", c.Bundle))
}

func (r *report) postfixRoutes(i *Instance, t *Transport) opinion {
	names := []string{"relayhost", "sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps", "transport_maps"}
	what := looked(i, t, names...)
	var ways []string
	for _, name := range names {
		if t.Settings[name] != "" {
			ways = append(ways, is(t, name))
		}
	}
	if value := t.Settings["default_transport"]; value != "smtp" {
		ways = append(ways, is(t, "default_transport"))
	}
	if len(ways) == 0 {
		return fine(what, "by the MX records")
	}
	return r.fault(PostfixRoutes, what, strings.Join(ways, "; "), "")
}

func (r *report) postfixLog(i *Instance, t *Transport) opinion {
	const name = "smtp_tls_loglevel"
	if t.Settings[name] == "0" {
		return r.fault(PostfixLog, looked(i, t, name), is(t, name), set(i, t, name, "1"))
	}
	return fine(looked(i, t, name), is(t, name))
}

func (r *report) postfixSessions(i *Instance, t *Transport) opinion {
	const name = "smtp_mx_session_limit"
	if n, ok := number(t.Settings[name]); ok && (n == 1 || n == 2) {
		return r.fault(PostfixSessions, looked(i, t, name), is(t, name), set(i, t, name, "5"))
	}
	return fine(looked(i, t, name), is(t, name))
}
