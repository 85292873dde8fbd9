package config

import (
	"errors"
	"net/netip"
	"strings"

	"tlsverdict/internal/nexthop"
)

// httpListen reads the address of the pages for operators, or none. It is an IP address:
// what a name resolves to at the start would decide who reaches them.
func httpListen(v any) (netip.AddrPort, error) {
	if v == "" {
		return netip.AddrPort{}, nil
	}
	text, _ := v.(string)
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Port() == 0 || a.Addr().IsMulticast() {
		return netip.AddrPort{}, errors.New(`want an IP address with a port, such as "127.0.0.1:8462" or "[::1]:8462", or "" for none`)
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// askedName reads a name as a browser or Prometheus sends it in Host, without the port.
func askedName(v any) (string, error) {
	text, _ := v.(string)
	if strings.HasSuffix(text, ".") {
		return "", errors.New("want the name without the dot at its end")
	}
	name, err := nexthop.Normalize(text)
	if err != nil {
		return "", errors.New(`want a host name without a port, such as "mx1.example.net"`)
	}
	return name, nil
}

// checkHTTP guards the pages for operators: they have no password, and tell whom mail is
// sent to.
func (r *reader) checkHTTP(c *Config) {
	const path = "http.listen"
	h := c.HTTP
	switch {
	case r.wrong(path, "http.public"):
	case !h.Listen.IsValid():
		for _, p := range []string{"http.public", "http.hosts"} {
			if _, there := r.places[p]; there && (h.Public || len(h.Hosts) > 0) {
				r.warn(p, `%s does nothing with http.listen = "", unless systemd passes a socket that is named http`, p)
				return
			}
		}
	case h.Listen.Addr().IsLoopback():
		if h.Public {
			r.warn("http.public", `http.public = true does nothing: http.listen = "%s" is on loopback`, h.Listen)
		}
	case !h.Public:
		r.fail(path, `http.listen = "%s" is not on loopback, and what it serves has no password and tells whom mail is sent to: `+
			`take "127.0.0.1:%d", or write http.public = true if a firewall keeps strangers away`, h.Listen, h.Listen.Port())
	default:
		r.warn(path, `http.listen: "%s" is reachable from other hosts: without a firewall, anyone sees whom mail is sent to`, h.Listen)
	}
}
