package migrate

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
)

// tlspol migrates config.yaml of postfix-tlspol.
func (m *migration) tlspol() {
	m.from = "postfix-tlspol"
	named := m.take("server.address")
	address := cmp.Or(named, "127.0.0.1:8642")
	if named != "" {
		m.note("server.address: where postfix-tlspol.socket is in use, the address in force is that of its ListenStream")
	}
	if !strings.HasPrefix(address, "unix:") {
		host, port := "127.0.0.1", address
		if i := strings.LastIndexByte(address, ':'); i >= 0 {
			host, port = cmp.Or(address[:i], "127.0.0.1"), address[i+1:]
		}
		address = join(host, port)
	}
	m.listen(address)
	m.mode(m.take("server.socket-permissions"), address)
	m.note("the map names QUERY and QUERYwithTLSRPT go on to work; postfix and postfix-tlsrpt are the same")
	if p := m.take("server.prefetch"); p != "" {
		m.set("cache", "refresh_ahead", strconv.FormatBool(yes(p)))
	}
	switch level := strings.ToLower(m.take("server.log-level")); level {
	case "":
	case "debug", "info", "warn", "error":
		m.set("log", "level", strconv.Quote(level))
	default:
		m.note("the log level %q is not known here: debug, info, warn, error", level)
	}
	switch format := strings.ToLower(m.take("server.log-format")); format {
	case "":
	case "text", "json":
		m.set("log", "format", strconv.Quote(format))
	default:
		m.note("the log format %q is not known here: text, json", format)
	}
	if file := m.take("server.cache-file"); file != "" {
		m.note("%s is not read: policies are fetched anew when mail asks for them, and kept in /var/lib/tlsverdict/policyd.db", file)
	}
	m.metrics(m.take("server.metrics-address"))
	m.drop("mail waits where a lookup of DANE fails, always (RFC 7672 §2.1.2); nothing to do", "server.strict")
	m.drop("verdicts are in memory and policies in /var/lib/tlsverdict/policyd.db; what the Redis has is not read. To share policies between hosts set [store] shared (docs/fleet.md)", "redis.")
	if yes(m.take("server.tlsrpt")) {
		m.note("tlsrpt: use the map name postfix-tlsrpt (or QUERYwithTLSRPT) with Postfix 3.10 and later")
	}
	m.dns(m.take("dns.address"))
}

// metrics sets where they are, which is on loopback or nowhere.
func (m *migration) metrics(text string) {
	if text == "" {
		return
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || !at.Addr().IsLoopback() {
		m.note("server.metrics-address %q: metrics are on an IP address of loopback, with a port: set [http] listen (docs/monitoring.md)", text)
		return
	}
	m.set("http", "listen", strconv.Quote(at.String()))
	m.note("server.metrics-address: metrics have other names (docs/monitoring.md), at the same address")
}

func (m *migration) dns(text string) {
	if text == "" {
		return
	}
	at, err := server(text)
	if err != nil {
		m.note("dns.address %q is no address with a port: dns.servers is left to /etc/resolv.conf", text)
		return
	}
	m.set("dns", "servers", "["+strconv.Quote(at.String())+"]")
	m.note("policyd validates DNSSEC itself, through %s; that Postfix asks the same resolver is still a good idea", at)
}
