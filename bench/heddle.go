package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	heddle "github.com/heddle-io/heddle/sdk"
)

// heddleSystem is Heddle: the engine in a process of its own, with its log on
// disk as in production, and a client over the network protocol.
type heddleSystem struct {
	// nodes is how many engines there are; pages is how many people look at the
	// overview meanwhile.
	nodes, pages int

	pool    *pgxpool.Pool
	client  *heddle.Client
	urls    []string
	dir     string
	engines []*node
	unwatch func()
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
	if s.nodes > 1 {
		s.engines, err = startCluster(ctx, o, dsn, s.dir, s.nodes)
	} else {
		args := []string{"--listen", "127.0.0.1:0"}
		if o.profile != "" {
			args = append(args, "--pprof", profiled)
		}
		var n *node
		if n, err = startNode(o, dsn, s.dir, args...); err == nil {
			s.engines = []*node{n}
		}
	}
	if err != nil {
		return err
	}
	for _, n := range s.engines {
		s.urls = append(s.urls, n.url)
	}
	if o.profile != "" && s.nodes == 1 {
		go profile(filepath.Join(o.profile, fmt.Sprintf("engine-%d.pprof", time.Now().UnixNano())), o.seconds)
	}
	if s.pages > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		closed := make(chan struct{})
		go func() { defer close(closed); watchPages(ctx, s.urls[0], s.pages) }()
		s.unwatch = func() { cancel(); <-closed }
	}
	if s.client, err = heddle.NewClient(heddle.ClientConfig{Addrs: s.urls}); err != nil {
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
	if s.unwatch != nil {
		s.unwatch()
	}
	for _, n := range s.engines {
		n.stop()
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

func (s *heddleSystem) workerArgs() []string {
	return []string{"-peer", "heddle", "-target", strings.Join(s.urls, ",")}
}

// heddleWorker is Heddle's side of the worker process.
func heddleWorker(ctx context.Context, urls string, rec *recorder) error {
	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: strings.Split(urls, ",")})
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

// buildEngine compiles the program that users run.
func buildEngine(ctx context.Context, dir string) (string, error) {
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/heddle-io/heddle").Output()
	if err != nil {
		return "", fmt.Errorf("find the engine's sources (bench runs in its own folder): %w", err)
	}
	path := filepath.Join(dir, "engine")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/engine")
	cmd.Dir = strings.TrimSpace(string(module))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the engine: %w: %s", err, out)
	}
	return path, nil
}

// profiled is where the engine serves its profiles.
const profiled = "127.0.0.1:7499"

// profile writes a CPU profile of the engine to a file.
func profile(path string, seconds int) {
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", profiled, seconds))
	if err != nil {
		slog.Error("profile", "error", err)
		return
	}
	defer res.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		slog.Error("profile", "error", err)
		return
	}
	defer f.Close()
	if _, err := io.Copy(f, res.Body); err != nil {
		slog.Error("profile", "error", err)
	}
}
