package bench

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// The traffic of a fleet. Deliveries follow a power law: the r-th domain gets as many
// as 1/r of the first. Most domains have their mail hosts at a provider, whose sizes
// follow another one; the rest have one of their own. TTLs are spread as in use.
const (
	fleetDomains    = 1_000_000
	fleetDeliveries = 10_000_000
	fleetDays       = 7
	fleetSeed       = 8461
	providers       = 20_000
	hostsEach       = 2
	atProvider      = 0.6
	day             = 24 * time.Hour
	// keptMost bounds how long the resolver uses what it learnt of a host, beside half of its
	// TTL.
	keptMost = time.Hour
)

// traffic is a synthetic fleet.
type traffic struct {
	random *rand.Rand
	// upTo is the part of all deliveries to domains up to each.
	upTo []float64
	// provider of each domain; -1 has its own host.
	provider []int32
	ttl      []int32 // of a domain's own records, seconds
	hostTTL  []int32 // of a provider's
}

func newTraffic() *traffic {
	f := &traffic{random: rand.New(rand.NewPCG(fleetSeed, 1))}
	f.upTo = powerLaw(fleetDomains)
	sizes := powerLaw(providers)
	own := []int32{300, 300, 300, 300, 300, 1800, 1800, 3600, 3600, 3600, 3600, 3600, 3600, 3600, 3600, 3600, 14400, 14400, 86400, 86400}
	hosts := []int32{300, 300, 300, 3600, 3600, 3600, 3600, 3600, 86400, 86400}
	for range fleetDomains {
		at := int32(-1)
		if f.random.Float64() < atProvider {
			at = int32(pick(sizes, f.random.Float64()))
		}
		f.provider = append(f.provider, at)
		f.ttl = append(f.ttl, own[f.random.IntN(len(own))])
	}
	for range providers {
		f.hostTTL = append(f.hostTTL, hosts[f.random.IntN(len(hosts))])
	}
	return f
}

// powerLaw returns the cumulated weights 1/r, the last of them 1.
func powerLaw(n int) []float64 {
	all, sum := make([]float64, n), 0.0
	for i := range all {
		sum += 1 / float64(i+1)
		all[i] = sum
	}
	for i := range all {
		all[i] /= sum
	}
	return all
}

// pick returns the index that a number from 0 to 1 falls on.
func pick(upTo []float64, at float64) int {
	i, _ := slices.BinarySearchFunc(upTo, at, cmp.Compare[float64])
	return min(i, len(upTo)-1)
}

// poisson draws how many there are where mean are expected.
func (f *traffic) poisson(mean float64) int {
	limit, p, n := math.Exp(-mean), 1.0, -1
	for p > limit {
		p *= f.random.Float64()
		n++
	}
	return n
}

// names stands in for the DNS: it knows what each domain's questions are, and which of
// them the resolver would not ask, since it knows the host already.
type names struct {
	*traffic
	mu   sync.Mutex
	kept map[int32]time.Time // by provider: when the answers were asked for
	// asked are questions that were sent, spared those about known hosts; the other two
	// count policy fetches.
	asked, spared    uint64
	fetches, fetched uint64
	// due holds, for each minute, the domains whose policy is to be fetched then.
	due    map[int64][]int32
	policy map[int32]bool
}

// gather is what a flight does: it takes the rounds that it takes, and counts.
func (n *names) gather(_ context.Context, d nexthop.Destination) verdict.Facts {
	i := number(d.Name)
	k := kindOf(i)
	n.mu.Lock()
	ttl := time.Duration(n.ttl[i]) * time.Second
	n.asked += 2 // MX and _mta-sts TXT
	rounds := 1
	if k == sts {
		n.learn(int32(i), time.Now())
	} else {
		rounds = 2
		each := uint64(2)
		if k == dane {
			rounds, each = 3, 3
		}
		ttl = min(ttl, n.hosts(n.provider[i], each, ttl))
	}
	n.mu.Unlock()
	time.Sleep(time.Duration(rounds) * 20 * time.Millisecond)
	return madeUp(d, k, ttl)
}

