package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
)

// The ends of a transaction whose statements travel in pipelines. The fence is
// right under READ COMMITTED only, whatever the role's default.
const (
	beginSQL    = "BEGIN ISOLATION LEVEL READ COMMITTED"
	commitSQL   = "COMMIT"
	rollbackSQL = "ROLLBACK"
)

// work is a transaction whose statements are queued and sent together: one
// round trip for each send. Behind the fence, if it is given a reign: the
// fence raises, so that nothing queued behind it runs (C10).
type work struct {
	conn  *pgxpool.Conn // nil in somebody else's transaction
	to    sender
	batch *pgx.Batch
}

// sender runs pipelines: a connection, or a transaction on one.
type sender interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// inside is work that is a part of another transaction.
func inside(tx pgx.Tx) *work { return &work{to: tx, batch: &pgx.Batch{}} }

// begin takes a connection and queues the head of the transaction; nothing is
// sent yet.
func (s *Store) begin(ctx context.Context, reign *model.Reign) (*work, error) {
	conn, err := s.flush.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	w := &work{conn: conn, to: conn, batch: &pgx.Batch{}}
	w.batch.Queue(beginSQL)
	if reign != nil {
		w.batch.Queue(db.FenceSQL, int64(reign.Epoch), reign.Timeline)
	}
	return w, nil
}

func (w *work) queue(sql string, args ...any) *pgx.QueuedQuery {
	return w.batch.Queue(sql, args...)
}

// each queues a query and has its rows read by f.
func (w *work) each(f func(raw), sql string, args ...any) {
	w.batch.Queue(sql, args...).Query(func(rows pgx.Rows) error { return each(rows, f) })
}

// send runs what is queued and reads its answers.
func (w *work) send(ctx context.Context) error {
	if w.batch.Len() == 0 {
		return nil
	}
	batch := w.batch
	w.batch = &pgx.Batch{}
	return fencedError(w.to.SendBatch(ctx, batch).Close())
}

// commit runs what is queued and commits, in one round trip. It does not
// listen to ctx's end. model.ErrDoubt leaves open whether the transaction is
// durable; after any other error nothing has happened.
func (w *work) commit(ctx context.Context) error {
	var tag pgconn.CommandTag
	w.batch.Queue(commitSQL).Exec(func(t pgconn.CommandTag) error {
		tag = t
		return nil
	})
	conn := w.conn.Conn().PgConn()
	takeWarning(conn)
	err := w.send(context.WithoutCancel(ctx))
	if err == nil && tag.String() != commitSQL {
		return fmt.Errorf("commit answered %q", tag)
	}
	return commitOutcome(conn, err)
}

// end gives the connection back; a transaction that is still open is undone.
func (w *work) end() {
	if conn := w.conn.Conn().PgConn(); !conn.IsClosed() && conn.TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		// A connection on which this goes wrong is not taken back by the pool.
		_, _ = conn.Exec(ctx, rollbackSQL).ReadAll()
	}
	w.conn.Release()
}

// fencedError makes the fence's error one to branch on.
func fencedError(err error) error {
	if sqlState(err) == codeFenced {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}
