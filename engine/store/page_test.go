package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/heddle-io/heddle/dag/dagtest"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// played submits a random graph and runs it for so many steps, some of whose
// attempts fail; a few jobs are left leased.
func played(t testing.TB, s *Store, reign model.Reign, rng *rand.Rand, shape dagtest.Shape, steps int) fsm.WorkflowID {
	t.Helper()
	g := dagtest.Random(rng.IntN, shape)
	sub := submissionOf(newID(), &g)
	for i := range sub.Nodes {
		if j := sub.Nodes[i].Job; j != nil {
			j.Kind = g.Nodes[i].Kind
		}
	}
	submitOne(t, s, sub)
	leases := heldLeases{}
	for range steps {
		ready := readyOf(t, s, sub.ID)
		ready = slices.DeleteFunc(ready, func(r dispatch.Row) bool { return leases[r.Job].ID != 0 })
		if len(ready) == 0 {
			break
		}
		row := ready[rng.IntN(len(ready))]
		f := finish(row, model.EndSucceeded)
		f.Ran = time.Duration(rng.IntN(300)) * time.Microsecond
		switch rng.IntN(8) {
		case 0:
			f.Ending, f.Error = model.EndFailed, "failed"
		case 1:
			f.Ending, f.How, f.Error = model.EndRetry, 1, "once more"
		case 2:
			if len(leases) < 3 {
				leases[row.Job] = fsm.Lease{Job: row.Job, ID: 1, GrantedAt: time.Now().UnixMicro()}
				continue
			}
		}
		mustFlush(t, s, reign, f)
	}
	s.ShowLeases(leases)
	return sub.ID
}

// allStates are the states of all nodes, as Nodes shows them.
func allStates(t testing.TB, s *Store, id fsm.WorkflowID) map[int32]heddlev1.State {
	t.Helper()
	states := map[int32]heddlev1.State{}
	req := &heddlev1.NodesRequest{PageSize: 500}
	for {
		page, err := s.Nodes(context.Background(), id, AllNodes, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.GetJobs() {
			states[j.GetNode()] = j.GetState()
		}
		for _, b := range page.GetBatches() {
			states[b.GetNode()] = b.GetState()
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return states
		}
	}
}

// Cards, their counts, their mosaics and their members tell the same, however far
// cards are merged: each node is on one card, in its state.
func TestCardsAgree(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(11, 12))
	for round := range 12 {
		id := played(t, s, reign, rng, dagtest.Shape{Nodes: 60, Edges: 40, Waits: true}, rng.IntN(40))
		states := allStates(t, s, id)
		if round%3 == 2 {
			// Too large for another layout: what comes now is on a card of its own.
			n := int32(len(states) + 1)
			exec(t, s, `INSERT INTO jobs (workflow_id, run_at, node, route, state, priority, max_attempts, batch) SELECT $1, now(), $2, min(id), 1, 2, 10, 0 FROM routes`, id, n)
			exec(t, s, `UPDATE workflows SET next_node = $2, total = total + 1 WHERE id = $1`, id, layoutNodes+2)
			states[n] = heddlev1.State_STATE_AVAILABLE
		}
		for _, maxCards := range []int32{0, 7, 2} {
			w, g, err := s.WorkflowGraph(ctx, id, int(maxCards))
			if err != nil {
				t.Fatal(err)
			}
			seen := map[int32]bool{}
			jobs := &heddlev1.Counts{}
			for _, card := range g.GetCards() {
				checkCard(t, s, id, maxCards, card, w, states, seen)
				if !card.GetIsBatch() {
					addCounts(jobs, card.GetCounts())
				}
			}
			if g.GetMerged() == "" && round%3 != 2 && !proto.Equal(jobs, w.GetJobs()) {
				t.Errorf("round %d: the cards count %v, the workflow %v", round, jobs, w.GetJobs())
			}
			if len(seen) != len(states) {
				t.Errorf("round %d, at most %d cards: %d of %d nodes are on a card", round, maxCards, len(seen), len(states))
			}
			if _, err := s.Mosaic(ctx, id, &heddlev1.MosaicRequest{MaxCards: maxCards, Group: int32(len(g.GetCards()))}); !errors.Is(err, model.ErrInvalid) {
				t.Errorf("a card too many: %v", err)
			}
		}
	}
	if _, err := s.Mosaic(ctx, newID(), &heddlev1.MosaicRequest{}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown workflow: %v", err)
	}
	alone := lone("mail")
	submitOne(t, s, alone)
	if m, err := s.Mosaic(ctx, alone.ID, &heddlev1.MosaicRequest{}); err != nil || m.GetFirst() != 1 || string(m.GetStates()) != "\x03" {
		t.Errorf("lone job: %v, %v", m, err)
	}
	if m, err := s.Members(ctx, alone.ID, &heddlev1.MembersRequest{}); err != nil || len(m.GetJobs()) != 1 || m.GetNextPageToken() != "" {
		t.Errorf("lone job: %v, %v", m, err)
	}
}

