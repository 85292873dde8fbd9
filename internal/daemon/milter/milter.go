// Package milter runs the milter: it makes the rules of milter.toml into those of
// milterd, and has verdicts from a policyd or works them out itself.
//
//	err := milter.Run(ctx, daemon.Options{ConfigFile: "/etc/tlsverdict/milter.toml", Stdout: os.Stdout, Stderr: os.Stderr})
//
// A reload makes new settings for messages that begin from then on; what decides here,
// if anything does, is made anew with them, and the old one goes when nobody is likely
// to ask it any more. Whether a policyd decides, or this process, is settled at the
// start.
//
// Everything else that a daemon does is in lifecycle; what an MTA is answered, in
// milterd.
package milter

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/lifecycle"
	"tlsverdict/internal/milterd"
	"tlsverdict/internal/store"
)

// runner is a milter that runs.
type runner struct {
	file   string
	cfg    *config.Milter
	level  slog.LevelVar
	log    *slog.Logger
	store  *store.Store
	source source
	server *milterd.Server

	confinement daemon.Confinement
	// retiring are the sources of earlier configurations; ended lets them go.
	retiring sync.WaitGroup
	ended    chan struct{}
}

// Run runs the milter until ctx ends, and drains. It returns nil after that, else what
// made it impossible to start or to go on; a *daemon.ConfigError where to start again
// with this configuration is of no use.
func Run(ctx context.Context, opt daemon.Options) error {
	cfg, err := Load(opt.ConfigFile)
	if err != nil {
		return err
	}
	r := &runner{file: opt.ConfigFile, cfg: cfg, ended: make(chan struct{})}
	r.level.Set(cfg.Policyd.Log.Level)
	r.log = lifecycle.NewLogger(opt.Stderr, daemon.LogFormat(cfg.Policyd.Log.Format), &r.level)
	// What the milter library has to say is about peers that hang up, and any
	// peer can make it say it: for those who look for it.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(r.log)
	r.warn(cfg)
	listeners, err := lifecycle.Listen(ctx, cfg.Listen, cfg.SocketMode)
	if err != nil {
		return err
	}
	defer lifecycle.Close(listeners)
	r.confinement = daemon.Confinement{Process: opt.Process, Settings: cfg.Policyd.Process, Log: r.log}
	if err := r.confinement.Become(storePath(cfg)); err != nil {
		return err
	}
	if err := r.open(cfg); err != nil {
		return err
	}
	defer r.close()
	set, err := settings(cfg, r.source)
	if err != nil {
		return err
	}
	if err := r.confinement.Seal(needs(ctx, cfg)); err != nil {
		return err
	}
	r.source.Start()
	r.server = milterd.New(milterd.Options{Settings: set, MaxConnections: cfg.MaxConnections, Log: r.log})
	return r.serve(ctx, listeners, opt.Stdout)
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

// serve serves until ctx ends or a listener is lost, and drains.
func (r *runner) serve(ctx context.Context, listeners []net.Listener, out io.Writer) error {
	service := &lifecycle.Service{
		Serve: r.server.Serve,
		Ready: func() {
			if len(listeners) > 0 {
				announce(out, listeners[0])
			}
		},
		Reload: r.reload, Report: r.server.LogCounters, Shutdown: r.server.Shutdown, Log: r.log,
	}
	err := service.Run(ctx, listeners)
	r.server.LogCounters()
	return err
}

// reload reads the file again; messages that begin from now on are judged by it.
func (r *runner) reload(ctx context.Context) (file string, err error) {
	cfg, err := Load(r.file)
	if err == nil && cfg.File == "" && r.cfg.File != "" {
		// An editor or an upgrade may be about to put it back: without it there
		// would be no rules meanwhile.
		err = fmt.Errorf("%s is not there", r.cfg.File)
	}
	if err == nil {
		err = r.apply(ctx, cfg)
	}
	if err != nil {
		return "", r.confinement.Hint(err)
	}
	return cfg.File, nil
}

// apply puts a configuration in force, but what is read at the start only.
func (r *runner) apply(ctx context.Context, cfg *config.Milter) error {
	for _, what := range append(needRestart(r.cfg, cfg), r.confinement.Beyond(needs(ctx, cfg))...) {
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
		next.Start()
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
		{"store.path", a.Policyd.Store.Path != b.Policyd.Store.Path},
		{"process.user, process.landlock or process.read", fmt.Sprint(a.Policyd.Process) != fmt.Sprint(b.Policyd.Process)},
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
		lifecycle.Address(l), sendmailAddress(l))
}

// sendmailAddress is the same as Sendmail writes it: inet:PORT@HOST.
func sendmailAddress(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if l.Addr().Network() == "unix" || err != nil {
		return "local:" + l.Addr().String()
	}
	return "inet:" + port + "@" + host
}
