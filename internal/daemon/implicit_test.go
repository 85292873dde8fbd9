package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/verdict"
)

// site is a Postfix with one domain of its own.
type site struct {
	fails bool
	runs  int
}

func (s *site) host(t *testing.T) postfix.Host {
	t.Helper()
	h := postfix.Host{Root: t.TempDir(), Path: []string{"/sbin"}, Run: s.run}
	if err := os.Mkdir(filepath.Join(h.Root, "sbin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.Root, "sbin/postconf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func (s *site) run(_ context.Context, program string, args ...string) ([]byte, error) {
	s.runs++
	switch {
	case s.fails:
		return nil, errors.New("exit status 1: permission denied")
	case filepath.Base(program) == "postconf":
		return []byte("mail_version = 3.10.13\nmyhostname = mail.example.com\nmydestination = example.com\nvirtual_alias_domains = hash:/x\ndefault_transport = smtp\n"), nil
	}
	return nil, fmt.Errorf("%w: exit status 1", postfix.ErrSilent)
}

// TestOwner: Postfix is asked once in a while for its settings, and what it does not tell
// may be anything.
func TestOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(site)
		var log bytes.Buffer
		o := newOwner(config.OwnDomains{Ask: true}, s.host(t), slog.New(slog.NewTextHandler(&log, nil)))
		if got := o.own(t.Context(), "example.com"); got != "mydestination" {
			t.Errorf("its own domain: %q", got)
		}
		if got := o.own(t.Context(), "example.net"); got != "" {
			t.Errorf("another domain: %q", got)
		}
		o.own(t.Context(), "example.net")
		if s.runs != 2 {
			t.Errorf("%d programs run, want postconf and one postmap", s.runs)
		}
		time.Sleep(routesTime)
		s.fails = true
		if got := o.own(t.Context(), "example.net"); !strings.HasPrefix(got, "it cannot be found out: ") {
			t.Errorf("where it fails: %q", got)
		}
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "signals.implicit_tls_own") {
			t.Errorf("it said %s", log.String())
		}
		runs := s.runs
		for range 10 {
			o.own(t.Context(), "example.net")
			o.own(t.Context(), "example.org")
		}
		if s.runs != runs || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%d programs run after it has just failed, and it said %s", s.runs-runs, log.String())
		}
		s.fails = false
		time.Sleep(silenceTime)
		if got := o.own(t.Context(), "example.net"); got != "" {
			t.Errorf("where it works again: %q", got)
		}
		listed := newOwner(config.OwnDomains{Names: []string{"example.net"}}, s.host(t), o.log)
		runs = s.runs
		if got := listed.own(t.Context(), "example.net") + listed.own(t.Context(), "example.com"); got != "signals.implicit_tls_own" || s.runs != runs {
			t.Errorf("listed: %q, %d programs run", got, s.runs-runs)
		}
	})
}

// TestOwnerIsBounded: strangers choose the domains, and a Postfix that hangs holds nobody
// up for longer than ownTime.
func TestOwnerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(site)
		o := newOwner(config.OwnDomains{Ask: true}, s.host(t), slog.New(slog.DiscardHandler))
		for i := range 3 * maxOwn {
			o.own(t.Context(), fmt.Sprintf("d%d.example", i))
		}
		if n := len(o.domains); n > maxOwn {
			t.Errorf("%d answers are kept", n)
		}
		var under, most atomic.Int64
		o.host.Run = func(ctx context.Context, _ string, _ ...string) ([]byte, error) {
			if n := under.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer under.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		begin := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				if o.own(t.Context(), fmt.Sprintf("e%d.example", i)) == "" {
					t.Error("it does not hang")
				}
			})
		}
		all.Wait()
		if took := time.Since(begin); took > ownTime || most.Load() > ownAtOnce {
			t.Errorf("%v, %d at once", took, most.Load())
		}
	})
}

// TestHello: the name is that of the settings, of Postfix, or of this host.
func TestHello(t *testing.T) {
	s := new(site)
	machine := s.host(t)
	v := visitor{cfg: config.Default(), through: Network{Postfix: &machine}}
	if got := v.helo(t.Context()); got != "mail.example.com" {
		t.Errorf("%q", got)
	}
	s.fails = true
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := v.helo(t.Context()); got != name {
		t.Errorf("%q, want %q", got, name)
	}
	v.cfg.Probe.Helo = "out.example.com"
	if got := v.helo(t.Context()); got != "out.example.com" {
		t.Errorf("%q", got)
	}
}

func TestOwnAddress(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1": true, "192.0.2.250": false, "2001:db8:ffff::250": false} {
		if got := ownAddress(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// TestPortStates: what a report says of a host, in each state that it can be in.
func TestPortStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		results := map[string]*probe.Error{"good.example.com": nil, "bad.example.com": {Stage: probe.Connect, Fault: verdict.Remote, Detail: "refused"}}
		p := &ports{port: 26, prober: probe.New(probe.Config{
			Probe: func(_ context.Context, target probe.Target) probe.Result {
				return probe.Result{Target: target, By: probe.ByDANE, Err: results[target.Host]}
			},
			Random: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler),
		})}
		ctx, cancel := context.WithCancel(t.Context())
		go p.prober.Run(ctx)
		begin := time.Now()
		p.Want([]string{"good.example.com"})
		time.Sleep(time.Second)
		p.Want([]string{"bad.example.com"})
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		p.Want([]string{"new.example.com"})
		for host, want := range map[string]explain.Port{
			"good.example.com":  {Host: "good.example.com", State: "good", By: "dane", Until: begin.Add(time.Hour).UTC(), Next: begin.Add(30 * time.Minute).UTC()},
			"bad.example.com":   {Host: "bad.example.com", State: "bad", Stage: "connect", Error: "refused", Next: begin.Add(5*time.Minute + time.Second).UTC()},
			"new.example.com":   {Host: "new.example.com", State: "unknown", Next: begin.Add(2 * time.Second).UTC()},
			"other.example.com": {Host: "other.example.com", State: "unknown"},
		} {
			if got := p.State(host); got != want {
				t.Errorf("%s:\n%+v, want\n%+v", host, got, want)
			}
		}
		if !p.Good("good.example.com") || p.Good("bad.example.com") || p.Good("new.example.com") {
			t.Error("another is believed")
		}
		time.Sleep(time.Hour)
		if got := p.State("good.example.com"); got.State != "unknown" {
			t.Errorf("beyond its time: %+v", got)
		}
	})
}
