// Package gather learns everything about a destination that a verdict can rest on.
//
// It asks as much as it can at once. The order is forced only where one answer
// names the next question:
//
//	round 1   MX                       _mta-sts TXT, and the records of package signal
//	round 2   A and AAAA of all hosts   the policy over HTTPS, if it is new
//	round 3   TLSA of all hosts
//
// so that a destination costs three DNS rounds however many MX hosts it has. A
// domain that DANE settles waits neither for _mta-sts nor for HTTPS, and a domain
// with unsigned MX records and a known, enforced MTA-STS policy asks for no host. The
// records of package signal, asked for where Rules has them on, are waited for only where
// the verdict needs them.
//
// Example: for a domain with MX mx1 and mx2, Facts returns the MX answer, both
// hosts with their address and TLSA answers, and the MTA-STS policy.
//
// A lookup that fails is a fact like any other; nothing here returns an error and
// nothing decides. Limits: MaxHosts hosts are looked at, the session that Open
// returns bounds the questions, Patience and the context bound the time.
//
// The package does not cache: answers belong to the destination they were asked
// for. Policies are kept in Policies, since RFC 8461 §3.3 demands it.
package gather

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// MaxHosts is how many MX hosts of a domain are looked at, the most preferred
// ones; the lookups of any others count as failed. The largest sets in use have
// about twenty.
const MaxHosts = 30

// Session asks the DNS on behalf of one destination, within one budget. It is
// safe for concurrent use. Names have no trailing dot.
type Session interface {
	MX(ctx context.Context, name string) verdict.Answer[verdict.MX]
	A(ctx context.Context, name string) verdict.Answer[netip.Addr]
	AAAA(ctx context.Context, name string) verdict.Answer[netip.Addr]
	CNAME(ctx context.Context, name string) verdict.Answer[string]
	TLSA(ctx context.Context, name string) verdict.Answer[tlsa.Record]
	TXT(ctx context.Context, name string) verdict.Answer[string]
	// Private asks for a type without a name; each record is the octets of its data.
	Private(ctx context.Context, name string, rrtype uint16) verdict.Answer[string]
	// Close ends the session; a lookup that is under way ends by its context.
	Close()
}

// Gatherer gathers facts. Open and Rules must be set, and Policies where
// Rules.STS is not off.
type Gatherer struct {
	// Open starts a session for one destination.
	Open func() Session
	// Policies knows the MTA-STS policies.
	Policies *Policies
	Rules    verdict.Rules
	// Trouble returns why DNSSEC proves nothing on this host and what to do
	// about it, or "". Optional.
	Trouble func() string
	// Pins knows the pins of MX hosts. Required where Rules.Banner is not off.
	Pins Pins
	// Fleet is nil where there is none.
	Fleet Fleet
	// Own returns why the MTA may have a way of its own for a domain, or "". It is
	// asked for domains that promise implicit TLS, while their hosts are looked up,
	// and ends when ctx does. Optional.
	Own func(ctx context.Context, domain string) string
	// Patience is how long a dead name server may keep a destination waiting:
	// then hosts that are not known count as failed, as soon as one is, and so
	// does the TXT record. It should be less than an MTA's own patience. 0 means
	// DefaultPatience.
	Patience time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log gets the defects that lookups met. Required.
	Log *slog.Logger
}

// DefaultPatience leaves an asker who waits for twelve seconds some time to spare.
const DefaultPatience = 9 * time.Second

