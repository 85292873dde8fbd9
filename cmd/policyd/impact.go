package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tlsverdict/internal/daemon"
	"tlsverdict/internal/impact"
	"tlsverdict/internal/maillog"
)

type impactFlags struct {
	file, state, html string
	asJSON, asCSV     bool
	noDNS, probe, all bool
	most              int
}

func newImpact(s streams) *cobra.Command {
	var f impactFlags
	cmd := &cobra.Command{
		Use:   "impact LOGFILE...",
		Short: "what would have changed, had the verdicts been enforced",
		Long: `Reads logs of Postfix, Exim or Sendmail, plain or gzip, "-" for standard input,
works out today's verdict for each domain that mail went to, and says which
deliveries would have passed and which would have waited.
Exit codes: 0 nothing would have waited, 1 something would, 2 interrupted or not
readable, 3 usage.`,
		Example: "  policyd impact /var/log/mail.log /var/log/mail.log.*.gz\n  journalctl -o short -u postfix@- | policyd impact -",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), args, s)
		},
	}
	configFlag(cmd, &f.file)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&f.asCSV, "csv", false, "print CSV, one line a domain")
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	cmd.Flags().StringVar(&f.html, "html", "", "write a page into `file`, too")
	cmd.Flags().StringVar(&f.state, "state", "", "keep verdicts in `file`, and go on from there next time")
	cmd.Flags().BoolVar(&f.probe, "probe", false, "connect to the mail hosts of domains that are in doubt")
	cmd.Flags().BoolVar(&f.noDNS, "no-dns", false, "count only; work no verdicts out")
	cmd.MarkFlagsMutuallyExclusive("probe", "no-dns")
	cmd.Flags().BoolVar(&f.all, "all", false, "show every domain that would wait, not the first forty")
	cmd.Flags().IntVar(&f.most, "domains", 100_000, "work verdicts out for at most `n` domains, those with the most mail")
	return cmd
}

func (f *impactFlags) run(ctx context.Context, logs []string, s streams) error {
	c := impact.NewCollector()
	totals, err := readLogs(ctx, logs, c.Add, s.err)
	if err != nil {
		return exit{exitTemporary, err}
	}
	domains := c.Domains()
	ruled := make(map[string]impact.Ruled, len(domains))
	if !f.noDNS {
		if err := f.rule(ctx, domains[:min(len(domains), max(0, f.most))], ruled, s.err); err != nil {
			return err
		}
	}
	rows := make([]impact.Row, 0, len(domains))
	for _, domain := range domains {
		rows = append(rows, c.Judge(domain, totals, ruled[domain]))
	}
	if f.probe {
		if err := f.look(ctx, rows, ruled, s.err); err != nil {
			return err
		}
	}
	report := impact.NewReport(rows, totals, time.Now())
	if err := f.write(report, s.out); err != nil {
		return exit{exitTemporary, err}
	}
	if report.Sum.Wait > 0 {
		return exit{code: exitNegative}
	}
	return nil
}

// rule fills in the verdicts, those of before first.
func (f *impactFlags) rule(ctx context.Context, domains []string, ruled map[string]impact.Ruled, progress io.Writer) error {
	cfg, err := daemon.LoadConfig(f.file)
	if err != nil {
		return exit{exitUsage, err}
	}
	state := new(impact.State)
	if f.state != "" {
		file, err := os.OpenFile(f.state, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return exit{exitUsage, err}
		}
		defer func() { _ = file.Close() }()
		if state, err = impact.NewState(file, time.Now()); err != nil {
			return exit{exitUsage, fmt.Errorf("%s: %w", f.state, err)}
		}
	}
	todo := make([]string, 0, len(domains))
	for _, domain := range domains {
		if r, ok := state.Known(domain); ok {
			ruled[domain] = r
			continue
		}
		todo = append(todo, domain)
	}
	say := every(progress)
	err = daemon.Impact{Config: cfg}.Rulings(ctx, todo, func(domain string, r impact.Ruled) error {
		ruled[domain] = r
		say("%d of %d domains", len(ruled), len(domains))
		if r.Verdict == nil || f.state == "" {
			return nil
		}
		return state.Save(domain, r, time.Now())
	})
	return f.interrupted(err)
}

