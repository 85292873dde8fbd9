package siege

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tlsverdict/postfixmap"
)

// latencies are what well-behaved clients saw.
type latencies struct {
	asked, lost int
	wrong       []string
	took        []time.Duration
}

// at returns a quantile.
func (l *latencies) at(q float64) time.Duration {
	if len(l.took) == 0 {
		return time.Hour
	}
	slices.Sort(l.took)
	return l.took[min(len(l.took)-1, int(q*float64(len(l.took))))]
}

func (l *latencies) String() string {
	return fmt.Sprintf("%d questions, p50 %v, p99 %v, worst %v, %d not answered", l.asked,
		l.at(0.5).Round(10*time.Microsecond), l.at(0.99).Round(10*time.Microsecond), l.at(1).Round(10*time.Microsecond), l.lost)
}

// known are keys whose verdict the daemon has, and what it must answer.
func known(n int) map[string]string {
	keys := make(map[string]string)
	for i := range n {
		keys[fmt.Sprintf("k%d.none.example", i)] = "NOTFOUND "
		keys[fmt.Sprintf("k%d.dane.example", i)] = "OK dane-only"
		keys[fmt.Sprintf("k%d.own.example", i)] = "OK dane-only"
		name := fmt.Sprintf("k%d.sts.example", i)
		keys[name] = stsLine(name)
	}
	return keys
}

// learn asks for every key until the answer is what it must be.
func (d *daemon) learn(keys map[string]string) {
	d.t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Bool
	slots := make(chan struct{}, 16)
	for key, want := range keys {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var got string
			var err error
			if !eventually(d.t.Context(), 70*time.Second, func() bool {
				got, err = d.ask("postfix", key)
				return err == nil && got == want
			}) {
				failed.Store(true)
				d.t.Errorf("%s: %q, %v; want %q", key, got, err, want)
			}
		})
	}
	wg.Wait()
	if failed.Load() {
		d.t.Fatalf("the daemon does not work even in peace:\n%s", d.tail(15))
	}
}

// population is some clients who ask as MTAs do: each on a connection of its own, one
// question after the other with a pause, on a new connection where the old one is gone.
type population struct {
	clients int
	pause   time.Duration
	keys    map[string]string
	// at is who is asked; "" is the daemon.
	at string
	// from is the clients' address, "" for any.
	from string
	// fresh makes a new connection for each question.
	fresh bool
	// unknown, where it is set, is a zone without policies: then each question is for a
	// name there that nobody has asked for, and keys are not used.
	unknown string
	// patience is how long an answer may take; 0: 5 s.
	patience time.Duration
}

// during asks until stop is closed, and returns what was seen.
func (p population) during(ctx context.Context) *latencies {
	var (
		mu  sync.Mutex
		all latencies
		wg  sync.WaitGroup
	)
	names := make([]string, 0, len(p.keys))
	for name := range p.keys {
		names = append(names, name)
	}
	slices.Sort(names)
	for i := range p.clients {
		wg.Go(func() {
			mine := p.one(ctx, names, i)
			mu.Lock()
			defer mu.Unlock()
			all.asked += mine.asked
			all.lost += mine.lost
			all.wrong = append(all.wrong, mine.wrong...)
			all.took = append(all.took, mine.took...)
		})
	}
	wg.Wait()
	return &all
}

// lasting asks for a while.
func (p population) lasting(ctx context.Context, d time.Duration) *latencies {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return p.during(ctx)
}

func (p population) one(ctx context.Context, names []string, i int) latencies {
	var l latencies
	patience := p.patience
	if patience == 0 {
		patience = 5 * time.Second
	}
	c := &postfixmap.Client{Timeout: patience, IdleTimeout: time.Minute, DialFunc: p.dial}
	defer func() { _ = c.Close() }()
	tick := time.NewTicker(p.pause)
	defer tick.Stop()
	for n := i; ; n++ {
		select {
		case <-ctx.Done():
			return l
		case <-tick.C:
		}
		key, want := p.next(names, n)
		if p.fresh {
			_ = c.Close()
			c = &postfixmap.Client{Timeout: patience, DialFunc: p.dial}
		}
		begin := time.Now()
		reply, err := c.Lookup(context.WithoutCancel(ctx), "postfix", key)
		l.asked++
		l.took = append(l.took, time.Since(begin))
		switch got := reply.Status.String() + " " + string(reply.Data); {
		case err != nil:
			l.lost++
			if len(l.wrong) < 5 {
				l.wrong = append(l.wrong, fmt.Sprintf("%s: %v", key, err))
			}
		case got != want:
			l.wrong = append(l.wrong, fmt.Sprintf("%s: %q", key, got))
		}
	}
}

// next is the question after so many.
func (p population) next(names []string, n int) (key, want string) {
	if p.unknown != "" {
		return fmt.Sprintf("c%x.%s", rand.Uint64(), p.unknown), "NOTFOUND "
	}
	key = names[n*7919%len(names)]
	return key, p.keys[key]
}

// ask asks one question.
func (p population) ask(ctx context.Context, key string) (string, error) {
	c := &postfixmap.Client{Timeout: 30 * time.Second, DialFunc: p.dial}
	defer func() { _ = c.Close() }()
	reply, err := c.Lookup(ctx, "postfix", key)
	if err != nil {
		return "", err
	}
	return reply.Status.String() + " " + string(reply.Data), nil
}

// dial connects as Postfix does, which waits while the queue of new connections is full.
func (p population) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{}
	if p.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(p.from)}
	}
	at := p.at
	if at == "" {
		at = strings.TrimPrefix(tcpAddress, "inet:")
	}
	return d.DialContext(ctx, "tcp", at)
}

// intact fails the test where a well-behaved client got no answer or a wrong one.
func (l *latencies) intact(t *testing.T, what string) {
	t.Helper()
	if l.asked == 0 || l.lost > 0 || len(l.wrong) > 0 {
		t.Errorf("%s: %v; %q", what, l, l.wrong[:min(len(l.wrong), 5)])
	}
}

// attacker is a process that attacks.
type attacker struct {
	cmd *exec.Cmd
	out *strings.Builder
}

// attackFrom is the address that attackers have.
const attackFrom = "127.0.0.66"

// besiege starts an attack, see attack_test.go, and waits until it is under way. It
// ends with the test, or by lift.
func besiege(t *testing.T, name string, args ...any) *attacker {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	a := &attacker{cmd: exec.Command(self), out: new(strings.Builder)}
	for _, arg := range args {
		a.cmd.Args = append(a.cmd.Args, fmt.Sprint(arg))
	}
	a.cmd.Env = append(os.Environ(), attackEnv+"="+name)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	a.cmd.Stderr = os.Stderr
	stdout, err := a.cmd.StdoutPipe()
	must(t, err)
	must(t, a.cmd.Start())
	buf := make([]byte, 6)
	if _, err := stdout.Read(buf); err != nil {
		t.Fatalf("the attack %s does not begin: %v", name, err)
	}
	go func() {
		rest := make([]byte, 4096)
		for {
			n, err := stdout.Read(rest)
			a.out.Write(rest[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = a.lift() })
	return a
}

// lift ends the attack and returns what it did.
func (a *attacker) lift() string {
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	err := a.cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return "died: " + exit.Error()
	}
	return strings.TrimSpace(a.out.String())
}
