package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// RunNow makes a scheduled or retryable job due. A job that is due stays as it
// is.
func (s *Store) RunNow(ctx context.Context, reign model.Reign, job fsm.JobID, leased []int32) (model.Effects, error) {
	fail := func(err error) (model.Effects, error) {
		return model.Effects{}, fmt.Errorf("run now job %s: %w", job, err)
	}
	for try := 1; ; try++ {
		w, err := s.begin(ctx, &reign)
		if err != nil {
			return fail(err)
		}
		eff, err := s.runOneNow(ctx, w, job, leased)
		w.end()
		if errors.Is(err, errMoved) && try < lockTries {
			continue
		}
		if errors.Is(err, errMoved) {
			err = model.ErrNotFound
		}
		if err != nil {
			return fail(err)
		}
		return eff, nil
	}
}

func (s *Store) runOneNow(ctx context.Context, w *work, job fsm.JobID, leased []int32) (eff model.Effects, err error) {
	gs, lost, err := s.holdAll(ctx, w, []fsm.JobID{job})
	if err != nil {
		return eff, err
	}
	if len(lost) > 0 {
		return eff, errMoved
	}
	row, known := gs.get(job.Workflow).rows[dag.ID(job.Node)]
	switch {
	case !known:
		return eff, model.ErrNotFound
	case row.kind == rowBatch:
		return eff, fmt.Errorf("%w: node %d is a batch", model.ErrRefused, job.Node)
	case row.kind == rowFinished:
		return eff, fmt.Errorf("%w: it has ended", model.ErrRefused)
	case row.was.State == dag.Blocked:
		return eff, fmt.Errorf("%w: it waits for other jobs, not for a time", model.ErrRefused)
	case slices.Contains(leased, job.Node):
		return eff, fmt.Errorf("%w: it runs", model.ErrRefused)
	}
	var done operated
	eff, err = s.runNow(ctx, w, gs, &OperationStep{Jobs: []fsm.JobID{job}}, &done)
	if err != nil || len(done.ids) == 0 {
		return eff, err
	}
	w.queue(db.AddAuditSQL, job.Workflow, job.Node, "run now", "", access.From(ctx).Name)
	return eff, w.commit(ctx)
}

// runNow makes scheduled and retryable jobs due.
func (s *Store) runNow(ctx context.Context, w *work, gs *graphs, step *OperationStep, done *operated) (model.Effects, error) {
	var p db.RunJobsNowParams
	for _, j := range step.Jobs {
		g := gs.byID[j.Workflow]
		if g == nil {
			continue
		}
		row, known := g.rows[dag.ID(j.Node)]
		if !known || row.kind != rowOpen || row.was.State != dag.Released || slices.Contains(step.Leased[j.Workflow], j.Node) {
			continue
		}
		o := jobOptions(row.opts)
		p.Ids, p.Nodes = append(p.Ids, j.Workflow), append(p.Nodes, j.Node)
		p.Waits, p.Deadlines = append(p.Waits, micros(o.GetWaitTimeout())), append(p.Deadlines, micros(o.GetDeadline()))
	}
	eff := effects{}
	if len(p.Ids) > 0 {
		w.each(func(r raw) {
			row := r.ready()
			eff.Gone = append(eff.Gone, dispatch.JobTurn{Job: row.Job, Turn: row.Turn - 1})
			eff.ready(row)
			eff.Touched = append(eff.Touched, row.Job.Workflow)
			done.change(row.Job.Workflow, row.Job.Node)
		}, db.RunJobsNowSQL, p.Ids, p.Nodes, p.Waits, p.Deadlines)
		if err := w.send(ctx); err != nil {
			return model.Effects{}, err
		}
	}
	done.passedOver += int64(len(step.Jobs) - len(done.ids))
	slices.SortFunc(eff.Touched, func(a, b fsm.WorkflowID) int { return slices.Compare(a[:], b[:]) })
	eff.Touched = slices.Compact(eff.Touched)
	return eff.list(), nil
}
