package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tlsverdict/internal/config"
	"tlsverdict/internal/confine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/resolve"
	"tlsverdict/postfixmap"
)

// Process is this process, of which rights are taken; confine.Self is. See there.
type Process interface {
	Root() bool
	Give(dir, user string) error
	Become(user string) error
	Seal(confine.Needs) (confine.Held, error)
}

// Confinement takes from a process what it needs no longer. A nil Process keeps
// everything: a program that does other work beside is not confined.
type Confinement struct {
	Process  Process
	Settings config.Process
	Log      *slog.Logger

	needs confine.Needs
	held  confine.Held
}

// wayOutRoot is what a process that is root had better do.
const wayOutRoot = "set [process] user, or have the service manager start it as a user"

// Become changes to the user of the settings, and makes the directories of files that are
// written later. It is called with all listeners open. Errors: *ConfigError.
func (c *Confinement) Become(files ...string) error {
	if c.Process == nil {
		return nil
	}
	name := c.Settings.User
	if name == "" {
		if c.Process.Root() {
			c.Log.Warn("the process stays root", "way_out", wayOutRoot)
		}
		return nil
	}
	if c.Process.Root() {
		for _, file := range files {
			if file == "" {
				continue
			}
			if err := c.Process.Give(filepath.Dir(file), name); err != nil {
				return &ConfigError{fmt.Errorf("process.user: %w", err)}
			}
		}
	}
	if err := c.Process.Become(name); err != nil {
		return &ConfigError{fmt.Errorf("process.user: %w", err)}
	}
	return nil
}

// Seal takes the rest away. It is called when everything that is opened once is open,
// and before anything is read from strangers. An error, a *ConfigError, is one only where
// the settings say so; else it is logged.
func (c *Confinement) Seal(needs confine.Needs) error {
	if c.Process == nil {
		return nil
	}
	c.needs = needs
	held, err := c.Process.Seal(needs)
	c.held = held
	switch {
	case err != nil && c.Settings.Landlock == config.LandlockOn:
		return &ConfigError{fmt.Errorf(`process.landlock = "on": %w`, err)}
	case err != nil:
		c.Log.Error("the process could not be confined, and goes on", "error", err, "way_out", `set [process] landlock = "off" if it should not be`)
	case held.ABI == 0 && c.Settings.Landlock == config.LandlockAuto:
		c.Log.Info("the kernel has no Landlock: files and ports are as open as the user's rights leave them")
	case held.ABI > 0:
		c.Log.Info("confined", "landlock_abi", held.ABI, "tcp_ports_held", held.Ports, "tcp_ports", needs.Connect, "write", needs.Write)
	}
	return nil
}

// Beyond names what a new configuration needs and cannot have before a restart.
func (c *Confinement) Beyond(next confine.Needs) []string {
	if c.Process == nil || c.held.ABI == 0 {
		return nil
	}
	return c.needs.Missing(next)
}

// Hint explains an error of a reload that confinement may be the cause of.
func (c *Confinement) Hint(err error) error {
	if c.held.ABI > 0 && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (Landlock holds the process to the files of its start; a restart reads others)", err)
	}
	return err
}

// NeedsOf is what a stack of a configuration does after the start. It runs postconf once.
func NeedsOf(ctx context.Context, cfg *config.Config, through Network) confine.Needs {
	n := needsOfFiles(cfg)
	ports := []uint16{httpsPort}
	for _, s := range cfg.DNS.Servers {
		ports = append(ports, s.Port())
	}
	if p := cfg.Postfix.DANEResolver; p.IsValid() {
		ports = append(ports, p.Port())
	}
	// The resolvers of resolv.conf, also of Postfix's own.
	ports = append(ports, dnsPort)
	if learns(cfg) {
		ports = append(ports, nexthop.SMTPPort)
	}
	if cfg.Signals.Implicit.On {
		ports = append(ports, cfg.Signals.Implicit.Port)
	}
	if shared := &cfg.Store.Shared; shared.On() {
		n.Read = append(n.Read, shared.Files()...)
		ports = append(ports, portsOf(shared.Addresses)...)
		// Sentinels, and the nodes of a cluster, say where the others are.
		n.AnyPort = shared.Form != config.SharedSingle
	}
	slices.Sort(ports)
	n.Connect = slices.Compact(ports)
	n.Source = len(cfg.Probe.Source) > 0
	files := through.machine().Files(ctx)
	n.Read, n.List = append(n.Read, files.Read...), files.List
	n.Run = append([]string{"/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/nix/store"}, files.Run...)
	if cfg.Store.Path != "" {
		n.Write = append(n.Write, filepath.Dir(cfg.Store.Path))
	}
	return n
}

