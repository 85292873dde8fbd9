package world_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/verdict"
	"tlsverdict/internal/world"
)

// upstream asks a resolver of the world as a validator does.
type upstream struct {
	w      *world.World
	server string
}

func (u upstream) Exchange(ctx context.Context, q dnssec.Query) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(q.Name, q.Type)
	m.SetEdns0(1232, true)
	m.CheckingDisabled = true
	for _, network := range []string{"udp", "tcp"} {
		c, err := u.w.DNS.Dial(ctx, network, u.server)
		if err != nil {
			return nil, err
		}
		conn := &dns.Conn{Conn: packetConn{c}, UDPSize: 1232}
		if network == "tcp" {
			conn.Conn = c
		}
		defer conn.Close()
		if err := conn.WriteMsg(m); err != nil {
			return nil, err
		}
		reply, err := conn.ReadMsg()
		if err != nil || !reply.Truncated {
			if err == nil && reply.Rcode == dns.RcodeServerFailure {
				err = fmt.Errorf("SERVFAIL")
			}
			return reply, err
		}
	}
	return nil, fmt.Errorf("truncated")
}

// inWorld runs a test in a bubble, with zones and a validator.
func inWorld(t *testing.T, zones string, do func(t *testing.T, w *world.World, lookup func(name string, rrtype uint16) dnssec.Answer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := world.New()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := w.DNS.Load(zones); err != nil {
			t.Fatal(err)
		}
		anchors, err := w.DNS.Anchors()
		if err != nil {
			t.Fatal(err)
		}
		read, err := dnssec.ParseAnchors(anchors)
		if err != nil {
			t.Fatal(err)
		}
		v := dnssec.New(dnssec.Config{Anchors: read})
		do(t, w, func(name string, rrtype uint16) dnssec.Answer {
			s := v.Session(upstream{w, "127.0.0.1:53"})
			defer s.Close()
			return s.Lookup(t.Context(), name, rrtype)
		})
		synctest.Wait()
	})
}

// contents are in every zone that TestSigner signs.
const contents = `
@               MX    10 mx
@               TXT   "v=spf1 -all"
mx              A     192.0.2.1
_25._tcp.mx     TLSA  3 1 1 {sha256}
alias           CNAME mx
away            CNAME host.plain.example.
*.wild          A     192.0.2.7
*.aliases       CNAME mx
under.tree.wild A     192.0.2.8
old             DNAME new
host.new        A     192.0.2.9
a.b.c           A     192.0.2.10
loop            CNAME loop
*.ends          TLSA  3 1 1 {sha256}
bad             A     192.0.2.66
bad             A     !bogus
`

// TestSigner holds what the world signs against the validator of the project, for
// every way to sign and to deny.
func TestSigner(t *testing.T) {
	for _, options := range []string{
		"", "csk", "nsec3", "nsec3 iterations=5 salt=aabb", "opt-out", "compact", "compact csk",
		"algorithm=8", "algorithm=10 nsec3", "algorithm=14", "algorithm=15", "digest=4", "keys=40",
	} {
		t.Run(options, func(t *testing.T) {
			zones := "zone example. secure " + options + contents +
				"zone signed.example. secure\n@ A 192.0.2.20\nzone plain.example. insecure\nhost A 192.0.2.21\n*.w A 192.0.2.22\n"
			inWorld(t, zones, func(t *testing.T, w *world.World, lookup func(string, uint16) dnssec.Answer) {
				for _, c := range signerCases() {
					proof := c.proof
					// Compact denial makes every name exist.
					if strings.HasPrefix(options, "compact") && c.spanned && c.outcome == verdict.NXDomain {
						c.outcome = verdict.NoData
					}
					// In an opt-out span there may be an unsigned zone of any name.
					if options == "opt-out" && c.spanned {
						proof = verdict.Insecure
					}
					want(t, lookup(c.name, c.rrtype), c.outcome, proof)
					// What the world's own resolvers say of it.
					m := exchange(t, w, "tcp", c.name, c.rrtype)
					if m.AuthenticatedData != (proof == verdict.Secure) || (m.Rcode == dns.RcodeServerFailure) != (c.outcome == verdict.Failed) {
						t.Errorf("%s %s: AD %v, rcode %d, but it is %v", c.name, dns.TypeToString[c.rrtype], m.AuthenticatedData, m.Rcode, proof)
					}
				}
			})
		})
	}
}

