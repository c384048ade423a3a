// Command ha shows what three engine nodes are worth: it starts them, a
// Postgres and two workers, all on this machine, runs campaigns without a pause,
// and meanwhile kills the leader (-9), stops a node (SIGSTOP), cuts one off the
// network and restarts one after the other. For each of these it prints how long
// no job was started. In the end it compares what the submitter and the workers
// have seen with what the database says; the last line is JSON, and the exit
// code is 1 if a promise was broken.
//
// The engines are the real program, with the arguments an operator would give.
// Between everybody and each engine stands a TCP proxy of this program, which
// is how a node can be cut off without being root.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/heddle-io/heddle/internal/chaos"
	"github.com/heddle-io/heddle/internal/oracle"
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
		fmt.Fprintln(os.Stderr, "ha:", err)
		os.Exit(1)
	}
}

type options struct {
	minutes float64
	seed    uint64
	faults  []string
	n       int
	dir     string
}

func parse(args []string) (o options, err error) {
	fs := flag.NewFlagSet("ha", flag.ContinueOnError)
	fs.Float64Var(&o.minutes, "minutes", 1, "how long to do harm")
	fs.Uint64Var(&o.seed, "seed", 1, "of the order and the lengths of the faults")
	fs.IntVar(&o.n, "n", 0, "do harm so many times, whatever the time; 0: for -minutes")
	fs.StringVar(&o.dir, "dir", "", "directory for data, logs and journals, which is kept (default: a temporary one)")
	list := fs.String("faults", "kill,stop,cut,restart", "which ones, of these")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	for name := range strings.SplitSeq(*list, ",") {
		if faults[name] == nil {
			return o, fmt.Errorf("-faults: there is no %q", name)
		}
		o.faults = append(o.faults, name)
	}
	if o.minutes <= 0 {
		return o, fmt.Errorf("-minutes %g is not above 0", o.minutes)
	}
	if o.n < 0 {
		return o, fmt.Errorf("-n %d is below 0", o.n)
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "heddle-ha-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.dir)
	} else if err = os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	fmt.Fprintln(out, "building the engine, starting Postgres, three engine nodes and two workers …")
	h, err := open(ctx, o.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	for _, n := range h.cluster.Nodes {
		fmt.Fprintf(out, "%s: %s (log: %s)\n", n.ID, n.URL(), filepath.Join(o.dir, n.ID+".log"))
	}

	work, stop := context.WithCancel(ctx)
	defer stop()
	submitted := make(chan error, 1)
	go func() { submitted <- h.campaigns(work) }()
	if err := h.awaitStarts(ctx, 100); err != nil {
		return err
	}
	gaps, err := h.harm(ctx, o, out)
	if err != nil {
		return err
	}

	fmt.Fprintln(out, "no more faults; the campaigns under way come to their end …")
	stop()
	if err := <-submitted; err != nil {
		return err
	}
	return h.report(ctx, gaps, out)
}

// result is the last line.
type result struct {
	Faults          int   `json:"faults"`
	Jobs            int   `json:"jobs"`
	Lost            int   `json:"lost"`
	RunTwice        int   `json:"run_twice"`
	AttemptsCharged int   `json:"attempts_charged"`
	GapMedian       int64 `json:"gap_ms_p50"`
	GapMax          int64 `json:"gap_ms_max"`
}

// report asks the oracle, once everything has ended.
func (h *heddles) report(ctx context.Context, gaps []time.Duration, out io.Writer) error {
	logs, err := oracle.Logs(h.journals())
	if err != nil {
		return err
	}
	v, err := oracle.Judge(ctx, oracle.Case{Logs: logs, DSN: h.postgres.Direct(), Settled: true})
	if err != nil {
		return err
	}
	for _, broken := range v.Violations {
		fmt.Fprintln(out, broken)
	}
	r := result{Faults: len(gaps), Jobs: v.Jobs, Lost: v.Count[oracle.Lost], RunTwice: v.Count[oracle.Twice], AttemptsCharged: v.Losses}
	if len(gaps) > 0 {
		slices.Sort(gaps)
		r.GapMedian, r.GapMax = gaps[len(gaps)/2].Milliseconds(), gaps[len(gaps)-1].Milliseconds()
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, string(line))
	if !v.Sound() {
		return fmt.Errorf("promises were broken: %v", v)
	}
	return nil
}

// faults by their names.
var faults = map[string]func(*heddles, context.Context, time.Duration) (what string, err error){
	"kill": func(h *heddles, ctx context.Context, d time.Duration) (string, error) {
		n := h.leader(ctx)
		n.Process().Kill()
		return "kill -9 the leader " + n.ID, errors.Join(h.wait(ctx, d), h.cluster.Start(n))
	},
	"stop": func(h *heddles, ctx context.Context, d time.Duration) (string, error) {
		n := h.any(ctx)
		n.Process().Stop()
		err := h.wait(ctx, d)
		n.Process().Continue()
		return fmt.Sprintf("stop %s for %v", n.ID, d), err
	},
	"cut": func(h *heddles, ctx context.Context, d time.Duration) (string, error) {
		n := h.any(ctx)
		if !chaos.CanTellLinks { // then only what others send to it can be held back
			n.Process().Stop()
			defer n.Process().Continue()
		}
		h.net.Isolate(n.ID, chaos.Rule{Cut: true})
		err := h.wait(ctx, d)
		h.net.Heal()
		return fmt.Sprintf("cut %s off for %v", n.ID, d), err
	},
	"restart": func(h *heddles, ctx context.Context, _ time.Duration) (string, error) {
		for _, n := range h.cluster.Nodes {
			code, err := n.Process().Terminate(30 * time.Second)
			if err == nil && code != 0 {
				err = fmt.Errorf("%s ended with code %d", n.ID, code)
			}
			if err == nil {
				err = h.cluster.Start(n)
			}
			if err == nil {
				err = h.cluster.AwaitMember(ctx, n)
			}
			if err != nil {
				return "", err
			}
		}
		return "restart every node in turn", nil
	},
}
