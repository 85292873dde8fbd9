package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sizes are the numbers of domains that costs are shown over.
func sizes() []int { return []int{1000, 10_000, 100_000, million} }

func sizeNames() []string { return []string{"1,000", "10,000", "100,000", "1,000,000"} }

// plots collects lines by picture and by name.
type plots map[string]*plot

func (p plots) add(file, line string, v float64) {
	for i := range p[file].series {
		if s := &p[file].series[i]; s.name == line {
			s.y = append(s.y, v)
			return
		}
	}
	p[file].series = append(p[file].series, series{line, []float64{v}})
}

// growth measures everything at several sizes.
func growth(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	over := func(title, unit string, target float64) *plot {
		return &plot{title: title, unit: unit, axis: "domains known", x: sizeNames(), target: target}
	}
	all := plots{
		"growth-rate.svg":        over("Rate of known answers, unix socket", "part of the floor's", 0.9),
		"growth-cpu.svg":         over("CPU of a known answer, unix socket", "times the floor's", 1.2),
		"growth-p99.svg":         over("p99 of known answers, unix socket", "times the floor's", 1.2),
		"growth-worst.svg":       over("Worst answer while the domains are learnt", "milliseconds", 0),
		"growth-memory.svg":      over("Memory of a domain", "bytes", 0),
		"growth-process.svg":     over("Memory of the process", "MB", 600),
		"growth-start.svg":       over("From exec to the first answer", "milliseconds", 100),
		"growth-cold.svg":        {title: "CPU of learning a domain over DNS (trust-ad)", unit: "microseconds", axis: "domains known", x: sizeNames()[:3], target: 200},
		"growth-connections.svg": {title: "Rate of known answers, 1000 domains", unit: "part of the floor's", axis: "connections", x: connectionNames(), target: 0.9},
	}
	all["growth-start.svg"].axis = "policies stored"
	if err := b.connections(ctx, t, all); err != nil {
		return nil, err
	}
	for _, n := range sizes() {
		began := time.Now()
		if err := b.grow(ctx, t, all, n); err != nil {
			return nil, err
		}
		s, err := b.starting(ctx, n)
		if err != nil {
			return nil, err
		}
		all.add("growth-start.svg", "policyd", float64(s.ready)/1e6)
		all.add("growth-start.svg", "floor", float64(s.floor)/1e6)
		t.Logf("%d domains took %v", n, time.Since(began).Round(time.Second))
	}
	if err := b.learning(ctx, all); err != nil {
		return nil, err
	}
	return all.section(), nil
}

// grow measures a stand-in with n domains.
func (b *bench) grow(ctx context.Context, t *testing.T, all plots, n int) error {
	dir, err := b.sub(fmt.Sprintf("growth%d", n))
	if err != nil {
		return err
	}
	p, err := startStandIn(ctx, dir, mixed, filepath.Join(dir, "policyd.db"))
	if err != nil {
		return err
	}
	defer p.stop()
	if _, err := p.tell(order{Do: "fill", First: hot, End: hot + warmDomains}); err != nil {
		return err
	}
	mine, base := &probe{server: p, pick: known}, &probe{server: b.floor, pick: known}
	stop := together(ctx, t, mine, base)
	if _, err := p.tell(order{Do: "fill", End: n, Rate: 20_000, TTL: 12 * time.Hour}); err != nil {
		return err
	}
	<-time.After(time.Second)
	stop()
	for _, w := range []*probe{mine, base} {
		name := "policyd"
		if w == base {
			name = "floor"
		}
		h := w.take()
		all.add("growth-worst.svg", name, float64(h.most)/1e6)
		all.add("growth-worst.svg", name+", p99.9", float64(h.quantile(0.999))/1e6)
	}
	all.add("growth-process.svg", "policyd", float64(p.memory("VmRSS"))/1e6)
	for _, conns := range []int{1, 8, 64} {
		m := match{load{conns, 1, n, 100 * time.Millisecond, 400 * time.Millisecond, nil}, "unix", 8}
		s, err := m.play(ctx, p, b.floor)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%d conns", conns)
		all.add("growth-rate.svg", line, s.rate)
		all.add("growth-cpu.svg", line, s.cpu)
		all.add("growth-p99.svg", line, s.p99)
	}
	for _, k := range []kind{plain, dane, sts} {
		each, err := b.bytesEach(ctx, k, n)
		if err != nil {
			return err
		}
		all.add("growth-memory.svg", k.String(), each)
	}
	return nil
}

func connectionCounts() []int { return []int{1, 2, 4, 8, 16, 32, 64} }

func connectionNames() (names []string) {
	for _, n := range connectionCounts() {
		names = append(names, fmt.Sprint(n))
	}
	return names
}

// connections measures the real policyd with 1 to 64 of them.
func (b *bench) connections(ctx context.Context, t *testing.T, all plots) error {
	p, stop, err := b.startWarm(ctx, t, warmDomains)
	if err != nil {
		return err
	}
	defer stop()
	for _, n := range connectionCounts() {
		for _, shape := range []struct {
			name, network string
			depth         int
		}{{"unix", "unix", 1}, {"TCP", "tcp", 1}, {"unix, 16 deep", "unix", 16}, {"TCP, 16 deep", "tcp", 16}} {
			m := match{load{n, shape.depth, warmDomains, 100 * time.Millisecond, 400 * time.Millisecond, nil}, shape.network, 8}
			s, err := m.play(ctx, p, b.floor)
			if err != nil {
				return err
			}
			all.add("growth-connections.svg", shape.name, s.rate)
		}
	}
	return nil
}

// learning is the CPU of a domain that is learnt, while more and more are known.
func (b *bench) learning(ctx context.Context, all plots) error {
	dir, err := b.sub("learning")
	if err != nil {
		return err
	}
	u, err := startUpstream(0)
	if err != nil {
		return err
	}
	defer u.stop()
	db := filepath.Join(dir, "policyd.db")
	const most = 100_000
	if err := keepPolicies(ctx, db, most); err != nil {
		return err
	}
	p, err := startPolicyd(ctx, dir, b.policyd, dnsConfig(u, db))
	if err != nil {
		return err
	}
	defer p.stop()
	if _, err := p.ready(ctx, p.unix, 10*time.Second); err != nil {
		return err
	}
	from := 0
	for _, n := range []int{1000, 10_000, most} {
		before := p.cpu()
		if _, err := teach(ctx, p.unix, from, n, 16); err != nil {
			return err
		}
		all.add("growth-cold.svg", "policyd", float64((p.cpu()-before).Microseconds())/float64(n-from))
		from = n
	}
	return nil
}

// section embeds the plots.
func (p plots) section() *section {
	order := []string{
		"growth-connections.svg", "growth-rate.svg", "growth-cpu.svg", "growth-p99.svg", "growth-worst.svg",
		"growth-memory.svg", "growth-process.svg", "growth-start.svg", "growth-cold.svg",
	}
	s := &section{plots: make(map[string]string)}
	var text strings.Builder
	for _, file := range order {
		s.plots[file] = p[file].svg()
		fmt.Fprintf(&text, "![%s](plots/%s)\n\n", p[file].title, file)
	}
	s.text = text.String()
	return s
}
