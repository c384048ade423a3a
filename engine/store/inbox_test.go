package store

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

func decodeJSON(body []byte) (model.Submission, error) {
	var sub model.Submission
	err := json.Unmarshal(body, &sub)
	return sub, err
}

// write puts a submission into the inbox, in parts of size bytes.
func write(t testing.TB, s *Store, sub model.Submission, size int) {
	t.Helper()
	body, err := json.Marshal(sub)
	if err != nil {
		t.Fatal(err)
	}
	parts := (len(body) + size - 1) / size
	for i := range parts {
		exec(t, s, `INSERT INTO submissions (workflow_id, part, parts, body) VALUES ($1, $2, $3, $4)`, sub.ID, i, parts, body[i*size:min(len(body), (i+1)*size)])
	}
}

func TestImport(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	graph := graphOf([]model.NewNode{named("a", job("mail")), batch("b"), in(2, job("fax"))})
	write(t, s, graph, 100)
	alone := lone("mail")
	write(t, s, alone, 1<<20)
	broken := newID()
	exec(t, s, `INSERT INTO submissions (workflow_id, part, parts, body) VALUES ($1, 0, 2, 'x')`, broken)
	waited := lone("old")
	waited.ID = idAt(time.Now().Add(-72 * time.Hour))
	write(t, s, waited, 1<<20)
	exec(t, s, `UPDATE submissions SET created_at = now() - interval '3 days' WHERE workflow_id = $1`, waited.ID)
	out, err := s.Import(ctx, decodeJSON, 100)
	if err != nil || len(out) != 4 {
		t.Fatalf("%v, %v", out, err)
	}
	if out[0].ID != waited.ID || out[0].Err != nil {
		t.Errorf("the one that waited longest: %+v", out[0])
	}
	for _, o := range out {
		if bad := o.ID == broken; bad != errors.Is(o.Err, model.ErrInvalid) || bad == o.Created {
			t.Errorf("%+v", o)
		}
	}
	if n := queryInt(t, s, `SELECT count(*) FROM submissions`); n != 0 {
		t.Errorf("%d parts left", n)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs`); n != 4 {
		t.Errorf("%d jobs", n)
	}
	// A crash between the submit and the removal.
	write(t, s, alone, 10)
	if out, err := s.Import(ctx, decodeJSON, 100); err != nil || len(out) != 1 || out[0].Created || out[0].Err != nil {
		t.Errorf("again: %+v, %v", out, err)
	}
	if out, err := s.Import(ctx, decodeJSON, 100); err != nil || len(out) != 0 {
		t.Errorf("empty: %+v, %v", out, err)
	}
}

func TestImportOnSeveralNodes(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	const n = 60
	for range n {
		write(t, s, lone("mail"), 50)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	created := map[fsm.WorkflowID]int{}
	for range 3 {
		wg.Go(func() {
			for {
				out, err := s.Import(ctx, decodeJSON, 7)
				if err != nil {
					t.Error(err)
				}
				if len(out) == 0 {
					return
				}
				mu.Lock()
				for _, o := range out {
					if o.Created {
						created[o.ID]++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if out, err := s.Import(ctx, decodeJSON, n); err != nil || len(out) != 0 {
		t.Errorf("left: %v, %v", out, err)
	}
	if len(created) != n || queryInt(t, s, `SELECT count(*) FROM jobs`) != n {
		t.Errorf("%d created", len(created))
	}
}

func TestListen(t *testing.T) {
	s := openStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	woken := make(chan struct{}, 100)
	ended := make(chan error)
	go func() { ended <- s.Listen(ctx, func() { woken <- struct{}{} }) }()
	wait := func(what string) {
		t.Helper()
		select {
		case <-woken:
		case <-time.After(10 * time.Second):
			t.Fatalf("not woken %s", what)
		}
	}
	wait("at the start")
	exec(t, s, `SELECT pg_notify('heddle_submissions', '')`)
	wait("by a notification")
	exec(t, s, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`)
	wait("after the connection was lost")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
