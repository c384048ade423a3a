// Package sdkpgx submits work to Heddle inside the caller's own PostgreSQL
// transaction: the workflow starts, within a second, if and only if the
// transaction commits. The database must be the one the engines use, and the
// caller's role needs USAGE on the schema of Heddle's tables and INSERT on its
// table submissions.
//
// The package starts no goroutine and keeps no connection.
package sdkpgx

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	heddle "github.com/heddle-io/heddle/sdk"
)

// Tx is a transaction of pgx, as pool.Begin gives it.
type Tx = pgx.Tx

// Options of Submit. The zero value is the usual.
type Options struct {
	// Client to which the Run is bound, and whose propagators add headers. Nil:
	// the Run has an ID only.
	Client *heddle.Client
	// Schema that holds the engine's tables. Default "heddle".
	Schema string
}

const (
	// partBytes is the size of the rows a submission is cut into, and partsAtOnce
	// how many of them travel in one statement.
	partBytes   = 512 << 10
	partsAtOnce = 8

	// channel wakes the engines; they look by themselves too.
	channel = "heddle_submissions"
)

// Submit writes the work into the transaction. An engine takes it over after the
// commit; nothing remains after a rollback. Mistakes of the builder are returned
// before anything is written, and the transaction can go on. Other errors are the
// database's. Of several options the last counts.
//
// What only an engine can tell, such as arguments over its limit, comes out after
// the commit: it logs that it refused the submission, and the workflow is
// [heddle.ErrNotFound].
//
// The whole graph is encoded in memory, about 100 bytes and the arguments per
// job: very large graphs are better streamed with Client.Submit.
func Submit(ctx context.Context, tx Tx, w heddle.Work, opts ...Options) (*heddle.Run, error) {
	var o Options
	if len(opts) > 0 {
		o = opts[len(opts)-1]
	}
	if o.Schema == "" {
		o.Schema = "heddle"
	}
	id, body, err := heddle.Encode(ctx, o.Client, w)
	if err != nil {
		return nil, err
	}
	if err := write(ctx, tx, o.Schema, id, cut(body)); err != nil {
		return nil, fmt.Errorf("submit in a transaction: %w", err)
	}
	return heddle.NewRun(o.Client, id), nil
}

// cut divides the encoded submission; there is always one part.
func cut(body []byte) [][]byte {
	parts := [][]byte{}
	for len(body) > partBytes {
		parts = append(parts, body[:partBytes:partBytes])
		body = body[partBytes:]
	}
	return append(parts, body)
}

// write inserts the parts. The name of the schema is the only thing that is put
// into the SQL: the caller's search_path is not ours to change.
func write(ctx context.Context, tx Tx, schema string, id string, parts [][]byte) error {
	insert := `insert into ` + pgx.Identifier{schema, "submissions"}.Sanitize() + ` (workflow_id, part, parts, body) values ($1::uuid, $2::int4, $3::int4, $4::bytea)`
	for first := 0; first < len(parts); first += partsAtOnce {
		some := parts[first:min(first+partsAtOnce, len(parts))]
		batch := &pgx.Batch{}
		for i, part := range some {
			batch.Queue(insert, id, int32(first+i), int32(len(parts)), part)
		}
		if first+len(some) == len(parts) {
			batch.Queue(`select pg_notify($1, '')`, channel)
		}
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
	}
	return nil
}
