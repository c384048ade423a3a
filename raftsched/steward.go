package raftsched

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	stewardEvery = 250 * time.Millisecond
	// caughtUp: a non-voter that misses at most so many entries, at two looks in
	// a row, is made a voter.
	caughtUp   = 64
	checkEvery = 10 * time.Second
)

// steward keeps the cluster's house while this node leads: addresses, voters,
// members' records, features, and the comparison of the states. What it does
// not manage is looked at again at its next round.
func (r *reign) steward() {
	tick := time.NewTicker(stewardEvery)
	defer tick.Stop()
	near := map[raft.ServerID]bool{} // non-voters that had caught up at the last look
	checked := time.Now()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		err := r.n.change(r.ctx, func(ctx context.Context, _ *reign) error { return r.keepMembers(ctx, near) })
		if err == nil {
			err = r.raiseFeatures()
		}
		if err == nil && time.Since(checked) >= checkEvery {
			checked = time.Now()
			err = r.compare()
		}
		if err != nil && r.ctx.Err() == nil {
			r.n.cfg.Logger.Warn("membership not settled", "error", err)
		}
	}
}

// keepMembers corrects this node's address, promotes who has caught up, and
// drops records of who has gone.
func (r *reign) keepMembers(ctx context.Context, near map[raft.ServerID]bool) error {
	n := r.n
	servers := members(n.raft)
	there := make(map[string]bool, len(servers))
	last := n.raft.LastIndex()
	for _, s := range servers {
		there[string(s.ID)] = true
		if s.ID == raft.ServerID(n.cfg.ID) && string(s.Address) != n.cfg.address() {
			if err := r.addVoter(ctx, n.cfg.ID, n.cfg.address()); err != nil {
				return err
			}
		}
		if s.Suffrage == raft.Voter {
			continue
		}
		if !n.alive(string(s.ID)) || n.heard.of(s.ID).match+caughtUp < last {
			delete(near, s.ID)
			continue
		}
		if !near[s.ID] {
			near[s.ID] = true
			continue
		}
		delete(near, s.ID)
		if err := r.addVoter(ctx, string(s.ID), string(s.Address)); err != nil {
			return err
		}
		n.cfg.Logger.Info("member is a voter now", "member", string(s.ID))
	}
	var records []fsm.Member
	n.replica.read(func(s *fsm.State) { records = s.Members() })
	for _, m := range records {
		if !there[m.ID] {
			if _, err := r.commitContext(ctx, fsm.RemoveMember{ID: m.ID}); err != nil {
				return err
			}
		}
	}
	return nil
}

// raiseFeatures to what all members understand by their records.
func (r *reign) raiseFeatures() error {
	n := r.n
	servers := members(n.raft)
	raise := map[string]uint64{}
	n.replica.read(func(s *fsm.State) {
		for name, level := range n.cfg.Features {
			for _, server := range servers {
				m, _ := s.Member(string(server.ID))
				level = min(level, m.Features[name])
			}
			if level > s.Feature(name) {
				raise[name] = level
			}
		}
	})
	for name, level := range raise {
		if _, err := r.commit(fsm.SetFeature{Name: name, Level: level}); err != nil {
			return err
		}
		n.cfg.Logger.Info("feature in use", "feature", name, "level", level)
	}
	return nil
}

// compare has all nodes compare their states (I11), if anything has happened
// since the last time.
func (r *reign) compare() error {
	var c fsm.Check
	due := false
	r.n.replica.read(func(s *fsm.State) {
		c = s.Checked()
		due = s.Feature(fsm.FeatureCheck) > 0 && s.Index() > c.Index
	})
	if !due {
		return nil
	}
	_, err := r.commit(c)
	return err
}
