package raftsched

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// replica is the replicated state under a lock, as hashicorp/raft drives it.
// Raft's own goroutine is its only writer.
type replica struct {
	mu    sync.RWMutex
	state *fsm.State
	// halted is told once that this node cannot follow the log any further.
	halted func(error)
	// running: Raft has started; before, Restore's error is the start's.
	running atomic.Bool
	// changed is told when members or the cluster's id may have changed.
	changed func()
	// applied, if set, is told of every entry, with the state locked: for tests.
	applied func(index uint64, s *fsm.State)
}

// Apply answers with an *fsm.Result, or the error that halted the state.
func (r *replica) Apply(l *raft.Log) any {
	r.mu.Lock()
	res, err := r.state.Apply(l.Index, l.Data)
	if r.applied != nil && err == nil {
		r.applied(l.Index, r.state)
	}
	r.mu.Unlock()
	if err != nil {
		r.halted(err)
		return err
	}
	if res.Members {
		r.changed()
	}
	return res
}

func (r *replica) Snapshot() (raft.FSMSnapshot, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, err := r.state.Snapshot()
	if err != nil {
		return nil, err
	}
	return snapshot{s}, nil
}

func (r *replica) Restore(from io.ReadCloser) error {
	defer from.Close()
	r.mu.Lock()
	err := r.state.Restore(from)
	r.mu.Unlock()
	if err != nil {
		if r.running.Load() {
			r.halted(err)
		}
		return err
	}
	r.changed()
	return nil
}

// read runs f with the state locked for reading; f must be short.
func (r *replica) read(f func(*fsm.State)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f(r.state)
}

type snapshot struct{ *fsm.Snapshot }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.WriteTo(sink); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

func (s snapshot) Release() {}
