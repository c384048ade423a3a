// Command campaign runs an email campaign from end to end: Postgres, an engine,
// workers and a mail server on loopback, a batch with a job per mail,
// continuations on its success and on its failure. In the end it compares what
// the engine says with what the mail server has seen.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/heddle-io/heddle/examples/internal/local"
	heddle "github.com/heddle-io/heddle/sdk"
)

const (
	// slots is how many mails a worker sends at once.
	slots = 32
	// lostAfter is how soon the jobs of a worker that was killed start elsewhere.
	lostAfter = 2 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		err = workerMain(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "campaign:", err)
		os.Exit(1)
	}
}

type options struct {
	recipients   string
	listen       string
	refuse, busy float64
	tolerance    float64
	killWorker   bool
}

func parse(args []string) (o options, err error) {
	fs := flag.NewFlagSet("campaign", flag.ContinueOnError)
	fs.StringVar(&o.recipients, "recipients", "", "CSV file with the header email,name (default: a bundled one of 1,000)")
	fs.StringVar(&o.listen, "listen", "127.0.0.1:0", "address of the engine")
	fs.Float64Var(&o.refuse, "refuse", 0.008, "share of the addresses that the mail server refuses for good")
	fs.Float64Var(&o.busy, "busy", 0.05, "share of the addresses that it puts off once or twice")
	fs.Float64Var(&o.tolerance, "tolerance", 2, "percent of the mails that may fail")
	fs.BoolVar(&o.killWorker, "kill-worker", false, "run the workers as processes, and kill one of them half way")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.refuse < 0 || o.busy < 0 || o.refuse+o.busy > 1 {
		return o, fmt.Errorf("-refuse %g and -busy %g are not shares of one whole", o.refuse, o.busy)
	}
	if o.tolerance < 0 || o.tolerance > 100 {
		return o, fmt.Errorf("-tolerance: %g is not in 0..100", o.tolerance)
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	to, repeated, err := recipients(o.recipients)
	if err != nil {
		return err
	}
	if repeated > 0 {
		fmt.Fprintf(out, "%d addresses stand in the file more than once; each gets one mail\n", repeated)
	}
	fmt.Fprintln(out, "starting Postgres and the engine …")
	l, err := local.Start(ctx, o.listen, lostAfter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	box, err := serveInbox(o.refuse, o.busy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.close()) }()
	book, err := openLedger(ctx, l.DSN)
	if err != nil {
		return err
	}
	defer book.pool.Close()
	if err := book.create(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "engine: %[1]s  admin page: %[1]s/  mail server: %[2]s\n", l.URL, box.addr)

	crew, err := startCrew(ctx, o, l, box, book)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, crew.stop()) }()

	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{l.URL}})
	if err != nil {
		return err
	}
	defer c.Close()
	start := time.Now()
	run, err := c.Submit(ctx, build(campaign{ID: fmt.Sprintf("c%d", start.Unix()), Subject: "The new looms are here"}, to, o.tolerance))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "workflow %s: %d mails; see it at %s/workflows/%[1]s\n", run.ID(), len(to), l.URL)
	atRisk, err := follow(ctx, out, run, crew)
	if err != nil {
		return err
	}
	return conclude(ctx, out, run, box, start, atRisk)
}

// follow shows the progress until the workflow has ended. Half way it lets the
// crew lose a worker, and gives the number of mails that were being sent then.
func follow(ctx context.Context, out io.Writer, run *heddle.Run, crew *crew) (atRisk int, err error) {
	bar := newBar(out)
	for s, err := range run.Watch(ctx) {
		if err != nil {
			return 0, err
		}
		bar.show(s.Jobs)
		if s.Jobs.Succeeded*2 >= s.Jobs.Total && s.Outcome() == 0 && crew.canLose() {
			if err := crew.lose(); err != nil {
				return 0, err
			}
			atRisk = slots
			bar.note("killed one of the workers; its mails start elsewhere in a moment")
		}
	}
	bar.end()
	return atRisk, nil
}

// conclude prints the last line and checks that the inbox agrees with it.
func conclude(ctx context.Context, out io.Writer, run *heddle.Run, box *inbox, start time.Time, atRisk int) error {
	outcome, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	var said counts
	for m, err := range sendKind.ResultsOf(ctx, run, "emails") {
		switch {
		case err != nil:
			return err
		case m.Outcome == heddle.Succeeded:
			said.Sent++
			if m.Value.Attempt > 1 {
				said.Retried++
			}
		default:
			said.Refused++
		}
	}
	seen := box.tally()
	duplicates := seen.mails - seen.distinct
	summary, err := summaryKind.ResultOf(ctx, run, "summary")
	if err != nil {
		return fmt.Errorf("the summary: %w", err)
	}
	if outcome == heddle.Failed {
		refused, err := complaintKind.ResultOf(ctx, run, "refused")
		if err != nil {
			return fmt.Errorf("the report of refused addresses: %w", err)
		}
		fmt.Fprintf(out, "more failed than tolerated; the report lists %d refused addresses\n", len(refused))
	}
	fmt.Fprintf(out, "campaign finished: sent=%d refused=%d retried=%d duplicates=%d elapsed=%.1fs\n",
		said.Sent, said.Refused, said.Retried, duplicates, time.Since(start).Seconds())
	switch {
	case said.Sent != seen.distinct || said.Refused != seen.refused:
		return fmt.Errorf("the inbox disagrees: %d mails, %d refused addresses", seen.distinct, seen.refused)
	case summary != said:
		return fmt.Errorf("the summary says %+v", summary)
	case duplicates > atRisk:
		return fmt.Errorf("%d mails were delivered twice, at most %d were being sent when the worker was killed", duplicates, atRisk)
	case (outcome == heddle.Succeeded) != (seen.notices > 0):
		return fmt.Errorf("the workflow %s, and the administrator got %d mails", outcome, seen.notices)
	}
	return nil
}

// bar shows progress: one line that is drawn anew on a terminal, plain lines
// elsewhere.
type bar struct {
	out   io.Writer
	tty   bool
	tenth int64
}

func newBar(out io.Writer) *bar {
	f, ok := out.(*os.File)
	return &bar{out: out, tty: ok && term.IsTerminal(int(f.Fd())), tenth: -1}
}

func (b *bar) show(c heddle.Counts) {
	const width = 40
	if c.Total == 0 {
		return
	}
	done := c.Ended() * width / c.Total
	line := fmt.Sprintf("%d of %d jobs ended, %d running, %d to be retried, %d failed", c.Ended(), c.Total, c.Running, c.Retryable, c.Failed)
	if b.tty {
		cells := make([]rune, width)
		for i := range cells {
			cells[i] = '·'
			if int64(i) < done {
				cells[i] = '█'
			}
		}
		fmt.Fprintf(b.out, "\r\x1b[K%s %s", string(cells), line)
		return
	}
	if tenth := c.Ended() * 10 / c.Total; tenth != b.tenth {
		b.tenth = tenth
		fmt.Fprintln(b.out, line)
	}
}

func (b *bar) note(text string) {
	if b.tty {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
	fmt.Fprintln(b.out, text)
}

func (b *bar) end() {
	if b.tty {
		fmt.Fprintln(b.out)
	}
}

var quiet = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
