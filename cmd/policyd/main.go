// Policyd decides, for every domain that a mail server sends to, how strict TLS
// must be, and answers Postfix's smtp_tls_policy_maps with it.
//
// See "policyd help" and policyd(8). Exit codes: 0 fine, 1 a negative answer,
// 2 a temporary failure, 3 wrong usage or nothing to talk to.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitFine = iota
	exitNegative
	exitTemporary
	exitUsage
)

// exit is an error that knows its exit code. With a nil cause nothing is printed.
type exit struct {
	code  int
	cause error
}

func (e exit) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.cause.Error()
}

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
	if e.cause != nil {
		fmt.Fprintf(s.err, "policyd: %v\n", e.cause)
	}
	return e.code
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   called(os.Args[0]),
		Short: "decides how strict TLS must be for each mail destination",
		Long: `policyd gathers DNSSEC, DANE TLSA records, MTA-STS policies and signed MX name
prefixes, decides for each destination how strict TLS must be, and answers
Postfix's smtp_tls_policy_maps with it.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(newServe(s), newDoctor(s), newExplain(s), newHistory(s), newImpact(s), newLint(s), newMigrate(s), newQuery(s), newCheckConfig(s), newPins(s), newRefresh(s), newSnippet(s), newVersion(s))
	return root
}

// called is what help and completions call the program: its name in packages, where it
// was started by that, else the one in the manual page.
func called(path string) string {
	if filepath.Base(path) == packaged {
		return packaged
	}
	return "policyd"
}

// packaged is the program's name in packages: "policyd" alone says too little in /usr/bin.
const packaged = "tlsverdict-policyd"

// configFlag adds --config to a command.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "configuration `file`; default /etc/tlsverdict/policyd.toml if it exists")
}
