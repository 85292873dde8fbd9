package doctor

import (
	"slices"
	"strings"

	"tlsverdict/internal/finding"
	"tlsverdict/postfixmap"
)

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