// Facts learns everything about a destination. It returns when all that can bear
// on a verdict is known, or, with failures in place of answers, soon after ctx ends.
func (g *Gatherer) Facts(ctx context.Context, d nexthop.Destination) (f verdict.Facts) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dns, giveUp := context.WithTimeout(ctx, cmp.Or(g.Patience, DefaultPatience))
	defer giveUp()
	s := g.Open()
	defer s.Close()
	f = verdict.Facts{Destination: d, Rules: g.Rules}
	defer func() { f.Trouble = g.trouble() }()
	sts, records := g.startSTS(ctx, dns, s, d.Name), g.startRecords(dns, s, d.Name)
	if !d.Host {
		f.MX = guard(g, func() verdict.Answer[verdict.MX] { return s.MX(ctx, d.Name) })
		arrange(f.MX.Records)
	}
	sts.mayFetch(!nowhere(&f))
	learned := g.askPins(ctx, &f)
	own := g.startOwn(dns, &f)
	defer func() { f.Own = own() }()
	if g.Rules.STS == verdict.Enforce && sts.knownEnforced() && !d.Host && f.MX.Proof == verdict.Insecure {
		// Rung 6 of the ladder: the policy goes before whatever the hosts say.
		f.STS = sts.wait()
	}
	if g.Rules.STS != verdict.Enforce || !f.STS.Enforced(g.now()) {
		f.Hosts = g.hosts(ctx, dns.Done(), s, &f)
	}
	f.Now = g.now()
	if !f.STS.Settled && verdict.STSMatters(f) {
		f.STS = sts.wait()
		f.Now = g.now()
	} else if !f.STS.Settled {
		f.STS.Policy = sts.soFar()
	}
	learned()
	g.pins(&f)
	records.into(&f)
	f.Now = g.now()
	return f
}

// startOwn begins to ask whether the MTA has a way of its own for the domain, and returns
// how to have the answer.
func (g *Gatherer) startOwn(ctx context.Context, f *verdict.Facts) func() string {
	if g.Own == nil || len(f.Promised()) == 0 {
		return func() string { return "" }
	}
	answer := make(chan string, 1)
	go func() {
		defer g.recovered(func() { answer <- "internal error" })
		answer <- g.Own(ctx, f.Destination.Name)
	}()
	return func() string { return <-answer }
}

// trouble is asked for last: what the lookups met is known by then.
func (g *Gatherer) trouble() string {
	if g.Trouble == nil {
		return ""
	}
	return g.Trouble()
}

func (g *Gatherer) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

// arrange sorts MX records by preference, then by name, so that the same set
// gives the same facts whatever the order in which a name server sent it.
func arrange(records []verdict.MX) {
	slices.SortFunc(records, func(a, b verdict.MX) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), cmp.Compare(a.Host, b.Host))
	})
}

// nowhere reports whether the MX answer shows that no policy need be fetched:
// RFC 8461 §3.3 wants no fetch for a domain that takes no mail, and where the MX
// lookup failed mail waits anyway.
func nowhere(f *verdict.Facts) bool {
	return !f.Destination.Host && (f.MX.Broken() || f.Gone())
}

// hosts asks for the addresses and TLSA records of every host at once. After late
// it waits for the first one only.
func (g *Gatherer) hosts(ctx context.Context, late <-chan struct{}, s Session, f *verdict.Facts) []verdict.Host {
	if g.Rules.WithoutDNSSEC || nowhere(f) || !f.Destination.Host && f.MX.Proof == verdict.Indeterminate {
		return nil
	}
	hosts := list(f)
	prefix := "_" + strconv.Itoa(int(f.Destination.Port)) + "._tcp."
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	known := make(chan struct{})
	asked := min(len(hosts), MaxHosts)
	for i := range asked {
		go func() {
			g.ask(ctx, s, &hosts[i], prefix)
			known <- struct{}{}
		}()
	}
	for n := 0; n < asked; {
		select {
		case <-known:
			n++
		case <-late:
			late = nil
		}
		if late == nil && n > 0 {
			giveUp()
		}
	}
	return hosts
}

