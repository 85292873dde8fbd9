package doctor

import (
	"context"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tlsverdict/internal/postfix"
	"tlsverdict/internal/program"
)

// Postfix is what was found of Postfix. In the zero value there is none.
type Postfix struct {
	// Unseen is why it, or a part of it, could not be asked.
	Unseen    string
	Instances []Instance
	// System are the resolvers of the host's own resolv.conf.
	System ResolvConf
}

// Instance is one Postfix: a configuration directory.
type Instance struct {
	postfix.Instance
	// Transports are the services that run smtp(8); Outward how many of them, the first
	// ones, take mail that no table sends elsewhere.
	Transports []Transport
	Outward    int
}

// Transport is one service that runs smtp(8).
type Transport struct {
	postfix.Client
	// Resolv is what it has its resolvers from.
	Resolv ResolvConf
	// Tables are those of smtp_tls_policy_maps.
	Tables []Table
	// CAs are those that certificates are verified with.
	CAs CAs
}

// ResolvConf is a resolv.conf, and what a probe of its resolvers found.
type ResolvConf struct {
	File    string
	Servers []netip.AddrPort
	// Problem is why the servers are not known.
	Problem string
	Found   []Resolver
}

// Table is one table of smtp_tls_policy_maps.
type Table struct {
	// Item is as it stands there.
	Item string
	// Proxied: proxymap(8) asks it. Allowed: and is allowed to.
	Proxied, Allowed bool
	// Socketmap: it is asked over Network ("inet", "unix") at Address, a map called Name.
	Socketmap              bool
	Network, Address, Name string
	// Answer is what came of a question as this service asks it.
	Answer Answer
}

// CAs are the files of smtp_tls_CAfile and smtp_tls_CApath.
type CAs struct {
	// Count is how many certificates the file holds, or how many hashed names the directory
	// has, where smtp(8) looks for it.
	Count int
	// Source is the file or directory; Problem why it is of no use.
	Source, Problem string
	// Bundle is a file of this host that has them all; empty if none was found.
	Bundle string
}

// postfixSettings are those that are looked at besides what a postfix.Setup has.
func postfixSettings() []string {
	return []string{
		"mail_owner", "smtp_tls_policy_maps", "smtp_tls_CAfile", "smtp_tls_CApath", "tls_append_default_CA", "smtp_tls_loglevel",
		"smtp_tls_mandatory_protocols", "smtp_tls_protocols", "smtp_tls_dane_insecure_mx_policy", "smtp_use_tls", "smtp_enforce_tls", "smtp_tls_per_site",
		"smtp_tls_wrappermode", "smtp_mx_session_limit", "relayhost", "sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps",
		"transport_maps", "proxy_read_maps", "queue_directory",
	}
}

// Prober asks resolvers what they are good for to a program that believes their AD bit.
type Prober func(ctx context.Context, servers []netip.AddrPort) []Resolver

// postfixLooker looks at one host's Postfix.
type postfixLooker struct {
	program.Machine
	probe Prober
	// seen are the files that were read.
	seen map[string]ResolvConf
	// asked are the tables that were asked, by who asks and what.
	asked map[string]Answer
}

// lookPostfix asks the Postfix of a machine.
func lookPostfix(ctx context.Context, m program.Machine, probe Prober) Postfix {
	l := postfixLooker{m, probe, make(map[string]ResolvConf), make(map[string]Answer)}
	var p Postfix
	all, err := postfix.Host{Root: m.Root, Path: m.Path, Run: m.Runner}.Instances(ctx, postfixSettings()...)
	if err != nil {
		p.Unseen = err.Error()
	}
	if len(all) == 0 {
		return p
	}
	p.System = l.resolvConf(ctx, postfix.Setup{ResolvConf: m.At("etc/resolv.conf")})
	for _, one := range all {
		i := Instance{Instance: one}
		outward := one.Outward()
		i.Outward = len(outward)
		for _, c := range slices.Concat(outward, others(one.Clients, outward)) {
			i.Transports = append(i.Transports, l.transport(ctx, c))
		}
		p.Instances = append(p.Instances, i)
	}
	return p
}

// others returns the clients that are not among those listed.
func others(all, listed []postfix.Client) []postfix.Client {
	return slices.DeleteFunc(slices.Clone(all), func(c postfix.Client) bool {
		return slices.ContainsFunc(listed, func(l postfix.Client) bool { return l.Service == c.Service })
	})
}

func (l *postfixLooker) transport(ctx context.Context, c postfix.Client) Transport {
	t := Transport{Client: c}
	if c.Unclear != nil {
		return t
	}
	t.Resolv = l.resolvConf(ctx, c.Setup)
	t.CAs = l.cas(&t)
	for _, item := range postfix.Tables(c.Settings["smtp_tls_policy_maps"]) {
		table := parseTable(item)
		table.Allowed = slices.Contains(postfix.Tables(c.Settings["proxy_read_maps"]), item)
		if table.ours() {
			table.Answer = l.ask(ctx, &t, &table)
		}
		t.Tables = append(t.Tables, table)
	}
	return t
}

