package gather

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/fairqueue"
	"tlsverdict/internal/fetch"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

const (
	domain = "example.com"
	rtt    = 20 * time.Millisecond
)

var (
	addr = netip.MustParseAddr("192.0.2.1")
	good = tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: make([]byte, 32)}
)

// zone is a Session whose every answer takes one round trip. Names not in it do
// not exist.
type zone struct {
	mx    verdict.Answer[verdict.MX]
	addrs map[string]verdict.Answer[netip.Addr]
	tlsa  map[string]verdict.Answer[tlsa.Record]
	cname map[string]verdict.Answer[string]
	txt   map[string]verdict.Answer[string]
	// private are the records of the type without a name.
	private map[string]verdict.Answer[string]
	// slow overrides the round trip of a name.
	slow map[string]time.Duration

	mu    sync.Mutex
	asked []string
}

func found[T any](p verdict.Proof, records ...T) verdict.Answer[T] {
	return verdict.Answer[T]{Outcome: verdict.Found, Proof: p, Records: records, TTL: time.Hour}
}

func (z *zone) wait(ctx context.Context, kind, name string) error {
	z.mu.Lock()
	z.asked = append(z.asked, kind+" "+name)
	z.mu.Unlock()
	d, ok := z.slow[name]
	if !ok {
		d = rtt
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func answer[T any](ctx context.Context, z *zone, kind, name string, all map[string]verdict.Answer[T]) verdict.Answer[T] {
	if err := z.wait(ctx, kind, name); err != nil {
		return verdict.Fail[T](verdict.Remote, err.Error())
	}
	if a, ok := all[name]; ok {
		return a
	}
	return verdict.Answer[T]{Outcome: verdict.NoData, Proof: verdict.Secure, TTL: time.Hour}
}

func (z *zone) MX(ctx context.Context, name string) verdict.Answer[verdict.MX] {
	return answer(ctx, z, "MX", name, map[string]verdict.Answer[verdict.MX]{domain: z.mx})
}

func (z *zone) A(ctx context.Context, name string) verdict.Answer[netip.Addr] {
	return answer(ctx, z, "A", name, z.addrs)
}

func (z *zone) AAAA(ctx context.Context, name string) verdict.Answer[netip.Addr] {
	return answer[netip.Addr](ctx, z, "AAAA", name, nil)
}

func (z *zone) CNAME(ctx context.Context, name string) verdict.Answer[string] {
	return answer(ctx, z, "CNAME", name, z.cname)
}

func (z *zone) TLSA(ctx context.Context, name string) verdict.Answer[tlsa.Record] {
	return answer(ctx, z, "TLSA", name, z.tlsa)
}

func (z *zone) TXT(ctx context.Context, name string) verdict.Answer[string] {
	return answer(ctx, z, "TXT", name, z.txt)
}

func (z *zone) Private(ctx context.Context, name string, rrtype uint16) verdict.Answer[string] {
	return answer(ctx, z, fmt.Sprint("TYPE", rrtype), name, z.private)
}

func (z *zone) count(kind string) int {
	n := 0
	for _, q := range z.asked {
		if len(q) > len(kind) && q[:len(kind)+1] == kind+" " {
			n++
		}
	}
	return n
}

// hosts makes a signed zone with n MX hosts, each with a TLSA record.
func hosts(n int) *zone {
	z := &zone{addrs: make(map[string]verdict.Answer[netip.Addr]), tlsa: make(map[string]verdict.Answer[tlsa.Record])}
	var mx []verdict.MX
	for i := range n {
		name := fmt.Sprintf("mx%d.example.com", i)
		mx = append(mx, verdict.MX{Preference: uint16(n - i), Host: name})
		z.addrs[name] = found(verdict.Secure, addr)
		z.tlsa["_25._tcp."+name] = found(verdict.Secure, good)
	}
	z.mx = found(verdict.Secure, mx...)
	return z
}

// memory is a Store without a disk.
type memory struct {
	mu  sync.Mutex
	m   map[string]mtasts.Cached
	err error
}

func (s *memory) Policy(name string) (mtasts.Cached, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.m[name]
	return c, ok, s.err
}

func (s *memory) Update(name string, change func(mtasts.Cached, bool) (mtasts.Cached, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, found := s.m[name]
	next, keep := change(old, found)
	if !keep {
		delete(s.m, name)
		return
	}
	s.m[name] = next
}

func (s *memory) put(c mtasts.Cached) {
	s.Update(c.Domain, func(mtasts.Cached, bool) (mtasts.Cached, bool) { return c, true })
}

func (s *memory) Touch(string, time.Time) {}

// web plays the policy host.
type web struct {
	policy mtasts.Policy
	err    error
	takes  time.Duration
	mu     sync.Mutex
	got    int
}

func (w *web) Fetch(context.Context, string) (mtasts.Policy, error) {
	w.mu.Lock()
	w.got++
	w.mu.Unlock()
	time.Sleep(w.takes)
	return w.policy, w.err
}

func enforced(t *testing.T) mtasts.Policy {
	t.Helper()
	p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: *.example.com\nmax_age: 604800\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

type rig struct {
	*Gatherer
	store *memory
	web   *web
}

// fetches is how many policies a rig fetches at once.
const fetches = 2

func newRig(z *zone, w *web) *rig {
	s := &memory{m: make(map[string]mtasts.Cached)}
	return &rig{store: s, web: w, Gatherer: &Gatherer{
		Open:  func() Session { return z },
		Rules: verdict.Rules{STS: verdict.Enforce, Prefix: verdict.Enforce, DANE: verdict.Native},
		Log:   quiet(),
		Policies: NewPolicies(PoliciesConfig{
			Store: s, Fetcher: w, Now: time.Now, Jitter: func() float64 { return 0.5 }, MaxFetches: fetches, Log: quiet(),
		}),
	}}
}

// Close is a session's; the zone has nothing to end.
func (z *zone) Close() {}

func (r *rig) facts(t *testing.T) (verdict.Facts, time.Duration) {
	t.Helper()
	start := time.Now()
	f := r.Facts(t.Context(), nexthop.Destination{Name: domain, Port: 25})
	return f, time.Since(start)
}

// TestThreeRounds: the depth does not depend on the number of MX hosts.
func TestThreeRounds(t *testing.T) {
	for _, n := range []int{1, 2, 20} {
		synctest.Test(t, func(t *testing.T) {
			z := hosts(n)
			f, took := newRig(z, &web{}).facts(t)
			if took != 3*rtt {
				t.Errorf("%d hosts took %v, want three rounds of %v", n, took, rtt)
			}
			if len(f.Hosts) != n || f.Hosts[0].Name != fmt.Sprintf("mx%d.example.com", n-1) {
				t.Errorf("hosts %d, the first %s", len(f.Hosts), f.Hosts[0].Name)
			}
			if v := verdict.Decide(f).Verdict.Name(); v != "dane-only" {
				t.Errorf("verdict %s", v)
			}
			if want := 2 + 3*n; len(z.asked) != want {
				t.Errorf("%d questions, want %d", len(z.asked), want)
			}
		})
	}
}

// TestDANEWaitsForNobody: not for a dead _mta-sts, and not for HTTPS.
func TestDANEWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(2)
		z.slow = map[string]time.Duration{"_mta-sts." + domain: time.Hour}
		f, took := newRig(z, &web{}).facts(t)
		if took != 3*rtt || f.STS.Settled {
			t.Errorf("took %v, MTA-STS settled: %v", took, f.STS.Settled)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		z := hosts(2)
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Secure, "v=STSv1; id=1;")}
		r := newRig(z, &web{takes: time.Minute, policy: enforced(t)})
		if _, took := r.facts(t); took != 3*rtt {
			t.Errorf("took %v", took)
		}
		// The fetch goes on, and the next one has the policy.
		time.Sleep(2 * time.Minute)
		if _, ok, _ := r.store.Policy(domain); !ok {
			t.Error("a fetch that nobody waited for was lost")
		}
	})
}

