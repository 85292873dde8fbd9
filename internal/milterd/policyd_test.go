package milterd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/nexthop"
	"tlsverdict/postfixmap"
)

// told is a log that tests read.
type told struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *told) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

// times counts the records that hold a text.
func (w *told) times(part string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.text.String(), part)
}

func domain(name string) nexthop.Destination {
	return nexthop.Destination{Name: name, Port: nexthop.SMTPPort}
}

// answers are what a policyd of the tests has for a map and a key.
func answers(old bool) func(mapName, key string) string {
	return func(mapName, key string) string {
		switch {
		case mapName == "postfix":
			return "OK secure match=mx." + key
		case mapName == "verdict" && old:
			return `TEMP unknown map "verdict"`
		case key == "temp.example":
			return "TEMP come back"
		case key == "odd.example":
			return "OK half-dane"
		case key == "absent.example":
			return "NOTFOUND "
		case mapName == "verdict":
			return "OK secure source=mta-sts"
		}
		data, _ := json.Marshal(explain.Report{
			Destination: key, Verdict: "secure", Source: "mta-sts", Reasons: []explain.Reason{{Subject: key, Text: "so"}},
		})
		return "OK " + string(data)
	}
}

// theirs is a policyd in memory: what it does with each connection.
type theirs struct {
	dials atomic.Int32
	// refuse says that nobody listens; mute, that questions are read and not
	// answered on connections that begin now; wait is how long an answer takes.
	refuse, mute atomic.Bool
	wait         time.Duration
	answer       func(mapName, key string) string
	open         atomic.Int32
	most         atomic.Int32
	conns        sync.Map
}

func (s *theirs) dial(context.Context) (net.Conn, error) {
	s.dials.Add(1)
	if s.refuse.Load() {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	mute := s.mute.Load()
	s.conns.Store(far, true)
	s.most.Store(max(s.most.Load(), s.open.Add(1)))
	go func() {
		defer s.open.Add(-1)
		defer far.Close()
		in := postfixmap.NewReader(far, postfixmap.MaxRequest)
		for {
			payload, err := in.Next()
			if err != nil {
				return
			}
			if mute || s.isMute(far) {
				continue
			}
			mapName, key, _ := strings.Cut(string(payload), " ")
			if s.wait > 0 {
				<-time.After(s.wait)
			}
			if _, err := far.Write(postfixmap.AppendNetstring(nil, []byte(s.answer(mapName, key)))); err != nil {
				return
			}
		}
	}()
	return near, nil
}

func (s *theirs) isMute(c net.Conn) bool {
	speaks, ok := s.conns.Load(c)
	return ok && speaks == false
}

// cut leaves the connections that are open leading nowhere.
func (s *theirs) cut() {
	s.conns.Range(func(c, _ any) bool { s.conns.Store(c, false); return true })
}

// drop closes them.
func (s *theirs) drop() {
	s.conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); s.conns.Delete(c); return true })
}

// askPolicyd runs a test in a bubble, with a policyd in memory that can be played with.
func askPolicyd(t *testing.T, test func(t *testing.T, p *Policyd, s *theirs, log *told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &theirs{answer: answers(false)}
		log := &told{}
		p := newPolicyd(&postfixmap.Client{DialFunc: s.dial, MaxIdle: keptConnections}, slog.New(slog.NewTextHandler(log, nil)))
		test(t, p, s, log)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		s.drop()
	})
}

// timed asks as a session does, and says how long it took.
func timed(t *testing.T, p *Policyd, name string) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	start := time.Now()
	v, err := p.Ask(ctx, domain(name))
	if err == nil && (v.Name != "secure" || v.Source != "mta-sts" || v.Level != Authenticated) {
		t.Errorf("%s: %+v", name, v)
	}
	if err != nil && !errors.Is(err, ErrNoVerdict) {
		t.Errorf("%s: %v", name, err)
	}
	return time.Since(start), err
}

