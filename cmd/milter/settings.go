package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"tlsverdict/internal/config"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/milterd"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/store"
	"tlsverdict/postfixmap"
)

// defaultFile is read when no other is named; it need not exist.
const defaultFile = "/etc/tlsverdict/milter.toml"

// load reads the named file; with no name defaultFile, or the defaults where that
// does not exist. Errors are *daemon.ConfigError.
func load(name string) (*config.Milter, error) {
	cfg, err := config.LoadMilter(cmp.Or(name, defaultFile))
	switch {
	case err == nil:
		return cfg, nil
	case name == "" && errors.Is(err, fs.ErrNotExist):
		return config.DefaultMilter(), nil
	}
	return nil, &daemon.ConfigError{Cause: err}
}

// rules turns [[require]] entries into rules. Errors are *daemon.ConfigError.
func rules(cfg *config.Milter) (milterd.Rules, error) {
	var all milterd.Rules
	var problems config.Problems
	for i, q := range cfg.Require {
		r := milterd.Rule{
			Line: q.Line, HeaderName: q.HeaderName, HeaderValue: q.HeaderValue, SubjectTag: q.SubjectTag,
			Minimum: minimum(q.Minimum), Action: action(q.Action),
		}
		if q.Authenticated != nil {
			r.Login = milterd.NotLoggedIn
			if *q.Authenticated {
				r.Login = milterd.LoggedIn
			}
		}
		var err error
		if r.Sender, err = milterd.ParsePattern(q.Sender); err != nil {
			problems = append(problems, fault(cfg, i, "sender", err))
		}
		if r.Recipient, err = milterd.ParsePattern(q.Recipient); err != nil {
			problems = append(problems, fault(cfg, i, "recipient", err))
		}
		all = append(all, r)
	}
	if problems != nil {
		return nil, &daemon.ConfigError{Cause: problems}
	}
	return all, nil
}

// fault says what is wrong with a pattern, without the word that Go programs need.
func fault(cfg *config.Milter, n int, name string, err error) config.Problem {
	text := strings.TrimPrefix(err.Error(), milterd.ErrPattern.Error()+": ")
	return cfg.Fault(n, name, fmt.Errorf("require.%s: %s", name, text))
}

func minimum(word string) milterd.Level {
	switch word {
	case "encrypted":
		return milterd.Encrypted
	case "authenticated":
		return milterd.Authenticated
	case "dane":
		return milterd.ByDANE
	}
	panic(fmt.Sprintf("milter: minimum %q", word))
}

func action(word string) milterd.Action {
	switch word {
	case "reject":
		return milterd.Reject
	case "tempfail":
		return milterd.Tempfail
	case "hold":
		return milterd.Hold
	case "annotate":
		return milterd.Annotate
	}
	panic(fmt.Sprintf("milter: action %q", word))
}

// settings makes what the milter is run by.
func settings(cfg *config.Milter, asker milterd.Asker) (*milterd.Settings, error) {
	all, err := rules(cfg)
	if err != nil {
		return nil, err
	}
	set := &milterd.Settings{
		Rules: all, Asker: asker, Deadline: cfg.Deadline, Header: cfg.Header, Prefetch: cfg.Prefetch,
		LocalMailers: make(map[string]bool), LocalDomains: make(map[string]bool),
	}
	if cfg.AcceptOnError {
		set.OnError = milterd.ErrorAccept
	}
	for _, name := range cfg.LocalMailers {
		set.LocalMailers[name] = true
	}
	for _, name := range cfg.LocalDomains {
		set.LocalDomains[name] = true
	}
	return set, nil
}

// source is where verdicts come from: a policyd, or this process.
type source interface {
	milterd.Asker
	Close() error
}

// inProcess decides here.
type inProcess struct{ stack *daemon.Stack }

// Ask works the verdict out, or knows it.
func (p inProcess) Ask(ctx context.Context, d nexthop.Destination) (*explain.Report, error) {
	// No reply that an MTA gets is in the report: there is no mode in which
	// verdicts are reached and not told.
	return explain.New(p.stack.Engine.Explain(ctx, d)), nil
}

// Warm works the verdict out.
func (p inProcess) Warm(ctx context.Context, d nexthop.Destination) error {
	p.stack.Engine.Rule(ctx, d)
	return nil
}

// Close ends it.
func (p inProcess) Close() error {
	p.stack.Close()
	return nil
}

// newSource connects to policyd, or starts what policyd is made of. st is for the
// latter.
func newSource(cfg *config.Milter, st *store.Store, log *slog.Logger) (source, error) {
	if cfg.Verdicts != (postfixmap.Address{}) {
		return milterd.NewPolicyd(cfg.Verdicts), nil
	}
	stack, err := daemon.NewStack(cfg.Policyd, st, daemon.Network{}, log)
	if err != nil {
		// Nothing was opened but what the configuration names.
		return nil, &daemon.ConfigError{Cause: err}
	}
	return inProcess{stack}, nil
}

// check tries a configuration. Errors are *daemon.ConfigError.
func check(cfg *config.Milter) error {
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

// openStore opens the policies of a milter that decides here; nil for one that does
// not. A file that cannot be had leaves them in memory.
func openStore(cfg *config.Milter, log *slog.Logger) (*store.Store, error) {
	if cfg.Verdicts != (postfixmap.Address{}) {
		return nil, nil
	}
	path := cfg.Policyd.Store.Path
	st, err := store.Open(path, log)
	if errors.Is(err, store.ErrLocked) {
		return nil, &daemon.ConfigError{Cause: fmt.Errorf("%w: is another milter, or policyd, running? [store] path names another file", err)}
	}
	if err == nil || path == "" {
		return st, err
	}
	log.Error("MTA-STS policies are kept in memory only and forgotten at the next restart", "store", path, "error", err)
	return store.Open("", log)
}
