package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/heddle-io/heddle/engine"
	heddle "github.com/heddle-io/heddle/sdk"
)

// heddleSystem is Heddle: the engine in a process of its own, with its log on
// disk as in production, and a client over the network protocol.
type heddleSystem struct {
	pool   *pgxpool.Pool
	client *heddle.Client
	url    string
	dir    string
	engine *exec.Cmd
	input  io.Closer
}

type chainStep struct{ Chain, Left int }

var (
	noopKind  = heddle.NewKind[heddle.None, heddle.None]("noop")
	stampKind = heddle.NewKind[int64, heddle.None]("stamp")
	chainKind = heddle.NewKind[chainStep, heddle.None]("chain")
	finalKind = heddle.NewKind[heddle.None, heddle.None]("final")
)

func (s *heddleSystem) open(ctx context.Context, dsn string, o options) (err error) {
	if s.dir, err = os.MkdirTemp("", "heddle-bench-engine-"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"engine", "-postgres", dsn, "-dir", s.dir}
	if o.profile != "" {
		args = append(args, "-profile", filepath.Join(o.profile, fmt.Sprintf("engine-%d.pprof", time.Now().UnixNano())))
	}
	s.engine = exec.Command(self, args...)
	s.engine.Stderr = os.Stderr
	if s.input, err = s.engine.StdinPipe(); err != nil {
		return err
	}
	out, err := s.engine.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.engine.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the engine did not start: %w", err)
	}
	s.url = "http://" + strings.TrimSpace(line)
	if s.client, err = heddle.NewClient(heddle.ClientConfig{Addrs: []string{s.url}}); err != nil {
		return err
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return err
	}
	cfg.ConnConfig.RuntimeParams["search_path"] = "heddle"
	s.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	return err
}

func (s *heddleSystem) close() {
	if s.pool != nil {
		s.pool.Close()
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.input != nil {
		s.input.Close()
		if err := s.engine.Wait(); err != nil {
			slog.Error("engine process", "error", err)
		}
	}
	os.RemoveAll(s.dir)
}

func (s *heddleSystem) submitMany(ctx context.Context, n int) error {
	works := make([]heddle.Work, 0, min(n, statement))
	for ; n > 0; n -= len(works) {
		works = works[:0]
		for range min(n, statement) {
			works = append(works, noopKind.Job(heddle.None{}))
		}
		if _, err := s.client.SubmitAll(ctx, works...); err != nil {
			return err
		}
	}
	return nil
}

func (s *heddleSystem) submitBatch(ctx context.Context, n int) error {
	wf := heddle.NewWorkflow("submit")
	wf.Batch("jobs").AddAll(noops(n))
	_, err := s.client.Submit(ctx, wf)
	return err
}

func noops(n int) iter.Seq[heddle.Job] {
	return func(yield func(heddle.Job) bool) {
		for range n {
			if !yield(noopKind.Job(heddle.None{})) {
				return
			}
		}
	}
}

func (s *heddleSystem) submitOne(ctx context.Context) error {
	_, err := s.client.Submit(ctx, noopKind.Job(heddle.None{}))
	return err
}

func (s *heddleSystem) submitStamp(ctx context.Context, at time.Time) error {
	_, err := s.client.Submit(ctx, stampKind.Job(at.UnixNano()))
	return err
}

func (s *heddleSystem) submitChains(ctx context.Context, chains, length int) error {
	works := make([]heddle.Work, chains)
	for c := range works {
		wf := heddle.NewWorkflow("chain")
		last := wf.Add(chainKind.Job(chainStep{c, length - 1}))
		for left := length - 2; left >= 0; left-- {
			last = wf.Add(chainKind.Job(chainStep{c, left})).After(last)
		}
		works[c] = wf
	}
	_, err := s.client.SubmitAll(ctx, works...)
	return err
}

func (s *heddleSystem) submitFan(ctx context.Context, n int) error {
	wf := heddle.NewWorkflow("fan")
	members := wf.Batch("members")
	members.AddAll(noops(n))
	wf.Add(finalKind.Job(heddle.None{})).After(members)
	_, err := s.client.Submit(ctx, wf)
	return err
}

func (s *heddleSystem) idle(ctx context.Context) (idle bool, err error) {
	err = s.pool.QueryRow(ctx, "SELECT NOT EXISTS (SELECT 1 FROM jobs LIMIT 1)").Scan(&idle)
	return idle, err
}

func (s *heddleSystem) workerArgs() []string { return []string{"-peer", "heddle", "-target", s.url} }

// heddleWorker is Heddle's side of the worker process.
func heddleWorker(ctx context.Context, url string, rec *recorder) error {
	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{url}})
	if err != nil {
		return err
	}
	defer c.Close()
	w := heddle.NewWorker(c, heddle.WorkerConfig{Slots: 1000})
	noopKind.Do(w, func(context.Context, heddle.None) error {
		rec.noop()
		return nil
	})
	stampKind.Do(w, func(_ context.Context, at int64) error {
		rec.stamp(at)
		return nil
	})
	chainKind.Do(w, func(_ context.Context, s chainStep) error {
		rec.step(s.Chain, s.Left)()
		return nil
	})
	finalKind.Do(w, func(context.Context, heddle.None) error {
		rec.finale()
		return nil
	})
	return w.Run(ctx)
}

// engineMain is the engine process. It ends when its standard input does.
func engineMain(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("engine", flag.ContinueOnError)
	dsn := fs.String("postgres", "", "database")
	dir := fs.String("dir", "", "data directory")
	profile := fs.String("profile", "", "file for a CPU profile")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := engine.DefaultConfig()
	cfg.Postgres, cfg.DataDir, cfg.Listen = *dsn, *dir, "127.0.0.1:0"
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := engine.New(cfg)
	if err != nil {
		return err
	}
	if err := e.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Stop(context.Background())) }()
	fmt.Println(e.Addr())
	go func() { io.Copy(io.Discard, os.Stdin); cancel() }()
	<-ctx.Done()
	return nil
}
