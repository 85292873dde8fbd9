package milter

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"

	"tlsverdict/internal/config"
	"tlsverdict/internal/confine"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/milterd"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// source is where verdicts come from: a policyd, or this process.
type source interface {
	milterd.Asker
	// Start begins the work in the background, if there is any.
	Start()
	Close() error
}

// asked is a policyd that decides.
type asked struct{ *milterd.Policyd }

// Start does nothing: policyd works in a process of its own.
func (asked) Start() {}

// inProcess decides here.
type inProcess struct{ stack *daemon.Stack }

// Ask works the verdict out, or knows it. There is no mode here in which verdicts are
// reached and not told.
func (p inProcess) Ask(ctx context.Context, d nexthop.Destination) (milterd.Verdict, error) {
	r := p.stack.Engine.Rule(ctx, d)
	v, err := milterd.NewVerdict(r.Verdict.Name(), r.Source.String())
	if deferred, ok := r.Verdict.(verdict.Defer); ok {
		v.Fault = deferred.Fault.String()
	}
	return v, err
}

// Warm works the verdict out.
func (p inProcess) Warm(ctx context.Context, d nexthop.Destination) error {
	p.stack.Engine.Rule(ctx, d)
	return nil
}

// Why looks at the facts.
func (p inProcess) Why(ctx context.Context, d nexthop.Destination, v milterd.Verdict) string {
	return milterd.Why(explain.New(p.stack.Engine.Explain(ctx, d)), v)
}

// Start watches the resolvers and refreshes policies.
func (p inProcess) Start() { p.stack.Start() }

// Close ends it.
func (p inProcess) Close() error {
	p.stack.Close()
	return nil
}

// newSource connects to policyd, or starts what policyd is made of. st is for the
// latter.
func newSource(cfg *config.Milter, st *store.Store, log *slog.Logger) (source, error) {
	if cfg.Verdicts != (postfixmap.Address{}) {
		return asked{milterd.NewPolicyd(cfg.Verdicts, log)}, nil
	}
	stack, err := daemon.NewStack(cfg.Policyd, st, daemon.Network{}, log)
	if err != nil {
		// Nothing was opened but what the configuration names.
		return nil, &daemon.ConfigError{Cause: err}
	}
	return inProcess{stack}, nil
}

// Check tries a configuration, but opens nothing that is kept. Errors are *daemon.ConfigError.
func Check(cfg *config.Milter) error {
	if _, err := rules(cfg); err != nil {
		return err
	}
	silent := slog.New(slog.DiscardHandler)
	st, err := store.Open("", silent)
	if err != nil {
		return err
	}
	s, err := newSource(cfg, st, silent)
	if err == nil {
		err = s.Close()
	}
	return errors.Join(err, st.Close())
}

// storePath is the file of policies of a milter that decides here; "" for one that does
// not.
func storePath(cfg *config.Milter) string {
	if cfg.Verdicts != (postfixmap.Address{}) {
		return ""
	}
	return cfg.Policyd.Store.Path
}

// needs is what the milter does after its start: it decides, or asks a policyd.
func needs(ctx context.Context, cfg *config.Milter) confine.Needs {
	n := daemon.Base(cfg.Policyd)
	if cfg.Verdicts == (postfixmap.Address{}) {
		n = daemon.NeedsOf(ctx, cfg.Policyd, daemon.Network{})
	}
	n.Remove = daemon.Sockets(cfg.Listen)
	if cfg.Verdicts.Network() == "tcp" {
		if _, port, err := net.SplitHostPort(cfg.Verdicts.Endpoint()); err == nil {
			if p, err := strconv.ParseUint(port, 10, 16); err == nil {
				n.Connect = append(n.Connect, uint16(p))
			}
		}
	}
	return n
}

// openStore opens the policies of a milter that decides here; nil for one that does
// not.
func openStore(cfg *config.Milter, log *slog.Logger) (*store.Store, error) {
	if cfg.Verdicts != (postfixmap.Address{}) {
		return nil, nil
	}
	return daemon.OpenStore(cfg.Policyd.Store.Path, log)
}
