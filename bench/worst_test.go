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

// probe asks one of the most used domains every millisecond, on one connection, until
// ctx ends. A question that was due while an answer was late counts from when it was
// due, so that a stall is as long as it is for those who wait.
type probe struct {
	mu      sync.Mutex
	latency histogram
}

const probeEvery = time.Millisecond

func (p *probe) run(ctx context.Context, a address) error {
	c, err := dialClient(ctx, a)
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
		c.wire = appendDomainQuestion(c.wire[:0], i%warmDomains)
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

// probes asks several servers at once, each by a probe of its own; the function that it
// returns ends them.
func probes(ctx context.Context, t *testing.T, servers ...*process) ([]*probe, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	all := make([]*probe, len(servers))
	for i, s := range servers {
		all[i] = new(probe)
		wg.Go(func() {
			if err := all[i].run(ctx, s.unix); err != nil {
				t.Error(err)
			}
		})
	}
	return all, func() { cancel(); wg.Wait() }
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
	if _, err := p.tell(order{Do: "fill", End: warmDomains, TTL: time.Minute}); err != nil {
		return nil, err
	}
	watch, stop := probes(ctx, t, p, b.floor)
	defer stop()
	var (
		rows       [][]string
		most, base time.Duration
		last       account
	)
	for _, s := range stages(million) {
		for _, w := range watch {
			w.take()
		}
		for _, o := range s.orders {
			if last, err = p.tell(o); err != nil {
				return nil, err
			}
		}
		<-time.After(s.then)
		mine, floor := watch[0].take(), watch[1].take()
		most, base = max(most, mine.most), max(base, floor.most)
		rows = append(rows, []string{
			s.name, fmt.Sprint(mine.n), short(mine.quantile(0.5)), short(mine.quantile(0.999)), short(mine.most),
			short(floor.quantile(0.5)), short(floor.quantile(0.999)), short(floor.most),
		})
		t.Log(rows[len(rows)-1])
	}
	var text strings.Builder
	fmt.Fprintf(&text, "The worst of all: %s, the floor's %s. Target: at most 5 ms above the floor's worst: %s. ", short(most), short(base), met(most < base+5*time.Millisecond))
	fmt.Fprintf(&text, "The world was stopped for %s at most (garbage collection); %d hits, %d misses, %d refreshes.\n\n", short(last.Pause), last.Stats.Hits, last.Stats.Misses, last.Stats.Refreshes)
	text.WriteString(markdown([]string{"meanwhile", "answers", "median", "p99.9", "worst", "floor's median", "floor's p99.9", "floor's worst"}, rows))
	return &section{text: text.String()}, nil
}
