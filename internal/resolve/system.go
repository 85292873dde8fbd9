package resolve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// SystemFile is where Unix systems name their resolvers.
const SystemFile = "/etc/resolv.conf"

// use takes these servers. What is known of those that were there before stays.
func (r *Resolver) use(addrs []netip.AddrPort) {
	known := make(map[netip.AddrPort]*server)
	for _, srv := range r.servers() {
		known[srv.addr] = srv
	}
	var list []*server
	for _, addr := range addrs {
		srv := newServer(addr)
		if old := known[srv.addr]; old != nil {
			srv = old
		}
		list = append(list, srv)
	}
	r.list.Store(&list)
}

// servers returns the servers in the configured order.
func (r *Resolver) servers() []*server {
	if list := r.list.Load(); list != nil {
		return *list
	}
	return nil
}

// renew reads the system's file again, since it changes: where a network comes up
// after this program, or is another now. A file that cannot be read changes nothing.
func (r *Resolver) renew(ctx context.Context) {
	if r.file == "" {
		return
	}
	addrs, err := SystemServers(r.file)
	if err != nil {
		return
	}
	same := slices.EqualFunc(r.servers(), addrs, func(srv *server, addr netip.AddrPort) bool { return srv.addr == newServer(addr).addr })
	if !same {
		r.use(addrs)
		r.log.InfoContext(ctx, "the system has other name servers now", slog.String("file", r.file), slog.Any("servers", addrs))
	}
}

const (
	dnsPort = 53
	// maxSystemServers is how many servers the C library reads (MAXNS in
	// <resolv.h>): more than the MTA uses would be asked otherwise.
	maxSystemServers = 3
	maxSystemFile    = 1 << 20
)

// SystemServers returns the name servers of a file in the format of
// resolv.conf(5), at most three, as the C library reads them: port 53, and
// loopback when the file is missing or names none. IPv6 addresses may have a
// zone ("fe80::1%eth0"). Lines that hold no address are passed over.
func SystemServers(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return loopbackServer(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServers, err)
	}
	defer f.Close()
	servers, err := parseSystem(io.LimitReader(f, maxSystemFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNoServers, path, err)
	}
	if len(servers) == 0 {
		return loopbackServer(), nil
	}
	return servers, nil
}

func loopbackServer() []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
}

func parseSystem(r io.Reader) ([]netip.AddrPort, error) {
	var servers []netip.AddrPort
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(servers) < maxSystemServers {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(f[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(addr, dnsPort))
		}
	}
	return servers, lines.Err()
}
