// Package daemon runs policyd: it opens the listeners, answers until it is told to
// stop, and then finishes what is under way.
//
//	err := daemon.Run(ctx, daemon.Options{ConfigFile: "/etc/tlsverdict/policyd.toml", Stdout: os.Stdout, Stderr: os.Stderr})
//
// The end of ctx (SIGTERM, SIGINT) drains: no new connections, an answer for each
// request under way, at most lifecycle.DrainTime in all. SIGHUP reads the file again; a bad
// one is refused and the old one kept. SIGUSR1 switches debug records on and off; one
// of them tells what the process holds.
//
// The file descriptors that the process may have are shared out at the start between
// connections, DNS questions and policy fetches, so that none takes what another needs.
//
// Under systemd, sockets passed by it come before those of the configuration, and
// readiness, reload, stopping and the watchdog are told to it.
//
// A store that cannot be opened does not stop the daemon: policies are then kept
// in memory, which is said loudly, since a restart would forget them. One that
// another process has does: two daemons must not answer from different policies.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/lifecycle"
	"tlsverdict/internal/metrics"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/store"
	"tlsverdict/postfixmap"
)

// DefaultConfigFile is read when no other is named; it need not exist.
const DefaultConfigFile = "/etc/tlsverdict/policyd.toml"

// Options are what the command line says.
type Options struct {
	// ConfigFile is the file to read; empty means DefaultConfigFile if it
	// exists, else the embedded defaults.
	ConfigFile string
	// Stdout gets the line for main.cf, Stderr the log.
	Stdout, Stderr io.Writer
	// Process is this process, from which rights are taken once it has started; nil
	// takes none.
	Process Process
}

// ConfigError says that the configuration cannot be used: to start again without
// changing it is of no use.
type ConfigError struct{ Cause error }

// Error returns the cause's text.
func (e *ConfigError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Cause }

// LoadConfig reads the named file; with no name DefaultConfigFile, or the embedded
// defaults where that does not exist. Errors are *ConfigError.
func LoadConfig(name string) (*config.Config, error) {
	cfg, err := config.Load(cmp.Or(name, DefaultConfigFile))
	switch {
	case err == nil:
		return cfg, nil
	case name == "" && errors.Is(err, fs.ErrNotExist):
		return config.Default(), nil
	}
	return nil, &ConfigError{err}
}

// Check reports what is wrong with the files that a configuration names, beyond what
// LoadConfig reports: what works but is probably not meant, or an error, which is a
// *ConfigError.
func Check(cfg *config.Config) (warnings []string, err error) {
	anchors, err := trustAnchors(cfg, Network{})
	if err != nil && cfg.DNS.TrustAnchors != "" {
		return nil, &ConfigError{fmt.Errorf("dns.trust_anchors: %w", err)}
	}
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("the anchors built in are used: %v", err))
	}
	if gap := anchorGap(anchors); gap != "" {
		warnings = append(warnings, gap)
	}
	files, err := checkShared(&cfg.Store.Shared)
	if err != nil {
		return nil, &ConfigError{err}
	}
	return append(warnings, files...), nil
}

// anchorGap says what some trust anchors leave without any proof, or "".
func anchorGap(anchors *dnssec.Anchors) string {
	if anchors == nil || anchors.Covers(".") {
		return ""
	}
	return "dns.trust_anchors has no anchor of the root: nothing can be proven outside of " + strings.Join(anchors.Zones(), ", ") +
		", so that mail to all other domains waits, unless an MTA-STS policy decides"
}

