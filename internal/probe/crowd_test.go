package probe

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"
)

// of is a host of a domain.
func of(domain string, n int) Target {
	return Target{Host: fmt.Sprintf("smtps-%d.%s", n, domain), Port: 26, Kind: Implicit}
}

// TestCrowdOfOneDomain: one stranger with more hosts than there are places leaves others
// theirs, and others' hosts are probed at once, although his came first.
func TestCrowdOfOneDomain(t *testing.T) {
	h := &hosts{err: resets()}
	bubble(t, h, 0, func(t *testing.T, p *Prober) {
		for i := range maxTargets + 100 {
			p.Want(of("hostile.example", i))
		}
		if s := p.Stats(); s.Targets != maxTargets || s.Refused != 100 {
			t.Errorf("%+v", s)
		}
		h.become(nil)
		for i := range 3 {
			p.Want(of(fmt.Sprintf("d%d.com", i), 0))
		}
		pass(2 * time.Second)
		for i := range 3 {
			if host := of(fmt.Sprintf("d%d.com", i), 0); !p.Good(host) {
				t.Errorf("%s waits behind a crowd: %+v", host.Host, p.State(host))
			}
		}
		if s := p.Stats(); s.Targets != maxTargets || s.Refused != 100 {
			t.Errorf("%+v", s)
		}
	})
}

// TestNamesOfOneOwner: names below one registered domain are one owner's, and those of
// customers of one public suffix are not.
func TestNamesOfOneOwner(t *testing.T) {
	for host, want := range map[string]string{
		"smtps-mx.example.com": "example.com", "smtps-a.b.c.example.com": "example.com", "smtps-mx.example.co.uk": "example.co.uk",
		"smtps-mx.one.github.io": "one.github.io", "com": "com", "localhost": "localhost",
	} {
		if got := owner(host); got != want {
			t.Errorf("%s is %s's, want %s", host, got, want)
		}
	}
}

// TestEvict: whom nobody wants goes first; then one of who has most, and of his not one
// that was just wanted; who has most himself gets no place.
func TestEvict(t *testing.T) {
	p := New(Config{Random: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler)})
	for i := range maxTargets - 10 {
		p.Want(of("large.com", i))
	}
	for i := range 10 {
		p.Want(of("small.com", i))
	}
	p.Good(of("large.com", 0))
	p.setIdle(p.known[of("small.com", 3)])
	p.Want(of("new.com", 0))
	if p.known[of("small.com", 3)] != nil || p.known[of("new.com", 0)] == nil {
		t.Error("the one that nobody wants is not the one that goes")
	}
	p.Want(of("new.com", 1))
	if p.known[of("large.com", 0)] == nil || p.known[of("large.com", 1)] != nil || p.known[of("new.com", 1)] == nil {
		t.Error("the one that nobody has wanted for longest is not the one that goes")
	}
	p.Want(of("large.com", maxTargets))
	if p.known[of("large.com", maxTargets)] != nil || p.Stats().Refused != 1 {
		t.Error("who has most gets one more")
	}
	p.hold(t)
}

// hold: what is kept in several places is the same in all.
func (p *Prober) hold(t *testing.T) {
	t.Helper()
	size, waiting := 0, 0
	for name, g := range p.groups {
		size += g.size
		waiting += len(g.waiting)
		if g.size != g.seen.Len() || g.size == 0 || p.sizes[g.sized] != g || (g.turn >= 0) != (len(g.waiting) > 0) || g.turn >= 0 && p.crowd[g.turn] != g {
			t.Fatalf("%s: %+v", name, g)
		}
		if g.turn > 0 && g.due().Before(p.crowd[0].due()) || g.size > p.sizes[0].size {
			t.Fatalf("%s is not in its turn", name)
		}
	}
	running, idle := 0, 0
	for _, n := range p.known {
		if n.running || n.in == nil {
			running++
		}
		if n.idle != nil {
			idle++
		}
	}
	if size != len(p.known) || len(p.groups) != len(p.sizes) || waiting+len(p.believed)+running != size || idle != p.idle.Len() {
		t.Fatalf("%d hosts, %d in groups, %d wait, %d believed, %d in none, %d idle of %d", len(p.known), size, waiting, len(p.believed), running, idle, p.idle.Len())
	}
}

// TestAnyOrder: whatever is wanted and comes of it in whatever order, the books are right.
func TestAnyOrder(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	p := New(Config{Random: dice.Float64, Log: slog.New(slog.DiscardHandler)})
	var under []*entry
	for range 20_000 {
		host := of(fmt.Sprintf("d%d.com", dice.IntN(20)), dice.IntN(30))
		switch dice.IntN(6) {
		case 0, 1:
			p.Want(host)
		case 2:
			p.Renew(host)
		case 3:
			p.next = time.Time{}
			if n, _ := p.take(); n != nil {
				under = append(under, n)
			}
		case 4:
			if len(under) > 0 {
				n := under[0]
				under = under[1:]
				r := &Result{Target: n.target}
				if dice.IntN(2) == 0 {
					r.Err = resets()
				}
				p.keep(n, r, time.Duration(dice.IntN(3))*time.Millisecond)
			}
		case 5:
			if n := p.known[host]; n != nil && !n.running && n.in != nil {
				p.rest(n, time.Now())
			}
		}
		p.hold(t)
	}
	if len(p.known) < 100 {
		t.Errorf("%d hosts: the test means nothing", len(p.known))
	}
}

// BenchmarkFull is a newcomer where there is no place.
func BenchmarkFull(b *testing.B) {
	p := New(Config{Random: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler)})
	for i := range maxTargets {
		p.Want(of("large.com", i))
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		p.Want(of(fmt.Sprintf("d%d.com", n%100_000), n))
		n++
	}
}
