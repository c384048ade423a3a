package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/heddle-io/heddle/internal/chaos"
	"github.com/heddle-io/heddle/internal/oracle"
)

// heddles is everything that runs, and what is known of the jobs' starts.
type heddles struct {
	dir      string
	net      *chaos.Network
	postgres *chaos.Postgres
	cluster  *chaos.Cluster
	workers  []*chaos.Process
	journal  *oracle.Journal // of the submitter

	rand   *rand.Rand
	tail   *oracle.Tail
	starts int
	pauses oracle.Pauses
}

func open(ctx context.Context, dir string) (h *heddles, err error) {
	h = &heddles{dir: dir, net: chaos.NewNetwork()}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if err = os.MkdirAll(h.journals(), 0o755); err != nil {
		return h, err
	}
	h.tail = oracle.NewTail(h.journals())
	if h.journal, err = oracle.OpenJournal(filepath.Join(h.journals(), "submitter.jsonl"), "submitter"); err != nil {
		return h, err
	}
	program, err := chaos.BuildEngine(ctx, dir)
	if err != nil {
		return h, err
	}
	if h.postgres, err = chaos.StartPostgres(ctx, dir, h.net, false); err != nil {
		return h, err
	}
	h.cluster = &chaos.Cluster{Engine: program, Dir: dir, Postgres: h.postgres.DSN(), Net: h.net, TTL: 15 * time.Second}
	if err = h.cluster.Found(3); err != nil {
		return h, err
	}
	start, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err = h.cluster.StartAll(start); err != nil {
		return h, err
	}
	self, err := os.Executable()
	if err != nil {
		return h, err
	}
	for _, name := range []string{"worker1", "worker2"} {
		p, err := chaos.Start(chaos.Program{
			Name: name, Path: self, Log: filepath.Join(dir, name+".log"),
			Args: append([]string{"worker", name, filepath.Join(h.journals(), name+".jsonl")}, h.cluster.URLs()...),
		})
		if err != nil {
			return h, err
		}
		h.net.Know(p.Pid(), name)
		h.workers = append(h.workers, p)
	}
	return h, nil
}

func (h *heddles) journals() string { return filepath.Join(h.dir, "journals") }

func (h *heddles) close() error {
	h.net.Heal()
	var errs []error
	for _, w := range h.workers {
		code, err := w.Terminate(30 * time.Second)
		if err != nil {
			w.Kill()
		} else if code != 0 {
			err = fmt.Errorf("%s ended with code %d", w.Name, code)
		}
		errs = append(errs, err)
	}
	if h.cluster != nil {
		errs = append(errs, h.cluster.Close())
	}
	if h.postgres != nil {
		errs = append(errs, h.postgres.Close(context.Background()))
	}
	h.net.Close()
	if h.journal != nil {
		errs = append(errs, h.journal.Close())
	}
	return errors.Join(errs...)
}

// leader is the node that leads, or the first one while none does.
func (h *heddles) leader(ctx context.Context) *chaos.Node {
	if n := h.cluster.Leader(ctx); n != nil {
		return n
	}
	return h.cluster.Nodes[0]
}

// any is the leader in half of the cases, else another node.
func (h *heddles) any(ctx context.Context) *chaos.Node {
	n := h.leader(ctx)
	if h.rand.IntN(2) == 0 {
		for i, m := range h.cluster.Nodes {
			if m == n {
				return h.cluster.Nodes[(i+1)%len(h.cluster.Nodes)]
			}
		}
	}
	return n
}

// harm does one thing after the other and gives for each the longest time in
// which no job was started.
func (h *heddles) harm(ctx context.Context, o options, out io.Writer) ([]time.Duration, error) {
	h.rand = rand.New(rand.NewPCG(o.seed, 0))
	begun := time.Now()
	until := begun.Add(time.Duration(o.minutes * float64(time.Minute)))
	fmt.Fprintf(out, "\n%7s  %-32s %8s %8s  %s\n", "at", "what", "jobs/s", "gap", "who leads then")
	var gaps []time.Duration
	for i := 0; o.n > 0 && i < o.n || o.n == 0 && time.Now().Before(until); i++ {
		if err := h.wait(ctx, h.between(time.Second, 3*time.Second)); err != nil {
			return gaps, err
		}
		before, at, since := h.starts, time.Now(), oracle.Now()
		what, err := faults[o.faults[i%len(o.faults)]](h, ctx, h.between(time.Second, 4*time.Second))
		if err != nil {
			return gaps, fmt.Errorf("%s: %w", what, err)
		}
		again, cancel := context.WithTimeout(ctx, time.Minute)
		leader, err := h.cluster.AwaitLeader(again, nil)
		if err == nil {
			err = h.awaitStarts(again, 50)
		}
		cancel()
		if err != nil {
			return gaps, fmt.Errorf("after %s: %w", what, err)
		}
		gap := h.pauses.Longest(since, time.Duration(oracle.Now()-since))
		gaps = append(gaps, gap)
		fmt.Fprintf(out, "%7s  %-32s %8.0f %6dms  %s\n", time.Since(begun).Round(100*time.Millisecond), what,
			float64(h.starts-before)/time.Since(at).Seconds(), gap.Milliseconds(), leader.ID)
	}
	return gaps, nil
}

func (h *heddles) between(low, high time.Duration) time.Duration {
	return (low + time.Duration(h.rand.Int64N(int64(high-low)))).Round(100 * time.Millisecond)
}

// wait lets time pass, and looks after the workers.
func (h *heddles) wait(ctx context.Context, d time.Duration) error {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
		return h.look()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitStarts waits until so many more jobs have started.
func (h *heddles) awaitStarts(ctx context.Context, more int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for want := h.starts + more; ; {
		if err := h.look(); err != nil {
			return err
		}
		if h.starts >= want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d more jobs have not started: %w", want-h.starts, ctx.Err())
		}
	}
}

// look takes in what the workers have written.
func (h *heddles) look() error {
	events, err := h.tail.Read()
	if err != nil {
		return err
	}
	for i := range events {
		h.pauses.See(&events[i])
		if events[i].What == oracle.Start {
			h.starts++
		}
	}
	for _, w := range h.workers {
		if !w.Alive() {
			return fmt.Errorf("%s ended by itself with code %d", w.Name, w.Code())
		}
	}
	return nil
}
