package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/verdict"
)

var mx = Target{Host: "smtps-mx.example.com", Port: 26, Kind: Implicit}

// hosts plays the network: it counts, and answers as it is told.
type hosts struct {
	mu     sync.Mutex
	begun  []time.Time
	names  map[string]int
	err    *Error
	takes  time.Duration
	under  atomic.Int64
	most   atomic.Int64
	panics bool
}

func (h *hosts) probe(ctx context.Context, t Target) Result {
	h.mu.Lock()
	h.begun = append(h.begun, time.Now())
	if h.names == nil {
		h.names = make(map[string]int)
	}
	h.names[t.Host]++
	r, takes, panics := Result{Target: t, Began: time.Now(), By: ByWebPKI, Err: h.err}, h.takes, h.panics
	h.mu.Unlock()
	if n := h.under.Add(1); n > h.most.Load() {
		h.most.Store(n)
	}
	defer h.under.Add(-1)
	if panics {
		panic("a defect")
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		r.Err = &Error{Stage: Connect, Fault: verdict.Ours, Detail: "given up"}
	}
	return r
}

func (h *hosts) become(err *Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *hosts) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.begun)
}

// bubble runs a test with a clock of its own and a Prober that works. random is what
// its dice show.
func bubble(t *testing.T, h *hosts, random float64, test func(*testing.T, *Prober)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{Probe: h.probe, AtOnce: 4, Random: func() float64 { return random }, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { p.Run(ctx) })
		defer done.Wait()
		defer cancel()
		test(t, p)
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func resets() *Error {
	return &Error{Stage: Connect, Fault: verdict.Remote, Detail: "connection reset by peer"}
}

func TestWantedIsProbedOnce(t *testing.T) {
	h := &hosts{takes: time.Second}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		if p.Good(mx) {
			t.Error("it is believed before anybody has looked")
		}
		for range 10 {
			p.Want(mx, mx)
			pass(10 * time.Millisecond)
		}
		if p.Good(mx) || h.count() != 1 {
			t.Errorf("while it is probed: good %v, %d probes", p.Good(mx), h.count())
		}
		pass(time.Second)
		if !p.Good(mx) {
			t.Error("it has proved itself and is not believed")
		}
		for range 10 {
			p.Want(mx)
			pass(time.Second)
		}
		if h.count() != 1 {
			t.Errorf("%d probes of a host that is believed", h.count())
		}
		if s := p.State(mx); !s.Good || !s.Probed || s.Last.By != ByWebPKI || s.Next.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// TestGoodEnds: a result is never believed beyond its time.
func TestGoodEnds(t *testing.T) {
	h := &hosts{}
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{Probe: h.probe, Random: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		p.Want(mx)
		go p.Run(ctx)
		pass(0)
		cancel()
		pass(goodFor - time.Nanosecond)
		if !p.Good(mx) {
			t.Error("it is not believed to the end")
		}
		pass(time.Nanosecond)
		if p.Good(mx) || p.State(mx).Good {
			t.Error("it is believed beyond its time")
		}
	})
}

// TestGoodIsProbedAhead: while somebody wants it, a good host is probed again before it
// is believed no longer; and not where nobody does.
func TestGoodIsProbedAhead(t *testing.T) {
	for random, again := range map[float64]time.Duration{0: goodFor / 2, 0.5: goodFor * 5 / 8} {
		h := &hosts{}
		bubble(t, h, random, func(t *testing.T, p *Prober) {
			p.Want(mx)
			pass(again - time.Second)
			if !p.Good(mx) || h.count() != 1 {
				t.Fatalf("before its time: %d probes", h.count())
			}
			for range 10 * int(goodFor/time.Minute) {
				pass(time.Minute)
				if !p.Good(mx) {
					t.Fatal("it is not believed although it is wanted")
				}
			}
			if n := h.count(); n < 13 || n > 21 {
				t.Errorf("%d probes in ten times goodFor", n)
			}
			n := h.count()
			pass(3 * goodFor)
			if h.count() > n+1 || p.State(mx).Probed {
				t.Errorf("nobody wants it: %d probes more, %+v", h.count()-n, p.State(mx))
			}
		})
	}
}

// TestFailureIsTriedAgain: with pauses that grow, while somebody wants the host, and not
// without; and one success forgets them.
func TestFailureIsTriedAgain(t *testing.T) {
	h := &hosts{err: resets()}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		for range 24 * 60 {
			p.Want(mx)
			pass(time.Minute)
			if p.Good(mx) {
				t.Fatal("it failed and is believed")
			}
		}
		// 5, 10, 20, 40, 80, 160, 240, 240, 240, 240 minutes
		if n := h.count(); n < 9 || n > 11 {
			t.Errorf("%d probes in a day", n)
		}
		for i := 1; i < 7; i++ {
			want := min(failedPause<<(i-1), longestPause)
			if got := h.begun[i].Sub(h.begun[i-1]); got < want || got > want+time.Minute {
				t.Errorf("pause %d is %v, want %v", i, got, want)
			}
		}
		h.become(nil)
		for range 5 * 60 {
			p.Want(mx)
			pass(time.Minute)
		}
		if !p.Good(mx) {
			t.Fatal("it works again and is not believed")
		}
		h.become(resets())
		pass(time.Hour)
		n := h.count()
		p.Want(mx)
		pass(failedPause + time.Minute)
		p.Want(mx)
		pass(failedPause + time.Minute)
		if got := h.count() - n; got < 1 {
			t.Errorf("%d probes after the first failure in a long time", got)
		}
	})
}

