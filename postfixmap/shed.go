package postfixmap

import (
	"container/heap"
	"time"
)

// Who is shed, and how a request stays out of it.
//
// Each connection says what it is doing in one atomic word of its own: idle since when, inside a
// request since when, or busy. It changes the word twice a request and touches nothing shared.
// The heap by which the longest-idle connection is found is therefore out of date, but only in
// one direction: a connection in it is idle since its key or later. So shed takes the top, moves
// it down when the word says something later, and closes it when the word agrees. Each such move
// was paid for by a request served since; a search costs O(log n) a move.
//
// A connection that is not idle is set aside: shed marks its word and takes it out of the heap.
// When it next changes its word it finds the mark, and goes back into the heap by itself, under
// the lock, that one time. So a crowd of busy connections is not searched again and again.

// The states of a connection: the three low bits of its word. The fourth is the mark, the rest
// the time.
const (
	stateIdle    = iota // no byte of a request has come since the time
	statePartial        // the first byte of an unfinished request came at the time
	stateUnread         // replies are being written since the time
	stateBusy           // a handler is at work
	stateShed           // taken away: its goroutine must leave and answer nothing more

	stateKind  = 7
	stateMark  = 1 << 3
	stateShift = 4
)

func stateWord(kind uint64, at time.Duration) uint64 { return uint64(at)<<stateShift | kind }

func stateTime(word uint64) time.Duration { return time.Duration(word >> stateShift) }

// move changes what the connection is doing. It returns false when it has been taken away: then
// nothing may be answered any more.
func (c *conn) move(word uint64) bool {
	for {
		old := c.state.Load()
		if old&stateKind == stateShed {
			return false
		}
		if !c.state.CompareAndSwap(old, word) {
			continue
		}
		if old&stateMark != 0 {
			c.srv.comeBack(c)
		}
		return true
	}
}

// take takes the connection away if it is of the kind now.
func (c *conn) take(kind uint64) bool {
	old := c.state.Load()
	return old&stateKind == kind && c.state.CompareAndSwap(old, stateShed)
}

func (c *conn) idleSince() time.Duration { return stateTime(c.state.Load()) }

// comeBack puts a connection that was set aside among those that may be shed. Its key is now:
// whatever it does next, it is not idle since earlier.
func (s *Server) comeBack(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.conns[c]; !open {
		return
	}
	c.leaveHeap()
	c.client.idle.push(c, s.now())
	s.wake()
}

// A client is who holds connections, for shares; see clientOf. The server's mu guards it.
type client struct {
	name string
	open int
	// idle, partial and unread are those of its connections that were found so; one whose
	// handler is at work, and one that was found elsewhere, is in none.
	idle, partial, unread connHeap
}

// heap is where connections of a kind are.
func (k *client) heap(kind uint64) *connHeap {
	switch kind {
	case stateIdle:
		return &k.idle
	case statePartial:
		return &k.partial
	case stateUnread:
		return &k.unread
	}
	return nil
}

// makeRoom takes a connection away for one of the newcomer's. First those pay who have more than
// the newcomer's client, and last that client itself: so whoever opens connections without end
// cannot push out those who have few, and who is owed a place does not pay for it.
func (s *Server) makeRoom(newcomer *client) *conn {
	c := s.shed(func(k *client) bool { return k.open > newcomer.open })
	if c == nil {
		c = s.oust(newcomer)
	}
	if c == nil {
		c = s.shed(func(k *client) bool { return k == newcomer })
	}
	return c
}

func everyone(*client) bool { return true }

// shed takes away the connection that has been idle longest or, when none is idle, the one whose
// unfinished request began first or that has left its replies unread for longest: of the client
// that has most among those who pay. It returns nil when a handler is at work for each of theirs.
// mu is held; the caller closes the connection after it has let go of mu.
func (s *Server) shed(pays func(*client) bool) *conn {
	for _, kind := range []uint64{stateIdle, statePartial, stateUnread} {
		for {
			c := s.oldest(kind, pays)
			if c == nil {
				break
			}
			word := c.state.Load()
			if word&stateKind == kind && stateTime(word) <= c.key && c.state.CompareAndSwap(word, stateShed) {
				s.count.shed.Add(1)
				s.forget(c)
				return c
			}
		}
	}
	return nil
}

