package probe

import (
	"container/heap"
	"container/list"
	"time"

	"golang.org/x/net/publicsuffix"
)

// Strangers choose the hosts: one can have names without number in a domain of his own. So
// places and turns are shared out between the owners of names, by the domain that somebody
// registered. More of these cost him money.

// owner is the domain that a host's name was registered under; the name itself where there
// is none.
func owner(host string) string {
	if domain, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return domain
	}
	return host
}

// group is what is remembered of one owner's hosts. All is under Prober.mu.
type group struct {
	owner string
	size  int
	// waiting are those hosts that are not believed, with what is due first at its top.
	waiting queue
	// seen has all hosts, with the one that nobody has wanted for longest in front, as far
	// as evict found out.
	seen list.List
	// served is when one of waiting was last probed.
	served time.Time
	// sized is the place in Prober.sizes; turn in Prober.crowd, -1: it is not in there.
	sized, turn int
}

// due is when it is the group's turn: those that wait go one at a time for each owner, so
// that one with many does not keep one with few.
func (g *group) due() time.Time { return later(g.waiting[0].due, g.served) }

// crowd is a heap of the groups with hosts that wait, by turn.
type crowd []*group

func (c crowd) Len() int           { return len(c) }
func (c crowd) Less(i, j int) bool { return c[i].due().Before(c[j].due()) }
func (c crowd) Swap(i, j int) {
	c[i], c[j] = c[j], c[i]
	c[i].turn, c[j].turn = i, j
}

// Push implements heap.Interface.
func (c *crowd) Push(x any) {
	g := x.(*group)
	g.turn = len(*c)
	*c = append(*c, g)
}

// Pop implements heap.Interface.
func (c *crowd) Pop() any {
	last := len(*c) - 1
	g := (*c)[last]
	(*c)[last] = nil
	*c = (*c)[:last]
	g.turn = -1
	return g
}

// sizes is a heap of all groups, the largest at its top.
type sizes []*group

func (s sizes) Len() int           { return len(s) }
func (s sizes) Less(i, j int) bool { return s[i].size > s[j].size }
func (s sizes) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].sized, s[j].sized = i, j
}

// Push implements heap.Interface.
func (s *sizes) Push(x any) {
	g := x.(*group)
	g.sized = len(*s)
	*s = append(*s, g)
}

// Pop implements heap.Interface.
func (s *sizes) Pop() any {
	last := len(*s) - 1
	g := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return g
}

// enter remembers a host, as idle.
func (p *Prober) enter(t Target, now time.Time) *entry {
	name := owner(t.Host)
	g := p.groups[name]
	if g == nil {
		g = &group{owner: name, turn: -1}
		p.groups[name] = g
		heap.Push(&p.sizes, g)
	}
	n := &entry{target: t, group: g, stamp: now.UnixNano()}
	n.wanted.Store(n.stamp)
	n.seen = g.seen.PushBack(n)
	g.size++
	heap.Fix(&p.sizes, g.sized)
	p.known[t] = n
	p.setIdle(n)
	return n
}

// forget is the end of an entry.
func (p *Prober) forget(n *entry) {
	p.unschedule(n)
	p.setBusy(n)
	delete(p.known, n.target)
	g := n.group
	g.seen.Remove(n.seen)
	if g.size--; g.size > 0 {
		heap.Fix(&p.sizes, g.sized)
		return
	}
	heap.Remove(&p.sizes, g.sized)
	delete(p.groups, g.owner)
}

// setIdle notes that nobody wants a host, and setBusy that somebody does.
func (p *Prober) setIdle(n *entry) {
	if n.idle == nil {
		n.idle = p.idle.PushBack(n)
	}
}

func (p *Prober) setBusy(n *entry) {
	if n.idle != nil {
		p.idle.Remove(n.idle)
		n.idle = nil
	}
}

// settle puts a group where it belongs after its waiting hosts have changed.
func (p *Prober) settle(g *group) {
	switch {
	case len(g.waiting) == 0 && g.turn >= 0:
		heap.Remove(&p.crowd, g.turn)
	case len(g.waiting) > 0 && g.turn < 0:
		heap.Push(&p.crowd, g)
	case len(g.waiting) > 0:
		heap.Fix(&p.crowd, g.turn)
	}
}

// maxLooks bounds the search for a host to forget.
const maxLooks = 8

// evict makes room for a host: the one that became idle first is forgotten. If none is, one
// of the owner with most hosts is, if he has more than the newcomer's owner would have; among
// his, one that nobody has wanted for long.
func (p *Prober) evict(t Target) bool {
	if first := p.idle.Front(); first != nil {
		p.forget(first.Value.(*entry))
		return true
	}
	newcomers := 1
	if g := p.groups[owner(t.Host)]; g != nil {
		newcomers += g.size
	}
	largest := p.sizes[0]
	if largest.size <= newcomers {
		return false
	}
	var victim *entry
	for range min(maxLooks, largest.size) {
		n := largest.seen.Front().Value.(*entry)
		wanted := n.wanted.Load()
		if !n.running {
			victim = n
			if wanted == n.stamp {
				break
			}
		}
		n.stamp = wanted
		largest.seen.MoveToBack(n.seen)
	}
	if victim == nil {
		return false
	}
	p.forget(victim)
	return true
}
