package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverSystem is River, tuned as its own benchmark does: a fetch cooldown of a
// millisecond or two and 1,000 workers. It has no batches and no continuations;
// a chain inserts the next job in the transaction that completes the one
// before, a fan counts its members down in a row of a table, as its users do.
type riverSystem struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	dsn    string
}

type riverNoop struct{}

func (riverNoop) Kind() string { return "noop" }

type riverStamp struct {
	At int64 `json:"at"`
}

func (riverStamp) Kind() string { return "stamp" }

type riverChain struct {
	Chain int `json:"chain"`
	Left  int `json:"left"`
}

func (riverChain) Kind() string { return "chain" }

type riverMember struct {
	Fan int `json:"fan"`
}

func (riverMember) Kind() string { return "member" }

type riverFinal struct{}

func (riverFinal) Kind() string { return "final" }

func (s *riverSystem) open(ctx context.Context, dsn string, _ options) (err error) {
	s.dsn = dsn
	if s.pool, err = riverPool(ctx, dsn, 70); err != nil {
		return err
	}
	m, err := rivermigrate.New(riverpgxv5.New(s.pool), nil)
	if err != nil {
		return err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, "create table fans (id int primary key, left_over int not null)"); err != nil {
		return err
	}
	s.client, err = river.NewClient(riverpgxv5.New(s.pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	return err
}

func riverPool(ctx context.Context, dsn string, conns int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = conns
	return pgxpool.NewWithConfig(ctx, cfg)
}

func (s *riverSystem) close() {
	if s.pool != nil {
		s.pool.Close()
	}
}

// statement is how many jobs go into one COPY.
const statement = 5000

func (s *riverSystem) submitMany(ctx context.Context, n int) error {
	for ; n > 0; n -= statement {
		if _, err := s.client.InsertManyFast(ctx, repeated(riverNoop{}, min(n, statement))); err != nil {
			return err
		}
	}
	return nil
}

func (s *riverSystem) submitBatch(ctx context.Context, n int) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if err := s.insert(ctx, tx, riverNoop{}, n); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (s *riverSystem) insert(ctx context.Context, tx pgx.Tx, args river.JobArgs, n int) error {
	for ; n > 0; n -= statement {
		if _, err := s.client.InsertManyFastTx(ctx, tx, repeated(args, min(n, statement))); err != nil {
			return err
		}
	}
	return nil
}

func repeated(args river.JobArgs, n int) []river.InsertManyParams {
	params := make([]river.InsertManyParams, n)
	for i := range params {
		params[i].Args = args
	}
	return params
}

func (s *riverSystem) submitOne(ctx context.Context) error {
	_, err := s.client.Insert(ctx, riverNoop{}, nil)
	return err
}

func (s *riverSystem) submitStamp(ctx context.Context, at time.Time) error {
	_, err := s.client.Insert(ctx, riverStamp{At: at.UnixNano()}, nil)
	return err
}

func (s *riverSystem) submitChains(ctx context.Context, chains, length int) error {
	var params []river.InsertManyParams
	for c := range chains {
		params = append(params, river.InsertManyParams{Args: riverChain{Chain: c, Left: length - 1}})
	}
	_, err := s.client.InsertManyFast(ctx, params)
	return err
}

func (s *riverSystem) submitFan(ctx context.Context, n int) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "insert into fans values (1, $1)", n); err != nil {
		return err
	}
	if err := s.insert(ctx, tx, riverMember{Fan: 1}, n); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (s *riverSystem) idle(ctx context.Context) (idle bool, err error) {
	err = s.pool.QueryRow(ctx, `select not exists (select 1 from river_job
		where state in ('available', 'pending', 'running', 'retryable', 'scheduled') limit 1)`).Scan(&idle)
	return idle, err
}

func (s *riverSystem) workerArgs() []string { return []string{"-peer", "river", "-target", s.dsn} }

// riverWorker is River's side of the worker process.
func riverWorker(ctx context.Context, dsn string, rec *recorder) error {
	pool, err := riverPool(ctx, dsn, 70)
	if err != nil {
		return err
	}
	defer pool.Close()
	ws := river.NewWorkers()
	river.AddWorker(ws, river.WorkFunc(func(context.Context, *river.Job[riverNoop]) error {
		rec.noop()
		return nil
	}))
	river.AddWorker(ws, river.WorkFunc(func(_ context.Context, j *river.Job[riverStamp]) error {
		rec.stamp(j.Args.At)
		return nil
	}))
	river.AddWorker(ws, river.WorkFunc(func(ctx context.Context, j *river.Job[riverChain]) error {
		end := rec.step(j.Args.Chain, j.Args.Left)
		if j.Args.Left == 0 {
			end()
			return nil
		}
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		client := river.ClientFromContext[pgx.Tx](ctx)
		if _, err := client.InsertTx(ctx, tx, riverChain{Chain: j.Args.Chain, Left: j.Args.Left - 1}, nil); err != nil {
			return err
		}
		if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, j); err != nil {
			return err
		}
		end() // before the commit, after which the next job may start
		return tx.Commit(ctx)
	}))
	river.AddWorker(ws, river.WorkFunc(func(ctx context.Context, j *river.Job[riverMember]) error {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		var left int
		if err := tx.QueryRow(ctx, "update fans set left_over = left_over - 1 where id = $1 returning left_over", j.Args.Fan).Scan(&left); err != nil {
			return err
		}
		if left == 0 {
			if _, err := river.ClientFromContext[pgx.Tx](ctx).InsertTx(ctx, tx, riverFinal{}, nil); err != nil {
				return err
			}
		}
		if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, j); err != nil {
			return err
		}
		return tx.Commit(ctx)
	}))
	river.AddWorker(ws, river.WorkFunc(func(context.Context, *river.Job[riverFinal]) error {
		rec.finale()
		return nil
	}))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger:            slog.New(slog.DiscardHandler),
		FetchCooldown:     time.Millisecond,
		FetchPollInterval: 2 * time.Millisecond,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1000}},
		Workers:           ws,
	})
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return client.Stop(context.Background())
}
