package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tlsverdict/internal/daemon"
	"tlsverdict/internal/program"
	"tlsverdict/internal/snippet"
)

// snippetFlags are what "snippet" was told.
type snippetFlags struct {
	file, socket, root, version string
	json, commands              bool
}

func newSnippet(s streams) *cobra.Command {
	var flags snippetFlags
	cmd := &cobra.Command{
		Use:   "snippet postfix|exim|sendmail",
		Short: "print the configuration that has a mail server ask policyd",
		Long: `Prints what to paste into the configuration of a mail server, so that it asks policyd:
for the version that is installed here, and for how it is set up. Where none is, for
the newest, or for the one that --version names. Changes nothing.

With --commands, for Postfix, the same as a shell script for root.

Exit codes: 0 printed, 1 that mail server cannot ask policyd, 2 it is here and does not
say what it is, 3 usage.`,
		Example:   "  policyd snippet postfix\n  policyd snippet postfix --commands | sh\n  policyd snippet exim --version 4.98",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"postfix", "exim", "sendmail"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.print(cmd.Context(), args[0], s)
		},
	}
	configFlag(cmd, &flags.file)
	socketFlag(cmd, &flags.socket)
	cmd.Flags().StringVar(&flags.root, "root", "", "look at the machine in this `directory`; needs root")
	cmd.Flags().StringVar(&flags.version, "version", "", "print for this `version`, whatever is installed")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&flags.commands, "commands", false, "print commands in the place of lines; Postfix only")
	return cmd
}

func (f *snippetFlags) print(ctx context.Context, mta string, s streams) error {
	if f.commands && mta != "postfix" {
		return exit{exitUsage, errors.New("--commands: postconf(1) changes the configuration of Postfix; for others there is no such program")}
	}
	if err := enter(f.root); err != nil {
		return exit{exitUsage, err}
	}
	address, err := socketAddress(f.socket, f.file)
	if err != nil {
		return err
	}
	cfg, err := daemon.LoadConfig(f.file)
	if err != nil {
		return exit{exitUsage, err}
	}
	snip, err := daemon.Snippet(ctx, cfg, program.Here(), daemon.SnippetRequest{MTA: mta, Version: f.version, Address: address})
	switch {
	case errors.Is(err, snippet.ErrUnfit):
		return exit{exitNegative, err}
	case err != nil:
		return exit{exitTemporary, fmt.Errorf("%w; --version prints for a version without looking", err)}
	}
	return f.write(snip, s.out)
}

func (f *snippetFlags) write(snip snippet.Snippet, out io.Writer) error {
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(snip)
	}
	text := snip.Text()
	if f.commands {
		text = snip.Commands()
	}
	_, err := io.WriteString(out, text)
	return err
}