type signerCase struct {
	name    string
	rrtype  uint16
	outcome verdict.Outcome
	proof   verdict.Proof
	// spanned: it rests on the denial of a name that an opt-out span would cover.
	spanned bool
}

func signerCases() []signerCase {
	const found, none, gone = verdict.Found, verdict.NoData, verdict.NXDomain
	return []signerCase{
		{"example.", dns.TypeMX, found, verdict.Secure, false},
		{"example.", dns.TypeDNSKEY, found, verdict.Secure, false},
		{"example.", dns.TypeDS, found, verdict.Secure, false},
		{"example.", dns.TypeSOA, found, verdict.Secure, false},
		{"example.", dns.TypeAAAA, none, verdict.Secure, false},
		{"mx.example.", dns.TypeA, found, verdict.Secure, false},
		{"mx.example.", dns.TypeAAAA, none, verdict.Secure, false},
		{"mx.example.", dns.TypeDS, none, verdict.Secure, false},
		{"_25._tcp.mx.example.", dns.TypeTLSA, found, verdict.Secure, false},
		{"_tcp.mx.example.", dns.TypeTLSA, none, verdict.Secure, false},
		{"b.c.example.", dns.TypeTXT, none, verdict.Secure, false},
		{"alias.example.", dns.TypeA, found, verdict.Secure, false},
		{"alias.example.", dns.TypeAAAA, none, verdict.Secure, false},
		{"alias.example.", dns.TypeCNAME, found, verdict.Secure, false},
		{"away.example.", dns.TypeA, found, verdict.Insecure, false},
		{"away.example.", dns.TypeCNAME, found, verdict.Secure, false},
		{"host.old.example.", dns.TypeA, found, verdict.Secure, false},
		{"bad.example.", dns.TypeA, verdict.Failed, verdict.Bogus, false},
		{"loop.example.", dns.TypeA, verdict.Failed, verdict.Indeterminate, false},
		{"signed.example.", dns.TypeA, found, verdict.Secure, false},
		{"signed.example.", dns.TypeMX, none, verdict.Secure, false},
		{"host.plain.example.", dns.TypeA, found, verdict.Insecure, false},
		{"x.w.plain.example.", dns.TypeA, found, verdict.Insecure, false},
		{"no.plain.example.", dns.TypeA, gone, verdict.Insecure, false},
		{"localhost.", dns.TypeA, found, verdict.Insecure, false},
		{"nobody.test.", dns.TypeA, gone, verdict.Secure, false},
		{".", dns.TypeHINFO, none, verdict.Secure, false},
		{"nobody.example.", dns.TypeA, gone, verdict.Secure, true},
		{"deep.down.b.c.example.", dns.TypeA, gone, verdict.Secure, true},
		{"x.under.tree.wild.example.", dns.TypeA, gone, verdict.Secure, true},
		{"_25._tcp.alias2.example.", dns.TypeTLSA, gone, verdict.Secure, true},
		{"any.wild.example.", dns.TypeA, found, verdict.Secure, true},
		{"deep.any.wild.example.", dns.TypeA, found, verdict.Secure, true},
		{"any.wild.example.", dns.TypeTXT, none, verdict.Secure, true},
		{"any.aliases.example.", dns.TypeA, found, verdict.Secure, true},
		{"_25._tcp.ends.example.", dns.TypeTLSA, found, verdict.Secure, true},
		{"under.tree.wild.example.", dns.TypeA, found, verdict.Secure, false},
	}
}

