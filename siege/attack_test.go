package siege

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// assault is what goes on in an attacker's process. Its connections come from an
// address of their own.
type assault struct {
	ctx    context.Context
	n      int // how many at once
	made   atomic.Int64
	acted  atomic.Int64
	unit   string // what acted counts
	suffix string
}

// attack runs one by its name: os.Args are how many at once, and what else it needs.
func attack(name string) int {
	if name == "floor" {
		return floor()
	}
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	a := &assault{ctx: ctx}
	a.n, _ = strconv.Atoi(os.Args[1])
	if len(os.Args) > 2 {
		a.suffix = os.Args[2]
	}
	kind, ok := map[string]struct {
		one  func(net.Conn)
		unit string
	}{
		"idle": {a.idle, "bytes"}, "dribble": {a.dribble, "bytes"}, "garbage": {a.garbage, "bytes"},
		"churn": {a.churn, "answers"}, "deaf": {a.deaf, "questions"}, "random": {a.random, "answers"},
	}[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "siege: no such attack:", name)
		return 2
	}
	a.unit = kind.unit
	var wg sync.WaitGroup
	var first sync.WaitGroup
	first.Add(a.n)
	begin := time.Now()
	for range a.n {
		wg.Go(func() { a.soldier(kind.one, &first) })
	}
	first.Wait()
	fmt.Println("ready")
	wg.Wait()
	took := time.Since(begin).Seconds()
	fmt.Printf("%.0f connections/s, %.0f %s/s\n", float64(a.made.Load())/took, float64(a.acted.Load())/took, a.unit)
	return 0
}

// soldier keeps one connection under attack until the end.
func (a *assault) soldier(one func(net.Conn), first *sync.WaitGroup) {
	ready := sync.OnceFunc(first.Done)
	defer ready()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(attackFrom)}, Timeout: 5 * time.Second}
	for a.ctx.Err() == nil {
		c, err := d.DialContext(a.ctx, "tcp", strings.TrimPrefix(tcpAddress, "inet:"))
		ready()
		if err != nil {
			elapse(a.ctx, 10*time.Millisecond)
			continue
		}
		a.made.Add(1)
		// No TIME_WAIT: an attacker's ports must not be what ends first.
		_ = c.(*net.TCPConn).SetLinger(0)
		stop := context.AfterFunc(a.ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		one(c)
		stop()
		_ = c.Close()
	}
}

// idle holds a connection, and does not come back.
func (a *assault) idle(c net.Conn) {
	_, _ = c.Read(make([]byte, 1))
	<-a.ctx.Done()
}

// dribble sends a request one byte at a time.
func (a *assault) dribble(c net.Conn) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	text := "9000:postfix " + strings.Repeat("a", 9000)
	for i := range len(text) {
		if _, err := c.Write([]byte{text[i]}); err != nil {
			return
		}
		a.acted.Add(1)
		<-tick.C
	}
}

// garbage sends what is no request, as fast as it is taken.
func (a *assault) garbage(c net.Conn) {
	// What only fills a buffer on this side has not been sent.
	_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
	buf := make([]byte, 16<<10)
	for i := range buf {
		buf[i] = byte(rand.Uint32())
	}
	if rand.IntN(2) == 0 {
		// One that is long announced, and refused only at its end.
		copy(buf, "9999:")
	}
	for {
		n, err := c.Write(buf)
		a.acted.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// churn asks one question on each connection.
func (a *assault) churn(c net.Conn) {
	if _, err := c.Write([]byte("22:postfix 1.none.example,")); err == nil {
		_, _ = c.Read(make([]byte, 100))
		a.acted.Add(1)
	}
}

// deaf asks and asks, and never reads: in the map that its suffix names.
func (a *assault) deaf(c net.Conn) {
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	question := fmt.Sprintf("%d:%s k0.dane.example,", len(a.suffix+" k0.dane.example"), a.suffix)
	buf := []byte(strings.Repeat(question, 50))
	for {
		n, err := c.Write(buf)
		a.acted.Add(int64(n / len(question)))
		if err != nil {
			return
		}
	}
}

// random asks for names that nobody has asked for, one after the other.
func (a *assault) random(c net.Conn) {
	reply := make([]byte, 4096)
	for {
		key := fmt.Sprintf("postfix r%x.%s", rand.Uint64(), a.suffix)
		if _, err := fmt.Fprintf(c, "%d:%s,", len(key), key); err != nil {
			return
		}
		if _, err := c.Read(reply); err != nil {
			return
		}
		a.acted.Add(1)
	}
}