func addCounts(to, c *heddlev1.Counts) {
	to.Total += c.GetTotal()
	for state := heddlev1.State_STATE_BLOCKED; state <= heddlev1.State_STATE_SKIPPED; state++ {
		one := &heddlev1.Counts{}
		count(one, state, 1)
		one.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			count(to, state, c.ProtoReflect().Get(f).Int())
			return true
		})
	}
}

func checkCard(t *testing.T, s *Store, id fsm.WorkflowID, maxCards int32, card *heddlev1.Card, w *heddlev1.Workflow, states map[int32]heddlev1.State, seen map[int32]bool) {
	t.Helper()
	ctx := context.Background()
	m, err := s.Mosaic(ctx, id, &heddlev1.MosaicRequest{MaxCards: maxCards, Group: card.GetGroup()})
	if err != nil {
		t.Fatal(err)
	}
	counts := &heddlev1.Counts{}
	var numbers []int32
	node := m.GetFirst()
	for i, b := range m.GetStates() {
		if i > 0 {
			if len(m.GetGaps()) > 0 {
				node += m.GetGaps()[i-1]
			} else {
				node++
			}
		}
		if seen[node] || states[node] != heddlev1.State(b) {
			t.Errorf("card %v: node %d is %v in the mosaic, %v in fact; on another card: %t", card, node, heddlev1.State(b), states[node], seen[node])
		}
		seen[node] = true
		numbers = append(numbers, node)
		count(counts, heddlev1.State(b), 1)
		counts.Total++
	}
	single := card.GetNode() != 0
	if !(single && card.GetIsBatch()) && !proto.Equal(counts, card.GetCounts()) && card.GetLabel() != "appended" {
		t.Errorf("card %v: the mosaic counts %v", card, counts)
	}
	if single && card.GetState() != states[card.GetNode()] {
		t.Errorf("card %v is %v in fact", card, states[card.GetNode()])
	}
	if single && card.GetIsBatch() {
		for _, b := range w.GetBatches() {
			if b.GetNode() == card.GetNode() && !proto.Equal(b.GetMembers(), card.GetCounts()) {
				t.Errorf("card %v: the batch counts %v", card, b.GetMembers())
			}
		}
	}
	for _, only := range [][]heddlev1.State{nil, {heddlev1.State_STATE_RUNNING, heddlev1.State_STATE_SUCCEEDED}, {heddlev1.State_STATE_BLOCKED, heddlev1.State_STATE_FAILED}} {
		var got, want []int32
		for _, n := range numbers {
			if only == nil || slices.Contains(only, states[n]) {
				want = append(want, n)
			}
		}
		req := &heddlev1.MembersRequest{MaxCards: maxCards, Group: card.GetGroup(), States: only, PageSize: 3}
		for {
			page, err := s.Members(ctx, id, req)
			if err != nil {
				t.Fatal(err)
			}
			var some []int32
			for _, j := range page.GetJobs() {
				some = append(some, j.GetNode())
			}
			for _, b := range page.GetBatches() {
				some = append(some, b.GetNode())
			}
			slices.Sort(some)
			got = append(got, some...)
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("card %v, states %v: members %v, want %v", card, only, got, want)
		}
	}
}