// portsOf returns the ports of addresses, HOST:PORT each.
func portsOf(addresses []string) []uint16 {
	var ports []uint16
	for _, a := range addresses {
		_, text, err := net.SplitHostPort(a)
		if port, err2 := strconv.ParseUint(text, 10, 16); err == nil && err2 == nil {
			ports = append(ports, uint16(port))
		}
	}
	return ports
}

// needs is what policyd does after the start: it removes its control socket at the end,
// besides what a stack does.
func (d *daemon) needs(ctx context.Context, cfg *config.Config) confine.Needs {
	n := NeedsOf(ctx, cfg, d.network())
	n.Remove = Sockets(append(slices.Clone(cfg.Socketmap.Listen), controlAddress(cfg)))
	return n
}

// controlAddress is the zero value where there is no control socket.
func controlAddress(cfg *config.Config) postfixmap.Address {
	// What is wrong with it shows when it is opened.
	a, _ := postfixmap.ParseAddress("unix:" + cfg.Control.Socket)
	return a
}

// Sockets returns the directories of those addresses that are unix sockets, which are
// removed at the end. From a directory at the top nothing is: it is for all.
func Sockets(addresses []postfixmap.Address) []string {
	var dirs []string
	for _, a := range addresses {
		if path := a.Endpoint(); a.Network() == "unix" && home(path) != path {
			dirs = append(dirs, home(path))
		}
	}
	return dirs
}

const (
	dnsPort   = 53
	httpsPort = 443
)

// Base is what every daemon needs: its configuration, and what Go's library and C's read.
func Base(cfg *config.Config) confine.Needs {
	n := confine.Needs{Landlock: landlock(cfg.Process.Landlock), Abstract: strings.HasPrefix(os.Getenv("NOTIFY_SOCKET"), "@")}
	n.Read = append(n.Read, home(cmp.Or(cfg.File, DefaultConfigFile)), "/proc", "/dev/urandom", "/usr/share")
	for _, name := range []string{
		"localtime", "hosts", "host.conf", "gai.conf", "nsswitch.conf", "passwd", "group", "services", "protocols", "ld.so.cache", "ld.so.preload",
		"ssl/openssl.cnf", "hostname", "mailname",
	} {
		n.Read = append(n.Read, "/etc/"+name)
	}
	if os.Geteuid() != 0 {
		// What the user may read there anyway, so that files may be replaced: rights
		// stick to the file, not to its name. Root may read too much.
		n.Read = append(n.Read, "/etc")
	}
	n.Read = append(n.Read, cfg.Process.Read...)
	return n
}

// needsOfFiles are the files that lookups and fetches rest on.
func needsOfFiles(cfg *config.Config) confine.Needs {
	n := Base(cfg)
	n.Read = append(n.Read, resolve.SystemFile)
	if real, err := filepath.EvalSymlinks(resolve.SystemFile); err == nil && real != resolve.SystemFile {
		n.Read = append(n.Read, home(real))
	}
	for _, path := range []string{
		cfg.DNS.TrustAnchors, cfg.MTASTS.CAFile, os.Getenv("SSL_CERT_FILE"),
		// Where Go looks for the roots of the system.
		"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/ca-trust",
		"/etc/ca-certificates", "/var/lib/ca-certificates",
	} {
		if path != "" {
			n.Read = append(n.Read, path)
		}
	}
	n.Read = append(n.Read, filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...)
	return n
}

// home is the directory of a file, where it may be replaced; the file alone where the
// directory is one at the top, with files of others.
func home(file string) string {
	file, err := filepath.Abs(file)
	if err != nil || filepath.Dir(filepath.Dir(file)) == "/" {
		return file
	}
	return filepath.Dir(file)
}

func landlock(l config.Landlock) confine.Mode {
	switch l {
	case config.LandlockOn:
		return confine.On
	case config.LandlockAuto:
		return confine.Auto
	case config.LandlockOff:
		return confine.Off
	}
	panic(fmt.Sprintf("daemon: landlock setting %v", l))
}
