package raftsched

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// news wakes those who wait for a change.
type news struct {
	mu      sync.Mutex
	changed chan struct{}

	seek, suffer error     // trouble: in finding a cluster; else
	suffered     time.Time // when suffer was noted
	sought       time.Time // since when it looks for one
	said         string    // of that, in the log
}

// sayAfter is how long a node looks for its cluster before it says so.
const sayAfter = 500 * time.Millisecond

func (w *news) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

func (w *news) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// troubled notes what this node suffers from; nil: nothing.
func (n *Node) troubled(err error) {
	n.news.mu.Lock()
	defer n.news.mu.Unlock()
	n.news.suffer, n.news.suffered = err, time.Now()
}

// sufferShown is how long a reign's failure is shown after this node lost the
// leadership: the next leader may do better.
const sufferShown = 10 * time.Second

// seeking notes what keeps this node from its cluster, and logs it once.
func (n *Node) seeking(err error) {
	w := &n.news
	w.mu.Lock()
	w.seek = err
	say := false
	switch {
	case err == nil:
		w.sought, w.said = time.Time{}, ""
	case w.sought.IsZero():
		w.sought = time.Now()
	case time.Since(w.sought) >= sayAfter && w.said != err.Error():
		w.said, say = err.Error(), true
	}
	w.mu.Unlock()
	if say {
		n.cfg.Logger.Info("looking for the cluster", "reason", err)
	}
}

// observe is told by Raft of its changes, on its goroutines.
func (n *Node) observe(o *raft.Observation) bool {
	switch v := o.Data.(type) {
	case raft.LeaderObservation:
		n.news.tell()
	case raft.RaftState:
		if v == raft.Candidate {
			n.elections.Add(1)
		}
	case raft.FailedHeartbeatObservation:
		n.missing(v.PeerID, true)
	case raft.ResumedHeartbeatObservation:
		n.missing(v.PeerID, false)
	}
	return false
}

// missing logs once that a member does not answer this leader, and that it does
// again.
func (n *Node) missing(id raft.ServerID, gone bool) {
	if !n.heard.lose(id, gone) {
		return
	}
	if gone {
		n.cfg.Logger.Warn("member does not answer", "member", string(id))
	} else {
		n.cfg.Logger.Info("member answers again", "member", string(id))
	}
}

// stateChanged is told when the members or the cluster's id have changed.
func (n *Node) stateChanged() {
	var cluster fsm.WorkflowID
	n.replica.read(func(s *fsm.State) { cluster = s.Cluster() })
	if cluster != (fsm.WorkflowID{}) {
		if err := n.bonds.set(bond{cluster: cluster}); err != nil {
			n.fail(err)
		}
	}
	n.news.tell()
}

// running: Start has come to its end, well.
func (n *Node) running() bool {
	select {
	case <-n.started:
		return n.raft != nil
	default:
		return false
	}
}

// LeaderHint tells who leads as this node knows, with its addresses. This node
// itself is told only once it dispatches.
func (n *Node) LeaderHint() (leader fsm.Member, known bool) {
	if !n.running() {
		return leader, false
	}
	_, id := n.raft.LeaderWithID()
	if id == "" || string(id) == n.cfg.ID && !n.Ready() {
		return leader, false
	}
	n.replica.read(func(s *fsm.State) { leader, known = s.Member(string(id)) })
	return leader, known
}

// Changed is closed at the next change of LeaderHint or Ready. Ask for it
// first, then look.
func (n *Node) Changed() <-chan struct{} { return n.news.next() }

// Status of this node.
func (n *Node) Status() Status {
	st := Status{Node: n.cfg.ID, State: "stopped", Elections: n.elections.Load(), Terms: n.terms.Load()}
	n.news.mu.Lock()
	seek, suffer := n.news.seek, n.news.suffer
	if time.Since(n.news.suffered) > sufferShown && n.running() && n.raft.State() == raft.Follower {
		suffer = nil
	}
	n.news.mu.Unlock()
	for _, err := range []error{suffer, seek} {
		if err != nil && st.Trouble == "" {
			st.Trouble = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
	if !n.running() {
		return st
	}
	n.describeRaft(&st)
	n.describeState(&st)
	if st.Trouble == "" && st.Leader.ID == "" && (st.State == "follower" || st.State == "candidate") {
		st.Trouble = "no leader is known: a quorum of the voters must be up and reach each other"
	}
	return st
}

func (n *Node) describeRaft(st *Status) {
	r := n.raft
	switch r.State() {
	case raft.Leader:
		st.State = "leader"
	case raft.Candidate:
		st.State = "candidate"
	case raft.Follower:
		st.State = "follower"
	default:
	}
	st.Term, st.LastIndex, st.CommitIndex, st.AppliedIndex = r.CurrentTerm(), r.LastIndex(), r.CommitIndex(), r.AppliedIndex()
	st.SnapshotIndex, _ = strconv.ParseUint(r.Stats()["last_snapshot_index"], 10, 64)
	addr, leader := r.LeaderWithID()
	st.Leader = fsm.Member{ID: string(leader), RaftAddr: string(addr)}
	voters := 0
	for _, s := range members(r) {
		m := MemberStatus{
			Member: fsm.Member{ID: string(s.ID), RaftAddr: n.moves.of(string(s.ID), string(s.Address))},
			Voter:  s.Suffrage == raft.Voter, Leader: s.ID == leader, LastContact: -1,
		}
		if m.Voter {
			voters++
		}
		switch c := n.heard.of(s.ID); {
		case m.ID == n.cfg.ID:
			m.LastContact, m.Match = 0, st.LastIndex
		case st.State == "leader" && !c.at.IsZero():
			m.LastContact, m.Match = time.Since(c.at), c.match
		}
		st.Members = append(st.Members, m)
	}
	slices.SortFunc(st.Members, func(a, b MemberStatus) int { return strings.Compare(a.ID, b.ID) })
	if voters > 0 {
		st.Quorum = voters/2 + 1
	} else if st.State == "follower" {
		st.State = "waiting"
	}
	st.Dispatching = n.Ready()
}

func (n *Node) describeState(st *Status) {
	n.replica.read(func(s *fsm.State) {
		st.Cluster, st.Epoch, st.Leases, st.Sessions = s.Cluster(), s.Epoch(), s.Len(), s.SessionCount()
		st.Features = s.FeatureLevels()
		check := s.Checked()
		st.CheckedIndex, st.StateHash = check.Index, check.Hash
		for i := range st.Members {
			m := &st.Members[i]
			if record, ok := s.Member(m.ID); ok {
				addr := m.RaftAddr
				m.Member = record
				m.RaftAddr = addr // what is dialled
			}
			if m.Leader {
				st.Leader = m.Member
			}
		}
	})
}
