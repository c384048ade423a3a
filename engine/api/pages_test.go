package api

import (
	"context"
	"fmt"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// fakePages notes what it is asked for.
type fakePages struct{ f *fake }

// pageAsked is what one read was about.
type pageAsked struct {
	id  fsm.WorkflowID
	req any
}

func (p fakePages) Mosaic(_ context.Context, id fsm.WorkflowID, req *heddlev1.MosaicRequest) (*heddlev1.MosaicResponse, error) {
	return &heddlev1.MosaicResponse{}, p.f.ask(pageAsked{id, req})
}

func (p fakePages) Members(_ context.Context, id fsm.WorkflowID, req *heddlev1.MembersRequest) (*heddlev1.MembersResponse, error) {
	return &heddlev1.MembersResponse{}, p.f.ask(pageAsked{id, req})
}

func (p fakePages) Lineage(_ context.Context, id fsm.WorkflowID, req *heddlev1.LineageRequest) (*heddlev1.LineageResponse, error) {
	return &heddlev1.LineageResponse{}, p.f.ask(pageAsked{id, req})
}

func (p fakePages) CriticalPath(_ context.Context, id fsm.WorkflowID, req *heddlev1.CriticalPathRequest) (*heddlev1.CriticalPathResponse, error) {
	return &heddlev1.CriticalPathResponse{}, p.f.ask(pageAsked{id, req})
}

func (p fakePages) TimelineOf(_ context.Context, id fsm.WorkflowID, req *heddlev1.TimelineRequest) (*heddlev1.TimelineResponse, error) {
	return &heddlev1.TimelineResponse{}, p.f.ask(pageAsked{id, req})
}

func (p fakePages) Events(_ context.Context, id fsm.WorkflowID, req *heddlev1.EventsRequest) (*heddlev1.EventsResponse, error) {
	return &heddlev1.EventsResponse{}, p.f.ask(pageAsked{id, req})
}

func (p fakePages) JobGroups(_ context.Context, req *heddlev1.JobServiceGroupsRequest) (*heddlev1.JobServiceGroupsResponse, error) {
	return &heddlev1.JobServiceGroupsResponse{}, p.f.ask(req)
}

func (p fakePages) Relatives(_ context.Context, id fsm.JobID) (*heddlev1.JobServiceRelativesResponse, error) {
	return &heddlev1.JobServiceRelativesResponse{}, p.f.ask(id)
}

func (p fakePages) Batches(_ context.Context, req *heddlev1.BatchServiceListRequest) (*heddlev1.BatchServiceListResponse, error) {
	return &heddlev1.BatchServiceListResponse{}, p.f.ask(req)
}

func (p fakePages) Batch(_ context.Context, id fsm.WorkflowID, node int32) (*heddlev1.BatchServiceGetResponse, error) {
	return &heddlev1.BatchServiceGetResponse{}, p.f.ask(pageAsked{id, node})
}

func (p fakePages) History(_ context.Context, req *heddlev1.StatsServiceHistoryRequest) (*heddlev1.StatsServiceHistoryResponse, error) {
	return &heddlev1.StatsServiceHistoryResponse{}, p.f.ask(req)
}

func (p fakePages) Failures(_ context.Context, req *heddlev1.StatsServiceFailuresRequest) (*heddlev1.StatsServiceFailuresResponse, error) {
	return &heddlev1.StatsServiceFailuresResponse{}, p.f.ask(req)
}

func (p fakePages) Database(_ context.Context, req *heddlev1.StatsServiceDatabaseRequest) (*heddlev1.StatsServiceDatabaseResponse, error) {
	return &heddlev1.StatsServiceDatabaseResponse{}, p.f.ask(req)
}

func (p fakePages) Look(_ context.Context, view *heddlev1.View) (*heddlev1.Sight, error) {
	return &heddlev1.Sight{Cursor: 7}, p.f.ask(view)
}

func (p fakePages) Watch(_ context.Context, view *heddlev1.View, send func(*heddlev1.Sight) error) error {
	if err := p.f.ask(view); err != nil {
		return err
	}
	return send(&heddlev1.Sight{Cursor: 8})
}

func (p fakePages) Sessions(_ context.Context, only uint64) ([]*heddlev1.Session, error) {
	return []*heddlev1.Session{{Id: 3}}, p.f.ask(only)
}

// Every read of the page reaches what it is about; what names no workflow, node or
// state is refused before.
func TestPages(t *testing.T) {
	f := &fake{}
	w, j, p := f.service(), &jobs{reader: f, pages: fakePages{f: f}, scheduler: f}, fakePages{f: f}
	b, st, l, se := &batches{p}, &stats{p}, &live{p}, &sessions{sessions: p}
	wrong := []heddlev1.State{99}
	for name, c := range map[string]struct {
		good, bad func() error // bad: nil if nothing can be wrong here
		want      any
	}{
		"mosaic":    {call(w.Mosaic, &heddlev1.MosaicRequest{WorkflowId: textID, Group: 3}), call(w.Mosaic, &heddlev1.MosaicRequest{}), pageAsked{theID, &heddlev1.MosaicRequest{WorkflowId: textID, Group: 3}}},
		"members":   {call(w.Members, &heddlev1.MembersRequest{WorkflowId: textID}), call(w.Members, &heddlev1.MembersRequest{WorkflowId: textID, States: wrong}), pageAsked{theID, &heddlev1.MembersRequest{WorkflowId: textID}}},
		"lineage":   {call(w.Lineage, &heddlev1.LineageRequest{WorkflowId: textID}), call(w.Lineage, &heddlev1.LineageRequest{WorkflowId: "1"}), pageAsked{theID, &heddlev1.LineageRequest{WorkflowId: textID}}},
		"path":      {call(w.CriticalPath, &heddlev1.CriticalPathRequest{WorkflowId: textID}), call(w.CriticalPath, &heddlev1.CriticalPathRequest{}), pageAsked{theID, &heddlev1.CriticalPathRequest{WorkflowId: textID}}},
		"timeline":  {call(w.Timeline, &heddlev1.TimelineRequest{WorkflowId: textID}), call(w.Timeline, &heddlev1.TimelineRequest{}), pageAsked{theID, &heddlev1.TimelineRequest{WorkflowId: textID}}},
		"events":    {call(w.Events, &heddlev1.EventsRequest{WorkflowId: textID}), call(w.Events, &heddlev1.EventsRequest{}), pageAsked{theID, &heddlev1.EventsRequest{WorkflowId: textID}}},
		"groups":    {call(j.Groups, &heddlev1.JobServiceGroupsRequest{By: "kind"}), call(j.Groups, &heddlev1.JobServiceGroupsRequest{Filter: &heddlev1.JobFilter{States: wrong}}), &heddlev1.JobServiceGroupsRequest{By: "kind"}},
		"relatives": {call(j.Relatives, &heddlev1.JobServiceRelativesRequest{Id: textID + "/4"}), call(j.Relatives, &heddlev1.JobServiceRelativesRequest{Id: "x"}), fsm.JobID{Workflow: theID, Node: 4}},
		"batches":   {call(b.List, &heddlev1.BatchServiceListRequest{Name: "x"}), call(b.List, &heddlev1.BatchServiceListRequest{States: wrong}), &heddlev1.BatchServiceListRequest{Name: "x"}},
		"batch":     {call(b.Get, &heddlev1.BatchServiceGetRequest{WorkflowId: textID, Node: 2}), call(b.Get, &heddlev1.BatchServiceGetRequest{WorkflowId: textID, Node: -1}), pageAsked{theID, int32(2)}},
		"history":   {call(st.History, &heddlev1.StatsServiceHistoryRequest{Points: 5}), nil, &heddlev1.StatsServiceHistoryRequest{Points: 5}},
		"failures":  {call(st.Failures, &heddlev1.StatsServiceFailuresRequest{Kind: "k"}), nil, &heddlev1.StatsServiceFailuresRequest{Kind: "k"}},
		"database":  {call(st.Database, &heddlev1.StatsServiceDatabaseRequest{}), nil, &heddlev1.StatsServiceDatabaseRequest{}},
		"look":      {call(l.Look, &heddlev1.LiveServiceLookRequest{View: &heddlev1.View{WorkflowId: textID}}), call(l.Look, &heddlev1.LiveServiceLookRequest{View: &heddlev1.View{MaxCards: 2001}}), &heddlev1.View{WorkflowId: textID, MaxCards: 400}},
		"frame":     {call(l.Look, &heddlev1.LiveServiceLookRequest{}), call(l.Look, &heddlev1.LiveServiceLookRequest{View: &heddlev1.View{WorkflowId: "1"}}), &heddlev1.View{}},
		"sessions":  {call(se.List, &heddlev1.SessionServiceListRequest{Session: 3}), nil, uint64(3)},
	} {
		if err := c.good(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := f.last(t); !same(got, c.want) {
			t.Errorf("%s: asked for %v, want %v", name, got, c.want)
		}
		asked := len(f.asked)
		if c.bad != nil && (c.bad() == nil || len(f.asked) != asked) {
			t.Errorf("%s: what is wrong is taken", name)
		}
	}
}

// call calls a handler.
func call[Q, A any](handler func(context.Context, *connect.Request[Q]) (*connect.Response[A], error), req *Q) func() error {
	return func() error {
		_, err := handler(context.Background(), connect.NewRequest(req))
		return err
	}
}

func same(a, b any) bool {
	if x, ok := a.(pageAsked); ok {
		y := b.(pageAsked)
		return x.id == y.id && same(x.req, y.req)
	}
	if x, ok := a.(proto.Message); ok {
		return proto.Equal(x, b.(proto.Message))
	}
	return fmt.Sprint(a) == fmt.Sprint(b)
}

// Over HTTP/1.1, as a browser has it: a stream of JSON, and a look.
func TestLiveOverHTTP(t *testing.T) {
	s := serve(t, &fake{}, nil)
	c := heddlev1connect.NewLiveServiceClient(s.Client(), s.URL, connect.WithProtoJSON())
	stream, err := c.Watch(t.Context(), connect.NewRequest(&heddlev1.LiveServiceWatchRequest{View: &heddlev1.View{Overview: true}}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() || stream.Msg().GetSight().GetCursor() != 8 || stream.Receive() || stream.Err() != nil {
		t.Errorf("stream: %v, %v", stream.Msg(), stream.Err())
	}
	look, err := c.Look(t.Context(), connect.NewRequest(&heddlev1.LiveServiceLookRequest{}))
	if err != nil || look.Msg.GetSight().GetCursor() != 7 {
		t.Errorf("look: %v, %v", look, err)
	}
}
