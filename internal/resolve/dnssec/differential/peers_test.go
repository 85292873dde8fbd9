package differential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/verdict"
)

// said is what a validator makes of a question.
type said struct {
	worth   worth
	rcode   int
	records []string // of the type asked for, in order
	// detail is for people: why it failed, or how it was shown.
	detail string
}

func (s said) String() string {
	if s.worth == failed {
		return "bogus (" + s.detail + ")"
	}
	return fmt.Sprintf("%v %s %d records %s", s.worth, dns.RcodeToString[s.rcode], len(s.records), s.detail)
}

// same is of everything but the detail. What failed has no records.
func (s said) same(o said) bool {
	return s.worth == o.worth && (s.worth == failed || s.sameAnswer(o))
}

func (s said) sameAnswer(o said) bool {
	return s.rcode == o.rcode && slices.Equal(s.records, o.records)
}

// content is the records of a type without owners and TTLs, in order, each once.
func content(rrs []dns.RR, rtype uint16) []string {
	var list []string
	for _, rr := range rrs {
		if rr.Header().Rrtype == rtype {
			list = append(list, strings.ToLower(strings.TrimPrefix(rr.String(), rr.Header().String())))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ours is this program's, with one cache for the whole run.
type ours struct {
	in *internet
	v  *dnssec.Validator
}

func newOurs(t testing.TB, in *internet) ours {
	t.Helper()
	anchors, err := dnssec.ParseAnchors([]byte(in.anchors()))
	if err != nil {
		t.Fatal(err)
	}
	return ours{in, dnssec.New(dnssec.Config{Anchors: anchors})}
}

// anchors are the root's, as records.
func (in *internet) anchors() string {
	var b strings.Builder
	for _, rr := range in.root.ds {
		fmt.Fprintln(&b, rr)
	}
	return b.String()
}

func (o ours) ask(q question) said {
	s := o.v.Session(o.in)
	defer s.Close()
	a := s.Lookup(context.Background(), q.name, q.rtype)
	one := said{records: content(a.Records, q.rtype)}
	switch {
	case a.Outcome == verdict.Failed:
		one.detail = a.Err.Error()
		return one
	case a.Proof == verdict.Secure:
		one.worth = secure
	default:
		one.worth = insecure
	}
	if a.Outcome == verdict.NXDomain {
		one.rcode = dns.RcodeNameError
	}
	if chain := a.Chain(); len(chain) > 0 {
		one.detail = chain[len(chain)-1].String()
	}
	return one
}

// programs are other people's, as this machine or a root of the lab has them.
type programs struct {
	t testing.TB
	// root is what they see as "/"; "" for this machine's.
	root string
	// dir is a place for their files, as we see it.
	dir string
}

// peersGate names the root directory that has the other validators; without it, they
// are those of this machine.
const peersGate = "TLSVERDICT_PEERS"

func findPrograms(t testing.TB) programs {
	t.Helper()
	p := programs{t: t, root: os.Getenv(peersGate)}
	if p.root == "" {
		p.dir = t.TempDir()
		return p
	}
	dir, err := os.MkdirTemp(filepath.Join(p.root, "tmp"), "differential")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p.dir = dir
	return p
}

// file writes one, and returns its path as the programs see it.
func (p programs) file(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return p.seen(path)
}

func (p programs) seen(path string) string { return "/" + strings.TrimPrefix(path[len(p.root):], "/") }

// command is a program by its usual path.
func (p programs) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	if p.root != "" {
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: p.root}
	}
	return cmd
}

// version is the first line that a program says of itself.
func (p programs) version(path, flag string) string {
	out, err := p.command(path, flag).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s: %v: 'make differential' unpacks it", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	name := filepath.Base(path)
	return name + " " + strings.TrimPrefix(strings.TrimPrefix(line, "Version "), name+" ")
}

const (
	unboundPath = "/usr/sbin/unbound"
	delvPath    = "/usr/bin/delv"
)

// unbound is a process of this test's own, with nothing but what it is told here.
type unbound struct {
	t    testing.TB
	addr string
	pid  int
}

const unboundConf = `
server:
	verbosity: 0
	use-syslog: no
	do-daemonize: no
	username: ""
	chroot: ""
	pidfile: ""
	directory: "%[1]s"
	num-threads: 1
	interface: %[2]s
	port: %[3]s
	do-ip6: no
	access-control: 127.0.0.0/8 allow
	do-not-query-localhost: no
	module-config: "validator iterator"
	trust-anchor-file: "%[1]s/anchors"
	trust-anchor-signaling: no
	root-key-sentinel: no
	ede: yes
	val-log-level: 2
	aggressive-nsec: no
	prefetch: no
	harden-below-nxdomain: no
	edns-buffer-size: 4096
	max-udp-size: 4096
	msg-cache-size: 64m
	rrset-cache-size: 128m
	key-cache-size: 64m
	outbound-msg-retry: 8
remote-control:
	control-enable: no
forward-zone:
	name: "."
	forward-addr: %[4]s
`

// startUnbound runs it on a free port until the test ends; upstream is host:port.
func startUnbound(p programs, anchors, upstream string) unbound {
	t := p.t
	t.Helper()
	host, port := freePort(t)
	p.file("anchors", anchors)
	conf := p.file("unbound.conf", fmt.Sprintf(unboundConf, p.seen(p.dir), host, port, strings.Replace(upstream, ":", "@", 1)))
	var log bytes.Buffer
	cmd := p.command(unboundPath, "-d", "-c", conf)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: 'make differential' unpacks it", err)
	}
	u := unbound{t, net.JoinHostPort(host, port), cmd.Process.Pid}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("unbound said:\n%s", tail(log.String(), 20))
		}
	})
	for end := time.Now().Add(20 * time.Second); ; {
		if m, err := u.exchange(question{".", dns.TypeSOA}, false); err == nil && m.AuthenticatedData {
			return u
		}
		if time.Now().After(end) {
			t.Fatalf("unbound does not answer, or does not validate the root:\n%s", tail(log.String(), 20))
		}
	}
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func freePort(t testing.TB) (host, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	host, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

var errID = errors.New("a reply to another question")

func (u unbound) exchange(q question, checkingDisabled bool) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.rtype)
	m.SetEdns0(4096, true)
	m.CheckingDisabled = checkingDisabled
	c := dns.Client{Timeout: 5 * time.Second, UDPSize: 4096}
	r, _, err := c.Exchange(m, u.addr)
	if err == nil && r.Truncated {
		c.Net = "tcp"
		r, _, err = c.Exchange(m, u.addr)
	}
	if err == nil && (len(r.Question) != 1 || !strings.EqualFold(r.Question[0].Name, q.name)) {
		err = errID
	}
	return r, err
}

