package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/oracle"
)

// recovery bounds how long after a fault jobs start again, on a machine that
// does other things too.
const recovery = 60 * time.Second

// Run hurts the world for a while, with faults that the seed draws, one or two
// at a time, and writes a line about each. In between it checks the tables.
func (w *World) Run(ctx context.Context, out io.Writer, lasting time.Duration) error {
	r := rand.New(rand.NewPCG(w.Seed, 2))
	faults := catalogue(w.Setup)
	until := time.Now().Add(lasting)
	fmt.Fprintf(out, "%8s  %-58s %8s %10s %8s\n", "at", "fault", "for", "gap", "jobs/s")
	begun := time.Now()
	for step := 0; time.Now().Before(until); step++ {
		before, at := w.Starts(), time.Now()
		chosen := []fault{draw(r, faults)}
		if r.IntN(3) == 0 {
			if second := draw(r, faults); second.sort != chosen[0].sort {
				chosen = append(chosen, second)
			}
		}
		line, err := w.hurt(ctx, r, chosen)
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", step, line, err)
		}
		fmt.Fprintf(out, "%8s  %s %8.0f\n", time.Since(begun).Round(100*time.Millisecond), line, float64(w.Starts()-before)/time.Since(at).Seconds())
	}
	return nil
}

func draw(r *rand.Rand, faults []fault) fault {
	total := 0
	for _, f := range faults {
		total += f.weight
	}
	n := r.IntN(total)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("the weights have changed")
}

// hurt does faults side by side, ends them, and waits until jobs run again.
func (w *World) hurt(ctx context.Context, r *rand.Rand, chosen []fault) (line string, err error) {
	since := oracle.Now()
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var names []string
	var longest time.Duration
	// What has begun ends at its time, or when something went wrong; or nothing
	// that follows would mean anything.
	ended := make(chan error, len(chosen))
	begun := 0
	for _, f := range chosen {
		lasts := f.lasts(r)
		end, what, err := f.begin(ctx, w, r)
		names = append(names, strings.TrimSpace(f.name+" "+what))
		if err != nil {
			giveUp()
			for range begun {
				err = errors.Join(err, <-ended)
			}
			return strings.Join(names, " + "), err
		}
		begun++
		longest = max(longest, lasts)
		go func() {
			over := time.NewTimer(lasts)
			defer over.Stop()
			select {
			case <-over.C:
			case <-ctx.Done():
			}
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), recovery)
			defer cancel()
			ended <- end(within)
		}()
	}
	line = strings.Join(names, " + ")
	for ; begun > 0; begun-- {
		err = errors.Join(err, w.until(ended))
	}
	if err != nil {
		return line, err
	}
	again, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	if _, err := w.Cluster.AwaitLeader(again, nil); err != nil {
		return line, err
	}
	if err := w.AwaitStarts(again, 20); err != nil {
		return line, err
	}
	if err := w.check(ctx); err != nil {
		return line, err
	}
	return fmt.Sprintf("%-58s %8s %10s", line, longest.Round(time.Millisecond), w.Longest(since).Round(time.Millisecond)), w.linger(ctx, rest(r))
}

// rest is the time between faults; now and then it is long enough to see that
// all is well (I10).
func rest(r *rand.Rand) time.Duration {
	if r.IntN(6) == 0 {
		return 2 * calm
	}
	return upTo(0, 2*time.Second)(r)
}

// calm is how long after a fault jobs may be late.
const calm = 4 * time.Second

// until waits for the end of a fault, and looks after the processes.
func (w *World) until(ended <-chan error) (err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case end := <-ended:
			return errors.Join(err, end)
		case <-tick.C:
			if err == nil {
				err = w.supervise()
			}
		}
	}
}

// linger lets time pass, and looks after the processes.
func (w *World) linger(ctx context.Context, d time.Duration) error {
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := w.supervise(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-over.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// supervise watches, and takes note of engines that ended by themselves.
func (w *World) supervise() error {
	ended, err := w.Watch()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, ended...)
	return err
}

// check checks the tables as they are in one snapshot.
func (w *World) check(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, w.Postgres.Direct())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SET search_path = heddle"); err != nil {
		return err
	}
	found, err := oracle.Check(ctx, tx, oracle.Running)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("the tables: %v", found)
	}
	return nil
}

// Settle ends the submitting and waits until nothing is open any more (I12).
func (w *World) Settle(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := w.StopSubmitting(within); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, w.Postgres.Direct())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		err := conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM heddle.jobs) + (SELECT count(*) FROM heddle.workflows WHERE state <> 2)
			+ (SELECT count(*) FROM heddle.batches WHERE state <> 2) + (SELECT count(*) FROM heddle.cascades)`).Scan(&left)
		if err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		if err := w.supervise(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d rows are still open (I12): %w", left, ctx.Err())
		}
	}
}

// Ended names the engines that ended by themselves.
func (w *World) Ended() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ended)
}
