package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tlsverdict/internal/resolve/dnssec"
)

// Defaults and bounds.
const (
	// DefaultTimeout is how long one server has for one try.
	DefaultTimeout = 2 * time.Second
	// DefaultMaxInflight is how many questions are on their way at once. Each has
	// a socket, so that as many file descriptors are needed beside all others of
	// the process; Go raises the soft limit to the hard one, which is larger
	// wherever systemd or a login sets it.
	DefaultMaxInflight = 1024
	// Budget is how many questions a session sends upstream, retries and TCP
	// included: what one destination can make this program do; as many as Unbound's
	// 200. Thirty MX hosts behind aliases take 2+30*4 = 122: MX and TXT, then A,
	// AAAA, and two at most of CNAME and TLSA. Where answers are validated, these and
	// their chains of trust are bounded by dnssec.MaxQueries besides, which leaves 28
	// for the chains. With fewer, such a domain would lose some of its hosts, others
	// each time, and with them the same verdict twice.
	Budget = 200
	// MaxLinks is how many CNAMEs are followed from a name to its records.
	MaxLinks = 8
)

// Mode says where the DNSSEC proof of an answer comes from. The zero value
// proves nothing.
type Mode uint8

const (
	// Off proves nothing: every answer is Indeterminate.
	Off Mode = iota
	// TrustAD believes the AD bit (RFC 4035 §3.2.3) of a resolver that is
	// reached over loopback and passes the probe.
	TrustAD
	// Validate believes no server: each answer is proven in this process, from the
	// trust anchors on (RFC 4035 §5).
	Validate
)

// String returns the mode as the configuration writes it.
func (m Mode) String() string {
	switch m {
	case Off:
		return "off"
	case TrustAD:
		return "trust-ad"
	case Validate:
		return "validate"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

var (
	// ErrConfig: the configuration cannot work. Nothing was started.
	ErrConfig = errors.New("resolve: bad configuration")
	// ErrNoServers: no name server is configured and resolv.conf names none.
	ErrNoServers = errors.New("resolve: no name server")
	// ErrNoAddress: the host has neither an IPv4 nor an IPv6 address. It is an
	// answer of the DNS, and asking again soon gives the same.
	ErrNoAddress = errors.New("resolve: no address")
	// ErrLookup: the addresses of a host could not be learnt. It may pass.
	ErrLookup = errors.New("resolve: lookup failed")
)

// Config is what a Resolver needs. The zero value works: the system's servers,
// nothing proven.
type Config struct {
	// Servers are tried in this order, healthy ones first. Empty: those of
	// SystemFile, which Watch reads again.
	Servers []netip.AddrPort
	// SystemFile takes the place of the constant of that name; empty leaves it.
	SystemFile string
	// Mode says whether and how answers are proven.
	Mode Mode
	// Anchors are what Validate trusts without proof. nil: those of the root that
	// this program was built with. LoadAnchors reads them from files.
	Anchors *dnssec.Anchors
	// TrustRemote lets TrustAD believe servers that are not on loopback. Whoever
	// is on the path to such a server can then forge every proof.
	TrustRemote bool
	// Timeout is how long one server has for one try, UDP and TCP together.
	// 0: DefaultTimeout. The context bounds all tries together.
	Timeout time.Duration
	// MaxInflight bounds the questions on their way at once, over all sessions,
	// and so the sockets and file descriptors. 0: DefaultMaxInflight.
	MaxInflight int
	// Log receives changes of health; nil discards them.
	Log *slog.Logger
	// Dial opens a new socket; network is "udp" or "tcp". A UDP connection keeps
	// the borders of datagrams and takes packets from its peer only. nil: the
	// operating system's, which picks a random port.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Told is told how long a server took to answer, each time; it must not wait. Optional.
	Told func(server netip.AddrPort, took time.Duration)
	// Clock tells the time for probes and penalties; nil: time.Now.
	Clock func() time.Time
}

// Resolver asks recursive name servers. It is safe for concurrent use and holds
// no connection open. In mode Validate it is to be closed.
type Resolver struct {
	// list are the servers; Watch renews those of file, which is empty where they
	// were configured.
	list    atomic.Pointer[[]*server]
	file    string
	scheme  scheme
	timeout time.Duration
	gate    *gate
	kept    *kept
	log     *slog.Logger
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	now     func() time.Time
	packets sync.Pool
	told    func(netip.AddrPort, time.Duration)
	counts  counters

	probes  sync.Mutex
	probing chan struct{}
}

// New returns a resolver. It sends nothing: the first lookup, Probe or Watch
// does. Errors wrap ErrConfig or ErrNoServers.
func New(cfg Config) (*Resolver, error) {
	servers, file := cfg.Servers, ""
	if len(servers) == 0 {
		var err error
		file = cmp.Or(cfg.SystemFile, SystemFile)
		if servers, err = SystemServers(file); err != nil {
			return nil, err
		}
	}
	r := &Resolver{
		file:    file,
		timeout: cfg.Timeout,
		log:     cfg.Log,
		dial:    cfg.Dial,
		now:     cfg.Clock,
		told:    cfg.Told,
	}
	for _, addr := range servers {
		if !addr.IsValid() || addr.Port() == 0 {
			return nil, fmt.Errorf("%w: %q is not the address and port of a name server", ErrConfig, addr)
		}
	}
	r.use(servers)
	if r.timeout < 0 || cfg.MaxInflight < 0 {
		return nil, fmt.Errorf("%w: a negative limit", ErrConfig)
	}
	r.defaults(cfg.MaxInflight)
	switch cfg.Mode {
	case Off:
		r.scheme = unproven{}
	case TrustAD:
		r.scheme = adTrust{remote: cfg.TrustRemote}
	case Validate:
		r.scheme = newValidating(r, cfg.Anchors)
	default:
		return nil, fmt.Errorf("%w: DNSSEC %v is not known", ErrConfig, cfg.Mode)
	}
	return r, nil
}

// Close ends what is learnt ahead of need. Sessions go on.
func (r *Resolver) Close() {
	if v, ok := r.scheme.(validating); ok {
		v.Close()
	}
}

func (r *Resolver) defaults(inflight int) {
	if r.timeout == 0 {
		r.timeout = DefaultTimeout
	}
	if inflight == 0 {
		inflight = DefaultMaxInflight
	}
	r.gate = newGate(inflight)
	r.kept = newKept(keptOctets)
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.dial == nil {
		r.dial = new(net.Dialer).DialContext
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.packets.New = func() any { return new([packetRoom]byte) }
}
