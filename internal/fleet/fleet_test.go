package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/store"
)

// board is a shared store in memory, with the faults that a real one has.
type board struct {
	mu    sync.Mutex
	notes map[string][]byte
	// down refuses everything, slow is how long everything takes.
	down bool
	slow time.Duration
	// moved is what check says.
	moved error
	gets  int
	dials int
}

func newBoard() *board { return &board{notes: make(map[string][]byte)} }

var errDown = errors.New("connection refused")

func (b *board) connect(ctx context.Context) (exchange, error) {
	b.mu.Lock()
	b.dials++
	b.mu.Unlock()
	return b, b.fault(ctx)
}

func (b *board) fault(ctx context.Context) error {
	b.mu.Lock()
	down, slow := b.down, b.slow
	b.mu.Unlock()
	if !wait(ctx, slow) {
		return ctx.Err()
	}
	if down {
		return errDown
	}
	return nil
}

func (b *board) get(ctx context.Context, places []string) ([][]byte, error) {
	if err := b.fault(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gets++
	out := make([][]byte, len(places))
	for i, place := range places {
		out[i] = b.notes[place]
	}
	return out, nil
}

func (b *board) put(ctx context.Context, notes []note) error {
	if err := b.fault(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range notes {
		if n.record == nil {
			delete(b.notes, n.place)
			continue
		}
		b.notes[n.place] = n.record
	}
	return nil
}

func (b *board) scan(ctx context.Context, prefix string, visit func([]string) bool) error {
	if err := b.fault(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	places := slices.Sorted(maps.Keys(b.notes))
	b.mu.Unlock()
	places = slices.DeleteFunc(places, func(p string) bool { return !strings.HasPrefix(p, prefix) })
	for page := range slices.Chunk(places, 100) {
		if !visit(page) {
			return nil
		}
	}
	return nil
}

func (b *board) check(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.moved
}
func (b *board) close() {}

// change changes what is on the board.
func (b *board) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *board) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.notes)
}

// host is a node with its store and log.
type host struct {
	*Node
	st     *store.Store
	raised chan string
	mu     sync.Mutex
	log    bytes.Buffer
}

func (h *host) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(p)
}

func (h *host) said(text string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Count(h.log.String(), text)
}

// join runs a node until the test ends.
func join(t *testing.T, b *board, k Key) *host {
	t.Helper()
	h := newHost(t, b, k)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	synctest.Wait()
	return h
}

func newHost(t *testing.T, b *board, k Key) *host {
	t.Helper()
	h := &host{raised: make(chan string, 1000)}
	log := slog.New(slog.NewTextHandler(h, nil))
	st, err := store.Open("", log)
	if err != nil {
		t.Fatal(err)
	}
	h.st = st
	raise := func(name string) { h.raised <- name }
	h.Node = New(Config{
		Server: Server{Addresses: []string{"board:1"}}, Key: k, Store: st, Policies: true, Pins: true,
		RaisedPolicy: raise, RaisedPin: raise, Log: log, connect: b.connect,
	})
	return h
}

// learn has the host fetch a policy.
func (h *host) learn(t *testing.T, domain string) mtasts.Cached {
	t.Helper()
	c := mtasts.Cached{Domain: domain}.AfterSuccess(time.Now(), "7", policy(t, "enforce", "mx."+domain, "604800"), 0)
	h.st.Update(domain, func(mtasts.Cached, bool) (mtasts.Cached, bool) { return c, true })
	h.PublishPolicy(c)
	return c
}

// enforces reports whether the host has an enforced policy that holds.
func (h *host) enforces(domain string) bool {
	c, found, err := h.st.Policy(domain)
	return err == nil && found && c.Fresh(time.Now()) && c.Policy.Mode == mtasts.ModeEnforce
}

func testKey(t *testing.T) Key { return key(t, "a") }

func TestOneLearnsAllKnow(t *testing.T) {
	for _, k := range []Key{{}, testKey(t)} {
		synctest.Test(t, func(t *testing.T) {
			b := newBoard()
			one, two := join(t, b, k), join(t, b, k)
			one.learn(t, "example.com")
			synctest.Wait()
			two.LearnPolicy(t.Context(), "example.com")
			if !two.enforces("example.com") {
				t.Error("the other node does not know the policy")
			}
			two.LearnPolicy(t.Context(), "example.net")
			if s := two.Stats(); s.Asked != 2 || s.Found != 1 || s.Taken != 1 || s.Failed != 0 || !s.Up {
				t.Errorf("%+v", s)
			}
			p := pinned("mx.example.com", time.Hour, day)
			p.Seen, p.Until = time.Now().Add(-time.Hour), time.Now().Add(day)
			one.PublishPin(p)
			synctest.Wait()
			two.LearnPins(t.Context(), []string{"mx.example.net", "mx.example.com"})
			if got, found, _ := two.st.Pin("mx.example.com"); !found || !got.Holds(time.Now()) || !got.Learned.Equal(time.Now()) {
				t.Errorf("the other node has %+v, %v", got, found)
			}
		})
	}
}

