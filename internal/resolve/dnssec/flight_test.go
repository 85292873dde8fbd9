package dnssec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// upstreamFunc is an upstream made of a function.
type upstreamFunc func(ctx context.Context, q Query) (*dns.Msg, error)

func (f upstreamFunc) Exchange(ctx context.Context, q Query) (*dns.Msg, error) { return f(ctx, q) }

// TestColdZonesAreAskedForOnce: sessions that begin at the same time share the questions
// about the zones that all of them need.
func TestColdZonesAreAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := standard(t)
		for i := range 20 {
			w.zone(fmt.Sprintf("d%d.com.", i), byNSEC, "@ MX 10 mx")
		}
		v := w.validator()
		up := upstreamFunc(func(ctx context.Context, q Query) (*dns.Msg, error) {
			time.Sleep(time.Duration(len(q.Name)) * time.Second)
			return w.Exchange(ctx, q)
		})
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				s := v.Session(up)
				defer s.Close()
				if a := s.Lookup(t.Context(), fmt.Sprintf("d%d.com.", i), dns.TypeMX); a.Proof != verdict.Secure {
					t.Errorf("%v (%v)", a.Proof, a.Err)
				}
			})
		}
		all.Wait()
		for _, q := range []Query{{Name: ".", Type: dns.TypeDNSKEY}, {Name: "com.", Type: dns.TypeDS}, {Name: "com.", Type: dns.TypeDNSKEY}, {Name: "d7.com.", Type: dns.TypeDS}} {
			if got := w.count(q.Name, q.Type); got != 1 {
				t.Errorf("%s was asked %d times", q.subject(), got)
			}
		}
		if len(v.commons.flights) != 0 {
			t.Errorf("%d questions are still shared", len(v.commons.flights))
		}
	})
}

// TestOnesFailureIsNotAnothers: who shares a question with a session that gets no reply,
// or a bad one, or panics, asks by itself.
func TestOnesFailureIsNotAnothers(t *testing.T) {
	for what, fails := range map[string]upstreamFunc{
		"no reply": func(context.Context, Query) (*dns.Msg, error) { return nil, io.ErrUnexpectedEOF },
		"panic":    func(context.Context, Query) (*dns.Msg, error) { panic("defect") },
		"a bad reply, and no other": func(_ context.Context, q Query) (*dns.Msg, error) {
			if q.Again > 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return bare(q), nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := standard(t)
				v := w.validator()
				var all sync.WaitGroup
				all.Go(func() {
					defer func() { _ = recover() }()
					s := v.Session(upstreamFunc(func(ctx context.Context, q Query) (*dns.Msg, error) {
						if q.Type == dns.TypeMX {
							return w.Exchange(ctx, q) // so that it walks at once
						}
						time.Sleep(time.Second)
						return fails(ctx, q)
					}))
					defer s.Close()
					if a := s.Lookup(t.Context(), "example.com.", dns.TypeMX); a.Outcome != verdict.Failed {
						t.Errorf("believed: %v", a)
					}
				})
				for range 3 {
					all.Go(func() {
						time.Sleep(time.Second / 2)
						s := v.Session(upstreamFunc(func(ctx context.Context, q Query) (*dns.Msg, error) {
							if q.Type != dns.TypeMX {
								time.Sleep(2 * time.Second)
							}
							return w.Exchange(ctx, q)
						}))
						defer s.Close()
						if a := s.Lookup(t.Context(), "example.com.", dns.TypeMX); a.Proof != verdict.Secure {
							t.Errorf("%v (%v)", a.Proof, a.Err)
						}
					})
				}
				all.Wait()
			})
		})
	}
}

// picky is an upstream of one session that has two servers, the first of which lies. It
// avoids whom it asked before, as far as it knows.
type picky struct {
	w    *world
	mu   sync.Mutex
	sent map[string]bool
}

func (p *picky) Exchange(ctx context.Context, q Query) (*dns.Msg, error) {
	m, err := p.w.Exchange(ctx, q)
	p.mu.Lock()
	defer p.mu.Unlock()
	if q.Again == 0 || !p.sent[q.subject()] {
		p.sent[q.subject()] = true
		stripped(m)
	}
	return m, err
}

