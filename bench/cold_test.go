package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/world"
)

// internet is the signed one of internal/world, behind a socket on loopback. Every
// answer takes world.Latency.
type internet struct {
	world *world.World
	udp   net.PacketConn
	tcp   net.Listener
}

func startInternet() (*internet, error) {
	w, err := world.New()
	if err != nil {
		return nil, err
	}
	n := &internet{world: w}
	if n.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if n.tcp, err = net.Listen("tcp", n.addr()); err != nil {
		return nil, err
	}
	go n.datagrams()
	go n.streams()
	return n, nil
}

func (n *internet) addr() string { return n.udp.LocalAddr().String() }

func (n *internet) stop() {
	_ = n.udp.Close()
	_ = n.tcp.Close()
	n.world.Close()
}

func (n *internet) datagrams() {
	b := make([]byte, 1<<16)
	for {
		size, from, err := n.udp.ReadFrom(b)
		if err != nil {
			return
		}
		query := append([]byte(nil), b[:size]...)
		go func() {
			c, err := n.world.DNS.Dial(context.Background(), "udp", "127.0.0.1:53")
			if err != nil {
				return
			}
			defer c.Close()
			answer := make([]byte, 1<<16)
			if _, err := c.Write(query); err != nil {
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if size, err := c.Read(answer); err == nil {
				_, _ = n.udp.WriteTo(answer[:size], from)
			}
		}()
	}
}

func (n *internet) streams() {
	for {
		c, err := n.tcp.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			d, err := n.world.DNS.Dial(context.Background(), "tcp", "127.0.0.1:53")
			if err != nil {
				return
			}
			defer d.Close()
			go func() { _, _ = io.Copy(d, c) }()
			_, _ = io.Copy(c, d)
		}()
	}
}

// asked counts the questions since the n-th, those about destinations and those for
// their chains of trust.
func (n *internet) asked(since int) (answers, chains, all int) {
	log := n.world.DNS.Asked()
	for _, q := range log[since:] {
		switch {
		case q.Probe:
		case q.Chain:
			chains++
		default:
			answers++
		}
	}
	return answers, chains, len(log)
}

// round is how long one question takes a client that does nothing else.
func (n *internet) round(times int) (time.Duration, error) {
	var all []float64
	for range times {
		_, took, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion("none.example.", dns.TypeA), n.addr())
		if err != nil {
			return 0, err
		}
		all = append(all, took.Seconds())
	}
	return time.Duration(median(all) * float64(time.Second)), nil
}

// coldCase is a kind of domain that is asked for when nobody knows it.
type coldCase struct {
	name string
	// zone is loaded for each; %d is its number.
	zone string
	// rounds are those of a warm chain, with and without validation here.
	rounds int
	// questions are what an answer needs, without those for chains.
	questions int
	target    time.Duration
	policy    bool
}

// The hosts of a domain are in its own zone.
func coldCases() []coldCase {
	return []coldCase{
		{
			name: "no policy", rounds: 2, questions: 4, target: 45 * time.Millisecond,
			zone: "zone plain%[1]d.example. insecure\n@ MX 10 mx\nmx A 192.0.2.1\n",
		},
		{
			name: "DANE, 2 MX hosts", rounds: 3, questions: 8, target: 65 * time.Millisecond,
			zone: "zone two%[1]d.example. secure\n%%repeat 2 @ MX 10 mx%%d\n%%repeat 2 mx%%d A 192.0.2.1\n%%repeat 2 _25._tcp.mx%%d TLSA 3 1 1 {sha256}\n",
		},
		{
			name: "DANE, 20 MX hosts", rounds: 3, questions: 62, target: 65 * time.Millisecond,
			zone: "zone twenty%[1]d.example. secure\n%%repeat 20 @ MX 10 mx%%d\n%%repeat 20 mx%%d A 192.0.2.1\n%%repeat 20 _25._tcp.mx%%d TLSA 3 1 1 {sha256}\n",
		},
		{
			name: "MTA-STS, policy known", rounds: 1, questions: 2, target: 45 * time.Millisecond, policy: true,
			zone: "zone %[2]s. insecure\n@ MX 10 mx1\nmx1 A 192.0.2.1\n_mta-sts TXT \"v=STSv1; id=20260101;\"\n",
		},
	}
}

// key is the i-th domain of a case.
func (c *coldCase) key(i int) string {
	if c.policy {
		return domain(5 + 20*i)
	}
	_, rest, _ := strings.Cut(fmt.Sprintf(c.zone, i), "zone ")
	name, _, _ := strings.Cut(rest, ". ")
	return name
}

// load adds n domains of a case to the world.
func (c *coldCase) load(n *internet, count int) error {
	var b strings.Builder
	for i := range count {
		if c.policy {
			fmt.Fprintf(&b, c.zone, i, domain(5+20*i))
			continue
		}
		fmt.Fprintf(&b, c.zone, i)
	}
	return n.world.DNS.Load(b.String())
}

// coldMode is a way to prove answers.
type coldMode struct {
	name, config string
	cpu          time.Duration // target
}

// coldRun measures the cases in one mode.
type coldRun struct {
	b     *bench
	net   *internet
	mode  coldMode
	count int // domains of each case: a fifth for times, the rest for CPU
	round time.Duration
}