// TestDANETakesThePolicyAlong: one that is kept, or that came in time, costs no wait;
// of one that comes later the engine is told.
func TestDANETakesThePolicyAlong(t *testing.T) {
	for name, c := range map[string]struct {
		kept    bool
		slow    time.Duration
		takes   time.Duration
		known   bool
		learned int
	}{
		"kept":                      {kept: true, slow: time.Hour, known: true},
		"kept, the same":            {kept: true, known: true},
		"fetched in time":           {takes: rtt, known: true, learned: 1},
		"fetched later":             {takes: time.Minute, learned: 1},
		"nobody knows":              {slow: time.Hour},
		"kept, another is too late": {kept: true, slow: 2 * rtt, takes: time.Minute, known: true, learned: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			z := hosts(2)
			z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Secure, "v=STSv1; id=1;")}
			if c.slow > 0 {
				z.slow = map[string]time.Duration{"_mta-sts." + domain: c.slow}
			}
			r := newRig(z, &web{takes: c.takes, policy: enforced(t)})
			var learned atomic.Int64
			r.Policies.learned = func(string) { learned.Add(1) }
			if c.kept {
				id := "1"
				if c.learned > 0 {
					id = "0"
					r.web.policy.Lines = append([]string{"mx: other.example.com"}, r.web.policy.Lines...)
				}
				r.store.put(mtasts.Cached{Domain: domain}.AfterSuccess(time.Now().Add(-time.Hour), id, enforced(t), 0))
			}
			f, took := r.facts(t)
			if took != 3*rtt || f.STS.Settled || (f.STS.Policy != nil) != c.known {
				t.Errorf("%s: took %v, settled: %v, policy: %v", name, took, f.STS.Settled, f.STS.Policy)
			}
			if p := verdict.Decide(f).Beside.Policy(); (p != nil) != c.known {
				t.Errorf("%s: beside DANE: %v", name, p)
			}
			time.Sleep(2 * time.Minute)
			if n := int(learned.Load()); n != c.learned {
				t.Errorf("%s: learned %d times, want %d", name, n, c.learned)
			}
		})
	}
}

