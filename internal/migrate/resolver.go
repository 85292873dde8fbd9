package migrate

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// defaultEntries is that of cache.entries.
const defaultEntries = 1_000_000

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
	m.drop("policies are always fetched ahead of their end, daily; nothing to do", "proactive_policy_fetching.")
	m.drop("a policy that is kept holds while its max_age does, and its record is looked at whenever a verdict ends; nothing to do", "cache_grace")
	m.drop("one process answers all, and a stop waits up to 15 s for answers under way; nothing to do", "reuse_port", "shutdown_timeout")
	m.drop("the log goes to standard error, and so to the journal", "logfile")
	if yes(m.take("tlsrpt")) {
		m.note("tlsrpt: use the map name postfix-tlsrpt with Postfix 3.10 and later")
	}
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
		switch t := m.take(zone + ".timeout"); {
		case timeout == "":
			timeout = t
		case t != "" && t != timeout:
			m.note("%s.timeout: there is one time for all, mta_sts.timeout, and it is not this one of %s s", zone, t)
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
	if size := m.take("cache.options.cache_size"); size != "" {
		if n, err := strconv.Atoi(size); err == nil && n > defaultEntries {
			m.set("cache", "entries", strconv.Itoa(n))
		} else {
			m.note("cache.options.cache_size: cache.entries stays at %d, which takes memory only as it fills", defaultEntries)
		}
	}
	const connection = "how the other daemon reached its store; nothing to do"
	switch kind {
	case "internal":
		m.note("policies outlive a restart now: they are kept in /var/lib/tlsverdict/policyd.db")
		m.drop(connection, "cache.options.")
	case "sqlite":
		m.note("the policies in %s are not read: they are fetched anew when mail asks for them", cmp.Or(m.take("cache.options.filename"), "its database"))
		m.drop(connection, "cache.options.")
	case "redis", "redis_sentinel":
		m.note("each host keeps its own policies, in /var/lib/tlsverdict/policyd.db; to share them between hosts as the store of kind %s did, set [store] shared: docs/fleet.md has the URLs. What the store has now is not read", kind)
		m.drop("it belongs into [store] shared, a password into the file of shared_password_file",
			"cache.options.url", "cache.options.sentinels", "cache.options.sentinel_master_name", "cache.options.password", "cache.options.username", "cache.options.db")
		m.drop(connection, "cache.options.")
	default:
		m.note("each host keeps its own policies, in /var/lib/tlsverdict/policyd.db: a store of kind %s cannot be shared; [store] shared takes a Redis (docs/fleet.md)", kind)
		m.drop(connection, "cache.options.")
	}
}
