package milterd

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Settings are what may change while the milter runs. They are read, never written,
// once given to a Server. A message is judged by those that were in force when it
// began.
type Settings struct {
	Rules Rules
	// Asker is required.
	Asker   Asker
	OnError OnError
	// Deadline is the longest wait for verdicts in one command; then there is none.
	Deadline time.Duration
	// Header is the name of the header that tells the verdicts; empty: none.
	Header string
	// Prefetch asks at RCPT for what is not needed yet, so that the answer is
	// known when the MTA asks for it.
	Prefetch bool
	// LocalMailers are the mailers that do not send by SMTP, in lower case.
	LocalMailers map[string]bool
	// LocalDomains are domains whose mail stays here, for where the MTA does not
	// say which mailer it chose.
	LocalDomains map[string]bool
}

// counters count since the start.
type counters struct {
	messages, recipients, local              atomic.Uint64
	rejected, tempfailed, held, annotated    atomic.Uint64
	asked, unknown, prefetched, unprefetched atomic.Uint64
	explained, unexplained                   atomic.Uint64
	forged, panics                           atomic.Uint64
}

// count counts what was decided.
func (c *counters) count(a Action) {
	switch a {
	case Pass:
	case Annotate:
		c.annotated.Add(1)
	case Hold:
		c.held.Add(1)
	case Tempfail:
		c.tempfailed.Add(1)
	case Reject:
		c.rejected.Add(1)
	}
}

// LogCounters writes one record with all counts, each a number since the start but
// "open", which is now.
func (s *Server) LogCounters() {
	g, c := s.guardStats(), &s.counters
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "counters",
		slog.Int("open", g.Open), slog.Uint64("connections", g.Accepted), slog.Uint64("refused", g.Refused), slog.Uint64("displaced", g.Displaced),
		slog.Uint64("malformed", g.Malformed), slog.Uint64("slow", g.Slow),
		slog.Uint64("messages", c.messages.Load()), slog.Uint64("recipients", c.recipients.Load()), slog.Uint64("local", c.local.Load()),
		slog.Uint64("rejected", c.rejected.Load()), slog.Uint64("tempfailed", c.tempfailed.Load()),
		slog.Uint64("held", c.held.Load()), slog.Uint64("annotated", c.annotated.Load()),
		slog.Uint64("asked", c.asked.Load()), slog.Uint64("no_verdict", c.unknown.Load()),
		slog.Uint64("prefetched", c.prefetched.Load()), slog.Uint64("not_prefetched", c.unprefetched.Load()),
		slog.Uint64("explained", c.explained.Load()), slog.Uint64("not_explained", c.unexplained.Load()),
		slog.Uint64("forged_headers", c.forged.Load()), slog.Uint64("panics", c.panics.Load()))
}
