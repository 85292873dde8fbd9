package milterd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d--j/go-milter"

	"tlsverdict/internal/nexthop"
	"tlsverdict/postfixmap"
)

// TestSurvivesAThousandConnections: all open at once, each with a message of its own
// under way, and each recipient gets the answer that is his.
func TestSurvivesAThousandConnections(t *testing.T) {
	const crowd = 1000
	s, l := serve(t, settings(t, internet(), Reject))
	all := make([]*mta, crowd)
	for i := range all {
		all[i] = connect(t, l)
	}
	if g := s.guardStats(); g.Open != crowd {
		t.Errorf("%d connections are open", g.Open)
	}
	var mail sync.WaitGroup
	for i, m := range all {
		mail.Go(func() {
			if got := words(m.Mail("a@legal.example.com", "")); got != "continue" {
				t.Errorf("MAIL gets %q", got)
			}
			for n := range 4 {
				name, want := "sts.example", "continue"
				if (i+n)%2 == 0 {
					name, want = fmt.Sprintf("plain-%d.example", i), "550 5.7.10 mail to plain-"+fmt.Sprint(i)
				}
				m.bag.Set(milter.MacroRcptMailer, "smtp")
				m.bag.Set(milter.MacroRcptHost, name)
				if got := words(m.Rcpt("b@"+name, "")); !strings.HasPrefix(got, want) {
					t.Errorf("%s gets %q, want %q", name, got, want)
				}
			}
		})
	}
	mail.Wait()
	for _, m := range all {
		m.end("accept")
	}
	if n := s.counters.rejected.Load(); n != 2*crowd {
		t.Errorf("%d refused", n)
	}
}

// TestSurvivesGarbage: peers that send anything at all, while a mail server beside them
// is served.
func TestSurvivesGarbage(t *testing.T) {
	s, l := serve(t, settings(t, internet(), Reject))
	m := connect(t, l)
	random := rand.New(rand.NewPCG(1, 2))
	var peers sync.WaitGroup
	for i := range 300 {
		junk := make([]byte, 1+random.IntN(2000))
		for n := range junk {
			junk[n] = byte(random.Uint32())
		}
		switch i % 3 {
		case 1:
			junk = append(hello(), junk...)
		case 2:
			// Whole packets of known commands, with anything in them.
			code := "ABCDEHKLMNOQRTU"[random.IntN(15)]
			junk = append(hello(), packet(code, string(junk))...)
		}
		peers.Go(func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = c.Write(junk)
			_ = c.(*net.TCPConn).CloseWrite()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a peer that sent garbage and left: %v", err)
			}
		})
		if i%10 == 0 {
			m.mail("a@legal.example.com", "")
			m.rcpt("b@plain.example", "smtp", "plain.example", "550 5.7.10")
			m.rcpt("b@sts.example", "smtp", "sts.example", "continue")
			m.end("accept")
		}
	}
	peers.Wait()
	if n := s.counters.panics.Load(); n != 0 {
		t.Errorf("%d panics", n)
	}
}

// inBubble serves connections in memory, under a virtual clock.
func inBubble(t *testing.T, set *Settings, test func(t *testing.T, s *Server, l peers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newPeers()
		s := New(Options{Settings: set, MaxConnections: 100, Log: quiet()})
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		test(t, s, l)
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if open := s.guardStats().Open; open != 0 {
			t.Errorf("%d connections are left", open)
		}
	})
}

