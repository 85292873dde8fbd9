package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"tlsverdict/internal/migrate"
)

func newMigrate(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "migrate FILE",
		Short: "make policyd.toml of another daemon's configuration",
		Long: `Reads the configuration of postfix-mta-sts-resolver (mta-sts-daemon.yml) or of
postfix-tlspol (config.yaml) and prints policyd.toml, with the line for main.cf and
what else there is to know as comments.
Exit codes: 0 fine, 1 the file cannot be read, or is of neither, 3 usage.`,
		Example: "  policyd migrate /etc/mta-sts-daemon.yml >/etc/tlsverdict/policyd.toml",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return exit{exitNegative, fmt.Errorf("%s: %w", args[0], errors.Unwrap(err))}
			}
			r, err := migrate.Read(text)
			if err != nil {
				return exit{exitNegative, fmt.Errorf("%s: %w", args[0], err)}
			}
			_, err = fmt.Fprint(s.out, r.TOML)
			return err
		},
	}
}
