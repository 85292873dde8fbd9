package resolve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/resolve/dnssec"
	"tlsverdict/internal/verdict"
)

// theZone is what the tests' root holds.
func theZone() []string {
	return []string{
		"example. 300 IN MX 10 mx.example.",
		"mx.example. 300 IN A 192.0.2.1",
		"_25._tcp.mx.example. 300 IN TLSA 3 1 1 " + strings.Repeat("5a", 32),
		"alias.example. 300 IN CNAME mx.example.",
		"mx.unsigned. 300 IN A 192.0.2.9",
		"into.example. 300 IN CNAME mx.unsigned.",
		`odd.example. 300 IN CNAME a\032b.example.`,
	}
}

func TestValidate(t *testing.T) {
	k, asked := newRootKey(t), &record{}
	r := proving(t, k, asked.over(k.signed(t, time.Now, nil, theZone()...)))
	s, ctx := r.Session(), t.Context()
	defer s.Close()

	mx := s.MX(ctx, "example")
	if !mx.Exists() || mx.Proof != verdict.Secure || mx.Records[0].Host != "mx.example" {
		t.Fatalf("MX: %+v", mx)
	}
	if steps := mx.Trail.Steps(); len(steps) != 2 || !strings.Contains(steps[0], "trust anchor") || !strings.Contains(steps[1], "example. MX") {
		t.Errorf("trail %q", steps)
	}
	signatures := mx.Trail.Signatures()
	if len(signatures) != 2 || !strings.Contains(signatures[0].Subject, ". DNSKEY") || signatures[1].Subject != "example. MX" {
		t.Errorf("signatures %v", signatures)
	}
	for _, s := range signatures {
		if left := time.Until(s.Expires); left <= 0 || left > 366*24*time.Hour {
			t.Errorf("%s ends in %v", s.Subject, left)
		}
	}
	if a := s.TLSA(ctx, "_25._tcp.mx.example"); !a.Exists() || a.Proof != verdict.Secure || len(a.Records[0].Data) != 32 {
		t.Errorf("TLSA: %+v", a)
	}
	if a := s.AAAA(ctx, "mx.example"); !a.Absent() || a.Proof != verdict.Secure {
		t.Errorf("denial: %+v", a)
	}
	if a := s.A(ctx, "alias.example"); !a.Exists() || a.Proof != verdict.Secure || a.Canonical != "mx.example" {
		t.Errorf("alias: %+v", a)
	}
	if a := s.CNAME(ctx, "alias.example"); !a.Exists() || a.Proof != verdict.Secure || a.Records[0] != "mx.example" || a.Alias() {
		t.Errorf("CNAME: %+v", a)
	}
	if a := s.A(ctx, "mx.unsigned"); !a.Exists() || a.Proof != verdict.Insecure {
		t.Errorf("insecure: %+v", a)
	}
	if a := s.A(ctx, "into.example"); !a.Exists() || a.Proof != verdict.Insecure || a.Canonical != "mx.unsigned" {
		t.Errorf("a secure alias to an insecure name: %+v", a)
	}
	if a := s.A(ctx, "odd.example"); !a.Absent() || a.Canonical != `a\032b.example` {
		t.Errorf("a name with a space: %+v", a)
	}

	other := r.Session()
	defer other.Close()
	if a := other.A(ctx, "mx.example"); a.Proof != verdict.Secure {
		t.Errorf("the second session: %+v", a)
	}
	if n := len(asked.of(".", dns.TypeDNSKEY)); n != 1 {
		t.Errorf("the keys of the root were asked for %d times", n)
	}
	for _, m := range asked.of("example.", dns.TypeMX) {
		if opt := m.IsEdns0(); !m.CheckingDisabled || m.AuthenticatedData || opt == nil || !opt.Do() {
			t.Errorf("the question does not have DO and CD:\n%v", m)
		}
	}
}

// lying is the truth with another address, AD, and the signature of the truth.
func lying(next answerer) answerer {
	return func(q *dns.Msg) *dns.Msg {
		m := next(q).Copy()
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				a.A[len(a.A)-1]++
			}
		}
		return secure(m)
	}
}

