package resolve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
)

// SystemFile is where Unix systems name their resolvers.
const SystemFile = "/etc/resolv.conf"

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
