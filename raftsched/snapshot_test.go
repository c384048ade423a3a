package raftsched

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// TestSnapshotsStaySmall: 100,000 leases make a snapshot of a few megabytes, and
// what is behind it leaves the log but for the trailing entries. A member that
// was away, and one that is new, get it.
func TestSnapshotsStaySmall(t *testing.T) {
	s := newStreet(t)
	s.timings = RaftTimings{Heartbeat: time.Second, LeaderLease: time.Second, Commit: 10 * time.Millisecond}
	first := s.start("n1", nil, 0)
	s.leader()
	s.start("n2", []string{first.addr}, 0)
	s.await("n2 votes", func() bool { return len(s.voters(first.node)) == 2 })
	s.start("n3", []string{first.addr}, 0)
	s.await("n3 votes", func() bool { return len(s.voters(first.node)) == 3 })
	s.stop("n3")

	r := first.node.reign.Load()
	opened, err := r.commit(fsm.OpenSession{Worker: "w"})
	if err != nil {
		t.Fatal(err)
	}
	node := int32(0)
	for range 100 {
		c := &fsm.Schedule{Epoch: r.epoch.Load()}
		for range 1000 {
			node++
			id := fsm.WorkflowID{0: byte(node), 1: byte(node >> 8), 2: byte(node >> 16), 15: byte(node)}
			c.Grants = append(c.Grants, fsm.Grant{Job: fsm.JobID{Workflow: id, Node: node}, Session: opened.Session, Poll: 1})
		}
		if res, err := r.commit(c); err != nil || len(res.Rejected) > 0 {
			t.Fatal(res, err)
		}
	}
	rc := first.node.raft.ReloadableConfig()
	rc.TrailingLogs = 10
	if err := first.node.raft.ReloadConfig(rc); err != nil {
		t.Fatal(err)
	}
	if err := first.node.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	list, err := first.node.disk.snapshots.List()
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	if size := list[0].Size; size < 1_000_000 || size > 5_000_000 {
		t.Errorf("a snapshot of 100,000 leases has %d bytes", size)
	}
	if low, err := first.node.disk.log.FirstIndex(); err != nil || low+20 < list[0].Index {
		t.Errorf("the log begins at %d, the snapshot is of %d: %v", low, list[0].Index, err)
	}
	// n3 misses entries that are gone; n4 has none.
	s.open(s.all["n3"], listen(t), []string{first.addr}, 0)
	s.start("n4", []string{first.addr}, 0)
	for _, id := range []string{"n3", "n4"} {
		s.await(id+" has all leases", func() bool { return s.all[id].leases() == 100_000 })
	}
	s.await("n4 votes", func() bool { return len(s.voters(first.node)) == 4 })
	sums := map[uint64]bool{}
	s.await("all are at one index", func() bool {
		indexes := map[uint64]bool{}
		clear(sums)
		for _, m := range s.all {
			m.node.replica.read(func(st *fsm.State) {
				indexes[st.Index()] = true
				sums[st.Sum()] = true
			})
		}
		return len(indexes) == 1
	})
	if len(sums) != 1 {
		t.Errorf("I11: %d states at one index", len(sums))
	}
}

// stuck is a pipeline's network side whose answers wait to be taken.
type stuck struct {
	room    chan struct{} // of one answer
	answers chan raft.AppendFuture
	closed  chan struct{}
}

type refusal struct {
	raft.AppendFuture
	req raft.AppendEntriesRequest
}

func (refusal) Error() error                          { return nil }
func (r refusal) Request() *raft.AppendEntriesRequest { return &r.req }
func (refusal) Response() *raft.AppendEntriesResponse { return &raft.AppendEntriesResponse{} }
func (s *stuck) Consumer() <-chan raft.AppendFuture   { return s.answers }
func (s *stuck) Close() error                         { close(s.closed); return nil }
func (s *stuck) AppendEntries(req *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	s.room <- struct{}{}
	go func() {
		select {
		case s.answers <- refusal{req: *req}:
		case <-s.closed:
		}
		<-s.room
	}()
	return nil, nil
}

// TestPipelineDoesNotWaitForRaft: Raft takes no more answers after the first
// refusal, while its sender may still be sending. The sender must come back.
func TestPipelineDoesNotWaitForRaft(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	inner := &stuck{room: make(chan struct{}, 1), answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	p := &pipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	relayed := make(chan struct{})
	heard := contacts{}
	go func() {
		defer close(relayed)
		p.relay(func(f raft.AppendFuture) { heard.appended("n2", f.Request(), f.Response()) })
	}()
	sent := make(chan error, 1)
	go func() {
		for range 5 {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{}, nil); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	first := <-p.Consumer() // then nobody asks
	if first.Response().Success {
		t.Error("not a refusal")
	}
	select {
	case err := <-sent:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("the sender waits for whoever takes the answers")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	<-relayed
	if heard.of("n2").at.IsZero() {
		t.Error("answers were not noted")
	}
}
