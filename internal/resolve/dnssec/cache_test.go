package dnssec

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// TestWarmCachesAddNoQuestion: once the zones are known, an answer is one question.
func TestWarmCachesAddNoQuestion(t *testing.T) {
	for _, zone := range []string{"example.com.", "example.net.", "example.org.", "plain.org.", "plain.com."} {
		w := standard(t)
		v := w.validator()
		w.ask(v, zone, dns.TypeMX)
		for _, q := range []struct {
			n string
			t uint16
		}{{"mx1." + zone, dns.TypeA}, {"_25._tcp.mx1." + zone, dns.TypeTLSA}, {"nowhere." + zone, dns.TypeA}, {zone, dns.TypeTXT}} {
			s := v.Session(w)
			defer s.Close()
			if a := s.Lookup(t.Context(), q.n, q.t); a.Outcome == verdict.Failed {
				t.Errorf("%v", a.Err)
			}
			if got := s.Spent().Queries; got != 1 {
				t.Errorf("%s %s took %d questions", q.n, typeName(q.t), got)
			}
		}
	}
}

// rounds is an upstream that answers in rounds: a reply comes when nothing else is sent
// for any more. Who waits for one reply before the next question takes a round more.
type rounds struct {
	w     *world
	mu    sync.Mutex
	count int
	wait  time.Duration
	open  chan struct{}
}

func (r *rounds) Exchange(ctx context.Context, q Query) (*dns.Msg, error) {
	r.mu.Lock()
	if r.open == nil {
		r.open = make(chan struct{})
		r.count++
		go func(c chan struct{}) {
			<-time.After(r.wait)
			r.mu.Lock()
			r.open = nil
			r.mu.Unlock()
			close(c)
		}(r.open)
	}
	c := r.open
	r.mu.Unlock()
	<-c
	return r.w.Exchange(ctx, q)
}

// TestColdChainTakesOneRound: what will probably be needed is asked for at once.
func TestColdChainTakesOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for n, rrtype := range map[string]uint16{"example.com.": dns.TypeMX, "mx1.example.net.": dns.TypeA, "_25._tcp.mx1.example.com.": dns.TypeTLSA, "plain.org.": dns.TypeMX, "mx.sub.example.com.": dns.TypeA} {
			w := standard(t)
			r := &rounds{w: w, wait: time.Second}
			s := w.validator().Session(r)
			a := s.Lookup(t.Context(), n, rrtype)
			s.Close()
			if a.Outcome == verdict.Failed || r.count != 1 {
				t.Errorf("%s %s: %d rounds (%v)", n, typeName(rrtype), r.count, a.Err)
			}
		}
	})
}

func TestNothingIsUsedPastItsTime(t *testing.T) {
	w := standard(t)
	v := w.validator()
	ask := func() Answer { return w.ask(v, "example.com.", dns.TypeMX) }
	want(t, ask(), verdict.Found, verdict.Secure)
	before := w.count("example.com.", dns.TypeDS)
	w.now = w.now.Add(time.Hour - time.Second)
	want(t, ask(), verdict.Found, verdict.Secure)
	if got := w.count("example.com.", dns.TypeDS); got != before {
		t.Errorf("DS was asked %d times within its TTL", got)
	}
	w.now = w.now.Add(2 * time.Second)
	want(t, ask(), verdict.Found, verdict.Secure)
	if got := w.count("example.com.", dns.TypeDS); got != before+1 {
		t.Errorf("DS was asked %d times after its TTL", got)
	}
	// An unsigned delegation that gets signed is found in time, and while the parent
	// cannot be asked, what was known is no answer.
	w = standard(t)
	v = w.validator()
	plain := func() Answer { return w.ask(v, "plain.org.", dns.TypeMX) }
	want(t, plain(), verdict.Found, verdict.Insecure)
	w.now = w.now.Add(16 * time.Minute) // the negative TTL is 15
	w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
		if q.Type == dns.TypeDS {
			return nil
		}
		return m
	}
	want(t, plain(), verdict.Failed, verdict.Indeterminate)

	// No TTL goes beyond a signature's end.
	w = standard(t)
	w.zones["example.com."].to = 10 * time.Minute
	if a := w.lookup("example.com.", dns.TypeMX); a.TTL != 10*time.Minute {
		t.Errorf("TTL %v", a.TTL)
	}
	// A denial has the SOA's and the NSEC's.
	w = standard(t)
	if a := w.lookup("nowhere.example.com.", dns.TypeMX); a.TTL != 15*time.Minute {
		t.Errorf("TTL %v", a.TTL)
	}
	// An insecure answer lasts no longer than the proof of it.
	if a := w.lookup("plain.org.", dns.TypeMX); a.TTL != 15*time.Minute {
		t.Errorf("TTL %v", a.TTL)
	}
}

