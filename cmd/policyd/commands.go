package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"tlsverdict/internal/config"
	"tlsverdict/internal/confine"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/socketmapd"
	"tlsverdict/internal/store"
	"tlsverdict/internal/verdict"
	"tlsverdict/internal/version"
	"tlsverdict/postfixmap"
)

func newServe(s streams) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the daemon; prints the lines for main.cf",
		Long: `Runs the daemon. With no configuration it listens on 127.0.0.1:8461, asks the
resolvers of /etc/resolv.conf, and keeps MTA-STS policies in
/var/lib/tlsverdict/policyd.db.

SIGHUP reads the configuration again (a bad one is refused, the old one kept),
SIGTERM finishes what is under way and ends, SIGUSR1 switches debug records.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := daemon.Run(cmd.Context(), daemon.Options{ConfigFile: file, Stdout: s.out, Stderr: s.err, Process: confine.Self{}})
			return configError(err)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// configError gives a bad configuration its exit code: a supervisor should not
// start the daemon again with it.
func configError(err error) error {
	var unusable *daemon.ConfigError
	if errors.As(err, &unusable) {
		return exit{exitUsage, err}
	}
	if err != nil {
		return exit{exitTemporary, err}
	}
	return nil
}

func newCheckConfig(s streams) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check-config",
		Short: "say what is wrong with the configuration, with line and hint",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := daemon.LoadConfig(file)
			var warnings []string
			if err == nil {
				warnings, err = daemon.Check(cfg)
			}
			if err != nil {
				return exit{exitNegative, err}
			}
			for _, w := range warnings {
				fmt.Fprintf(s.err, "policyd: warning: %s\n", w)
			}
			for _, w := range cfg.Warnings(time.Now()) {
				fmt.Fprintf(s.err, "policyd: warning: %v\n", w)
			}
			for _, fault := range daemon.CheckDANE(cmd.Context(), cfg) {
				fmt.Fprintf(s.err, "policyd: warning: %s\n", fault)
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
			fmt.Fprintf(s.out, "policyd %s %s\n", version.Of(info), runtime.Version())
			return nil
		},
	}
}

func newQuery(s streams) *cobra.Command {
	var file, socket string
	cmd := &cobra.Command{
		Use:   "query MAP KEY",
		Short: "ask a running daemon one raw question, like postmap -q",
		Long: `Asks a running daemon one question and prints the data of its answer.
Exit codes: 0 found, 1 not found, 2 temporary failure, 3 no daemon.`,
		Example: "  policyd query postfix example.com",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			address, err := socketAddress(socket, file)
			if err != nil {
				return err
			}
			reply, err := ask(cmd.Context(), address, args[0], args[1])
			if err != nil {
				return exit{exitUsage, fmt.Errorf("no answer from %s: %w; is the daemon running? (--socket names another address)", address, err)}
			}
			return printReply(s, reply)
		},
	}
	configFlag(cmd, &file)
	socketFlag(cmd, &socket)
	return cmd
}

func socketFlag(cmd *cobra.Command, socket *string) {
	cmd.Flags().StringVar(socket, "socket", "", "the daemon's `address`, inet:host:port or unix:/path; default the first of [socketmap] listen")
}

// socketAddress is where the daemon listens: as told, else as configured.
func socketAddress(socket, file string) (postfixmap.Address, error) {
	if socket != "" {
		a, err := postfixmap.ParseAddress(socket)
		if err != nil {
			return postfixmap.Address{}, exit{exitUsage, err}
		}
		return a, nil
	}
	cfg, err := daemon.LoadConfig(file)
	if err != nil {
		return postfixmap.Address{}, exit{exitUsage, err}
	}
	return cfg.Socketmap.Listen[0], nil
}

// askTime bounds one question to the daemon; its own deadline is shorter.
const askTime = 100 * time.Second

func ask(ctx context.Context, a postfixmap.Address, mapName, key string) (postfixmap.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	client := &postfixmap.Client{Address: a}
	defer client.Close()
	return client.Lookup(ctx, mapName, key)
}

func printReply(s streams, reply postfixmap.Reply) error {
	switch reply.Status {
	case postfixmap.StatusOK:
		fmt.Fprintf(s.out, "%s\n", reply.Data)
		return nil
	case postfixmap.StatusNotFound:
		return exit{code: exitNegative}
	case postfixmap.StatusTemp, postfixmap.StatusTimeout, postfixmap.StatusPerm:
		return exit{exitTemporary, fmt.Errorf("%s: %s", reply.Status, reply.Data)}
	}
	panic(fmt.Sprintf("policyd: reply status %v", reply.Status))
}

// explainFlags are what "explain" was told.
type explainFlags struct {
	file, socket string
	json, fresh  bool
}

func newExplain(s streams) *cobra.Command {
	var flags explainFlags
	cmd := &cobra.Command{
		Use:   "explain DEST",
		Short: "say why: every fact, every reason, the verdict, and what each MTA is told",
		Long: `Says why mail to a destination gets the TLS policy it gets: every fact with its
