package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nameServers is the lab's DNS: zones signed with ldns, served by NSD in the
// internet's namespace, and two unbounds: the provider's in the internet, which
// validates nothing, and, where a setup has one, a validating one in the MTA's.
type nameServers struct {
	root string // the root directory that all three run in
	dir  string // inside that root: zones, configuration and logs
}

// sign writes and signs every zone, children first, so that their DS records
// are there when the parent is written.
func (d nameServers) sign(ctx context.Context, in *internet) error {
	if err := os.MkdirAll(d.path(""), 0o755); err != nil {
		return err
	}
	var delegations strings.Builder
	for _, z := range in.zones {
		text, err := in.masterFile(z)
		if err != nil {
			return err
		}
		ds, err := d.publish(ctx, z, text)
		if err != nil {
			return err
		}
		fmt.Fprintf(&delegations, "%s. NS ns.example.\n%s", z.name, ds)
	}
	address := fmt.Sprintf("ns.example. A %s\n", nameServer)
	ds, err := d.publish(ctx, &zone{name: "example", signed: true}, "$ORIGIN example.\n$TTL 60\n"+
		"@ SOA ns.example. hostmaster.example. 1 3600 600 86400 30\n@ NS ns.example.\n"+address+delegations.String())
	if err != nil {
		return err
	}
	anchor, err := d.publish(ctx, &zone{name: ".", signed: true}, "$ORIGIN .\n$TTL 60\n"+
		". SOA ns.example. hostmaster.example. 1 3600 600 86400 30\n. NS ns.example.\nexample. NS ns.example.\n"+address+ds)
	if err != nil {
		return err
	}
	return os.WriteFile(d.path("anchor.ds"), []byte(anchor), 0o644)
}

// path returns where a file of the DNS is, seen from outside the root.
func (d nameServers) path(file string) string { return filepath.Join(d.root, d.dir, file) }

// publish writes NAME.zone as NSD shall serve it, and returns its DS record.
func (d nameServers) publish(ctx context.Context, z *zone, text string) (ds string, err error) {
	file := z.name + ".zone"
	if !z.signed {
		return "", os.WriteFile(d.path(file), []byte(text), 0o644)
	}
	if err := os.WriteFile(d.path(file+".in"), []byte(text), 0o644); err != nil {
		return "", err
	}
	key, err := d.run(ctx, "ldns-keygen", "-a", "ECDSAP256SHA256", "-k", z.name)
	if err != nil {
		return "", err
	}
	if _, err := d.run(ctx, "ldns-signzone", "-o", z.name, "-f", file, file+".in", key); err != nil {
		return "", err
	}
	record, err := os.ReadFile(d.path(key + ".ds"))
	if err != nil {
		return "", err
	}
	return string(record), d.tamper(z, file)
}

func (d nameServers) tamper(z *zone, file string) error {
	signed, err := os.ReadFile(d.path(file))
	if err != nil {
		return err
	}
	text := string(signed)
	for _, set := range z.tampered {
		if text, err = tamper(text, z.name, set); err != nil {
			return err
		}
	}
	return os.WriteFile(d.path(file), []byte(text), 0o644)
}

// run runs one of ldns's tools in the directory of the zones.
func (d nameServers) run(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "chroot", d.root, "sh", "-c", `cd "$0" && exec "$@"`, d.dir)
	c.Args = append(c.Args, args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}

