package bench

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/store"
)

// match is two servers under the same load.
type match struct {
	load    load
	network string
	rounds  int
}

// score is how a server did beside another: medians of the quotients of rounds.
type score struct {
	rate, cpu, p99, p999 float64
	// best round of each
	mine, theirs *outcome
}

func (p *process) on(network string) address {
	if network == "tcp" {
		return p.tcp
	}
	return p.unix
}

// play lets two servers take turns, the first to begin changing each round.
func (m match) play(ctx context.Context, p, other *process) (*score, error) {
	s := &score{mine: new(outcome), theirs: new(outcome)}
	s.mine.elapsed, s.theirs.elapsed = 1, 1
	var rate, cpu, p99, p999 []float64
	for i := range m.rounds {
		pair := [2]*process{p, other}
		var got [2]*outcome
		for turn := range 2 {
			who := (i + turn) % 2
			var err error
			if got[who], err = m.load.run(ctx, pair[who], pair[who].on(m.network)); err != nil {
				return nil, err
			}
		}
		a, b := got[0], got[1]
		rate = append(rate, a.rate()/b.rate())
		cpu = append(cpu, float64(a.cpu)/float64(a.requests)/(float64(b.cpu)/float64(b.requests)))
		p99 = append(p99, float64(a.latency.quantile(0.99))/float64(b.latency.quantile(0.99)))
		p999 = append(p999, float64(a.latency.quantile(0.999))/float64(b.latency.quantile(0.999)))
		if a.rate() > s.mine.rate() {
			s.mine = a
		}
		if b.rate() > s.theirs.rate() {
			s.theirs = b
		}
	}
	s.rate, s.cpu, s.p99, s.p999 = median(rate), median(cpu), median(p99), median(p999)
	return s, nil
}

// warmDomains is how many domains are asked for where their number does not matter.
const warmDomains = 1000

// shapes are the loads of the warm tables.
func shapes() []match {
	const settle, measure, rounds = 100 * time.Millisecond, 500 * time.Millisecond, 12
	var all []match
	for _, network := range []string{"unix", "tcp"} {
		for _, s := range [][2]int{{1, 1}, {8, 1}, {64, 1}, {1, 16}, {8, 16}, {64, 16}} {
			all = append(all, match{load{s[0], s[1], warmDomains, settle, measure, nil}, network, rounds})
		}
	}
	return all
}

// dnsConfig is a configuration for the population's resolver, which says AD.
func dnsConfig(u *upstream, storePath string) string {
	return fmt.Sprintf("[dns]\nservers = [%q]\ndnssec = \"trust-ad\"\n[postfix]\ndane = \"native\"\n[store]\npath = %q\n[log]\nlevel = \"error\"\n", u.addr, storePath)
}

// keepPolicies makes a store with the policies of the population's domains, as many as
// there are among the first n.
func keepPolicies(ctx context.Context, path string, n int) error {
	st, err := store.Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	now := time.Now()
	for i := range n {
		if kindOf(i) != sts {
			continue
		}
		c := policyOf(i, now)
		st.Update(c.Domain, func(mtasts.Cached, bool) (mtasts.Cached, bool) { return c, true })
		if i%100_000 == 5 {
			if err := st.Sync(ctx); err != nil {
				return err
			}
		}
	}
	if err := st.Sync(ctx); err != nil {
		return err
	}
	return st.Close()
}

// startWarm starts a real policyd that knows the first n domains.
func (b *bench) startWarm(ctx context.Context, t *testing.T, n int) (p *process, stop func(), err error) {
	dir, err := b.sub("warm")
	if err != nil {
		return nil, nil, err
	}
	u, err := startUpstream(0)
	if err != nil {
		return nil, nil, err
	}
	db := filepath.Join(dir, "policyd.db")
	if err := keepPolicies(ctx, db, n); err != nil {
		return nil, nil, err
	}
	if p, err = startPolicyd(ctx, dir, b.policyd, dnsConfig(u, db)); err != nil {
		return nil, nil, err
	}
	stop = func() { p.stop(); u.stop() }
	if _, err := p.ready(ctx, p.tcp, 10*time.Second); err != nil {
		return nil, nil, err
	}
	began := time.Now()
	seen, err := teach(ctx, p.tcp, 0, n, 16)
	t.Logf("%d domains learnt in %v: %v, %d DNS questions, %v of CPU", n, time.Since(began).Round(time.Millisecond), seen, u.asked.Load(), p.cpu())
	if seen["OK dane-only"] != n*3/20 || seen["OK secure"] != n*3/20 {
		t.Errorf("the population is not as it should be: %v", seen)
	}
	return p, stop, err
}

// warm measures answers that are known.
func warm(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	p, stop, err := b.startWarm(ctx, t, warmDomains)
	if err != nil {
		return nil, err
	}
	defer stop()
	var rows [][]string
	for _, m := range shapes() {
		s, err := m.play(ctx, p, b.floor)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row(m, s))
		t.Log(rows[len(rows)-1])
	}
	head := []string{"transport", "connections", "under way on each", "rate", "CPU a request", "p99", "p99.9", "target", "policyd", "floor"}
	return &section{text: "Quotients: policyd divided by the floor. The last two columns are the best rounds.\n\n" + markdown(head, rows)}, nil
}

func row(m match, s *score) []string {
	ok := s.rate >= 0.90 && s.cpu <= 1.2 && s.p99 <= 1.2
	if m.load.depth > 1 {
		ok = s.rate >= 0.5
	}
	verdict := met(ok)
	if m.load.conns == 1 && m.load.depth == 1 {
		verdict = "none"
	}
	said := func(o *outcome) string {
		return fmt.Sprintf("%.0f/s, %s CPU, p99 %s", o.rate(), short(o.cost()), short(o.latency.quantile(0.99)))
	}
	return []string{
		m.network, fmt.Sprint(m.load.conns), fmt.Sprint(m.load.depth),
		fmt.Sprintf("%.2f", s.rate), fmt.Sprintf("%.2f", s.cpu), fmt.Sprintf("%.2f", s.p99), fmt.Sprintf("%.2f", s.p999),
		verdict, said(s.mine), said(s.theirs),
	}
}
