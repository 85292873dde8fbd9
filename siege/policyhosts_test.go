package siege

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPolicyHosts: hundreds of domains whose policy host wastes time, memory or
// connections cost no more of each than is bounded, their askers are answered in time,
// and other clients' domains get their policies meanwhile.
func TestPolicyHosts(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	for name, how := range map[string]manner{
		"silent after the handshake of TCP": tarpit, "a header byte now and then": dripping, "a body without end": endless,
		"headers without end": headers, "redirects to itself": redirects, "resets": resets, "a body byte now and then": slowBody,
	} {
		t.Run(name, func(t *testing.T) {
			serveDNS(t)
			servePolicies(t)
			bad := badHosts(t)
			bad.manner.Store(int32(how))
			d := launch(t, settings{sts: "timeout = \"2s\"", socketmap: "deadline = \"4s\""})
			keys := known(10)
			d.learn(keys)
			before := d.peak()
			n := short(150, 500)
			stop := make(chan struct{})
			most := mostConnections(t, stop)
			asking := d.askAll("bad%d.sts.example", n)
			other := make(chan time.Duration)
			go func() {
				begin := time.Now()
				d.learn(policies("good", 10))
				other <- time.Since(begin)
			}()
			under := population{clients: 4, pause: 10 * time.Millisecond, keys: keys}.lasting(t.Context(), 2*time.Second)
			good, slowest := <-other, <-asking
			close(stop)
			held := <-most
			under.intact(t, "what is known")
			figure(t, "%s: %d domains: the last was answered after %v; known: %v; 10 good policies of another client after %v; %d connections at once, %d in all, %d kB taken; peak %d MB, %d before",
				name, n, slowest.Round(10*time.Millisecond), under, good.Round(10*time.Millisecond), held, bad.accepted.Load(), bad.sent.Load()>>10, d.peak(), before)
			if slowest > 8*time.Second {
				t.Errorf("an asker waited %v", slowest)
			}
			if good > 3*time.Second {
				t.Errorf("good policies took %v", good)
			}
			if held > 64 {
				t.Errorf("%d connections at once, more than 64", held)
			}
			if d.peak() > before+100 {
				t.Errorf("%d MB, %d before", d.peak(), before)
			}
		})
	}
}

// askAll asks for n domains at once as the attackers' address, and tells how long the
// last answer took.
func (d *daemon) askAll(format string, n int) <-chan time.Duration {
	from := population{from: attackFrom}
	slowest := make(chan time.Duration, 1)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range n {
		wg.Go(func() {
			got, err := from.ask(d.t.Context(), fmt.Sprintf(format, i))
			if err != nil || len(got) > 2 && got[:2] == "OK" {
				d.t.Errorf(format+": %q, %v", i, got, err)
			}
		})
	}
	go func() {
		wg.Wait()
		slowest <- time.Since(begin)
	}()
	return slowest
}

// mostConnections watches how many connections the daemon has to the bad policy hosts,
// until stop is closed. The kernel's table is asked, since those hosts learn late that
// one was given up.
func mostConnections(t *testing.T, stop <-chan struct{}) <-chan int {
	const established = " 0300007F:01BB 01 "
	result := make(chan int, 1)
	go func() {
		most := 0
		for {
			select {
			case <-stop:
				result <- most
				return
			default:
				elapse(t.Context(), 20*time.Millisecond)
			}
			data, err := os.ReadFile("/proc/net/tcp")
			if err != nil {
				t.Error(err)
			}
			most = max(most, strings.Count(string(data), established))
		}
	}()
	return result
}
