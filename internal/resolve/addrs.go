package resolve

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"tlsverdict/internal/verdict"
)

// LookupAddrs returns the addresses of a host to connect to, IPv4 first, in a
// session of its own. One family failing is no error while the other answers. The
// error wraps ErrNoAddress where the DNS says that there are none, and ErrLookup
// where that cannot be known.
func (r *Resolver) LookupAddrs(ctx context.Context, host string) ([]netip.Addr, error) {
	s := r.Session()
	defer s.Close()
	var v4, v6 verdict.Answer[netip.Addr]
	var both sync.WaitGroup
	both.Go(func() { v6 = s.AAAA(ctx, host) })
	v4 = s.A(ctx, host)
	both.Wait()
	addrs := append(v4.Records, v6.Records...)
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case v4.Broken():
		return nil, fmt.Errorf("%w: A %s: %w", ErrLookup, printable(host), v4.Failure)
	case v6.Broken():
		return nil, fmt.Errorf("%w: AAAA %s: %w", ErrLookup, printable(host), v6.Failure)
	}
	return nil, fmt.Errorf("%w: %s", ErrNoAddress, printable(host))
}