DNSSEC status, every reason with the section it rests on, the verdict, and the
line that each MTA gets. DEST is a domain, or a host in brackets, as in
transport(5).

The running daemon is asked. With --fresh, or where no daemon runs, the answer
is worked out here, without the policies that the daemon has stored.

The verdict is the one that is answered now. Where a newer look met a failure,
both are told, and the facts and reasons are those of the newer one.

Exit codes: 0 a verdict, 2 mail is deferred, 3 wrong usage.`,
		Example: "  policyd explain example.com\n  policyd explain '[mx.example.com]:587'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.explain(cmd.Context(), args[0], s)
		},
	}
	configFlag(cmd, &flags.file)
	socketFlag(cmd, &flags.socket)
	cmd.Flags().BoolVar(&flags.json, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&flags.fresh, "fresh", false, "do not ask the daemon, work it out here")
	return cmd
}

func (f *explainFlags) explain(ctx context.Context, dest string, s streams) error {
	d, err := nexthop.Parse(dest)
	report := socketmapd.NothingApplies(dest, err)
	switch {
	case report != nil:
	case err != nil:
		return exit{exitUsage, err}
	default:
		if report, err = f.report(ctx, d, s.err); err != nil {
			return err
		}
	}
	if f.json {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = report.WriteText(s.out, style(s.out), time.Now())
	}
	if err != nil {
		return exit{exitTemporary, err}
	}
	if report.Verdict == (verdict.Defer{}).Name() {
		return exit{code: exitTemporary}
	}
	return nil
}

// report asks the daemon, or works it out here where none answers.
func (f *explainFlags) report(ctx context.Context, d nexthop.Destination, stderr io.Writer) (*explain.Report, error) {
	cfg, err := daemon.LoadConfig(f.file)
	if err != nil {
		return nil, exit{exitUsage, err}
	}
	if f.fresh {
		return workOut(ctx, cfg, d)
	}
	address, err := socketAddress(f.socket, f.file)
	if err != nil {
		return nil, err
	}
	reply, err := ask(ctx, address, "json", d.String())
	if err == nil {
		return told(address, reply)
	}
	if f.socket != "" {
		return nil, exit{exitUsage, fmt.Errorf("no answer from %s: %w; is the daemon running? (--fresh works it out here)", address, err)}
	}
	// A daemon that runs but cannot be reached may have policies in its store
	// that lead to another verdict.
	fmt.Fprintf(stderr, "policyd: no answer from %s: %v; working it out here, without the policies that the daemon has stored\n", address, err)
	return workOut(ctx, cfg, d)
}

// told reads the daemon's report out of its reply.
func told(address postfixmap.Address, reply postfixmap.Reply) (*explain.Report, error) {
	switch reply.Status {
	case postfixmap.StatusOK:
		report := &explain.Report{Origin: "from the daemon at " + address.String()}
		if err := json.Unmarshal(reply.Data, report); err != nil {
			return nil, exit{exitTemporary, fmt.Errorf("what listens at %s answers something else than a report: %w; is it policyd? (--fresh works it out here)", address, err)}
		}
		return report, nil
	case postfixmap.StatusNotFound, postfixmap.StatusPerm:
		return nil, exit{exitTemporary, fmt.Errorf("what listens at %s answers %s where policyd has a report: is it policyd? (--fresh works it out here)", address, reply.Status)}
	case postfixmap.StatusTemp, postfixmap.StatusTimeout:
		return nil, exit{exitTemporary, fmt.Errorf("the daemon at %s has no report: %s: %s; its log says more (--fresh works it out here)", address, reply.Status, reply.Data)}
	}
	panic(fmt.Sprintf("policyd: reply status %v", reply.Status))
}

// workOut reaches the verdict in this process. The policies that a daemon has
// stored are not known here: only one process can have the database open.
func workOut(ctx context.Context, cfg *config.Config, d nexthop.Destination) (*explain.Report, error) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	st, err := store.Open("", log)
	if err != nil {
		return nil, exit{exitTemporary, err}
	}
	stack, err := daemon.NewStack(daemon.Alone(cfg), st, daemon.Network{}, log)
	if err != nil {
		return nil, exit{exitTemporary, err}
	}
	defer func() {
		stack.Close()
		// A store in memory has nothing to lose.
		_ = st.Close()
	}()
	report := stack.Responder.Report(stack.Engine.Explain(ctx, d))
	report.Origin = "worked out here, not by a daemon"
	return report, nil
}

// style is ANSI on a terminal, unless NO_COLOR is set or the terminal is dumb.
func style(w io.Writer) explain.Style {
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return explain.Plain
	}
	return explain.ANSI
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
