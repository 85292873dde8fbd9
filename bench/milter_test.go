package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/d--j/go-milter"

	"tlsverdict/internal/milterd"
)

// The milter's cost: messages of one recipient and ten headers, from a client that
// speaks the protocol as Postfix does, to cmd/milter and to the floors beside it.

// milterActions and milterProtocol are what cmd/milter negotiates; the floors do the
// same, so that all are sent the same packets.
const (
	milterActions  = milter.OptAddHeader | milter.OptChangeHeader | milter.OptQuarantine
	milterProtocol = milter.OptNoConnect | milter.OptNoHelo | milter.OptNoBody | milter.OptNoUnknown | milter.OptNoData |
		milter.OptNoEOH | milter.OptNoHeaderReply | milter.OptNoMailReply
)

// runMilterFloor is the milter library with a handler that does nothing. It takes a
// unix path, and "guard" to have the guard before it.
func runMilterFloor(args []string) error {
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if args[1] == "guard" {
		l = milterd.NewGuard(l, 1000, slog.Default())
	}
	server := milter.NewServer(milter.WithMilter(func() milter.Milter { return idler{} }), milter.WithActions(milterActions), milter.WithProtocols(milterProtocol))
	return server.Serve(l)
}

// idler takes everything. NoOpMilter would ask for no more headers after the first.
type idler struct{ milter.NoOpMilter }

func (idler) RcptTo(string, string, milter.Modifier) (*milter.Response, error) {
	return milter.RespContinue, nil
}

func (idler) Header(string, string, milter.Modifier) (*milter.Response, error) {
	return milter.RespContinue, nil
}

// contender is a milter under measurement: a process, what its messages are, and who
// works for it besides.
type contender struct {
	name string
	p    *process
	// helper is the policyd that it asks; nil: none.
	helper *process
	// domains are those of the recipients; answer is what each must get.
	domains []string
	answer  byte
}

// milterRound is what one round brought, or the medians of several.
type milterRound struct {
	rate          float64
	cpu, help     time.Duration
	p50, p99      time.Duration
	ofFloor, cost float64
}

// milterCost measures messages.
func milterCost(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	all, stop, err := b.contenders(ctx, t)
	if err != nil {
		return nil, err
	}
	defer stop()
	var rows [][]string
	for _, conns := range []int{1, 8, 64} {
		rounds, err := playMilters(ctx, all, conns)
		if err != nil {
			return nil, err
		}
		for i, c := range all {
			m := middle(rounds[i])
			rows = append(rows, []string{
				fmt.Sprint(conns), c.name, fmt.Sprintf("%.0f", m.rate), fmt.Sprintf("%.2f", m.ofFloor),
				short(m.cpu), fmt.Sprintf("%.2f", m.cost), short(m.help), short(m.p50), short(m.p99),
			})
			t.Log(rows[len(rows)-1])
		}
	}
	head := []string{"connections", "milter", "messages a second", "of the floor", "CPU a message", "of the floor", "policyd's CPU", "median", "p99"}
	return &section{text: "Messages of one recipient and ten headers, over unix sockets; medians of 12 rounds, in which all took turns. The floor is the first row of each number of connections.\n\n" + markdown(head, rows)}, nil
}

