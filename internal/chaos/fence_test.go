package chaos

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The leader is stopped (SIGSTOP) with a transaction open that has passed its
// fence and not committed; another node takes over; then the first one goes on.
// Whether the transaction is let through before the takeover, which then waits
// for it, or is ended by it: nothing of the old reign is written under the new
// one (I6), and every promise is kept.
func TestStoppedBehindTheFence(t *testing.T) {
	for _, c := range []struct {
		name    string
		through bool // the transaction goes on before the takeover ends it
	}{{"ended by the takeover", false}, {"let through", true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(s *Setup) { s.Pause = 50 * time.Millisecond })
			old, err := w.Cluster.AwaitLeader(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := w.AwaitStarts(ctx, 50); err != nil {
				t.Fatal(err)
			}
			w.Fault("stop behind the fence", old.ID)
			free := w.blockFlushes(ctx, t)
			old.Process().Stop()
			if c.through {
				free()
			}
			if _, err := w.Cluster.AwaitLeader(ctx, old); err != nil {
				t.Fatal(err)
			}
			free()
			if err := w.AwaitStarts(ctx, 50); err != nil {
				t.Fatal(err)
			}
			old.Process().Continue()
			if _, err := w.Cluster.AwaitWell(ctx, old); err != nil {
				t.Fatal(err)
			}
			w.Healed("stop behind the fence", old.ID)
			if err := w.AwaitStarts(ctx, 50); err != nil {
				t.Fatal(err)
			}
			if v := w.judge(t, 2*time.Minute); v.Losses != 0 {
				t.Errorf("%d attempts were charged", v.Losses)
			}
		})
	}
}

// blockFlushes keeps transactions that write ends of attempts from going on, and
// returns when one waits that holds the fence. free lets them.
func (w *World) blockFlushes(ctx context.Context, t *testing.T) (free func()) {
	t.Helper()
	conn, err := pgx.Connect(ctx, w.Postgres.Direct())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `LOCK TABLE heddle.finished_jobs IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for caught := false; !caught; <-tick.C {
		err := tx.QueryRow(ctx, `SELECT EXISTS (
			SELECT FROM pg_locks w JOIN pg_locks f USING (pid)
			 WHERE NOT w.granted AND w.relation = 'heddle.finished_jobs'::regclass
			   AND f.granted AND f.locktype = 'advisory' AND f.mode = 'ShareLock')`).Scan(&caught)
		if err != nil {
			t.Fatalf("no transaction waits behind the fence: %v", err)
		}
	}
	return func() {
		if err := tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			t.Error(err)
		}
	}
}
