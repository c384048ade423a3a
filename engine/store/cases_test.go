package store

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// storeEngine plays the cases of the rules on the database.
type storeEngine struct {
	*dagtest.Sim // beside it, for the number of starts
	s            *Store
	reign        model.Reign
	id           fsm.WorkflowID
	leased       map[int32]bool
}

func TestCases(t *testing.T) {
	table, err := os.ReadFile("../../dag/testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases, err := dagtest.ParseCases(string(table))
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t)
	reign := newReign(t, s)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			open := func(g *dag.Graph) (dagtest.Engine, error) {
				sim, err := dagtest.New(g, 0)
				if err != nil {
					return nil, err
				}
				id := newID()
				out := s.Submit(context.Background(), []model.Submission{submissionOf(id, g)})
				return &storeEngine{Sim: sim, s: s, reign: reign, id: id, leased: map[int32]bool{}}, out[0].Err
			}
			if err := c.Run(open, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func (e *storeEngine) held() []int32 {
	var nodes []int32
	for node := range e.leased {
		nodes = append(nodes, node)
	}
	return nodes
}

func (e *storeEngine) Apply(events ...dag.Event) (dag.Decision, error) {
	decision, _ := e.Sim.Apply(events...)
	ctx := context.Background()
	for _, v := range events {
		var err error
		switch v.Kind {
		case dag.Report:
			err = e.report(v)
		case dag.Cancel:
			_, err = e.s.Cancel(ctx, e.reign, e.id, v.Node, v.Force, e.held())
		case dag.Retry:
			_, _, err = e.s.Retry(ctx, e.reign, e.id, v.Node, v.Downstream, e.held())
		case dag.Dismiss:
			_, err = e.s.Dismiss(ctx, e.reign, e.id, v.Node, nil, "")
		case dag.GiveUp:
			_, err = e.s.GiveUp(ctx, e.reign, e.id, v.Node)
		case dag.Seal:
			_, err = e.s.Seal(ctx, e.reign, e.id, v.Node)
		default:
			err = fmt.Errorf("no case has event %+v", v)
		}
		if err != nil {
			return dag.Decision{}, err
		}
	}
	return decision, nil
}

func (e *storeEngine) report(v dag.Event) error {
	ending := map[dag.Outcome]model.Ending{dag.Succeeded: model.EndSucceeded, dag.Failed: model.EndFailed, dag.Cancelled: model.EndCancelled}
	f := model.Finish{Job: fsm.JobID{Workflow: e.id, Node: int32(v.Node)}, Ending: ending[v.Outcome], Worker: "w"}
	row := e.s.main.QueryRow(context.Background(), `SELECT turn, batch, coalesce(flags, 0) FROM jobs WHERE workflow_id = $1 AND node = $2 AND state = 1`, e.id, f.Job.Node)
	if err := row.Scan(&f.Turn, &f.Batch, &f.Flags); err != nil {
		return fmt.Errorf("job %d: %w", v.Node, err)
	}
	delete(e.leased, f.Job.Node)
	answers, _, err := e.s.Flush(context.Background(), e.reign, []model.Finish{f})
	if err == nil && answers[0] != (model.Flushed{}) {
		err = fmt.Errorf("answered %+v", answers[0])
	}
	return err
}

func (e *storeEngine) Start(job dag.ID) error {
	e.leased[int32(job)] = true
	return e.Sim.Start(job)
}

func (e *storeEngine) Append(batch dag.ID, g *dag.Graph, inside bool) (dag.ID, error) {
	_, _ = e.Sim.Append(batch, g, inside)
	first, _, _, _, err := e.s.Append(context.Background(), AppendRequest{ID: e.id, Batch: batch, Chunk: *chunkOf(g)})
	return first, err
}

func (e *storeEngine) Node(id dag.ID) dag.Node {
	nodes, err := readGraph(e.s, e.id)
	if err != nil {
		panic(err)
	}
	n := nodes[id]
	n.Running = e.leased[int32(id)]
	return n
}