// Run is the daemon. It returns nil after a drain, else what made it impossible
// to start or to go on.
func Run(ctx context.Context, opt Options) error {
	cfg, err := LoadConfig(opt.ConfigFile)
	if err != nil {
		return err
	}
	SpareMemory()
	d := &daemon{opt: opt, cfg: cfg, durations: metrics.NewDurations()}
	d.level.Set(cfg.Log.Level)
	d.log = lifecycle.NewLogger(opt.Stderr, LogFormat(cfg.Log.Format), &d.level)
	d.warn(cfg)
	d.limits = limit(cfg, d.log)
	// Root's sockets are opened first, root's rights then given up, and what is written
	// later is opened by who writes it.
	passed := lifecycle.Passed(webSocket)
	listeners, err := passed.Listen(ctx, cfg.Socketmap.Listen, cfg.Socketmap.SocketMode)
	if err != nil {
		return err
	}
	defer lifecycle.Close(listeners)
	d.confinement = Confinement{Process: opt.Process, Settings: cfg.Process, Log: d.log}
	if err := d.confinement.Become(cfg.Store.Path, cfg.Control.Socket); err != nil {
		return err
	}
	if d.store, err = OpenStore(cfg.Store.Path, d.log); err != nil {
		return err
	}
	defer d.closeStore()
	stack, err := NewStack(cfg, d.store, d.network(), d.log)
	if errors.Is(err, resolve.ErrConfig) {
		return &ConfigError{err}
	}
	if err != nil {
		return err
	}
	d.stack.Store(stack)
	defer func() {
		d.retiring.Wait()
		d.stack.Load().Close()
	}()
	d.server = &postfixmap.Server{Handler: d, MaxConnections: d.limits.connections, ErrorLog: d.log}
	defer d.control(ctx)()
	// It goes when the drain is over, so that it can tell of it.
	defer d.web(ctx, passed.Named(webSocket))()
	if err := d.confinement.Seal(d.needs(ctx, cfg)); err != nil {
		return err
	}
	stack.Start()
	return d.serve(ctx, listeners)
}

type daemon struct {
	opt   Options
	cfg   *config.Config
	level slog.LevelVar
	log   *slog.Logger
	store *store.Store
	// limits are worked out once: descriptors do not become more.
	limits      limits
	confinement Confinement
	server      *postfixmap.Server
	stack       atomic.Pointer[Stack]
	// retiring are the stacks of earlier configurations.
	retiring sync.WaitGroup
	// state is what the pages tell of the daemon's life, totals what was counted, and
	// durations how long it took.
	state     state
	totals    totals
	durations *metrics.Durations
}

// LogFormat is the configured format as the logger has it.
func LogFormat(f config.LogFormat) lifecycle.Format {
	if f == config.LogJSON {
		return lifecycle.JSON
	}
	return lifecycle.Text
}

// warn says what the configuration makes possible although it is probably not meant.
func (d *daemon) warn(cfg *config.Config) {
	for _, p := range cfg.Warnings(time.Now()) {
		d.log.Warn("configuration", "problem", p.Error())
	}
}

// OpenStore opens the file, or keeps policies in memory where it cannot be had. A file
// that another process has is an error, a *ConfigError: its daemon must not be answered
// beside as if no policy were known.
func OpenStore(path string, log *slog.Logger) (*store.Store, error) {
	st, err := store.Open(path, log)
	if errors.Is(err, store.ErrLocked) {
		return nil, &ConfigError{fmt.Errorf("%w: is another policyd, or milter, running? [store] path names another file", err)}
	}
	if err == nil || path == "" {
		return st, err
	}
	log.Error("MTA-STS policies are kept in memory only and forgotten at the next restart", "store", path, "error", err,
		"way_out", "make the directory writable, or set [store] path = \"\" to accept this")
	return store.Open("", log)
}

func (d *daemon) closeStore() {
	if err := d.store.Close(); err != nil {
		d.log.Error("closing the store", "error", err)
	}
}

// serve answers until ctx ends, and drains.
func (d *daemon) serve(ctx context.Context, listeners []net.Listener) error {
	service := &lifecycle.Service{
		Serve: func(l net.Listener) error { return d.server.Serve(ctx, l) },
		Ready: func() {
			d.state.begin()
			d.announce(ctx, listeners)
		},
		Reload: d.state.reloading(d.reload), Report: d.toggleDebug, Log: d.log,
		Shutdown: func(ctx context.Context) error {
			d.state.drain()
			return d.server.Shutdown(ctx)
		},
	}
	return service.Run(ctx, listeners)
}

