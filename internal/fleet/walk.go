package fleet

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
)

const (
	// walkEvery is how long a step waits for the one before, while all is well, and
	// hurryEvery where the shared store lacks much.
	walkEvery, hurryEvery = 10 * time.Second, time.Second
	// stride is how many policies a step looks at, and pins.
	stride = 256
	// pullEvery is the least time between two readings of all that others know.
	pullEvery = 10 * time.Minute
	// pagePause is the least time between two pages of it.
	pagePause = 200 * time.Millisecond
	// maxPulled is how many records are taken in one reading, and maxSeen how many places
	// are looked at.
	maxPulled, maxSeen = 50_000, 2_000_000
)

func isForeign(err error) bool { return errors.Is(err, errForeign) }

// guarded runs a part of the work: a defect in it ends the link, not the process.
func (n *Node) guarded(ctx context.Context, l *link, work func(context.Context, *link)) {
	defer func() {
		if r := recover(); r != nil {
			n.cfg.Log.Error("a defect in tlsverdict spoils the work with the shared store", "panic", r, "stack", string(debug.Stack()))
			l.fail(fmt.Errorf("fleet: internal error: %v", r))
		}
	}()
	work(ctx, l)
}

// walker goes through all that this node knows, again and again.
type walker struct {
	// domain and host are where it is.
	domain, host string
	// hurry is whether it goes fast until it comes to the end.
	hurry bool
	// dropped is how many notes the node had dropped when the walk began.
	dropped uint64
}

// again begins anew.
func (w *walker) again(hurry bool, dropped uint64) {
	*w = walker{hurry: hurry, dropped: dropped}
}

