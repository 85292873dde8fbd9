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

// What is looked at of Postfix.
const (
	PostfixAsked      Check = "postfix-asked"
	PostfixMap        Check = "postfix-map"
	PostfixSocket     Check = "postfix-socket"
	PostfixDialect    Check = "postfix-dialect"
	PostfixDNSSEC     Check = "postfix-dnssec"
	PostfixResolvConf Check = "postfix-resolv-conf"
	PostfixResolver   Check = "postfix-resolver"
	PostfixInsecureMX Check = "postfix-insecure-mx"
	PostfixDigest     Check = "postfix-digest"
	PostfixLevel      Check = "postfix-level"
	PostfixProtocols  Check = "postfix-protocols"
	PostfixCAs        Check = "postfix-cas"
	PostfixRoutes     Check = "postfix-routes"
	PostfixLog        Check = "postfix-log"
	PostfixSessions   Check = "postfix-sessions"
)

func postfixKinds() map[Check]Kind {
	return map[Check]Kind{
		PostfixAsked: {
			Severity: finding.Error, Title: "Postfix tells its settings",
			Why: "what it does with a verdict is not known",
		},
		PostfixMap: {
			Severity: finding.Error, Title: "smtp(8) asks policyd for TLS policies, before any other table",
			Why:  "a verdict that nobody asks for protects no mail",
			Mend: "`postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'`",
		},
		PostfixSocket: {
			Severity: finding.Error, Title: "policyd answers smtp(8), as its user and in its chroot",
			Why:  "Postfix defers all mail while it gets no answer",
			Mend: "`postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'`",
		},
		PostfixDialect: {
			Severity: finding.Error, Title: "the map is one that this version of Postfix understands, and has all that it does",
			Why:  "below 3.10 Postfix cannot parse the attributes for reports, and defers mail to domains with MTA-STS; from then on it reports nothing without them",
			Mend: "`postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix'`, from 3.10 on `:postfix-tlsrpt`",
			Cite: "RFC 8460 §4.3",
		},
		PostfixDNSSEC: {
			Severity: finding.Warning, Title: "smtp(8) asks for DNSSEC, and minds the answer",
			Why:  "without it Postfix takes dane for may, and defers what is dane-only; policyd tells it fingerprints instead, which cannot say all that TLSA records do",
			Mend: "`postconf -e 'smtp_dns_support_level = dnssec'`",
			Cite: "RFC 7672 §2.2",
		},
		PostfixResolvConf: {
			Severity: finding.Warning, Title: "a chrooted smtp(8) has the resolvers of the host",
			Why:  "it asks others than the host does, which may not validate, or may not answer",
			Mend: "`install -D -m 0644 /etc/resolv.conf /var/spool/postfix/etc/resolv.conf`",
		},
		PostfixResolver: {
			Severity: finding.Warning, Title: "the resolvers of smtp(8) are on this host, and validate",
			Why:  "Postfix believes their word on what is secure: without it dane is may, and dane-only defers; policyd tells it fingerprints instead, which cannot say all that TLSA records do",
			Mend: "`apt install unbound`; `nameserver 127.0.0.1` in /etc/resolv.conf",
			Cite: "RFC 7672 §2.2",
		},
		PostfixInsecureMX: {
			Severity: finding.Warning, Title: "DANE holds for hosts behind unsigned MX records",
			Why:  "the TLSA records of hosts behind unsigned MX records are passed over: by itself Postfix heeds them from 3.6.17, 3.7.13, 3.8.8 and 3.9.2 on, or while the level of main.cf is dane",
			Mend: "`postconf -e 'smtp_tls_dane_insecure_mx_policy = dane'`",
			Cite: "RFC 7672 §2.2.1",
		},
		PostfixDigest: {
			Severity: finding.Warning, Title: "fingerprints are SHA-256",
			Why:  "no certificate matches the fingerprints that policyd tells: mail to domains with DANE is deferred",
			Mend: "`postconf -e 'smtp_tls_fingerprint_digest = sha256'`",
		},
		PostfixLevel: {
			Severity: finding.Warning, Title: "mail to domains without a verdict uses TLS where it can",
			Why:  "mail to domains without a verdict goes out in clear text, also where the other side offers TLS",
			Mend: "`postconf -e 'smtp_tls_security_level = may'`",
		},
		PostfixProtocols: {
			Severity: finding.Warning, Title: "TLS below 1.2 is not taken where TLS is mandatory, SSL nowhere",
			Why:  "a verdict that demands TLS is met by a version whose protection is broken",
			Mend: "`postconf -e 'smtp_tls_mandatory_protocols = >=TLSv1.2'`, before 3.6 `!SSLv2, !SSLv3, !TLSv1, !TLSv1.1`",
			Cite: "RFC 8461 §7",
		},
		PostfixCAs: {
			Severity: finding.Error, Title: "smtp(8) has CAs to verify certificates with, where it looks for them",
			Why:  "no certificate can be verified: mail to all domains with MTA-STS or the prefix is deferred",
			Mend: "`postconf -e 'smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt'`",
			Cite: "RFC 8461 §4.2",
		},
		PostfixRoutes: {
			Severity: finding.Notice, Title: "mail goes to the hosts that the verdict is about",
			Why: "Postfix then asks for a verdict on the host that mail is sent to, not on the recipient's domain",
		},
		PostfixLog: {
			Severity: finding.Notice, Title: "the log says which TLS a delivery had",
			Why:  "nobody can see whether a verdict was met, policyd impact among them",
			Mend: "`postconf -e 'smtp_tls_loglevel = 1'`",
		},
		PostfixSessions: {
			Severity: finding.Notice, Title: "a delivery tries more than two hosts",
			Why:  "where two hosts do not meet the verdict, the third that does is not tried, and mail waits",
			Mend: "`postconf -e 'smtp_mx_session_limit = 5'`",
		},
	}
}

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

