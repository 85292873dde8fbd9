package fleet

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
)

const (
	// askTime is how long a question for a destination may wait.
	askTime = 250 * time.Millisecond
	// workTime bounds everything that nobody waits for.
	workTime = 2 * time.Second
	// maxQueue is how many notes wait to be written.
	maxQueue = 4096
	// atOnce is how many notes are read or written at once.
	atOnce = 64
	// mayFail is how many questions in a row may fail before no more are asked.
	mayFail = 3
	// leastPause and longestPause are those between two tries to connect.
	leastPause, longestPause = time.Second, time.Minute
	// steady is how long a connection must have lasted for the next pause to be the least.
	steady = time.Minute
	// maxPins is how many pins there may be here before none are taken from others: half of
	// those that a store takes, so that there is room for the node's own.
	maxPins = 25_000
)

// Store is the node's own; package store has it.
type Store interface {
	// Policy returns what is kept for a domain.
	Policy(domain string) (c mtasts.Cached, found bool, err error)
	// Policies returns at most so many, in the order of their domains, after one.
	Policies(after string, most int) ([]mtasts.Cached, error)
	// Update changes what is kept, from what is newest.
	Update(domain string, modify func(old mtasts.Cached, found bool) (mtasts.Cached, bool))
	Pin(host string) (p signal.Pin, found bool, err error)
	Pins() ([]signal.Pin, error)
	UpdatePin(host string, modify func(old signal.Pin, found bool) (signal.Pin, bool)) error
}

// Config is what a Node works with.
type Config struct {
	// Server is where the shared store is.
	Server Server
	// Key authenticates records. The zero value authenticates none.
	Key Key
	// Store is required.
	Store Store
	// Policies and Pins say what is shared.
	Policies, Pins bool
	// RaisedPolicy and RaisedPin are told of what was learned although nobody asked for it,
	// once it is kept. They must not wait. Optional.
	RaisedPolicy, RaisedPin func(name string)
	// Log is required.
	Log *slog.Logger

	// connect takes the place of the server's; tests have their own.
	connect func(ctx context.Context) (exchange, error)
}

// exchange is a shared store within reach. It is safe for concurrent use.
type exchange interface {
	// get returns what lies at places: nil for nothing, and what is no string, or too
	// long, in part or empty.
	get(ctx context.Context, places []string) ([][]byte, error)
	// put writes notes, each of which ends by itself.
	put(ctx context.Context, notes []note) error
	// scan names the places that begin with prefix, some at a time, some twice, until visit
	// returns false.
	scan(ctx context.Context, prefix string, visit func(places []string) bool) error
	// check reports whether it is still the right one to speak with.
	check(ctx context.Context) error
	close()
}

// note is a record on its way; one without a record takes away what is there.
type note struct {
	place  string
	record []byte
	life   time.Duration
}

// Node is this host's part in a fleet. A nil one is in none. It is safe for concurrent use.
type Node struct {
	cfg   Config
	queue chan note
	up    atomic.Pointer[link]

	mu      sync.Mutex
	problem string
	said    said
	pulled  time.Time

	counts counters
}

type counters struct {
	asked, found, taken, failed, foreign, published, dropped, healed, connected atomic.Uint64
}

// Stats are counters since the start.
type Stats struct {
	// Asked are questions for a destination, Failed those that had no answer in time, Found
	// those that had one with a record.
	Asked, Failed, Found uint64
	// Taken are the policies and pins that made this node demand more, or for longer.
	Taken uint64
	// Foreign are records that were not written by this fleet, or damaged.
	Foreign uint64
	// Published are the records that were written, Healed those of them that the shared
	// store lacked or had older, Dropped those for which the queue had no room.
	Published, Healed, Dropped uint64
	// Connected counts the times that the server came within reach.
	Connected uint64
	// Up is whether it is.
	Up bool
}

// said is what the log has of the server last.
type said uint8

const (
	nothingSaid said = iota
	withinReach
	outOfReach
)

// link is a time during which the server is within reach.
type link struct {
	exchange
	fails  atomic.Int32
	once   sync.Once
	broken chan struct{}
	why    error
	// said limits the records of foreign notes.
	said sync.Once
}

// fail ends the link.
func (l *link) fail(err error) {
	l.once.Do(func() {
		l.why = err
		close(l.broken)
	})
}

// New returns a Node. It does nothing before Run.
func New(cfg Config) *Node {
	if cfg.connect == nil {
		server := cfg.Server
		cfg.connect = func(ctx context.Context) (exchange, error) { return dial(ctx, server) }
	}
	return &Node{cfg: cfg, queue: make(chan note, maxQueue), problem: "the shared store was not reached yet"}
}

