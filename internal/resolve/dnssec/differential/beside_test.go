package differential

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/gather"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/verdict"
)

// What is measured: destinations with two DANE hosts each, all of them cold.
const (
	// besideGate is set by "make bench-dnssec"; servant is set in the process that
	// serves the zones, whose work must not count.
	besideGate = "TLSVERDICT_BENCH_DNSSEC"
	servant    = "TLSVERDICT_BENCH_SERVANT"
	// measured destinations for each row, and as many for each delayed one.
	measured = 300
	delayed  = 20
	delay    = 40 * time.Millisecond
)

// row is one way to learn about a destination.
type row struct {
	name string
	zone string // below it are the domains of this row
	mode resolve.Mode
	// fresh makes a new resolver for each destination: nothing is known, not even the
	// root's keys. warm has the domain's own keys known before.
	fresh, warm bool
}

func besideRows() []row {
	return []row{
		{name: "trust-ad", zone: "a.", mode: resolve.TrustAD},
		{name: "validate, top-level domain known", zone: "b.", mode: resolve.Validate},
		{name: "validate, nothing known", zone: "c.", mode: resolve.Validate, fresh: true},
		{name: "validate, the domain's keys known", zone: "d.", mode: resolve.Validate, warm: true},
	}
}

// domains builds, for each row, a top-level domain as they are (NSEC3 with opt-out) and
// below it domains with a KSK, a ZSK, and two hosts with TLSA records.
func (in *internet) domains() {
	for _, r := range besideRows() {
		tld := in.zone(r.zone, byOptOut)
		tld.useKeys(in.ring.kskAndZSK(r.zone, dns.ECDSAP256SHA256))
		for i := range measured + delayed {
			z := in.zone(r.domain(i), byNSEC3)
			z.useKeys(in.ring.kskAndZSK(z.apex, dns.ECDSAP256SHA256))
			for host := range 2 {
				z.add(fmt.Sprintf("@ MX %[1]d mx%[1]d\nmx%[1]d A 192.0.2.%[1]d\nmx%[1]d AAAA 2001:db8::%[1]d\n_25._tcp.mx%[1]d TLSA 3 1 1 %[2]s",
					host+1, strings.Repeat("5a", 32)))
			}
		}
	}
}

func (r row) domain(i int) string { return fmt.Sprintf("d%d.%s", i, r.zone) }

// TestServant is the process that serves the zones. It ends when its input does.
func TestServant(t *testing.T) {
	if os.Getenv(servant) == "" {
		return
	}
	in := newInternet(t)
	in.domains()
	for _, r := range besideRows() { // signing must not count either
		for i := range measured + delayed {
			d := r.domain(i)
			for _, q := range []question{
				{d, dns.TypeMX},
				{d, dns.TypeDS},
				{d, dns.TypeDNSKEY},
				{"_mta-sts." + d, dns.TypeTXT},
				{"mx1." + d, dns.TypeA},
				{"mx1." + d, dns.TypeAAAA},
				{"mx2." + d, dns.TypeA},
				{"mx2." + d, dns.TypeAAAA},
				{"_25._tcp.mx1." + d, dns.TypeTLSA},
				{"_25._tcp.mx2." + d, dns.TypeTLSA},
			} {
				in.reply(q)
			}
			in.reply(question{"other." + d, dns.TypeTXT})
		}
	}
	fmt.Printf("%s\n%s.\n", in.serve(t), in.anchors())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startServant returns the address of the zones' server and the anchors.
func startServant(t *testing.T) (addr, anchors string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestServant$")
	cmd.Env = append(os.Environ(), servant+"=1")
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == ".":
			return addr, anchors
		case addr == "":
			addr = line
		default:
			anchors += line + "\n"
		}
	}
	t.Fatal("the zones' server did not start")
	return "", ""
}

// figures are of one row.
type figures struct {
	cpu, theirs time.Duration // a destination, of this process and of unbound
	questions   float64
	rounds      float64
}

