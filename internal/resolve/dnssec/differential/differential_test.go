package differential

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// gate is set by "make differential"; a number is the seed.
const gate = "TLSVERDICT_DIFFERENTIAL"

// workload says how much is generated.
type workload struct{ sound, standing, damaged int }

func newGenerator(in *internet, seed uint64) *generator {
	return &generator{in: in, rand: rand.New(rand.NewPCG(seed, 1))}
}

// generate makes all specimens of a seed, the lab's zones among them.
func generate(in *internet, seed uint64, load workload) []*specimen {
	g := newGenerator(in, seed)
	all := g.labSpecimens()
	for range load.sound {
		all = append(all, g.sound())
	}
	for _, kind := range standings() {
		for range load.standing {
			all = append(all, g.standing(kind))
		}
	}
	for _, d := range damages() {
		for range load.damaged {
			if sp := g.damaged(d); sp != nil {
				all = append(all, sp)
			}
		}
	}
	return all
}

// judged holds what we say against what is true. Damage may make an answer fail, and
// never make it another.
func judged(sp *specimen, q question, got said, want truth) string {
	right := (got.rcode == want.rcode || want.either) && slices.Equal(got.records, content(want.records, q.rtype))
	switch {
	case got.worth == failed && (want.worth == failed || sp.damaged):
		return ""
	case got.worth == insecure && sp.damaged && want.worth == insecure:
		return "" // nobody vouches for what it says
	case got.worth != want.worth:
		return fmt.Sprintf("is %v, and we say %v", want.worth, got)
	case !right:
		return fmt.Sprintf("is %s %v, and we say %v %v", dns.RcodeToString[want.rcode], content(want.records, q.rtype), got, got.records)
	}
	return ""
}

// TestTruth holds our validator against the zones themselves, without any other. It is
// small, and needs nothing that is not here.
func TestTruth(t *testing.T) {
	in := newInternet(t)
	specimens := generate(in, 1, workload{sound: 12, standing: 1, damaged: 1})
	us := newOurs(t, in)
	for _, sp := range specimens {
		for _, q := range sp.asks {
			if problem := judged(sp, q, us.ask(q), in.truth(q)); problem != "" {
				t.Errorf("%s %v %s: %v %s", sp.top, sp.kind, sp.dom.style, q, problem)
			}
		}
	}
}

// tally counts.
type tally struct {
	mu        sync.Mutex
	questions map[string]int
	agreed    map[string]int
	explained map[string]map[string]int
	open      []string
}

func (c *tally) count(cmp comparison) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.questions[cmp.peer]++
	if cmp.ours.same(cmp.them) {
		c.agreed[cmp.peer]++
		return
	}
	if e := explain(cmp); e != nil {
		if c.explained[e.name] == nil {
			c.explained[e.name] = make(map[string]int)
		}
		c.explained[e.name][cmp.peer]++
		return
	}
	c.open = append(c.open, fmt.Sprintf("%s %s (%v, %d iterations) %v\n\ttrue: %v %s\n\tours: %v\n\t%s: %v", cmp.sp.top, cmp.sp.kind, cmp.sp.dom.style, cmp.sp.dom.iterations,
		cmp.q, cmp.true.worth, dns.RcodeToString[cmp.true.rcode], cmp.ours, cmp.peer, cmp.them))
}

// TestDifferential asks everyone the same, and prints the figures of docs/dnssec.md.
func TestDifferential(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv(gate), 10, 64)
	if err != nil {
		t.Logf("not run: %s is not set to a seed; 'make differential' sets it", gate)
		return
	}
	in := newInternet(t)
	specimens := generate(in, seed, workload{sound: 300, standing: 14, damaged: 16})
	addr := in.serve(t)
	peers := findPrograms(t)
	us, them, slow := newOurs(t, in), startUnbound(peers, in.anchors(), addr), newDelv(peers, in, addr)
	fmt.Printf("%s, %s\n", peers.version(unboundPath, "-V"), peers.version(delvPath, "-v"))
	c := &tally{questions: make(map[string]int), agreed: make(map[string]int), explained: make(map[string]map[string]int)}
	t.Run("ask", func(t *testing.T) {
		work := make(chan *specimen)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for sp := range work {
					for i, q := range sp.asks {
						cmp := comparison{in: in, sp: sp, q: q, ours: us.ask(q), true: in.truth(q)}
						if problem := judged(sp, q, cmp.ours, cmp.true); problem != "" {
							t.Errorf("%s %v %s: %v %s", sp.top, sp.kind, sp.dom.style, q, problem)
						}
						cmp.peer, cmp.them = "unbound", them.ask(q)
						c.count(cmp)
						if sp.sampled && (i == 0 || sp.kind == "lab" && i < 4) {
							cmp.peer, cmp.them = "delv", slow.ask(q)
							c.count(cmp)
						}
					}
				}
			})
		}
		for _, sp := range specimens {
			work <- sp
		}
		close(work)
		group.Wait()
	})
	c.report(t, len(specimens), seed)
}

func (c *tally) report(t *testing.T, specimens int, seed uint64) {
	slices.Sort(c.open)
	for _, text := range c.open {
		t.Errorf("not explained: %s", text)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d specimens\n", seed, specimens)
	for _, peer := range []string{"unbound", "delv"} {
		fmt.Fprintf(&b, "%s: %d questions, %d agree\n", peer, c.questions[peer], c.agreed[peer])
		for _, e := range explanations() {
			if n := c.explained[e.name][peer]; n > 0 {
				fmt.Fprintf(&b, "\t%5d  %s\n", n, e.name)
			}
		}
	}
	fmt.Fprintf(&b, "%d not explained\n", len(c.open))
	fmt.Print(b.String())
}