// TestLie: a server that lies with AD gets nowhere, and one that tells the truth is
// found beside it.
func TestLie(t *testing.T) {
	k, asked := newRootKey(t), &record{}
	truth := k.signed(t, time.Now, nil, theZone()...)
	t.Run("alone", func(t *testing.T) {
		r := proving(t, k, asked.over(lying(truth)))
		s := r.Session()
		defer s.Close()
		a := s.A(t.Context(), "mx.example")
		if !a.Broken() || a.Proof != verdict.Bogus || a.Failure.Fault != verdict.Remote || !strings.HasPrefix(a.Failure.Detail, "bogus: ") {
			t.Errorf("%+v, %v", a, a.Failure)
		}
		asks := asked.of("mx.example.", dns.TypeA)
		if len(asks) != 2 || !asks[0].CheckingDisabled || asks[1].CheckingDisabled {
			t.Errorf("want it to be asked with CD and then without: %v", asks)
		}
	})
	t.Run("beside a truthful one", func(t *testing.T) {
		liar := &record{}
		r := proving(t, k, liar.over(lying(truth)), truth)
		s := r.Session()
		defer s.Close()
		for i := range 40 {
			// None of these exists, and the liar's own answers hold: the doubt is of the
			// whole session, and costs what was sent at once.
			s.A(t.Context(), "mx.example")
			s.AAAA(t.Context(), fmt.Sprintf("mx%d.example", i))
		}
		if n := len(liar.all()); n > 10 {
			t.Errorf("the liar was asked %d questions", n)
		}
		if a := s.A(t.Context(), "mx.example"); a.Proof != verdict.Secure || a.Records[0].String() != "192.0.2.1" {
			t.Errorf("%+v, %v", a, a.Failure)
		}
	})
}

// TestSecondIsDead: another server that does not answer does not keep the first from
// being asked in another way.
func TestSecondIsDead(t *testing.T) {
	k := newRootKey(t)
	truth := k.signed(t, time.Now, nil, theZone()...)
	// With CD it hands out what it holds to be bogus, as caches do.
	first := func(q *dns.Msg) *dns.Msg {
		if q.CheckingDisabled {
			return lying(truth)(q)
		}
		return truth(q)
	}
	r := proving(t, k, first, func(q *dns.Msg) *dns.Msg { return refusing(q, dns.RcodeServerFailure) })
	s := r.Session()
	defer s.Close()
	if a := s.A(t.Context(), "mx.example"); a.Proof != verdict.Secure {
		t.Errorf("%+v, %v", a, a.Failure)
	}
}

// TestStripped: without signatures there is no proof, and no claim that there need be
// none; the records can be read.
func TestStripped(t *testing.T) {
	k := newRootKey(t)
	truth := k.signed(t, time.Now, nil, theZone()...)
	t.Run("alone", func(t *testing.T) {
		r := proving(t, k, stripped(truth))
		s := r.Session()
		defer s.Close()
		for _, a := range []verdict.Answer[verdict.MX]{s.MX(t.Context(), "example"), s.MX(t.Context(), "unsigned")} {
			if a.Broken() || a.Proof != verdict.Indeterminate {
				t.Errorf("%+v, %v", a, a.Failure)
			}
		}
		h := r.Probe(t.Context())
		if h.Validates || !h.Servers[0].Answers || !strings.Contains(h.Problem, "does not pass DNSSEC records on") {
			t.Errorf("health: %+v", h)
		}
	})
	t.Run("beside a truthful one", func(t *testing.T) {
		r := proving(t, k, stripped(truth), truth)
		s := r.Session()
		defer s.Close()
		if a := s.A(t.Context(), "mx.example"); a.Proof != verdict.Secure {
			t.Errorf("%+v, %v", a, a.Failure)
		}
		if h := r.Probe(t.Context()); !h.Validates || h.Problem == "" || h.Servers[0].Validates || !h.Servers[1].Validates {
			t.Errorf("health: %+v", h)
		}
		if first := r.order()[0]; first != r.servers()[1] {
			t.Error("the server that passes its probe is not asked first")
		}
	})
}

