package migrate

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// resolver migrates mta-sts-daemon.yml.
func (m *migration) resolver() {
	m.from = "postfix-mta-sts-resolver"
	address := join(cmp.Or(m.take("host"), "127.0.0.1"), cmp.Or(m.take("port"), "8461"))
	if path := m.take("path"); path != "" {
		address = "unix:" + path
	}
	m.listen(address)
	m.mode(m.take("mode"), address)
	m.zones()
	m.cache()
	for _, key := range []string{"enabled", "interval", "concurrency_limit", "grace_ratio"} {
		m.take("proactive_policy_fetching." + key)
	}
	for _, key := range []string{"reuse_port", "cache_grace", "shutdown_timeout"} {
		m.take(key)
	}
	m.note("policies are always fetched ahead of their end, daily: proactive_policy_fetching, cache_grace, reuse_port and shutdown_timeout have no counterpart and need none")
	m.note("DANE goes before MTA-STS (RFC 8461 §2), and DNSSEC is validated: smtp_dns_support_level = dnssec belongs into main.cf; policyd explain says more")
}

// zones migrates what was asked for by the map's name.
func (m *migration) zones() {
	names := []string{"default_zone"}
	for key := range m.keys {
		if rest, ok := strings.CutPrefix(key, "zones."); ok {
			name, _, _ := strings.Cut(rest, ".")
			if zone := "zones." + name; !slices.Contains(names, zone) {
				names = append(names, zone)
			}
		}
	}
	slices.Sort(names)
	timeout := ""
	for _, zone := range names {
		m.take(zone) // an empty one
		if yes(m.take(zone + ".strict_testing")) {
			m.note("%s.strict_testing: a policy in mode testing is not enforced here (RFC 8461 §5); an [[override]] with a reason enforces one domain", zone)
		}
		if sni := m.take(zone + ".require_sni"); sni != "" && !yes(sni) {
			m.note("%s.require_sni: every answer has servername=hostname (RFC 8461 §4.2), which Postfix understands from 3.4 on", zone)
		}
		if t := m.take(zone + ".timeout"); timeout == "" {
			timeout = t
		}
		if name, ok := strings.CutPrefix(zone, "zones."); ok && name != "postfix" {
			m.note("the map name %q of main.cf is not known here, and mail would wait: the name is \"postfix\" for every zone", name)
		}
	}
	if timeout != "" {
		m.seconds("mta_sts", "timeout", timeout)
	}
}

func (m *migration) cache() {
	kind := cmp.Or(m.take("cache.type"), "internal")
	if n, err := strconv.Atoi(cmp.Or(m.take("cache.options.cache_size"), "0")); err == nil && n > 10_000 {
		m.set("cache", "entries", strconv.Itoa(n))
	}
	switch kind {
	case "internal":
		m.note("policies outlive a restart now: they are kept in /var/lib/tlsverdict/policyd.db")
	case "sqlite":
		m.note("the policies in %s are not read: they are fetched anew when mail asks for them", cmp.Or(m.take("cache.options.filename"), "its database"))
	default:
		m.note("a store of kind %s, shared by several hosts, is not there: each host keeps its own", kind)
	}
	for key := range m.keys {
		if strings.HasPrefix(key, "cache.options.") {
			delete(m.keys, key)
		}
	}
}
