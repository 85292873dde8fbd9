package siege

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/d--j/go-milter"
)

// milterAddress is where the milter listens.
const milterAddress = "127.0.0.1:8463"

// launchMilter starts the milter beside a policyd, with one rule for all mail, and waits
// until it takes connections. It ends with the test.
func launchMilter(t *testing.T, d *daemon) *daemon {
	t.Helper()
	m := &daemon{t: t, dir: d.dir, config: filepath.Join(d.dir, "milter.toml")}
	text := fmt.Sprintf("[milter]\nlisten = [\"inet:%s\"]\nverdicts = %q\n[[require]]\nminimum = \"authenticated\"\n", milterAddress, tcpAddress)
	must(t, os.WriteFile(m.config, []byte(text), 0o644))
	binary := filepath.Join(filepath.Dir(os.Getenv(insideEnv)), "milter")
	m.cmd = exec.Command(binary, "serve", "--config", m.config)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.follow(m.cmd.Start)
	t.Cleanup(m.kill)
	listening := eventually(t.Context(), 20*time.Second, func() bool {
		c, err := net.Dial("tcp", milterAddress)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if !listening {
		t.Fatalf("the milter does not listen:\n%s", m.tail(20))
	}
	return m
}

// mailServer is an MTA that has the milter judge mail to four domains, over and over.
type mailServer struct {
	bag     *milter.MacroBag
	session *milter.ClientSession
	// asked are the recipients, waits those that were told to come back, wrong what
	// must not be.
	asked, waits int
	wrong        []string
	took         []time.Duration
}

func (s *mailServer) connect() error {
	s.bag = milter.NewMacroBag()
	var err error
	if s.session, err = milter.NewClient("tcp", milterAddress, milter.WithReadTimeout(20*time.Second)).Session(s.bag); err != nil {
		return err
	}
	if _, err = s.session.Conn("client.example", milter.FamilyInet, 4000, "192.0.2.1"); err == nil {
		_, err = s.session.Helo("client.example")
	}
	return err
}

// message has one recipient of each kind, of whom the answers are checked.
func (s *mailServer) message(n int) error {
	if _, err := s.session.Mail("a@example.com", ""); err != nil {
		return err
	}
	for kind, want := range map[string]string{"none": "550 5.7.10", "dane": "", "own": "", "sts": ""} {
		name := fmt.Sprintf("k%d.%s.example", n%20, kind)
		s.bag.Set(milter.MacroRcptMailer, "smtp")
		s.bag.Set(milter.MacroRcptHost, name)
		begin := time.Now()
		a, err := s.session.Rcpt("b@"+name, "")
		if err != nil {
			return err
		}
		s.asked++
		s.took = append(s.took, time.Since(begin))
		switch {
		case strings.HasPrefix(a.SMTPReply, "451 4.4.3"):
			s.waits++
		case want == "" && a.Type != milter.ActionContinue, want != "" && !strings.HasPrefix(a.SMTPReply, want):
			s.wrong = append(s.wrong, fmt.Sprintf("%s: %v %q", name, a.Type, a.SMTPReply))
		}
	}
	return s.end()
}

// end sends the rest of a message, which is accepted: who may not have it was refused.
func (s *mailServer) end() error {
	_, err := s.session.DataStart()
	if err == nil {
		_, err = s.session.HeaderField("Subject", "x", nil)
	}
	if err == nil {
		_, err = s.session.HeaderEnd()
	}
	if err != nil {
		return err
	}
	_, a, err := s.session.BodyReadFrom(strings.NewReader("text\r\n"))
	if err == nil && a.Type != milter.ActionAccept {
		s.wrong = append(s.wrong, fmt.Sprintf("the message: %v %q", a.Type, a.SMTPReply))
	}
	return err
}

// sendMail lets some mail servers send for a while, and fails the test for a wrong answer,
// and for a connection that is lost.
func sendMail(t *testing.T, servers int, d time.Duration) *latencies {
	t.Helper()
	var (
		mu  sync.Mutex
		wg  sync.WaitGroup
		all latencies
	)
	until := time.Now().Add(d)
	for i := range servers {
		wg.Go(func() {
			s := &mailServer{}
			err := s.connect()
			for n := i; err == nil && time.Now().Before(until); n++ {
				err = s.message(n)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("a mail server lost its milter: %v", err)
			}
			all.asked += s.asked
			all.lost += s.waits
			all.wrong = append(all.wrong, s.wrong...)
			all.took = append(all.took, s.took...)
			if s.session != nil {
				_ = s.session.Close()
			}
		})
	}
	wg.Wait()
	if len(all.wrong) > 0 || all.asked == 0 {
		t.Errorf("%d recipients; wrong: %q", all.asked, all.wrong[:min(len(all.wrong), 5)])
	}
	return &all
}

// frame is a milter packet.
func frame(code byte, data string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(data)))
	return append(append(b, code), data...)
}

