package status

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/nexthop"
)

var ( // what is served; never changed
	//go:embed page.html
	pageHTML string
	//go:embed style.css
	styleCSS []byte
	//go:embed icon.svg
	iconSVG []byte
)

const (
	// fresh is how long a snapshot is shown: who reloads again and again costs no more.
	fresh = time.Second
	// explainAtOnce is how many explanations are under way at most, explainBurst and
	// explainEvery how many are begun, and explainTime how long one may take.
	explainAtOnce = 2
	explainBurst  = 10
	explainEvery  = time.Second
	explainTime   = 15 * time.Second
	// maxKey is the length of the longest destination that is looked at, in octets: a
	// name has at most 253, and brackets and a port may stand around it.
	maxKey = 300
)

// policy lets a page use its own style sheet and icon, and send its form here; nothing
// else: no script, no style attribute, no frame, nothing from elsewhere.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Options are what a Handler works with; all are required.
type Options struct {
	// Snapshot returns how policyd is doing. It must not wait.
	Snapshot func() Snapshot
	// Explain explains a destination, within the bounds of ctx. An error says that it
	// could not be done now.
	Explain func(ctx context.Context, dest string) (*explain.Report, error)
	Log     *slog.Logger
}

// Handler serves the page. New makes one.
type Handler struct {
	opt    Options
	mux    *http.ServeMux
	page   *template.Template
	places chan struct{}
	begun  *rate.Limiter

	mu   sync.Mutex
	last Snapshot
	made time.Time
	// html and doc are the page and the JSON of last, once somebody asked for them.
	html, doc []byte
}

// New returns a Handler.
func New(opt Options) *Handler {
	h := &Handler{
		opt: opt, mux: http.NewServeMux(), page: template.Must(template.New("page").Funcs(words()).Parse(pageHTML)),
		places: make(chan struct{}, explainAtOnce), begun: rate.NewLimiter(rate.Every(explainEvery), explainBurst),
	}
	h.mux.HandleFunc("GET /{$}", h.overview)
	h.mux.HandleFunc("GET /explain", h.explain)
	h.mux.HandleFunc("GET /status.json", h.json)
	h.mux.HandleFunc("GET /style.css", file("text/css; charset=utf-8", styleCSS))
	h.mux.HandleFunc("GET /icon.svg", file("image/svg+xml", iconSVG))
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	h.mux.ServeHTTP(w, r)
}

// file serves what does not change.
func file(kind string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(data) // who went away needs no answer
	}
}

// snapshot returns one that is at most a second old.
func (h *Handler) snapshot() Snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renew()
	return h.last
}

// renew makes another snapshot where the last one is old. The caller holds the lock.
func (h *Handler) renew() {
	if h.made.IsZero() || time.Since(h.made) >= fresh {
		h.last = h.opt.Snapshot()
		h.made, h.html, h.doc = time.Now(), nil, nil
	}
}

// shared returns what is made of the snapshot, once for all who ask for it in a second.
func (h *Handler) shared(kept *[]byte, write func(*Snapshot) ([]byte, error)) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renew()
	if *kept == nil {
		data, err := write(&h.last)
		if err != nil {
			return nil, err
		}
		*kept = data
	}
	return *kept, nil
}

func (h *Handler) json(w http.ResponseWriter, _ *http.Request) {
	data, err := h.shared(&h.doc, func(shown *Snapshot) ([]byte, error) {
		s := *shown
		s.Upstreams, s.Deferrals = orEmpty(s.Upstreams), orEmpty(s.Deferrals)
		s.Policies.List, s.Changes.List = orEmpty(s.Policies.List), orEmpty(s.Changes.List)
		s.Hour.Steps, s.Day.Steps = orEmpty(s.Hour.Steps), orEmpty(s.Day.Steps)
		data, err := json.MarshalIndent(&s, "", "  ")
		return append(data, '\n'), err
	})
	if err != nil {
		h.broken(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data) // who went away needs no answer
}

// orEmpty makes a list of none one that JSON writes as a list.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (h *Handler) overview(w http.ResponseWriter, _ *http.Request) {
	data, err := h.shared(&h.html, func(s *Snapshot) ([]byte, error) { return h.render(view{Snapshot: s}) })
	h.write(w, http.StatusOK, data, err)
}

func (h *Handler) render(v view) ([]byte, error) {
	var b bytes.Buffer
	err := h.page.Execute(&b, &v)
	return b.Bytes(), err
}

// write sends a page, which is complete before the first octet is sent.
func (h *Handler) write(w http.ResponseWriter, code int, page []byte, err error) {
	if err != nil {
		h.broken(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(page) // who went away needs no answer
}

func (h *Handler) broken(w http.ResponseWriter, err error) {
	h.opt.Log.Error("a page cannot be written", "error", err)
	http.Error(w, "policyd: internal error", http.StatusInternalServerError)
}

// explain answers the box. What is wrong stands on the page, with the domain still in
// the box.
func (h *Handler) explain(w http.ResponseWriter, r *http.Request) {
	s := h.snapshot()
	v := view{Snapshot: &s, Asked: strings.TrimSpace(r.URL.Query().Get("domain")), Explaining: true}
	report, code, problem := h.report(r, v.Asked)
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "5")
	}
	v.Report, v.Problem = report, problem
	page, err := h.render(v)
	h.write(w, code, page, err)
}

// report explains a destination, or says why not.
func (h *Handler) report(r *http.Request, dest string) (report *explain.Report, code int, problem string) {
	switch from := r.Header.Get("Sec-Fetch-Site"); {
	case dest == "":
		return nil, http.StatusBadRequest, "Which domain? Write it in the box."
	case len(dest) > maxKey:
		return nil, http.StatusBadRequest, "That is too long for a domain."
	case from != "" && from != "same-origin" && from != "none":
		return nil, http.StatusForbidden, "Another web page asked for this, so nothing was looked up. If you want it, press Explain."
	case r.Header.Get("Sec-Purpose") != "":
		return nil, http.StatusForbidden, "Your browser asked for this ahead of time, so nothing was looked up. Press Explain."
	}
	if _, err := nexthop.Parse(dest); err != nil && !errors.Is(err, nexthop.ErrLiteral) && !errors.Is(err, nexthop.ErrParent) {
		return nil, http.StatusBadRequest, err.Error()
	}
	const busy = "Too much is being explained just now. Try again in a few seconds."
	select {
	case h.places <- struct{}{}:
	default:
		return nil, http.StatusTooManyRequests, busy
	}
	defer func() { <-h.places }()
	if !h.begun.Allow() {
		return nil, http.StatusTooManyRequests, busy
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainTime)
	defer cancel()
	report, err := h.opt.Explain(ctx, dest)
	if err != nil {
		return nil, http.StatusServiceUnavailable, err.Error()
	}
	return report, http.StatusOK, ""
}