// configure writes the configuration of both servers.
func (d nameServers) configure(in *internet) error {
	var nsd strings.Builder
	fmt.Fprintf(&nsd, `server:
 ip-address: %s
 username: ""
 chroot: ""
 zonesdir: "%[2]s"
 pidfile: "%[2]s/nsd.pid"
 xfrdfile: "%[2]s/xfrd.state"
 zonelistfile: "%[2]s/zone.list"
 database: ""
 server-count: 1
remote-control:
 control-enable: no
`, nameServer, d.dir)
	for _, z := range append([]*zone{{name: "."}, {name: "example"}}, in.zones...) {
		fmt.Fprintf(&nsd, "zone:\n name: \"%s\"\n zonefile: \"%s.zone\"\n", z.name, z.name)
	}
	for file, text := range map[string]string{
		"nsd.conf":      nsd.String(),
		"provider.conf": d.unbound("provider", provider, forwards),
		"root.hints":    fmt.Sprintf(". 60 NS ns.example.\nns.example. 60 A %s\n", nameServer),
	} {
		if err := os.WriteFile(d.path(file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// unbound returns the configuration of a resolver. Lives in its cache are short,
// so that what a test changes shows soon.
func (d nameServers) unbound(name, address, modules string) string {
	return fmt.Sprintf(`server:
 interface: %[3]s
 access-control: 0.0.0.0/0 allow
 username: ""
 chroot: ""
 directory: "%[1]s"
 pidfile: "%[1]s/%[2]s.pid"
 use-syslog: no
 val-log-level: 2
 root-hints: "%[1]s/root.hints"
 trust-anchor-file: "%[1]s/anchor.ds"
 module-config: "%[4]s"
 cache-max-ttl: 5
 cache-max-negative-ttl: 1
 val-bogus-ttl: 1
 infra-host-ttl: 5
 num-threads: 1
remote-control:
 control-enable: no
`, d.dir, name, address, modules)
}

// start runs the name server and the provider's resolver, and waits until that
// hands signatures on, and does not say that it has looked at them.
func (d nameServers) start(ctx context.Context, t *testing.T, internet namespace) {
	t.Helper()
	spawn(t, internet.command(ctx, d.root, "nsd", "-d", "-c", d.dir+"/nsd.conf"), d.path("nsd.log"))
	spawn(t, internet.command(ctx, d.root, "unbound", "-d", "-c", d.dir+"/provider.conf"), d.path("provider.log"))
	d.await(ctx, t, internet, provider, func(answer string) bool {
		return strings.Contains(answer, "RRSIG\tMX") && !strings.Contains(answer, " ad;")
	})
}

// startLocal runs a resolver on the mail server, and waits until it does what it
// shall.
//
// Without an upstream it finds everything by itself; else that is more of its
// configuration, made by forwarding.
func (d nameServers) startLocal(t *testing.T, mta namespace, does, upstream string) {
	t.Helper()
	ctx := t.Context()
	text := d.unbound("local", local, does) + upstream
	if err := os.WriteFile(d.path("local.conf"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	spawn(t, mta.command(ctx, d.root, "unbound", "-d", "-c", d.dir+"/local.conf"), d.path("local.log"))
	d.await(ctx, t, mta, local, func(answer string) bool {
		return strings.Contains(answer, " ad;") == (does == validates) && strings.Contains(answer, "MX\t10 mx.dane.example.")
	})
}

// forwarding has unbound ask a resolver. It keeps account of how fast and how reliably
// that answers for each of the zones apart.
func forwarding(to string, apart ...string) string {
	// What genuine denials prove, unbound would not ask for again: an attack then works
	// or not, as chance has it.
	text := "server:\n aggressive-nsec: no\n"
	for _, zone := range append(apart, ".") {
		text += fmt.Sprintf("forward-zone:\n name: \"%s\"\n forward-addr: %s\n", zone, to)
	}
	return text
}

// await waits until a resolver's answer for a signed domain is good.
func (d nameServers) await(ctx context.Context, t *testing.T, n namespace, resolver string, good func(string) bool) {
	t.Helper()
	var answer []byte
	err := eventually(ctx, func() bool {
		answer, _ = n.command(ctx, d.root, "dig", "+dnssec", "+time=1", "+tries=1", "@"+resolver, "dane.example", "MX").CombinedOutput()
		return good(string(answer))
	})
	if err != nil {
		t.Fatalf("the resolver %s does not answer as it should: %v\n%s%s%s", resolver, err, answer, tail(d.path("local.log"), 20), tail(d.path("provider.log"), 20))
	}
}

// spawn starts a server, its output in a file, and kills it and its children when
// the test ends.
func spawn(t *testing.T, c *exec.Cmd, log string) *exec.Cmd {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	c.SysProcAttr.Setpgid = true
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // already gone: nothing to do
		_ = c.Wait()
	})
	return c
}

// tail returns the last lines of a file, for failed tests.
func tail(file string, lines int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error() + "\n"
	}
	all := strings.SplitAfter(string(text), "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}