// TestBeside measures what it costs to learn about a destination, side by side: with
// the proof of unbound, and with our own, through the same unbound. All is cold to it.
func TestBeside(t *testing.T) {
	if os.Getenv(besideGate) == "" {
		t.Logf("not run: %s is not set; 'make bench-dnssec' sets it", besideGate)
		return
	}
	addr, anchors := startServant(t)
	u := startUnbound(findPrograms(t), anchors, addr)
	fmt.Printf("%-36s %10s %13s %10s %7s\n", "", "CPU, ms", "unbound, ms", "questions", "rounds")
	for _, r := range besideRows() {
		f := r.measure(t, u, anchors)
		fmt.Printf("%-36s %10.2f %13.2f %10.1f %7.1f\n", r.name, ms(f.cpu), ms(f.theirs), f.questions, f.rounds)
		if r.mode == resolve.Validate && f.cpu > 4*time.Millisecond {
			t.Errorf("%s: %v a destination, wanted less than 4 ms", r.name, f.cpu)
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (r row) measure(t *testing.T, u unbound, anchors string) figures {
	t.Helper()
	var f figures
	res := r.resolver(t, u, anchors, nil)
	r.prepare(t, res, 0, measured)
	asked := 0
	cpu, theirs := processorTime(t), u.processorTime()
	for i := range measured {
		if r.fresh {
			res = r.resolver(t, u, anchors, nil)
		}
		asked += r.learn(t, res, r.domain(i))
	}
	f.cpu = (processorTime(t) - cpu) / measured
	f.theirs = (u.processorTime() - theirs) / measured
	f.questions = float64(asked) / measured
	f.rounds = r.countRounds(t, u, anchors)
	return f
}

// prepare learns what is known before: the root and the top-level domain, or the keys
// of the domains too, by asking for something else in each.
func (r row) prepare(t *testing.T, res *resolve.Resolver, first, count int) {
	t.Helper()
	r.learn(t, res, "nowhere."+r.zone)
	if !r.warm {
		return
	}
	for i := range count {
		s := res.Session()
		if a := s.TXT(t.Context(), strings.TrimSuffix("other."+r.domain(first+i), ".")); a.Proof != verdict.Secure {
			t.Fatal(r.domain(first+i), a.Proof, a.Failure)
		}
		s.Close()
	}
}

// countRounds has every question take so long that nothing else does.
func (r row) countRounds(t *testing.T, u unbound, anchors string) float64 {
	t.Helper()
	slow := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return slowConn{conn}, err
	}
	res := r.resolver(t, u, anchors, slow)
	r.prepare(t, res, measured, delayed)
	var took []time.Duration
	for i := range delayed {
		if r.fresh {
			res = r.resolver(t, u, anchors, slow)
		}
		start := time.Now()
		r.learn(t, res, r.domain(measured+i))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return float64(took[len(took)/2]) / float64(delay)
}

// slowConn lets what is sent wait.
type slowConn struct{ net.Conn }

func (c slowConn) Write(b []byte) (int, error) {
	<-time.After(delay)
	return c.Conn.Write(b)
}

func (r row) resolver(t *testing.T, u unbound, anchors string, dial func(context.Context, string, string) (net.Conn, error)) *resolve.Resolver {
	t.Helper()
	a, err := dnssec.ParseAnchors([]byte(anchors))
	if err != nil {
		t.Fatal(err)
	}
	res, err := resolve.New(resolve.Config{Servers: []netip.AddrPort{netip.MustParseAddrPort(u.addr)}, Mode: r.mode, Anchors: a, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// learn gathers what there is to know of a domain and returns how many questions that
// took. Domains that the row measures must have DANE.
func (r row) learn(t *testing.T, res *resolve.Resolver, domain string) int {
	t.Helper()
	var s *resolve.Session
	g := gather.Gatherer{
		Open: func() gather.Session { s = res.Session(); return s },
		Log:  slog.New(slog.DiscardHandler),
	}
	dest, err := nexthop.Parse(strings.TrimSuffix(domain, "."))
	if err != nil {
		t.Fatal(err)
	}
	f := g.Facts(t.Context(), dest)
	if strings.HasPrefix(domain, "d") {
		if f.MX.Proof != verdict.Secure || len(f.Hosts) != 2 {
			t.Fatalf("%s, %s: %v, %d hosts, %v", r.name, domain, f.MX.Proof, len(f.Hosts), f.MX.Failure)
		}
		for _, h := range f.Hosts {
			if len(h.TLSA) != 1 || h.TLSA[0].Answer.Proof != verdict.Secure || len(h.TLSA[0].Answer.Records) != 1 {
				t.Fatalf("%s, %s: TLSA %+v", r.name, h.Name, h.TLSA)
			}
		}
	}
	return s.Asked()
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// processorTime is what unbound has used, in ticks of a hundredth of a second.
func (u unbound) processorTime() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", u.pid))
	if err != nil {
		u.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), ") ") // the name before may hold anything
	fields := strings.Fields(after)
	ticks := 0
	for _, f := range fields[11:13] {
		n, _ := strconv.Atoi(f)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
