package fetch_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlsverdict/internal/fetch"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/verdict"
)

func TestFetch(t *testing.T) {
	ca := newAuthority(t)
	for _, next := range []string{"h2", "http/1.1"} {
		t.Run(next, func(t *testing.T) {
			got := make(chan *http.Request, 1)
			server := serve(t, &tls.Config{
				Certificates: []tls.Certificate{ca.named(t, host)}, NextProtos: []string{next},
			}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got <- r
				text(w, r)
			}))
			p, err := to(ca, server).Fetch(t.Context(), domain)
			if err != nil {
				t.Fatal(err)
			}
			if p.Mode != mtasts.ModeEnforce || len(p.MX) != 1 || p.MaxAge != 24*time.Hour {
				t.Errorf("policy %+v", p)
			}
			r := <-got
			if r.Method != http.MethodGet || r.Host != host || r.URL.Path != "/.well-known/mta-sts.txt" || r.TLS.ServerName != host {
				t.Errorf("asked %s %s%s with SNI %q", r.Method, r.Host, r.URL, r.TLS.ServerName)
			}
			if r.TLS.NegotiatedProtocol != next || r.Header.Get("Cookie") != "" || r.Header.Get("Accept-Encoding") != "" {
				t.Errorf("protocol %q, headers %v", r.TLS.NegotiatedProtocol, r.Header)
			}
		})
	}
}

// answering returns a server that proves who it is and answers as h does.
func answering(t *testing.T, h http.HandlerFunc) *fetch.Fetcher {
	t.Helper()
	ca := newAuthority(t)
	return to(ca, serve(t, &tls.Config{Certificates: []tls.Certificate{ca.named(t, host)}}, h))
}

// TestLook: the end of the certificate is told, also where the policy is no good.
func TestLook(t *testing.T) {
	for body, good := range map[string]bool{policy: true, "version: STSv2\n": false} {
		ca := newAuthority(t)
		leaf := ca.named(t, host)
		ends, err := x509.ParseCertificate(leaf.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		f := to(ca, serve(t, &tls.Config{Certificates: []tls.Certificate{leaf}}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, body)
		})))
		seen, err := f.Look(t.Context(), domain)
		if (err == nil) != good || !seen.CertificateEnds.Equal(ends.NotAfter) {
			t.Errorf("%q: %v, %v; the certificate ends %v", body, seen, err, ends.NotAfter)
		}
	}
}

func TestS10OnlyStatus200(t *testing.T) {
	for _, status := range []int{201, 203, 206, 304, 401, 404, 500, 503} {
		f := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(status)
			if status != http.StatusNotModified {
				_, _ = io.WriteString(w, policy)
			}
		})
		wantError(t, f, fetch.PolicyFetchError, verdict.Remote, fmt.Sprint(status))
	}
}

func TestS10NoRedirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var asked atomic.Int32
		f := answering(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if r.URL.Path == "/policy" {
				text(w, r)
				return
			}
			http.Redirect(w, r, "/policy", status)
		})
		wantError(t, f, fetch.PolicyFetchError, verdict.Remote, fmt.Sprint(status))
		if n := asked.Load(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	}
}

func TestS10NoHTTPCacheNorCookies(t *testing.T) {
	var asked atomic.Int32
	f := answering(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Cookie") != "" || r.Header.Get("If-None-Match") != "" {
			t.Errorf("headers %v", r.Header)
		}
		w.Header().Set("Cache-Control", "max-age=86400, immutable")
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Set-Cookie", "a=b; Path=/")
		text(w, r)
	})
	for range 3 {
		if _, err := f.Fetch(t.Context(), domain); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("%d requests for 3 fetches", n)
	}
}

func TestNoProxyFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	if _, err := answering(t, text).Fetch(t.Context(), domain); err != nil {
		t.Fatal(err)
	}
}

func TestS8MediaType(t *testing.T) {
	for kind, good := range map[string]bool{
		"text/plain":                       true,
		"text/plain; charset=utf-8":        true,
		"Text/Plain;charset=us-ascii; a=b": true,
		"text/plain; charset":              true,
		"text/html":                        false,
		"text/plainish":                    false,
		"application/octet-stream":         false,
		"image/png":                        false,
		"text":                             false,
		"":                                 false,
	} {
		f := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{kind}
			_, _ = io.WriteString(w, policy)
		})
		if !good {
			wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "media type")
		} else if _, err := f.Fetch(t.Context(), domain); err != nil {
			t.Errorf("media type %q: %v", kind, err)
		}
	}
}

