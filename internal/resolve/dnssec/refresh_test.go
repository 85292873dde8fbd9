package dnssec

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// caching is a resolver that keeps what it learnt until its TTL is over, and counts down.
type caching struct {
	w    *world
	mu   sync.Mutex
	kept map[Query]kept
}

type kept struct {
	m  *dns.Msg
	at time.Time
}

func (c *caching) Exchange(ctx context.Context, q Query) (*dns.Msg, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.kept[q]
	age := uint32(time.Since(k.at) / time.Second)
	if ok {
		m := k.m.Copy()
		for _, rr := range append(m.Answer, m.Ns...) {
			ok = ok && rr.Header().Ttl > age
			rr.Header().Ttl -= age
		}
		if ok {
			return m, nil
		}
	}
	m, err := c.w.Exchange(ctx, q)
	if err == nil {
		c.kept[q] = kept{m, time.Now()}
	}
	return m, err
}

// TestRefreshAhead: who uses a zone in the last tenth of its time has it learnt for all,
// whether the resolver has a cache or not; and nothing is used past its time.
func TestRefreshAhead(t *testing.T) {
	for _, c := range []struct {
		what  string
		cache bool
		// uses are the times at which destinations come, and pays is whether the last one
		// has to ask for the chain.
		uses []time.Duration
		dead bool // the resolver, after the first
		pays bool
	}{
		{what: "used late", uses: []time.Duration{0, 57 * time.Minute, 65 * time.Minute}},
		{what: "used late, cached upstream", cache: true, uses: []time.Duration{0, 57 * time.Minute, 65 * time.Minute}},
		{what: "used early", uses: []time.Duration{0, 50 * time.Minute, 65 * time.Minute}, pays: true},
		{what: "used once", uses: []time.Duration{0, 65 * time.Minute}, pays: true},
		{what: "used on and on", cache: true, uses: []time.Duration{0, 55 * time.Minute, 58 * time.Minute, 110 * time.Minute, 116 * time.Minute, 130 * time.Minute}},
		{what: "nobody answers", dead: true, uses: []time.Duration{0, 57 * time.Minute, 65 * time.Minute}, pays: true},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := standard(t)
				w.now = time.Now()
				start := time.Now()
				var up Upstream = w
				if c.cache {
					up = &caching{w: w, kept: make(map[Query]kept)}
				}
				v := New(Config{Anchors: w.anchors(), Refresh: up})
				defer v.Close()
				var last Answer
				var spent Spent
				for i, at := range c.uses {
					time.Sleep(time.Until(start.Add(at)))
					s := v.Session(up)
					last = s.Lookup(t.Context(), "example.com.", dns.TypeMX)
					spent = s.Spent()
					s.Close()
					synctest.Wait()
					if c.dead && i == 0 {
						w.mu.Lock()
						w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
							if q.Type == dns.TypeMX {
								return m
							}
							return nil
						}
						w.mu.Unlock()
					}
				}
				if c.dead != (last.Outcome == verdict.Failed) {
					t.Errorf("%v (%v)", last.Outcome, last.Err)
				}
				if pays := spent.Queries > 1; pays != c.pays {
					t.Errorf("the last one asked %d questions", spent.Queries)
				}
			})
		})
	}
}

// TestRefreshIsOneFlight: hundreds of users of a zone have it learnt once.
func TestRefreshIsOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := standard(t)
		w.now = time.Now()
		v := New(Config{Anchors: w.anchors(), Refresh: upstreamFunc(func(ctx context.Context, q Query) (*dns.Msg, error) {
			time.Sleep(time.Second)
			return w.Exchange(ctx, q)
		})})
		w.ask(v, "example.com.", dns.TypeMX)
		time.Sleep(58 * time.Minute)
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() { w.ask(v, "example.com.", dns.TypeMX) })
		}
		all.Wait()
		time.Sleep(10 * time.Second)
		if got := w.count("example.com.", dns.TypeDS); got != 2 {
			t.Errorf("DS was asked %d times", got)
		}
		v.Close()
		if len(v.ahead.busy) != 0 {
			t.Errorf("busy with %v", v.ahead.busy)
		}
		time.Sleep(50 * time.Minute)
		w.ask(v, "example.com.", dns.TypeMX) // nothing begins after the end
	})
}

// TestRefreshEndsWithTheValidator: who waits for an end does not outlive it, and what
// panics does not end the process.
func TestRefreshEndsWithTheValidator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := standard(t)
		w.now = time.Now()
		v := New(Config{Anchors: w.anchors(), Refresh: upstreamFunc(func(_ context.Context, q Query) (*dns.Msg, error) {
			if q.Name == "." {
				panic("defect")
			}
			return nil, errNoReply
		})})
		w.ask(v, "example.com.", dns.TypeMX)
		time.Sleep(58 * time.Minute)
		w.ask(v, "example.com.", dns.TypeMX)
		synctest.Wait()
		v.Close()
	})
}
