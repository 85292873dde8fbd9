package daemon

import (
	"bufio"
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/doctor"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/program"
	"tlsverdict/internal/resolve"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// Examination is what is to be looked at.
type Examination struct {
	// ConfigFile is the configuration; empty as in LoadConfig.
	ConfigFile string
	// Probe is a domain to whose mail hosts a connection is made; the zero value: none is.
	Probe nexthop.Destination
}

// Examine looks at what the verdicts stand on at this host, and at its mail servers. What
// cannot be looked at is said in the evidence, and so is a configuration that cannot be used.
func Examine(ctx context.Context, what Examination, through Network) doctor.Evidence {
	e := doctor.Evidence{Now: time.Now()}
	cfg, err := LoadConfig(what.ConfigFile)
	timeout := resolve.DefaultTimeout
	if err != nil {
		e.Policyd = doctor.Policyd{File: cmp.Or(what.ConfigFile, DefaultConfigFile), Problem: err.Error()}
		e.Host.NoResolvers = "the configuration that says how cannot be used"
	} else {
		x := examiner{cfg: cfg, through: through, machine: through.host()}
		timeout = cfg.DNS.Timeout
		e.Host = x.host(ctx, what.Probe)
		e.Policyd = x.policyd(ctx)
	}
	e.MTAs = doctor.LookAtMTAs(ctx, through.host(), func(ctx context.Context, servers []netip.AddrPort) []doctor.Resolver {
		r, err := resolve.New(resolve.Config{Servers: servers, Mode: resolve.TrustAD, Timeout: timeout, Dial: through.DialDNS})
		if err != nil {
			return nil
		}
		return resolvers(r.Probe(ctx))
	})
	return e
}

// host is the machine that mail servers may be on.
func (n Network) host() program.Machine {
	if n.Postfix == nil {
		return program.Here()
	}
	return program.Machine{Root: n.Postfix.Root, Path: n.Postfix.Path, Runner: n.Postfix.Run}
}

// examiner looks at what one configuration has to do with.
type examiner struct {
	cfg     *config.Config
	through Network
	machine program.Machine
}

// resolvers says what a probe found.
func resolvers(h resolve.Health) []doctor.Resolver {
	var all []doctor.Resolver
	for _, s := range h.Servers {
		all = append(all, doctor.Resolver{Address: s.Addr.String(), Answers: s.Answers, Proves: s.Validates, Disproven: s.Disproven, Problem: s.Problem})
	}
	return all
}

// host looks at the ground.
func (x *examiner) host(ctx context.Context, probe nexthop.Destination) doctor.Host {
	h := doctor.Host{Anchors: x.anchors(), Roots: x.roots()}
	r, err := newResolver(x.cfg, x.through, slog.New(slog.DiscardHandler))
	if err != nil {
		h.NoResolvers = err.Error()
		return h
	}
	defer r.Close()
	var all sync.WaitGroup
	all.Go(func() {
		for _, s := range r.RootSignatures(ctx) {
			h.Signatures = append(h.Signatures, doctor.Signature{Resolver: s.Server.String(), From: s.From, Until: s.Until, Problem: s.Problem})
		}
	})
	if probe.Name != "" {
		all.Go(func() { h.Port25 = x.reach(ctx, r, probe) })
	}
	health := r.Probe(ctx)
	h.Resolvers = resolvers(health)
	h.Anchors.Warnings = health.Warnings
	all.Wait()
	return h
}

// anchors looks at the trust anchors.
func (x *examiner) anchors() doctor.Anchors {
	source := cmp.Or(x.cfg.DNS.TrustAnchors, resolve.SystemAnchors)
	if x.cfg.DNS.DNSSEC != config.DNSSECValidate {
		return doctor.Anchors{Source: "dns.dnssec", Unused: true}
	}
	anchors, err := trustAnchors(x.cfg, x.through)
	a := doctor.Anchors{Source: source, Own: x.cfg.DNS.TrustAnchors != "", Root: anchors != nil && anchors.Covers(".")}
	if err != nil {
		a.Problem = err.Error()
	} else if _, err := x.machine.Stat(source); err != nil && x.cfg.DNS.TrustAnchors == "" {
		a.Source = "those built in"
	}
	return a
}

// roots looks at the CAs that policies are fetched with.
func (x *examiner) roots() doctor.Roots {
	source := x.cfg.MTASTS.CAFile
	if source == "" {
		source = "the system's"
		for _, file := range doctor.Bundles() {
			if _, err := x.machine.Stat(file); err == nil {
				source = file
				break
			}
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			return doctor.Roots{Source: source, Problem: err.Error()}
		}
		if pool.Equal(x509.NewCertPool()) {
			return doctor.Roots{Source: source, Problem: "the system has no CA roots"}
		}
	}
	data, err := x.machine.ReadFile(source)
	if err != nil && x.cfg.MTASTS.CAFile != "" {
		return doctor.Roots{Source: source, Problem: err.Error()}
	}
	// Where the system keeps them otherwise, there is one at least.
	return doctor.Roots{Source: source, Count: max(1, strings.Count(string(data), "-----BEGIN CERTIFICATE-----"))}
}

// policyd looks at the daemon.
func (x *examiner) policyd(ctx context.Context) doctor.Policyd {
	p := doctor.Policyd{
		File: x.cfg.File, Observe: x.cfg.Mode == verdict.Observe,
		Native: x.cfg.Postfix.DANE == config.DANENative, Fingerprints: x.cfg.Postfix.DANE == config.DANEFingerprint,
		Seeks: x.cfg.Postfix.DANE == config.DANEAuto && !x.cfg.Postfix.DANEResolver.IsValid(),
	}
	for _, w := range x.cfg.Warnings(time.Now()) {
		p.Warnings = append(p.Warnings, w.Error())
	}
	for _, a := range x.cfg.Socketmap.Listen {
		p.Listen = append(p.Listen, doctor.Listener{Address: a, Answer: doctor.Ask(ctx, a)})
	}
	p.Store = x.store(ctx)
	return p
}

// store looks at where policies are kept.
func (x *examiner) store(ctx context.Context) doctor.Store {
	path := x.cfg.Store.Path
	if path == "" {
		return doctor.Store{}
	}
	s := doctor.LookAtStore(x.machine, path)
	if u, err := peer(ctx, x.cfg.Control.Socket); err == nil {
		s.User, s.Known = doctor.NameUser(x.machine, u), "(who listens at "+x.cfg.Control.Socket+")"
		return s
	}
	var err error
	if s.User, err = doctor.FindUser(x.machine, packageUser); err != nil {
		s.NoUser = "it is not known as whom policyd runs: nobody says so at the control socket " + cmp.Or(x.cfg.Control.Socket, `""`) + ", and there is no user " + packageUser
	}
	return s
}

// packageUser is whom the packages have policyd run as.
const packageUser = "tlsverdict"

// peer is who listens at the control socket: policyd, which opens it itself.
func peer(ctx context.Context, socket string) (doctor.User, error) {
	a, err := postfixmap.ParseAddress("unix:" + socket)
	if err != nil {
		return doctor.User{}, err
	}
	conn, err := a.Dial(ctx)
	if err != nil {
		return doctor.User{}, err
	}
	defer conn.Close()
	return doctor.Peer(conn.(*net.UnixConn))
}

const (
	// reachTime bounds one connection to a mail host, its greeting included. Some wait
	// before they greet.
	reachTime = 20 * time.Second
	// reachHosts is how many are connected to.
	reachHosts = 3
)

// reach connects to mail hosts, and waits for their greeting.
func (x *examiner) reach(ctx context.Context, r *resolve.Resolver, d nexthop.Destination) *doctor.Reach {
	found := &doctor.Reach{Domain: d.Name}
	s := r.Session()
	defer s.Close()
	mx := s.MX(ctx, d.Name)
	hosts := []string{d.Name}
	if mx.Broken() {
		found.Problem = mx.Failure.Detail
		return found
	}
	if !d.Host && !mx.Absent() {
		hosts = nil
		for _, one := range slices.SortedFunc(slices.Values(mx.Records), func(a, b verdict.MX) int { return int(a.Preference) - int(b.Preference) }) {
			hosts = append(hosts, one.Host)
		}
	}
	hosts = hosts[:min(len(hosts), reachHosts)]
	found.Hosts = make([]doctor.Reached, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() { found.Hosts[i] = x.greet(ctx, r, host) })
	}
	all.Wait()
	return found
}

// greet connects to one host, at one of its addresses after the other.
func (x *examiner) greet(ctx context.Context, r *resolve.Resolver, host string) doctor.Reached {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	addrs, err := r.LookupAddrs(ctx, host)
	if err != nil {
		return doctor.Reached{Host: host, Problem: err.Error()}
	}
	var last doctor.Reached
	for _, addr := range addrs {
		last.Host = fmt.Sprintf("%s[%s]", host, addr)
		if err = x.greeting(ctx, netip.AddrPortFrom(addr, 25)); err == nil {
			return doctor.Reached{Host: last.Host}
		}
		last.Problem = doctor.Reason(err)
	}
	return last
}

func (x *examiner) greeting(ctx context.Context, to netip.AddrPort) error {
	dial := x.through.DialMail
	if dial == nil {
		dial = (&net.Dialer{Timeout: reachTime / 2}).DialContext
	}
	conn, err := dial(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	line, err := bufio.NewReaderSize(conn, 1024).ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("it is connected, and does not greet: %w", err)
	}
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return fmt.Errorf("what answers there does not speak SMTP: %.40q", line)
	}
	// Its refusal is an answer as well. What comes of this does not matter.
	_, _ = conn.Write([]byte("QUIT\r\n"))
	return nil
}