// TestKnownPolicyAsksNoHost: rung 6 needs nothing of the hosts.
func TestKnownPolicyAsksNoHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(2)
		z.mx.Proof = verdict.Insecure
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
		r := newRig(z, &web{takes: time.Second, policy: enforced(t)})
		if _, took := r.facts(t); took != rtt+time.Second {
			t.Errorf("the first fetch took %v", took)
		}
		z.asked = nil
		f, took := r.facts(t)
		if took != rtt || len(z.asked) != 2 || r.web.got != 1 {
			t.Errorf("took %v, asked %v, %d fetches", took, z.asked, r.web.got)
		}
		if v := verdict.Decide(f).Verdict.Name(); v != "secure" {
			t.Errorf("verdict %s", v)
		}
	})
}

func TestNoPolicyForNobody(t *testing.T) {
	for name, mx := range map[string]verdict.Answer[verdict.MX]{
		"nxdomain": {Outcome: verdict.NXDomain, Proof: verdict.Insecure},
		"null mx":  found(verdict.Insecure, verdict.MX{}),
		"failed":   verdict.Fail[verdict.MX](verdict.Remote, "SERVFAIL"),
	} {
		synctest.Test(t, func(t *testing.T) {
			z := &zone{mx: mx, txt: map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}}
			r := newRig(z, &web{policy: enforced(t)})
			f, _ := r.facts(t)
			verdict.Decide(f)
			synctest.Wait()
			if r.web.got != 0 || len(f.Hosts) != 0 {
				t.Errorf("%s: %d fetches, %d hosts", name, r.web.got, len(f.Hosts))
			}
		})
	}
}

