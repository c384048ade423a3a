package faults

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/pgembed"
	"github.com/heddle-io/heddle/internal/pgtest"
	heddle "github.com/heddle-io/heddle/sdk"
)

// The engine is killed (-9) under load and started again, several times. The
// workers keep what they run: no attempt is charged, nothing is lost, and
// nothing acknowledged runs again.
func TestEngineKilledUnderLoad(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	v := newEvents(t)
	hire(t, s, v, "a", 20, nil)
	hire(t, s, v, "b", 20, nil)
	l := newLoad(t, s.client(nil), 1)
	const kills, rounds = 4, 40
	l.begin(rounds)
	for i := range kills {
		l.reach(v, i*250+l.draw(50, 250))
		s.kill()
		if i == 1 { // once more, in the middle of its start
			s.process = play(t, partEngine, "engine", s.config)
			eventually(t, "the engine says something", startTime, func() bool { return s.log() != "" })
			s.kill()
		}
		s.launch()
	}
	l.finish()
	settle(t, dsn, patience)
	judge(t, dsn, v, l.submitted())
	t.Logf("longest pause between starts: %v", v.longestPause())
}

// Postgres is killed (-9) and started again under load, more than once. While
// it is away nothing is acknowledged; then all goes on by itself.
func TestPostgresKilledUnderLoad(t *testing.T) {
	t.Parallel()
	pg := pgtest.Server(t, true, nil)
	s := serve(t, pg.DSN(), 10*time.Second)
	v := newEvents(t)
	hire(t, s, v, "a", 20, nil)
	hire(t, s, v, "b", 20, nil)
	l := newLoad(t, s.client(nil), 2)
	once := s.client(func(c *heddle.ClientConfig) { c.RetryFor = -1 })
	const kills, rounds = 2, 30
	l.begin(rounds)
	for i := range kills {
		l.reach(v, i*300+l.draw(50, 300))
		pg.Kill()
		if _, err := once.Submit(t.Context(), taskKind.Job(task{})); !errors.Is(err, heddle.ErrUnavailable) {
			t.Errorf("submit without a database: %v, want that it is unavailable", err)
		}
		relaunch(t, pg)
		back, acks, starts := time.Now(), v.acks(), v.starts("")
		eventually(t, "ends are acknowledged again", patience, func() bool { return v.acks() > acks })
		acked := time.Since(back)
		eventually(t, "jobs start again", patience, func() bool { return v.starts("") > starts })
		t.Logf("Postgres is back: the first end acknowledged after %v, the first job started after %v", acked, time.Since(back))
	}
	l.finish()
	settle(t, pg.DSN(), patience)
	judge(t, pg.DSN(), v, l.submitted())
	t.Logf("longest pause between starts: %v", v.longestPause())
}

// Postgres is down when the engine starts: it says so and waits. It starts as
// soon as Postgres is there.
func TestPostgresDownAtStart(t *testing.T) {
	t.Parallel()
	pg := pgtest.Server(t, true, nil)
	pg.Kill()
	s := newServer(t, pg.DSN(), t.TempDir(), 10*time.Second)
	s.process = play(t, partEngine, "engine", s.config)
	eventually(t, "the engine says that Postgres is away", startTime, func() bool {
		return strings.Contains(s.log(), "postgres cannot be reached")
	})
	select {
	case <-s.Ended():
		t.Fatal("the engine ended because Postgres was away")
	default:
	}
	relaunch(t, pg)
	s.hear("ready", startTime)
	v := newEvents(t)
	hire(t, s, v, "a", 10, nil)
	l := newLoad(t, s.client(nil), 3)
	l.begin(2)
	l.finish()
	settle(t, pg.DSN(), patience)
	judge(t, pg.DSN(), v, l.submitted())
	if code := s.terminate(startTime); code != 0 {
		t.Errorf("the engine ended with code %d", code)
	}
}

// relaunch starts a killed server again as soon as the system has cleared its
// children away.
func relaunch(t testing.TB, pg *pgembed.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	var err error
	eventually(t, "Postgres starts again", startTime, func() bool {
		err = pg.Launch(ctx)
		return err == nil
	})
}
