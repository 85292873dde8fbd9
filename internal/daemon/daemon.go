// Package daemon runs policyd: it opens the listeners, answers until it is told to
// stop, and then finishes what is under way.
//
//	err := daemon.Run(ctx, daemon.Options{ConfigFile: "/etc/tlsverdict/policyd.toml", Stdout: os.Stdout, Stderr: os.Stderr})
//
// The end of ctx (SIGTERM, SIGINT) drains: no new connections, an answer for each
// request under way, at most drainTime in all. SIGHUP reads the file again; a bad
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
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"

	"tlsverdict/internal/config"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/store"
	"tlsverdict/postfixmap"
)

// DefaultConfigFile is read when no other is named; it need not exist.
const DefaultConfigFile = "/etc/tlsverdict/policyd.toml"

// drainTime bounds what a stop may take.
const drainTime = 15 * time.Second

// Options are what the command line says.
type Options struct {
	// ConfigFile is the file to read; empty means DefaultConfigFile if it
	// exists, else the embedded defaults.
	ConfigFile string
	// Stdout gets the line for main.cf, Stderr the log.
	Stdout, Stderr io.Writer
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
	return warnings, nil
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
	d := &daemon{opt: opt, cfg: cfg}
	d.level.Set(cfg.Log.Level)
	d.log = newLogger(opt.Stderr, cfg.Log.Format, &d.level)
	d.warn(cfg)
	d.limits = limit(cfg, d.log)
	if d.store, err = d.openStore(cfg.Store.Path); err != nil {
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
	listeners, err := d.listen(ctx)
	if err != nil {
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
	limits limits
	server *postfixmap.Server
	stack  atomic.Pointer[Stack]
	// retiring are the stacks of earlier configurations.
	retiring sync.WaitGroup
}

func newLogger(w io.Writer, format config.LogFormat, level slog.Leveler) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	if format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// warn says what the configuration makes possible although it is probably not meant.
func (d *daemon) warn(cfg *config.Config) {
	for _, p := range cfg.Warnings(time.Now()) {
		d.log.Warn("configuration", "problem", p.Error())
	}
}

// openStore opens the file, or keeps policies in memory where it cannot be had. A
// file that another process has is a second daemon, which must not run on as if
// it knew no policy.
func (d *daemon) openStore(path string) (*store.Store, error) {
	st, err := store.Open(path, d.log)
	if errors.Is(err, store.ErrLocked) {
		return nil, &ConfigError{fmt.Errorf("%w: is another policyd running? [store] path names another file", err)}
	}
	if err == nil || path == "" {
		return st, err
	}
	d.log.Error("MTA-STS policies are kept in memory only and forgotten at the next restart", "store", path, "error", err,
		"way_out", "make the directory writable, or set [store] path = \"\" to accept this")
	return store.Open("", d.log)
}

func (d *daemon) closeStore() {
	if err := d.store.Close(); err != nil {
		d.log.Error("closing the store", "error", err)
	}
}

// listen opens the sockets that systemd passed, then those of the configuration
// that are not among them.
func (d *daemon) listen(ctx context.Context) ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("daemon: sockets passed by systemd: %w", err)
	}
	var all []net.Listener
	taken := make(map[string]bool)
	for _, l := range passed {
		if l != nil {
			all = append(all, l)
			taken[l.Addr().String()] = true
		}
	}
	for _, a := range d.cfg.Socketmap.Listen {
		if taken[a.Endpoint()] {
			continue
		}
		l, err := a.Listen(ctx, d.cfg.Socketmap.SocketMode)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("daemon: cannot listen on %s: %w", a, err)
		}
		all = append(all, l)
	}
	return all, nil
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		// They are of no use any more, whatever closing says.
		_ = l.Close()
	}
}