// TestAliasQuestions: RFC 7672 §2.2.2: which names are asked for TLSA records.
func TestAliasQuestions(t *testing.T) {
	const target = "mx.hoster.example"
	for _, tc := range []struct {
		proof              verdict.Proof
		canonical          string
		wantTLSA, wantLink int
	}{
		{verdict.Secure, "", 1, 0},
		{verdict.Secure, target, 2, 0},
		{verdict.Insecure, "", 0, 0},
		{verdict.Insecure, target, 1, 1},
		{verdict.Indeterminate, "", 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			z := hosts(1)
			a := found(tc.proof, addr)
			a.Canonical = tc.canonical
			z.addrs["mx0.example.com"] = a
			z.cname = map[string]verdict.Answer[string]{"mx0.example.com": found(verdict.Secure, target)}
			_, took := newRig(z, &web{}).facts(t)
			if z.count("TLSA") != tc.wantTLSA || z.count("CNAME") != tc.wantLink || took > 3*rtt {
				t.Errorf("%v alias %q: asked %v in %v", tc.proof, tc.canonical, z.asked, took)
			}
		})
	}
}

func TestTooManyHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(MaxHosts + 10)
		f, _ := newRig(z, &web{}).facts(t)
		if z.count("A") != MaxHosts || len(f.Hosts) != MaxHosts+1 || f.Hosts[MaxHosts].Name != "10-other-hosts" {
			t.Errorf("%d hosts, %d looked up", len(f.Hosts), z.count("A"))
		}
		if v := verdict.Decide(f).Verdict.Name(); v != "dane-only" {
			t.Errorf("verdict %s", v)
		}
	})
}

func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.slow = map[string]time.Duration{"mx0.example.com": time.Hour}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f := newRig(z, &web{}).Facts(ctx, nexthop.Destination{Name: domain, Port: 25})
		if v := verdict.Decide(f).Verdict.Name(); v != "defer" {
			t.Errorf("verdict %s", v)
		}
	})
}

// TestS11PauseAfterFailure: RFC 8461 §3.3: five minutes between two tries for the
// same id; a new id is tried at once.
func TestS11PauseAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.mx.Proof = verdict.Insecure
		z.addrs = nil
		id := func(s string) {
			z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id="+s+";")}
		}
		id("1")
		r := newRig(z, &web{err: &fetch.Error{Kind: fetch.WebPKIInvalid, Fault: verdict.Remote, Detail: "expired"}})
		f, _ := r.facts(t)
		if f.STS.Failure == nil || f.STS.Failure.Result != "sts-webpki-invalid" {
			t.Errorf("failure %+v", f.STS.Failure)
		}
		time.Sleep(4 * time.Minute)
		r.facts(t)
		if r.web.got != 1 {
			t.Errorf("%d fetches within five minutes", r.web.got)
		}
		id("2")
		r.facts(t)
		if r.web.got != 2 {
			t.Errorf("%d fetches after a new id", r.web.got)
		}
		time.Sleep(6 * time.Minute)
		r.facts(t)
		if r.web.got != 3 {
			t.Errorf("%d fetches after the pause", r.web.got)
		}
	})
}

// TestChangedID: the new policy is fetched at once; if that fails the old one holds.
func TestChangedID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.mx.Proof = verdict.Insecure
		z.addrs = nil
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
		r := newRig(z, &web{policy: enforced(t)})
		r.facts(t)
		z.txt["_mta-sts."+domain] = found(verdict.Insecure, "v=STSv1; id=2;")
		r.web.err = &fetch.Error{Fault: verdict.Remote, Detail: "blocked"}
		f, _ := r.facts(t)
		if f.STS.Policy == nil || f.STS.Failure == nil || verdict.Decide(f).Verdict.Name() != "secure" {
			t.Errorf("after a failed fetch: %+v", f.STS)
		}
		time.Sleep(10 * time.Minute)
		none, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: none\nmax_age: 86400\n"))
		if err != nil {
			t.Fatal(err)
		}
		r.web.err, r.web.policy = nil, none
		f, _ = r.facts(t)
		if verdict.Decide(f).Verdict.Name() != "none" {
			t.Errorf("after a policy of mode none: %+v", f.STS)
		}
	})
}

