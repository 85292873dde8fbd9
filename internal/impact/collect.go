package impact

import (
	"slices"
	"strings"

	"tlsverdict/internal/maillog"
)

// hostsKept is how many hosts of a domain are told apart; mail to others counts as mail to
// a host without a name, of which nothing is known.
const hostsKept = 16

// Collector counts deliveries by domain. The zero value is not for use.
type Collector struct {
	domains map[string]*tally
}

// tally is what is known of one domain.
type tally struct {
	routes            []route
	deferred, bounced int64
}

// route counts the messages that one host took in one way.
type route struct {
	host   string
	tls    maillog.TLS
	server maillog.Server
	sent   int64
}

// NewCollector returns an empty one.
func NewCollector() *Collector { return &Collector{domains: make(map[string]*tally)} }

// Add counts a delivery. It is maillog.Read's second argument.
func (c *Collector) Add(d maillog.Delivery) {
	t := c.domains[d.Domain]
	if t == nil {
		t = new(tally)
		c.domains[d.Domain] = t
	}
	switch d.Outcome {
	case maillog.Deferred:
		t.deferred++
		return
	case maillog.Bounced:
		t.bounced++
		return
	case maillog.Sent:
	}
	t.route(d).sent++
}

func (t *tally) route(d maillog.Delivery) *route {
	find := func(host string) *route {
		i := slices.IndexFunc(t.routes, func(r route) bool { return r.host == host && r.tls == d.TLS && r.server == d.Server })
		if i < 0 {
			return nil
		}
		return &t.routes[i]
	}
	if r := find(d.Host); r != nil {
		return r
	}
	host := d.Host
	if len(t.routes) >= hostsKept {
		host = ""
		if r := find(host); r != nil {
			return r
		}
	}
	t.routes = append(t.routes, route{host: host, tls: d.TLS, server: d.Server})
	return &t.routes[len(t.routes)-1]
}

func (t *tally) sent() int64 {
	var n int64
	for _, r := range t.routes {
		n += r.sent
	}
	return n
}

// Domains lists the domains, those with the most mail first.
func (c *Collector) Domains() []string {
	names := make([]string, 0, len(c.domains))
	for name := range c.domains {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := c.domains[a].sent(), c.domains[b].sent()
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(a, b)
	})
	return names
}
