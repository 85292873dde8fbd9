package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tlsverdict/internal/control"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// controlFlags are those of the commands that ask over the control socket.
type controlFlags struct {
	file, socket string
	json         bool
}

func (f *controlFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &f.file)
	cmd.Flags().StringVar(&f.socket, "control", "", "the daemon's control `socket`, /path; default [control] socket")
}

// client is where the daemon takes commands.
func (f *controlFlags) client() (*control.Client, error) {
	path := f.socket
	if path == "" {
		cfg, err := daemon.LoadConfig(f.file)
		if err != nil {
			return nil, exit{exitUsage, err}
		}
		path = cfg.Control.Socket
	}
	if path == "" {
		return nil, exit{exitUsage, errors.New(`there is no control socket: [control] socket is ""`)}
	}
	address, err := postfixmap.ParseAddress("unix:" + path)
	if err != nil {
		return nil, exit{exitUsage, err}
	}
	return &control.Client{Address: address}, nil
}

// unanswered gives an error of the control socket its exit code.
func (f *controlFlags) unanswered(client *control.Client, err error) error {
	var said *control.TempError
	if errors.As(err, &said) {
		return exit{exitTemporary, err}
	}
	return exit{exitUsage, fmt.Errorf("no answer from %s: %w; is the daemon running, and may you open its socket?", client.Address, err)}
}

func newPins(s streams) *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "pins",
		Short: "list the mail hosts that are pinned by their banner",
		Long: `Lists the pins that the running daemon holds: the host, when the pin ends, when its
banner was last seen, and what it said. Exit codes: 0 done, 2 they could not all be
read, 3 no daemon.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			pins, err := client.Pins(cmd.Context())
			if err2 := f.list(pins, s); err2 != nil {
				return exit{exitTemporary, err2}
			}
			var said *control.TempError
			switch {
			case err == nil:
				return nil
			case len(pins) > 0 || errors.As(err, &said):
				return exit{exitTemporary, fmt.Errorf("they may not be all: %w", err)}
			}
			return f.unanswered(client, err)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object a line")
	cmd.AddCommand(newPinsRemove(s))
	return cmd
}

// list prints pins.
func (f *controlFlags) list(pins []control.Pin, s streams) error {
	enc := json.NewEncoder(s.out)
	for _, p := range pins {
		if f.json {
			if err := enc.Encode(p); err != nil {
				return err
			}
			continue
		}
		state := "until " + p.Until.UTC().Format(time.RFC3339)
		if !time.Now().Before(p.Until) {
			state = "ended " + p.Until.UTC().Format(time.RFC3339)
		}
		seen := "seen " + p.Seen.UTC().Format(time.RFC3339)
		if p.Seen.IsZero() {
			seen = "not readable"
		}
		if _, err := fmt.Fprintf(s.out, "%s  %s  %s  %s\n", p.Host, state, seen, cmp.Or(p.Banner, "-")); err != nil {
			return err
		}
	}
	return nil
}

func newPinsRemove(s streams) *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "remove HOST",
		Short: "end the pin of a host",
		Long: `Ends the pin of a host, in the running daemon. A host that goes on to show its banner is
pinned again when it is looked at next; an [[override]] lets mail out whatever it shows.
Exit codes: 0 done, 1 there is none, 2 it could not be done, 3 no daemon.`,
		Example: "  policyd pins remove mx1.example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			err = client.RemovePin(cmd.Context(), args[0])
			switch {
			case err == nil:
				fmt.Fprintf(s.out, "%s: no longer pinned\n", args[0])
				return nil
			case errors.Is(err, control.ErrNotFound):
				return exit{exitNegative, fmt.Errorf("%s is not pinned", args[0])}
			}
			return f.unanswered(client, err)
		},
	}
	f.add(cmd)
	return cmd
}

func newRefresh(s streams) *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "refresh DEST",
		Short: "work a destination out anew in the daemon; prints before and after",
		Long: `Has the running daemon drop the verdict on a destination and work it out anew, with a
policy fetched anew over HTTPS. Prints the verdict before, if one was known, and the
report of the new one. What cannot be had anew holds as before: an MTA-STS policy
that is kept, and pins.
Exit codes: 0 a verdict, 2 mail is deferred, 3 wrong usage, or no daemon.`,
		Example: "  policyd refresh example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.refresh(cmd.Context(), args[0], s)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object: before, after, problem")
	return cmd
}

func (f *controlFlags) refresh(ctx context.Context, dest string, s streams) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	r, err := client.Refresh(ctx, dest)
	if err != nil {
		return f.unanswered(client, err)
	}
	if f.json {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = f.compare(&r, s)
	}
	if err != nil {
		return exit{exitTemporary, err}
	}
	if r.After.Verdict == (verdict.Defer{}).Name() {
		return exit{code: exitTemporary}
	}
	return nil
}

// compare prints what was before, and the report of what is now.
func (f *controlFlags) compare(r *control.Refreshed, s streams) error {
	before := "nothing was known"
	if r.Before != nil {
		before = r.Before.Verdict + " by " + r.Before.Source
	}
	if _, err := fmt.Fprintf(s.out, "before: %s\nafter:  %s by %s\n", before, r.After.Verdict, r.After.Source); err != nil {
		return err
	}
	if r.Problem != "" {
		if _, err := fmt.Fprintf(s.out, "%s\n", r.Problem); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(s.out); err != nil {
		return err
	}
	return r.After.WriteText(s.out, style(s.out), time.Now())
}