// TestNewNodeReadsAll: with a key a node that joins takes what the others know, and says so
// for verdicts that it gave already; without one it waits until it asks.
func TestNewNodeReadsAll(t *testing.T) {
	for _, k := range []Key{{}, testKey(t)} {
		synctest.Test(t, func(t *testing.T) {
			b := newBoard()
			one := join(t, b, k)
			for i := range 300 {
				one.learn(t, fmt.Sprintf("d%d.example", i))
			}
			synctest.Wait()
			b.change(func() {
				b.notes[k.place(policyKind, "garbage.example")] = []byte("garbage")
				b.notes[k.place(policyKind, "a..b")] = []byte("garbage")
				b.notes[k.space()+"x"] = []byte("garbage")
			})
			two := join(t, b, k)
			time.Sleep(2 * time.Second)
			got := 0
			for i := range 300 {
				if two.enforces(fmt.Sprintf("d%d.example", i)) {
					got++
				}
			}
			want := 0
			if k.Authentic() {
				want = 300
			}
			if got != want || len(two.raised) != want {
				t.Errorf("with a key %v: %d policies, %d raised; want %d", k.Authentic(), got, len(two.raised), want)
			}
		})
	}
}

// TestServerGone: a node without its server is what it is alone, asks nothing, and comes
// back; what changes is said once.
func TestServerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one, two := join(t, b, testKey(t)), join(t, b, testKey(t))
		one.learn(t, "example.com")
		time.Sleep(time.Second)
		b.change(func() { b.down = true })
		for range 10 {
			two.LearnPolicy(t.Context(), "example.com")
		}
		synctest.Wait()
		if s := two.Stats(); s.Asked != mayFail || s.Failed != mayFail || s.Up {
			t.Errorf("%+v; want %d questions, and no more", s, mayFail)
		}
		if two.Problem() == "" {
			t.Error("nothing is said to be wrong")
		}
		one.learn(t, "example.net") // while nobody can be told
		time.Sleep(time.Hour)
		if n := two.said("out of reach"); n != 1 {
			t.Errorf("said %d times", n)
		}
		b.change(func() { b.down = false })
		time.Sleep(longestPause + 2*time.Second)
		if two.Problem() != "" || two.said("within reach") != 2 {
			t.Errorf("after it came back: %q, said %d times", two.Problem(), two.said("within reach"))
		}
		two.LearnPolicy(t.Context(), "example.net")
		if !two.enforces("example.net") {
			t.Error("what was learned meanwhile is not known")
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.dials > 2*(3600/30+20) {
			t.Errorf("%d tries to connect in an hour", b.dials)
		}
	})
}

// TestServerSlow: nobody waits longer than askTime, and after a few tries nobody waits.
func TestServerSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one := join(t, b, testKey(t))
		b.change(func() { b.slow = time.Minute })
		start := time.Now()
		for range 100 {
			before := time.Now()
			one.LearnPolicy(t.Context(), "example.com")
			if took := time.Since(before); took > askTime {
				t.Errorf("waited %v", took)
			}
			synctest.Wait()
		}
		if took := time.Since(start); took > mayFail*askTime {
			t.Errorf("100 questions waited %v", took)
		}
	})
}

// TestAskerGone: that an asker gives up says nothing about the server.
func TestAskerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one := join(t, b, testKey(t))
		b.change(func() { b.slow = 100 * time.Millisecond })
		for range 2 * mayFail {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			one.LearnPolicy(ctx, "example.com")
			cancel()
		}
		synctest.Wait()
		if !one.Stats().Up {
			t.Error("the server counts as gone")
		}
	})
}

// TestWipedServer: what the nodes know is written again, and nothing is forgotten.
func TestWipedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one := join(t, b, testKey(t))
		const n = 1000
		for i := range n {
			one.learn(t, fmt.Sprintf("d%d.example", i))
		}
		time.Sleep(time.Hour)
		if b.size() != n {
			t.Fatalf("%d records", b.size())
		}
		b.change(func() { clear(b.notes) })
		time.Sleep(2*walkEvery + n/stride*hurryEvery + 2*time.Second)
		if b.size() != n {
			t.Errorf("after a wipe %d records of %d are back", b.size(), n)
		}
		for i := range n {
			if !one.enforces(fmt.Sprintf("d%d.example", i)) {
				t.Fatal("a policy is gone")
			}
		}
	})
}