// TestNothingIsBelievedForLong: a TTL of years, well signed, is not a promise that the
// parent made.
func TestNothingIsBelievedForLong(t *testing.T) {
	w := standard(t)
	for _, z := range w.zones {
		z.to = 400 * 24 * time.Hour
		for _, sets := range z.records {
			for _, rrs := range sets {
				for _, rr := range rrs {
					rr.Header().Ttl = 1 << 25
				}
			}
		}
		for _, k := range z.keys {
			k.rr.Hdr.Ttl = 1 << 25
		}
	}
	v := w.validator()
	w.ask(v, "example.com.", dns.TypeMX)
	w.ask(v, "plain.com.", dns.TypeMX)
	for n, e := range v.cuts.entries {
		if e.cut.until.After(w.now.Add(24 * time.Hour)) {
			t.Errorf("%v is believed until %v", n, e.cut.until)
		}
	}
}

// TestTheClockIsSet: what was learnt is not kept for longer because a clock was set back.
func TestTheClockIsSet(t *testing.T) {
	w := standard(t)
	v := w.validator()
	want(t, w.ask(v, "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	before := w.count("example.com.", dns.TypeDS)
	w.now = w.now.Add(-time.Hour)
	want(t, w.ask(v, "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	if got := w.count("example.com.", dns.TypeDS); got != before+1 {
		t.Errorf("DS was asked %d times more", got-before)
	}
}

func TestBogusIsRememberedShortly(t *testing.T) {
	w := standard(t)
	v := w.validator()
	w.tamper = forQuery("example.com.", dns.TypeDNSKEY, stripped)
	for range 5 {
		refused(t, w.ask(v, "example.com.", dns.TypeMX), NoSignature)
	}
	if got := w.count("example.com.", dns.TypeDS); got != 2 {
		t.Errorf("a broken delegation was asked for %d times", got)
	}
	w.tamper = nil
	w.now = w.now.Add(bogusLife - time.Second)
	refused(t, w.ask(v, "example.com.", dns.TypeMX), NoSignature)
	w.now = w.now.Add(2 * time.Second)
	want(t, w.ask(v, "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
}

// TestMended: what is mended shows at once where everything waits for it, or where the
// caller says so.
func TestMended(t *testing.T) {
	w := standard(t)
	v := w.validator()
	w.tamper = forQuery(".", dns.TypeDNSKEY, stripped)
	refused(t, w.ask(v, "example.com.", dns.TypeMX), NoSignature)
	w.tamper = forQuery("example.com.", dns.TypeDNSKEY, stripped)
	w.now = w.now.Add(anchorLife)
	refused(t, w.ask(v, "example.com.", dns.TypeMX), NoSignature)
	w.tamper = nil
	refused(t, w.ask(v, "example.com.", dns.TypeMX), NoSignature)
	v.Forgive()
	want(t, w.ask(v, "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
}

func TestFailuresAreNotRemembered(t *testing.T) {
	w := standard(t)
	v := w.validator()
	for _, n := range []string{".", "com.", "example.com."} {
		w.tamper = func(q Query, m *dns.Msg) *dns.Msg {
			if q.Name == n && q.Type == dns.TypeDNSKEY {
				return nil
			}
			return m
		}
		a := w.ask(v, "example.com.", dns.TypeMX)
		want(t, a, verdict.Failed, verdict.Indeterminate)
		if a.Err.Why != NoReply || a.Err.Unwrap() == nil {
			t.Errorf("%v", a.Err)
		}
	}
	w.tamper = nil
	want(t, w.ask(v, "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
}

// TestOneFlight: many destinations at once ask for a cut once, and who gives up does
// not take the others along.
func TestOneFlight(t *testing.T) {
	w := standard(t)
	v := w.validator()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if i%5 == 0 {
				cancel()
			}
			s := v.Session(w)
			defer s.Close()
			a := s.Lookup(ctx, "example.com.", dns.TypeMX)
			if i%5 == 0 {
				if a.Outcome == verdict.Found {
					return // it was faster
				}
				if a.Err.Why != NoReply || a.Proof != verdict.Indeterminate {
					t.Errorf("who gave up got %v", a.Err)
				}
				return
			}
			if a.Proof != verdict.Secure {
				t.Errorf("%v %v (%v)", a.Outcome, a.Proof, a.Err)
			}
		})
	}
	all.Wait()
	if len(v.cuts.entries) != 3 {
		t.Errorf("%d cuts are known, want 3", len(v.cuts.entries))
	}
}

func TestSessionAsksOnce(t *testing.T) {
	w := standard(t)
	s := w.validator().Session(w)
	defer s.Close()
	for range 3 {
		want(t, s.Lookup(t.Context(), "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	}
	if got := w.count("example.com.", dns.TypeMX); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	w := standard(t)
	for i := range 100 {
		w.zone(fmt.Sprintf("z%d.org.", i), unsigned, "@ A 192.0.2.1")
	}
	v := New(Config{Anchors: w.anchors(), CacheOctets: 20 * entryWeight, Clock: func() time.Time { return w.now }})
	for i := range 100 {
		want(t, w.ask(v, fmt.Sprintf("z%d.org.", i), dns.TypeA), verdict.Found, verdict.Insecure)
		if v.cuts.weight > v.cuts.limit {
			t.Fatalf("%d octets of %d", v.cuts.weight, v.cuts.limit)
		}
	}
	sum := 0
	for _, e := range v.cuts.entries {
		sum += e.weight
	}
	if sum != v.cuts.weight || v.cuts.entries["\x03org\x00"] == nil || v.cuts.entries[root] == nil {
		t.Errorf("weight %d, counted %d", v.cuts.weight, sum)
	}
}

// TestNamesThatDoNotExistMakeRoom: top-level domains are kept, but not those that anyone
// can make up.
func TestNamesThatDoNotExistMakeRoom(t *testing.T) {
	w := standard(t)
	v := New(Config{Anchors: w.anchors(), CacheOctets: 30 * entryWeight, Clock: func() time.Time { return w.now }})
	want(t, w.ask(v, "example.com.", dns.TypeMX), verdict.Found, verdict.Secure)
	for i := range 100 {
		n := fmt.Sprintf("nosuch%d.", i)
		// The answer itself is not signed, so that the walk must go on to the name.
		w.tamper = forQuery("mx."+n, dns.TypeA, stripped)
		w.ask(v, "mx."+n, dns.TypeA)
		if v.cuts.weight > v.cuts.limit {
			t.Fatalf("%d octets of %d", v.cuts.weight, v.cuts.limit)
		}
	}
	if v.cuts.entries["\x03com\x00"] == nil || v.cuts.entries[root] == nil {
		t.Error("what everyone needs was thrown away")
	}
}

// TestWeightIsMemory holds what the cache believes that its entries take against what they
// take: long names in proofs, and keys that were used.
func TestWeightIsMemory(t *testing.T) {
	w := newWorld(t)
	p256, rsa := w.key("example.", dns.ECDSAP256SHA256, 257), w.bigRSA("example.", 2048, big.NewInt(65537))
	for what, learn := range map[string]func(n name) cut{
		"denials": func(n name) cut {
			step := Step{Kind: StepUnsigned, Subject: subject(n, dns.TypeDS), Zone: "example.", Keys: []KeyID{{}}, Detail: strings.Clone("NSEC at the name (" + n.String() + ")")}
			return cut{kind: unsignedCut, zone: &zone{apex: n, step: step}}
		},
		"nothing there": func(name) cut { return cut{kind: noName} },
		"keys": func(n name) cut {
			set := &rrset{owner: n, rtype: dns.TypeDNSKEY, rrs: []dns.RR{p256.rr, rsa.rr}}
			ks, err := algorithms().readKeys(set, new(Budget))
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range ks.list {
				if _, err := k.load(); err != nil {
					t.Fatal(err)
				}
			}
			step := Step{Kind: StepDelegation, Subject: subject(n, dns.TypeDNSKEY), Zone: "example.", Keys: make([]KeyID, 2)}
			return cut{kind: signedCut, zone: &zone{apex: n, keys: ks, step: step}}
		},
	} {
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		c, now, before := newCuts(1<<30), time.Now(), heap()
		for i := range 3000 {
			n := mustName(fmt.Sprintf("n%d.%s.example.", i, strings.Repeat("x", i%60+1)))
			got := learn(n)
			got.until = now.Add(time.Hour)
			c.put(n, got, now)
		}
		took := heap() - before
		t.Logf("%s: %d octets an entry, %d believed", what, took/3000, c.weight/3000)
		if took > uint64(c.weight)*5/4 {
			t.Errorf("%s take %d octets, and are believed to take %d", what, took, c.weight)
		}
		runtime.KeepAlive(c)
	}
}

func TestUpstreamThatAnswersSomethingElse(t *testing.T) {
	w := standard(t)
	for what, change := range map[string]func(q Query, m *dns.Msg) *dns.Msg{
		"another name":   func(_ Query, m *dns.Msg) *dns.Msg { m.Question[0].Name = "example.net."; return m },
		"another type":   func(_ Query, m *dns.Msg) *dns.Msg { m.Question[0].Qtype = dns.TypeANY; return m },
		"no question":    func(_ Query, m *dns.Msg) *dns.Msg { m.Question = nil; return m },
		"a query":        func(_ Query, m *dns.Msg) *dns.Msg { m.Response = false; return m },
		"server failure": func(_ Query, m *dns.Msg) *dns.Msg { m.Rcode = dns.RcodeServerFailure; return m },
	} {
		w.tamper = change
		a := w.lookup("example.com.", dns.TypeMX)
		if a.Outcome != verdict.Failed || a.Proof != verdict.Indeterminate || a.Err.Why != NoReply {
			t.Errorf("%s: %v %v (%v)", what, a.Outcome, a.Proof, a.Err)
		}
	}
	var e *Error
	if a := (&Session{v: w.validator(), up: nilUpstream{}, asked: map[Query]*flight{}, alone: map[Query]bool{}}).Lookup(t.Context(), "example.com.", dns.TypeMX); !errors.As(error(a.Err), &e) || e.Why != NoReply {
		t.Errorf("%v", a.Err)
	}
}

type nilUpstream struct{}

func (nilUpstream) Exchange(context.Context, Query) (*dns.Msg, error) { return nil, nil }