// TestRefresh: whatever the TXT record says; and what changed is told.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		r := newRig(z, &web{policy: enforced(t)})
		r.store.put(mtasts.Cached{Domain: domain}.AfterSuccess(time.Now(), "1", enforced(t), 0))
		if changed, err := r.Policies.Refresh(t.Context(), z, domain); err != nil || changed || r.web.got != 0 {
			t.Errorf("before its time: %v, %d fetches", err, r.web.got)
		}
		time.Sleep(24 * time.Hour)
		if changed, err := r.Policies.Refresh(t.Context(), z, domain); err != nil || changed || r.web.got != 1 {
			t.Errorf("refresh without a TXT record: %v, changed %v, %d fetches", err, changed, r.web.got)
		}
		if c, _, _ := r.store.Policy(domain); !c.Fetched.Equal(time.Now()) || c.ID != "1" {
			t.Errorf("kept %+v", c)
		}
		time.Sleep(24 * time.Hour)
		r.web.err = &fetch.Error{Fault: verdict.Remote, Detail: "blocked"}
		if _, err := r.Policies.Refresh(t.Context(), z, domain); err == nil {
			t.Error("a failed refresh is no error")
		}
		if c, ok, _ := r.store.Policy(domain); !ok || !c.Fresh(time.Now()) || c.Failures != 1 {
			t.Errorf("after a failed refresh: %+v", c)
		}
		time.Sleep(time.Hour)
		none, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: none\nmax_age: 86400\n"))
		if err != nil {
			t.Fatal(err)
		}
		r.web.err, r.web.policy = nil, none
		if changed, err := r.Policies.Refresh(t.Context(), z, domain); err != nil || !changed {
			t.Errorf("a policy of another mode: %v, changed %v", err, changed)
		}
	})
}

// TestClockJump: a clock that is ahead for a while, or a long downtime, costs no
// domain its protection (RFC 8461 §10.2).
func TestClockJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(hosts(1), &web{err: &fetch.Error{Fault: verdict.Remote, Detail: "blocked"}})
		real := time.Now()
		r.store.put(mtasts.Cached{Domain: domain}.AfterSuccess(real, "1", enforced(t), 0))
		time.Sleep(10 * 24 * time.Hour)
		if _, err := r.Policies.Refresh(t.Context(), hosts(1), domain); err == nil || r.web.got != 1 {
			t.Errorf("an expired policy: %v, %d fetches; want a try", err, r.web.got)
		}
		if c, ok, _ := r.store.Policy(domain); !ok || !c.Fresh(real.Add(time.Minute)) {
			t.Errorf("once the clock is right again: %+v", c)
		}
	})
}

// TestUnreadableStore: nobody may take a damaged page for "no policy".
func TestUnreadableStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.mx.Proof, z.addrs = verdict.Insecure, nil
		r := newRig(z, &web{policy: enforced(t)})
		r.store.err = errors.New("a damaged page")
		f, _ := r.facts(t)
		if v := verdict.Decide(f).Verdict.Name(); v != "defer" {
			t.Errorf("without a TXT record: %s, want defer", v)
		}
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
		f, _ = r.facts(t)
		if v := verdict.Decide(f).Verdict.Name(); v != "secure" {
			t.Errorf("with a policy that can be fetched: %s", v)
		}
	})
}

// TestLostUpdate: a fetch that fails does not bring an old policy back.
func TestLostUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.mx.Proof, z.addrs = verdict.Insecure, nil
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=2;")}
		r := newRig(z, &web{takes: 5 * time.Second, err: &fetch.Error{Fault: verdict.Remote, Detail: "blocked"}})
		testing, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: testing\nmx: *.example.com\nmax_age: 604800\n"))
		if err != nil {
			t.Fatal(err)
		}
		before := mtasts.Cached{Domain: domain}.AfterSuccess(time.Now(), "1", testing, 0)
		r.store.put(before)
		go r.facts(t)
		time.Sleep(2 * time.Second)
		r.store.put(before.AfterSuccess(time.Now(), "2", enforced(t), 0))
		time.Sleep(10 * time.Second)
		if c, _, _ := r.store.Policy(domain); c.Policy.Mode != mtasts.ModeEnforce || c.ID != "2" {
			t.Errorf("kept %+v", c)
		}
	})
}

