package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

const (
	// lookTime bounds the lookups of one probe, connectTime the wait for one address,
	// talkTime all that follows. postscreen(8) lets a client wait for 6 s.
	lookTime    = 20 * time.Second
	connectTime = 10 * time.Second
	talkTime    = 30 * time.Second
	// maxAddresses is how many addresses of a host are tried.
	maxAddresses = 4
	// visitEvery is the least time between two connections to one address, or to one
	// IPv6 network of 64 bits, and so the most that strangers' names can make of it.
	visitEvery = 5 * time.Second
)

// Guard says which addresses may be connected to.
type Guard interface {
	SafeAddrPort(netip.AddrPort) error
	// Safe is a net.Dialer's Control.
	Safe(network, address string, c syscall.RawConn) error
}

// Client makes single probes. Its fields must not change once it is used; it is safe for
// concurrent use.
type Client struct {
	// Facts learns the addresses of a destination that is a host, and its TLSA records
	// at the destination's port. Required.
	Facts func(context.Context, nexthop.Destination) verdict.Facts
	// Guard is required.
	Guard Guard
	// Own reports whether an address is this host's own, so that mail to it would come
	// back. Optional.
	Own func(netip.Addr) bool
	// Roots are the authorities that certificates may come from; nil means the system's.
	Roots *x509.CertPool
	// Hello is the name that this host gives itself (RFC 5321 §4.1.1.1): its full
	// name. Without a dot in it, its address is given instead (RFC 5321 §4.1.3).
	Hello string
	// Source are the addresses to connect from, at most one of each family; for a
	// family without one the system chooses.
	Source []netip.Addr
	// DialContext opens connections; nil means a net.Dialer. The address is checked
	// before it is called.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// Visits are shared with other clients, so that an address is visited by one of them at a
	// time; nil: with none.
	Visits *Visits

	own sync.Once
}

// Probe probes a host once, within about a minute and the bounds of ctx.
func (c *Client) Probe(ctx context.Context, t Target) (r Result) {
	r = Result{Target: t, Began: time.Now()}
	defer func() { r.Took = time.Since(r.Began) }()
	host, err := c.host(ctx, t)
	if err != nil {
		r.Err = fail(Lookup, err)
		return r
	}
	held, err := host.Authentication()
	if err != nil {
		r.Err = fail(Lookup, err)
		return r
	}
	conn, err := c.connect(ctx, t, host)
	if err != nil {
		r.Err = given(ctx, fail(Connect, err))
		return r
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	r.Address = remote(conn)
	e := &exchange{client: c, result: &r, held: held}
	if err := e.run(conn); err != nil {
		r.Err = given(ctx, fail(e.stage, err))
	}
	return r
}

// given is the error of a probe that nobody waits for any longer, which says nothing of
// the host.
func given(ctx context.Context, e *Error) *Error {
	if ctx.Err() != nil {
		return &Error{Stage: e.Stage, Fault: verdict.Ours, Detail: "given up", cause: ctx.Err()}
	}
	return e
}

// host learns about the host.
func (c *Client) host(ctx context.Context, t Target) (*verdict.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	f := c.Facts(ctx, nexthop.Destination{Name: t.Host, Port: t.Port, Host: true})
	if len(f.Hosts) != 1 {
		return nil, &Error{Stage: Internal, Fault: verdict.Ours, Detail: fmt.Sprintf("the facts of a host are those of %d", len(f.Hosts))}
	}
	return &f.Hosts[0], nil
}

// connect connects to the first address of a host that takes a connection. It is that
// one which has to prove itself: an MTA would not go on to the next either.
func (c *Client) connect(ctx context.Context, t Target, host *verdict.Host) (net.Conn, error) {
	addrs := order(host.A.Records, host.AAAA.Records)
	if len(addrs) == 0 {
		return nil, &Error{Stage: Lookup, Fault: verdict.Remote, Detail: "it has no address"}
	}
	var worst error
	for _, addr := range addrs {
		conn, err := c.dial(ctx, netip.AddrPortFrom(addr, t.Port))
		if err == nil {
			return conn, nil
		}
		if worst == nil || telling(err) > telling(worst) {
			worst = err
		}
	}
	return nil, worst
}

// telling orders the errors of several addresses. One that was not tried leaves everything
// open. What this host is to blame for says least: one without IPv6 tries the addresses of
// IPv6 all the same.
func telling(err error) int {
	switch {
	case errors.Is(err, errVisited):
		return 2
	case fail(Connect, err).Silent():
		return 0
	}
	return 1
}

func (c *Client) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	// Asked here as well as at the socket, so that it holds whatever DialContext is.
	if err := c.Guard.SafeAddrPort(to); err != nil {
		return nil, fmt.Errorf("%w: %v is not public", ErrRefused, to.Addr())
	}
	if c.Own != nil && c.Own(to.Addr()) {
		return nil, fmt.Errorf("%w: %v is this host's own", ErrRefused, to.Addr())
	}
	if wait := c.visits().visit(to.Addr(), time.Now()); wait > 0 {
		return nil, &Error{Stage: Connect, Fault: verdict.Ours, Detail: errVisited.Error(), again: wait, cause: errVisited}
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	dial := c.DialContext
	if dial == nil {
		// Control sees the address that the socket really goes to.
		dial = (&net.Dialer{Control: c.Guard.Safe, LocalAddr: c.source(to.Addr())}).DialContext
	}
	conn, err := dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return conn, nil
}

func (c *Client) visits() *Visits {
	c.own.Do(func() {
		if c.Visits == nil {
			c.Visits = new(Visits)
		}
	})
	return c.Visits
}

// source is the address to connect from, for one of the same family.
func (c *Client) source(to netip.Addr) net.Addr {
	for _, from := range c.Source {
		if from.Is4() == to.Is4() {
			return &net.TCPAddr{IP: from.AsSlice(), Zone: from.Zone()}
		}
	}
	return nil
}

// order puts addresses in turn, IPv6 first, each once, and at most maxAddresses of them:
// the list is as long as the remote side likes.
func order(v4, v6 []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for i := 0; len(out) < maxAddresses && (i < len(v4) || i < len(v6)); i++ {
		for _, list := range [][]netip.Addr{v6, v4} {
			if i < len(list) && len(out) < maxAddresses && !slices.Contains(out, list[i]) {
				out = append(out, list[i])
			}
		}
	}
	return out
}

// remote is the address at the other end.
func remote(conn net.Conn) netip.AddrPort {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
