package fleet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tlsverdict/internal/world"
)

// policyHost is the address of all policy hosts, mailHost that of all mail servers.
const (
	policyHost = "198.51.100.1"
	mailHost   = "198.51.100.2"
)

// internet is a world on real sockets. It knows from which node a connection comes, so that
// one node alone can be attacked.
type internet struct {
	*world.World
	mu sync.Mutex
	// blocked are the nodes that no policy host and no mail server answers.
	blocked map[int]bool
}

// newInternet makes a world with domains NAME.sts.example, which have a policy, and
// NAME.pin.example, whose mail host has a banner. In both there are those of names.
func newInternet(t *testing.T, names []string) *internet {
	t.Helper()
	w, err := world.New()
	must(t, err)
	t.Cleanup(w.Close)
	var sts, pin strings.Builder
	sts.WriteString("zone sts.example. insecure\n$TTL 5\n")
	pin.WriteString("zone pin.example. insecure\n$TTL 5\n")
	for _, n := range names {
		fmt.Fprintf(&sts, "%s MX 10 mx.%s\nmx.%s A %s\n_mta-sts.%s TXT \"v=STSv1; id=1\"\nmta-sts.%s A %s\n", n, n, n, mailHost, n, n, policyHost)
		fmt.Fprintf(&sts, "lax-%s MX 10 mx.lax-%s\nmx.lax-%s A %s\n", n, n, n, mailHost)
		w.Web.Publish(n+".sts.example", policyText(n))
	}
	fmt.Fprintf(&pin, "one MX 10 mx.one\nmx.one A %s\n", mailHost)
	must(t, w.DNS.Load(sts.String()+pin.String()))
	must(t, w.Mail.Change("mx.one.pin.example:25", "greeting", "220 mx.one.pin.example ESMTP strict-tls=mx.one.pin.example; max-age=604800"))
	in := &internet{World: w, blocked: make(map[int]bool)}
	in.serve(t)
	return in
}

func policyText(name string) string {
	return "version: STSv1\nmode: enforce\nmx: mx." + name + ".sts.example\nmax_age: 604800\n"
}

// strict is what Postfix is answered for NAME.sts.example while its policy is known.
func strict(name string) string {
	return "OK secure match=mx." + name + ".sts.example servername=hostname"
}

func (in *internet) serve(t *testing.T) {
	t.Helper()
	for _, host := range []string{policyHost, mailHost} {
		ip(t, "addr replace "+host+"/32 dev lo")
	}
	udp, err := net.ListenPacket("udp", dnsServer+":53")
	must(t, err)
	t.Cleanup(func() { _ = udp.Close() })
	go in.datagrams(udp)
	in.streams(t, dnsServer+":53", func(ctx context.Context, node int) (net.Conn, error) {
		return in.DNS.Dial(ctx, "tcp", resolverOf(node))
	})
	in.streams(t, policyHost+":443", func(ctx context.Context, _ int) (net.Conn, error) {
		return in.Web.Dial(ctx, "tcp", policyHost+":443")
	})
	in.streams(t, mailHost+":25", func(ctx context.Context, _ int) (net.Conn, error) {
		return in.Mail.Dial(ctx, "tcp", mailHost+":25")
	})
}

// resolverOf is the resolver that answers a node: all know the same, unless one is made to
// lie.
func resolverOf(node int) string { return fmt.Sprintf("127.0.0.%d:53", node) }

// nodeOf is the node that an address is of.
func nodeOf(a net.Addr) int {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return 0
	}
	return int(p.Addr().Unmap().As4()[2])
}

func (in *internet) datagrams(udp net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := udp.ReadFrom(buf)
		if err != nil {
			return
		}
		question := append([]byte(nil), buf[:n]...)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			c, err := in.DNS.Dial(ctx, "udp", resolverOf(nodeOf(from)))
			if err != nil {
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Write(question); err != nil {
				return
			}
			reply := make([]byte, 4096)
			if n, err := c.Read(reply); err == nil {
				_, _ = udp.WriteTo(reply[:n], from)
			}
		}()
	}
}

// streams leads connections to an address into the world.
func (in *internet) streams(t *testing.T, address string, dial func(ctx context.Context, node int) (net.Conn, error)) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go in.lead(c, dial)
		}
	}()
}

func (in *internet) lead(c net.Conn, dial func(ctx context.Context, node int) (net.Conn, error)) {
	defer c.Close()
	node := nodeOf(c.RemoteAddr())
	if in.isBlocked(node) && !strings.HasSuffix(c.LocalAddr().String(), ":53") {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	far, err := dial(ctx, node)
	if err != nil {
		return
	}
	defer far.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	go func() {
		_, _ = io.Copy(far, c)
		_ = far.Close()
	}()
	_, _ = io.Copy(c, far)
}

// block keeps policy hosts and mail servers from a node.
func (in *internet) block(node int, yes bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.blocked[node] = yes
}

func (in *internet) isBlocked(node int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.blocked[node]
}

// fetches counts the connections to policy hosts.
func (in *internet) fetches() int { return len(in.Web.Fetched()) }
