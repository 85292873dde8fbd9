package resolve

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// answerer scripts a name server: it returns the reply, or nil to keep silent.
type answerer func(q *dns.Msg) *dns.Msg

// rr reads records in the form of a zone file.
func rr(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	for _, line := range lines {
		r, err := dns.NewRR(line)
		if err != nil || r == nil {
			t.Fatalf("%q: %v", line, err)
		}
		rrs = append(rrs, r)
	}
	return rrs
}

// replyTo begins the reply of a recursive server.
func replyTo(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	return m
}

func answering(q *dns.Msg, rrs ...dns.RR) *dns.Msg {
	m := replyTo(q)
	m.Answer = rrs
	return m
}

func secure(m *dns.Msg) *dns.Msg {
	m.AuthenticatedData = true
	return m
}

func refusing(q *dns.Msg, rcode int) *dns.Msg {
	m := replyTo(q)
	m.Rcode = rcode
	return m
}

// soaOf puts a zone's SOA with a negative TTL of 300 s in the authority section.
func soaOf(t testing.TB, m *dns.Msg, zone string) *dns.Msg {
	m.Ns = rr(t, zone+" 3600 IN SOA ns.invalid. hostmaster.invalid. 1 7200 3600 1209600 300")
	return m
}

// validator answers the probe as a validating resolver does, and leaves the rest
// to next.
func validator(t testing.TB, next answerer) answerer {
	return func(q *dns.Msg) *dns.Msg {
		switch q.Question[0].Name {
		case ".":
			if q.Question[0].Qtype == dns.TypeA {
				return secure(soaOf(t, replyTo(q), "."))
			}
			return secure(answering(q, rr(t, ". 518400 IN NS a.root-servers.net.")...))
		case "id.server.", "version.bind.":
			return refusing(q, dns.RcodeRefused)
		case "10.in-addr.arpa.", "home.arpa.":
			return soaOf(t, refusing(q, dns.RcodeNameError), q.Question[0].Name)
		}
		return next(q)
	}
}

// forwarder does not validate.
func forwarder(t testing.TB, next answerer) answerer {
	honest := validator(t, next)
	return func(q *dns.Msg) *dns.Msg {
		m := honest(q)
		if m != nil && q.Question[0].Name == "." {
			m.AuthenticatedData = false
		}
		return m
	}
}

// zone answers from a list of records, all of them secure or none, and NXDOMAIN
// for other names.
func zone(t testing.TB, lines ...string) answerer {
	rrs := rr(t, lines...)
	return func(q *dns.Msg) *dns.Msg {
		want := q.Question[0]
		m := replyTo(q)
		exists := false
		for _, r := range rrs {
			if h := r.Header(); strings.EqualFold(h.Name, want.Name) {
				exists = true
				if h.Rrtype == want.Qtype || h.Rrtype == dns.TypeCNAME {
					m.Answer = append(m.Answer, r)
				}
			}
		}
		if len(m.Answer) == 0 {
			soaOf(t, m, ".")
			if !exists {
				m.Rcode = dns.RcodeNameError
			}
		}
		return m
	}
}

// serve runs an answerer on UDP and TCP of one loopback port. Packets go out as
// handle writes them.
func serve(t testing.TB, handle dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			pc.Close() // another process has the port for TCP
			continue
		}
		for _, srv := range []*dns.Server{{PacketConn: pc, Handler: handle}, {Listener: ln, Handler: handle}} {
			started := make(chan struct{})
			srv.NotifyStartedFunc = func() { close(started) }
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				_ = srv.ActivateAndServe()
			}()
			<-started
			t.Cleanup(func() {
				_ = srv.Shutdown()
				<-stopped
			})
		}
		return netip.MustParseAddrPort(pc.LocalAddr().String())
	}
	t.Fatal("no port that is free on UDP and TCP")
	return netip.AddrPort{}
}

// run serves an answerer.
func run(t testing.TB, a answerer) netip.AddrPort {
	return serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if m := a(q); m != nil {
			_ = w.WriteMsg(m)
		}
	})
}

// resolver returns one of a configuration that is right.
func resolver(t testing.TB, cfg Config) *Resolver {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// trusting returns a resolver of mode TrustAD over one answerer that passes the probe.
func trusting(t testing.TB, a answerer) *Resolver {
	t.Helper()
	return resolver(t, Config{Mode: TrustAD, Servers: []netip.AddrPort{run(t, validator(t, a))}})
}

// wires is a network without sockets, for tests in virtual time: servers by address.
type wires struct {
	mu      sync.Mutex
	servers map[string]answerer
}

func (w *wires) set(addr string, a answerer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.servers == nil {
		w.servers = make(map[string]answerer)
	}
	w.servers[addr] = a
}

// dial answers each packet that is written to the connection.
func (w *wires) dial(_ context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	a := w.servers[addr]
	w.mu.Unlock()
	if a == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: io.ErrClosedPipe}
	}
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		buf := make([]byte, 1<<16)
		for {
			n, err := there.Read(buf)
			if err != nil {
				return
			}
			if out := answerPacket(a, network, buf[:n]); out != nil {
				if _, err = there.Write(out); err != nil {
					return
				}
			}
		}
	}()
	return here, nil
}

func answerPacket(a answerer, network string, in []byte) []byte {
	if network == "tcp" {
		in = in[2:]
	}
	q := new(dns.Msg)
	if q.Unpack(in) != nil {
		return nil
	}
	m := a(q)
	if m == nil {
		return nil
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	if network == "tcp" {
		out = append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)
	}
	return out
}
