package daemon

import (
	"fmt"
	"log/slog"

	"tlsverdict/internal/config"
	"tlsverdict/internal/fleet"
	"tlsverdict/internal/gather"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
)

// newFleet makes this host's part in a fleet; nil where nothing is shared. It connects to
// nothing before it runs.
func (s *Stack) newFleet(st *store.Store, log *slog.Logger) (*fleet.Node, error) {
	shared := &s.cfg.Store.Shared
	if !shared.On() {
		return nil, nil
	}
	server, key, err := sharedServer(shared)
	if err != nil {
		return nil, &ConfigError{err}
	}
	return fleet.New(fleet.Config{
		Server: server, Key: key, Store: st,
		Policies: s.cfg.MTASTS.Mode != verdict.Off, Pins: learns(s.cfg),
		// Nothing is learned before the engine is there.
		RaisedPolicy: func(domain string) { s.Engine.Raise(domain) },
		RaisedPin: func(host string) {
			for _, domain := range s.banners.domains(host) {
				s.Engine.Raise(domain)
			}
		},
		Log: log,
	}), nil
}

// sharedServer reads what the settings name.
func sharedServer(shared *config.Shared) (s fleet.Server, k fleet.Key, err error) {
	secret, err := shared.Key()
	if err != nil {
		return s, k, err
	}
	if secret != nil {
		if k, err = fleet.NewKey(secret); err != nil {
			return s, k, fmt.Errorf("store.shared_key_file: %w", err)
		}
	}
	s = fleet.Server{Addresses: shared.Addresses, Master: shared.Master, DB: shared.DB, User: shared.User, Form: sharedForm(shared.Form)}
	if s.Password, err = shared.Password(); err != nil {
		return s, k, err
	}
	s.TLS, err = shared.Secure()
	return s, k, err
}

func sharedForm(f config.SharedForm) fleet.Form {
	switch f {
	case config.SharedSingle:
		return fleet.Single
	case config.SharedSentinel:
		return fleet.Sentinel
	case config.SharedCluster:
		return fleet.Cluster
	}
	panic(fmt.Sprintf("daemon: form of shared store %d", f))
}

// others is what asks the fleet; nil for none.
func others(n *fleet.Node) gather.Fleet {
	if n == nil {
		return nil
	}
	return n
}

// Alone is a configuration without a fleet, for what works something out once, perhaps as a
// user who may not read the fleet's key.
func Alone(cfg *config.Config) *config.Config {
	own := *cfg
	own.Store.Shared = config.Shared{}
	return &own
}

// checkShared reads the files that a shared store needs.
func checkShared(shared *config.Shared) (warnings []string, err error) {
	if !shared.On() {
		return nil, nil
	}
	if warnings, err = shared.CheckFiles(); err != nil {
		return nil, err
	}
	_, _, err = sharedServer(shared)
	return warnings, err
}
