package sdkpgx_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/sdkpgx"
)

// The order and its confirmation by mail, or neither.
func ExampleSubmit() {
	ctx := context.Background()
	confirm := heddle.NewKind[string, heddle.None]("order.confirm")
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"http://localhost:7400"}})
	if err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, "postgres://app@localhost/app") // the database the engine uses
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	var run *heddle.Run
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into orders (id) values ($1)", "A-1"); err != nil {
			return err
		}
		var err error
		run, err = sdkpgx.Submit(ctx, tx, confirm.Job("A-1"), sdkpgx.Options{Client: client})
		return err
	})
	if err != nil {
		log.Fatal(err) // nothing was submitted
	}
	outcome, err := run.Wait(ctx)
	fmt.Println(outcome, err)
}
