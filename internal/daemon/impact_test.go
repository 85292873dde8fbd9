package daemon_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"tlsverdict/internal/config"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/impact"
	"tlsverdict/internal/world"
)

// TestRulings: each domain is told of once, whatever its name, and no longer than anyone
// wants to hear of it.
func TestRulings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := world.New()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := w.DNS.Load(`
zone dane.example. secure
@            MX   10 mx
mx           A    192.0.2.1
_25._tcp.mx  TLSA 2 1 1 {sha256}
zone plain.example. insecure
@            MX   10 mx
mx           A    192.0.2.2
zone broken.example. servfail
@            MX   10 mx
`); err != nil {
			t.Fatal(err)
		}
		anchors, err := w.DNS.Anchors()
		if err != nil {
			t.Fatal(err)
		}
		cfg := config.Default()
		cfg.DNS.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
		through := daemon.Network{DialDNS: w.DNS.Dial, DialHTTPS: w.Web.Dial, Roots: w.Web.Roots(), Anchors: anchors}
		from := daemon.Impact{Config: cfg, Through: through}
		got := make(map[string]string)
		err = from.Rulings(t.Context(), []string{"dane.example", "plain.example", "broken.example", "a..b"}, func(domain string, r impact.Ruled) error {
			if _, told := got[domain]; told {
				t.Errorf("%s is told of twice", domain)
			}
			got[domain] = ""
			if r.Verdict != nil {
				got[domain] = r.Verdict.Name() + " " + r.Source.String()
			}
			return nil
		})
		// The trust anchor of DANE is demanded although no Postfix here could be told.
		want := map[string]string{"dane.example": "dane-only dane", "plain.example": "none none", "broken.example": "defer none", "a..b": ""}
		if err != nil || len(got) != len(want) {
			t.Errorf("%v, %v", got, err)
		}
		for domain, verdict := range want {
			if got[domain] != verdict {
				t.Errorf("%s: %q, want %q", domain, got[domain], verdict)
			}
		}

		enough := errors.New("enough")
		if err := from.Rulings(t.Context(), []string{"dane.example"}, func(string, impact.Ruled) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := from.Rulings(ctx, []string{"dane.example"}, func(string, impact.Ruled) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