func (u unbound) ask(q question) said {
	m, err := u.exchange(q, false)
	for range 3 { // a busy machine loses packets
		if err == nil {
			break
		}
		m, err = u.exchange(q, false)
	}
	if err != nil {
		u.t.Errorf("unbound: %v: %v", q, err)
		return said{detail: err.Error()}
	}
	return saidBy(m, q)
}

func saidBy(m *dns.Msg, q question) said {
	one := said{rcode: m.Rcode, worth: insecure}
	switch {
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		one.worth, one.detail = failed, dns.RcodeToString[m.Rcode]
		if opt := m.IsEdns0(); opt != nil {
			for _, o := range opt.Option {
				one.detail += " " + o.String()
			}
		}
		return one
	case m.AuthenticatedData:
		one.worth = secure
	}
	one.records = content(m.Answer, q.rtype)
	return one
}

// delv is a program that is run once a question.
type delv struct {
	programs
	anchors string
	host    string
	port    string
}

func newDelv(p programs, in *internet, upstream string) delv {
	p.t.Helper()
	var b strings.Builder
	for _, rr := range in.root.ds {
		ds := rr.(*dns.DS)
		fmt.Fprintf(&b, ". static-ds %d %d %d \"%s\";\n", ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest)
	}
	d := delv{programs: p, anchors: p.file("delv.anchors", "trust-anchors {\n"+b.String()+"};\n")}
	var err error
	if d.host, d.port, err = net.SplitHostPort(upstream); err != nil {
		p.t.Fatal(err)
	}
	return d
}

// ask asks once more where it failed: on a busy machine packets are lost.
func (d delv) ask(q question) said {
	one := readDelv(d.raw(q), q)
	if one.worth == failed {
		one = readDelv(d.raw(q), q)
	}
	return one
}

func (d delv) raw(q question) string {
	cmd := d.command(delvPath, "@"+d.host, "-p", d.port, "-a", d.anchors, "+root=.", "-t", dns.Type(q.rtype).String(), "-q", q.name)
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		d.t.Errorf("delv: %v: %v", q, err)
	}
	return string(out)
}

// readDelv reads what delv prints: of each RRset, one alias after another, what it is
// worth, and then its records; of a denial, what denies.
func readDelv(out string, q question) said {
	one := said{worth: secure}
	judgements := 0
	var rrs []dns.RR
	judge := func(w worth) {
		judgements++
		one.worth = min(one.worth, w)
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, ";; "):
			one.detail += line[2:]
			if strings.HasSuffix(line, "ncache nxdomain") {
				one.rcode = dns.RcodeNameError
			} else if strings.Contains(line, "resolution failed") && !strings.Contains(line, "ncache") {
				judge(failed)
			}
		case line == "; fully validated", line == "; negative response, fully validated":
			judge(secure)
		case line == "; unsigned answer", line == "; negative response, unsigned answer":
			judge(insecure)
		case strings.HasSuffix(line, "pending validation"): // what it did not finish
			judge(failed)
		case line != "" && line[0] != ';':
			if rr, err := dns.NewRR(line); err == nil && rr != nil {
				rrs = append(rrs, rr)
			}
		}
	}
	if judgements == 0 {
		one.worth = failed
	}
	one.records = content(rrs, q.rtype)
	return one
}
