package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlsverdict/postfixmap"
)

// house is a service that echoes, and what became of it.
type house struct {
	Service
	listeners []net.Listener
	told      *net.UnixConn
	log       *record
	reloads   chan error
	reported  chan struct{}
}

// record is a log that can be read while it is written.
type record struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// open makes a house with a systemd that listens.
func open(t *testing.T) *house {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "notify")
	notes, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notes.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	address, err := postfixmap.ParseAddress("unix:" + filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := Listen(t.Context(), []postfixmap.Address{address}, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{listeners: listeners, told: notes, log: &record{}, reloads: make(chan error, 2), reported: make(chan struct{}, 9)}
	h.Service = Service{
		Serve: func(l net.Listener) error {
			for {
				c, err := l.Accept()
				if err != nil {
					return err
				}
				c.Close()
			}
		},
		Ready:  func() {},
		Reload: func(context.Context) (string, error) { return "x.toml", <-h.reloads },
		Report: func() { h.reported <- struct{}{} },
		Shutdown: func(context.Context) error {
			return listeners[0].Close()
		},
		Log: NewLogger(h.log, Text, slog.LevelInfo),
	}
	return h
}

// expect waits until systemd is told something.
func (h *house) expect(t *testing.T, want string) {
	t.Helper()
	if err := h.told.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 512)
	for {
		n, err := h.told.Read(buf)
		if err != nil {
			t.Fatalf("systemd is not told %s: %v", want, err)
		}
		if strings.Contains(string(buf[:n]), want) {
			return
		}
		if string(buf[:n]) != "WATCHDOG=1" {
			t.Errorf("systemd is told %q, want %s", buf[:n], want)
		}
	}
}

func raise(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}

// TestLife: ready, reloaded well and badly, reported, stopped; systemd is told in this
// order, and the watchdog all the time.
func TestLife(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "20000")
	h := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, h.listeners) }()
	h.expect(t, "READY=1")
	h.reloads <- nil
	raise(t, syscall.SIGHUP)
	h.expect(t, "RELOADING=1")
	h.expect(t, "READY=1")
	h.reloads <- errors.New("not so")
	raise(t, syscall.SIGHUP)
	h.expect(t, "RELOADING=1")
	h.expect(t, "READY=1")
	raise(t, syscall.SIGUSR1)
	<-h.reported
	h.expect(t, "WATCHDOG=1")
	cancel()
	h.expect(t, "STOPPING=1")
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"msg=listening address=unix:/", "msg=\"configuration reloaded\" file=x.toml",
		"level=ERROR msg=\"the configuration was not reloaded; the old one stays in force\" error=\"not so\"", "msg=stopping",
	} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, h.log)
		}
	}
}

// TestListenerLost: a listener that ends by itself ends the daemon, with an error.
func TestListenerLost(t *testing.T) {
	h := open(t)
	h.Shutdown = func(context.Context) error { return errors.New("something was under way") }
	h.Ready = func() { h.listeners[0].Close() }
	if err := h.Run(t.Context(), h.listeners); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the end: %v", err)
	}
	if !strings.Contains(h.log.String(), "requests were cut off") {
		t.Errorf("the log does not tell of the drain:\n%s", h.log)
	}
}

// TestListen: the second of two addresses cannot be had, so that the first is given
// back; an address is written as Postfix writes it.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	var all []postfixmap.Address
	for _, name := range []string{"unix:" + dir + "/a", "unix:" + dir + "/not-there/b"} {
		a, err := postfixmap.ParseAddress(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	if ls, err := Listen(t.Context(), all, 0o600); err == nil || !strings.HasPrefix(err.Error(), "cannot listen on "+all[1].String()) {
		t.Errorf("%v, %v", ls, err)
	}
	ls, err := Listen(t.Context(), all[:1], 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if got := Address(ls[0]); got != all[0].String() {
		t.Errorf("address %s, want %s", got, all[0])
	}
	ls[0].Close()
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	t.Setenv("LISTEN_FDS", "many")
	// A number that is none counts as no sockets: it is systemd's to be right.
	if ls, err = Listen(t.Context(), nil, 0); err != nil || len(ls) != 0 {
		t.Errorf("%v, %v", ls, err)
	}
}

func TestFormats(t *testing.T) {
	for f, want := range map[Format]string{Text: "msg=x", JSON: `"msg":"x"`} {
		var out strings.Builder
		NewLogger(&out, f, slog.LevelInfo).Info("x")
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s lacks %s", out.String(), want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a format that is none makes a logger")
		}
	}()
	NewLogger(io.Discard, 9, slog.LevelInfo)
}
