package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// policyHosts serves every MTA-STS policy of the lab, by name.
type policyHosts struct {
	ca       authority
	policies []*policy

	mu       sync.Mutex
	requests []string
}

// serve answers HTTPS on a listener until the server returned is closed.
func (p *policyHosts) serve(l net.Listener) *http.Server {
	s := &http.Server{
		Handler:           http.HandlerFunc(p.answer),
		TLSConfig:         &tls.Config{GetCertificate: p.certificate},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // a client that goes away in the middle is what some tests are about
	}
	go s.ServeTLS(l, "", "") // ends with http.ErrServerClosed
	return s
}

func (p *policyHosts) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if p.find(hello.ServerName) == nil {
		return nil, fmt.Errorf("no such policy host as %q", hello.ServerName)
	}
	c, err := p.ca.issue(hello.ServerName)
	return &c, err
}

func (p *policyHosts) find(host string) *policy {
	for _, policy := range p.policies {
		if host == "mta-sts."+policy.domain {
			return policy
		}
	}
	return nil
}

func (p *policyHosts) answer(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests = append(p.requests, r.Host+r.URL.Path)
	p.mu.Unlock()
	policy := p.find(r.Host)
	if policy == nil || r.URL.Path != "/.well-known/mta-sts.txt" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(policy.body)
}

// transcript returns what was asked for, host and path.
func (p *policyHosts) transcript() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// hang accepts connections and never says a word; each is told on the channel
// returned, which is closed with the listener.
func hang(l net.Listener) <-chan net.Conn {
	accepted := make(chan net.Conn, 64)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	return accepted
}

func TestPolicyHosts(t *testing.T) {
	ca, err := newAuthorities()
	if err != nil {
		t.Fatal(err)
	}
	p := policyHosts{ca: ca.trusted, policies: []*policy{{domain: "example", body: []byte("version: STSv1\n")}}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := p.serve(l)
	get := func(url string) (string, error) {
		transport := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			},
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the lab's CA is in nobody's store
			DisableKeepAlives: true,
		}
		r, err := (&http.Client{Transport: transport}).Get(url)
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		return r.Status + " " + strings.TrimSpace(string(body)), err
	}
	if got, err := get("https://mta-sts.example/.well-known/mta-sts.txt"); err != nil || got != "200 OK version: STSv1" {
		t.Errorf("the policy: %q, %v", got, err)
	}
	if _, err := get("https://mta-sts.other.example/"); err == nil {
		t.Error("a name without a policy was served")
	}
	if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := get("https://mta-sts.example/.well-known/mta-sts.txt"); err == nil {
		t.Error("a closed policy host still answers")
	}
}