// resolvConf reads the resolvers of a setup, and probes them.
func (l *postfixLooker) resolvConf(ctx context.Context, s postfix.Setup) ResolvConf {
	if known, ok := l.seen[s.ResolvConf]; ok {
		return known
	}
	r := ResolvConf{File: s.ResolvConf}
	if l.Root != "" {
		r.File = "/" + strings.TrimPrefix(strings.TrimPrefix(r.File, l.Root), "/")
	}
	var err error
	if r.Servers, err = s.Resolvers(); err != nil {
		r.Problem = err.Error()
	} else if l.probe != nil {
		r.Found = l.probe(ctx, r.Servers)
	}
	l.seen[s.ResolvConf] = r
	return r
}

// parseTable reads one item of a list of tables.
func parseTable(item string) Table {
	t := Table{Item: item}
	rest, proxied := strings.CutPrefix(item, "proxy:")
	t.Proxied = proxied
	if rest, t.Socketmap = strings.CutPrefix(rest, "socketmap:"); !t.Socketmap {
		return t
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		t.Name = rest[i+1:]
		t.Network, t.Address, _ = strings.Cut(rest[:i], ":")
	}
	return t
}

// reporting are the maps whose answers Postfix 3.10 understands, and plain those that
// every version does.
func reporting() []string { return []string{"postfix-tlsrpt", "QUERYwithTLSRPT"} }
func plain() []string     { return []string{"postfix", "QUERY"} }

// ours reports whether the map has one of policyd's names.
func (t *Table) ours() bool {
	return t.Socketmap && slices.Contains(append(reporting(), plain()...), t.Name)
}

// ask asks a table as smtp(8) or proxymap(8) does: over TCP from anywhere, and over a unix
// socket as the user that they run as, in the directory, and the chroot, that they run in.
func (l *postfixLooker) ask(ctx context.Context, t *Transport, table *Table) Answer {
	if table.Network == "inet" {
		return l.once("inet:"+table.Address, func() Answer { return askTCP(ctx, table.Address) })
	}
	user, err := l.user(t.Settings["mail_owner"])
	if err != nil {
		return Answer{Problem: err.Error(), Unasked: true}
	}
	from := place{user: user, dir: l.At(t.Settings["queue_directory"])}
	file := table.Address
	if !path.IsAbs(file) {
		// Relative to the queue directory, in a chroot and without.
		file = "/" + file
	} else if !t.Setup.Chrooted || table.Proxied {
		from.dir = l.At("/")
	}
	return l.once(from.dir+" "+file, func() Answer { return askUnix(ctx, from, file) })
}

func (l *postfixLooker) once(key string, ask func() Answer) Answer {
	known, ok := l.asked[key]
	if !ok {
		known = ask()
		l.asked[key] = known
	}
	return known
}

// Bundles are where systems have a file of all CAs.
func Bundles() []string {
	return []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem", "/usr/local/share/certs/ca-root-nss.crt"}
}

// cas looks at the CAs of a service. The file is read before smtp(8) enters its chroot, the
// directory inside.
func (l *postfixLooker) cas(t *Transport) CAs {
	var c CAs
	for _, b := range Bundles() {
		if n, err := l.certificates(b); err == nil && n > 0 {
			c.Bundle = b
			break
		}
	}
	file, dir := t.Settings["smtp_tls_CAfile"], t.Settings["smtp_tls_CApath"]
	switch {
	case file != "":
		c.Source = file
		n, err := l.certificates(file)
		c.Count = n
		if err != nil {
			c.Problem = "smtp_tls_CAfile cannot be read: " + inside(err, l.Root)
		} else if n == 0 {
			c.Problem = "smtp_tls_CAfile = " + file + " holds no certificate"
		}
		if c.Problem == "" || dir == "" {
			return c
		}
		fallthrough
	case dir != "":
		c.Source = dir
		if t.Setup.Chrooted {
			c.Source = path.Join(t.Settings["queue_directory"], dir)
		}
		// The hashed names, by which OpenSSL finds a certificate.
		names, err := filepath.Glob(filepath.Join(l.At(c.Source), "*.0"))
		c.Count = len(names)
		if c.Problem == "" && (err != nil || c.Count == 0) {
			c.Problem = "smtp_tls_CApath: " + c.Source + " holds no certificate by a hashed name"
		} else if c.Count > 0 {
			c.Problem = ""
		}
	case t.Settings["tls_append_default_CA"] == "yes":
		c.Source, c.Problem = "tls_append_default_CA", "smtp_tls_CAfile and smtp_tls_CApath are empty"
	default:
		c.Problem = "smtp_tls_CAfile and smtp_tls_CApath are empty"
	}
	return c
}

// certificates counts those of a file.
func (l *postfixLooker) certificates(file string) (int, error) {
	data, err := l.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strings.Count(string(data), "-----BEGIN CERTIFICATE-----") + strings.Count(string(data), "-----BEGIN TRUSTED CERTIFICATE-----"), nil
}

// inside says an error of the file system with names as they are inside of a root.
func inside(err error, root string) string {
	text := err.Error()
	if root != "" {
		text = strings.ReplaceAll(text, root, "")
	}
	return text
}

// user finds a user of the machine, with all groups.
func (l *postfixLooker) user(name string) (User, error) { return FindUser(l.Machine, name) }