// walk writes what the shared store lacks, and takes what is newer there. It begins in a
// hurry, since the server may have lost everything while it was away.
func (n *Node) walk(ctx context.Context, l *link) {
	var w walker
	w.again(true, n.counts.dropped.Load())
	for {
		if err := n.step(ctx, l, &w); err != nil {
			l.fail(err)
			return
		}
		pause := walkEvery
		if w.hurry {
			pause = hurryEvery
		}
		if !wait(ctx, pause) {
			return
		}
		bounded, cancel := context.WithTimeout(ctx, workTime)
		err := l.check(bounded)
		cancel()
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// step looks at the next policies and pins.
func (n *Node) step(ctx context.Context, l *link, w *walker) error {
	mine, end, err := n.next(w)
	if err != nil {
		// The store says by itself what is wrong with it.
		return nil
	}
	lacking := 0
	for len(mine) > 0 {
		some := mine[:min(len(mine), atOnce)]
		mine = mine[len(some):]
		k, err := n.compare(ctx, l, some)
		if err != nil {
			return err
		}
		lacking += k
	}
	dropped := n.counts.dropped.Load()
	switch lost := lacking >= stride/2 || dropped != w.dropped; {
	case lost && !w.hurry:
		// It was wiped, or not told of everything: from the beginning.
		w.again(true, dropped)
	case end:
		w.again(dropped != w.dropped, dropped)
	}
	return nil
}

// known is something that this node knows.
type known struct {
	what kind
	name string
	// at is when it was learned, or, of a pin, its end: what is later is newer.
	at time.Time
	// note is what is written, unless mute.
	note note
	mute bool
}

// next returns what is to be looked at next, and whether it is the last.
func (n *Node) next(w *walker) (list []known, end bool, err error) {
	end = true
	now := time.Now()
	if n.cfg.Policies {
		policies, err := n.cfg.Store.Policies(w.domain, stride)
		if err != nil {
			return nil, false, err
		}
		for _, c := range policies {
			w.domain = c.Domain
			list = append(list, n.knownPolicy(c, now))
		}
		end = len(policies) < stride
	}
	if n.cfg.Pins {
		pins, err := n.cfg.Store.Pins()
		if err != nil {
			return nil, false, err
		}
		taken := 0
		for i := range pins {
			if pins[i].Host <= w.host {
				continue
			}
			if taken == stride {
				return list, false, nil
			}
			taken++
			w.host = pins[i].Host
			list = append(list, n.knownPin(&pins[i], now))
		}
	}
	return list, end, nil
}

// knownPolicy is a policy as it is compared. What nobody vouched for is not passed on, and
// has no id: see mergePolicy.
func (n *Node) knownPolicy(c mtasts.Cached, now time.Time) known {
	k := known{what: policyKind, name: c.Domain, at: c.Fetched, note: n.policyNote(c)}
	k.mute = !c.Fresh(now) || !n.cfg.Key.Authentic() && c.ID == ""
	return k
}

func (n *Node) knownPin(p *signal.Pin, now time.Time) known {
	k := known{what: pinKind, name: p.Host, at: p.Until, note: n.pinNote(p)}
	k.mute = !p.Holds(now) || p.String() == ""
	return k
}

// compare looks at what the shared store has of some things, and returns how many it
// lacks. What it has older is written, what it has newer is taken.
func (n *Node) compare(ctx context.Context, l *link, mine []known) (lacking int, err error) {
	places := make([]string, len(mine))
	for i := range mine {
		places[i] = mine[i].note.place
	}
	records, err := n.fetch(ctx, l, places)
	if err != nil {
		return 0, err
	}
	var notes []note
	for i, record := range records {
		m := &mine[i]
		older := record == nil
		if record != nil {
			at, err := n.age(m, record)
			if older = err != nil || at.Before(m.at.Truncate(time.Second)); !older || isForeign(err) {
				n.takeRaised(l, m.what, m.name, record)
			}
		}
		if older && !m.mute {
			notes = append(notes, m.note)
			if record == nil {
				lacking++
			}
		}
	}
	if len(notes) > 0 && !n.put(ctx, l, notes) {
		return 0, l.why
	}
	n.counts.healed.Add(uint64(len(notes)))
	return lacking, nil
}

// age returns the time of a record by which it is compared.
func (n *Node) age(m *known, record []byte) (time.Time, error) {
	now := time.Now()
	if m.what == policyKind {
		c, err := n.cfg.Key.readPolicy(m.name, record, now)
		return c.Fetched, err
	}
	p, err := n.cfg.Key.readPin(m.name, record, now)
	return p.Until, err
}

// fetch reads places in the background.
func (n *Node) fetch(ctx context.Context, l *link, places []string) ([][]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	return l.get(bounded, places)
}

// takeRaised takes a record that nobody asked for, and tells of it where it is news.
func (n *Node) takeRaised(l *link, what kind, name string, record []byte) bool {
	taken, err := n.take(l, what, name, record)
	raised := n.cfg.RaisedPolicy
	if what == pinKind {
		raised = n.cfg.RaisedPin
	}
	if taken && err == nil && raised != nil {
		raised(name)
	}
	return taken
}

// pull reads what other nodes know and this one does not. Without a key it does not: there
// would be no end of what a stranger can have it take.
func (n *Node) pull(ctx context.Context, l *link) {
	if !n.cfg.Key.Authentic() || !n.pullDue() {
		return
	}
	seen, taken := 0, 0
	err := l.scan(ctx, n.cfg.Key.space(), func(places []string) bool {
		seen += len(places)
		got, err := n.pullPage(ctx, l, places)
		if err != nil {
			l.fail(err)
			return false
		}
		taken += got
		return seen < maxSeen && taken < maxPulled && wait(ctx, pagePause)
	})
	if err != nil {
		l.fail(err)
		n.mu.Lock()
		n.pulled = time.Time{}
		n.mu.Unlock()
		return
	}
	n.cfg.Log.Debug("fleet: what other nodes know was read", "seen", seen, "taken", taken)
}

func (n *Node) pullDue() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if !n.pulled.IsZero() && now.Sub(n.pulled) < pullEvery {
		return false
	}
	n.pulled = now
	return true
}

// pullPage reads those of some places of which this node knows nothing that holds.
func (n *Node) pullPage(ctx context.Context, l *link, places []string) (taken int, err error) {
	var wanted []known
	for _, place := range places {
		if what, name, ok := n.cfg.Key.named(place); ok && n.wants(what, name) {
			wanted = append(wanted, known{what: what, name: name, note: note{place: place}})
		}
	}
	for len(wanted) > 0 {
		some := wanted[:min(len(wanted), atOnce)]
		wanted = wanted[len(some):]
		names := make([]string, len(some))
		for i := range some {
			names[i] = some[i].note.place
		}
		records, err := n.fetch(ctx, l, names)
		if err != nil {
			return taken, err
		}
		for i, record := range records {
			if record != nil && n.takeRaised(l, some[i].what, some[i].name, record) {
				taken++
			}
		}
	}
	return taken, nil
}

// wants reports whether this node knows nothing that holds of a name.
func (n *Node) wants(what kind, name string) bool {
	now := time.Now()
	if what == policyKind {
		c, found, err := n.cfg.Store.Policy(name)
		return n.cfg.Policies && err == nil && !(found && c.Fresh(now))
	}
	p, found, err := n.cfg.Store.Pin(name)
	return n.cfg.Pins && err == nil && !(found && p.Holds(now))
}
