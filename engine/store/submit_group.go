package store

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// submitTries is how often a group is written again after errors that another
// try may not meet, and after a COMMIT in doubt.
const submitTries = 5

// commitGroups is the loop of one committer.
func (s *Store) commitGroups() {
	for {
		group := s.group.take()
		if group == nil {
			return
		}
		// Ids in order: two groups that hold the same ones wait for each other
		// in one direction only.
		slices.SortFunc(group, func(a, b *plan) int { return bytes.Compare(a.id[:], b.id[:]) })
		s.commitGroup(group)
		for _, p := range group {
			p.done()
		}
	}
}

// commitGroup writes a group and fills in every answer. It first writes as if
// all were new; whatever speaks against that, it asks again with the same ids,
// in the form that finds out what is there already.
func (s *Store) commitGroup(group []*plan) {
	ctx := context.WithoutCancel(s.life) // a closing store finishes what it has begun
	write := s.writeNew
	if slices.ContainsFunc(group, func(p *plan) bool { return p.repeat || p.doubt }) {
		write = s.writeAgain
	}
	for try := 1; ; try++ {
		err := write(ctx, group)
		again := false
		switch code := sqlState(err); {
		case err == nil:
			return
		case errors.Is(err, model.ErrDoubt):
			for _, p := range group {
				p.doubt = true
			}
			again = s.pause(try)
		case code == codeUnique || passing(err):
			again = true
		case lostConnection(err):
			again = s.pause(try) // before the COMMIT
		case len(group) > 1 && ofData(code):
			for _, p := range group { // find out whose fault it is
				s.commitGroup([]*plan{p})
			}
			return
		}
		if !again || try == submitTries {
			s.failGroup(group, err)
			return
		}
		write = s.writeAgain
	}
}

// ofData tells the SQLSTATEs that a submission may cause by what it holds.
func ofData(code string) bool {
	switch code[:2] {
	case "22", "23", "42", "54":
		return true
	}
	return false
}

// pause waits longer with each try; false when the store closes.
func (s *Store) pause(try int) bool {
	timer := time.NewTimer(time.Duration(try*try) * 50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.life.Done():
		return false
	}
}

func (s *Store) failGroup(group []*plan, err error) {
	for _, p := range group {
		p.out = model.Submitted{ID: p.id, Err: submitError(p.id, err)}
	}
}

// created fills in the answer of a plan that was written.
func (p *plan) created() {
	p.out = model.Submitted{ID: p.id, Created: true, Nodes: p.nodes, Ready: p.ready, Lanes: p.lanes.list()}
}

// graphsAndLone splits a group.
func graphsAndLone(group []*plan) (graphs, lone []*plan) {
	for _, p := range group {
		if p.lone {
			lone = append(lone, p)
		} else {
			graphs = append(graphs, p)
		}
	}
	return graphs, lone
}

func ids(plans []*plan) []fsm.WorkflowID {
	ids := make([]fsm.WorkflowID, len(plans))
	for i, p := range plans {
		ids[i] = p.id
	}
	return ids
}
