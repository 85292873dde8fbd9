// Milter judges mail when the mail server accepts it: whether the next hop of each
// recipient is protected as well as this mail needs.
//
// See "milter help" and docs/milter.md. Exit codes: 0 fine, 1 a negative answer,
// 2 cannot start or a listener was lost, 3 wrong usage or configuration.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tlsverdict/internal/confine"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/daemon/milter"
	"tlsverdict/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// Exit codes, as those of policyd.
const (
	exitFine = iota
	exitNegative
	exitTemporary
	exitUsage
)

// exit is an error that knows its exit code.
type exit struct {
	code  int
	cause error
}

func (e exit) Error() string { return e.cause.Error() }
func (e exit) Unwrap() error { return e.cause }

// streams are where a command writes.
type streams struct{ out, err io.Writer }

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitFine
	}
	e := exit{code: exitUsage, cause: err}
	errors.As(err, &e)
	fmt.Fprintf(s.err, "milter: %v\n", e.cause)
	return e.code
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   called(os.Args[0]),
		Short: "judges at acceptance how well mail is protected on its way on",
		Long: `milter speaks the milter protocol of Postfix and Sendmail. For each recipient it
asks policyd how strict TLS will be on the way to the next hop, and refuses,
defers, holds or marks mail that needs more than that.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(newServe(s), newCheckConfig(s), newVersion(s))
	return root
}

// called is what help and completions call the program: its name in packages, where it
// was started by that, else the one in the manual page.
func called(path string) string {
	if filepath.Base(path) == packaged {
		return packaged
	}
	return "milter"
}

// packaged is the program's name in packages: "milter" alone says too little in /usr/bin.
const packaged = "tlsverdict-milter"

// configFlag adds --config to a command.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "configuration `file`; default "+milter.DefaultFile+" if it exists")
}

func newServe(s streams) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the milter; prints the lines for main.cf and sendmail.mc",
		Long: `Runs the milter. With no configuration it listens on 127.0.0.1:8463, asks the
policyd on 127.0.0.1:8461, and has no rules, so that it accepts everything but
mail with REQUIRETLS that cannot be sent as that asks for.

SIGHUP reads the configuration again (a bad one is refused, the old one kept),
SIGTERM lets messages under way end, SIGUSR1 writes counters to the log.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := milter.Run(cmd.Context(), daemon.Options{ConfigFile: file, Stdout: s.out, Stderr: s.err, Process: confine.Self{}})
			var unusable *daemon.ConfigError
			switch {
			case err == nil:
				return nil
			case errors.As(err, &unusable):
				// To start again with it is of no use.
				return exit{exitUsage, err}
			}
			return exit{exitTemporary, err}
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func newCheckConfig(s streams) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check-config",
		Short: "say what is wrong with the configuration, with line and hint",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := milter.Load(file)
			if err == nil {
				err = milter.Check(cfg)
			}
			if err != nil {
				return exit{exitNegative, err}
			}
			for _, w := range cfg.Warnings(time.Now()) {
				fmt.Fprintf(s.err, "milter: warning: %v\n", w)
			}
			name := cfg.File
			if name == "" {
				name = "embedded defaults"
			}
			fmt.Fprintf(s.out, "%s: ok\n", name)
			return nil
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func newVersion(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			fmt.Fprintf(s.out, "milter %s %s\n", version.Of(info), runtime.Version())
			return nil
		},
	}
}
