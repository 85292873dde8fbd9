package main

import (
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"tlsverdict/internal/daemon"
	"tlsverdict/internal/doctor"
	"tlsverdict/internal/finding"
	"tlsverdict/internal/nexthop"
)

// doctorFlags are what "doctor" was told.
type doctorFlags struct {
	file, root, probe string
	json              bool
}

func newDoctor(s streams) *cobra.Command {
	var flags doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "what the verdicts stand on at this host, and the line that mends it",
		Long: `Looks at what the verdicts stand on: the resolver, the clock, trust anchors and CA
roots, the daemon and its store, and the settings of the mail servers on this host.
Says what was looked at, what was found, why it matters, and the line that mends it.
It changes nothing. Run it as root: what it may not read, it says so.

Port 25 is tried only with --probe, which names a domain to whose mail hosts a connection
is made: one that you know to be up.

With --root the machine is that directory: all names are those inside, and the mail
server's own programs run there by chroot(2).

Exit codes, for monitoring: 0 nothing is wrong, 1 errors or warnings, 2 something could
not be looked at, 3 usage.`,
		Example: "  policyd doctor\n  policyd doctor --probe example.com --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := enter(flags.root); err != nil {
				return exit{exitUsage, err}
			}
			what := daemon.Examination{ConfigFile: flags.file}
			if flags.probe != "" {
				d, err := nexthop.Parse(flags.probe)
				if err != nil {
					return exit{exitUsage, fmt.Errorf("--probe %q: %w", flags.probe, err)}
				}
				what.Probe = d
			}
			findings := doctor.Judge(daemon.Examine(cmd.Context(), what, daemon.Network{}))
			result := doctor.NewResult(findings)
			write := result.WriteText
			if flags.json {
				write = result.WriteJSON
			}
			if err := write(s.out); err != nil {
				return err
			}
			return doctorStatus(findings)
		},
	}
	configFlag(cmd, &flags.file)
	cmd.Flags().BoolVar(&flags.json, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&flags.probe, "probe", "", "connect to port 25 of the mail hosts of this `domain` as well")
	cmd.Flags().StringVar(&flags.root, "root", "", "look at the machine in this `directory`; needs root")
	return cmd
}

// enter makes a directory the root of this process, and of what it runs: the machine in
// it is examined as it is.
func enter(root string) error {
	if root == "" {
		return nil
	}
	if err := syscall.Chroot(root); err != nil {
		return fmt.Errorf("--root %s: %w", root, err)
	}
	return os.Chdir("/")
}

// doctorStatus is the exit status: what is wrong goes before what could not be looked at.
func doctorStatus(findings []doctor.Finding) error {
	all := doctor.Severities(findings)
	switch worst := finding.Worst(all); {
	case worst == finding.Error || worst == finding.Warning:
		return exit{code: exitNegative}
	case slices.Contains(all, finding.Unknown):
		return exit{code: exitTemporary}
	}
	return nil
}
