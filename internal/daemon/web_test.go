package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"tlsverdict/internal/config"
	"tlsverdict/internal/metrics"
	"tlsverdict/internal/store"
)

// newDaemon returns one without a network, that is not started.
func newDaemon(t *testing.T, text string) *daemon {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open("", log)
	if err != nil {
		t.Fatal(err)
	}
	gone := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }
	durations := metrics.NewDurations()
	stack, err := NewStack(cfg, st, Network{DialDNS: gone, DialHTTPS: gone, DialMail: gone, Durations: durations}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stack.Close)
	d := &daemon{cfg: cfg, log: log, store: st, durations: durations}
	d.stack.Store(stack)
	return d
}

// get asks for a page.
func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// TestReadyz: from the start to the end, and what is asked for in JSON.
func TestReadyz(t *testing.T) {
	d := newDaemon(t, "[dns]\nservers = [\"127.0.0.1:1\"]\n[store]\npath = \"/x\"")
	pages := d.pages(d.cfg)
	if w := get(pages, "/healthz"); w.Code != 200 || w.Body.String() != "alive\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	expect := func(step string, want ...string) {
		t.Helper()
		w := get(pages, "/readyz")
		if w.Code != http.StatusServiceUnavailable || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %v", step, w.Code, w.Header())
		}
		for _, line := range append(want, "unready\n", "\ndegraded store-failing: ") {
			if !strings.Contains(w.Body.String(), line) {
				t.Errorf("%s: no %q in\n%s", step, line, w.Body)
			}
		}
	}
	expect("start", "\nunready starting: ", "\nunready resolvers-unexamined: ")
	d.state.begin()
	d.stack.Load().Resolver.Probe(t.Context())
	expect("served", "\nunready resolvers-down: ")
	refused := d.state.reloading(func(context.Context) (string, error) { return "", errors.New("line 3") })
	if _, err := refused(t.Context()); err == nil {
		t.Error("the reload's error is lost")
	}
	d.state.lacksControl(errors.New("taken"))
	expect("reloaded", "\ndegraded config-not-reloaded: ", ": line 3\n", "\ndegraded no-control-socket: ")
	d.state.drain()
	d.state.begin()
	expect("drained", "\nunready draining: ")
	if w := get(pages, "/readyz?format=json"); w.Code != 503 || !strings.Contains(w.Body.String(), `"status": "unready",`) || !strings.Contains(w.Body.String(), `"code": "draining"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(pages, "/nothing"); w.Code != 404 {
		t.Errorf("%d", w.Code)
	}
}

// TestReloadKeepsHealth: new resolvers that were not looked at yet are taken for what the
// old ones were.
func TestReloadKeepsHealth(t *testing.T) {
	d := newDaemon(t, "[dns]\nservers = [\"127.0.0.1:1\"]\n[store]\npath = \"\"")
	d.state.begin()
	d.state.keep(d.stack.Load().Resolver.Probe(t.Context()))
	next := newDaemon(t, "[dns]\nservers = [\"127.0.0.1:1\"]")
	d.stack.Store(next.stack.Load())
	if w := get(d.pages(d.cfg), "/readyz"); !strings.Contains(w.Body.String(), "resolvers-down") || strings.Contains(w.Body.String(), "unexamined") {
		t.Error(w.Body)
	}
}

// TestWeb: the address that is taken is an error in the log and nothing else; a socket that
// was passed is served, and with it the configured address only where that is another.
func TestWeb(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := newDaemon(t, "[dns]\nservers = [\"127.0.0.1:1\"]")
	d.cfg.HTTP.Listen = netip.MustParseAddrPort(l.Addr().String())
	var log strings.Builder
	d.log = slog.New(slog.NewTextHandler(&log, nil))
	d.web(t.Context(), nil)()
	if !strings.Contains(log.String(), "pages for monitoring cannot be served") {
		t.Errorf("log: %s", &log)
	}
	d.log = slog.New(slog.DiscardHandler)
	stop := d.web(t.Context(), []net.Listener{l})
	resp, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	stop()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	d.cfg.HTTP.Listen = netip.AddrPort{}
	d.web(t.Context(), nil)()
}
