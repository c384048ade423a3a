package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Bounds of a timeline.
const (
	defaultBuckets = 120
	fewestBuckets  = 10
	mostBuckets    = 400
	stripRows      = 300_000 // ended jobs, and attempts, that one answer looks at
	spanAttempts   = 20_000
)

// TimelineOf tells when the jobs of each card ran, in a strip of buckets; of one
// card, a row per job.
func (s *Store) TimelineOf(ctx context.Context, id fsm.WorkflowID, req *heddlev1.TimelineRequest) (*heddlev1.TimelineResponse, error) {
	buckets := int(req.GetBuckets())
	switch {
	case buckets == 0:
		buckets = defaultBuckets
	case buckets < fewestBuckets || buckets > mostBuckets:
		return nil, invalid("buckets is %d, must be %d to %d", buckets, fewestBuckets, mostBuckets)
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := readToken(req.GetPageToken(), key{id: id})
	if err != nil {
		return nil, err
	}
	if after.id != id {
		return nil, invalid("page_token %q is of another workflow", req.GetPageToken())
	}
	w, err := s.Workflow(ctx, id)
	if err != nil {
		return nil, err
	}
	shown, err := s.show(ctx, id, req.GetMaxCards())
	if err != nil {
		return nil, err
	}
	from, to := w.CreatedAt.AsTime(), shown.now
	if w.FinishedAt != nil {
		to = w.FinishedAt.AsTime()
	}
	if !to.After(from) {
		to = from.Add(time.Millisecond)
	}
	resp := &heddlev1.TimelineResponse{From: timestamppb.New(from), To: timestamppb.New(to)}
	if req.Group != nil {
		nodes, next, err := s.members(ctx, shown, req.GetGroup(), newStateSet(nil), after.node, int(size))
		if err != nil {
			return nil, err
		}
		if next != 0 {
			resp.NextPageToken = pageToken(key{id, next})
		}
		if resp.Jobs, err = s.spans(ctx, shown, nodes); err != nil {
			return nil, fmt.Errorf("timeline of workflow %s: %w", id, err)
		}
		return resp, nil
	}
	t := newStrips(shown.picture, from, to, buckets)
	if err := s.fillStrips(ctx, id, t); err != nil {
		return nil, fmt.Errorf("timeline of workflow %s: %w", id, err)
	}
	if err := s.fillBatches(ctx, id, t, w); err != nil {
		return nil, fmt.Errorf("timeline of workflow %s: %w", id, err)
	}
	resp.Rows = t.done()
	resp.LeftOut = max(w.Jobs.GetSucceeded()+w.Jobs.GetFailed()+w.Jobs.GetCancelled()+w.Jobs.GetSkipped()-stripRows, 0)
	return resp, nil
}

// strips are rows under construction. While they are filled, running holds how
// many more run in a bucket than in the one before.
type strips struct {
	picture  *picture
	from, to time.Time
	width    float64 // of a bucket, in seconds
	buckets  int
	rows     []*heddlev1.TimelineRow // by card
}

func newStrips(p *picture, from, to time.Time, buckets int) *strips {
	t := &strips{picture: p, from: from, to: to, width: to.Sub(from).Seconds() / float64(buckets), buckets: buckets, rows: make([]*heddlev1.TimelineRow, len(p.cards))}
	for i := range t.rows {
		t.rows[i] = &heddlev1.TimelineRow{Group: int32(i), Running: make([]int32, buckets+1), Failed: make([]int32, buckets), Jobs: p.cards[i].Size}
	}
	return t
}

func (t *strips) clamp(bucket int32) int32 { return min(max(bucket, 0), int32(t.buckets)-1) }

// extend widens the span of a row.
func extend(row *heddlev1.TimelineRow, first, last pgtype.Timestamptz) {
	if first.Valid && (row.FirstStart == nil || first.Time.Before(row.FirstStart.AsTime())) {
		row.FirstStart = stamp(first)
	}
	if last.Valid && (row.LastEnd == nil || last.Time.After(row.LastEnd.AsTime())) {
		row.LastEnd = stamp(last)
	}
}

// add takes runs that all began, or all ended, in a bucket.
func (t *strips) add(r *db.FinishedStripsRow) {
	if r.Card < 0 || int(r.Card) >= len(t.rows) {
		return
	}
	row := t.rows[r.Card]
	at := t.clamp(r.Bucket)
	if r.Ending {
		row.Running[at+1] -= int32(r.Jobs)
		row.Failed[at] += int32(r.Failed)
	} else {
		row.Running[at] += int32(r.Jobs)
	}
	extend(row, r.FirstStart, r.LastEnd)
}

// runs takes a job that has begun and not ended.
func (t *strips) runs(lease fsm.Lease) {
	card := t.picture.cardOf(lease.Job.Node)
	if card < 0 {
		return
	}
	began := time.UnixMicro(lease.GrantedAt)
	t.rows[card].Running[t.clamp(int32(began.Sub(t.from).Seconds()/t.width))]++
	extend(t.rows[card], timestampOf(began), pgtype.Timestamptz{})
}

func (t *strips) done() []*heddlev1.TimelineRow {
	for _, row := range t.rows {
		sum := int32(0)
		for i, n := range row.Running {
			sum += n
			row.Running[i] = sum
		}
		row.Running = row.Running[:t.buckets]
	}
	return t.rows
}

func (s *Store) fillStrips(ctx context.Context, id fsm.WorkflowID, t *strips) error {
	finished, err := s.rdb.FinishedStrips(ctx, db.FinishedStripsParams{
		WorkflowID: id, Cards: t.picture.grps, Los: t.picture.los, FromAt: timestampOf(t.from), Width: t.width, MaxRows: stripRows,
	})
	if err != nil {
		return err
	}
	for i := range finished {
		t.add(&finished[i])
	}
	attempts, err := s.rdb.AttemptStrips(ctx, db.AttemptStripsParams{
		WorkflowID: id, Cards: t.picture.grps, Los: t.picture.los, FromAt: timestampOf(t.from), Width: t.width, MaxRows: stripRows,
	})
	if err != nil {
		return err
	}
	for i := range attempts {
		r := db.FinishedStripsRow(attempts[i])
		t.add(&r)
	}
	for _, lease := range s.leases().Leased(id) {
		t.runs(lease)
	}
	return nil
}

// fillBatches gives the rows of single batches their spans.
func (s *Store) fillBatches(ctx context.Context, id fsm.WorkflowID, t *strips, w *heddlev1.Workflow) error {
	known := make(map[int32]*heddlev1.Batch, len(w.Batches))
	for _, b := range w.Batches {
		known[b.Node] = b
	}
	var missing []int32
	for i := range t.picture.cards {
		c := &t.picture.cards[i]
		if c.IsBatch && c.Node != 0 && known[int32(c.Node)] == nil {
			missing = append(missing, int32(c.Node))
		}
	}
	if len(missing) > 0 {
		rows, err := s.rdb.BatchesByNode(ctx, db.BatchesByNodeParams{WorkflowID: id, Nodes: missing})
		if err != nil {
			return err
		}
		for i := range rows {
			known[rows[i].Node] = viewBatch(&rows[i])
		}
	}
	for i := range t.picture.cards {
		if c := &t.picture.cards[i]; c.IsBatch && c.Node != 0 {
			if b := known[int32(c.Node)]; b != nil {
				t.rows[i].FirstStart, t.rows[i].LastEnd = b.StartedAt, b.FinishedAt
			}
		}
	}
	return nil
}

// spans tells of each job when it waited and ran. What is not known is left out:
// when a job was released that has run more than once.
func (s *Store) spans(ctx context.Context, w *shown, nodes []oneNode) ([]*heddlev1.TimelineJob, error) {
	var numbers []int32
	for _, n := range nodes {
		if n.job != nil {
			numbers = append(numbers, n.number)
		}
	}
	attempts := make(map[int32][]db.AttemptsOfRow)
	if len(numbers) > 0 {
		rows, err := s.rdb.AttemptsOf(ctx, db.AttemptsOfParams{WorkflowID: w.id, Nodes: numbers, MaxRows: spanAttempts})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			attempts[r.Node] = append(attempts[r.Node], r)
		}
	}
	out := make([]*heddlev1.TimelineJob, 0, len(nodes))
	for _, n := range nodes {
		if n.batch != nil {
			out = append(out, batchSpan(n.batch))
			continue
		}
		job, err := s.viewJob(ctx, n.job, w.now)
		if err != nil {
			return nil, err
		}
		out = append(out, &heddlev1.TimelineJob{
			Node: n.number, Name: job.Name, Kind: job.Kind, State: job.State, Spans: jobSpans(n.job, job, attempts[n.number], w.now),
		})
	}
	return out, nil
}