// toggleDebug switches debug records on and off.
func (d *daemon) toggleDebug() {
	if d.level.Level() == slog.LevelDebug {
		d.level.Set(max(d.cfg.Log.Level, slog.LevelInfo))
	} else {
		d.level.Set(slog.LevelDebug)
	}
	d.log.Info("log level", "level", d.level.Level())
	d.runtime()
}

// reload reads the file again and answers by it from the next question on. What
// was ruled by the old one is forgotten, so that a new override holds at once.
func (d *daemon) reload(ctx context.Context) (file string, err error) {
	cfg, err := LoadConfig(d.opt.ConfigFile)
	if err != nil {
		return "", d.confinement.Hint(err)
	}
	if cfg.File == "" && d.cfg.File != "" {
		// An editor or an upgrade may be about to put it back: to answer by the
		// defaults meanwhile would drop every override.
		return "", fmt.Errorf("%s is not there", d.cfg.File)
	}
	d.warn(cfg)
	next, err := NewStack(cfg, d.store, d.network(), d.log)
	if err != nil {
		return "", d.confinement.Hint(err)
	}
	for _, what := range append(needRestart(d.cfg, cfg), d.confinement.Beyond(d.needs(ctx, cfg))...) {
		d.log.Warn("a changed setting takes effect at the next start only", "setting", what)
	}
	d.cfg = cfg
	d.level.Set(cfg.Log.Level)
	// One refresher at a time: it must tell the engine that is asked.
	d.stack.Load().Quiesce()
	next.mta.inherit(d.stack.Load().mta)
	next.waits.Inherit(d.stack.Load().waits)
	d.state.keep(d.stack.Load().Resolver.Health())
	next.Start()
	d.retire(ctx, d.totals.succeed(&d.stack, next))
	return cfg.File, nil
}

// retire closes a stack when nobody can be waiting for it any more.
func (d *daemon) retire(ctx context.Context, old *Stack) {
	d.retiring.Go(func() {
		timer := time.NewTimer(lifecycle.DrainTime)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		old.Close()
		d.totals.close(old)
	})
}

// needRestart names what changed and is read at the start only.
func needRestart(a, b *config.Config) []string {
	var out []string
	if fmt.Sprint(a.Socketmap.Listen, a.Socketmap.SocketMode) != fmt.Sprint(b.Socketmap.Listen, b.Socketmap.SocketMode) {
		out = append(out, "socketmap.listen or socketmap.socket_mode")
	}
	if a.Socketmap.MaxConnections != b.Socketmap.MaxConnections {
		out = append(out, "socketmap.max_connections")
	}
	if a.Store.Path != b.Store.Path {
		out = append(out, "store.path")
	}
	if a.Control != b.Control {
		out = append(out, "control.socket")
	}
	if fmt.Sprint(a.HTTP) != fmt.Sprint(b.HTTP) {
		out = append(out, "http.listen, http.public or http.hosts")
	}
	if a.Log.Format != b.Log.Format {
		out = append(out, "log.format")
	}
	if fmt.Sprint(a.Process) != fmt.Sprint(b.Process) {
		out = append(out, "process.user, process.landlock or process.read")
	}
	return out
}

// ServeMap answers by the configuration that is in force.
func (d *daemon) ServeMap(ctx context.Context, req postfixmap.Request, reply []byte) []byte {
	return d.stack.Load().Responder.ServeMap(ctx, req, reply)
}

// announce prints what to put in main.cf.
func (d *daemon) announce(ctx context.Context, listeners []net.Listener) {
	if len(listeners) == 0 {
		return
	}
	address, err := postfixmap.ParseAddress(lifecycle.Address(listeners[0]))
	if err != nil {
		return // a socket without a path, from systemd: nobody can be told of it
	}
	fmt.Fprint(d.opt.Stdout, d.stack.Load().mta.lines(ctx, forSnippet(d.cfg, address)))
}
