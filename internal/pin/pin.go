// Package pin learns what mail hosts promise in their greeting, and keeps it: the banner of
// package signal, whose pins package verdict reads.
//
//	learner := pin.New(pin.Config{Store: st, Log: log})
//	prober := probe.New(probe.Config{Probe: client.Probe, Pace: learner.Pace(), Done: learner.Done, ...})
//	learner.Prober, learner.Raised = prober, e.Raise
//	...
//	learner.Ruled(&facts) // a domain is in use: its MX hosts are to be looked at
//
// # How a host is pinned
//
// Ruled notes the MX hosts of each domain that is ruled on, and has them probed on port 25,
// in the background. Done reads what a probe found, and believes a banner where
//
//   - the greeting has one directive, and it parses: see package signal;
//   - its pattern covers the host that was connected to;
//   - the same connection went on to STARTTLS, and the certificate was one by an authority
//     for that host's name.
//
// Then the host, and no other, is pinned in the store until max-age has passed. A host is
// looked at again as long as domains with it are ruled on: twice a day, or before half to
// three quarters of a shorter max-age have passed. A banner that is seen again prolongs the
// pin, and nothing shortens it: not its absence, not max-age=0, not a host that fails. A
// pin ends with time, or by the operator's word, in the store.
//
// A host that fails is looked at again after an hour, and then ever more rarely, up to a
// day. Where a banner could be renewed and is not, mail goes on to be held to the pin.
//
// # Limits
//
// maxHosts hosts are remembered, and of each maxDomains domains: those are ruled on again
// at once when it is pinned, others when their verdict ends. The prober bounds the probes,
// and the store the pins.
//
// # What it does not do
//
// It does not decide what a pin means, nor connect to anything itself.
package pin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
)

const (
	// maxHosts bounds the hosts that are remembered, as many as a prober does.
	maxHosts = 10_000
	// maxDomains bounds the domains that are remembered of one host.
	maxDomains = 32
	// lookEvery is how long a good look at a host lasts, at most, and leastLook at least,
	// whatever its max-age.
	lookEvery = 24 * time.Hour
	leastLook = 10 * time.Minute
	// failedPause and longestPause are those of hosts that do not prove themselves. Many
	// mail servers have no TLS, and never will.
	failedPause  = time.Hour
	longestPause = 24 * time.Hour
	// sweepEvery is how often pins that ended long ago are dropped.
	sweepEvery = time.Hour
)

// Store keeps pins; package store has it.
type Store interface {
	Pin(host string) (p signal.Pin, found bool, err error)
	Pins() ([]signal.Pin, error)
	UpdatePin(host string, modify func(old signal.Pin, found bool) (signal.Pin, bool)) error
	DropPins(now time.Time) int
}

// Wanter has hosts probed; probe.Prober does.
type Wanter interface {
	Want(...probe.Target)
}

// Config is what a Learner works with.
type Config struct {
	// Store is required.
	Store Store
	// Learned is told of each pin that was learned or prolonged, once it is kept. It must not
	// wait. Optional.
	Learned func(signal.Pin)
	// Log is required.
	Log *slog.Logger
}

// Learner learns pins. It is safe for concurrent use.
type Learner struct {
	cfg Config
	// Prober has hosts probed on port 25. Raised is told of domains of which more may be
	// demanded than before, because a host was pinned; it must not call the Learner. Both
	// must be set before the first ruling.
	Prober Wanter
	Raised func(domain string)

	// trouble limits the records of probes that could not be made, crowded those of pins
	// for which there is no place.
	trouble, crowded rate.Sometimes

	mu    sync.Mutex
	hosts map[string]*host
	seen  Stats
}

// host is what is remembered of one.
type host struct {
	// domains are some of those that have it, and next is where the next one goes.
	domains []string
	next    int
	// said is what was seen of it last, so that it is written once.
	said string
}

// Stats are counters since the start.
type Stats struct {
	// Banners are looks that found a directive, Believed those that were believed, Pinned
	// the hosts that were not pinned before.
	Banners, Believed, Pinned uint64
}

// New returns a Learner.
func New(cfg Config) *Learner {
	return &Learner{
		cfg: cfg, hosts: make(map[string]*host),
		trouble: rate.Sometimes{Interval: 10 * time.Minute}, crowded: rate.Sometimes{Interval: 10 * time.Minute},
	}
}

// Pace is how often hosts are to be probed.
func (l *Learner) Pace() probe.Pace {
	return probe.Pace{Good: look, Failed: failedPause, Longest: longestPause}
}

// look is how long a good probe lasts.
func look(r *probe.Result) time.Duration {
	b, err := signal.ParseBanner(greeting(r))
	if err != nil || b.MaxAge == 0 {
		return lookEvery
	}
	return min(max(b.MaxAge, leastLook), lookEvery)
}

// Ruled notes that a domain is in use. It does not wait.
func (l *Learner) Ruled(f *verdict.Facts) {
	targets := Targets(f)
	if len(targets) == 0 {
		return
	}
	l.note(f.Destination.Name, targets)
	if l.late(f) {
		l.Raised(f.Destination.Name)
	}
	l.Prober.Want(targets...)
}

// Targets are the hosts of a destination that can be pinned.
func Targets(f *verdict.Facts) []probe.Target {
	if f.Destination.Port != nexthop.SMTPPort {
		return nil
	}
	var out []probe.Target
	for _, name := range f.Pinnable() {
		if n, err := nexthop.Normalize(name); err == nil && n == name {
			out = append(out, target(name))
		}
	}
	return out
}

