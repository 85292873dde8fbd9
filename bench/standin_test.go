package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tlsverdict/internal/daemon"
	"tlsverdict/internal/engine"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/socketmapd"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// standIn is policyd without its DNS: engine, store, dialects and server as
// internal/daemon wires them, and the population's facts made up. It is told what to
// do on stdin, an order a line, and answers each with a line.
type standIn struct {
	kind   kind
	engine *engine.Engine
	store  *store.Store
	// ttl is that of the facts, in nanoseconds; end is when they end, unless 0.
	ttl, end atomic.Int64
}

// order is what a stand-in is told.
type order struct {
	// Do is "fill", "keep", "collect", or "heap" or "cpu" for a profile.
	Do string
	// First and End bound the domains; Rate is how many a second, 0 for any.
	First, End, Rate int
	// TTL is that of the facts from now on, unless 0; for "cpu" it is how long.
	TTL time.Duration
	// Together says that all of an order end at one time, TTL from its beginning.
	Together bool
	// File takes a profile.
	File string
}

// account is what it answers.
type account struct {
	Error string
	// Heap is what lives, in bytes, after a collection.
	Heap uint64
	// Pause is the longest stop of the world since the start.
	Pause   time.Duration
	Entries int
	Stats   struct{ Hits, Misses, Refreshes uint64 }
}

// entries is the bound of its cache: beyond the population, so that nothing is evicted.
const entries = 1_200_000

// runStandIn takes the kind of its domains, a unix path, a TCP address and the path of
// its store, which may be empty.
func runStandIn(args []string) error {
	daemon.SpareMemory()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	st, err := store.Open(args[3], log)
	if err != nil {
		return err
	}
	s := &standIn{store: st}
	if _, err := fmt.Sscan(args[0], &s.kind); err != nil {
		return err
	}
	s.ttl.Store(int64(24 * time.Hour))
	s.engine, err = engine.New(engine.Config{
		Gather: gatherFor(s.kind, s.life), Rules: verdict.Rules{},
		Entries: entries, MinTTL: time.Second, MaxTTL: 24 * time.Hour, RefreshAhead: true, Flights: 512, Log: log,
	})
	if err != nil {
		return err
	}
	server := &postfixmap.Server{Handler: socketmapd.New(s.engine, socketmapd.Options{Deadline: 12 * time.Second, Log: log}), ErrorLog: log}
	for i, network := range []string{"unix", "tcp"} {
		l, err := net.Listen(network, args[1+i])
		if err != nil {
			return err
		}
		go func() { _ = server.Serve(context.Background(), l) }()
	}
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var o order
		if err := json.Unmarshal(orders.Bytes(), &o); err != nil {
			return err
		}
		answer, err := json.Marshal(s.obey(o))
		if err != nil {
			return err
		}
		fmt.Println(string(answer))
	}
	return st.Close()
}

// life is how long facts last that are made up now.
func (s *standIn) life() time.Duration {
	if end := s.end.Load(); end != 0 {
		return time.Until(time.Unix(0, end))
	}
	return time.Duration(s.ttl.Load())
}

func (s *standIn) obey(o order) account {
	var err error
	if o.TTL != 0 && o.Do != "cpu" {
		s.ttl.Store(int64(o.TTL))
		s.end.Store(0)
	}
	if o.Together {
		s.end.Store(time.Now().Add(o.TTL).UnixNano())
	}
	switch o.Do {
	case "fill":
		s.paced(o, func(i int) {
			s.engine.Rule(context.Background(), nexthop.Destination{Name: domain(i), Port: nexthop.SMTPPort})
		})
	case "keep":
		s.paced(o, func(i int) {
			if kindOf(i) == sts {
				c := policyOf(i, time.Now())
				s.store.Update(c.Domain, func(mtasts.Cached, bool) (mtasts.Cached, bool) { return c, true })
			}
		})
		err = s.store.Sync(context.Background())
	case "collect":
		runtime.GC()
		runtime.GC()
	case "heap", "cpu":
		err = profile(o)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	stats := s.engine.Stats()
	a := account{Heap: m.HeapAlloc, Entries: stats.Entries}
	a.Stats.Hits, a.Stats.Misses, a.Stats.Refreshes = stats.Hits, stats.Misses, stats.Refreshes
	for _, p := range m.PauseNs {
		a.Pause = max(a.Pause, time.Duration(p))
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

func profile(o order) error {
	f, err := os.Create(o.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if o.Do == "heap" {
		return pprof.Lookup("heap").WriteTo(f, 0)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	<-time.After(o.TTL)
	pprof.StopCPUProfile()
	return nil
}

// paced does something for each domain of an order, eight at a time, at its rate. As a
// flight waits for the network, each gives way to who answers questions.
func (s *standIn) paced(o order, do func(int)) {
	const workers, batch = 8, 64
	todo := make(chan int, workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range todo {
				for n := i; n < min(i+batch, o.End); n++ {
					do(n)
					runtime.Gosched()
				}
			}
		})
	}
	start := time.Now()
	for i := o.First; i < o.End; i += batch {
		if o.Rate > 0 {
			due := start.Add(time.Duration(i-o.First) * time.Second / time.Duration(o.Rate))
			if ahead := time.Until(due); ahead > 0 {
				<-time.After(ahead)
			}
		}
		todo <- i
	}
	close(todo)
	wg.Wait()
}

// startStandIn starts one for a kind of domains; storePath may be empty.
func startStandIn(ctx context.Context, dir string, k kind, storePath string) (*process, error) {
	p := new(process)
	name := strings.ReplaceAll("standin "+k.String(), " ", "-")
	var err error
	if p.unix, p.tcp, err = addresses(dir, name); err != nil {
		return nil, err
	}
	_ = os.Remove(p.unix.name)
	if p.cmd, err = again(ctx, "standin", fmt.Sprint(int(k)), p.unix.name, p.tcp.name, storePath); err != nil {
		return nil, err
	}
	if err := p.launch(dir, name); err != nil {
		return nil, err
	}
	_, err = p.ready(ctx, p.tcp, 30*time.Second)
	return p, err
}

// tell gives a stand-in an order and waits until it is done.
func (p *process) tell(o order) (account, error) {
	var a account
	text, err := json.Marshal(o)
	if err != nil {
		return a, err
	}
	if _, err := fmt.Fprintf(p.in, "%s\n", text); err != nil {
		return a, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return a, fmt.Errorf("stand-in: %w", err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, fmt.Errorf("stand-in: %s", a.Error)
	}
	return a, nil
}