// Problem says why the shared store is out of reach, or "".
func (n *Node) Problem() string {
	if n == nil {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.problem
}

// Stats returns the counters.
func (n *Node) Stats() Stats {
	if n == nil {
		return Stats{}
	}
	c := &n.counts
	return Stats{
		Asked: c.asked.Load(), Failed: c.failed.Load(), Found: c.found.Load(), Taken: c.taken.Load(), Foreign: c.foreign.Load(),
		Published: c.published.Load(), Healed: c.healed.Load(), Dropped: c.dropped.Load(), Connected: c.connected.Load(),
		Up: n.link() != nil,
	}
}

// LearnPolicy has the node's store learn what others know of a domain's policy. It waits
// askTime at most.
func (n *Node) LearnPolicy(ctx context.Context, domain string) {
	if n != nil && n.cfg.Policies {
		n.ask(ctx, policyKind, []string{domain})
	}
}

// LearnPins does the same for the pins of hosts.
func (n *Node) LearnPins(ctx context.Context, hosts []string) {
	if n != nil && n.cfg.Pins && len(hosts) > 0 {
		n.ask(ctx, pinKind, hosts)
	}
}

// ask asks for a destination.
func (n *Node) ask(ctx context.Context, what kind, names []string) {
	l := n.link()
	if l == nil {
		return
	}
	n.counts.asked.Add(1)
	places := make([]string, len(names))
	for i, name := range names {
		places[i] = n.cfg.Key.place(what, name)
	}
	bounded, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	records, err := l.get(bounded, places)
	if err != nil {
		n.unanswered(ctx, l, err)
		return
	}
	l.fails.Store(0)
	found := false
	for i, record := range records {
		if record != nil {
			found = true
			n.take(l, what, names[i], record)
		}
	}
	if found {
		n.counts.found.Add(1)
	}
}

// link is the way to the server, nil while there is none.
func (n *Node) link() *link {
	l := n.up.Load()
	if l == nil {
		return nil
	}
	select {
	case <-l.broken:
		return nil
	default:
		return l
	}
}

// unanswered counts a question that failed. That its asker gave up says nothing.
func (n *Node) unanswered(ctx context.Context, l *link, err error) {
	n.counts.failed.Add(1)
	if ctx.Err() == nil && l.fails.Add(1) >= mayFail {
		l.fail(err)
	}
}

// take merges a record with what this node keeps, and reports whether that is more than
// before. An error says why the record counts as nothing.
func (n *Node) take(l *link, what kind, name string, record []byte) (taken bool, err error) {
	now := time.Now()
	if what == policyKind {
		taken, err = n.takePolicy(name, record, now)
	} else {
		taken, err = n.takePin(name, record, now)
	}
	if isForeign(err) {
		n.counts.foreign.Add(1)
		l.said.Do(func() {
			n.cfg.Log.Warn("fleet: the shared store has records that are not this fleet's; they are ignored", "place", n.cfg.Key.place(what, name), "error", err)
		})
	}
	if taken {
		n.counts.taken.Add(1)
	}
	return taken, err
}

func (n *Node) takePolicy(domain string, record []byte, now time.Time) (taken bool, err error) {
	other, err := n.cfg.Key.readPolicy(domain, record, now)
	if err != nil {
		return false, err
	}
	n.cfg.Store.Update(domain, func(old mtasts.Cached, found bool) (mtasts.Cached, bool) {
		var next mtasts.Cached
		if next, taken = n.cfg.Key.mergePolicy(old, found, other, now); !taken {
			return old, found
		}
		return next, true
	})
	return taken, nil
}

func (n *Node) takePin(host string, record []byte, now time.Time) (taken bool, err error) {
	other, err := n.cfg.Key.readPin(host, record, now)
	if err != nil {
		return false, err
	}
	if _, found, err := n.cfg.Store.Pin(host); err == nil && !found && n.crowded() {
		return false, nil
	}
	err = n.cfg.Store.UpdatePin(host, func(old signal.Pin, found bool) (signal.Pin, bool) {
		var next signal.Pin
		if next, taken = n.cfg.Key.mergePin(old, found, &other, now); !taken {
			return old, found
		}
		return next, true
	})
	if err != nil {
		// There is no room: it is as if nobody had told.
		return false, nil
	}
	return taken, nil
}

// crowded reports whether there are so many pins here that no more are taken from others.
func (n *Node) crowded() bool {
	pins, err := n.cfg.Store.Pins()
	return err != nil || len(pins) >= maxPins
}

// PublishPolicy tells the others of a policy that this node fetched. It does not wait.
func (n *Node) PublishPolicy(c mtasts.Cached) {
	if n != nil && n.cfg.Policies {
		n.publish(n.policyNote(c))
	}
}

// PublishPin tells the others of a pin that this node learned. It does not wait.
func (n *Node) PublishPin(p signal.Pin) {
	if n != nil && n.cfg.Pins {
		n.publish(n.pinNote(&p))
	}
}

// RemovePin ends a host's pin here, by the operator's word, and takes it from the shared
// store. What others saw before does not bring it back, but to them it goes on to hold. The
// error is that of the store.
func (n *Node) RemovePin(host string) error {
	now := time.Now()
	err := n.cfg.Store.UpdatePin(host, func(old signal.Pin, found bool) (signal.Pin, bool) {
		old.Seen, old.Until = now, now
		return old, found
	})
	if err == nil {
		n.publish(note{place: n.cfg.Key.place(pinKind, host)})
	}
	return err
}

func (n *Node) policyNote(c mtasts.Cached) note {
	return note{n.cfg.Key.place(policyKind, c.Domain), n.cfg.Key.writePolicy(c), lifeTo(c.Expires())}
}

func (n *Node) pinNote(p *signal.Pin) note {
	return note{n.cfg.Key.place(pinKind, p.Host), n.cfg.Key.writePin(p), lifeTo(p.Until)}
}

// lifeTo is how long a record lies there.
func lifeTo(end time.Time) time.Duration { return max(time.Until(end), time.Second) }

// publish queues a note. Where the server is away it is of no use: once it is back, all
// that this node knows is looked through.
func (n *Node) publish(p note) {
	if n.link() == nil {
		n.counts.dropped.Add(1)
		return
	}
	select {
	case n.queue <- p:
	default:
		n.counts.dropped.Add(1)
	}
}

// Run keeps the server within reach until ctx ends.
func (n *Node) Run(ctx context.Context) {
	if n == nil {
		return
	}
	pause := leastPause
	for ctx.Err() == nil {
		began := time.Now()
		err := n.connected(ctx)
		if ctx.Err() != nil {
			return
		}
		n.say(err)
		if time.Since(began) > steady {
			pause = leastPause
		}
		wait(ctx, pause/2+rand.N(pause/2))
		pause = min(2*pause, longestPause)
	}
}

// connected connects, and returns why it could not, or does not any longer.
func (n *Node) connected(ctx context.Context) error {
	x, err := n.reach(ctx)
	if err != nil {
		return err
	}
	defer x.close()
	l := &link{exchange: x, broken: make(chan struct{})}
	n.counts.connected.Add(1)
	n.say(nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	for _, work := range []func(context.Context, *link){n.write, n.walk, n.pull} {
		all.Go(func() { n.guarded(ctx, l, work) })
	}
	n.up.Store(l)
	select {
	case <-l.broken:
	case <-ctx.Done():
	}
	n.up.Store(nil)
	cancel()
	all.Wait()
	l.fail(ctx.Err())
	return l.why
}

// reach connects, and has one answer in the time that a question has.
func (n *Node) reach(ctx context.Context) (exchange, error) {
	x, err := n.cfg.connect(ctx)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if _, err := x.get(bounded, []string{n.cfg.Key.space()}); err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

// say keeps what is wrong, nil for nothing, and writes it where that is news.
func (n *Node) say(err error) {
	n.mu.Lock()
	before := n.said
	n.problem, n.said = "", withinReach
	if err != nil {
		n.problem, n.said = err.Error(), outOfReach
	}
	now := n.said
	n.mu.Unlock()
	switch {
	case now == before:
	case err == nil:
		n.cfg.Log.Info("fleet: the shared store is within reach", "server", n.cfg.Server.String(), "authenticated", n.cfg.Key.Authentic())
	default:
		n.cfg.Log.Warn("fleet: the shared store is out of reach; this node goes on with what it knows itself", "server", n.cfg.Server.String(), "error", err)
	}
}

// write writes what is queued.
func (n *Node) write(ctx context.Context, l *link) {
	for {
		var notes []note
		select {
		case p := <-n.queue:
			notes = append(notes, p)
		case <-ctx.Done():
			return
		}
	more:
		for len(notes) < atOnce {
			select {
			case p := <-n.queue:
				notes = append(notes, p)
			default:
				break more
			}
		}
		if !n.put(ctx, l, notes) {
			return
		}
	}
}

// put writes notes, and reports whether that worked; else the link has ended.
func (n *Node) put(ctx context.Context, l *link, notes []note) bool {
	for len(notes) > 0 {
		some := notes[:min(len(notes), atOnce)]
		notes = notes[len(some):]
		bounded, cancel := context.WithTimeout(ctx, workTime)
		err := l.put(bounded, some)
		cancel()
		if err != nil {
			n.counts.dropped.Add(uint64(len(some)))
			l.fail(err)
			return false
		}
		n.counts.published.Add(uint64(len(some)))
	}
	return true
}

// wait lets time pass, unless ctx ends.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
