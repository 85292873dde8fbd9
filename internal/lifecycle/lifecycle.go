// Package lifecycle is what every daemon of this project does besides its work: it
// opens the listeners, tells systemd, handles signals, and drains at the end.
//
//	listeners, err := lifecycle.Listen(ctx, cfg.Listen, cfg.SocketMode)
//	if err != nil {
//		return err
//	}
//	service := &lifecycle.Service{
//		Serve:    func(l net.Listener) error { return server.Serve(ctx, l) },
//		Ready:    func() { fmt.Println("listening on", lifecycle.Address(listeners[0])) },
//		Reload:   reload,
//		Report:   server.LogCounters,
//		Shutdown: server.Shutdown,
//		Log:      log,
//	}
//	return service.Run(ctx, listeners)
//
// # Signals
//
// SIGHUP calls Reload and SIGUSR1 calls Report, one at a time, in the order in which
// they came. What ends the daemon ends ctx: that is the command's part, as is what it
// exits with.
//
// # The end
//
// When ctx ends, or a listener is lost, Shutdown has DrainTime to finish what is under
// way. Run returns nil after an end of ctx, else what was lost.
//
// # systemd
//
// Sockets that it passes come before those of the configuration. It is told of
// readiness, of reloads, of the end, and twice in each interval of its watchdog that
// signals are still being handled. Without systemd nothing is told.
//
// # What it does not do
//
// It reads no configuration and knows nothing of what is served. It does not
// daemonize, write pid files or change users: service managers do.
package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// DrainTime bounds what a stop may take.
const DrainTime = 15 * time.Second

// Service is a daemon's own part. All fields are required.
type Service struct {
	// Serve serves one listener until Shutdown. It is called once for each, in
	// goroutines of their own; that it returns before the end is an error.
	Serve func(net.Listener) error
	// Ready is called once, when all listeners are being served.
	Ready func()
	// Reload puts the configuration in force anew and returns the name of its file.
	// On an error the old one is in force still.
	Reload func(context.Context) (file string, err error)
	// Report writes to the log how the daemon is.
	Report func()
	// Shutdown ends all Serves. It finishes what is under way until ctx ends.
	Shutdown func(context.Context) error
	Log      *slog.Logger
}

// Run serves until ctx ends or a listener is lost, and drains.
func (s *Service) Run(ctx context.Context, listeners []net.Listener) error {
	// Before anybody is told that they may be sent: unhandled, they end the process.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, l := range listeners {
		s.Log.Info("listening", "address", Address(l))
		serving.Go(func() { failed <- s.Serve(l) })
	}
	s.Ready()
	s.tell(sd.SdNotifyReady)
	err := s.wait(ctx, signals, failed)
	s.tell(sd.SdNotifyStopping)
	s.Log.Info("stopping", "cause", context.Cause(ctx))
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), DrainTime)
	defer cancel()
	if e := s.Shutdown(drain); e != nil {
		s.Log.Warn("requests were cut off", "after", DrainTime, "error", e)
	}
	serving.Wait()
	return err
}

// wait handles signals until ctx ends or a listener is lost.
func (s *Service) wait(ctx context.Context, signals <-chan os.Signal, failed <-chan error) error {
	var beat <-chan time.Time
	if interval, err := sd.SdWatchdogEnabled(false); err == nil && interval > 0 {
		ticker := time.NewTicker(interval / 2)
		defer ticker.Stop()
		beat = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("a listener was lost: %w", err)
		case which := <-signals:
			if which == syscall.SIGUSR1 {
				s.Report()
				continue
			}
			s.reload(ctx)
		case <-beat:
			s.tell(sd.SdNotifyWatchdog)
		}
	}
}

func (s *Service) reload(ctx context.Context) {
	s.tell(sd.SdNotifyReloading)
	if file, err := s.Reload(ctx); err != nil {
		s.Log.Error("the configuration was not reloaded; the old one stays in force", "error", err)
	} else {
		s.Log.Info("configuration reloaded", "file", file)
	}
	s.tell(sd.SdNotifyReady)
}

// tell tells systemd; without systemd it does nothing.
func (s *Service) tell(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		s.Log.Warn("systemd was not told", "state", state, "error", err)
	}
}