// A card's numbers may be a comb; a window never cuts more than it should.
func TestWindows(t *testing.T) {
	var spans []cardSpan
	for i := range int32(3000) {
		spans = append(spans, cardSpan{i * 100, i*100 + 3})
	}
	spans = append(spans, cardSpan{300_000, 450_000})
	var numbers, want int64
	for _, s := range spans {
		want += int64(s.hi - s.lo + 1)
	}
	last := int32(-1)
	for rest := spans; len(rest) > 0; {
		var in []cardSpan
		in, rest = window(rest)
		if len(in) == 0 || in[0].lo <= last || in[len(in)-1].hi-in[0].lo >= windowNodes {
			t.Fatalf("window %v behind %d", in, last)
		}
		for _, s := range in {
			numbers += int64(s.hi - s.lo + 1)
		}
		last = in[len(in)-1].hi
	}
	if numbers != want {
		t.Errorf("%d numbers, want %d", numbers, want)
	}
	for node, want := range map[int32]bool{0: true, 3: true, 4: false, 299_903: true, 299_904: false, 300_000: true, 450_000: true, 450_001: false} {
		if contains(spans, node) != want {
			t.Errorf("%d: got %t", node, !want)
		}
	}
}

// The strips are those of a look at every run.
func TestTimelineStrips(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(13, 14))
	for range 6 {
		id := played(t, s, reign, rng, dagtest.Shape{Nodes: 40, Edges: 30, Plain: true}, 5+rng.IntN(60))
		const buckets = 20
		resp, err := s.TimelineOf(ctx, id, &heddlev1.TimelineRequest{Buckets: buckets})
		if err != nil {
			t.Fatal(err)
		}
		_, g, err := s.WorkflowGraph(ctx, id, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.picture(ctx, id, defaultCards, int32(len(allStates(t, s, id))))
		if err != nil {
			t.Fatal(err)
		}
		from, to := resp.GetFrom().AsTime(), resp.GetTo().AsTime()
		bucket := func(at time.Time) int {
			return min(max(int(at.Sub(from).Seconds()/(to.Sub(from).Seconds()/buckets)), 0), buckets-1)
		}
		running, failed := map[string]int32{}, map[string]int32{}
		run := func(node int32, began, ended time.Time, lost bool) {
			card := p.cardOf(node)
			for b := bucket(began); b <= bucket(ended); b++ {
				running[fmt.Sprint(card, b)]++
			}
			if lost {
				failed[fmt.Sprint(card, bucket(ended))]++
			}
		}
		rows, err := s.main.Query(ctx, `SELECT node, started_at, finished_at, outcome = 2 FROM finished_jobs WHERE workflow_id = $1 AND started_at IS NOT NULL
			UNION ALL SELECT node, started_at, finished_at, true FROM attempts WHERE workflow_id = $1`, id)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var node int32
			var began, ended time.Time
			var lost bool
			if err := rows.Scan(&node, &began, &ended, &lost); err != nil {
				t.Fatal(err)
			}
			run(node, began, ended, lost)
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
		for _, l := range s.leases().Leased(id) {
			run(l.Job.Node, time.UnixMicro(l.GrantedAt), to, false)
		}
		if len(resp.GetRows()) != len(g.GetCards()) {
			t.Fatalf("%d rows, %d cards", len(resp.GetRows()), len(g.GetCards()))
		}
		for _, row := range resp.GetRows() {
			for b := range buckets {
				k := fmt.Sprint(row.GetGroup(), b)
				if row.GetRunning()[b] != running[k] || row.GetFailed()[b] != failed[k] {
					t.Errorf("card %d, bucket %d: %d run and %d fail, want %d and %d", row.GetGroup(), b, row.GetRunning()[b], row.GetFailed()[b], running[k], failed[k])
				}
			}
		}
		checkSpans(t, s, id, g)
	}
}

