package postfixmap

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// The kinds of trouble that are logged, each once in a while.
const (
	problemPanic = iota
	problemRequest
	problemReply
	problemAccept
	problemRefused
	problemKinds
)

// A throttle lets one record of a kind pass in an interval and counts the others, so that a
// client that sends garbage all day does not fill the log.
type throttle struct {
	next    atomic.Int64 // on the server's clock, ns
	skipped atomic.Uint64
}

func (t *throttle) pass(now, every time.Duration) bool {
	next := t.next.Load()
	if int64(now) >= next && t.next.CompareAndSwap(next, int64(now+every)) {
		return true
	}
	t.skipped.Add(1)
	return false
}

// report logs a problem of a kind, unless one of its kind was logged within LogInterval.
func (s *Server) report(kind int, level slog.Level, msg string, attrs ...slog.Attr) {
	t := &s.logged[kind]
	if s.ErrorLog == nil || !t.pass(s.now(), s.LogInterval) {
		return
	}
	if n := t.skipped.Swap(0); n > 0 {
		attrs = append(attrs, slog.Uint64("left_out", n))
	}
	s.ErrorLog.LogAttrs(context.Background(), level, msg, attrs...)
}