// list names the hosts that take the mail, each once (RFC 5321 §5.1).
func list(f *verdict.Facts) []verdict.Host {
	if f.Destination.Host || f.MX.Absent() {
		return []verdict.Host{{Name: f.Destination.Name}}
	}
	hosts := make([]verdict.Host, 0, len(f.MX.Records))
	seen := make(map[string]bool, len(f.MX.Records))
	for _, mx := range f.MX.Records {
		// The empty name is the root: beside other records it is no null MX
		// (RFC 7505 §3) and no host either.
		if mx.Host == "" || seen[mx.Host] {
			continue
		}
		seen[mx.Host] = true
		hosts = append(hosts, verdict.Host{Name: mx.Host, Preference: mx.Preference})
	}
	if more := len(hosts) - MaxHosts; more > 0 {
		hosts = append(hosts[:MaxHosts:MaxHosts], others(more))
	}
	return hosts
}

// others stands for the hosts that are not looked at.
func others(n int) verdict.Host {
	unknown := verdict.Fail[netip.Addr](verdict.Remote, "not looked up: a domain has "+strconv.Itoa(MaxHosts)+" MX hosts at most here")
	return verdict.Host{Name: strconv.Itoa(n) + "-other-hosts", A: unknown, AAAA: unknown}
}

// ask learns about one host: both addresses at once, then all that they show to
// be worth asking at once.
func (g *Gatherer) ask(ctx context.Context, s Session, h *verdict.Host, prefix string) {
	var wg sync.WaitGroup
	wg.Go(func() { h.A = guard(g, func() verdict.Answer[netip.Addr] { return s.A(ctx, h.Name) }) })
	wg.Go(func() { h.AAAA = guard(g, func() verdict.Answer[netip.Addr] { return s.AAAA(ctx, h.Name) }) })
	wg.Wait()

	bases, link := questions(h)
	h.TLSA = make([]verdict.TLSALookup, len(bases))
	for i, base := range bases {
		wg.Go(func() {
			a := guard(g, func() verdict.Answer[tlsa.Record] { return s.TLSA(ctx, prefix+base) })
			h.TLSA[i] = verdict.TLSALookup{Base: base, Answer: a}
		})
	}
	if link {
		wg.Go(func() { h.Link = guard(g, func() verdict.Answer[string] { return s.CNAME(ctx, h.Name) }) })
	}
	wg.Wait()
}

// txt asks for a TXT record.
func (g *Gatherer) txt(ctx context.Context, s Session, name string) verdict.Answer[string] {
	return guard(g, func() verdict.Answer[string] { return s.TXT(ctx, name) })
}

// guard makes a defect of a lookup, which runs in a goroutine of its own and reads
// what strangers send, a failure of this lookup: it must not end the process.
func guard[T any](g *Gatherer, lookup func() verdict.Answer[T]) (a verdict.Answer[T]) {
	defer g.recovered(func() { a = verdict.Fail[T](verdict.Ours, "internal error") })
	return lookup()
}

// recovered is deferred: after a panic it logs it and runs then.
func (g *Gatherer) recovered(then func()) {
	if r := recover(); r != nil {
		g.Log.Error("a defect in tlsverdict spoils a lookup", "panic", r, "stack", string(debug.Stack()))
		then()
	}
}

// questions returns at which names TLSA records are worth asking for, and
// whether the CNAME itself is (RFC 7672 §2.2.2, §2.2.3). A host with plain
// insecure addresses is not asked about: some of their name servers break on
// TLSA, and nothing they say would count.
func questions(h *verdict.Host) (bases []string, link bool) {
	a := h.Addresses()
	switch {
	case !a.Found && a.Failure != nil:
		return nil, false
	case a.Proof == verdict.Secure && a.Found && a.Alias:
		return []string{a.Canonical, h.Name}, false
	case a.Proof == verdict.Secure && a.Found:
		return []string{h.Name}, false
	case a.Proof == verdict.Insecure && a.Alias:
		// Where the link turns out to be secure, the original name is the base.
		// It is asked for along with the link, to save a round.
		return []string{h.Name}, true
	}
	return nil, false
}
