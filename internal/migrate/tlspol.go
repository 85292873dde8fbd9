package migrate

import (
	"cmp"
	"strconv"
	"strings"
)

// tlspol migrates config.yaml of postfix-tlspol.
func (m *migration) tlspol() {
	m.from = "postfix-tlspol"
	address := cmp.Or(m.take("server.address"), "127.0.0.1:8642")
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
	if at := m.take("server.metrics-address"); at != "" {
		m.note("metrics over HTTP, at %s, are not there", at)
	}
	if yes(m.take("server.tlsrpt")) {
		m.note("tlsrpt: use the map name postfix-tlsrpt (or QUERYwithTLSRPT) with Postfix 3.10 and later")
	}
	m.dns(m.take("dns.address"))
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
