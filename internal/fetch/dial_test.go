package fetch_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/fetch"
	"tlsverdict/internal/verdict"
)

// dials records where connections were tried to.
type dials struct {
	mu   sync.Mutex
	seen []string
}

func (d *dials) add(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, address)
}

func (d *dials) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen
}

func TestAddressesThatAreNotPublic(t *testing.T) {
	for _, addr := range []string{
		"127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
		"224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1",
		"::1", "::", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
		"ff02::1", "2001:db8::1", "2002:7f00:1::", "2001::1",
	} {
		t.Run(addr, func(t *testing.T) {
			var d dials
			f := &fetch.Fetcher{
				Resolve: addrs{addr},
				DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
					d.add(address)
					return nil, errors.New("dialled")
				},
			}
			wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "not a public address")
			_, err := f.Fetch(t.Context(), domain)
			if !errors.Is(err, fetch.ErrNotPublic) || len(d.list()) != 0 {
				t.Errorf("%v, dialled %q", err, d.list())
			}
		})
	}
}

func TestTheZeroFetcherIsGuarded(t *testing.T) {
	// No DialContext, no Allow: what an operator gets who sets nothing.
	f := &fetch.Fetcher{Resolve: addrs{"127.0.0.1"}}
	wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "not a public address")
}

func TestAllowedNetworks(t *testing.T) {
	ca := newAuthority(t)
	server := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.named(t, host)}}, http.HandlerFunc(text))
	for addr, prefix := range map[string]string{"127.1.2.3": "127.0.0.0/8", "10.1.2.3": "10.1.2.3/32", "fd00::5": "fd00::/64"} {
		f := to(ca, server)
		f.Resolve, f.Allow = addrs{addr}, nil
		wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "not a public address")
		f.Allow = []netip.Prefix{netip.MustParsePrefix(prefix)}
		if _, err := f.Fetch(t.Context(), domain); err != nil {
			t.Errorf("%s in %s: %v", addr, prefix, err)
		}
	}
}

func TestOnlyPort443AndNoLookupOfItsOwn(t *testing.T) {
	var d dials
	f := &fetch.Fetcher{
		Resolve: addrs{"8.8.8.8", "2620:fe::fe", "8.8.4.4", "8.8.8.8"},
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			d.add(network + " " + address)
			return nil, syscall.ECONNREFUSED
		},
	}
	wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "connection refused")
	want := "[tcp [2620:fe::fe]:443 tcp 8.8.8.8:443 tcp 8.8.4.4:443]"
	if got := fmt.Sprint(d.list()); got != want {
		t.Errorf("dialled %s, want %s", got, want)
	}
}

func TestAtMostSixAddresses(t *testing.T) {
	var list addrs
	for i := range 200 {
		list = append(list, fmt.Sprintf("8.8.8.%d", i), fmt.Sprintf("2620:fe::%x", i+1))
	}
	var d dials
	f := &fetch.Fetcher{Resolve: list, DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		d.add(address)
		return nil, syscall.EHOSTUNREACH
	}}
	wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "no route to host")
	if n := len(d.list()); n != 6 {
		t.Errorf("%d addresses dialled, want 6", n)
	}
}

func TestOneDeadAddressCostsLittle(t *testing.T) {
	ca := newAuthority(t)
	server := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.named(t, host)}}, http.HandlerFunc(text))
	f := to(ca, server)
	dial := f.DialContext
	f.Resolve = addrs{"2620:fe::fe", "127.0.0.1"}
	f.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "127.0.0.1:443" {
			return dial(ctx, network, address)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	begin := time.Now()
	if _, err := f.Fetch(t.Context(), domain); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestAllAddressesDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dials
		f := &fetch.Fetcher{
			Resolve: addrs{"8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.4", "8.8.8.5", "8.8.8.6", "8.8.8.7"},
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				d.add(address)
				<-ctx.Done()
				return nil, ctx.Err()
			},
		}
		begin := time.Now()
		wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "in time")
		// Each has a third of 10 s, the last begins 5 * 250 ms after the first.
		if took := time.Since(begin); took > 5*time.Second || len(d.list()) != 6 {
			t.Errorf("took %v for %q", took, d.list())
		}
		synctest.Wait()
	})
}

func TestDeadlineCoversTheLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetch.Fetcher{Resolve: hangs{}}
		begin := time.Now()
		wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "in time")
		if took := time.Since(begin); took != fetch.DefaultTimeout {
			t.Errorf("took %v, want %v", took, fetch.DefaultTimeout)
		}
	})
}

type hangs struct{}

func (hangs) LookupAddrs(ctx context.Context, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type failing struct{ err error }

func (f failing) LookupAddrs(context.Context, string) ([]netip.Addr, error) { return nil, f.err }

func TestFaults(t *testing.T) {
	refused := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	for name, tt := range map[string]struct {
		f      *fetch.Fetcher
		fault  verdict.Fault
		detail string
	}{
		"resolver of the operator": {
			&fetch.Fetcher{Resolve: failing{&verdict.Failure{Fault: verdict.Operator, Detail: "no answer from 127.0.0.1:53"}}},
			verdict.Operator, "no answer from 127.0.0.1:53",
		},
		"bogus zone": {
			&fetch.Fetcher{Resolve: failing{fmt.Errorf("addresses: %w", &verdict.Failure{Fault: verdict.Remote, Detail: "bogus"})}},
			verdict.Remote, "bogus",
		},
		"no address": {&fetch.Fetcher{Resolve: addrs{}}, verdict.Remote, "has no address"},
		"no route": {
			&fetch.Fetcher{Resolve: addrs{"8.8.8.8"}, DialContext: refused(&net.OpError{Op: "dial", Err: syscall.ENETUNREACH})},
			verdict.Operator, "unreachable",
		},
		"no descriptors": {
			&fetch.Fetcher{Resolve: addrs{"8.8.8.8"}, DialContext: refused(syscall.EMFILE)},
			verdict.Operator, "too many open files",
		},
		"refused": {
			&fetch.Fetcher{Resolve: addrs{"8.8.8.8"}, DialContext: refused(syscall.ECONNREFUSED)},
			verdict.Remote, "refused",
		},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, tt.f, fetch.PolicyFetchError, tt.fault, tt.detail) })
	}
}