// negotiation is the first packet of a Postfix.
func negotiation() []byte {
	data := binary.BigEndian.AppendUint32(nil, 6)
	data = binary.BigEndian.AppendUint32(data, 0x1ff)
	return frame('O', string(binary.BigEndian.AppendUint32(data, 0x1fffff)))
}

// strangers connect to the milter, again and again until done is closed, and do something
// with the connection, which is closed when that returns.
func strangers(done <-chan struct{}, n int, act func(net.Conn)) (wait func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				c, err := net.Dial("tcp", milterAddress)
				if err != nil {
					continue
				}
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				act(c)
				c.Close()
			}
		})
	}
	return wg.Wait
}

// TestMilter: the real milter beside the real policyd. Packets that end the library's
// process, garbage, silent connections, and a policyd that is killed again and again: mail
// servers beside keep their connections, and each recipient gets the answer that is his,
// or is told to come back while policyd is away.
func TestMilter(t *testing.T) {
	if !called(t) {
		return
	}
	prepare(t)
	serveDNS(t)
	servePolicies(t)
	d := launch(t, settings{})
	d.learn(known(20))
	m := launchMilter(t, d)
	last := short(2*time.Second, 20*time.Second)

	peace := sendMail(t, 8, last/2)
	if peace.lost > 0 {
		t.Errorf("%d recipients had to wait in peace", peace.lost)
	}
	figure(t, "in peace: %v", peace)
	for _, a := range []struct {
		name string
		n    int
		act  func(net.Conn)
	}{
		{"packets that end a process without a guard", 8, killers()},
		{"garbage", 8, func(c net.Conn) {
			_, _ = c.Write([]byte(strings.Repeat("GET / HTTP/1.1\r\n", 100)))
			_, _ = io.Copy(io.Discard, c)
		}},
		{"commands without a pause, whose answers nobody reads", 16, func(c net.Conn) {
			_, _ = c.Write(negotiation())
			// As much as the buffers take; then it waits.
			flood := slices.Concat(frame('M', "<a@example.com>\x00"), frame('D', "R{rcpt_mailer}\x00smtp\x00{rcpt_host}\x00k1.none.example\x00"), frame('R', "<b@k1.none.example>\x00"))
			_ = c.SetDeadline(time.Now().Add(time.Second))
			for _, err := c.Write(flood); err == nil; _, err = c.Write(flood) {
				continue
			}
		}},
	} {
		done := make(chan struct{})
		wait := strangers(done, a.n, a.act)
		under := sendMail(t, 8, last)
		close(done)
		wait()
		m.alive()
		if under.lost > 0 {
			t.Errorf("%s: %d recipients had to wait", a.name, under.lost)
		}
		figure(t, "%s: %v", a.name, under)
	}
	m.besideSilence(last)
	m.whilePolicydDies(d, last)
	m.ends()
}

