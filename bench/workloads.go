package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// system is a peer under test. Its worker runs in a process of its own.
type system interface {
	// open prepares the database and starts what the peer needs beside it.
	open(ctx context.Context, dsn string, o options) error
	close()
	// submitMany submits n no-op jobs in as few calls as its users would.
	submitMany(ctx context.Context, n int) error
	// submitBatch submits n no-op jobs, all or none.
	submitBatch(ctx context.Context, n int) error
	// submitOne submits one no-op job.
	submitOne(ctx context.Context) error
	// submitStamp submits one job whose handler records the time since at.
	submitStamp(ctx context.Context, at time.Time) error
	// submitChains submits chains of jobs, each job after the one before.
	submitChains(ctx context.Context, chains, length int) error
	// submitFan submits n jobs and one that starts when all have ended.
	submitFan(ctx context.Context, n int) error
	// idle reports whether no job is left to run.
	idle(ctx context.Context) (bool, error)
	// workerArgs are the arguments of the worker process.
	workerArgs() []string
}

var systems = map[string]func() system{
	"heddle": func() system { return &heddleSystem{nodes: 1} },
	// Three nodes on this machine; and one while five people look at the overview.
	"heddle-three":   func() system { return &heddleSystem{nodes: 3} },
	"heddle-watched": func() system { return &heddleSystem{nodes: 1, pages: 5} },
	"river":          func() system { return &riverSystem{} },
}

var workloads = map[string]func(context.Context, system, options, *Result) error{
	"noop": noop, "submit": submit, "steady": steady, "single": single, "latency": latency, "chain": chain, "fan": fan,
}

// drained waits until the worker has handled n jobs and then until the system
// has none left: asking the database all the while would cost it more than the
// jobs do.
func drained(ctx context.Context, s system, w *worker, n int) error {
	if err := w.wait(ctx, func(e *events) bool { return e.jobs >= n }); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if idle, err := s.idle(ctx); err != nil || idle {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("jobs left: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// noop: jobs lie ready, then one worker starts.
func noop(ctx context.Context, s system, o options, r *Result) error {
	if err := s.submitMany(ctx, o.n); err != nil {
		return err
	}
	w, err := startWorker(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.stop()
	start := time.Now()
	if err := drained(ctx, s, w, o.n); err != nil {
		return err
	}
	return r.rate(o.n, start)
}

// submit: how fast one atomic batch is taken in; nobody works on it.
func submit(ctx context.Context, s system, o options, r *Result) error {
	start := time.Now()
	if err := s.submitBatch(ctx, o.n); err != nil {
		return err
	}
	return r.rate(o.n, start)
}

// steady: chunks of 500 are submitted and worked at once.
func steady(ctx context.Context, s system, o options, r *Result) error {
	return whileWorking(ctx, s, o, r, 2, 500, func(ctx context.Context) error { return s.submitMany(ctx, 500) }, 50_000)
}

// single: 64 callers submit one job each, in a loop.
func single(ctx context.Context, s system, o options, r *Result) error {
	return whileWorking(ctx, s, o, r, 64, 1, s.submitOne, 0)
}

// whileWorking lets callers submit for the time given while a worker works,
// then waits for the rest. maxAhead bounds what is submitted and unfinished,
// by pausing the callers; 0: no bound.
func whileWorking(ctx context.Context, s system, o options, r *Result, callers, each int, call func(context.Context) error, maxAhead int) error {
	w, err := startWorker(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.stop()
	start := time.Now()
	end := start.Add(time.Duration(o.seconds) * time.Second)
	var jobs atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, callers)
	for range callers {
		wg.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				err := error(nil)
				if maxAhead > 0 {
					err = w.wait(ctx, func(e *events) bool { return int(jobs.Load())-e.jobs <= maxAhead })
				}
				if err == nil {
					err = call(ctx)
				}
				if err != nil {
					errs <- err
					return
				}
				jobs.Add(int64(each))
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	if err := drained(ctx, s, w, int(jobs.Load())); err != nil {
		return err
	}
	return r.rate(int(jobs.Load()), start)
}

// latency: 50 jobs a second, from the call of submit to the handler's start.
func latency(ctx context.Context, s system, o options, r *Result) error {
	w, err := startWorker(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.stop()
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 50 * o.seconds {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := s.submitStamp(ctx, time.Now()); err != nil {
			return err
		}
		r.Jobs++
	}
	if err := drained(ctx, s, w, r.Jobs); err != nil {
		return err
	}
	r.Seconds = time.Since(start).Seconds()
	return r.latencies(w.stop())
}

// chain: 20 chains of 100 jobs.
func chain(ctx context.Context, s system, o options, r *Result) error {
	const chains, length = 20, 100
	w, err := startWorker(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.stop()
	start := time.Now()
	if err := s.submitChains(ctx, chains, length); err != nil {
		return err
	}
	if err := w.wait(ctx, func(e *events) bool { return e.chains == chains }); err != nil {
		return err
	}
	if err := r.rate(chains*length, start); err != nil {
		return err
	}
	return r.latencies(w.stop())
}

// fan: a batch of 10,000 jobs and a continuation, from submit to its start.
func fan(ctx context.Context, s system, o options, r *Result) error {
	const n = 10_000
	w, err := startWorker(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.stop()
	start := time.Now()
	if err := s.submitFan(ctx, n); err != nil {
		return err
	}
	if err := w.wait(ctx, func(e *events) bool { return e.final != 0 }); err != nil {
		return err
	}
	r.Jobs = n + 1
	r.Seconds = time.Unix(0, w.last().final).Sub(start).Seconds()
	r.Rate = float64(n) / r.Seconds
	return nil
}

func (r *Result) rate(n int, start time.Time) error {
	r.Jobs, r.Seconds = n, time.Since(start).Seconds()
	r.Rate = float64(n) / r.Seconds
	return nil
}

func (r *Result) latencies(e events) error {
	if len(e.Micros) == 0 {
		return fmt.Errorf("the worker recorded no latencies")
	}
	r.P50ms = float64(quantile(e.Micros, 0.5)) / 1000
	r.P99ms = float64(quantile(e.Micros, 0.99)) / 1000
	return nil
}
