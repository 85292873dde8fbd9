package postfixmap

import (
	"net"
	"net/netip"
	"strconv"
)

// clientNetwork is how much of an IPv6 address tells one client from another: whoever has one
// address of a network of this length has all of them.
const clientNetwork = 64

// clientOf names who is at the other end of a connection, for shares: the address without its
// port, of IPv6 the network; over a unix socket the user; or "" where neither is known.
func clientOf(nc net.Conn) string {
	switch addr := nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		ip := addr.AddrPort().Addr().Unmap().WithZone("")
		if ip.Is6() && !ip.IsLoopback() {
			return netip.PrefixFrom(ip, clientNetwork).Masked().String()
		}
		return ip.String()
	case *net.UnixAddr:
		if uid, ok := peerUser(nc); ok {
			return "uid " + strconv.FormatUint(uint64(uid), 10)
		}
	}
	return ""
}
