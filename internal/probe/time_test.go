package probe

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/verdict"
)

// TestTime: whatever a host does, a probe of it ends in time.
func TestTime(t *testing.T) {
	silent := func(_ *peer, c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	drip := func(_ *peer, c net.Conn) {
		go func() { _, _ = io.Copy(io.Discard, c) }()
		for {
			if _, err := io.WriteString(c, "2"); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
	for name, tc := range map[string]struct {
		serve func(*tls.Config) func(*peer, net.Conn)
		stage Stage
		takes time.Duration
	}{
		"silent":           {func(*tls.Config) func(*peer, net.Conn) { return silent }, Handshake, talkTime},
		"silent after TLS": {func(cfg *tls.Config) func(*peer, net.Conn) { return wrapped(cfg, silent) }, Dialogue, talkTime},
		"drips after TLS":  {func(cfg *tls.Config) func(*peer, net.Conn) { return wrapped(cfg, drip) }, Dialogue, talkTime},
		"drips":            {func(*tls.Config) func(*peer, net.Conn) { return drip }, Handshake, 4 * time.Second},
		"takes nothing":    {nil, Connect, connectTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority(t)
				cfg := &tls.Config{Certificates: []tls.Certificate{a.issue(t, "good", "smtps-mx.example.com")}}
				c := newClient(a)
				var served sync.WaitGroup
				defer served.Wait()
				c.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
					if tc.serve == nil {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					here, there := net.Pipe()
					served.Go(func() {
						tc.serve(cfg)(new(peer), there)
						_ = there.Close()
					})
					return here, nil
				}
				r := c.Probe(t.Context(), Target{"smtps-mx.example.com", 26, Implicit})
				if r.Err == nil || r.Err.Stage != tc.stage || r.Err.Fault != verdict.Remote {
					t.Errorf("%v", r.Err)
				}
				// To close a TLS connection may take 5 s more where nobody reads.
				if r.Took < tc.takes || r.Took > tc.takes+6*time.Second {
					t.Errorf("it took %v, want %v", r.Took, tc.takes)
				}
			})
		})
	}
}
