package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"tlsverdict/internal/daemon"
	"tlsverdict/internal/lint"
	"tlsverdict/internal/nexthop"
)

func newLint(s streams) *cobra.Command {
	var (
		file   string
		asJSON bool
		probe  bool
	)
	cmd := &cobra.Command{
		Use:   "lint DOMAIN",
		Short: "what is wrong with a domain's own signals, for its owner",
		Long: `Looks at what a domain publishes for those who send to it: MX records and their
DNSSEC signatures, TLSA records, MTA-STS, TLS reports, the MX prefix and the
strict-TLS record. Says what is wrong, what it does to mail, and how to mend it. It
works without a daemon.
Exit codes: 0 no errors, 1 errors, 2 it could not be looked at, 3 usage.`,
		Example: "  policyd lint example.com\n  policyd lint --probe --json example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := nexthop.Parse(args[0])
			if err != nil {
				return exit{exitUsage, fmt.Errorf("%q: %w", args[0], err)}
			}
			cfg, err := daemon.LoadConfig(file)
			if err != nil {
				return exit{exitUsage, err}
			}
			look := daemon.Lint
			if probe {
				look = daemon.LintProbing
			}
			findings, err := look(cmd.Context(), cfg, daemon.Network{}, d)
			if err != nil {
				return exit{exitTemporary, err}
			}
			result := lint.NewResult(d.String(), findings)
			write := result.WriteText
			if asJSON {
				write = result.WriteJSON
			}
			if err := write(s.out); err != nil {
				return err
			}
			return lintStatus(findings)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&probe, "probe", false, "connect to the mail hosts, and look at their certificates")
	return cmd
}

// lintStatus is the exit status: an error of the domain goes before what could not be
// looked at. Certificates that nobody asked for are no such thing.
func lintStatus(findings []lint.Finding) error {
	if lint.Worst(findings) == lint.Error {
		return exit{code: exitNegative}
	}
	if slices.ContainsFunc(findings, func(f lint.Finding) bool { return f.Severity == lint.Unknown && f.Code != lint.NotProbed }) {
		return exit{code: exitTemporary}
	}
	return nil
}
