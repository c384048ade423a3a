package store

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Sources of events. Those of the same instant are listed in this order, the end
// of a workflow, say, before that of its last batch.
const (
	eventEnded int8 = iota
	eventAudit
	eventBatch
	eventJob
	eventAttempt
	eventSubmitted
	eventSources
)

// eventKey is a position in the list of events: the later comes first, then the
// lower source, then the higher number and turn (of an audit row, its id).
type eventKey struct {
	at     time.Time
	source int8
	node   int32
	sub    int64
}

func (k eventKey) compare(o eventKey) int {
	return cmp.Or(o.at.Compare(k.at), cmp.Compare(k.source, o.source), cmp.Compare(o.node, k.node), cmp.Compare(o.sub, k.sub))
}

// bound is where a source goes on behind the position.
func (k eventKey) bound(source int8) (at pgtype.Timestamptz, node int32, sub int64) {
	switch {
	case source > k.source: // its rows of that instant are still to come
		return timestampOf(k.at), math.MaxInt32, math.MaxInt64
	case source < k.source:
		return timestampOf(k.at), math.MinInt32, math.MinInt64
	}
	return timestampOf(k.at), k.node, k.sub
}

func (k eventKey) token() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(k.at.UnixMicro()))
	b = append(b, byte(k.source))
	b = binary.BigEndian.AppendUint32(b, uint32(k.node))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, uint64(k.sub)))
}

func readEventToken(token string) (eventKey, error) {
	if token == "" {
		return eventKey{at: lastEnd.at}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 21 || int8(b[8]) < 0 || int8(b[8]) >= eventSources {
		return eventKey{}, invalid("page_token %q is not one of this list", token)
	}
	k := eventKey{at: time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC(), source: int8(b[8]), node: int32(binary.BigEndian.Uint32(b[9:])), sub: int64(binary.BigEndian.Uint64(b[13:]))}
	if k.at.Before(time.Unix(0, 0)) || k.at.After(lastEnd.at) {
		return eventKey{}, invalid("page_token %q is not one of this list", token)
	}
	return k, nil
}

// happened is an event and where it stands.
type happened struct {
	key   eventKey
	route int32 // of a job; 0: none
	event *heddlev1.Event
}

// Events pages through what happened to a workflow, or to one node of it, the
// latest first. What has been pruned from the history is missing.
func (s *Store) Events(ctx context.Context, id fsm.WorkflowID, req *heddlev1.EventsRequest) (*heddlev1.EventsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	at, err := readEventToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	w, err := s.Workflow(ctx, id)
	if err != nil {
		return nil, err
	}
	only := int32(-1)
	if req.Node != nil {
		only = max(req.GetNode(), -1)
	}
	all, err := s.events(ctx, id, only, at, size+1)
	if err != nil {
		return nil, fmt.Errorf("events of workflow %s: %w", id, err)
	}
	if only <= 0 { // of the workflow itself
		edges := []happened{{key: eventKey{at: w.CreatedAt.AsTime(), source: eventSubmitted}, event: &heddlev1.Event{What: "submitted", State: heddlev1.State_STATE_RUNNING, Name: w.Name}}}
		if w.FinishedAt != nil {
			edges = append(edges, happened{key: eventKey{at: w.FinishedAt.AsTime(), source: eventEnded}, event: &heddlev1.Event{What: "workflow ended", State: w.State, Name: w.Name}})
		}
		for _, e := range edges {
			if e.key.compare(at) > 0 {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b happened) int { return a.key.compare(b.key) })
	resp := &heddlev1.EventsResponse{}
	if len(all) > int(size) {
		all = all[:size]
		resp.NextPageToken = all[size-1].key.token()
	}
	if err := s.nameEvents(ctx, id, all); err != nil {
		return nil, fmt.Errorf("events of workflow %s: %w", id, err)
	}
	for _, e := range all {
		e.event.At = timestamppb.New(e.key.at)
		resp.Events = append(resp.Events, e.event)
	}
	return resp, nil
}

// events reads up to limit rows of each source behind a position.
func (s *Store) events(ctx context.Context, id fsm.WorkflowID, only int32, from eventKey, limit int32) ([]happened, error) {
	var all []happened
	at, node, _ := from.bound(eventJob)
	ends, err := s.rdb.EndEvents(ctx, db.EndEventsParams{WorkflowID: id, OneNode: only, At: at, Node: node, MaxRows: limit})
	if err != nil {
		return nil, err
	}
	for _, r := range ends {
		all = append(all, happened{eventKey{r.FinishedAt.Time, eventJob, r.Node, 0}, r.Route, &heddlev1.Event{
			What: "ended", Node: r.Node, Name: r.Name, State: outcomeState(r.Outcome), Attempt: int32(r.Attempt), Worker: r.Worker, Error: r.Error,
		}})
	}
	at, node, sub := from.bound(eventAttempt)
	attempts, err := s.rdb.AttemptEvents(ctx, db.AttemptEventsParams{WorkflowID: id, OneNode: only, At: at, Node: node, Turn: int32(min(max(sub, math.MinInt32), math.MaxInt32)), MaxRows: limit})
	if err != nil {
		return nil, err
	}
	for _, r := range attempts {
		all = append(all, happened{eventKey{r.FinishedAt.Time, eventAttempt, r.Node, int64(r.Turn)}, 0, &heddlev1.Event{
			What: "attempt", Node: r.Node, Attempt: int32(r.Attempt), How: attemptWords[r.How], Worker: r.Worker, Error: r.Error,
		}})
	}
	at, node, _ = from.bound(eventBatch)
	batches, err := s.rdb.BatchEvents(ctx, db.BatchEventsParams{WorkflowID: id, OneNode: only, At: at, Node: node, MaxRows: limit})
	if err != nil {
		return nil, err
	}
	for _, r := range batches {
		all = append(all, happened{eventKey{r.FinishedAt.Time, eventBatch, r.Node, 0}, 0, &heddlev1.Event{
			What: "batch ended", Node: r.Node, Name: r.Name, State: outcomeState(r.Outcome),
		}})
	}
	at, _, sub = from.bound(eventAudit)
	audit, err := s.rdb.AuditEvents(ctx, db.AuditEventsParams{WorkflowID: id, OneNode: only, At: at, ID: sub, MaxRows: limit})
	if err != nil {
		return nil, err
	}
	for _, r := range audit {
		all = append(all, happened{eventKey{r.At.Time, eventAudit, 0, r.ID}, 0, &heddlev1.Event{What: r.Action, Node: r.Node, Note: r.Note, Author: r.Author}})
	}
	return all, nil
}

// nameEvents fills in names and kinds.
func (s *Store) nameEvents(ctx context.Context, id fsm.WorkflowID, all []happened) error {
	var nodes []int32
	for _, e := range all {
		if (e.key.source == eventAttempt || e.key.source == eventAudit) && e.event.Node != 0 {
			nodes = append(nodes, e.event.Node)
		}
	}
	slices.Sort(nodes)
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	facts, err := s.facts(ctx, id, slices.Compact(nodes), now)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.route != 0 {
			route, err := s.routeNames(ctx, e.route)
			if err != nil {
				return err
			}
			e.event.Kind = route.kind
		} else if f := facts[e.event.Node]; f != nil {
			e.event.Name, e.event.Kind = f.Name, f.kind
		}
	}
	return nil
}
