package raftsched

import (
	"io"
	"sync"

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
}

// Apply answers with an *fsm.Result, or the error that halted the state.
func (r *replica) Apply(l *raft.Log) any {
	r.mu.Lock()
	res, err := r.state.Apply(l.Index, l.Data)
	r.mu.Unlock()
	if err != nil {
		r.halted(err)
		return err
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
	defer r.mu.Unlock()
	return r.state.Restore(from)
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