func want(t *testing.T, a dnssec.Answer, outcome verdict.Outcome, proof verdict.Proof) {
	t.Helper()
	if a.Outcome != outcome || a.Proof != proof {
		t.Errorf("got %v %v (%v), want %v %v\n%v", a.Outcome, a.Proof, a.Err, outcome, proof, a.Chain())
	}
}

// TestUnprovable: what makes a signed zone insecure, and what does not.
func TestUnprovable(t *testing.T) {
	for options, proof := range map[string]verdict.Proof{
		"algorithm=16":         verdict.Insecure,
		"algorithm=7":          verdict.Insecure,
		"digest=99":            verdict.Insecure,
		"signed=-48h..+48h":    verdict.Secure,
		"signed=-720h..-360h":  verdict.Bogus,
		"signed=+360h..+720h":  verdict.Bogus,
		"nsec3 iterations=500": verdict.Insecure,
	} {
		inWorld(t, "zone example. secure "+options+contents, func(t *testing.T, _ *world.World, lookup func(string, uint16) dnssec.Answer) {
			if got := lookup("mx.example.", dns.TypeAAAA); got.Proof != proof {
				t.Errorf("%s: %v (%v), want %v", options, got.Proof, got.Err, proof)
			}
		})
	}
}

// TestSignaturesFollowTheClock: a zone that is signed all the time stays valid, one
// that was signed once does not, and a clock that is off makes all invalid.
func TestSignaturesFollowTheClock(t *testing.T) {
	inWorld(t, "zone a.example. secure\n@ A 192.0.2.1\nzone b.example. secure signed=-1h..+480h\n@ A 192.0.2.1\n", func(t *testing.T, w *world.World, lookup func(string, uint16) dnssec.Answer) {
		want(t, lookup("a.example.", dns.TypeA), verdict.Found, verdict.Secure)
		want(t, lookup("b.example.", dns.TypeA), verdict.Found, verdict.Secure)
		<-time.After(100 * 24 * time.Hour)
		want(t, lookup("a.example.", dns.TypeA), verdict.Found, verdict.Secure)
		want(t, lookup("b.example.", dns.TypeA), verdict.Failed, verdict.Bogus)
		w.DNS.SetClock(200 * 24 * time.Hour)
		<-time.After(2 * time.Hour)
		if got := lookup("a.example.", dns.TypeA); got.Err == nil || got.Err.Why != dnssec.Expired || !got.Err.Anchor {
			t.Errorf("clock ahead: %v", got.Err)
		}
		w.DNS.SetClock(-200 * 24 * time.Hour)
		<-time.After(time.Minute)
		if got := lookup("a.example.", dns.TypeA); got.Err == nil || got.Err.Why != dnssec.NotYet || !got.Err.Anchor {
			t.Errorf("clock behind: %v", got.Err)
		}
		w.DNS.SetClock(0)
		<-time.After(time.Minute)
		want(t, lookup("a.example.", dns.TypeA), verdict.Found, verdict.Secure)
	})
}

