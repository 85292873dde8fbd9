package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlsverdict/internal/config"
	"tlsverdict/internal/confine"
	"tlsverdict/internal/lifecycle"
	"tlsverdict/internal/postfix"
)

// patient is a process from which nothing is really taken; it notes what would be.
type patient struct {
	root  bool
	err   error
	held  confine.Held
	taken []string
}

func (p *patient) Root() bool { return p.root }

func (p *patient) Give(dir, user string) error {
	p.taken = append(p.taken, "give "+dir+" to "+user)
	return nil
}

func (p *patient) Become(user string) error {
	p.taken = append(p.taken, "become "+user)
	return p.err
}

func (p *patient) Seal(confine.Needs) (confine.Held, error) {
	p.taken = append(p.taken, "seal")
	return p.held, p.err
}

// TestConfinement: what is taken in which case, what is said of it, and what keeps the
// daemon from starting.
func TestConfinement(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		process  patient
		settings config.Process
		taken    string
		log      string
		refused  bool
	}{
		"a user":         {patient{root: true, held: confine.Held{ABI: 7}}, config.Process{User: "mail"}, "give /state to mail, become mail, seal", "msg=confined", false},
		"a user already": {patient{held: confine.Held{ABI: 7}}, config.Process{User: "mail"}, "become mail, seal", "msg=confined", false},
		"root stays":     {patient{root: true, held: confine.Held{ABI: 7}}, config.Process{}, "seal", "the process stays root", false},
		"no Landlock":    {patient{}, config.Process{Landlock: config.LandlockAuto}, "seal", "the kernel has no Landlock", false},
		"off":            {patient{}, config.Process{Landlock: config.LandlockOff}, "seal", "", false},
		"auto fails":     {patient{err: boom}, config.Process{Landlock: config.LandlockAuto}, "seal", "level=ERROR", false},
		"on fails":       {patient{err: confine.ErrUnsupported}, config.Process{Landlock: config.LandlockOn}, "seal", "", true},
		"no such user":   {patient{err: confine.ErrUser}, config.Process{User: "nemo"}, "become nemo", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			c := Confinement{Process: &tc.process, Settings: tc.settings, Log: lifecycle.NewLogger(&log, lifecycle.Text, nil)}
			err := c.Become("/state/policyd.db", "")
			if err == nil {
				err = c.Seal(confine.Needs{})
			}
			var unusable *ConfigError
			if got := errors.As(err, &unusable); got != tc.refused || err != nil && !got {
				t.Errorf("%v, want refused %v", err, tc.refused)
			}
			if got := strings.Join(tc.process.taken, ", "); got != tc.taken {
				t.Errorf("taken: %s, want %s", got, tc.taken)
			}
			if tc.log == "" && log.Len() > 0 || !strings.Contains(log.String(), tc.log) {
				t.Errorf("the log, want %q:\n%s", tc.log, &log)
			}
		})
	}
}

// TestConfinementOfNobody: a program that does other work keeps all it has.
func TestConfinementOfNobody(t *testing.T) {
	c := Confinement{Settings: config.Process{User: "mail", Landlock: config.LandlockOn}}
	if err := errors.Join(c.Become("/x"), c.Seal(confine.Needs{}), c.Hint(nil)); err != nil || c.Beyond(confine.Needs{Read: []string{"/x"}}) != nil {
		t.Error(err)
	}
}

// TestReloadBeyond: a reload that needs more is told so, and an error that confinement may
// cause says that.
func TestReloadBeyond(t *testing.T) {
	c := Confinement{Process: &patient{held: confine.Held{ABI: 7}}, Log: lifecycle.NewLogger(t.Output(), lifecycle.Text, nil)}
	if err := c.Seal(confine.Needs{Connect: []uint16{53}}); err != nil {
		t.Fatal(err)
	}
	if got := c.Beyond(confine.Needs{Connect: []uint16{53, 5353}, Read: []string{"/ca.pem"}}); !slices.Equal(got, []string{"/ca.pem", "TCP port 5353"}) {
		t.Errorf("beyond: %q", got)
	}
	if got := c.Hint(fmt.Errorf("open /ca.pem: %w", fs.ErrPermission)).Error(); !strings.Contains(got, "Landlock") {
		t.Error(got)
	}
	if got := c.Hint(fs.ErrNotExist); got != fs.ErrNotExist {
		t.Error(got)
	}
}