// TestCrowdedFetchesDefer: a fetch that was never made is no answer.
func TestCrowdedFetchesDefer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.mx.Proof, z.addrs = verdict.Insecure, nil
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
		r := newRig(z, &web{policy: enforced(t), takes: time.Minute})
		r.crowd(t, "", fetches*(1+maxWaiting))
		f, _ := r.facts(t)
		if v, ok := verdict.Decide(f).Verdict.(verdict.Defer); !ok || v.Fault != verdict.Ours {
			t.Errorf("%+v, want a deferral by our fault", verdict.Decide(f).Verdict)
		}
		time.Sleep(time.Hour)
	})
}

// TestUnsentFetchDefers: a fetch that failed by our own fault is no answer, and is
// not remembered as one.
func TestUnsentFetchDefers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.mx.Proof, z.addrs = verdict.Insecure, nil
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
		r := newRig(z, &web{err: &fetch.Error{Fault: verdict.Ours, Detail: "gave up before it was sent"}})
		for range 2 {
			f, _ := r.facts(t)
			if v, ok := verdict.Decide(f).Verdict.(verdict.Defer); !ok || v.Fault != verdict.Ours {
				t.Errorf("%+v, want a deferral by our fault", verdict.Decide(f).Verdict)
			}
		}
		if r.web.got != 2 {
			t.Errorf("%d fetches, want a try each time", r.web.got)
		}
	})
}

// TestObserveLeavesDANEAlone: a policy that is only observed takes no rung.
func TestObserveLeavesDANEAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.mx.Proof = verdict.Insecure
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
		r := newRig(z, &web{policy: enforced(t)})
		r.Rules.STS = verdict.Observe
		for range 2 {
			f, _ := r.facts(t)
			if v := verdict.Decide(f).Verdict.Name(); v != "dane" {
				t.Errorf("%s, want dane", v)
			}
		}
	})
}

// TestPatience: one silent host does not keep everybody waiting.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(2)
		z.slow = map[string]time.Duration{"mx0.example.com": time.Hour}
		f, took := newRig(z, &web{}).facts(t)
		if took != DefaultPatience {
			t.Errorf("took %v", took)
		}
		if r := verdict.Decide(f); r.Verdict.Name() != "dane-only" || !r.Provisional {
			t.Errorf("%s", r.Verdict.Name())
		}
	})
}

// defective panics where it is told to.
type defective struct {
	*zone
	at string
}

func (d *defective) A(ctx context.Context, name string) verdict.Answer[netip.Addr] {
	if d.at == "A" {
		panic("a defect")
	}
	return d.zone.A(ctx, name)
}

func (d *defective) TXT(ctx context.Context, name string) verdict.Answer[string] {
	if d.at == "TXT" {
		panic("a defect")
	}
	return d.zone.TXT(ctx, name)
}

func (d *defective) MX(ctx context.Context, name string) verdict.Answer[verdict.MX] {
	if d.at == "MX" {
		panic("a defect")
	}
	return d.zone.MX(ctx, name)
}

func (d *defective) Fetch(context.Context, string) (mtasts.Policy, error) { panic("a defect") }

// TestDefects: a panic in a lookup defers the mail of one destination.
func TestDefects(t *testing.T) {
	for _, at := range []string{"MX", "A", "TXT", "HTTPS"} {
		synctest.Test(t, func(t *testing.T) {
			z := hosts(1)
			if at != "A" {
				z.mx.Proof, z.addrs = verdict.Insecure, nil
			}
			z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
			d := &defective{z, at}
			r := newRig(z, &web{policy: enforced(t)})
			r.Open = func() Session { return d }
			if at == "HTTPS" {
				r.Policies.fetcher = d
			}
			f, _ := r.facts(t)
			if v, ok := verdict.Decide(f).Verdict.(verdict.Defer); !ok || v.Fault != verdict.Ours {
				t.Errorf("%s: %+v", at, verdict.Decide(f).Verdict)
			}
		})
	}
}