// TestSurvivesSlowMTAs: one that never speaks, one that speaks byte by byte, and one that
// never reads its answers are left in time, and hold nobody else up.
func TestSurvivesSlowMTAs(t *testing.T) {
	inBubble(t, settings(t, internet(), Reject), func(t *testing.T, s *Server, l peers) {
		start := time.Now()
		ended := make(chan string, 3)
		silent, dribbling, deaf := l.join(), l.join(), l.join()
		var all sync.WaitGroup
		all.Go(func() {
			_, _ = io.Copy(io.Discard, silent)
			ended <- fmt.Sprintf("silent after %v", time.Since(start))
		})
		all.Go(func() {
			go func() { _, _ = io.Copy(io.Discard, dribbling) }()
			for _, b := range bytes.Repeat(packet('H', "dribble\x00"), 9) {
				if _, err := dribbling.Write([]byte{b}); err != nil {
					break
				}
				<-time.After(20 * time.Second)
			}
			ended <- fmt.Sprintf("dribbling after %v", time.Since(start).Round(20*time.Second))
		})
		all.Go(func() {
			// It asks for the negotiation and does not read the answer.
			write(t, deaf, hello())
			<-time.After(time.Hour)
			if _, err := deaf.Write(hello()); err == nil {
				t.Error("one that does not read is still there after an hour")
			}
			ended <- "deaf"
		})
		beside := l.join()
		write(t, beside, hello())
		readPacket(t, beside)
		write(t, beside, packet('M', "<a@legal.example.com>\x00"))
		write(t, beside, packet('D', "R{rcpt_mailer}\x00smtp\x00{rcpt_host}\x00plain.example\x00"))
		write(t, beside, packet('R', "<b@plain.example>\x00"))
		if code, data := readPacket(t, beside); code != 'y' || !strings.HasPrefix(string(data), "550 5.7.10") {
			t.Errorf("the one beside gets %q %q", code, data)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the one beside waited for %v", took)
		}
		beside.Close()
		all.Wait()
		for _, want := range []string{"silent after " + helloTime.String(), "dribbling after 40s", "deaf"} {
			if got := <-ended; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		for _, c := range []net.Conn{silent, dribbling, deaf} {
			c.Close()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestDrainEndsInTime: a message that does not end, and a question that nobody answers
// and nobody can take back, hold a stop up to its bound and no longer.
func TestDrainEndsInTime(t *testing.T) {
	set := settings(t, nil, Reject)
	set.Deadline = time.Hour
	inBubble(t, set, func(t *testing.T, s *Server, l peers) {
		d := make(deaf)
		set.Asker = d
		asking, message := l.join(), l.join()
		for _, c := range []net.Conn{asking, message} {
			write(t, c, hello())
			readPacket(t, c)
			write(t, c, packet('M', "<a@legal.example.com>\x00"))
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
		write(t, asking, packet('D', "R{rcpt_mailer}\x00smtp\x00{rcpt_host}\x00sts.example\x00"))
		write(t, asking, packet('R', "<b@sts.example>\x00"))
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		err := s.Shutdown(ctx)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 15*time.Second+giveUpTime {
			t.Errorf("%v after %v", err, took)
		}
		asking.Close()
		message.Close()
		close(d)
	})
}

// TestAThousandRecipients: of one message, to domains with different verdicts, each gets
// his own; at RCPT, and at the end of the message.
func TestAThousandRecipients(t *testing.T) {
	set := settings(t, spread{}, Reject)
	m := start(t, set)
	refused := 0
	m.mail("a@legal.example.com", "")
	for i := range 1000 {
		to := fmt.Sprintf("d%d.example", i)
		want := "continue"
		switch i % 3 {
		case 1:
			want, refused = "550 5.7.10 mail to "+to+" must not", refused+1
		case 2:
			want = "451 4.4.3 mail to " + to + " must not"
		}
		m.rcpt("b@"+to, "smtp", to, want)
	}
	m.end("accept")
	if got := m.server.counters.rejected.Load(); got != uint64(refused) {
		t.Errorf("%d refused, want %d", got, refused)
	}
	m.mail("a@legal.example.com", "")
	for i := range 1000 {
		m.rcpt(fmt.Sprintf("b@d%d.example", i), "", "", "continue")
	}
	m.end("550 5.7.10 mail to d1.example must not leave here without TLS to a server that proves who it is: it promises no TLS; d1.example: so (and 332 more)")
}

// spread has verdicts for d0.example, d1.example and so on: secure, none, defer.
type spread struct{}

func (spread) Ask(_ context.Context, d nexthop.Destination) (Verdict, error) {
	var n int
	if _, err := fmt.Sscanf(d.Name, "d%d.example", &n); err != nil {
		return Verdict{}, ErrNoVerdict
	}
	return NewVerdict([]string{"secure", "none", "defer"}[n%3], "mta-sts")
}

func (spread) Warm(context.Context, nexthop.Destination) error { return nil }

func (spread) Why(_ context.Context, d nexthop.Destination, _ Verdict) string { return d.Name + ": so" }

// TestRestartsOfPolicydUnderLoad: while policyd is killed and comes back, again and
// again, no recipient gets an answer that is not his: the right one, or "try again".
func TestRestartsOfPolicydUnderLoad(t *testing.T) {
	first := listen(t)
	address, err := postfixmap.ParseAddress("inet:" + first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := NewPolicyd(address, quiet())
	t.Cleanup(func() { p.Close() })
	_, l := serve(t, settings(t, p, Reject))
	var (
		mail                    sync.WaitGroup
		right, deferred, rounds atomic.Int64
	)
	ended := make(chan struct{})
	for i := range 16 {
		m := connect(t, l)
		mail.Go(func() {
			for n := i; ; n++ {
				select {
				case <-ended:
					return
				default:
				}
				name, want := fmt.Sprintf("d%d.example", n%999), "continue"
				if n%3 == 1 {
					want = "550 5.7.10"
				}
				m.bag.Set(milter.MacroRcptMailer, "smtp")
				m.bag.Set(milter.MacroRcptHost, name)
				if got := words(m.Mail("a@legal.example.com", "")); got != "continue" {
					t.Errorf("MAIL gets %q", got)
					return
				}
				switch got := words(m.Rcpt("b@"+name, "")); {
				case strings.HasPrefix(got, "451 4.4.3"):
					deferred.Add(1)
				case n%3 != 2 && strings.HasPrefix(got, want):
					right.Add(1)
				default:
					t.Errorf("%s gets %q", name, got)
				}
				if err := m.Abort(nil); err != nil {
					t.Error(err)
					return
				}
				rounds.Add(1)
			}
		})
	}
	again := first
	for range 8 {
		stop := spreadPolicyd(t, again)
		until := rounds.Load() + 500
		if !within(20*time.Second, func() bool { return rounds.Load() >= until }) {
			t.Error("mail does not go on")
		}
		stop()
		// Gone for a moment, as when it starts again.
		<-time.After(30 * time.Millisecond)
		if again, err = address.Listen(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	stop := spreadPolicyd(t, again)
	close(ended)
	mail.Wait()
	stop()
	if right.Load() < 1000 {
		t.Errorf("%d right answers, %d deferred", right.Load(), deferred.Load())
	}
	t.Logf("%d right answers, %d deferred", right.Load(), deferred.Load())
}

// spreadPolicyd is a policyd with the verdicts of spread, until it is stopped as by a
// kill.
func spreadPolicyd(t *testing.T, l net.Listener) (stop func()) {
	t.Helper()
	server := &postfixmap.Server{ErrorLog: quiet(), Handler: postfixmap.HandlerFunc(
		func(ctx context.Context, req postfixmap.Request, reply []byte) []byte {
			d, err := nexthop.Parse(string(req.Key))
			if err != nil || string(req.Map) != "verdict" {
				return postfixmap.AppendTemp(reply, "not here")
			}
			v, _ := spread{}.Ask(ctx, d)
			return postfixmap.AppendOK(reply, v.Name+" source="+v.Source)
		})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), l) }()
	return func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	}
}

// within polls a condition until it holds or the time is over.
func within(limit time.Duration, holds func() bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-end.C:
			return false
		case <-tick.C:
		}
	}
	return true
}