// contenders starts everything that is measured.
func (b *bench) contenders(ctx context.Context, t *testing.T) (all []contender, stop func(), err error) {
	var running []func()
	stop = func() {
		for _, s := range slices.Backward(running) {
			s()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	policyd, end, err := b.startWarm(ctx, t, warmDomains)
	if err != nil {
		return nil, stop, err
	}
	running = append(running, end)
	binary, err := buildMilter(ctx, b.dir)
	if err != nil {
		return nil, stop, err
	}
	var bare, kept []string
	for i := range warmDomains {
		if kindOf(i) == plain {
			bare = append(bare, domain(i))
		} else {
			kept = append(kept, domain(i))
		}
	}
	const rule = "[[require]]\nminimum = \"encrypted\"\n"
	for _, c := range []struct {
		contender
		config string
	}{
		{contender{name: "go-milter, a handler that does nothing", domains: bare, answer: 'c'}, ""},
		{contender{name: "the same behind the guard", domains: bare, answer: 'c'}, "guard"},
		{contender{name: "milter, no rules, `prefetch = false`", domains: bare, answer: 'c'}, "[annotate]\nprefetch = false\n"},
		{contender{name: "milter, no rules", domains: bare, answer: 'c', helper: policyd}, "[annotate]\nprefetch = true\n"},
		{contender{name: "milter, a rule that is met", domains: kept, answer: 'c', helper: policyd}, rule},
		{contender{name: "milter, the same and a header", domains: kept, answer: 'c', helper: policyd}, "[annotate]\nheader = \"X-TLS-Verdict\"\n" + rule},
		{contender{name: "milter, a rule that refuses", domains: bare, answer: 'y', helper: policyd}, rule},
	} {
		if c.p, err = b.startMilter(ctx, binary, len(all), c.config, policyd); err != nil {
			return nil, stop, err
		}
		running = append(running, c.p.stop)
		all = append(all, c.contender)
	}
	return all, stop, nil
}

func buildMilter(ctx context.Context, dir string) (string, error) {
	to := filepath.Join(dir, "milter")
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", to, "tlsverdict/cmd/milter")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return to, nil
}

// startMilter starts the n-th milter: the real one with a configuration, or, where that
// is empty or "guard", a floor.
func (b *bench) startMilter(ctx context.Context, binary string, n int, config string, policyd *process) (*process, error) {
	dir, err := b.sub(fmt.Sprintf("milter%d", n))
	if err != nil {
		return nil, err
	}
	p := &process{unix: address{"unix", filepath.Join(dir, "s")}}
	if config == "" || config == "guard" {
		if p.cmd, err = again(ctx, "milterfloor", p.unix.name, config); err != nil {
			return nil, err
		}
	} else {
		text := fmt.Sprintf("[milter]\nlisten = [%q]\nverdicts = %q\n%s[log]\nlevel = \"info\"\n", p.unix, policyd.unix, config)
		file := filepath.Join(dir, "milter.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		p.cmd = exec.CommandContext(ctx, binary, "serve", "--config", file)
	}
	if err := p.launch(dir, "milter"); err != nil {
		return nil, err
	}
	return p, p.negotiates(ctx)
}

// negotiates waits until a milter does.
func (p *process) negotiates(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for {
		c, err := dialMilter(ctx, p.unix)
		if err == nil {
			return c.conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no milter: %w", err)
		case <-pause.C:
		}
	}
}

// playMilters lets all take turns, the first to begin changing each round.
func playMilters(ctx context.Context, all []contender, conns int) ([][]milterRound, error) {
	const rounds, settle, measure = 12, 50 * time.Millisecond, 250 * time.Millisecond
	got := make([][]milterRound, len(all))
	for round := range rounds {
		for turn := range all {
			i := (round + turn) % len(all)
			r, err := all[i].play(ctx, conns, settle, measure)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[i].name, err)
			}
			got[i] = append(got[i], *r)
		}
		for i := range all {
			floor := got[0][round]
			got[i][round].ofFloor = got[i][round].rate / floor.rate
			got[i][round].cost = float64(got[i][round].cpu) / float64(max(floor.cpu, 1))
		}
	}
	return got, nil
}

func middle(all []milterRound) milterRound {
	of := func(f func(milterRound) float64) float64 {
		var list []float64
		for _, r := range all {
			list = append(list, f(r))
		}
		return median(list)
	}
	took := func(f func(milterRound) time.Duration) time.Duration {
		return time.Duration(of(func(r milterRound) float64 { return float64(f(r)) }))
	}
	return milterRound{
		rate: of(func(r milterRound) float64 { return r.rate }), ofFloor: of(func(r milterRound) float64 { return r.ofFloor }),
		cost: of(func(r milterRound) float64 { return r.cost }),
		cpu:  took(func(r milterRound) time.Duration { return r.cpu }), help: took(func(r milterRound) time.Duration { return r.help }),
		p50: took(func(r milterRound) time.Duration { return r.p50 }), p99: took(func(r milterRound) time.Duration { return r.p99 }),
	}
}

// play sends messages over so many connections for a while.
func (c contender) play(ctx context.Context, conns int, settle, measure time.Duration) (*milterRound, error) {
	clients := make([]*milterClient, conns)
	for i := range clients {
		m, err := dialMilter(ctx, c.p.unix)
		if err != nil {
			return nil, err
		}
		defer m.conn.Close()
		m.next = i * len(c.domains) / conns
		clients[i] = m
	}
	if _, err := c.phase(clients, settle); err != nil {
		return nil, err
	}
	work := func() (own, help time.Duration) {
		if c.helper != nil {
			help = c.helper.cpu()
		}
		return c.p.cpu(), help
	}
	own, help := work()
	start := time.Now()
	n, err := c.phase(clients, measure)
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	ownAfter, helpAfter := work()
	var latency histogram
	for _, m := range clients {
		latency.add(&m.latency)
	}
	each := time.Duration(max(n, 1))
	return &milterRound{
		rate: float64(n) / took.Seconds(), cpu: (ownAfter - own) / each, help: (helpAfter - help) / each,
		p50: latency.quantile(0.5), p99: latency.quantile(0.99),
	}, nil
}

// phase lets all clients send for a while and returns how many messages they did.
func (c contender) phase(clients []*milterClient, d time.Duration) (int, error) {
	until := time.Now().Add(d)
	done, errs := make([]int, len(clients)), make([]error, len(clients))
	var wg sync.WaitGroup
	for i, m := range clients {
		wg.Go(func() {
			m.latency = histogram{}
			for now := time.Now(); errs[i] == nil && now.Before(until); done[i]++ {
				errs[i] = m.message(c.domains[m.next], c.answer)
				m.next = (m.next + stride) % len(c.domains)
				after := time.Now()
				m.latency.record(after.Sub(now))
				now = after
			}
		})
	}
	wg.Wait()
	n := 0
	for _, d := range done {
		n += d
	}
	return n, errors.Join(errs...)
}

// milterClient is one connection of a mail server.
type milterClient struct {
	conn    net.Conn
	in      *bufio.Reader
	wire    []byte
	headers []byte
	next    int
	latency histogram
}

// errMilter is an answer of a kind that was not wanted.
var errMilter = errors.New("bench: an unexpected answer of a milter")

func dialMilter(ctx context.Context, a address) (*milterClient, error) {
	conn, err := new(net.Dialer).DialContext(ctx, a.network, a.name)
	if err != nil {
		return nil, err
	}
	m := &milterClient{conn: conn, in: bufio.NewReader(conn)}
	for i := range 10 {
		m.headers = appendPacket(m.headers, 'L', fmt.Sprintf("X-Header-%d\x00 some forty octets of a header's value, %d\x00", i, i))
	}
	offer := binary.BigEndian.AppendUint32(nil, 6)
	offer = binary.BigEndian.AppendUint32(offer, 0x1ff)
	offer = binary.BigEndian.AppendUint32(offer, 0x1fffff)
	if _, err := conn.Write(appendPacket(nil, 'O', string(offer))); err != nil {
		return nil, err
	}
	code, data, err := m.read()
	if err != nil || code != 'O' || len(data) < 12 {
		return nil, errors.Join(errMilter, err, conn.Close())
	}
	if got := milter.OptProtocol(binary.BigEndian.Uint32(data[8:])); got&milterProtocol != milterProtocol {
		return nil, errors.Join(fmt.Errorf("%w: it negotiates %v", errMilter, got), conn.Close())
	}
	return m, nil
}

func appendPacket(dst []byte, code byte, data string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(1+len(data)))
	return append(append(dst, code), data...)
}