const policyMaps = "smtp_tls_policy_maps"

// ours returns the table that asks policyd; nil: there is none.
func (t *Transport) ours() *Table {
	for i := range t.Tables {
		if t.Tables[i].ours() {
			return &t.Tables[i]
		}
	}
	return nil
}

// reports tells whether a version knows the attributes of postfix-tlsrpt.
func reports(i *Instance) (yes bool, err error) {
	v, err := postfixmap.ParseVersion(i.Version)
	return v >= postfixmap.V3_10, err
}

// mapName is the name of the map for an instance.
func mapName(i *Instance) string {
	if yes, err := reports(i); yes && err == nil {
		return reporting()[0]
	}
	return plain()[0]
}

// table is how a transport can ask the policyd of the configuration: over TCP where it
// listens there; else through proxymap(8).
func (r *report) table(name string) string {
	for _, l := range r.Policyd.Listen {
		if l.Address.Network() == "tcp" {
			return "socketmap:inet:" + l.Address.Endpoint() + ":" + name
		}
	}
	for _, l := range r.Policyd.Listen {
		return "proxy:socketmap:unix:" + l.Address.Endpoint() + ":" + name
	}
	return "socketmap:inet:127.0.0.1:8461:" + name
}

// replaced is the value of smtp_tls_policy_maps with another table in the place of one; or
// before all, where that is nil.
func replaced(t *Transport, old *Table, by string) string {
	var items []string
	if old == nil {
		items = append(items, by)
	}
	for i := range t.Tables {
		item := t.Tables[i].Item
		if old != nil && &t.Tables[i] == old {
			item = by
		}
		items = append(items, item)
	}
	return strings.Join(items, ", ")
}

func (r *report) postfixMap(i *Instance, t *Transport) opinion {
	what := looked(i, t, policyMaps)
	ours := t.ours()
	switch {
	case t.Settings["smtp_tls_wrappermode"] == "yes" && t.Settings[policyMaps] == "":
		return opinion{}
	case ours == nil && t.Settings[policyMaps] == "":
		return r.fault(PostfixMap, what, policyMaps+" is empty", set(i, t, policyMaps, r.table(mapName(i))))
	case ours == nil:
		return r.fault(PostfixMap, what, policyMaps+" asks "+t.Settings[policyMaps]+", and not policyd", set(i, t, policyMaps, replaced(t, nil, r.table(mapName(i)))))
	case ours.Proxied && !ours.Allowed:
		return r.fault(PostfixMap, what+", proxy_read_maps", "proxymap(8) may not read "+ours.Item+": proxy_read_maps does not have it",
			"postconf -e "+quote("proxy_read_maps = "+strings.TrimSpace(ours.Item+" "+t.Settings["proxy_read_maps"]))+" && postfix reload")
	case ours == &t.Tables[0]:
		return fine(what, ours.Item)
	}
	before := t.Tables[0].Item
	item := r.reachable(t, ours)
	if item == "" {
		item = ours.Item
	}
	others := slices.DeleteFunc(itemsOf(t), func(item string) bool { return item == ours.Item })
	o := r.fault(PostfixMap, what, before+" is asked before policyd, and what stands in it goes before every verdict",
		set(i, t, policyMaps, strings.TrimSuffix(item, ours.Name)+understood(i, ours.Name)+", "+strings.Join(others, ", ")))
	o.severity = finding.Notice
	if t.Tables[0].Socketmap {
		o.severity = finding.Warning
	}
	return o
}