// TestPolicydHalfOpenConnections: kept connections that lead nowhere cost one question
// two seconds, and the next none.
func TestPolicydHalfOpenConnections(t *testing.T) {
	askPolicyd(t, func(t *testing.T, p *Policyd, s *theirs, log *told) {
		s.wait = time.Millisecond
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { _, _ = timed(t, p, "a.example") })
		}
		all.Wait()
		s.cut()
		if took, err := timed(t, p, "a.example"); err != nil || took != againTime+s.wait {
			t.Errorf("the first: %v after %v", err, took)
		}
		if took, err := timed(t, p, "a.example"); err != nil || took != s.wait {
			t.Errorf("the second: %v after %v", err, took)
		}
		if log.times("msg") != 0 {
			t.Errorf("records: %s", log.text.String())
		}
	})
}

// TestPolicydHangs: while no question is answered, only the first holds its MTA up for
// long; an answer ends that, and the log tells of both once.
func TestPolicydHangs(t *testing.T) {
	askPolicyd(t, func(t *testing.T, p *Policyd, s *theirs, log *told) {
		s.mute.Store(true)
		if took, err := timed(t, p, "a.example"); err == nil || took != 15*time.Second {
			t.Errorf("the first: %v after %v", err, took)
		}
		for range 5 {
			if took, err := timed(t, p, "a.example"); err == nil || took != silentTime {
				t.Errorf("while it hangs: %v after %v", err, took)
			}
		}
		s.mute.Store(false)
		if took, err := timed(t, p, "a.example"); err != nil || took != 0 {
			t.Errorf("when it is back: %v after %v", err, took)
		}
		s.wait = 5 * time.Second
		if took, err := timed(t, p, "a.example"); err != nil || took < s.wait {
			t.Errorf("a slow answer after that: %v after %v", err, took)
		}
		if log.times("policyd does not answer") != 1 || log.times("policyd answers again") != 1 {
			t.Errorf("records: %s", log.text.String())
		}
	})
}

// TestPolicydSlowDestination: that one destination takes too long says nothing of
// policyd while others are answered.
func TestPolicydSlowDestination(t *testing.T) {
	askPolicyd(t, func(t *testing.T, p *Policyd, s *theirs, log *told) {
		never := make(chan struct{})
		s.answer = func(mapName, key string) string {
			if key == "slow.example" {
				<-never
			}
			return answers(false)(mapName, key)
		}
		var slow sync.WaitGroup
		slow.Go(func() {
			if took, err := timed(t, p, "slow.example"); err == nil || took != 15*time.Second {
				t.Errorf("the slow one: %v after %v", err, took)
			}
		})
		<-time.After(10 * time.Second)
		_, _ = timed(t, p, "a.example")
		slow.Wait()
		if p.troubled.Load() || log.times("msg") != 0 {
			t.Errorf("policyd counts as silent: %s", log.text.String())
		}
		close(never)
	})
}

// TestPolicydRestarts: a policyd that is away for a second is waited for, with pauses
// that grow; no question is lost.
func TestPolicydRestarts(t *testing.T) {
	askPolicyd(t, func(t *testing.T, p *Policyd, s *theirs, log *told) {
		_, _ = timed(t, p, "a.example")
		s.drop()
		s.refuse.Store(true)
		time.AfterFunc(time.Second, func() { s.refuse.Store(false) })
		before := s.dials.Load()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if took, err := timed(t, p, "a.example"); err != nil || took > 2*time.Second {
					t.Errorf("%v after %v", err, took)
				}
			})
		}
		all.Wait()
		if n := (s.dials.Load() - before) / 100; n > 12 {
			t.Errorf("each question dialed %d times", n)
		}
		if log.times("msg") != 0 {
			t.Errorf("records: %s", log.text.String())
		}
	})
}

