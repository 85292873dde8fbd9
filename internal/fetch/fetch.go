package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/verdict"
)

const (
	// DefaultTimeout is the time for a whole fetch. RFC 8461 §3.3 suggests a
	// minute; mail that waits for a first verdict should not.
	DefaultTimeout = 10 * time.Second

	hostPrefix     = "mta-sts."
	path           = "/.well-known/mta-sts.txt"
	maxHost        = 253
	maxHeaderBytes = 16 << 10
)

// Resolver finds the addresses of a policy host, through the daemon's own resolver
// and never the system's. A *verdict.Failure in its error says whose fault it is.
type Resolver interface {
	LookupAddrs(ctx context.Context, host string) ([]netip.Addr, error)
}

// Fetcher gets policies. Its fields must not change once it is used; it may be
// used by many goroutines at once.
type Fetcher struct {
	// Resolve is required.
	Resolve Resolver
	// Roots are the authorities that policy hosts' certificates may come from;
	// nil means the system's.
	Roots *x509.CertPool
	// Allow lists networks that policy hosts may be in although they are not public.
	Allow []netip.Prefix
	// Timeout is for the whole fetch; 0 means DefaultTimeout.
	Timeout time.Duration
	// DialContext opens connections; nil means a net.Dialer. The address is
	// checked before it is called.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

func (f *Fetcher) timeout() time.Duration {
	if f.Timeout <= 0 {
		return DefaultTimeout
	}
	return f.Timeout
}

// Fetch gets the policy of a domain, which must be in lower case, as A-labels and
// without a trailing dot. Errors are *Error.
func (f *Fetcher) Fetch(ctx context.Context, domain string) (mtasts.Policy, error) {
	seen, err := f.Look(ctx, domain)
	return seen.Policy, err
}

// Seen is a policy, with what else its host showed.
type Seen struct {
	Policy mtasts.Policy
	// CertificateEnds is when the policy host's certificate does.
	CertificateEnds time.Time
}

// Look is Fetch for those who also want to know how long it will go well.
func (f *Fetcher) Look(ctx context.Context, domain string) (Seen, error) {
	host := hostPrefix + domain
	if domain == "" || len(host) > maxHost {
		return Seen{}, refuse("no policy host can be named for %q", clip(domain))
	}
	body, ends, err := f.get(ctx, host)
	if err != nil {
		return Seen{}, classify(ctx, host, err)
	}
	policy, err := mtasts.ParsePolicy(body)
	if err != nil {
		return Seen{CertificateEnds: ends}, &Error{Kind: PolicyInvalid, Fault: verdict.Remote, Detail: host + ": " + clip(err.Error()), cause: err}
	}
	return Seen{policy, ends}, nil
}

// get returns the body that the policy host serves, under the deadline, and when its
// certificate ends.
func (f *Fetcher) get(ctx context.Context, host string) (body []byte, ends time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	addrs, err := f.Resolve.LookupAddrs(ctx, host)
	if err != nil {
		return nil, ends, err
	}
	if addrs = order(addrs); len(addrs) == 0 {
		return nil, ends, refuse("%s has no address", host)
	}
	var own connections
	defer own.close()
	transport := f.transport(host, func() (net.Conn, error) { return own.keep(f.dialer().race(ctx, addrs)) })
	// RoundTrip, not a Client: it follows no redirect and knows no cookies
	// (RFC 8461 §3.3).
	resp, err := transport.RoundTrip(request(ctx, host))
	if err != nil {
		return nil, ends, err
	}
	defer func() { _ = resp.Body.Close() }()
	ends = resp.TLS.PeerCertificates[0].NotAfter
	if err := checkHeader(host, resp); err != nil {
		return nil, ends, err
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, mtasts.MaxPolicySize+1))
	if err != nil {
		return nil, ends, err
	}
	if len(body) > mtasts.MaxPolicySize {
		return nil, ends, tooLong(host)
	}
	return body, ends, nil
}

// connections are those of one fetch. An http.Transport goes on with a handshake that
// nobody waits for any longer, and closes in its own time: so a fetch that is over would
// hold descriptors beside those of the next one.
type connections struct {
	mu   sync.Mutex
	open []net.Conn
	over bool
}

// keep takes a new connection in, or what kept it from being made.
func (o *connections) keep(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	o.open = append(o.open, c)
	return c, nil
}

func (o *connections) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	for _, c := range o.open {
		_ = c.Close()
	}
}

// transport is for one exchange with one host: nothing of it is shared, so
// nothing that one policy host does can reach the fetch of another.
func (f *Fetcher) transport(host string, dial func() (net.Conn, error)) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		// The fetch's context is the one that counts: the transport gives dial one
		// that goes on after it.
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() },
		TLSClientConfig: &tls.Config{
			// The name is that of the policy host, whatever its address was
			// found under (RFC 8461 §8.2); crypto/x509 looks at DNS names only,
			// and at wildcards only as a whole left-most label (RFC 8461 §3.3).
			ServerName: host,
			RootCAs:    f.Roots,
			MinVersion: tls.VersionTLS12,
		},
		Protocols:              protocols,
		TLSHandshakeTimeout:    f.timeout(),
		ResponseHeaderTimeout:  f.timeout(),
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableKeepAlives:      true,
		DisableCompression:     true,
	}
}

func request(ctx context.Context, host string) *http.Request {
	req := &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Scheme: "https", Host: host, Path: path},
		Host:   host,
		Header: http.Header{"Accept": {"text/plain"}, "User-Agent": {"tlsverdict"}},
	}
	return req.WithContext(ctx)
}

// checkHeader refuses answers that are not a policy, before their body is read.
func checkHeader(host string, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return refuse("%s answered with HTTP status %d", host, resp.StatusCode)
	}
	// A web server that lets its users place files would serve them as HTML
	// or images (RFC 8461 §3.3). Parameters are ignored, even broken ones.
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || kind != "text/plain" {
		return refuse("%s answered with media type %q, not text/plain", host, clip(resp.Header.Get("Content-Type")))
	}
	// Nothing but identity was asked for, and 64 KB unpack to 64 MB.
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return refuse("%s answered with content coding %q, which was not asked for", host, clip(coding))
	}
	if resp.ContentLength > mtasts.MaxPolicySize {
		return tooLong(host)
	}
	return nil
}

func tooLong(host string) *Error {
	return refuse("%s answered with more than %d octets", host, mtasts.MaxPolicySize)
}