// TestStripsLater: what a server strips while the keys of the root are still known is
// not the destination's fault, once a probe has seen it.
func TestStripsLater(t *testing.T) {
	k := newRootKey(t)
	truth := k.signed(t, time.Now, nil, theZone()...)
	var later atomic.Bool
	r := proving(t, k, func(q *dns.Msg) *dns.Msg {
		if later.Load() {
			return stripped(truth)(q)
		}
		return truth(q)
	})
	look := func() verdict.Answer[verdict.MX] {
		s := r.Session()
		defer s.Close()
		return s.MX(t.Context(), "example")
	}
	if a := look(); a.Proof != verdict.Secure {
		t.Fatalf("%+v, %v", a, a.Failure)
	}
	later.Store(true)
	if a := look(); !a.Broken() || a.Proof != verdict.Bogus {
		t.Errorf("before the probe: %+v, %v", a, a.Failure)
	}
	r.Probe(t.Context())
	if a := look(); !a.Exists() || a.Proof != verdict.Indeterminate {
		t.Errorf("after the probe: %+v, %v", a, a.Failure)
	}
}

// TestCannotValidate: what is wrong with this host is said, and is nobody's bogus.
func TestCannotValidate(t *testing.T) {
	k := newRootKey(t)
	tests := []struct {
		name    string
		anchors *dnssec.Anchors
		at      func() time.Time
		problem string
	}{
		{"the clock is behind", k.anchors(t), func() time.Time { return time.Now().AddDate(0, 1, 0) }, "check this host's clock"},
		{"the clock is ahead", k.anchors(t), func() time.Time { return time.Now().AddDate(0, -1, 0) }, "check this host's clock"},
		{"the anchors are old", newRootKey(t).anchors(t), time.Now, "match a trust anchor"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := run(t, k.signed(t, tt.at, nil, theZone()...))
			r := resolver(t, Config{Mode: Validate, Anchors: tt.anchors, Servers: list(addr)})
			s := r.Session()
			defer s.Close()
			if a := s.MX(t.Context(), "example"); !a.Exists() || a.Proof != verdict.Indeterminate {
				t.Errorf("%+v, %v", a, a.Failure)
			}
			if h := r.Probe(t.Context()); h.Validates || !h.Servers[0].Answers || !strings.Contains(h.Problem, tt.problem) {
				t.Errorf("health: %+v", h)
			}
		})
	}
	t.Run("nobody answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &wires{}
			w.set("192.0.2.53:53", func(*dns.Msg) *dns.Msg { return nil })
			r := resolver(t, Config{Mode: Validate, Servers: list(addrPort("192.0.2.53:53")), Dial: w.dial})
			s := r.Session()
			a := s.MX(t.Context(), "example")
			s.Close()
			if !a.Broken() || a.Proof != verdict.Indeterminate || a.Failure.Fault != verdict.Remote || !strings.Contains(a.Failure.Detail, "no answer from 192.0.2.53:53") {
				t.Errorf("%+v, %v", a, a.Failure)
			}
			if h := r.Probe(t.Context()); h.Validates || h.Servers[0].Answers || !strings.Contains(h.Problem, "gives no answer") {
				t.Errorf("health: %+v", h)
			}
		})
	})
}

// TestGivesUp: who waits no longer is answered, and leaves nothing behind.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, w := newRootKey(t), &wires{}
		truth := k.signed(t, time.Now, nil, theZone()...)
		w.set("192.0.2.53:53", func(q *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeDNSKEY {
				return nil
			}
			return truth(q)
		})
		r := resolver(t, Config{Mode: Validate, Anchors: k.anchors(t), Servers: list(addrPort("192.0.2.53:53")), Dial: w.dial})
		s := r.Session()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		// The keys of the root are needed for everything, so that it is not the domain.
		if a := s.MX(ctx, "example"); !a.Broken() || a.Failure.Fault != verdict.Operator {
			t.Errorf("%+v, %v", a, a.Failure)
		}
		s.Close()
		synctest.Wait() // fails the test where a goroutine is left over
	})
}

// TestAnchorWarnings: a key that is published and no anchor is warned of, once a day.
func TestAnchorWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, next, w := newRootKey(t), newRootKey(t), &wires{}
		w.set("192.0.2.53:53", k.signed(t, time.Now, []*dns.DNSKEY{next.key}, theZone()...))
		var log bytes.Buffer
		r := resolver(t, Config{
			Mode: Validate, Anchors: k.anchors(t), Servers: list(addrPort("192.0.2.53:53")), Dial: w.dial,
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		ctx, cancel := context.WithTimeout(t.Context(), 47*time.Hour)
		defer cancel()
		if err := r.Watch(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "the trust anchors need attention"); n != 2 {
			t.Errorf("%d warnings in 47 hours:\n%s", n, &log)
		}
		if h := r.Health(); !h.Validates || h.Problem != "" || len(h.Warnings) != 1 || !strings.Contains(h.Warnings[0], "which is no trust anchor: ") {
			t.Errorf("health: %+v", h)
		}
	})
}

