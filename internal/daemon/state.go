package daemon

import (
	"context"
	"sync"
	"time"

	"tlsverdict/internal/readiness"
	"tlsverdict/internal/resolve"
)

// state is where a daemon is in its life, and what went wrong on the way. The zero value:
// it starts.
type state struct {
	mu   sync.Mutex
	life readiness.Life
	// reload is why the last one was refused, control why there is no control socket.
	reload, control string
	// health is what was known of the resolvers before the last reload.
	health resolve.Health
	// loaded is when the settings in force were read.
	loaded time.Time
}

// begin says that listeners are served. A drain is not undone.
func (s *state) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = time.Now()
	s.life = max(s.life, readiness.Serving)
}

func (s *state) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = readiness.Draining
}

func (s *state) lacksControl(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.control = err.Error()
}

// reloading is a reload that is remembered.
func (s *state) reloading(reload func(context.Context) (string, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		file, err := reload(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			s.reload = err.Error()
		} else {
			s.reload, s.loaded = "", time.Now()
		}
		return file, err
	}
}

// keep keeps what is known of resolvers whose successors are yet to be examined: a reload
// alone makes nobody unready.
func (s *state) keep(h resolve.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = h
}

// settings tells when those in force were read, and whether the last reload was not refused.
func (s *state) settings() (loaded time.Time, reloaded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded, s.reload == ""
}

// tell fills in what a report of readiness rests on.
func (s *state) tell(f *readiness.Facts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Life, f.ReloadError, f.ControlError = s.life, s.reload, s.control
	if f.Resolver.Checked.IsZero() {
		f.Resolver = s.health
	}
}