func itemsOf(t *Transport) []string {
	var items []string
	for _, table := range t.Tables {
		items = append(items, table.Item)
	}
	return items
}

func (r *report) postfixSocket(i *Instance, t *Transport) opinion {
	ours := t.ours()
	if ours == nil {
		return opinion{}
	}
	who := "smtp(8)"
	if ours.Proxied {
		who = "proxymap(8)"
	}
	if ours.Network == "unix" {
		who += ", as the user " + t.Settings["mail_owner"]
		if t.Setup.Chrooted && !ours.Proxied {
			who += " in the chroot " + t.Settings["queue_directory"]
		}
	}
	what := "a question to " + ours.Network + ":" + ours.Address + " as " + who + " asks it"
	switch a := &ours.Answer; {
	case a.Unasked:
		return opinion{looked: what, found: a.Problem}
	case a.Policyd:
		return fine(what, ours.Network+":"+ours.Address+" answers "+who)
	case a.Problem != "":
		return r.fault(PostfixSocket, what, ours.Network+":"+ours.Address+" cannot be reached by "+who+": "+a.Problem, r.reach(i, t, ours))
	default:
		return r.fault(PostfixSocket, what, ours.Network+":"+ours.Address+" answers "+a.Reply+", and is not policyd", r.reach(i, t, ours))
	}
}

// mendTable is the command that lets a transport ask policyd by a table in the place of its
// own: one that it can reach, by a name whose answers it understands. What is wrong with
// either is mended by the same line, so that all lines of a report can be pasted.
func (r *report) mendTable(i *Instance, t *Transport, table *Table) string {
	item := r.reachable(t, table)
	if item == "" {
		return ""
	}
	return set(i, t, policyMaps, replaced(t, table, strings.TrimSuffix(item, table.Name)+understood(i, table.Name)))
}

// understood is the name of the map for an instance, in the words that the operator has
// chosen.
func understood(i *Instance, name string) string {
	able, err := reports(i)
	switch {
	case err != nil:
		return name
	case able && slices.Contains(plain(), name):
		return reporting()[slices.Index(plain(), name)]
	case !able && slices.Contains(reporting(), name):
		return plain()[slices.Index(reporting(), name)]
	}
	return name
}

// reachable is a table that a transport can reach policyd by, under the name of the one it
// has; empty where none is known.
func (r *report) reachable(t *Transport, table *Table) string {
	own := table.Network + ":" + table.Address
	if table.Answer.Policyd || table.Answer.Unasked {
		return table.Item
	}
	for _, l := range r.Policyd.Listen {
		if l.Answer.Policyd && l.Address.Network() == "tcp" && l.Address.String() != own {
			return "socketmap:inet:" + l.Address.Endpoint() + ":" + table.Name
		}
	}
	for _, l := range r.Policyd.Listen {
		if l.Answer.Policyd && l.Address.String() == own && table.Network == "unix" && !table.Proxied && t.Setup.Chrooted {
			return "proxy:" + table.Item
		}
	}
	return ""
}

// reach is what lets a transport reach policyd.
func (r *report) reach(i *Instance, t *Transport, table *Table) string {
	if mend := r.mendTable(i, t, table); mend != "" {
		return mend
	}
	for _, l := range r.Policyd.Listen {
		if l.Answer.Policyd && table.Network == "unix" && l.Address.String() == "unix:"+table.Address {
			return words("let the user %s write to the socket: socket_mode = \"0666\" in [socketmap] of policyd.toml; then restart policyd", t.Settings["mail_owner"])
		}
	}
	return "systemctl restart tlsverdict-policyd"
}

func (r *report) postfixDialect(i *Instance, t *Transport) opinion {
	ours := t.ours()
	if ours == nil {
		return opinion{}
	}
	what := looked(i, t, policyMaps) + ", mail_version"
	if _, err := reports(i); err != nil {
		return opinion{looked: "mail_version", found: err.Error()}
	}
	other := understood(i, ours.Name)
	if other == ours.Name {
		return fine(what, "Postfix "+i.Version+" understands the map "+ours.Name)
	}
	mend := r.mendTable(i, t, ours)
	if mend == "" {
		// How to reach policyd is another finding.
		mend = set(i, t, policyMaps, replaced(t, ours, strings.TrimSuffix(ours.Item, ours.Name)+other))
	}
	if slices.Contains(reporting(), ours.Name) {
		return r.fault(PostfixDialect, what, "Postfix "+i.Version+" does not understand the answers of the map "+ours.Name, mend)
	}
	o := r.fault(PostfixDialect, what, "the map "+ours.Name+" leaves out what Postfix "+i.Version+" reports by (TLSRPT), and what it compares MX names with", mend)
	o.severity = finding.Notice
	return o
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
