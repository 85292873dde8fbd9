package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tlsverdict/postfixmap"
)

// policydConf is the daemon's configuration in the lab: every path is the
// default one, the resolver is that of /etc/resolv.conf, and what differs from a
// real server's is the lab's own CA, its root's anchor and its addresses, which
// are not public. The %s are what differs between setups.
const policydConf = `[socketmap]
listen = ["inet:127.0.0.1:8461", "inet:127.0.0.1:8642",
	"unix:/run/tlsverdict/policyd.sock"%s]
socket_mode = "0666"

[dns]
dnssec = "%s"
trust_anchors = "/srv/dns/anchor.ds"

[postfix]
dane = "%s"
%s
[mta_sts]
allow_networks = ["198.51.100.0/24", "2001:db8:100::/64"]
ca_file = "/etc/ssl/certs/ca-certificates.crt"

[signals]
txt = "enforce"
rr = "enforce"
%s
[process]
landlock = "on"

[log]
level = "debug"

[[override]]
domain = "overridden.example"
policy = "encrypt"
reason = "the lab says so"

[[override]]
domain = "encryptonly.example"
policy = "encrypt"
reason = "its certificate is worthless"

[[override]]
domain = "ignored.example"
policy = "ignore"
reason = "their TLSA records are wrong, and they know"
`

// policyd is one installation of the daemon, as a package would make it.
type policyd struct {
	box
	cmd *exec.Cmd // the running one
	// client speaks to it.
	client *postfixmap.Client
}

// build compiles policyd and the milter for the lab's roots.
func build(ctx context.Context, dir string) error {
	c := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "tlsverdict/cmd/policyd", "tlsverdict/cmd/milter")
	c.Env = append(os.Environ(), "CGO_ENABLED=0") // a root's C library may be older than this machine's
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

// dependOnSources makes go test aware that this package's result depends on the
// whole module, though it imports none of it: else a cached result would be
// given after policyd changed.
func dependOnSources(module string) error {
	return filepath.WalkDir(module, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		_, err = os.Stat(path)
		return err
	})
}

// installPrograms puts the binaries where packages have them, and makes their
// directories.
func (b box) installPrograms(dir string) error {
	for _, made := range []string{"etc/tlsverdict", "var/lib/tlsverdict", "run/tlsverdict"} {
		if err := os.MkdirAll(b.path(made), 0o755); err != nil {
			return err
		}
	}
	for _, program := range []string{"policyd", "milter"} {
		text, err := os.ReadFile(filepath.Join(dir, program))
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.path("usr/bin/"+program), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// said returns what the daemon has logged in this setup.
func (p *policyd) said() string { return tail(p.path(policydLog), 1<<20) }

const policydLog = "var/log/policyd.log"

// start runs the daemon and waits until it answers.
func (p *policyd) start(ctx context.Context, t *testing.T) {
	t.Helper()
	client := &postfixmap.Client{DialFunc: func(context.Context) (net.Conn, error) { return p.mta.dial("tcp", "127.0.0.1:8461") }}
	t.Cleanup(func() { client.Close() })
	p.client = client
	p.cmd = p.spawn(ctx, t, policydLog, "policyd", "serve", "--config", "/etc/tlsverdict/policyd.toml")
	ready := false
	err := eventually(ctx, func() bool {
		reply, _ := p.query(ctx, "postfix", ".ready") // a key with a dot in front needs no DNS
		ready = reply == "NOTFOUND"
		return ready || !alive(p.cmd.Process.Pid)
	})
	if !ready {
		t.Fatalf("policyd does not start: %v\n%s", err, tail(p.path(policydLog), 40))
	}
}

// kill ends the daemon as a crash would.
func (p *policyd) kill(t *testing.T) {
	t.Helper()
	killed(t, p.cmd)
}

// killed ends a process, and returns when it is gone.
func killed(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // "signal: killed"
}

// freeze has the daemon accept connections and never answer, until it is thawed.
func (p *policyd) freeze(t *testing.T) { p.signal(t, syscall.SIGSTOP) }
func (p *policyd) thaw(t *testing.T)   { p.signal(t, syscall.SIGCONT) }

func (p *policyd) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// query asks the daemon as Postfix does, and returns status and data, "OK
// dane-only" or "NOTFOUND". Of a TEMP only that it is one.
func (p *policyd) query(ctx context.Context, mapName, key string) (string, error) {
	reply, err := p.client.Lookup(ctx, mapName, key)
	switch {
	case err != nil:
		return "", err
	case reply.Status == postfixmap.StatusOK:
		return "OK " + string(reply.Data), nil
	}
	return reply.Status.String(), nil
}

// explain returns what policyd explain prints for people; its exit code is the
// verdict's, and is not looked at.
func (p *policyd) explain(ctx context.Context, destination string) string {
	out, err := p.mta.command(ctx, p.root, "policyd", "explain", destination).CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return err.Error()
	}
	return string(out)
}