// interrupted says what to do about work that was not done.
func (f *impactFlags) interrupted(err error) error {
	switch {
	case errors.Is(err, context.Canceled) && f.state != "":
		return exit{exitTemporary, fmt.Errorf("interrupted; the same command goes on from %s", f.state)}
	case errors.Is(err, context.Canceled):
		return exit{exitTemporary, errors.New("interrupted; with --state FILE it could go on")}
	case err != nil:
		return exit{exitTemporary, err}
	}
	return nil
}

// look has the hosts probed of domains whose mail is not known to have met the verdict.
func (f *impactFlags) look(ctx context.Context, rows []impact.Row, ruled map[string]impact.Ruled, progress io.Writer) error {
	cfg, err := daemon.LoadConfig(f.file)
	if err != nil {
		return exit{exitUsage, err}
	}
	place := make(map[string]int)
	var doubtful []string
	for i := range rows {
		if rows[i].Doubtful() {
			place[rows[i].Domain] = i
			doubtful = append(doubtful, rows[i].Domain)
		}
	}
	say, done := every(progress), 0
	return f.interrupted(daemon.Impact{Config: cfg}.Showing(ctx, doubtful, func(domain string, hosts []impact.Shown) error {
		row := &rows[place[domain]]
		row.Now, row.NowWhy = impact.Now(ruled[domain].Verdict, hosts)
		done++
		say("%d of %d domains probed", done, len(doubtful))
		return nil
	}))
}

func (f *impactFlags) write(r impact.Report, out io.Writer) error {
	if f.html != "" {
		if err := writeFile(f.html, r.WriteHTML); err != nil {
			return err
		}
	}
	switch {
	case f.asJSON:
		return r.WriteJSON(out)
	case f.asCSV:
		return r.WriteCSV(out)
	case f.all:
		return r.WriteText(out, 0)
	}
	const screen = 40
	return r.WriteText(out, screen)
}

// writeFile writes a file as a whole.
func writeFile(name string, write func(io.Writer) error) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriter(file)
	if err := write(out); err != nil {
		return err
	}
	return out.Flush()
}

// readLogs reads logs one after the other, as one.
func readLogs(ctx context.Context, names []string, tell func(maillog.Delivery), progress io.Writer) (maillog.Totals, error) {
	var totals maillog.Totals
	say := every(progress)
	for _, name := range names {
		t, err := readLog(ctx, name, func(d maillog.Delivery) {
			say("reading %s", name)
			tell(d)
		})
		if err != nil {
			return totals, fmt.Errorf("%s: %w", name, err)
		}
		totals = totals.Plus(t)
	}
	return totals, nil
}

func readLog(ctx context.Context, name string, tell func(maillog.Delivery)) (maillog.Totals, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return maillog.Totals{}, errors.Unwrap(err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	// What it is, its first octets say better than its name.
	peek := bufio.NewReaderSize(in, 64<<10)
	if magic, _ := peek.Peek(2); string(magic) == "\x1f\x8b" {
		unpacked, err := gzip.NewReader(peek)
		if err != nil {
			return maillog.Totals{}, err
		}
		return maillog.Read(ctx, unpacked, tell)
	}
	return maillog.Read(ctx, peek, tell)
}

// every returns a function that says how far long work has come, every few seconds and to
// a terminal only.
func every(w io.Writer) func(format string, args ...any) {
	if !isTerminal(w) {
		return func(string, ...any) {}
	}
	const pause = 2 * time.Second
	last := time.Now()
	return func(format string, args ...any) {
		if time.Since(last) < pause {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "policyd: "+format+"\n", args...)
	}
}
