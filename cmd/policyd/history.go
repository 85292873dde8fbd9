package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tlsverdict/internal/control"
	"tlsverdict/internal/history"
	"tlsverdict/internal/verdict"
)

// historyCommand is what policyd history was told.
type historyCommand struct {
	controlFlags
	since time.Duration
	query control.HistoryQuery
}

func newHistory(s streams) *cobra.Command {
	var h historyCommand
	cmd := &cobra.Command{
		Use:   "history [DOMAIN]",
		Short: "what became of the verdicts on a domain, or on all",
		Long: `Prints the changes of verdicts that the running daemon has seen, latest first: when,
for which destination, what it was before and what it rested on, what it is after,
and why. A change after which less is promised than before is marked DOWNGRADE, with
its cause. With a domain or host, all of its ports and the last verdict on each come
first. Exit codes: 0 done, 1 with --downgrades: there are some, 2 it could not be
done, 3 no daemon.`,
		Example: `  policyd history example.com
  policyd history --downgrades --since 24h`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if h.since < 0 || h.query.Max < 0 {
				return exit{exitUsage, errors.New("--since and -n want something that is not negative")}
			}
			if len(args) > 0 {
				h.query.Dest = args[0]
			}
			return h.run(cmd.Context(), s)
		},
	}
	h.add(cmd)
	cmd.Flags().DurationVar(&h.since, "since", 0, "leave out what is `longer` ago, such as 24h")
	cmd.Flags().BoolVar(&h.query.Downgrades, "downgrades", false, "only what was weakened")
	cmd.Flags().IntVarP(&h.query.Max, "number", "n", 0, "at most so `many`, the latest; default all")
	cmd.Flags().BoolVar(&h.json, "json", false, "print one JSON object: known, changes, more")
	return cmd
}

func (h *historyCommand) run(ctx context.Context, s streams) error {
	client, err := h.client()
	if err != nil {
		return err
	}
	now := time.Now()
	if h.since > 0 {
		h.query.Since = now.Add(-h.since)
	}
	all, err := client.History(ctx, h.query)
	if err != nil {
		return h.unanswered(client, err)
	}
	w := bufio.NewWriter(s.out)
	if h.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(all)
	} else {
		h.write(w, &all, now)
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return exit{exitTemporary, err}
	}
	if h.query.Downgrades && len(all.Changes) > 0 {
		return exit{code: exitNegative}
	}
	return nil
}

// write prints it for people. An error of the writer comes from its Flush.
func (h *historyCommand) write(w *bufio.Writer, all *control.History, now time.Time) {
	for _, known := range all.Known {
		fmt.Fprintf(w, "%s: %s, since %s (%s), last seen %s", known.Dest, known.Step, utc(known.Since), ago(now, known.Since), known.Seen.UTC().Format(time.DateOnly))
		if !known.Waits.IsZero() {
			fmt.Fprintf(w, "; mail is deferred since %s (%s)", utc(known.Waits), ago(now, known.Waits))
		}
		fmt.Fprintln(w)
	}
	if len(all.Known) > 0 && len(all.Changes) > 0 {
		fmt.Fprintln(w)
	}
	for i := range all.Changes {
		writeChange(w, &all.Changes[i], now)
	}
	switch {
	case len(all.Changes) == 0 && h.query.Downgrades:
		fmt.Fprintln(w, "nothing was weakened")
	case len(all.Changes) == 0:
		fmt.Fprintln(w, "no change is known")
	case all.More:
		fmt.Fprintln(w, "there are earlier ones")
	}
}

// writeChange prints one record.
func writeChange(w *bufio.Writer, c *history.Change, now time.Time) {
	fmt.Fprintf(w, "%s  %-8s  %s  %s -> %s", utc(c.Time), ago(now, c.Time), c.Dest, c.Before, c.After)
	if c.Downgrade {
		fmt.Fprintf(w, "  DOWNGRADE: %s", c.Cause)
	}
	fmt.Fprintln(w)
	if !c.Waited.IsZero() {
		fmt.Fprintf(w, "    mail was deferred before, since %s\n", utc(c.Waited))
	}
	for _, code := range c.Codes {
		fmt.Fprintf(w, "    %s: %s", code, reasonText(code))
		if cite := reasonCite(code); cite != "" {
			fmt.Fprintf(w, " (%s)", cite)
		}
		fmt.Fprintln(w)
	}
}

// reasonText is the sentence of a reason. A record of another version may have one that is
// not known here.
func reasonText(code verdict.Code) string {
	if !code.Known() {
		return "a reason of another version"
	}
	return verdict.Reason{Code: code}.Text()
}

func reasonCite(code verdict.Code) string {
	if !code.Known() {
		return ""
	}
	return code.Cite()
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// ago is how long ago something was, roughly.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case d < 0:
		return "ahead"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}