// TestNeedsLeaveSecretsOut: what policyd needs as root has no secret of this host in it,
// whatever it is set up to do; and the ports are those of what is on.
func TestNeedsLeaveSecretsOut(t *testing.T) {
	cfg := config.Default()
	cfg.File = "/etc/tlsverdict/policyd.toml"
	cfg.DNS.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5353")}
	cfg.Postfix.DANEResolver = netip.MustParseAddrPort("127.0.0.1:5300")
	cfg.MTASTS.CAFile = "/etc/ssl/ours.pem"
	cfg.Signals.Implicit.On = true
	n := NeedsOf(t.Context(), cfg, Network{Postfix: &postfix.Host{}})
	if want := []uint16{26, 53, 443, 5300, 5353}; !slices.Equal(n.Connect, want) {
		t.Errorf("ports %v, want %v", n.Connect, want)
	}
	if n.Source || !slices.Equal(n.Write, []string{"/var/lib/tlsverdict"}) {
		t.Errorf("source %v, write %q", n.Source, n.Write)
	}
	secrets := []string{"/etc/shadow", "/etc/gshadow", "/etc/ssl/private/key.pem", "/etc/letsencrypt/live/x/privkey.pem", "/etc/ssh/ssh_host_ed25519_key", "/root/.ssh/id_rsa", "/var/spool/postfix/active/0123", "/var/mail/root", "/home/x"}
	n.Read = slices.DeleteFunc(n.Read, func(path string) bool { return path == "/etc" }) // not of root
	if got := n.Missing(confine.Needs{Read: secrets}); !slices.Equal(got, secrets) {
		t.Errorf("within reach: of %q only these are not: %q", secrets, got)
	}
	needed := []string{"/etc/tlsverdict/overrides.toml", "/etc/resolv.conf", "/etc/ssl/ours.pem", "/etc/ssl/certs/ca-certificates.crt", "/usr/share/dns/root.ds", "/etc/postfix/main.cf", "/var/spool/postfix/etc/resolv.conf", "/usr/sbin/postconf"}
	if got := n.Missing(confine.Needs{Read: needed}); got != nil {
		t.Errorf("not within reach: %q", got)
	}
	cfg.Store.Shared = config.Shared{Addresses: []string{"redis.example:6380"}, PasswordFile: "/etc/redis/secret"}
	n = NeedsOf(t.Context(), cfg, Network{Postfix: &postfix.Host{}})
	if n.AnyPort || !slices.Contains(n.Connect, 6380) || n.Missing(confine.Needs{Read: []string{"/etc/redis/secret"}}) != nil {
		t.Errorf("with a fleet: %+v", n)
	}
	cfg.Store.Shared.Form = config.SharedSentinel
	if n = NeedsOf(t.Context(), cfg, Network{Postfix: &postfix.Host{}}); !n.AnyPort {
		t.Error("the master that sentinels name cannot be reached")
	}
	cfg.Signals.Banner = config.Default().Signals.Prefix
	cfg.Probe.Source = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	if n = NeedsOf(t.Context(), cfg, Network{Postfix: &postfix.Host{}}); !slices.Contains(n.Connect, 25) || !n.Source {
		t.Errorf("with banners from an address: %v, %v", n.Connect, n.Source)
	}
}

// TestHome: a file may be replaced in a directory of its own, and in one at the top not.
func TestHome(t *testing.T) {
	for file, want := range map[string]string{
		"/etc/tlsverdict/policyd.toml": "/etc/tlsverdict", "/etc/policyd.toml": "/etc/policyd.toml", "/policyd.toml": "/policyd.toml",
		"/run/systemd/resolve/stub-resolv.conf": "/run/systemd/resolve",
	} {
		if got := home(filepath.FromSlash(file)); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
}