// TestALieIsNotShared: who got a reply through another session does not know who sent it,
// and could ask the same liar again.
func TestALieIsNotShared(t *testing.T) {
	w := standard(t)
	v := w.validator()
	first := v.Session(&picky{w: w, sent: make(map[string]bool)})
	defer first.Close()
	for _, q := range []Query{{Name: ".", Type: dns.TypeDNSKEY}, {Name: "com.", Type: dns.TypeDS}, {Name: "com.", Type: dns.TypeDNSKEY}} {
		if _, err := first.ask(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	s := v.Session(&picky{w: w, sent: make(map[string]bool)})
	defer s.Close()
	want(t, s.Lookup(t.Context(), "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
}

// TestRepliesAreSharedShortly: a session that stays open does not hand out old replies.
func TestRepliesAreSharedShortly(t *testing.T) {
	w := standard(t)
	v := w.validator()
	open := v.Session(w)
	defer open.Close()
	for later, want := range map[time.Duration]int{shareFor - time.Second: 1, shareFor + time.Second: 2} {
		q := Query{Name: "com.", Type: dns.TypeDS}
		if later > shareFor {
			q.Name = "org."
		}
		if _, err := open.ask(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(later)
		s := v.Session(w)
		if _, err := s.ask(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := w.count(q.Name, q.Type); got != want {
			t.Errorf("after %v: asked %d times, want %d", later, got, want)
		}
	}
}

func bare(q Query) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Type)
	m.Response, m.RecursionAvailable = true, true
	return m
}

// TestPanicsReachTheLookup: a defect in a goroutine of this package would end the
// process; it is raised where the caller can recover, and nobody waits for ever.
func TestPanicsReachTheLookup(t *testing.T) {
	w := standard(t)
	v := w.validator()
	broken := upstreamFunc(func(ctx context.Context, q Query) (*dns.Msg, error) {
		if q.Type == dns.TypeDNSKEY && q.Name == "com." {
			panic("defect")
		}
		return w.Exchange(ctx, q)
	})
	s := v.Session(broken)
	func() {
		defer func() {
			if p := fmt.Sprint(recover()); !strings.Contains(p, "com. DNSKEY: panic: defect") {
				t.Errorf("recovered %q", p)
			}
		}()
		s.Lookup(t.Context(), "example.com.", dns.TypeMX)
	}()
	s.Close()
	want(t, w.ask(v, "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
}

// TestGivingUpCostsNothing: a lookup whose time is over asks nothing more.
func TestGivingUpCostsNothing(t *testing.T) {
	w := standard(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := w.validator().Session(w)
	defer s.Close()
	a := s.Lookup(ctx, "example.com.", dns.TypeMX)
	if a.Outcome != verdict.Failed || a.Err.Why != NoReply || !errors.Is(a.Err, context.Canceled) {
		t.Errorf("%v (%v)", a.Outcome, a.Err)
	}
	want(t, s.Lookup(t.Context(), "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
}

// TestTwoUpstreamsOneLies: whichever questions the liar gets first, the honest one's
// answers win, and nothing bad is remembered for others.
func TestTwoUpstreamsOneLies(t *testing.T) {
	chain := []Query{
		{Name: ".", Type: dns.TypeDNSKEY},
		{Name: "com.", Type: dns.TypeDS},
		{Name: "com.", Type: dns.TypeDNSKEY},
		{Name: "example.com.", Type: dns.TypeDS},
		{Name: "example.com.", Type: dns.TypeDNSKEY},
		{Name: "example.com.", Type: dns.TypeMX},
	}
	for lies := range 1 << len(chain) {
		w := standard(t)
		w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
			for i, c := range chain {
				// The liar has the first word in some, and the second in the others.
				if c.Name == q.Name && c.Type == q.Type && (lies>>i&1 == 1) == (q.Again == 0) {
					stripped(m)
				}
			}
			return m
		}
		if a := w.lookup("example.com.", dns.TypeMX); a.Proof != verdict.Secure {
			t.Fatalf("lies %06b: %v (%v)", lies, a.Proof, a.Err)
		}
	}
}

// TestDSAndKeysOfDifferentAge: after a rollover, each of two caches may have an old half.
func TestDSAndKeysOfDifferentAge(t *testing.T) {
	for _, old := range []uint16{dns.TypeDS, dns.TypeDNSKEY} {
		w := standard(t)
		z := w.zones["example.com."]
		before := map[uint16]*dns.Msg{dns.TypeDS: w.reply("example.com.", dns.TypeDS), dns.TypeDNSKEY: w.reply("example.com.", dns.TypeDNSKEY)}
		z.keys = []*fakeKey{w.key("example.com.", dns.ECDSAP256SHA256, 257)}
		w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
			if q.Name == "example.com." && q.Type == old && q.Again == 0 {
				m.Answer = before[old].Answer
			}
			return m
		}
		want(t, w.lookup("example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	}
}

// TestTTLsCountFromTheReply: what a session keeps grows old.
func TestTTLsCountFromTheReply(t *testing.T) {
	w := standard(t)
	var later atomic.Int64
	v := New(Config{Anchors: w.anchors(), Clock: func() time.Time { return w.now.Add(time.Duration(later.Load())) }})
	s := v.Session(w)
	defer s.Close()
	for _, c := range []struct {
		n      string
		rrtype uint16
		ttl    time.Duration
	}{{"example.com.", dns.TypeMX, time.Hour}, {"nowhere.example.com.", dns.TypeMX, 15 * time.Minute}, {"www.plain.org.", dns.TypeA, 15 * time.Minute}, {"nowhere.plain.org.", dns.TypeA, 15 * time.Minute}} {
		for _, age := range []time.Duration{0, time.Minute, 20 * time.Minute} {
			later.Store(int64(age))
			a := s.Lookup(t.Context(), c.n, c.rrtype)
			if want := max(0, c.ttl-age); a.TTL > want || a.Outcome == verdict.Failed {
				t.Errorf("%s after %v: TTL %v, want %v at most (%v)", c.n, age, a.TTL, want, a.Err)
			}
		}
		later.Store(0)
	}
}

// TestAnotherNameIsNoAnswer: names are the same octet for octet, but for ASCII letters.
func TestAnotherNameIsNoAnswer(t *testing.T) {
	q := Query{Name: "mk.example.", Type: dns.TypeA}
	for n, want := range map[string]bool{"mk.example.": true, "MK.Example.": true, "m\u212a.example.": false, "mk.example.com.": false, "": false} {
		if got := q.matches(dns.Question{Name: n, Qtype: dns.TypeA, Qclass: dns.ClassINET}); got != want {
			t.Errorf("%q: %v", n, got)
		}
	}
}

// TestManyAtOnce mixes everything under the race detector: two validators' worth of
// destinations, some of which give up, through an upstream that lies now and then.
func TestManyAtOnce(t *testing.T) {
	w := standard(t)
	v := w.validator()
	var n atomic.Int64
	up := upstreamFunc(func(ctx context.Context, q Query) (*dns.Msg, error) {
		m, err := w.Exchange(ctx, q)
		if n.Add(1)%7 == 0 && err == nil && q.Again == 0 {
			stripped(m)
		}
		return m, err
	})
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s := v.Session(up)
			defer s.Close()
			var own sync.WaitGroup
			for _, host := range []string{"mx1.example.com.", "mx1.example.com.", "mx1.example.net.", "mx.sub.example.com.", "mx1.example.org.", "www.plain.org."} {
				own.Go(func() {
					a := s.Lookup(ctx, host, dns.TypeA)
					if a.Outcome != verdict.Found && i%4 != 0 {
						t.Errorf("%s: %v (%v)", host, a.Outcome, a.Err)
					}
				})
			}
			if i%4 == 0 {
				cancel()
			}
			own.Wait()
		})
	}
	all.Wait()
}