// oldest returns the connection that has been of a kind for longest, of the client that has most
// connections among those that have any of the kind.
func (s *Server) oldest(kind uint64, pays func(*client) bool) *conn {
	var best *conn
	for _, k := range s.clients {
		if !pays(k) {
			continue
		}
		var c *conn
		if kind == stateIdle {
			c = k.longestIdle()
		} else {
			c = s.longestWaiting(k.heap(kind), kind)
		}
		if c != nil && (best == nil || k.open > best.client.open) {
			best = c
		}
	}
	return best
}

// longestIdle brings a client's heap up to date as far as it must.
func (k *client) longestIdle() *conn {
	for k.idle.Len() > 0 {
		c := k.idle.conns[0]
		word := c.state.Load()
		at := stateTime(word)
		switch kind := word & stateKind; {
		case kind == stateShed:
			c.leaveHeap()
		case kind != stateIdle:
			if c.state.CompareAndSwap(word, word|stateMark) {
				c.leaveHeap()
				if h := k.heap(kind); h != nil {
					h.push(c, at)
				}
			}
		case at > c.key:
			c.key = at
			heap.Fix(&k.idle, c.index)
		default:
			return c
		}
	}
	return nil
}

// longestWaiting returns the connection that has waited longest for its client. What is written
// to a client that reads takes no time, so that one which is being written to is given
// AdmitTimeout.
func (s *Server) longestWaiting(h *connHeap, kind uint64) *conn {
	for h.Len() > 0 {
		c := h.conns[0]
		word := c.state.Load()
		switch {
		case word&stateKind != kind || stateTime(word) != c.key:
			// It has gone on since, and is on its way back by itself.
			c.leaveHeap()
		case kind == stateUnread && s.now()-c.key < s.AdmitTimeout:
			return nil
		default:
			return c
		}
	}
	return nil
}

// oust takes a connection with a handler at work away from the client that has most connections,
// if that has twice as many as the one that wants another would have: so a client that asks for
// all it can get leaves others their share, and two that do so leave each other in peace. The
// handler goes on, for nobody; no more of them than there may be connections. mu is held.
func (s *Server) oust(newcomer *client) *conn {
	largest := newcomer
	for _, k := range s.clients {
		if k.open > largest.open {
			largest = k
		}
	}
	if largest.open < 2*(newcomer.open+1) || s.ousted >= s.MaxConnections {
		return nil
	}
	for c := range s.conns {
		if c.client != largest || !c.take(stateBusy) {
			continue
		}
		s.count.shed.Add(1)
		c.ousted = true
		s.ousted++
		s.forget(c)
		return c
	}
	return nil
}

// A connHeap orders connections by their key, the earliest first. A connection is in one heap at
// most, and knows which.
type connHeap struct{ conns []*conn }

func (h *connHeap) push(c *conn, key time.Duration) {
	c.key = key
	c.heap = h
	heap.Push(h, c)
}

func (c *conn) leaveHeap() {
	if c.heap != nil {
		heap.Remove(c.heap, c.index)
		c.heap = nil
	}
}

// Len, Less, Swap, Push and Pop are container/heap's.
func (h *connHeap) Len() int           { return len(h.conns) }
func (h *connHeap) Less(i, j int) bool { return h.conns[i].key < h.conns[j].key }

func (h *connHeap) Swap(i, j int) {
	h.conns[i], h.conns[j] = h.conns[j], h.conns[i]
	h.conns[i].index, h.conns[j].index = i, j
}

func (h *connHeap) Push(x any) {
	c := x.(*conn)
	c.index = len(h.conns)
	h.conns = append(h.conns, c)
}

func (h *connHeap) Pop() any {
	last := len(h.conns) - 1
	c := h.conns[last]
	h.conns[last] = nil
	h.conns = h.conns[:last]
	return c
}