// TestGarbage: garbage in every place is ignored, said once, and overwritten.
func TestGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one, two := join(t, b, testKey(t)), join(t, b, testKey(t))
		one.learn(t, "example.com")
		synctest.Wait()
		evil := mtasts.Cached{Domain: "example.com", ID: "8", Policy: policy(t, "none", "mx.evil.example", "60"), Fetched: time.Now()}
		for _, garbage := range [][]byte{[]byte("garbage"), {0}, Key{}.writePolicy(evil), key(t, "b").writePolicy(evil)} {
			b.change(func() {
				for place := range b.notes {
					b.notes[place] = garbage
				}
			})
			two.LearnPolicy(t.Context(), "example.com")
			if two.enforces("example.com") {
				t.Errorf("%q: taken", garbage)
			}
			time.Sleep(5 * walkEvery)
			if !one.enforces("example.com") {
				t.Errorf("%q: the node lost its own", garbage)
			}
			if two.LearnPolicy(t.Context(), "example.com"); !two.enforces("example.com") {
				t.Errorf("%q: was not overwritten", garbage)
			}
			two.st.Update("example.com", func(mtasts.Cached, bool) (mtasts.Cached, bool) { return mtasts.Cached{}, false })
		}
		if n := two.said("are not this fleet's"); n != 1 {
			t.Errorf("said %d times", n)
		}
	})
}

// TestStaleServer: a replica that lags brings nothing back, and is brought up to date.
func TestStaleServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one := join(t, b, testKey(t))
		one.learn(t, "example.com")
		synctest.Wait()
		old := maps.Clone(b.notes)
		time.Sleep(day)
		fresh := one.learn(t, "example.com")
		one.learn(t, "example.net")
		synctest.Wait()
		b.change(func() { b.notes = old })
		time.Sleep(5 * walkEvery)
		if c, _, _ := one.st.Policy("example.com"); !c.Fetched.Equal(fresh.Fetched) {
			t.Errorf("the node went back to %v", c.Fetched)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		c, err := one.cfg.Key.readPolicy("example.com", b.notes[one.cfg.Key.place(policyKind, "example.com")], time.Now())
		if err != nil || !c.Fetched.Equal(fresh.Fetched.Truncate(time.Second)) || len(b.notes) != 2 {
			t.Errorf("the server has %v, %v, of %d", c.Fetched, err, len(b.notes))
		}
	})
}

// TestAnotherMaster: where sentinels name another server, that one is asked.
func TestAnotherMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one := join(t, b, testKey(t))
		b.change(func() { b.moved = errMoved })
		time.Sleep(2 * walkEvery)
		b.change(func() { b.moved = nil })
		time.Sleep(longestPause)
		if s := one.Stats(); s.Connected < 2 || !s.Up {
			t.Errorf("%+v", s)
		}
	})
}

// TestQueueIsBounded: what there is no room for is dropped, counted, and written later.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one := join(t, b, testKey(t))
		b.change(func() { b.slow = time.Second })
		const n = maxQueue + 500
		for i := range n {
			one.learn(t, fmt.Sprintf("d%d.example", i))
		}
		if s := one.Stats(); s.Dropped < 400 {
			t.Errorf("%d dropped", s.Dropped)
		}
		b.change(func() { b.slow = 0 })
		time.Sleep(longestPause + n/stride*hurryEvery + time.Minute)
		if b.size() != n {
			t.Errorf("%d records of %d", b.size(), n)
		}
	})
}

// TestRemovedPinStaysAway: what the operator removed is not learned from what was seen before.
func TestRemovedPinStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		one, two := join(t, b, testKey(t)), join(t, b, testKey(t))
		p := signal.Pin{Host: "mx.example.com", Pattern: signal.Pattern{Host: "mx.example.com"}, Learned: time.Now(), Seen: time.Now(), Until: time.Now().Add(30 * day)}
		_ = one.st.UpdatePin(p.Host, func(signal.Pin, bool) (signal.Pin, bool) { return p, true })
		one.PublishPin(p)
		synctest.Wait()
		two.LearnPins(t.Context(), []string{p.Host})
		time.Sleep(time.Hour)
		if err := two.RemovePin(p.Host); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			two.LearnPins(t.Context(), []string{p.Host})
			time.Sleep(10 * walkEvery)
			if got, _, _ := two.st.Pin(p.Host); got.Holds(time.Now()) {
				t.Fatalf("it is back: %+v", got)
			}
		}
		if got, _, _ := one.st.Pin(p.Host); !got.Holds(time.Now()) {
			t.Error("the other node lost it")
		}
		p.Seen = time.Now()
		one.PublishPin(p)
		synctest.Wait()
		two.LearnPins(t.Context(), []string{p.Host})
		if got, _, _ := two.st.Pin(p.Host); !got.Holds(time.Now()) {
			t.Error("a banner that was seen later does not count")
		}
	})
}

func TestNoFleet(t *testing.T) {
	var n *Node
	n.LearnPolicy(t.Context(), "example.com")
	n.LearnPins(t.Context(), []string{"mx.example.com"})
	n.PublishPolicy(mtasts.Cached{})
	n.PublishPin(signal.Pin{})
	n.Run(t.Context())
	if n.Problem() != "" || n.Stats() != (Stats{}) {
		t.Error("a fleet that is none has something to say")
	}
}
