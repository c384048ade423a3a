package wire

import (
	"math"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// node converts one node but for its container and its edges. job is where a
// job is put, so that many nodes can share one allocation.
func (l Limits) node(spec *heddlev1.NodeSpec, d *defaults, job *model.Job, out *model.NewNode) error {
	if err := name("name", spec.GetName()); err != nil {
		return err
	}
	if spec.GetJoin() < 0 {
		return invalid("join", "%d is negative", spec.GetJoin())
	}
	*out = model.NewNode{Name: spec.GetName(), Join: spec.GetJoin(), Hold: spec.GetHold(), Cleanup: spec.GetCleanup()}
	switch work := spec.GetNode().(type) {
	case *heddlev1.NodeSpec_Job:
		out.Job = job
		return Within("job", l.job(work.Job, d, job))
	case *heddlev1.NodeSpec_Batch:
		b, err := batch(work.Batch)
		out.Batch = &b
		return Within("batch", err)
	}
	return invalid("", "is neither a job nor a batch")
}

// batch converts the options of a batch.
func batch(spec *heddlev1.BatchSpec) (model.NewBatch, error) {
	if spec.GetToleranceCount() < 0 {
		return model.NewBatch{}, invalid("tolerance_count", "%d is negative", spec.GetToleranceCount())
	}
	if err := fraction("tolerance_percent", spec.GetTolerancePercent(), 100); err != nil {
		return model.NewBatch{}, err
	}
	if spec.GetToleranceCount() > 0 && spec.GetTolerancePercent() > 0 {
		return model.NewBatch{}, invalid("tolerance_percent", "%v is set beside tolerance_count, %d; give one of them",
			spec.GetTolerancePercent(), spec.GetToleranceCount())
	}
	if err := between("priority", spec.GetPriority(), 0, 4); err != nil {
		return model.NewBatch{}, err
	}
	return model.NewBatch{
		Tolerance: dag.Tolerance{Count: spec.GetToleranceCount(), Percent: spec.GetTolerancePercent()},
		Open:      spec.GetOpen(),
		Priority:  int16(spec.GetPriority()),
	}, nil
}

// conditions adds up the outcomes that fire an edge; none: succeeded.
func conditions(on []heddlev1.Outcome) (dag.Outcome, error) {
	var set dag.Outcome
	for _, o := range on {
		switch o {
		case heddlev1.Outcome_OUTCOME_SUCCEEDED, heddlev1.Outcome_OUTCOME_FAILED,
			heddlev1.Outcome_OUTCOME_CANCELLED, heddlev1.Outcome_OUTCOME_SKIPPED:
			set |= dag.Outcome(o)
		default:
			return 0, invalid("on", "%d is no outcome", int32(o))
		}
	}
	if set == 0 {
		set = dag.Succeeded
	}
	return set, nil
}

// edge converts an edge by numbers between low and high; 0 is no end of one.
func edge(e *heddlev1.Edge, low, high int32) (dag.Edge, error) {
	if p := e.GetParent(); p < low || p > high || p == 0 {
		return dag.Edge{}, invalid("parent", "%d is no node of the graph%s", p, span(low, high))
	}
	if c := e.GetChild(); c < low || c > high || c == 0 {
		return dag.Edge{}, invalid("child", "%d is no node of the graph%s", c, span(low, high))
	}
	if e.GetOn() > uint32(dag.Always) {
		return dag.Edge{}, invalid("on", "%d is not in 1..%d", e.GetOn(), dag.Always)
	}
	on := dag.Outcome(e.GetOn())
	if on == 0 {
		on = dag.Succeeded
	}
	return dag.Edge{Parent: dag.ID(e.GetParent()), Child: dag.ID(e.GetChild()), On: on}, nil
}

// span words the numbers that an edge may name.
func span(low, high int32) string {
	switch {
	case low > high || high == 0:
		return ", which has none"
	case high == math.MaxInt32:
		return ""
	}
	return " (" + itoa(low) + " to " + itoa(high) + ")"
}