func TestS9Certificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	past := time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct {
		cert tls.Certificate
		good bool
	}{
		"exact name":          {ca.named(t, host), true},
		"among others":        {ca.named(t, "www.example.com", host), true},
		"wildcard":            {ca.named(t, "*.example.com"), true},
		"upper case":          {ca.named(t, "MTA-STS.Example.COM"), true},
		"domain itself":       {ca.named(t, "example.com"), false},
		"another host":        {ca.named(t, "mail.example.com"), false},
		"target of the CNAME": {ca.named(t, "policies.hoster.test"), false},
		"partial wildcard":    {ca.named(t, "mta-*.example.com"), false},
		"wildcard too deep":   {ca.named(t, "*.com"), false},
		"common name only":    {ca.leaf(t, &x509.Certificate{Subject: pkix.Name{CommonName: host}}), false},
		"address only":        {ca.leaf(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}), false},
		"expired": {ca.leaf(t, &x509.Certificate{
			DNSNames: []string{host}, NotBefore: past.Add(-time.Hour), NotAfter: past,
		}), false},
		"not yet valid": {ca.leaf(t, &x509.Certificate{
			DNSNames: []string{host}, NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
		}), false},
		"unknown authority": {other.named(t, host), false},
		"self-signed":       {selfSigned(t), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := to(ca, serve(t, &tls.Config{Certificates: []tls.Certificate{tt.cert}}, http.HandlerFunc(text)))
			if !tt.good {
				wantError(t, f, fetch.WebPKIInvalid, verdict.Remote, "x509")
			} else if _, err := f.Fetch(t.Context(), domain); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	self := &authority{key: newKey(t)}
	cert := self.sign(t, self.key, &x509.Certificate{DNSNames: []string{host}})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: self.key}
}

func TestOldTLSIsRefused(t *testing.T) {
	ca := newAuthority(t)
	for version, good := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		f := to(ca, serve(t, &tls.Config{
			Certificates: []tls.Certificate{ca.named(t, host)}, MinVersion: tls.VersionTLS10, MaxVersion: version,
		}, http.HandlerFunc(text)))
		if !good {
			wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "protocol version")
		} else if _, err := f.Fetch(t.Context(), domain); err != nil {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

func TestClearTextIsRefused(t *testing.T) {
	ca := newAuthority(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(text), ReadHeaderTimeout: time.Second}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	wantError(t, to(ca, ln.Addr().String()), fetch.PolicyFetchError, verdict.Remote, host)
}

func TestInvalidPolicy(t *testing.T) {
	f := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "version: STSv1\nmode: enforce\nmx: *.*.x\nmax_age: 1\n")
	})
	wantError(t, f, fetch.PolicyInvalid, verdict.Remote, `line 3`)
	_, err := f.Fetch(t.Context(), domain)
	var pe *mtasts.PolicyError
	if !errors.As(err, &pe) || pe.Line != 3 {
		t.Errorf("%v does not lead to the line", err)
	}
}

func TestS11SixtyFourKilobytes(t *testing.T) {
	sized := func(n int) string {
		pad := policy + "x: "
		return pad + strings.Repeat("a", n-len(pad))
	}
	for _, chunked := range []bool{true, false} {
		for n, good := range map[int]bool{mtasts.MaxPolicySize: true, mtasts.MaxPolicySize + 1: false, 1 << 20: false} {
			f := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				if chunked {
					w.(http.Flusher).Flush()
				}
				_, _ = io.WriteString(w, sized(n))
			})
			if !good {
				wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "more than 65536 octets")
			} else if _, err := f.Fetch(t.Context(), domain); err != nil {
				t.Errorf("%d octets: %v", n, err)
			}
		}
	}
}

