// Command txinsert submits a workflow inside a transaction of its own: the order
// and its workflow are both there after the commit, and neither after a
// rollback.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/heddle-io/heddle/examples/internal/local"
	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/sdkpgx"
)

type order struct{ ID string }

var (
	reserve = heddle.NewKind[order, heddle.None]("order.reserve")
	confirm = heddle.NewKind[order, heddle.None]("order.confirm")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "txinsert:", err)
		os.Exit(1)
	}
}

// place writes the order and its workflow, or neither.
func place(ctx context.Context, pool *pgxpool.Pool, c *heddle.Client, o order) (*heddle.Run, error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "INSERT INTO orders (id) VALUES ($1)", o.ID); err != nil {
		return nil, err
	}
	wf := heddle.NewWorkflow("order")
	reserved := wf.Add(reserve.Job(o, heddle.JobOptions{Name: "reserve"}))
	wf.Add(confirm.Job(o, heddle.JobOptions{Name: "confirm"})).After(reserved)
	run, err := sdkpgx.Submit(ctx, tx, wf, sdkpgx.Options{Client: c})
	if err != nil {
		return nil, err
	}
	return run, tx.Commit(ctx)
}

func run(ctx context.Context, out io.Writer) (err error) {
	l, err := local.Start(ctx, "127.0.0.1:0", 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	fmt.Fprintf(out, "admin page: %s/\n", l.URL)
	pool, err := pgxpool.New(ctx, l.DSN)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE TABLE orders (id text PRIMARY KEY)"); err != nil {
		return err
	}
	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{l.URL}})
	if err != nil {
		return err
	}
	defer c.Close()
	w := heddle.NewWorker(c, heddle.WorkerConfig{Slots: 4})
	reserve.Do(w, func(context.Context, order) error { return nil })
	confirm.Do(w, func(context.Context, order) error { return nil })
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- w.Run(ctx) }()

	placed := time.Now()
	r, err := place(ctx, pool, c, order{"A-1"})
	if err != nil {
		return err
	}
	outcome, err := r.Wait(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "order A-1: %s (within two seconds: %v)\n", outcome, time.Since(placed) < 2*time.Second)

	// The same order again violates the table's key: nothing is submitted.
	if _, err := place(ctx, pool, c, order{"A-1"}); err == nil {
		return errors.New("the same order was placed twice")
	}
	var left int
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM heddle.submissions").Scan(&left); err != nil {
		return err
	}
	fmt.Fprintln(out, "order A-1 again: refused; submissions left behind:", left)
	stop()
	return <-worked
}
