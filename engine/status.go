package engine

import (
	"context"
	"fmt"
	"sync"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Status implements api.Cluster: what this node knows, with what the others say
// of themselves. All of them are asked at once, so that one that is away delays
// the answer by describeTime at most.
func (c *cluster) Status(ctx context.Context) *heddlev1.ClusterServiceStatusResponse {
	out := c.Here()
	answers := make([]*heddlev1.ClusterServiceStatusResponse, len(out.GetMembers()))
	var wg sync.WaitGroup
	for i, m := range out.GetMembers() {
		if m.GetId() == out.GetNode() {
			continue
		}
		wg.Go(func() {
			if m.GetApi() == "" {
				m.Trouble = "it has not told its address yet"
				return
			}
			answer, err := c.peers.describe(ctx, m.GetApi())
			switch {
			case err != nil:
				m.Trouble = unanswered(err)
			case answer.GetNode() != m.GetId():
				m.Trouble = fmt.Sprintf("node %q answers at its address", answer.GetNode())
			case answer.GetClusterId() != "" && out.GetClusterId() != "" && answer.GetClusterId() != out.GetClusterId():
				m.Trouble = fmt.Sprintf("it belongs to cluster %s", answer.GetClusterId())
			default:
				answers[i] = answer
				saysOfItself(m, answer)
			}
		})
	}
	wg.Wait()
	for _, answer := range answers {
		if answer.GetState() == "leader" && answer.GetNode() == out.GetLeader() {
			ofLeader(out, answer)
		}
	}
	return out
}

// unanswered says why a member gave no answer.
func unanswered(err error) string {
	if connect.CodeOf(err) == connect.CodeDeadlineExceeded {
		return fmt.Sprintf("no answer within %v", describeTime)
	}
	return "no answer: " + err.Error()
}

// saysOfItself copies what a member says of itself.
func saysOfItself(m *heddlev1.Member, s *heddlev1.ClusterServiceStatusResponse) {
	m.State, m.Trouble, m.AppliedIndex = s.GetState(), s.GetTrouble(), s.GetAppliedIndex()
	m.CheckedIndex, m.StateHash = s.GetCheckedIndex(), s.GetStateHash()
}

// ofLeader takes over what only the leader knows.
func ofLeader(out, leader *heddlev1.ClusterServiceStatusResponse) {
	out.Dispatching = leader.GetDispatching()
	for _, m := range out.GetMembers() {
		for _, known := range leader.GetMembers() {
			if known.GetId() == m.GetId() {
				m.LastContact, m.MatchIndex, m.Suffrage = known.GetLastContact(), known.GetMatchIndex(), known.GetSuffrage()
			}
		}
	}
}
