package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// cascadeChunk is how many members of a batch one step of a cascade reaches:
// a transaction of some 60 ms.
const cascadeChunk = 10_000

// Step hands the cascade that waits longest down to the next members of its
// batch. leased tells which jobs of a workflow a session holds, or may hold:
// they are told of a cancel instead of ended. If it cannot tell, nothing is
// done. more says that cascades are left.
func (s *Store) Step(ctx context.Context, reign model.Reign, leased func(fsm.WorkflowID) ([]int32, error)) (eff model.Effects, more bool, err error) {
	oldest, err := s.fdb.OldestCascade(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return eff, false, nil
	}
	if err == nil {
		eff, err = s.step(ctx, reign, oldest.WorkflowID, dag.ID(oldest.Node), leased)
	}
	if err != nil {
		return model.Effects{}, false, fmt.Errorf("step of a cascade: %w", err)
	}
	return eff, true, nil
}

func (s *Store) step(ctx context.Context, reign model.Reign, id fsm.WorkflowID, node dag.ID, leased func(fsm.WorkflowID) ([]int32, error)) (model.Effects, error) {
	w, err := s.begin(ctx, &reign)
	if err != nil {
		return model.Effects{}, err
	}
	defer w.end()
	chunk := s.cascadeChunkOr()
	gs := s.newGraphs()
	gs.lock(w, []fsm.WorkflowID{id})
	var pending bool
	var cursor int32
	w.each(func(r raw) { pending, cursor = true, r.int4(1) }, db.CascadeSQL, id, int32(node))
	if node != dag.Root {
		w.each(gs.put, db.BatchesUpSQL, []fsm.WorkflowID{id}, []int32{int32(node)})
	}
	if err := w.send(ctx); err != nil {
		return model.Effects{}, err
	}
	g := gs.get(id)
	batch, ok := g.region.Node(node)
	if !pending {
		return model.Effects{}, nil
	}
	if !ok || batch.Cascade == dag.NoCascade {
		// Nothing says so any more: the row is a leftover.
		w.queue(db.DropCascadesSQL, []fsm.WorkflowID{id}, []int32{int32(node)})
		return model.Effects{}, w.commit(ctx)
	}
	var members []dag.ID
	var nodes []int32
	w.each(func(r raw) {
		members, nodes = append(members, dag.ID(r.int4(0))), append(nodes, r.int4(0))
	}, db.OpenMembersSQL, id, cursor, int32(batch.Hi), int32(node), chunk+1)
	if err := w.send(ctx); err != nil {
		return model.Effects{}, err
	}
	last := len(members) <= int(chunk)
	if !last {
		members, nodes = members[:chunk], nodes[:chunk]
	}
	if len(members) > 0 {
		ids := make([]fsm.WorkflowID, len(members))
		for i := range ids {
			ids[i] = id
		}
		w.each(gs.put, db.NodesByNumberSQL, ids, nodes)
		if err := w.send(ctx); err != nil {
			return model.Effects{}, err
		}
	}
	g.events = []dag.Event{{Kind: dag.Step, Node: node, Members: members, Last: last}}
	refused, err := gs.decide(ctx, w, leased)
	if err == nil {
		err = refused[id]
	}
	if err != nil {
		return model.Effects{}, err
	}
	wr := &writer{}
	wr.add(g)
	if !last {
		w.queue(db.MoveCascadeSQL, int32(members[len(members)-1])+1, id, int32(node))
	}
	wr.queue(w)
	if err := w.commit(ctx); err != nil {
		return model.Effects{}, err
	}
	return wr.eff.list(), nil
}

func (s *Store) cascadeChunkOr() int32 {
	if s.cascadeChunk > 0 {
		return s.cascadeChunk
	}
	return cascadeChunk
}
