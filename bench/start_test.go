package bench

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// first starts a policyd and returns how long it took from exec to the first answer:
// to a question that needs no lookup, and to one about a domain.
func (b *bench) first(ctx context.Context, dir, config, key string) (ready, verdict time.Duration, err error) {
	began := time.Now()
	p, err := startPolicyd(ctx, dir, b.policyd, config)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	at, err := p.ready(ctx, p.unix, time.Minute)
	if err != nil {
		return 0, 0, err
	}
	reply, err := askOnce(p.unix, key)
	if err == nil && len(reply) >= 4 && reply[:4] == "TEMP" {
		err = fmt.Errorf("%w: %s", errReply, reply)
	}
	return at.Sub(began), time.Since(began), err
}

// firstOfFloor is the same for the floor.
func firstOfFloor(ctx context.Context, dir string) (time.Duration, error) {
	began := time.Now()
	p, err := startFloor(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	took := time.Since(began)
	return took, os.Remove(p.unix.name)
}

// starts are medians of some starts, with a store of some policies.
type starts struct{ ready, verdict, floor time.Duration }

func (b *bench) starting(ctx context.Context, policies int) (s starts, err error) {
	dir, err := b.sub(fmt.Sprintf("start%d", policies))
	if err != nil {
		return s, err
	}
	u, err := startUpstream(0)
	if err != nil {
		return s, err
	}
	defer u.stop()
	db := dir + "/policyd.db"
	if policies > 0 {
		// Every twentieth domain three times has a policy.
		if err := keepPolicies(ctx, db, policies*20/3+20); err != nil {
			return s, err
		}
	}
	var ready, verdict, floor []float64
	for range 15 {
		if policies == 0 {
			_ = os.Remove(db)
		}
		f, err := firstOfFloor(ctx, dir)
		if err != nil {
			return s, err
		}
		r, v, err := b.first(ctx, dir, dnsConfig(u, db), domain(3))
		if err != nil {
			return s, err
		}
		ready, verdict, floor = append(ready, r.Seconds()), append(verdict, v.Seconds()), append(floor, f.Seconds())
	}
	second := func(list []float64) time.Duration { return time.Duration(median(list) * float64(time.Second)) }
	return starts{second(ready), second(verdict), second(floor)}, nil
}

// start measures starts.
func start(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	var rows [][]string
	for _, tc := range []struct {
		policies int
		name     string
		target   time.Duration
	}{{0, "none", 20 * time.Millisecond}, {million, "1,000,000", 100 * time.Millisecond}} {
		s, err := b.starting(ctx, tc.policies)
		if err != nil {
			return nil, err
		}
		rows = append(rows, []string{tc.name, short(s.ready), short(s.verdict), short(s.floor), short(tc.target), met(s.ready <= tc.target)})
		t.Log(rows[len(rows)-1])
	}
	return &section{text: "From exec; medians of 15 starts, with the file in the page cache. The first verdict is that on a domain with DANE, whose resolver had to be probed first and answers at once.\n\n" +
		markdown([]string{"stored policies", "first answer", "first verdict", "the floor's first answer", "target", ""}, rows)}, nil
}