// TestSystemFileChanges: what the system says later is done later, without a restart.
func TestSystemFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, w := newRootKey(t), &wires{}
		w.set("192.0.2.53:53", k.signed(t, time.Now, nil, theZone()...))
		file := filepath.Join(t.TempDir(), "resolv.conf")
		r := resolver(t, Config{Mode: Validate, Anchors: k.anchors(t), SystemFile: file, Dial: w.dial})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error)
		go func() { ended <- r.Watch(ctx) }()
		time.Sleep(time.Second)
		if h := r.Health(); h.Validates || h.Servers[0].Addr.String() != "127.0.0.1:53" {
			t.Errorf("without a file: %+v", h)
		}
		if err := os.WriteFile(file, []byte("nameserver 192.0.2.53\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if h := r.Health(); !h.Validates || len(h.Servers) != 1 || h.Servers[0].Addr.String() != "192.0.2.53:53" {
			t.Errorf("with one: %+v", h)
		}
		s := r.Session()
		if a := s.MX(ctx, "example"); a.Proof != verdict.Secure {
			t.Errorf("%+v, %v", a, a.Failure)
		}
		s.Close()
		cancel()
		<-ended
		r.Close()
	})
}

func TestAnchorFiles(t *testing.T) {
	const k2017 = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n"
	const k2024 = ". IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16\n"
	dir := t.TempDir()
	write := func(text string) string {
		path := filepath.Join(dir, "root.ds")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private := newRootKey(t)
	truth := private.signed(t, time.Now, nil, theZone()...)
	secureWith := func(a *dnssec.Anchors) bool {
		r := resolver(t, Config{Mode: Validate, Anchors: a, Servers: list(run(t, truth))})
		s := r.Session()
		defer s.Close()
		return s.MX(t.Context(), "example").Proof == verdict.Secure
	}

	a, err := DefaultAnchors(write(private.key.String()))
	if err != nil || !secureWith(a) {
		t.Errorf("a root of one's own: %v", err)
	}
	if a, err = DefaultAnchors(filepath.Join(dir, "none")); err != nil || secureWith(a) {
		t.Errorf("no file: %v", err)
	}
	if a, err = DefaultAnchors(write(k2017)); err != nil || a.String() != dnssec.BuiltIn().String() {
		t.Errorf("an older edition: %v, %v", a, err)
	}
	if a, err = LoadAnchors(write(k2017)); err != nil || a.String() == dnssec.BuiltIn().String() {
		t.Errorf("a file that is asked for stands alone: %v, %v", a, err)
	}
	if a, err = DefaultAnchors(write(k2024)); err != nil || a.String() != k2024 {
		t.Errorf("a newer edition, without the old key: %v, %v", a, err)
	}
	for _, text := range []string{"", "x", "example. IN A 192.0.2.1\n"} {
		if _, err := LoadAnchors(write(text)); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", text, err)
		}
		// A package that is damaged must not hold up all mail.
		if a, err := DefaultAnchors(write(text)); !errors.Is(err, ErrConfig) || a.String() != dnssec.BuiltIn().String() {
			t.Errorf("%q: %v, %v", text, a, err)
		}
	}
	if _, err := LoadAnchors(filepath.Join(dir, "none")); !errors.Is(err, ErrConfig) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestNamesOnTheWire: what the library writes is written, and read back alike.
func TestNamesOnTheWire(t *testing.T) {
	for _, name := range []string{".", "example.", "a.b.c.", `a\032b.example.`, `a\.b.example.`, `\000.x.`, `\\.x.`} {
		want := make([]byte, 300)
		n, err := dns.PackDomainName(name, want, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendName(nil, name); !bytes.Equal(got, want[:n]) {
			t.Errorf("%s is %x, want %x", name, got, want[:n])
		}
	}
}