// read reads one answer. The data is good until the next one.
func (m *milterClient) read() (code byte, data []byte, err error) {
	head, err := m.in.Peek(5)
	if err != nil {
		return 0, nil, err
	}
	size, code := int(binary.BigEndian.Uint32(head)), head[4]
	if size > 4000 {
		return 0, nil, fmt.Errorf("%w: %d octets", errMilter, size)
	}
	if data, err = m.in.Peek(4 + size); err != nil {
		return 0, nil, err
	}
	_, err = m.in.Discard(4 + size)
	return code, data[5:], err
}

// message is one with a recipient, as Postfix sends it: MAIL and RCPT with their macros,
// then, at once, the headers, which nobody answers, and the end. A message without a
// recipient is abandoned.
func (m *milterClient) message(domain string, want byte) error {
	m.wire = appendPacket(m.wire[:0], 'D', "Mi\x004XyZ1234\x00{mail_addr}\x00sender@example.com\x00")
	m.wire = appendPacket(m.wire, 'M', "<sender@example.com>\x00SIZE=2000\x00")
	m.wire = appendPacket(m.wire, 'D', "Ri\x004XyZ1234\x00{rcpt_mailer}\x00smtp\x00{rcpt_host}\x00"+domain+"\x00{rcpt_addr}\x00user@"+domain+"\x00")
	m.wire = appendPacket(m.wire, 'R', "<user@"+domain+">\x00")
	if _, err := m.conn.Write(m.wire); err != nil {
		return err
	}
	code, data, err := m.read()
	if err != nil || code != want {
		return fmt.Errorf("%w: RCPT to %s: %q %q %w", errMilter, domain, code, data, orEOF(err))
	}
	if code != 'c' {
		_, err := m.conn.Write(appendPacket(m.wire[:0], 'A', ""))
		return err
	}
	m.wire = appendPacket(append(m.wire[:0], m.headers...), 'E', "")
	if _, err := m.conn.Write(m.wire); err != nil {
		return err
	}
	for {
		switch code, data, err := m.read(); {
		case err != nil:
			return err
		case code == 'h':
			// A header is added.
		case code == 'a', code == 'c':
			return nil
		default:
			return fmt.Errorf("%w: the end: %q %q", errMilter, code, data)
		}
	}
}

// orEOF is an error in any case, for %w.
func orEOF(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