// TestIdlePolicyExpires: a domain that gets no mail costs its policy host nothing.
func TestIdlePolicyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(hosts(1), &web{policy: enforced(t)})
		long, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: *.example.com\nmax_age: 31557600\n"))
		if err != nil {
			t.Fatal(err)
		}
		r.store.put(mtasts.Cached{Domain: domain}.AfterSuccess(time.Now(), "1", long, 0).AfterUse(time.Now()))
		time.Sleep(32 * 24 * time.Hour)
		if _, err := r.Policies.Refresh(t.Context(), hosts(1), domain); err != nil || r.web.got != 0 {
			t.Errorf("%v, %d fetches of an idle policy", err, r.web.got)
		}
		if c, ok, _ := r.store.Policy(domain); !ok || !c.Fresh(time.Now()) || c.Next(time.Now()) != mtasts.Wait {
			t.Errorf("kept %+v", c)
		}
	})
}

// TestOneFetchAtOnce: askers of several destinations share it, and a crowd of
// domains is refused rather than queued without end.
func TestOneFetchAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := hosts(1)
		z.mx.Proof = verdict.Insecure
		z.txt = map[string]verdict.Answer[string]{"_mta-sts." + domain: found(verdict.Insecure, "v=STSv1; id=1;")}
		r := newRig(z, &web{policy: enforced(t), takes: time.Second})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { r.facts(t) })
		}
		wg.Wait()
		if r.web.got != 1 {
			t.Errorf("%d fetches for ten askers", r.web.got)
		}
		const n = 3 * maxWaiting * fetches
		refused := 0
		for _, fl := range r.crowd(t, "", n) {
			select {
			case <-fl.done:
				refused++
			default:
			}
		}
		if refused != n-fetches*(1+maxWaiting) {
			t.Errorf("%d fetches were refused", refused)
		}
		time.Sleep(time.Hour)
	})
}

// crowd starts fetches for one client.
func (r *rig) crowd(t *testing.T, client string, n int) []*flight {
	t.Helper()
	all := make([]*flight, n)
	for i := range all {
		all[i] = r.Policies.start(fairqueue.WithClient(t.Context(), client), fmt.Sprint("d", i, ".example"), "1")
		synctest.Wait()
	}
	return all
}

// TestFetchesAreFairBetweenClients: one with many domains whose policy hosts are slow
// keeps another one waiting for a turn, and not for all of them.
func TestFetchesAreFairBetweenClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(hosts(1), &web{policy: enforced(t), takes: time.Minute})
		r.crowd(t, "crowd", fetches*(1+maxWaiting))
		begin := time.Now()
		fl := r.Policies.start(fairqueue.WithClient(t.Context(), "another"), domain, "1")
		<-fl.done
		if took := time.Since(begin); took > 2*time.Minute || fl.failure != nil {
			t.Errorf("another client's policy took %v: %v", took, fl.failure)
		}
		time.Sleep(time.Hour)
	})
}

// TestOwn: whether the MTA has a way of its own is asked for domains that promise implicit
// TLS, and for no other; a defect there is an answer, too.
func TestOwn(t *testing.T) {
	for _, tc := range []struct {
		name, mx string
		port     uint16
		asked    int
	}{
		{"promised", "smtps-mx.example.com", 26, 1},
		{"an ordinary domain", "mx.example.com", 26, 0},
		{"switched off", "smtps-mx.example.com", 0, 0},
	} {
		asked := 0
		f := verdict.Facts{
			Destination: nexthop.Destination{Name: "example.com", Port: 25},
			Rules:       verdict.Rules{Prefix: verdict.Enforce, ImplicitPort: tc.port},
			MX:          verdict.Answer[verdict.MX]{Outcome: verdict.Found, Proof: verdict.Secure, Records: []verdict.MX{{Host: tc.mx}}},
		}
		g := &Gatherer{Log: slog.New(slog.DiscardHandler), Own: func(_ context.Context, domain string) string {
			asked++
			if domain != "example.com" {
				t.Errorf("%s: asked for %s", tc.name, domain)
			}
			panic("a defect")
		}}
		got := g.startOwn(t.Context(), &f)()
		if asked != tc.asked || (got != "") != (tc.asked > 0) {
			t.Errorf("%s: asked %d times, %q", tc.name, asked, got)
		}
	}
}