// killers are the packets that end a process in which the library reads them.
func killers() func(net.Conn) {
	all := [][]byte{
		{0, 0, 0, 0},
		frame('C', "host"), frame('C', "host\x00"), frame('M', "<a@example.com>"), frame('R', "<a@example.com>"),
		{0x1f, 0xff, 0xff, 0xff, 'B'},
		{0xff, 0xff, 0xff, 0xff, 'O'},
	}
	var mu sync.Mutex
	next := 0
	return func(c net.Conn) {
		mu.Lock()
		next++
		hole := all[next%len(all)]
		mu.Unlock()
		_, _ = c.Write(slices.Concat(negotiation(), hole))
		_, _ = io.Copy(io.Discard, c)
	}
}

// besideSilence: a thousand connections that say nothing after their negotiation.
func (m *daemon) besideSilence(last time.Duration) {
	m.t.Helper()
	var idle []net.Conn
	for range 1000 {
		c, err := net.Dial("tcp", milterAddress)
		must(m.t, err)
		defer c.Close()
		_, err = c.Write(negotiation())
		must(m.t, err)
		idle = append(idle, c)
	}
	under := sendMail(m.t, 8, last)
	m.alive()
	figure(m.t, "beside %d silent connections: %v; peak %d MB, %d descriptors", len(idle), under, m.peak(), m.files())
	if under.lost > 0 || m.peak() > 150 {
		m.t.Errorf("%d recipients had to wait; %d MB", under.lost, m.peak())
	}
}

// whilePolicydDies: policyd is killed and started again while mail comes.
func (m *daemon) whilePolicydDies(d *daemon, last time.Duration) {
	m.t.Helper()
	done := make(chan struct{})
	times := 0
	var killing sync.WaitGroup
	killing.Go(func() {
		for {
			d.kill()
			times++
			d.start(settings{})
			select {
			case <-done:
				return
			case <-time.After(300 * time.Millisecond):
			}
		}
	})
	under := sendMail(m.t, 16, 2*last)
	close(done)
	killing.Wait()
	m.alive()
	figure(m.t, "policyd killed %d times: %v", times, under)
	d.learn(known(20))
	after := sendMail(m.t, 4, time.Second)
	if after.lost > 0 {
		m.t.Errorf("%d recipients have to wait when policyd is back", after.lost)
	}
}

// ends: a stop lets the message that is under way end, takes no new one, and is over in
// time; the counters that it writes tell of no defect.
func (m *daemon) ends() {
	m.t.Helper()
	s := &mailServer{}
	must(m.t, s.connect())
	if _, err := s.session.Mail("a@example.com", ""); err != nil {
		m.t.Fatal(err)
	}
	// MAIL is not answered: what follows it is.
	s.bag.Set(milter.MacroRcptMailer, "smtp")
	s.bag.Set(milter.MacroRcptHost, "k1.dane.example")
	if _, err := s.session.Rcpt("b@k1.dane.example", ""); err != nil {
		m.t.Fatal(err)
	}
	begin := time.Now()
	must(m.t, m.cmd.Process.Signal(syscall.SIGTERM))
	refused := eventually(m.t.Context(), 10*time.Second, func() bool {
		c, err := net.Dial("tcp", milterAddress)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if !refused {
		m.t.Error("a milter that ends takes connections")
	}
	if err := s.end(); err != nil || len(s.wrong) > 0 {
		m.t.Errorf("the message under way: %v, %v", s.wrong, err)
	}
	_ = s.session.Close()
	select {
	case <-m.gone:
	case <-time.After(20 * time.Second):
		m.t.Fatal("the milter does not end")
	}
	figure(m.t, "a stop with a message under way: %v", time.Since(begin).Round(time.Millisecond))
	if code := m.cmd.ProcessState.ExitCode(); code != 0 || m.said("msg=counters") != 1 || m.said("panics=0") != 1 {
		m.t.Errorf("exit code %d:\n%s", code, m.tail(3))
	}
}
