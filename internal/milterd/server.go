package milterd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/d--j/go-milter"
	"golang.org/x/time/rate"
)

const (
	// maxPrefetch bounds the questions under way that nobody waits for.
	maxPrefetch = 64
	// maxExplain bounds the questions for reasons.
	maxExplain = 16
	// giveUpTime is how long questions may take to end when they are told to.
	giveUpTime = time.Second
)

// Options are what a Server is made of and keeps.
type Options struct {
	// Settings are required; SetSettings changes them.
	Settings *Settings
	// MaxConnections bounds the open connections of each listener.
	MaxConnections int
	// Log is required.
	Log *slog.Logger
}

// Server serves milter connections. Make it with New.
type Server struct {
	log      *slog.Logger
	limit    int
	settings atomic.Pointer[Settings]
	counters counters
	library  *milter.Server

	// background is what questions run under; cancel ends them.
	background context.Context
	cancel     context.CancelFunc
	asking     sync.WaitGroup
	ahead      chan struct{}
	explaining chan struct{}
	reasons    reasons
	seldom     rate.Sometimes

	mu     sync.Mutex
	guards []*Guard
	// closed says that no connections are taken, stopped that no questions are.
	closed, stopped bool
}

// New returns a Server that serves nothing yet.
func New(opt Options) *Server {
	s := &Server{
		log: opt.Log, limit: opt.MaxConnections, seldom: rate.Sometimes{Interval: time.Minute},
		ahead: make(chan struct{}, maxPrefetch), explaining: make(chan struct{}, maxExplain),
	}
	s.background, s.cancel = context.WithCancel(context.Background())
	s.settings.Store(opt.Settings)
	options := []milter.Option{
		milter.WithDynamicMilter(func(uint32, milter.OptAction, milter.OptProtocol, milter.DataSize) milter.Milter {
			return &session{server: s}
		}),
		milter.WithActions(actions), milter.WithProtocols(protocol), milter.WithNegotiationCallback(negotiate),
		milter.WithMacroRequest(milter.StageMail, []milter.MacroName{milter.MacroQueueId, milter.MacroAuthType, milter.MacroAuthAuthen}),
		milter.WithMacroRequest(milter.StageRcpt, []milter.MacroName{milter.MacroQueueId, milter.MacroRcptMailer, milter.MacroRcptHost, milter.MacroRcptAddr}),
		milter.WithMacroRequest(milter.StageEOM, []milter.MacroName{milter.MacroQueueId}),
	}
	s.library = milter.NewServer(options...)
	return s
}

// SetSettings puts other settings in force for messages that begin from now on.
func (s *Server) SetSettings(set *Settings) { s.settings.Store(set) }

// Serve serves a listener until Shutdown, which makes it return nil, or until the
// listener is lost. It may be called for several.
func (s *Server) Serve(l net.Listener) error {
	g := NewGuard(l, s.limit, s.log)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.Join(g.Close(), net.ErrClosed)
	}
	s.guards = append(s.guards, g)
	s.mu.Unlock()
	err := s.library.Serve(g)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	return fmt.Errorf("milterd: %w", err)
}

// Shutdown takes no more connections, ends those that have no message under way,
// and waits for the others until ctx ends; they are then cut off, and the error is
// ctx's. A cut-off MTA defers. An Asker that does not give up when it is told to is left
// behind.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	guards := s.guards
	s.mu.Unlock()
	for _, g := range guards {
		g.Drain()
	}
	err := s.library.Shutdown(ctx)
	if errors.Is(err, net.ErrClosed) {
		// A listener that was lost is closed already.
		err = nil
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cancel()
	asked := make(chan struct{})
	go func() {
		s.asking.Wait()
		close(asked)
	}()
	timer := time.NewTimer(giveUpTime)
	defer timer.Stop()
	select {
	case <-asked:
	case <-timer.C:
		err = errors.Join(err, errors.New("milterd: questions for verdicts do not end"))
	}
	return err
}

// spawn runs a question beside the callbacks, unless the end has come.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.asking.Go(f)
	return true
}

func (s *Server) guardStats() GuardStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all GuardStats
	for _, g := range s.guards {
		one := g.Stats()
		all.Open += one.Open
		all.Accepted += one.Accepted
		all.Refused += one.Refused
		all.Displaced += one.Displaced
		all.Malformed += one.Malformed
		all.Slow += one.Slow
	}
	return all
}

// What is asked of the MTA. Headers are always looked at: which of them matter may
// change while a connection is open.
const (
	actions  = milter.OptAddHeader | milter.OptChangeHeader | milter.OptQuarantine | milter.OptSetMacros
	protocol = milter.OptNoConnect | milter.OptNoHelo | milter.OptNoBody | milter.OptNoUnknown | milter.OptNoData |
		milter.OptNoEOH | milter.OptNoHeaderReply | milter.OptNoMailReply
)

// negotiate takes what the MTA offers. What it lacks is missed when it is needed,
// not before: an MTA without quarantine can still refuse.
func negotiate(mtaVersion, own uint32, mtaActions, ownActions milter.OptAction, mtaProtocol, ownProtocol milter.OptProtocol, size milter.DataSize) (uint32, milter.OptAction, milter.OptProtocol, milter.DataSize, error) {
	if mtaVersion < 2 {
		return 0, 0, 0, 0, fmt.Errorf("milterd: the MTA speaks version %d of the protocol; 2 and later are understood", mtaVersion)
	}
	return min(mtaVersion, own), mtaActions & ownActions, mtaProtocol & ownProtocol, size, nil
}
