// Command bench measures Heddle beside its peers: the same workloads, on the
// same PostgreSQL with default durability, in turns. What to quote is the
// ratio of the medians; absolute rates on a shared machine mean little.
//
//	go run . -peer heddle,river -w noop,steady,single,latency,chain,fan -runs 3 -json
//
// It prints one JSON object per run and, last, the ratios of heddle to each
// other peer: rates as heddle/peer, times as peer/heddle, so that more is
// better for Heddle in both.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	role, args := run, os.Args[1:]
	if len(args) > 0 && args[0] == "worker" { // the process that a run starts
		role, args = workerMain, args[1:]
	}
	if err := role(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	peers     []string
	workloads []string
	n         int
	runs      int
	seconds   int
	json      bool
	profile   string
	engine    string // the program
}

// Result is one run of one workload on one peer.
type Result struct {
	Peer     string  `json:"peer"`
	Workload string  `json:"workload"`
	Run      int     `json:"run"`
	Rate     float64 `json:"rate,omitempty"`   // jobs or steps per second
	P50ms    float64 `json:"p50_ms,omitempty"` // latency workloads
	P99ms    float64 `json:"p99_ms,omitempty"`
	Seconds  float64 `json:"seconds"` // of the measured part
	Jobs     int     `json:"jobs"`
	WALBytes float64 `json:"wal_bytes_per_job,omitempty"`
	Error    string  `json:"error,omitempty"`
}

// figure is the number that a workload is judged by, and whether less is better.
func (r Result) figure() (value float64, lessIsBetter bool) {
	switch r.Workload {
	case "latency":
		return r.P50ms, true
	case "fan":
		return r.Seconds, true
	}
	return r.Rate, false
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	peers := fs.String("peer", "heddle,river", "peers, comma separated: heddle, heddle-three, heddle-watched, river")
	work := fs.String("w", "noop", "workloads, comma separated: noop, submit, steady, single, latency, chain, fan")
	var o options
	fs.IntVar(&o.n, "n", 50_000, "jobs of the workloads noop and submit")
	fs.IntVar(&o.runs, "runs", 3, "runs of each workload on each peer")
	fs.IntVar(&o.seconds, "seconds", 10, "length of steady, single and latency")
	fs.BoolVar(&o.json, "json", false, "print JSON lines only")
	fs.StringVar(&o.profile, "profile", "", "folder for CPU profiles of heddle's engine and worker")
	if err := fs.Parse(args); err != nil {
		return err
	}
	o.peers, o.workloads = strings.Split(*peers, ","), strings.Split(*work, ",")
	for _, p := range o.peers {
		if systems[p] == nil {
			return fmt.Errorf("-peer: unknown peer %q", p)
		}
	}
	for _, w := range o.workloads {
		if workloads[w] == nil {
			return fmt.Errorf("-w: unknown workload %q", w)
		}
	}
	if o.n < 1 || o.runs < 1 || o.seconds < 1 {
		return fmt.Errorf("-n, -runs and -seconds must be at least 1")
	}
	if slices.ContainsFunc(o.peers, func(p string) bool { return strings.HasPrefix(p, "heddle") }) {
		dir, err := os.MkdirTemp("", "heddle-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if o.engine, err = buildEngine(ctx, dir); err != nil {
			return err
		}
	}
	pg, err := startPostgres(ctx)
	if err != nil {
		return err
	}
	defer pg.stop()

	var results []Result
	for _, w := range o.workloads {
		for i := range o.runs {
			for _, p := range o.peers {
				r := once(ctx, pg, p, w, i+1, o)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				results = append(results, r)
				print(r, o.json)
			}
		}
	}
	line, err := json.Marshal(map[string]any{"ratios": ratios(results, o)})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}

// once runs a workload on a peer in a fresh database.
func once(ctx context.Context, pg *postgres, peer, workload string, run int, o options) Result {
	r := Result{Peer: peer, Workload: workload, Run: run}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute+time.Duration(o.seconds)*time.Second)
	defer cancel()
	fail := func(err error) Result {
		r.Error = err.Error()
		return r
	}
	dsn, drop, err := pg.database(ctx)
	if err != nil {
		return fail(err)
	}
	defer drop()
	sys := systems[peer]()
	if err := sys.open(ctx, dsn, o); err != nil {
		sys.close()
		return fail(err)
	}
	defer sys.close()
	before, err := pg.wal(ctx)
	if err != nil {
		return fail(err)
	}
	if err := workloads[workload](ctx, sys, o, &r); err != nil {
		return fail(err)
	}
	if after, err := pg.wal(ctx); err == nil && r.Jobs > 0 {
		r.WALBytes = float64(after-before) / float64(r.Jobs)
	}
	return r
}

func print(r Result, asJSON bool) {
	if asJSON {
		line, err := json.Marshal(r)
		if err != nil {
			slog.Error("encode result", "error", err)
			return
		}
		fmt.Println(string(line))
		return
	}
	fmt.Printf("%-8s %-8s run %d  %10.0f/s  p50 %8.3f ms  p99 %8.3f ms  %7.3f s  %6.0f B WAL/job  %s\n",
		r.Workload, r.Peer, r.Run, r.Rate, r.P50ms, r.P99ms, r.Seconds, r.WALBytes, r.Error)
}

// Ratio compares Heddle with a peer on one workload; more is better for Heddle.
type Ratio struct {
	Workload string  `json:"workload"`
	Peer     string  `json:"peer"`
	Ratio    float64 `json:"ratio"` // of medians
	Min      float64 `json:"min"`   // worst run of Heddle against the best of the peer
	Max      float64 `json:"max"`
}

func ratios(results []Result, o options) []Ratio {
	all := []Ratio{}
	for _, w := range o.workloads {
		own, less := figures(results, "heddle", w)
		for _, p := range o.peers {
			theirs, _ := figures(results, p, w)
			if p == "heddle" || len(own) == 0 || len(theirs) == 0 {
				continue
			}
			rate := func(h, o float64) float64 {
				if less {
					return round(o / h)
				}
				return round(h / o)
			}
			lo, hi := rate(own[0], theirs[len(theirs)-1]), rate(own[len(own)-1], theirs[0])
			all = append(all, Ratio{Workload: w, Peer: p, Ratio: rate(median(own), median(theirs)), Min: min(lo, hi), Max: max(lo, hi)})
		}
	}
	return all
}

// figures are a peer's numbers on a workload, ascending.
func figures(results []Result, peer, workload string) (values []float64, less bool) {
	for _, r := range results {
		if r.Peer == peer && r.Workload == workload && r.Error == "" {
			var v float64
			v, less = r.figure()
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return values, less
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile of unsorted values; q from 0 to 1.
func quantile[T cmp.Ordered](values []T, q float64) T {
	s := slices.Clone(values)
	slices.Sort(s)
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func round(v float64) float64 { return float64(int(v*100+0.5)) / 100 }
