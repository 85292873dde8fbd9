package daemon_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"tlsverdict/internal/config"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/lint"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/world"
)

// TestLint looks at domains in a world: what is broken is found there, and nothing on
// the good one.
func TestLint(t *testing.T) {
	const (
		good = `
zone good.example. secure
@            MX   10 mx
mx           A    192.0.2.1
_25._tcp.mx  TLSA 3 1 1 {sha256}
_mta-sts     TXT  "v=STSv1; id=1;"
mta-sts      A    192.0.2.3
_smtp._tls   TXT  "v=TLSRPTv1; rua=mailto:tls@good.example"
`
		policy = "version: STSv1\nmode: enforce\nmx: mx.good.example\nmax_age: 1209600\n"
	)
	for name, c := range map[string]struct {
		zones, policy, host string
		domain              string
		want                string
	}{
		"good": {good, policy, "", "good.example", "unknown not-probed good.example"},
		"media type": {
			good, policy, "type text/html", "good.example",
			"error sts-policy-fetch mta-sts.good.example, unknown not-probed good.example",
		},
		"policy host": {
			good, policy, "cert expired", "good.example",
			"error sts-policy-certificate mta-sts.good.example, unknown not-probed good.example",
		},
		"no underscores": {`
zone slip.example. secure
@            MX   10 mx
mx           A    192.0.2.1
25._tcp.mx   TLSA 3 1 1 {sha256}
`, "", "", "slip.example", "warning tlsa-misplaced 25._tcp.mx.slip.example, notice tlsa-absent slip.example, notice sts-absent slip.example, notice tlsrpt-absent slip.example, unknown not-probed slip.example"},
		"unsigned": {`
zone plain.example. insecure
@            MX   10 starttls-mx
starttls-mx  A    192.0.2.1
_25._tcp.starttls-mx TLSA 3 0 1 {sha256}
_smtp-strict TXT  "v=SMTPSTRICT1; tls=required"
`, "", "", "plain.example", "error tlsa-unsigned _25._tcp.starttls-mx.plain.example, warning prefix-unsigned plain.example, warning strict-unsigned _smtp-strict.plain.example, notice zone-unsigned plain.example, notice sts-absent plain.example, notice tlsrpt-absent plain.example, unknown not-probed plain.example"},
		"signatures end": {`
zone stale.example. secure signed=-720h..+12h
@            MX   10 mx
mx           A    192.0.2.1
_25._tcp.mx  TLSA 3 1 1 {sha256}
`, "", "", "stale.example", "warning signature-ends stale.example. DNSKEY, warning signature-ends stale.example. MX, warning signature-ends mx.stale.example. A, warning signature-ends _25._tcp.mx.stale.example. TLSA, notice sts-absent stale.example, notice tlsrpt-absent stale.example, unknown not-probed stale.example"},
		"bogus":  {"\nzone broken.example. bogus\n@ MX 10 mx\nmx A 192.0.2.1\n", "", "", "broken.example", "error mx-bogus broken.example"},
		"broken": {"\nzone broken.example. servfail\n@ MX 10 mx\n", "", "", "broken.example", "error mx-failed broken.example"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, err := world.New()
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				if err := w.DNS.Load(c.zones); err != nil {
					t.Fatal(err)
				}
				if c.policy != "" {
					w.Web.Publish(c.domain, c.policy)
				}
				if c.host != "" {
					if err := w.Web.Change(c.domain, strings.Fields(c.host)...); err != nil {
						t.Fatal(err)
					}
				}
				if got := faults(t, w, c.domain); got != c.want {
					t.Errorf("found %s\nwant  %s", got, c.want)
				}
			})
		})
	}
}

// faults lists what is not in order.
func faults(t *testing.T, w *world.World, domain string) string {
	t.Helper()
	anchors, err := w.DNS.Anchors()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.DNS.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	cfg.MTASTS.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	findings, err := daemon.Lint(t.Context(), cfg, daemon.Network{
		DialDNS: w.DNS.Dial, DialHTTPS: w.Web.Dial, Roots: w.Web.Roots(), Anchors: anchors,
	}, nexthop.Destination{Name: domain, Port: nexthop.SMTPPort})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range findings {
		if f.Severity != lint.OK {
			list = append(list, fmt.Sprint(f.Severity, " ", f.Code, " ", f.Subject))
		}
	}
	return strings.Join(list, ", ")
}
