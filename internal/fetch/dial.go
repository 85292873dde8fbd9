package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"code.dny.dev/ssrf"
)

const (
	port         = 443
	maxAddresses = 6
	// stagger is how long an attempt has before the next address is tried beside
	// it (RFC 8305 §5 recommends 250 ms).
	stagger = 250 * time.Millisecond
)

// ErrNotPublic: an address of the policy host is not one of the public internet, and
// Fetcher.Allow does not have it. Nothing was sent to it.
var ErrNotPublic = errors.New("fetch: not a public address")

// Guardian says which addresses may be connected to on a stranger's word, on one port:
// those that are public, and those of the networks in allow.
func Guardian(allow []netip.Prefix, port uint16) *ssrf.Guardian {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return ssrf.New(ssrf.WithPorts(port), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
}

// dialer connects to the first of some addresses that answers.
type dialer struct {
	guard *ssrf.Guardian
	// connect opens one connection.
	connect func(ctx context.Context, network, address string) (net.Conn, error)
	// each is the time that one address has.
	each time.Duration
}

func (f *Fetcher) dialer() *dialer {
	guard := Guardian(f.Allow, port)
	connect := f.DialContext
	if connect == nil {
		// Control sees the address that the socket really goes to.
		connect = (&net.Dialer{Control: guard.Safe}).DialContext
	}
	return &dialer{guard: guard, connect: connect, each: f.timeout() / 3}
}

// order puts addresses in turn, IPv6 first (RFC 8305 §4), and at most
// maxAddresses of them: the list is as long as the remote side likes.
func order(addrs []netip.Addr) []netip.Addr {
	var v6, v4 []netip.Addr
	seen := make(map[netip.Addr]bool)
	for _, a := range addrs {
		switch {
		case seen[a]:
		case a.Is4():
			v4 = append(v4, a)
		default:
			v6 = append(v6, a)
		}
		seen[a] = true
	}
	var out []netip.Addr
	for i := 0; len(out) < maxAddresses && (i < len(v6) || i < len(v4)); i++ {
		if i < len(v6) {
			out = append(out, v6[i])
		}
		if i < len(v4) && len(out) < maxAddresses {
			out = append(out, v4[i])
		}
	}
	return out
}

// attempt is what became of one address.
type attempt struct {
	conn net.Conn
	err  error
}

// race connects to the addresses one after another, not waiting longer than
// stagger for one before it starts the next, and returns the first connection.
func (d *dialer) race(ctx context.Context, addrs []netip.Addr) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, len(addrs))
	timer := time.NewTimer(0)
	defer timer.Stop()
	var errs []error
	for started, pending := 0, 0; started < len(addrs) || pending > 0; {
		next := timer.C
		if started == len(addrs) {
			next = nil
		}
		select {
		case <-next:
			go func(a netip.Addr) { results <- d.one(ctx, a) }(addrs[started])
			started++
			pending++
			timer.Reset(stagger)
		case r := <-results:
			pending--
			if r.err == nil {
				go closeLate(results, pending)
				return r.conn, nil
			}
			errs = append(errs, r.err)
			timer.Reset(0)
		}
	}
	return nil, errors.Join(errs...)
}

// closeLate closes the connections of attempts that came second.
func closeLate(results <-chan attempt, pending int) {
	for range pending {
		if r := <-results; r.conn != nil {
			_ = r.conn.Close()
		}
	}
}

func (d *dialer) one(ctx context.Context, addr netip.Addr) attempt {
	target := netip.AddrPortFrom(addr, port)
	// The guard is asked here as well as at the socket, so that it holds
	// whatever DialContext is.
	if err := d.guard.SafeAddrPort(target); err != nil {
		return attempt{err: fmt.Errorf("%s: %w", addr, ErrNotPublic)}
	}
	ctx, cancel := context.WithTimeout(ctx, d.each)
	defer cancel()
	conn, err := d.connect(ctx, "tcp", target.String())
	if err != nil {
		return attempt{err: fmt.Errorf("connect to %s: %w", target, err)}
	}
	return attempt{conn: conn}
}