func TestGzipBomb(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.Copy(z, io.LimitReader(zeros{}, 16<<20))
	_ = z.Close()
	f := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	wantError(t, f, fetch.PolicyFetchError, verdict.Remote, `content coding "gzip"`)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestSlowDripEndsAtTheDeadline(t *testing.T) {
	for name, header := range map[string]string{
		"header": "", "body": "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 60000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			ca := newAuthority(t)
			server := serveRaw(t, &tls.Config{Certificates: []tls.Certificate{ca.named(t, host)}}, func(c net.Conn) {
				_, _ = io.WriteString(c, header)
				tick := time.NewTicker(10 * time.Millisecond)
				defer tick.Stop()
				for range tick.C {
					if _, err := io.WriteString(c, "H"); err != nil {
						return
					}
				}
			})
			f := to(ca, server)
			f.Timeout = 300 * time.Millisecond
			begin := time.Now()
			wantError(t, f, fetch.PolicyFetchError, verdict.Remote, "in time")
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestNothingIsLeftOpen: when a fetch is over, so are its connections, however it ended.
// Whoever bounds the fetches bounds the descriptors with them.
func TestNothingIsLeftOpen(t *testing.T) {
	ca := newAuthority(t)
	conf := &tls.Config{Certificates: []tls.Certificate{ca.named(t, host)}}
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	for name, server := range map[string]string{
		"silent": serveSilence(t),
		"good":   serve(t, conf, http.HandlerFunc(text)),
		"drips": serveRaw(t, conf, func(c net.Conn) {
			_, _ = io.WriteString(c, ok+"Content-Length: 60000\r\n\r\nv")
			_, _ = c.Read(make([]byte, 1))
		}),
		"endless": serveRaw(t, conf, func(c net.Conn) {
			_, err := io.WriteString(c, ok+"\r\n")
			for err == nil {
				_, err = c.Write(make([]byte, 4096))
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			f := to(ca, server)
			f.Timeout = 200 * time.Millisecond
			dial := f.DialContext
			var open atomic.Int32
			f.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				open.Add(1)
				return &watched{Conn: c, closed: sync.OnceFunc(func() { open.Add(-1) })}, nil
			}
			for range 20 {
				_, _ = f.Fetch(t.Context(), domain) // how it ends is not the point
				if n := open.Load(); n != 0 {
					t.Fatalf("%d connections are open after the fetch", n)
				}
			}
		})
	}
}

// watched tells when it is closed.
type watched struct {
	net.Conn
	closed func()
}

func (w *watched) Close() error {
	w.closed()
	return w.Conn.Close()
}

// serveSilence accepts and says nothing.
func serveSilence(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

func TestHostileHTTP(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	for name, answer := range map[string]string{
		"header flood":       ok + strings.Repeat("X-Flood: "+strings.Repeat("a", 1000)+"\r\n", 1000) + "\r\n" + policy,
		"one long header":    ok + "X-Long: " + strings.Repeat("a", 1<<20) + "\r\n\r\n" + policy,
		"endless 1xx":        strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 100000),
		"HTTP/0.9":           policy,
		"garbage":            "\x00\x01\x02\xff\r\n\r\n",
		"nothing":            "",
		"SMTP":               "220 mail.example.com ESMTP\r\n",
		"cut short":          ok + "Content-Length: 100\r\n\r\nversion: STSv1\r\n",
		"two lengths":        ok + "Content-Length: 10\r\nContent-Length: 11\r\n\r\n" + policy,
		"negative length":    ok + "Content-Length: -1\r\n\r\n" + policy,
		"broken chunks":      ok + "Transfer-Encoding: chunked\r\n\r\nZZ\r\n" + policy,
		"huge chunk claimed": ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + policy,
		"folded control":     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\x00\r\n\r\n" + policy,
	} {
		t.Run(name, func(t *testing.T) {
			ca := newAuthority(t)
			f := to(ca, serveRaw(t, &tls.Config{Certificates: []tls.Certificate{ca.named(t, host)}}, func(c net.Conn) {
				_, _ = io.WriteString(c, answer)
			}))
			wantError(t, f, fetch.PolicyFetchError, verdict.Remote, host)
		})
	}
}

func TestCallerGivesUp(t *testing.T) {
	ca := newAuthority(t)
	ctx, cancel := context.WithCancel(t.Context())
	server := serveRaw(t, &tls.Config{Certificates: []tls.Certificate{ca.named(t, host)}}, func(net.Conn) { cancel() })
	_, err := to(ca, server).Fetch(ctx, domain)
	var e *fetch.Error
	if !errors.As(err, &e) || e.Fault != verdict.Ours || !strings.Contains(e.Detail, "given up") {
		t.Errorf("%v; want a fault of ours", err)
	}
}

func TestDomainsThatHaveNoPolicyHost(t *testing.T) {
	f := &fetch.Fetcher{Resolve: addrs{}}
	for _, name := range []string{"", strings.Repeat("a.", 124) + "ab"} {
		if _, err := f.Fetch(t.Context(), name); err == nil {
			t.Errorf("%q was fetched", name)
		}
	}
}

func TestNamesOfKinds(t *testing.T) {
	for kind, want := range map[fetch.Kind]string{
		fetch.PolicyFetchError: "sts-policy-fetch-error", fetch.PolicyInvalid: "sts-policy-invalid",
		fetch.WebPKIInvalid: "sts-webpki-invalid", 9: "kind(9)",
	} {
		if kind.String() != want {
			t.Errorf("%d is %q, want %q", kind, kind, want)
		}
	}
}