func (r *coldRun) policyd(ctx context.Context) (*process, error) {
	dir, err := r.b.sub("cold-" + r.mode.name)
	if err != nil {
		return nil, err
	}
	anchors, err := r.net.world.DNS.Anchors()
	if err != nil {
		return nil, err
	}
	anchor := filepath.Join(dir, "anchor.ds")
	if err := os.WriteFile(anchor, anchors, 0o600); err != nil {
		return nil, err
	}
	db := filepath.Join(dir, "policyd.db")
	if err := keepPolicies(ctx, db, 20*r.count); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("[dns]\nservers = [%q]\n%s\ntrust_anchors = %q\n[postfix]\ndane = \"native\"\n[store]\npath = %q\n", r.net.addr(), r.mode.config, anchor, db)
	p, err := startPolicyd(ctx, dir, r.b.policyd, config)
	if err != nil {
		return nil, err
	}
	if _, err := p.ready(ctx, p.unix, 10*time.Second); err != nil {
		return nil, err
	}
	// The chain as far as all of them share it, and the probe.
	_, err = askOnce(p.unix, "none.example")
	return p, err
}

// measure asks for the domains of a case: some one after the other for their time, the
// others beside each other for their CPU.
func (r *coldRun) measure(ctx context.Context, p *process, c *coldCase) ([]string, error) {
	timed := r.count / 5
	_, _, before := r.net.asked(0)
	var took []float64
	for i := range timed {
		began := time.Now()
		if err := r.ask(p, c.key(i)); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began).Seconds())
	}
	answers, chains, _ := r.net.asked(before)
	used := p.cpu()
	if err := r.crowd(ctx, p, c, timed); err != nil {
		return nil, err
	}
	cpu := (p.cpu() - used) / time.Duration(r.count-timed)
	mid := time.Duration(median(took) * float64(time.Second))
	over := mid - time.Duration(c.rounds)*r.round
	verdict := met(mid <= c.target)
	return []string{
		r.mode.name, c.name, short(mid), fmt.Sprintf("%d × %s", c.rounds, short(r.round)), short(over), short(c.target), verdict,
		short(cpu), short(r.mode.cpu), met(cpu <= r.mode.cpu),
		fmt.Sprintf("%.1f", float64(answers)/float64(timed)), fmt.Sprint(c.questions), fmt.Sprintf("%.1f", float64(chains)/float64(timed)),
	}, nil
}

func (r *coldRun) ask(p *process, key string) error {
	reply, err := askOnce(p.unix, key)
	if err == nil && strings.HasPrefix(reply, "TEMP") {
		return fmt.Errorf("%w to %s: %s", errReply, key, reply)
	}
	return err
}

// crowd asks for the rest of a case, 16 at once.
func (r *coldRun) crowd(ctx context.Context, p *process, c *coldCase, from int) error {
	const atOnce = 16
	var wg sync.WaitGroup
	errs := make([]error, atOnce)
	for w := range atOnce {
		wg.Go(func() {
			for i := from + w; i < r.count && ctx.Err() == nil && errs[w] == nil; i += atOnce {
				errs[w] = r.ask(p, c.key(i))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sharedHosts is what a second domain at the same MX hosts asks for.
func (r *coldRun) sharedHosts(p *process) (answers, chains int, err error) {
	name := strings.ReplaceAll(r.mode.name, "-", "")
	err = r.net.world.DNS.Load(fmt.Sprintf(`
zone provider-%[1]s.example. secure
%%repeat 4 mx%%d A 192.0.2.1
%%repeat 4 _25._tcp.mx%%d TLSA 3 1 1 {sha256}
zone first-%[1]s.example. secure
%%repeat 4 @ MX 10 mx%%d.provider-%[1]s.example.
zone second-%[1]s.example. secure
%%repeat 4 @ MX 10 mx%%d.provider-%[1]s.example.
`, name))
	if err != nil {
		return 0, 0, err
	}
	if err := r.ask(p, "first-"+name+".example"); err != nil {
		return 0, 0, err
	}
	_, _, before := r.net.asked(0)
	if err := r.ask(p, "second-"+name+".example"); err != nil {
		return 0, 0, err
	}
	answers, chains, _ = r.net.asked(before)
	return answers, chains, nil
}

// cold measures domains that nobody knew.
func cold(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	const count = 250
	net, err := startInternet()
	if err != nil {
		return nil, err
	}
	defer net.stop()
	cases := coldCases()
	for i := range cases {
		if err := cases[i].load(net, count); err != nil {
			return nil, err
		}
	}
	round, err := net.round(25)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	var shared strings.Builder
	for _, m := range []coldMode{
		{"trust-ad", "dnssec = \"trust-ad\"", 200 * time.Microsecond},
		{"validate", "dnssec = \"validate\"", 4 * time.Millisecond},
	} {
		r := &coldRun{b: b, net: net, mode: m, count: count, round: round}
		if err := r.all(ctx, t, cases, &rows, &shared); err != nil {
			return nil, err
		}
	}
	head := []string{"dnssec", "domain", "first answer", "rounds", "more than they cost", "target", "", "CPU", "target", "", "questions", "needed", "for the chain"}
	return &section{text: "Each DNS answer takes 20 ms, a round as its client sees it " + short(round) + ". What all domains share of the chain of trust is known; the domain's own is not.\n\n" +
		markdown(head, rows) + "\n" + shared.String()}, nil
}

func (r *coldRun) all(ctx context.Context, t *testing.T, cases []coldCase, rows *[][]string, shared *strings.Builder) error {
	p, err := r.policyd(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	for i := range cases {
		row, err := r.measure(ctx, p, &cases[i])
		if err != nil {
			return err
		}
		*rows = append(*rows, row)
		t.Log(row)
	}
	answers, chains, err := r.sharedHosts(p)
	if err != nil {
		return err
	}
	fmt.Fprintf(shared, "A second domain at the same four MX hosts, %s: %d questions and %d for the chain, where its own records are 2: %s.\n", r.mode.name, answers, chains, met(answers <= 2))
	return nil
}