// late reports whether a host was pinned after the facts about it were gathered, so that
// they are old.
func (l *Learner) late(f *verdict.Facts) bool {
	for _, fact := range f.Pins {
		if f.Now.Before(fact.Until) || fact.Failure != nil {
			continue
		}
		if p, found, err := l.cfg.Store.Pin(fact.Host); found && err == nil && p.Learned.After(f.Now) {
			return true
		}
	}
	return false
}

// note remembers that a domain has these hosts.
func (l *Learner) note(domain string, targets []probe.Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range targets {
		h := l.host(t.Host)
		switch {
		case slices.Contains(h.domains, domain):
		case len(h.domains) < maxDomains:
			h.domains = append(h.domains, domain)
		default:
			h.domains[h.next] = domain
			h.next = (h.next + 1) % maxDomains
		}
	}
}

// host returns what is remembered of a host. Past the bound it takes the place of another,
// whose domains are then ruled on again when their verdicts end. The caller holds the lock.
func (l *Learner) host(name string) *host {
	h := l.hosts[name]
	if h == nil {
		if len(l.hosts) >= maxHosts {
			for other := range l.hosts {
				delete(l.hosts, other)
				break
			}
		}
		h = &host{}
		l.hosts[name] = h
	}
	return h
}

func target(host string) probe.Target {
	return probe.Target{Host: host, Port: nexthop.SMTPPort, Kind: probe.StartTLS}
}

// greeting is that of a probe, as signal.ParseBanner takes it.
func greeting(r *probe.Result) []string {
	lines := strings.Split(r.Greeting, "\n")
	for i := range lines {
		mark := "220-"
		if i == len(lines)-1 {
			mark = "220 "
		}
		lines[i] = mark + lines[i]
	}
	return lines
}

// Done takes over what a probe found. It does not wait.
func (l *Learner) Done(r probe.Result) {
	name := r.Target.Host
	now := time.Now()
	old, found, _ := l.cfg.Store.Pin(name)
	held := found && old.Holds(now)
	if r.Err != nil {
		l.failed(&r, held)
		return
	}
	b, err := signal.ParseBanner(greeting(&r))
	if !errors.Is(err, signal.ErrNoRecord) {
		l.count(func(s *Stats) { s.Banners++ })
	}
	switch {
	case errors.Is(err, signal.ErrNoRecord) && held:
		log := l.once(name, "bare")
		log.Info("a pinned host shows no banner; the pin holds until its end", "host", name, "until", stamp(old.Until))
	case errors.Is(err, signal.ErrNoRecord):
		log := l.once(name, "none")
		log.Debug("a host shows no banner", "host", name)
	case err != nil:
		l.unbelieved(name, err.Error())
	case !b.Covers(name):
		l.unbelieved(name, "strict-tls="+b.Pattern.String()+" does not cover the host")
	case !r.Named:
		l.unbelieved(name, "its certificate is not one by a certificate authority for its name")
	case b.MaxAge == 0:
		log := l.once(name, "nothing")
		log.Info("a banner asks for nothing", "host", name, "held", held)
	default:
		l.believe(name, &b, now)
	}
}

func (l *Learner) unbelieved(name, why string) {
	log := l.once(name, "unbelieved")
	log.Info("a banner is not believed", "host", name, "error", why)
}

// believe pins a host, or prolongs its pin.
func (l *Learner) believe(name string, b *signal.Banner, now time.Time) {
	fresh, pin := false, signal.Pin{}
	err := l.cfg.Store.UpdatePin(name, func(old signal.Pin, _ bool) (signal.Pin, bool) {
		old.Host = name
		fresh = !old.Holds(now)
		pin = old.Renewed(b, now)
		return pin, true
	})
	if errors.Is(err, store.ErrFull) {
		l.crowded.Do(func() {
			l.cfg.Log.Warn("too many hosts are pinned; some are not", "host", name)
		})
		return
	}
	if l.cfg.Learned != nil {
		l.cfg.Learned(pin)
	}
	l.count(func(s *Stats) {
		s.Believed++
		if fresh {
			s.Pinned++
		}
	})
	log := l.once(name, "pinned")
	log.Info("a mail host is pinned by its banner", "host", name, "banner", pin.String(), "until", stamp(pin.Until))
	if fresh {
		for _, domain := range l.Domains(name) {
			l.Raised(domain)
		}
	}
}

// failed is for a host that did not prove itself. One that is pinned and fails is worth a
// word: mail to it may wait.
func (l *Learner) failed(r *probe.Result, held bool) {
	switch {
	case errors.Is(r.Err, context.Canceled):
		// policyd stops.
	case r.Err.Silent():
		l.trouble.Do(func() {
			l.cfg.Log.Warn("mail hosts cannot be looked at for their banners", "host", r.Target.Host,
				"stage", r.Err.Stage.String(), "fault", r.Err.Fault.String(), "error", r.Err.Detail)
		})
	case held:
		log := l.once(r.Target.Host, "failing")
		log.Warn("a pinned host does not prove itself; mail to it waits", "host", r.Target.Host, "stage", r.Err.Stage.String(), "error", r.Err.Detail)
	}
}

// once returns where to write what was seen of a host: the log where that is another thing
// than was seen last, and nowhere where it is not.
func (l *Learner) once(name, seen string) *slog.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(name)
	if h.said == seen {
		return slog.New(slog.DiscardHandler)
	}
	h.said = seen
	return l.cfg.Log
}

func (l *Learner) count(f func(*Stats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.seen)
}

// Stats returns the counters.
func (l *Learner) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// Domains returns some of the domains that have a host.
func (l *Learner) Domains(name string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.hosts[name]; h != nil {
		return slices.Clone(h.domains)
	}
	return nil
}

// Run drops pins that ended long ago until ctx ends.
func (l *Learner) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		l.cfg.Store.DropPins(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