// TestAttacks holds that no attack is believed, and that each is over when it is.
func TestAttacks(t *testing.T) {
	const zones = "zone example. secure" + contents + `
zone three.example. secure nsec3
@ A 192.0.2.1
zone child.example. secure
@       A 192.0.2.1
zone evil.example. secure
mx      A 192.0.2.66
`
	for attack, question := range map[string]string{
		"forge mx.example. A 192.0.2.66":                                   "mx.example. A",
		"forge mx.example. A 192.0.2.66; strip mx.example. A rrsig":        "mx.example. A",
		"strip mx.example. A rrsig":                                        "mx.example. A",
		"forge _25._tcp.mx.example. TLSA nodata":                           "_25._tcp.mx.example. TLSA",
		"forge _25._tcp.mx.example. TLSA nxdomain by three.example.":       "_25._tcp.mx.example. TLSA",
		"forge mx.example. A 192.0.2.66; sign mx.example. A evil.example.": "mx.example. A",
		"forge child.example. A nodata by example.":                        "child.example. A",
		"edit mx.example. A algorithm 16":                                  "mx.example. A",
		"edit mx.example. A labels 1":                                      "mx.example. A",
		"edit mx.example. A signer evil.example.":                          "mx.example. A",
		"edit three.example. AAAA iterations 5000":                         "three.example. AAAA",
		"edit example. DS algorithm 16":                                    "mx.example. A",
		"forge example. DS nodata":                                         "mx.example. A",
		"forge example. DS nodata by .":                                    "mx.example. A",
		"forge example. DNSKEY nodata":                                     "mx.example. A",
		"replay mx.example. A x.wild.example.":                             "mx.example. A",
		"strip nobody.example. A denial":                                   "nobody.example. A",
		"replay 127.0.0.1:53 mx.example. A x.wild.example.":                "mx.example. A",
		"forge mx.example. A nodata by example.; forge mx.example. A 192.0.2.66; strip mx.example. A rrsig": "mx.example. A",
	} {
		inWorld(t, zones, func(t *testing.T, w *world.World, lookup func(string, uint16) dnssec.Answer) {
			for one := range strings.SplitSeq(attack, "; ") {
				if err := w.DNS.Attack(strings.Fields(one)...); err != nil {
					t.Fatalf("%s: %v", one, err)
				}
			}
			name, rrtype, _ := strings.Cut(question, " ")
			got := lookup(name, dns.StringToType[rrtype])
			if got.Proof != verdict.Bogus {
				t.Errorf("%s: %v %v (%v)\n%v", attack, got.Outcome, got.Proof, got.Err, got.Chain())
			}
			if err := w.DNS.Mend(); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Minute)
			if got := lookup(name, dns.StringToType[rrtype]); got.Proof != verdict.Secure {
				t.Errorf("%s, mended: %v %v (%v)", attack, got.Outcome, got.Proof, got.Err)
			}
		})
	}
}

// TestStripping: to a validator a resolver that knows nothing of DNSSEC is one that
// strips it.
func TestStripping(t *testing.T) {
	for behaviour, why := range map[world.Behaviour]dnssec.Why{world.Strips: dnssec.NoSignature, world.StripsAll: dnssec.NoKeys} {
		inWorld(t, "zone example. secure"+contents, func(t *testing.T, w *world.World, lookup func(string, uint16) dnssec.Answer) {
			w.DNS.Behave("", behaviour)
			got := lookup("mx.example.", dns.TypeA)
			if got.Err == nil || got.Err.Why != why || !got.Err.Anchor {
				t.Errorf("%v: %v", behaviour, got.Err)
			}
		})
	}
}

func TestZoneOptionsRefused(t *testing.T) {
	for _, line := range []string{"nsec4", "algorithm=x", "algorithm=300", "salt=xyz", "signed=1h", "signed=2h..1h", "keys=1000", "iterations=-1"} {
		synctest.Test(t, func(t *testing.T) {
			w, err := world.New()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.DNS.Load("zone example. secure " + line); err == nil || !strings.Contains(err.Error(), "line 1") {
				t.Errorf("%s: %v", line, err)
			}
		})
	}
	for _, line := range []string{"", "forge", "bribe example. A", "forge example A 192.0.2.1", "forge example. A", "forge example. A x", "forge example. A nodata by example.", "strip example. A all", "edit example. A ttl 5", "edit example. A labels x", "sign example. A example."} {
		synctest.Test(t, func(t *testing.T) {
			w, err := world.New()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.DNS.Attack(strings.Fields(line)...); err == nil {
				t.Errorf("%q is an attack", line)
			}
			if err := w.DNS.Mend("example.", "A"); err == nil {
				t.Error("mended what nobody attacks")
			}
		})
	}
}
