package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"

	"tlsverdict/internal/config"
	"tlsverdict/internal/milterd"
	"tlsverdict/internal/store"
)

// drainTime bounds what a stop may take.
const drainTime = 15 * time.Second

// runner is a milter that runs.
type runner struct {
	file   string
	cfg    *config.Milter
	level  slog.LevelVar
	log    *slog.Logger
	store  *store.Store
	source source
	server *milterd.Server
	// retiring are the sources of earlier configurations; ended lets them go.
	retiring sync.WaitGroup
	ended    chan struct{}
}

// serve runs until ctx ends, and drains.
func serve(ctx context.Context, file string, s streams) error {
	cfg, err := load(file)
	if err != nil {
		return err
	}
	r := &runner{file: file, cfg: cfg, ended: make(chan struct{})}
	r.level.Set(cfg.Policyd.Log.Level)
	r.log = newLogger(s.err, cfg.Policyd.Log.Format, &r.level)
	// What the milter library has to say is about peers that hang up, and any
	// peer can make it say it: for those who look for it.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(r.log)
	r.warn(cfg)
	if err := r.open(cfg); err != nil {
		return err
	}
	defer r.close()
	set, err := settings(cfg, r.source)
	if err != nil {
		return err
	}
	listeners, err := r.listen(ctx)
	if err != nil {
		return err
	}
	r.begin(r.source)
	r.server = milterd.New(milterd.Options{Settings: set, MaxConnections: cfg.MaxConnections, Log: r.log})
	return r.run(ctx, listeners, s.out)
}

func newLogger(w io.Writer, format config.LogFormat, level slog.Leveler) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	if format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

func (r *runner) warn(cfg *config.Milter) {
	for _, p := range cfg.Warnings(time.Now()) {
		r.log.Warn("configuration", "problem", p.Error())
	}
}

// open opens what verdicts come from.
func (r *runner) open(cfg *config.Milter) error {
	var err error
	if r.store, err = openStore(cfg, r.log); err != nil {
		return err
	}
	if r.source, err = newSource(cfg, r.store, r.log); err != nil && r.store != nil {
		r.closeStore()
	}
	return err
}

// begin starts the work in the background of a source that decides here.
func (r *runner) begin(s source) {
	if p, ok := s.(inProcess); ok {
		p.stack.Start()
	}
}

func (r *runner) close() {
	close(r.ended)
	r.retiring.Wait()
	closeSource(r.source)
	if r.store != nil {
		r.closeStore()
	}
}

func closeSource(s source) {
	// Nobody asks any more: what a connection to policyd says at its end is lost on
	// nobody.
	_ = s.Close()
}

func (r *runner) closeStore() {
	if err := r.store.Close(); err != nil {
		r.log.Error("closing the store", "error", err)
	}
}

// listen opens the sockets that systemd passed, then those of the configuration
// that are not among them.
func (r *runner) listen(ctx context.Context) ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets passed by systemd: %w", err)
	}
	var all []net.Listener
	taken := make(map[string]bool)
	for _, l := range passed {
		if l != nil {
			all = append(all, l)
			taken[l.Addr().String()] = true
		}
	}
	for _, a := range r.cfg.Listen {
		if taken[a.Endpoint()] {
			continue
		}
		l, err := a.Listen(ctx, r.cfg.SocketMode)
		if err != nil {
			for _, open := range all {
				// They are of no use any more, whatever closing says.
				_ = open.Close()
			}
			return nil, fmt.Errorf("cannot listen on %s: %w", a, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// run serves until ctx ends or a listener is lost, and drains.
func (r *runner) run(ctx context.Context, listeners []net.Listener, out io.Writer) error {
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, l := range listeners {
		r.log.Info("listening", "address", address(l))
		serving.Go(func() { failed <- r.server.Serve(l) })
	}
	if len(listeners) > 0 {
		announce(out, listeners[0])
	}
	r.notify(sd.SdNotifyReady)
	err := r.wait(ctx, failed)
	r.notify(sd.SdNotifyStopping)
	r.log.Info("stopping", "cause", context.Cause(ctx))
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if e := r.server.Shutdown(drain); e != nil {
		r.log.Warn("requests were cut off", "after", drainTime, "error", e)
	}
	serving.Wait()
	r.server.LogCounters()
	return err
}

// wait handles signals until ctx ends or a listener is lost.
func (r *runner) wait(ctx context.Context, failed <-chan error) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
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
		case s := <-signals:
			if s == syscall.SIGUSR1 {
				r.server.LogCounters()
				continue
			}
			r.notify(sd.SdNotifyReloading)
			r.reload()
			r.notify(sd.SdNotifyReady)
		case <-beat:
			r.notify(sd.SdNotifyWatchdog)
		}
	}
}

