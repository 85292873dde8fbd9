package daemon

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"

	"tlsverdict/internal/config"
	"tlsverdict/internal/httpd"
	"tlsverdict/internal/readiness"
)

// webSocket is what systemd calls the sockets of the pages.
const webSocket = "http"

// web serves the pages on sockets that systemd passed and on the configured address.
// Without them policyd answers mail servers all the same. The function that it returns ends
// that.
func (d *daemon) web(ctx context.Context, passed []net.Listener) (stop func()) {
	listeners := append(passed, d.openWeb(ctx, passed)...)
	if len(listeners) == 0 {
		return func() {}
	}
	mux := d.pages(d.cfg)
	server := httpd.New(httpd.Config{Handler: mux, Hosts: d.cfg.HTTP.Hosts, Log: d.log})
	policies := &surveys{store: d.store}
	// The first look is over, most likely, when the first request comes.
	policies.latest(ctx)
	mux.Handle("GET /metrics", d.measured(ctx, server.Stats, policies))
	mux.Handle("/", d.page(ctx, policies))
	for _, l := range listeners {
		d.log.Info("pages for monitoring are served", "address", l.Addr().String())
		go func() {
			if err := server.Serve(l); err != nil {
				d.log.Error("pages for monitoring are served no more", "address", l.Addr().String(), "error", err)
			}
		}()
	}
	return func() { _ = server.Close() }
}

// openWeb opens the configured address, unless systemd passed it.
func (d *daemon) openWeb(ctx context.Context, passed []net.Listener) []net.Listener {
	address := d.cfg.HTTP.Listen
	if !address.IsValid() {
		return nil
	}
	for _, l := range passed {
		if l.Addr().String() == address.String() {
			return nil
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address.String())
	if err != nil {
		// Mail is worth more than what is told of it, and monitoring notices.
		d.log.Error("pages for monitoring cannot be served", "address", address, "error", err)
		return nil
	}
	return []net.Listener{l}
}

// pages is all that is served over HTTP: a page more is a line more. cfg is the
// configuration of the start; that in force is the stack's.
func (d *daemon) pages(cfg *config.Config) *http.ServeMux {
	storePath := cfg.Store.Path
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, d.readiness(storePath)) })
	return mux
}

// alive answers as long as anything does.
func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// Who asked may be gone.
	_, _ = io.WriteString(w, "alive\n")
}

// ready tells a report: 200 unless it is unready, then 503.
func ready(w http.ResponseWriter, r *http.Request, report readiness.Report) {
	status, body, kind := http.StatusOK, report.String(), "text/plain; charset=utf-8"
	if report.Status == readiness.Unready {
		status = http.StatusServiceUnavailable
	}
	if r.URL.Query().Get("format") == "json" || strings.Contains(r.Header.Get("Accept"), "application/json") {
		if report.Reasons == nil {
			report.Reasons = []readiness.Reason{}
		}
		// Plain values: it cannot fail.
		data, _ := json.MarshalIndent(report, "", "  ")
		body, kind = string(data)+"\n", "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	// Who asked may be gone.
	_, _ = io.WriteString(w, body)
}

// readiness finds out how the daemon is. storePath is that of the store that it has.
func (d *daemon) readiness(storePath string) readiness.Report {
	s := d.stack.Load()
	f := readiness.Facts{
		DNSSEC: s.cfg.DNS.DNSSEC != config.DNSSECOff, Resolver: s.Resolver.Health(), StorePath: storePath, Store: d.store.Stats(),
		FleetError: s.fleet.Problem(),
	}
	d.state.tell(&f)
	return readiness.Judge(f)
}
