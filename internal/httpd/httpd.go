// Package httpd serves pages for operators and their monitoring on this host: a guarded
// server, into which others hang what there is to see.
//
//	mux := http.NewServeMux()
//	mux.HandleFunc("GET /healthz", healthz)
//	server := httpd.New(httpd.Config{Handler: mux, Hosts: cfg.HTTP.Hosts, Log: log})
//	go server.Serve(listener)
//	...
//	server.Close()
//
// # What it guards against
//
// Nobody logs in: whoever may connect may read. That is meant for loopback, where two kinds
// of strangers get all the same, both by a browser on this host that shows their page:
//
//	DNS rebinding       the page's own name comes to mean 127.0.0.1. A request is answered
//	                    only if its Host is an IP address, localhost, or one of
//	                    Config.Hosts; others get 421
//	cross-site requests the page asks for ours as an image or by a script, to have work
//	                    done. What a browser says is neither from here nor a link that
//	                    somebody followed gets 403
//
// Only GET and HEAD are answered. Pages get headers that keep them out of caches and frames,
// and that allow nothing to be loaded; a handler may set its own Content-Security-Policy.
//
// # Limits
//
//	MaxConnections  32: one more makes that go which is idle longest; where none is idle,
//	                the newcomer
//	a request       5 s for its header, which has 16 kB at most; 10 s in all, without a body
//	an answer       30 s
//	idle            75 s, longer than Prometheus' usual interval
//
// # Errors
//
// Serve ends with an error where its listener is lost, and with nil after Close. A handler
// that panics gets its client 500; the log has the stack.
//
// # What it does not do
//
// It has no TLS and no passwords: a reverse proxy on the same host has both.
package httpd

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MaxConnections is how many connections are open at once.
const MaxConnections = 32

const (
	headerTime = 5 * time.Second
	readTime   = 10 * time.Second
	writeTime  = 30 * time.Second
	idleTime   = 75 * time.Second
	maxHeader  = 16 << 10
)

// Config is what a Server works with.
type Config struct {
	// Handler answers what is let through. Required.
	Handler http.Handler
	// Hosts are the names that may be asked for beside IP addresses and localhost, in
	// lower case and without a port.
	Hosts []string
	// Log is required.
	Log *slog.Logger
}

// Server is a guarded HTTP server.
type Server struct {
	http  http.Server
	hosts []string
	next  http.Handler
	log   *slog.Logger
	count struct {
		requests, turnedAway, shed, panics atomic.Uint64
	}

	mu sync.Mutex
	// open has each connection with the time since when it is idle, zero if it is not.
	open map[net.Conn]time.Time
}

// Stats is a snapshot of a Server's counters.
type Stats struct {
	// Requests that came, those that were TurnedAway for their Host, their method or
	// their origin, and those whose handler panicked.
	Requests, TurnedAway, Panics uint64
	// Open are connections that are open now, Shed those that were closed to make room.
	Open int
	Shed uint64
}

// New returns a Server.
func New(cfg Config) *Server {
	s := &Server{hosts: cfg.Hosts, next: cfg.Handler, log: cfg.Log, open: make(map[net.Conn]time.Time)}
	s.http = http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ConnState: s.track,
		// What the server has to say is about clients that hang up.
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers on a listener until Close, and closes it. It may be called for several.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends all Serves at once, and closes all connections. No answer matters so much that
// the end of a daemon should wait for its reader.
func (s *Server) Close() error { return s.http.Close() }

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.count
	return Stats{
		Requests: c.requests.Load(), TurnedAway: c.turnedAway.Load(), Panics: c.panics.Load(), Shed: c.shed.Load(), Open: len(s.open),
	}
}

// ServeHTTP answers what may be asked.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.count.requests.Add(1)
	defer s.recover(w, r)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	switch {
	case !s.known(r.Host):
		s.refuse(w, http.StatusMisdirectedRequest, "this host name is not served: ask by an IP address, or have the name in [http] hosts")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		s.refuse(w, http.StatusMethodNotAllowed, "only GET and HEAD are answered")
	case foreign(r.Header):
		s.refuse(w, http.StatusForbidden, "a page of another site asks")
	default:
		s.next.ServeHTTP(w, r)
	}
}

func (s *Server) refuse(w http.ResponseWriter, status int, text string) {
	s.count.turnedAway.Add(1)
	http.Error(w, text, status)
}

// recover answers for a handler that panicked.
func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	defect := recover()
	if defect == nil {
		return
	}
	s.count.panics.Add(1)
	s.log.Error("a defect in tlsverdict spoils a page", "path", r.URL.Path, "panic", defect, "stack", string(debug.Stack()))
	// Where the header has left already, this does nothing.
	http.Error(w, "a defect; the log has it", http.StatusInternalServerError)
}

// known reports whether a Host is one that only who means this server sends: an address is
// what no web page's name can be.
func (s *Server) known(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || slices.Contains(s.hosts, host)
}

// foreign reports whether a browser says that a page of another site asks, other than by a
// link that was followed. Who is no browser does not say.
func foreign(h http.Header) bool {
	switch h.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return h.Get("Sec-Fetch-Mode") != "navigate"
}

// track counts connections, and makes room.
func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.open[c] = time.Time{}
		if len(s.open) > MaxConnections {
			s.shed(c)
		}
	case http.StateActive:
		s.open[c] = time.Time{}
	case http.StateIdle:
		s.open[c] = time.Now()
	case http.StateHijacked, http.StateClosed:
		delete(s.open, c)
	}
}

// shed closes the connection that is idle longest, else the newcomer. It is for track.
func (s *Server) shed(newcomer net.Conn) {
	oldest := newcomer
	var since time.Time
	for c, idle := range s.open {
		if !idle.IsZero() && (since.IsZero() || idle.Before(since)) {
			oldest, since = c, idle
		}
	}
	s.count.shed.Add(1)
	delete(s.open, oldest)
	// Its reader finds out; what closing says is of no use.
	_ = oldest.Close()
}
