package daemon

import (
	"context"
	"log/slog"
	"sync"

	"tlsverdict/internal/config"
	"tlsverdict/internal/gather"
	"tlsverdict/internal/impact"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/store"
	"tlsverdict/internal/survey"
)

// ruleAtOnce is how many domains are worked out at once for Rulings: enough to keep the
// network busy, and little to a resolver that mail also needs.
const ruleAtOnce = 32

// Impact learns what a forecast needs, in this process.
type Impact struct {
	// Config is required.
	Config  *config.Config
	Through Network
}

// Rulings works out the verdicts on domains in this process, and tells of each as it comes,
// one at a time, in no particular order. It returns early, with the error, when ctx ends or
// tell fails. Names that are no domains are told of as unruled.
func (i Impact) Rulings(ctx context.Context, domains []string, tell func(domain string, r impact.Ruled) error) error {
	cfg, through := i.Config, i.Through
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open("", log)
	if err != nil {
		return err
	}
	// What is demanded is asked, not what this host's Postfix can be told of it.
	own := *Alone(cfg)
	own.Postfix.DANE = config.DANENative
	stack, err := NewStack(&own, st, through, log)
	if err != nil {
		return err
	}
	defer func() {
		stack.Close()
		// A store in memory has nothing to lose.
		_ = st.Close()
	}()
	return each(ctx, domains, func(ctx context.Context, domain string) func() error {
		r := rule(ctx, stack, domain)
		return func() error { return tell(domain, r) }
	})
}

// each works for names, ruleAtOnce at once, and runs what work returns one at a time. It
// ends early, with the error, when ctx ends or one of those fails.
func each(ctx context.Context, names []string, work func(ctx context.Context, name string) (tell func() error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		next    = make(chan string)
	)
	for range ruleAtOnce {
		workers.Go(func() {
			for name := range next {
				tell := work(ctx, name)
				if ctx.Err() != nil {
					return // what comes of work that was given up is nothing
				}
				mu.Lock()
				err := tell()
				mu.Unlock()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, name := range names {
		select {
		case next <- name:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

func rule(ctx context.Context, s *Stack, domain string) impact.Ruled {
	d, err := nexthop.Parse(domain)
	if err != nil {
		return impact.Ruled{}
	}
	r := s.Engine.Rule(ctx, d)
	return impact.Ruled{Verdict: r.Verdict, Source: r.Source}
}

// Showing connects to the mail hosts of domains, to each host once, and tells of each
// domain what they showed, one at a time.
func (i Impact) Showing(ctx context.Context, domains []string, tell func(domain string, hosts []impact.Shown) error) error {
	cfg, through := i.Config, i.Through
	log := slog.New(slog.DiscardHandler)
	r, err := newResolver(cfg, through, log)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := newFetcher(cfg, through, r)
	if err != nil {
		return err
	}
	v := visitor{cfg, through, r, f.Roots, log, new(probe.Visits)}
	s := &showing{visitor: v, hello: v.helo(ctx), known: make(map[string]func() impact.Shown)}
	return each(ctx, domains, func(ctx context.Context, domain string) func() error {
		hosts := s.domain(ctx, domain)
		return func() error { return tell(domain, hosts) }
	})
}

// showing remembers what hosts showed, since many domains share them.
type showing struct {
	visitor
	hello string

	mu    sync.Mutex
	known map[string]func() impact.Shown
}

// domain looks at the mail hosts of a domain.
func (s *showing) domain(ctx context.Context, domain string) []impact.Shown {
	d, err := nexthop.Parse(domain)
	if err != nil {
		return nil
	}
	g := &gather.Gatherer{Open: func() gather.Session { return s.resolver.Session() }, Log: s.log}
	facts := g.Facts(ctx, d)
	hosts := facts.Hosts[:min(len(facts.Hosts), survey.MaxHosts)]
	shown := make([]impact.Shown, len(hosts))
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() { shown[i] = s.host(ctx, probe.Target{Host: hosts[i].Name, Port: d.Port, Kind: probe.StartTLS}) })
	}
	wg.Wait()
	return shown
}

// host looks at one host, once.
func (s *showing) host(ctx context.Context, t probe.Target) impact.Shown {
	s.mu.Lock()
	look := s.known[t.Host]
	if look == nil {
		look = sync.OnceValue(func() impact.Shown {
			client := s.client(t.Port)
			client.Hello = s.hello
			return s.seen(client.Probe(ctx, t))
		})
		s.known[t.Host] = look
	}
	s.mu.Unlock()
	return look()
}

// seen is what a probe's result says to a forecast.
func (s *showing) seen(r probe.Result) impact.Shown {
	out := impact.Shown{Host: r.Target.Host, DANE: r.By == probe.ByDANE}
	if len(r.Chain) == 0 {
		out.Failure = "no TLS"
		if r.Err != nil {
			out.Failure, out.Silent = r.Err.Detail, r.Err.Silent() || r.Err.Stage == probe.Connect
		}
		return out
	}
	if err := survey.Vouched(r.Chain, r.Target.Host, s.roots); err != nil {
		out.Why = err.Error()
		return out
	}
	out.WebPKI = true
	return out
}
