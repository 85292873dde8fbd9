package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"tlsverdict/postfixmap"
)

// load is a crowd of clients that ask again as soon as they have their answer.
type load struct {
	conns, depth int
	// domains are asked for, all of them equally often.
	domains int
	// settle and measure are how long it runs unmeasured and measured.
	settle, measure time.Duration
	// pick says which domain is asked for in place of the i-th; nil is that one itself.
	pick func(i int) int
}

// outcome is what one round of a load brought.
type outcome struct {
	requests int
	elapsed  time.Duration
	latency  histogram
	// cpu is the server's.
	cpu time.Duration
}

// rate is in requests a second.
func (o *outcome) rate() float64 { return float64(o.requests) / o.elapsed.Seconds() }

// cost is the server's processor time for a request.
func (o *outcome) cost() time.Duration { return o.cpu / time.Duration(max(o.requests, 1)) }

// appendQuestion appends the question for a domain to a pipeline.
func appendQuestion(dst []byte, key string) []byte {
	dst = strconv.AppendInt(dst, int64(len("postfix ")+len(key)), 10)
	dst = append(append(dst, ":postfix "...), key...)
	return append(dst, ',')
}

// appendDomainQuestion is appendQuestion for a domain of the population.
func appendDomainQuestion(dst []byte, i int) []byte {
	return append(appendDomain(append(dst, "35:postfix "...), i), ',')
}

// askOnce asks one question on a connection of its own.
func askOnce(a address, key string) (string, error) {
	c, err := net.Dial(a.network, a.name)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(appendQuestion(nil, key)); err != nil {
		return "", err
	}
	reply, err := postfixmap.NewReader(c, postfixmap.MaxReply).Next()
	return string(reply), err
}

// run puts a load on a server and measures it.
func (l load) run(ctx context.Context, p *process, a address) (*outcome, error) {
	total := new(outcome)
	clients := make([]*client, l.conns)
	for i := range clients {
		c, err := dialClient(ctx, a)
		if err != nil {
			return nil, err
		}
		defer c.conn.Close()
		c.next = i * l.domains / l.conns
		clients[i] = c
	}
	if _, err := l.phase(clients, l.settle); err != nil {
		return nil, err
	}
	before, start := p.cpu(), time.Now()
	n, err := l.phase(clients, l.measure)
	if err != nil {
		return nil, err
	}
	total.elapsed, total.cpu, total.requests = time.Since(start), p.cpu()-before, n
	for _, c := range clients {
		total.latency.add(&c.latency)
	}
	return total, nil
}

// phase lets all clients ask for a while and returns how often they did.
func (l load) phase(clients []*client, d time.Duration) (int, error) {
	until := time.Now().Add(d)
	errs := make([]error, len(clients))
	done := make([]int, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			c.latency = histogram{}
			done[i], errs[i] = c.ask(l, until)
		})
	}
	wg.Wait()
	n := 0
	for i := range clients {
		if errs[i] != nil {
			return 0, errs[i]
		}
		n += done[i]
	}
	return n, nil
}

// client is one connection.
type client struct {
	conn    net.Conn
	replies *postfixmap.Reader
	wire    []byte
	next    int
	latency histogram
}

func dialClient(ctx context.Context, a address) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, a.network, a.name)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, replies: postfixmap.NewReader(conn, postfixmap.MaxReply)}, nil
}

// stride is prime to every number of domains, so that all of them are asked for in an
// order that is none.
const stride = 7919

func (l load) domain(i int) int {
	if l.pick == nil {
		return i
	}
	return l.pick(i)
}

// ask asks until a time, depth questions at once.
func (c *client) ask(l load, until time.Time) (n int, err error) {
	for now := time.Now(); now.Before(until); {
		c.wire = c.wire[:0]
		for range l.depth {
			c.wire = appendDomainQuestion(c.wire, l.domain(c.next))
			c.next = (c.next + stride) % l.domains
		}
		if _, err := c.conn.Write(c.wire); err != nil {
			return n, err
		}
		began := now
		for range l.depth {
			reply, err := c.replies.Next()
			if err != nil {
				return n, err
			}
			if bytes.HasPrefix(reply, []byte("TEMP")) {
				return n, fmt.Errorf("%w: %s", errReply, reply)
			}
			now = time.Now()
			c.latency.record(now.Sub(began))
			n++
		}
	}
	return n, nil
}

// teach asks for domains from first up to end, each once, so that a server knows them.
// What was answered is counted by its first word, "OK dane-only" by both.
func teach(ctx context.Context, a address, first, end, conns int) (map[string]int, error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = make(map[string]int)
		bad  error
	)
	for i := range conns {
		wg.Go(func() {
			mine, err := teachSome(ctx, a, first+i, end, conns)
			mu.Lock()
			defer mu.Unlock()
			for word, n := range mine {
				seen[word] += n
			}
			if err != nil {
				bad = err
			}
		})
	}
	wg.Wait()
	return seen, bad
}

func teachSome(ctx context.Context, a address, first, end, step int) (map[string]int, error) {
	seen := make(map[string]int)
	c, err := dialClient(ctx, a)
	if err != nil {
		return seen, err
	}
	defer c.conn.Close()
	for i := first; i < end; i += step {
		c.wire = appendDomainQuestion(c.wire[:0], i)
		if _, err := c.conn.Write(c.wire); err != nil {
			return seen, err
		}
		reply, err := c.replies.Next()
		if err != nil {
			return seen, err
		}
		words := bytes.Fields(reply)
		if bytes.Equal(words[0], []byte("TEMP")) {
			return seen, fmt.Errorf("%w to %s: %s", errReply, domain(i), reply)
		}
		seen[string(bytes.Join(words[:min(2, len(words))], []byte(" ")))]++
	}
	return seen, nil
}