func batchSpan(b *db.Batch) *heddlev1.TimelineJob {
	t := &heddlev1.TimelineJob{Node: b.Node, Name: text(b.Name), State: batchState(b.State, b.Outcome)}
	if b.StartedAt.Valid {
		t.Spans = []*heddlev1.Span{{From: stamp(b.StartedAt), To: stamp(b.FinishedAt), What: "attempt", How: stateWord(t.State)}}
	}
	return t
}

// stateWord is the end of an attempt in a word.
func stateWord(s heddlev1.State) string {
	switch s {
	case heddlev1.State_STATE_SUCCEEDED:
		return "succeeded"
	case heddlev1.State_STATE_FAILED:
		return "failed"
	case heddlev1.State_STATE_CANCELLED:
		return "cancelled"
	case heddlev1.State_STATE_SKIPPED:
		return "skipped"
	}
	return "running"
}

// jobSpans orders what is known of a job: its earlier attempts, the delays behind
// them, and how it stands now. run_at of the row is when the latest wait ended,
// or will end.
func jobSpans(row *viewRow, job *heddlev1.Job, attempts []db.AttemptsOfRow, now time.Time) []*heddlev1.Span {
	var spans []*heddlev1.Span
	var last time.Time // end of what is known so far
	put := func(from, to time.Time, what, how, worker string) {
		span := &heddlev1.Span{From: timestamppb.New(from), What: what, How: how, Worker: worker}
		if !to.IsZero() {
			span.To = timestamppb.New(to)
		}
		spans = append(spans, span)
		last = to
	}
	for _, a := range attempts {
		if !a.StartedAt.Valid {
			continue
		}
		if !last.IsZero() && a.StartedAt.Time.After(last) {
			put(last, a.StartedAt.Time, "delayed", "", "")
		}
		put(a.StartedAt.Time, a.FinishedAt.Time, "attempt", attemptWords[a.How], a.Worker)
	}
	if row.State == stateBlocked {
		return spans
	}
	due := row.RunAt.Time
	if !last.IsZero() && due.After(last) {
		put(last, due, "delayed", "", "")
	} else if last.IsZero() && due.After(now) {
		put(now, due, "delayed", "", "")
	}
	switch {
	case job.StartedAt != nil:
		began := job.StartedAt.AsTime()
		if wait := later(due, last); began.After(wait) {
			put(wait, began, "waiting", "", "")
		}
		var ended time.Time
		if job.FinishedAt != nil {
			ended = job.FinishedAt.AsTime()
		}
		put(began, ended, "attempt", stateWord(job.State), job.Worker)
	case row.State == stateReleased && !due.After(now):
		put(later(due, last), time.Time{}, "waiting", "", "")
	}
	return spans
}
