package wire

import (
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Report checks one report but for its graph and makes its error fit to be
// kept. Only a report of a success may have a result or a graph.
func (l Limits) Report(r *heddlev1.AttemptReport) error {
	if _, err := Bytes(r.GetWorkflowId(), r.GetNode()); err != nil {
		return err
	}
	if e := r.GetEnding(); e < heddlev1.Ending_ENDING_SUCCEEDED || e > heddlev1.Ending_ENDING_TIMEOUT {
		return invalid("ending", "%d is unknown", int32(e))
	}
	if _, err := Duration("after", r.GetAfter(), maxDuration); err != nil {
		return err
	}
	if err := l.body("result", len(r.GetResult())); err != nil {
		return err
	}
	if r.GetEnding() != heddlev1.Ending_ENDING_SUCCEEDED {
		if len(r.GetResult()) > 0 {
			return invalid("result", "is set, but the attempt did not succeed")
		}
		if r.GetThen() != nil {
			return invalid("then", "is set, but the attempt did not succeed")
		}
	}
	if r.GetRanUs() < 0 {
		return invalid("ran_us", "%d is negative", r.GetRanUs())
	}
	if r.GetEndedUsAgo() < 0 {
		return invalid("ended_us_ago", "%d is negative", r.GetEndedUsAgo())
	}
	if r.GetError() != "" {
		r.Error = keep(r.GetError(), maxError)
	}
	return nil
}