// checkSpans opens every card: each member has a row, whose spans are in order,
// touch each other or leave out what is not known.
func checkSpans(t *testing.T, s *Store, id fsm.WorkflowID, g *heddlev1.GraphResponse) {
	t.Helper()
	members := 0
	for _, card := range g.GetCards() {
		req := &heddlev1.TimelineRequest{Group: proto.Int32(card.GetGroup()), PageSize: 4}
		for {
			resp, err := s.TimelineOf(context.Background(), id, req)
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range resp.GetJobs() {
				members++
				var last time.Time
				for i, span := range j.GetSpans() {
					if span.GetFrom().AsTime().Before(last) || span.GetTo() != nil && span.GetTo().AsTime().Before(span.GetFrom().AsTime()) ||
						span.GetTo() == nil && i < len(j.GetSpans())-1 {
						t.Errorf("spans of node %d: %v", j.GetNode(), j.GetSpans())
					}
					last = span.GetTo().AsTime()
				}
				if running := j.GetState() == heddlev1.State_STATE_RUNNING; running && (len(j.GetSpans()) == 0 || j.GetSpans()[len(j.GetSpans())-1].GetHow() != "running") {
					t.Errorf("node %d runs: %v", j.GetNode(), j.GetSpans())
				}
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
	}
	if want := len(allStates(t, s, id)); members != want {
		t.Errorf("%d rows of %d nodes", members, want)
	}
}

// Events are complete, in order and without repeats, in pages of any size.
func TestEventsPages(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(15, 16))
	id := played(t, s, reign, rng, dagtest.Shape{Nodes: 40, Edges: 30, Plain: true}, 40)
	if _, err := s.Cancel(ctx, reign, id, 0, false, nil); err != nil { // many end at once
		t.Fatal(err)
	}
	want := queryInt(t, s, `SELECT (SELECT count(*) FROM finished_jobs WHERE workflow_id = $1) + (SELECT count(*) FROM attempts WHERE workflow_id = $1)
		+ (SELECT count(*) FROM batches WHERE workflow_id = $1 AND state = 2) + (SELECT count(*) FROM audit WHERE workflow_id = $1) + 1
		+ (SELECT count(*) FROM workflows WHERE id = $1 AND state = 2)`, id)
	var first []*heddlev1.Event
	for _, size := range []int32{500, 1, 3, 10} {
		var all []*heddlev1.Event
		req := &heddlev1.EventsRequest{WorkflowId: id.String(), PageSize: size}
		for {
			page, err := s.Events(ctx, id, req)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, page.GetEvents()...)
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if int64(len(all)) != want {
			t.Errorf("pages of %d: %d events, want %d", size, len(all), want)
		}
		for i := 1; i < len(all); i++ {
			if all[i].GetAt().AsTime().After(all[i-1].GetAt().AsTime()) {
				t.Errorf("pages of %d: %v behind %v", size, all[i], all[i-1])
			}
		}
		if first == nil {
			first = all
		}
		if !slices.EqualFunc(all, first, func(a, b *heddlev1.Event) bool { return proto.Equal(a, b) }) {
			t.Errorf("pages of %d differ", size)
		}
	}
	if e := first[len(first)-1]; e.GetWhat() != "submitted" {
		t.Errorf("the first is %v", e)
	}
	for _, e := range first {
		if e.GetNode() == 0 {
			continue
		}
		one, err := s.Events(ctx, id, &heddlev1.EventsRequest{Node: proto.Int32(e.GetNode())})
		if err != nil || !slices.ContainsFunc(one.GetEvents(), func(o *heddlev1.Event) bool { return proto.Equal(o, e) }) {
			t.Errorf("events of node %d: %v, %v", e.GetNode(), one, err)
		}
	}
	if _, err := s.Events(ctx, id, &heddlev1.EventsRequest{PageToken: "AA"}); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("bad token: %v", err)
	}
	if _, err := s.Events(ctx, newID(), &heddlev1.EventsRequest{}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown workflow: %v", err)
	}
}