// hosts asks for the hosts of a domain, each of so many questions, and returns what is
// left of their TTL. mu is held.
func (n *names) hosts(provider int32, each uint64, own time.Duration) time.Duration {
	if provider < 0 {
		n.asked += each
		return own
	}
	life, now := time.Duration(n.hostTTL[provider])*time.Second, time.Now()
	if at, ok := n.kept[provider]; ok && now.Sub(at) < min(life/2, keptMost) {
		n.spared += each * hostsEach
		return life - now.Sub(at)
	}
	n.kept[provider] = now
	n.asked += each * hostsEach
	return life
}

// learn fetches a policy that is not known: two questions for its host's addresses, and
// one fetch. Afterwards it is fetched again within a day, as package mtasts wants it.
// mu is held.
func (n *names) learn(i int32, now time.Time) {
	if n.policy[i] {
		return
	}
	n.policy[i] = true
	n.fetches++
	n.asked += 2
	n.plan(i, now)
}

func (n *names) plan(i int32, now time.Time) {
	next := policyOf(int(i), now).NextTry.Unix() / 60
	n.due[next] = append(n.due[next], i)
}

// minute fetches the policies that are due.
func (n *names) minute(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := now.Unix() / 60
	for _, i := range n.due[at] {
		n.fetched++
		n.asked += 3 // _mta-sts TXT and two for the addresses
		n.plan(i, now)
	}
	delete(n.due, at)
}

// today is what one simulated day brought.
type today struct {
	deliveries, hits, misses, refreshes uint64
	asked, spared, fetches              uint64
	busiest                             uint64 // questions in the busiest minute
	entries                             int
	heap                                int64
}

// simulate plays the week. It runs in a bubble.
func simulate(t *testing.T, f *traffic, deliveries, days int) []today {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := int64(m.HeapAlloc)
	n := &names{traffic: f, kept: make(map[int32]time.Time), due: make(map[int64][]int32), policy: make(map[int32]bool)}
	e, err := engine.New(engine.Config{
		Gather: n.gather, Entries: million, MinTTL: 30 * time.Second, MaxTTL: day, RefreshAhead: true,
		Flights: 512, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var all []today
	mean := float64(deliveries) / float64(days) / day.Seconds()
	var last today
	for range days {
		now := last
		now.busiest = 0
		for range 24 * 60 {
			asked := n.asked
			n.minute(time.Now())
			for range 60 {
				for range f.poisson(mean) {
					now.deliveries++
					d := nexthop.Destination{Name: domain(pick(f.upTo, f.random.Float64())), Port: nexthop.SMTPPort}
					if _, ok := e.Cached(d); !ok {
						go e.Rule(context.Background(), d)
					}
				}
				time.Sleep(time.Second)
			}
			now.busiest = max(now.busiest, n.asked-asked)
		}
		synctest.Wait()
		s := e.Stats()
		now.hits, now.misses, now.refreshes, now.entries = s.Hits, s.Misses, s.Refreshes, s.Entries
		now.asked, now.spared, now.fetches = n.asked, n.spared, n.fetches+n.fetched
		all = append(all, since(now, last))
		last = now
	}
	runtime.GC()
	runtime.ReadMemStats(&m)
	all[len(all)-1].heap = int64(m.HeapAlloc) - before
	runtime.KeepAlive(e)
	return all
}

// since is what was added to counters.
func since(now, before today) today {
	d := now
	d.deliveries -= before.deliveries
	d.hits -= before.hits
	d.misses -= before.misses
	d.refreshes -= before.refreshes
	d.asked -= before.asked
	d.spared -= before.spared
	d.fetches -= before.fetches
	return d
}

// expected is what theory says of a steady state: a verdict that holds for T, of a
// domain that is asked for r times a second, is worked out once in 0.8 T + 1/r, by the
// first question after four fifths of its life; that question has to wait if it comes
// after the end of it, which happens with a probability of exp(-0.2 T r).
//
// So it is kept for 0.8 T and until that question, but no longer than T, of each cycle.
type expected struct{ hits, flights, kept float64 }

func (f *traffic) expect(perDay float64) (x expected) {
	before := 0.0
	for i := range f.upTo {
		part := f.upTo[i] - before
		before = f.upTo[i]
		r := part * perDay / day.Seconds()
		ttl := float64(f.ttl[i])
		if p := f.provider[i]; p >= 0 && kindOf(i) != sts {
			// What is known of hosts is between no and half of its life old.
			ttl = min(ttl, 0.75*float64(f.hostTTL[p]))
		}
		flights, late := 1/(0.8*ttl+1/r), math.Exp(-0.2*ttl*r)
		x.flights += flights
		x.hits += r - flights*late
		x.kept += flights * (0.8*ttl + (1-late)/r)
	}
	x.hits /= perDay / day.Seconds()
	return x
}

// fleet simulates a week of mail.
func fleet(_ context.Context, t *testing.T, _ *bench) (*section, error) {
	f := newTraffic()
	began := time.Now()
	var days []today
	synctest.Test(t, func(t *testing.T) { days = simulate(t, f, fleetDeliveries, fleetDays) })
	t.Logf("a week took %v", time.Since(began).Round(time.Second))
	var rows [][]string
	var sum today
	for i, d := range days {
		rows = append(rows, dayRow(fmt.Sprint(i+1), d, 1))
		sum.deliveries += d.deliveries
		sum.hits += d.hits
		sum.misses += d.misses
		sum.refreshes += d.refreshes
		sum.asked += d.asked
		sum.spared += d.spared
		sum.fetches += d.fetches
		sum.busiest = max(sum.busiest, d.busiest)
		sum.entries, sum.heap = max(sum.entries, d.entries), d.heap
	}
	rows = append(rows, dayRow("week", sum, fleetDays))
	head := []string{"day", "deliveries", "hits", "waited", "refreshed ahead", "DNS questions a second", "in the busiest minute", "spared: hosts known", "policy fetches", "verdicts kept"}
	var text strings.Builder
	text.WriteString(markdown(head, rows))
	fmt.Fprintf(&text, "\nMemory at the end of the week: %s alive, of which %d verdicts, the explanations of the last ones, and the simulation's own tables.\n", megabytes(sum.heap), sum.entries)
	f.extrapolate(&text, days)
	return &section{text: text.String()}, nil
}

func dayRow(name string, d today, days int) []string {
	seconds := float64(days) * day.Seconds()
	part := func(n uint64) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(d.deliveries)) }
	return []string{
		name, fmt.Sprint(d.deliveries), part(d.hits), part(d.misses), part(d.refreshes),
		fmt.Sprintf("%.1f", float64(d.asked)/seconds), fmt.Sprintf("%.1f", float64(d.busiest)/60),
		fmt.Sprintf("%.0f %%", 100*float64(d.spared)/float64(d.spared+d.asked)), fmt.Sprint(d.fetches), fmt.Sprint(d.entries),
	}
}