// serve answers until ctx ends, and drains.
func (d *daemon) serve(ctx context.Context, listeners []net.Listener) error {
	d.server = &postfixmap.Server{Handler: d, MaxConnections: d.limits.connections, ErrorLog: d.log}
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, l := range listeners {
		d.log.Info("listening", "address", address(l))
		serving.Go(func() { failed <- d.server.Serve(ctx, l) })
	}
	d.announce(ctx, listeners)
	err := d.wait(ctx, failed)
	d.notify(sd.SdNotifyStopping)
	d.log.Info("stopping", "cause", context.Cause(ctx))
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if e := d.server.Shutdown(drain); e != nil {
		d.log.Warn("requests were cut off", "after", drainTime, "error", e)
	}
	serving.Wait()
	return err
}

// wait handles signals until ctx ends or a listener is lost.
func (d *daemon) wait(ctx context.Context, failed <-chan error) error {
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
			return fmt.Errorf("daemon: a listener was lost: %w", err)
		case s := <-signals:
			d.signalled(ctx, s)
		case <-beat:
			d.notify(sd.SdNotifyWatchdog)
		}
	}
}

func (d *daemon) signalled(ctx context.Context, s os.Signal) {
	if s == syscall.SIGHUP {
		d.notify(sd.SdNotifyReloading)
		d.reload(ctx)
		d.notify(sd.SdNotifyReady)
		return
	}
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
func (d *daemon) reload(ctx context.Context) {
	cfg, err := LoadConfig(d.opt.ConfigFile)
	if err != nil {
		d.log.Error("the configuration was not reloaded; the old one stays in force", "error", err)
		return
	}
	if cfg.File == "" && d.cfg.File != "" {
		// An editor or an upgrade may be about to put it back: to answer by the
		// defaults meanwhile would drop every override.
		d.log.Error("the configuration was not reloaded; the old one stays in force", "error", d.cfg.File+" is not there")
		return
	}
	d.warn(cfg)
	next, err := NewStack(cfg, d.store, d.network(), d.log)
	if err != nil {
		d.log.Error("the configuration was not reloaded; the old one stays in force", "error", err)
		return
	}
	for _, what := range needRestart(d.cfg, cfg) {
		d.log.Warn("a changed setting takes effect at the next start only", "setting", what)
	}
	d.cfg = cfg
	d.level.Set(cfg.Log.Level)
	// One refresher at a time: it must tell the engine that is asked.
	d.stack.Load().Quiesce()
	next.mta.inherit(d.stack.Load().mta)
	next.Start()
	d.retire(ctx, d.stack.Swap(next))
	d.log.Info("configuration reloaded", "file", cfg.File)
}

// retire closes a stack when nobody can be waiting for it any more.
func (d *daemon) retire(ctx context.Context, old *Stack) {
	d.retiring.Go(func() {
		timer := time.NewTimer(drainTime)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		old.Close()
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
	if a.Store != b.Store {
		out = append(out, "store.path")
	}
	if a.Log.Format != b.Log.Format {
		out = append(out, "log.format")
	}
	return out
}

// ServeMap answers by the configuration that is in force.
func (d *daemon) ServeMap(ctx context.Context, req postfixmap.Request, reply []byte) []byte {
	return d.stack.Load().Responder.ServeMap(ctx, req, reply)
}

// announce prints what to put in main.cf, and tells systemd.
func (d *daemon) announce(ctx context.Context, listeners []net.Listener) {
	if len(listeners) > 0 {
		fmt.Fprintf(d.opt.Stdout, "# main.cf\nsmtp_tls_policy_maps = socketmap:%s:postfix\nsmtp_dns_support_level = dnssec\nsmtp_tls_security_level = may\nsmtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt\n", address(listeners[0]))
		if d.stack.Load().mta.needsDigest(ctx) {
			fmt.Fprintln(d.opt.Stdout, "smtp_tls_fingerprint_digest = sha256")
		}
	}
	d.notify(sd.SdNotifyReady)
}

// address is a listener's address as a map name in main.cf has it.
func address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return "inet:" + l.Addr().String()
}

// notify tells systemd; without systemd it does nothing.
func (d *daemon) notify(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		d.log.Warn("systemd was not told", "state", state, "error", err)
	}
}