// TestPolicydIsAway: one that does not come back is waited for once, not by each
// question; when it is there again it is asked at once.
func TestPolicydIsAway(t *testing.T) {
	askPolicyd(t, func(t *testing.T, p *Policyd, s *theirs, log *told) {
		s.refuse.Store(true)
		if took, err := timed(t, p, "a.example"); err == nil || took < restartTime || took > restartTime+longestPause {
			t.Errorf("the first: %v after %v", err, took)
		}
		for range 10 {
			if took, err := timed(t, p, "a.example"); err == nil || took != 0 {
				t.Errorf("while it is away: %v after %v", err, took)
			}
		}
		s.refuse.Store(false)
		if took, err := timed(t, p, "a.example"); err != nil || took != 0 {
			t.Errorf("when it is back: %v after %v", err, took)
		}
		if log.times("policyd does not answer") != 1 || log.times("policyd answers again") != 1 {
			t.Errorf("records: %s", log.text.String())
		}
	})
}

// TestPolicydPlaces: a thousand questions at once have so many connections and no
// more, and all are answered.
func TestPolicydPlaces(t *testing.T) {
	askPolicyd(t, func(t *testing.T, p *Policyd, s *theirs, _ *told) {
		s.wait = 100 * time.Millisecond
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				if _, err := timed(t, p, fmt.Sprintf("d%d.example", i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if most := s.most.Load(); most > maxQuestions {
			t.Errorf("%d connections at once", most)
		}
	})
}

// TestOlderPolicyd: one without the map "verdict" is asked for reports, which is said
// once; after a while the map is tried again.
func TestOlderPolicyd(t *testing.T) {
	askPolicyd(t, func(t *testing.T, p *Policyd, s *theirs, log *told) {
		var asked sync.Map
		count := func(mapName string) *atomic.Int32 {
			n, _ := asked.LoadOrStore(mapName, new(atomic.Int32))
			return n.(*atomic.Int32)
		}
		s.answer = func(mapName, key string) string {
			count(mapName).Add(1)
			return answers(true)(mapName, key)
		}
		for range 3 {
			v, err := p.Ask(t.Context(), domain("a.example"))
			if err != nil || v.Level != Authenticated || v.Why != "a.example: so" {
				t.Errorf("%+v, %v", v, err)
			}
			if why := p.Why(t.Context(), domain("a.example"), v); why != v.Why {
				t.Errorf("why: %q", why)
			}
		}
		if err := p.Warm(t.Context(), domain("a.example")); err != nil {
			t.Error(err)
		}
		if count("verdict").Load() != 1 || count("json").Load() != 3 || count("postfix").Load() != 1 {
			t.Errorf("asked: verdict %d, json %d, postfix %d", count("verdict").Load(), count("json").Load(), count("postfix").Load())
		}
		<-time.After(oldTime)
		if err := p.Warm(t.Context(), domain("a.example")); err != nil {
			t.Error(err)
		}
		if count("verdict").Load() != 2 || count("postfix").Load() != 2 {
			t.Errorf("later: verdict %d, postfix %d", count("verdict").Load(), count("postfix").Load())
		}
		if log.times("policyd is older than the milter") != 1 {
			t.Errorf("records: %s", log.text.String())
		}
	})
}

// TestPolicydAnswers: what is no verdict is none, and leads to no waiting.
func TestPolicydAnswers(t *testing.T) {
	askPolicyd(t, func(t *testing.T, p *Policyd, s *theirs, _ *told) {
		for _, name := range []string{"temp.example", "odd.example", "absent.example"} {
			if took, err := timed(t, p, name); err == nil || took != 0 {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		}
		v := Verdict{Name: "secure", Source: "mta-sts", Level: Authenticated}
		if why := p.Why(t.Context(), domain("a.example"), v); why != "a.example: so" {
			t.Errorf("why: %q", why)
		}
		v.Name = "none"
		if why := p.Why(t.Context(), domain("a.example"), v); why != "" {
			t.Errorf("the reason of another verdict is told: %q", why)
		}
		if why := p.Why(t.Context(), domain("temp.example"), v); why != "" {
			t.Errorf("why: %q", why)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Ask(gone, domain("a.example")); err == nil {
			t.Error("an answer for one who has left")
		}
		s.answer = func(string, string) string { return "HELLO" }
		if took, err := timed(t, p, "a.example"); err == nil || took != 0 {
			t.Errorf("what is no reply: %v after %v", err, took)
		}
	})
}

// TestReadVerdict: the words of the map "verdict", in all their forms.
func TestReadVerdict(t *testing.T) {
	for text, want := range map[string]Verdict{
		"none source=none":                              {Name: "none", Source: "none"},
		"may source=override":                           {Name: "may", Source: "override"},
		"dane source=dane":                              {Name: "dane", Source: "dane"},
		"encrypt source=dane":                           {Name: "encrypt", Source: "dane", Level: Encrypted},
		"verify source=override":                        {Name: "verify", Source: "override", Level: Encrypted},
		"secure source=mta-sts":                         {Name: "secure", Source: "mta-sts", Level: Authenticated},
		"fingerprint source=dane":                       {Name: "fingerprint", Source: "dane", Level: ByDANE},
		"fingerprint source=override":                   {Name: "fingerprint", Source: "override", Level: Authenticated},
		"dane-only source=dane":                         {Name: "dane-only", Source: "dane", Level: ByDANE},
		"defer source=none fault=remote":                {Name: "defer", Source: "none", Waits: true, Fault: "remote"},
		"secure source=mta-sts until=x more":            {Name: "secure", Source: "mta-sts", Level: Authenticated},
		"dane-only source=dane mode=observe":            {Name: "dane-only", Source: "dane", Why: `policyd observes only: the mail server is not told of "dane-only"`},
		"secure source=mta-sts mode=something-else":     {Name: "secure", Source: "mta-sts", Why: `policyd observes only: the mail server is not told of "secure"`},
		"none source=none mode=observe":                 {Name: "none", Source: "none"},
		"defer source=none fault=operator mode=observe": {Name: "defer", Source: "none", Waits: true, Fault: "operator"},
		// A source that is not told makes a fingerprint no proof by DANE.
		"fingerprint": {Name: "fingerprint", Level: Authenticated},
	} {
		v, err := readVerdict(postfixmap.Reply{Status: postfixmap.StatusOK, Data: []byte(text)})
		if err != nil || v != want {
			t.Errorf("%s:\n%+v, %v, want\n%+v", text, v, err, want)
		}
	}
	for _, text := range []string{"", " ", "source=dane", "half-dane source=dane", "Secure source=mta-sts", "secure\x00 source=dane"} {
		if v, err := readVerdict(postfixmap.Reply{Status: postfixmap.StatusOK, Data: []byte(text)}); !errors.Is(err, ErrNoVerdict) {
			t.Errorf("%q: %+v, %v", text, v, err)
		}
	}
}

// FuzzVerdict: whatever is answered, what is no word of policyd's promises nothing.
func FuzzVerdict(f *testing.F) {
	for _, seed := range []string{"OK secure source=mta-sts", "OK defer source=none fault=remote", "OK dane-only source=dane mode=observe", "OK ", "NOTFOUND ", "TEMP x", "PERM x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		reply, err := postfixmap.ParseReply(data)
		if err != nil {
			return
		}
		v, err := readVerdict(reply)
		switch {
		case err != nil && v != Verdict{}:
			t.Errorf("%q: %+v beside %v", data, v, err)
		case err == nil && reply.Status != postfixmap.StatusOK:
			t.Errorf("%q is a verdict", data)
		case v.Level > Clear && (v.Waits || strings.Contains(string(data), " mode=")):
			t.Errorf("%q promises %v", data, v.Level)
		}
		if r, err := readReport(reply); err == nil {
			_, _ = Judge(r)
			_ = Why(r, v)
		}
	})
}