// TestFailedAndUnwanted: what is remembered of a host that failed ends, and meanwhile it
// is not probed more often for being wanted rarely.
func TestFailedAndUnwanted(t *testing.T) {
	h := &hosts{err: resets()}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		p.Want(mx)
		pass(failedPause + time.Minute)
		if h.count() != 1 {
			t.Errorf("%d probes although nobody wants it", h.count())
		}
		p.Want(mx)
		pass(time.Second)
		p.Want(mx)
		pass(time.Minute)
		if h.count() != 2 {
			t.Errorf("%d probes of a host that is wanted again", h.count())
		}
		pass(2 * longestPause)
		if p.State(mx).Probed || p.Stats().Targets != 0 {
			t.Error("it is remembered for ever")
		}
	})
}

// TestBadAtOnce: a host that is believed and fails is believed no longer.
func TestBadAtOnce(t *testing.T) {
	h := &hosts{}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		p.Want(mx)
		pass(freshAfter)
		h.become(resets())
		p.Renew(mx)
		pass(time.Second)
		if p.Good(mx) {
			t.Error("it is believed")
		}
		if s := p.State(mx); s.Good || s.Last.Err == nil || s.Last.Err.Detail != "connection reset by peer" {
			t.Errorf("%+v", s)
		}
	})
}

// TestRenew: a fresh look, but not more often than freshAfter; and not at a host that
// fails, which is not used.
func TestRenew(t *testing.T) {
	h := &hosts{}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		for range 50 {
			p.Renew(mx)
			pass(time.Second)
		}
		if h.count() != 1 {
			t.Errorf("%d probes in less than freshAfter", h.count())
		}
		pass(freshAfter)
		if h.count() != 2 {
			t.Errorf("%d probes after it", h.count())
		}
		for range 600 {
			p.Renew(mx)
			pass(time.Second)
		}
		if n := h.count(); n < 10 || n > 13 {
			t.Errorf("%d probes in ten minutes more", n)
		}
		h.become(resets())
		pass(freshAfter)
		n := h.count()
		for range int(failedPause / time.Second / 2) {
			p.Renew(mx)
			pass(time.Second)
		}
		if h.count() != n {
			t.Errorf("%d probes of a host that has just failed", h.count()-n)
		}
	})
}

// TestOwnTrouble: a probe that could not be made says nothing of the host.
func TestOwnTrouble(t *testing.T) {
	h := &hosts{}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		p.Want(mx)
		pass(time.Minute)
		h.become(&Error{Stage: Lookup, Fault: verdict.Operator, Detail: "the resolver does not answer"})
		for range 58 {
			if !p.Good(mx) {
				t.Fatal("it is not believed")
			}
			pass(time.Minute)
		}
		pass(time.Minute)
		if p.Good(mx) {
			t.Error("it is believed beyond its time")
		}
		n := h.count()
		for range 60 {
			p.Want(mx)
			pass(time.Minute)
		}
		if got := h.count() - n; got < 9 {
			t.Errorf("%d probes in an hour: the pauses grow by what is not the host's fault", got)
		}
	})
}

// TestPace: probes begin one after another, and so many are under way.
func TestPace(t *testing.T) {
	h := &hosts{takes: 10 * time.Second}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		for i := range 100 {
			p.Want(Target{Host: fmt.Sprintf("smtps-%d.example.com", i), Port: 26, Kind: Implicit})
		}
		pass(time.Hour)
		if h.most.Load() != 4 || h.count() != 100 {
			t.Errorf("%d at once, %d in all", h.most.Load(), h.count())
		}
		for i := 1; i < len(h.begun); i++ {
			if gap := h.begun[i].Sub(h.begun[i-1]); gap < paceEvery {
				t.Fatalf("%v between two", gap)
			}
		}
	})
}

// TestBelievedGoFirst: a crowd of strange hosts does not make those wait that are believed.
func TestBelievedGoFirst(t *testing.T) {
	h := &hosts{}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		p.Want(mx)
		pass(time.Second)
		h.become(resets())
		for i := range 9000 {
			p.Want(Target{Host: fmt.Sprintf("smtps-%d.example.net", i), Port: 26, Kind: Implicit})
		}
		p.Good(mx)
		pass(goodFor / 2)
		if n := h.names[mx.Host]; n != 2 {
			t.Errorf("probed %d times", n)
		}
	})
}