// extrapolate says what the same law means for more mail.
func (f *traffic) extrapolate(text *strings.Builder, days []today) {
	last := days[len(days)-1]
	perDay := float64(fleetDeliveries) / fleetDays
	each := float64(last.asked) / float64(last.misses+last.refreshes)
	var rows [][]string
	for _, n := range []float64{perDay, 10e6, 100e6, 1000e6} {
		x := f.expect(n)
		rows = append(rows, []string{
			fmt.Sprintf("%.1f million", n/1e6), fmt.Sprintf("%.0f", n/day.Seconds()), fmt.Sprintf("%.2f %%", 100*x.hits),
			fmt.Sprintf("%.0f", (1-x.hits)*n/day.Seconds()), fmt.Sprintf("%.0f", x.flights), fmt.Sprintf("%.0f", x.flights*each),
			fmt.Sprintf("%.0f", x.kept),
		})
	}
	measured := float64(last.misses+last.refreshes) / day.Seconds()
	fmt.Fprintf(text, "\nA verdict that holds for T, of a domain asked for r times a second, is worked out once in 0.8 T + 1/r seconds, and the question that causes it has to wait with a probability of exp(-0.2 T r). ")
	fmt.Fprintf(text, "Summed over all domains that gives the table; its first row is the simulated traffic, of which the last day had %.2f %% hits and %.1f domains worked out a second. A domain worked out cost %.1f questions.\n\n",
		100*float64(last.hits)/float64(last.deliveries), measured, each)
	text.WriteString(markdown([]string{"deliveries a day", "a second", "hits", "waiting, a second", "worked out, a second", "DNS questions a second", "verdicts kept"}, rows))
}
