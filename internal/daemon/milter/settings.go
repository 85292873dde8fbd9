package milter

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"tlsverdict/internal/config"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/milterd"
)

// DefaultFile is read when no other is named; it need not exist.
const DefaultFile = "/etc/tlsverdict/milter.toml"

// Load reads the named file; with no name DefaultFile, or the defaults where that
// does not exist. Errors are *daemon.ConfigError.
func Load(name string) (*config.Milter, error) {
	cfg, err := config.LoadMilter(cmp.Or(name, DefaultFile))
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
			Line: q.Line, User: q.User, HeaderName: q.HeaderName, HeaderValue: q.HeaderValue, SubjectTag: q.SubjectTag,
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