// TestMemoryIsBounded: so many hosts are remembered; one that nobody wants makes place.
func TestMemoryIsBounded(t *testing.T) {
	h := &hosts{}
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{Probe: h.probe, Random: func() float64 { return 0 }, Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Run(ctx)
		p.Want(mx)
		pass(goodFor*3/4 + time.Second)
		for i := range maxTargets + 500 {
			p.Want(Target{Host: fmt.Sprintf("smtps-%d.example.net", i), Port: 26, Kind: Implicit})
		}
		if s := p.Stats(); s.Targets != maxTargets || s.Refused != 500 {
			t.Errorf("%+v", s)
		}
		if p.State(mx).Probed {
			t.Error("the one that nobody wants is still there")
		}
		if n := strings.Count(log.String(), "too many hosts"); n != 1 {
			t.Errorf("said %d times", n)
		}
		cancel()
		synctest.Wait()
	})
}

// TestVisitedIsTriedAgain: a host at an address that was visited a moment ago is not a
// bad one.
func TestVisitedIsTriedAgain(t *testing.T) {
	h := &hosts{err: &Error{Stage: Connect, Fault: verdict.Ours, again: 3 * time.Second, cause: errVisited}}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		p.Want(mx)
		pass(time.Second)
		if s := p.State(mx); s.Probed || p.Stats().Probes != 0 {
			t.Errorf("%+v", s)
		}
		h.become(nil)
		pass(3 * time.Second)
		if !p.Good(mx) || h.count() != 2 {
			t.Errorf("%d probes", h.count())
		}
	})
}

// TestPanicSpoilsOneProbe: and no more.
func TestPanicSpoilsOneProbe(t *testing.T) {
	h := &hosts{panics: true}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		p.Want(mx)
		pass(time.Second)
		if s := p.State(mx); !s.Probed || s.Last.Err == nil || s.Last.Err.Stage != Internal || s.Good {
			t.Errorf("%+v", s)
		}
		h.mu.Lock()
		h.panics = false
		h.mu.Unlock()
		p.Want(mx)
		pass(failedPause)
		if !p.Good(mx) {
			t.Error("it is not tried again")
		}
	})
}

// TestRunEnds: the probes under way are given up, and nothing is concluded from that.
func TestRunEnds(t *testing.T) {
	h := &hosts{takes: time.Minute}
	var log bytes.Buffer
	var told atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{
			Probe: h.probe, Random: func() float64 { return 0 }, Done: func(Result) { told.Add(1) },
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { p.Run(ctx); close(ended) }()
		p.Want(mx)
		pass(time.Second)
		begin := time.Now()
		cancel()
		<-ended
		if took := time.Since(begin); took > 0 || h.under.Load() != 0 {
			t.Errorf("it took %v, %d are under way", took, h.under.Load())
		}
		if log.Len() > 0 {
			t.Errorf("it said %s", log.String())
		}
	})
}

// TestRecords: what is news is said, at the level of whose fault it is.
func TestRecords(t *testing.T) {
	h := &hosts{}
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{Probe: h.probe, Random: func() float64 { return 0 }, Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Run(ctx)
		step := func(err *Error, want string) {
			t.Helper()
			log.Reset()
			h.become(err)
			p.Want(mx)
			for range 3 * 60 {
				p.Want(mx)
				pass(time.Minute)
			}
			if got := log.String(); !strings.Contains(got, want) || strings.Count(got, "\n") != min(1, len(want)) {
				t.Errorf("want one record with %q, got\n%s", want, got)
			}
		}
		step(nil, "level=INFO msg=probe host=smtps-mx.example.com port=26 kind=implicit good=true by=webpki")
		step(nil, "")
		step(resets(), `level=INFO msg=probe host=smtps-mx.example.com port=26 kind=implicit good=false stage=connect fault=remote error="connection reset by peer"`)
		cancel()
		synctest.Wait()
	})
}

// TestErrors: what they say, and what they wrap.
func TestErrors(t *testing.T) {
	cause := errors.New("a \x1b[31mred\x1b[0m\nword")
	e := fail(Dialogue, cause)
	if e.Error() != "probe: dialogue: a ?[31mred?[0m?word" || !errors.Is(e, cause) || e.Silent() {
		t.Errorf("%v", e)
	}
	if e := fail(Lookup, &verdict.Failure{Fault: verdict.Operator, Detail: "no resolver"}); !e.Silent() || e.Detail != "no resolver" {
		t.Errorf("%v", e)
	}
	if e := fail(Connect, context.DeadlineExceeded); e.Silent() || e.Detail != "no complete answer in time" {
		t.Errorf("%v", e)
	}
	for _, s := range []fmt.Stringer{Internal, Lookup, Connect, Handshake, Certificate, Dialogue, Stage(99), Implicit, StartTLS, Kind(99), ByNothing, ByWebPKI, ByDANE, By(99), mx} {
		if s.String() == "" {
			t.Errorf("%#v has no word", s)
		}
	}
}