// reload reads the file again; messages that begin from now on are judged by it.
func (r *runner) reload() {
	cfg, err := load(r.file)
	if err == nil && cfg.File == "" && r.cfg.File != "" {
		// An editor or an upgrade may be about to put it back: without it there
		// would be no rules meanwhile.
		err = fmt.Errorf("%s is not there", r.cfg.File)
	}
	if err == nil {
		err = r.apply(cfg)
	}
	if err != nil {
		r.log.Error("the configuration was not reloaded; the old one stays in force", "error", err)
		return
	}
	r.log.Info("configuration reloaded", "file", cfg.File)
}

// apply puts a configuration in force, but what is read at the start only.
func (r *runner) apply(cfg *config.Milter) error {
	for _, what := range needRestart(r.cfg, cfg) {
		r.log.Warn("a changed setting takes effect at the next start only", "setting", what)
	}
	if cfg.Verdicts != r.cfg.Verdicts {
		// Who decides is settled at the start, and with it what decides.
		cfg.Verdicts, cfg.Policyd = r.cfg.Verdicts, r.cfg.Policyd
	}
	next := r.source
	old, here := r.source.(inProcess)
	if here {
		var err error
		if next, err = newSource(cfg, r.store, r.log); err != nil {
			return err
		}
	}
	set, err := settings(cfg, next)
	if err != nil {
		if here {
			closeSource(next)
		}
		return err
	}
	r.warn(cfg)
	if here {
		// One refresher at a time: it must tell the engine that is asked.
		old.stack.Quiesce()
		r.begin(next)
	}
	r.server.SetSettings(set)
	r.cfg, r.source = cfg, next
	r.level.Set(cfg.Policyd.Log.Level)
	if here {
		r.retire(old)
	}
	return nil
}

// retireTime is how long a message may go on with the settings that it began with.
const retireTime = 10 * time.Minute

// retire closes a source when nobody is likely to ask it any more; who does then is
// told that there is no verdict.
func (r *runner) retire(old source) {
	r.retiring.Go(func() {
		timer := time.NewTimer(retireTime)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.ended:
		}
		closeSource(old)
	})
}

// needRestart names what changed and is read at the start only.
func needRestart(a, b *config.Milter) []string {
	var out []string
	for _, s := range []struct {
		name    string
		changed bool
	}{
		{"milter.listen or milter.socket_mode", fmt.Sprint(a.Listen, a.SocketMode) != fmt.Sprint(b.Listen, b.SocketMode)},
		{"milter.max_connections", a.MaxConnections != b.MaxConnections},
		{"milter.verdicts", a.Verdicts != b.Verdicts},
		{"store.path", a.Policyd.Store != b.Policyd.Store},
		{"log.format", a.Policyd.Log.Format != b.Policyd.Log.Format},
	} {
		if s.changed {
			out = append(out, s.name)
		}
	}
	return out
}

// announce prints what to put in the MTA's configuration.
func announce(w io.Writer, l net.Listener) {
	fmt.Fprintf(w, "# main.cf\nsmtpd_milters = %[1]s\nnon_smtpd_milters = %[1]s\nmilter_default_action = tempfail\n# sendmail.mc\nINPUT_MAIL_FILTER(`tlsverdict', `S=%[2]s, F=T, T=C:10s;S:10s;R:30s;E:1m')\n",
		address(l), sendmailAddress(l))
}

// address is a listener's address as Postfix writes it.
func address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return "inet:" + l.Addr().String()
}

// sendmailAddress is the same as Sendmail writes it: inet:PORT@HOST.
func sendmailAddress(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if l.Addr().Network() == "unix" || err != nil {
		return "local:" + l.Addr().String()
	}
	return "inet:" + port + "@" + host
}

// notify tells systemd; without systemd it does nothing.
func (r *runner) notify(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		r.log.Warn("systemd was not told", "state", state, "error", err)
	}
}
