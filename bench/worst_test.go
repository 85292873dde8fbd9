package bench

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// million is the population of the large measurements.
const million = 1_000_000

// Domains from hot on are asked for all the time and keep their TTL of a day; those from
// fresh on are asked for once each, and nobody knew them.
const (
	hot   = 5_000_000
	fresh = 6_000_000
)

// probe asks a question every millisecond, on one connection, until ctx ends. A question
// that was due while an answer was late counts from when it was due, so that a stall is
// as long as it is for those who wait.
type probe struct {
	// server is asked, about the domain that pick says for the i-th question.
	server *process
	pick   func(i int) int

	mu      sync.Mutex
	latency histogram
}

func known(i int) int   { return hot + i%warmDomains }
func unknown(i int) int { return fresh + i }

const probeEvery = time.Millisecond

func (p *probe) run(ctx context.Context) error {
	c, err := dialClient(ctx, p.server.unix)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	due := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		due = due.Add(probeEvery)
		if wait := time.Until(due); wait > 0 {
			<-time.After(wait)
			// The client's own lateness is nobody's.
			due = time.Now()
		}
		c.wire = appendDomainQuestion(c.wire[:0], p.pick(i))
		if _, err := c.conn.Write(c.wire); err != nil {
			return err
		}
		reply, err := c.replies.Next()
		if err != nil {
			return err
		}
		if bytes.HasPrefix(reply, []byte("TEMP")) {
			return fmt.Errorf("%w: %s", errReply, reply)
		}
		p.mu.Lock()
		p.latency.record(time.Since(due))
		p.mu.Unlock()
	}
	return nil
}

// take returns what was seen since the last call.
func (p *probe) take() histogram {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.latency
	p.latency = histogram{}
	return h
}

// together lets several probes ask at once; the function that it returns ends them.
func together(ctx context.Context, t *testing.T, all ...*probe) func() {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			if err := p.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// stage is one thing that happens while answers are measured.
type stage struct {
	name   string
	orders []order
	// then is how long to watch afterwards.
	then time.Duration
}

// stages work on a number of domains at rates that are several times what DNS and
// HTTPS allow: a flight waits for the network, and so does a policy.
func stages(domains int) []stage {
	const rate, storing = 20_000, 10_000
	sweep := time.Duration(domains) * time.Second / rate
	// The second sweep meets each domain when its refresh is due.
	life := sweep * 115 / 100
	return []stage{
		{"nothing", nil, 5 * time.Second},
		{"filled, 20,000 a second", []order{{Do: "fill", End: domains, Rate: rate, TTL: life}}, 0},
		{"refreshed, 20,000 a second", []order{{Do: "fill", End: domains, Rate: rate}}, 0},
		{"expired, as they were filled", nil, life + 5*time.Second},
		{"filled again, 20,000 a second", []order{{Do: "fill", End: domains, Rate: rate, TTL: sweep + 10*time.Second, Together: true}}, 0},
		{"expired all at once", nil, 15 * time.Second},
		{"filled once more", []order{{Do: "fill", End: domains, Rate: rate, TTL: time.Hour}}, 0},
		{"150,000 policies stored", []order{{Do: "keep", End: domains, Rate: storing * 20 / 3}}, 0},
		{"the same ones stored again", []order{{Do: "keep", End: domains, Rate: storing * 20 / 3}}, 0},
		{"two collections of garbage", []order{{Do: "collect"}}, 0},
	}
}

// worst measures single answers while the cache and the store are at work.
func worst(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	dir, err := b.sub("worst")
	if err != nil {
		return nil, err
	}
	p, err := startStandIn(ctx, dir, mixed, filepath.Join(dir, "policyd.db"))
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if _, err := p.tell(order{Do: "fill", First: hot, End: hot + warmDomains}); err != nil {
		return nil, err
	}
	hits, misses, floor := &probe{server: p, pick: known}, &probe{server: p, pick: unknown}, &probe{server: b.floor, pick: known}
	defer together(ctx, t, hits, misses, floor)()
	var (
		rows            [][]string
		most, new, base time.Duration
		last            account
	)
	for _, s := range stages(million) {
		for _, w := range []*probe{hits, misses, floor} {
			w.take()
		}
		for _, o := range s.orders {
			if last, err = p.tell(o); err != nil {
				return nil, err
			}
		}
		<-time.After(s.then)
		h, m, f := hits.take(), misses.take(), floor.take()
		most, new, base = max(most, h.most), max(new, m.most), max(base, f.most)
		row := []string{s.name}
		for _, x := range []*histogram{&h, &m, &f} {
			row = append(row, short(x.quantile(0.5)), short(x.quantile(0.999)), short(x.most))
		}
		rows = append(rows, row)
		t.Log(row)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "The worst answer that was known: %s, the floor's worst %s. Target: at most 5 ms above the floor's: %s. ", short(most), short(base), met(most < base+5*time.Millisecond))
	fmt.Fprintf(&text, "The worst that had to be worked out, without the time for DNS: %s. Garbage collection stopped the world for %s at most. %d hits, %d misses, %d refreshes ahead.\n\n",
		short(new), short(last.Pause), last.Stats.Hits, last.Stats.Misses, last.Stats.Refreshes)
	text.WriteString(markdown([]string{
		"meanwhile", "known: median", "p99.9", "worst", "not known: median", "p99.9", "worst", "floor: median", "p99.9", "worst",
	}, rows))
	return &section{text: text.String()}, nil
}
