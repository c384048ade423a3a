package raftsched

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// proposer appends entries to the Raft log and tells their outcomes, both in
// the order proposed. One goroutine proposes, one waits. It belongs to a reign
// and ends when told, after its last entry has its outcome.
type proposer struct {
	raft *raft.Raft
	// outcome is told the error of every entry, nil for a commit.
	outcome func(error)
	// dead is closed when Raft was stopped beneath us: it may then owe outcomes
	// that it will never tell.
	dead <-chan struct{}

	mu     sync.Mutex
	queue  []proposal
	closed bool
	wake   chan struct{}

	proposed, outcomes atomic.Uint64 // counted
	ended              chan struct{} // closed when the last one has its outcome

	wg sync.WaitGroup
}

type proposal struct {
	data []byte
	// done runs on the waiting goroutine and must not block.
	done func(*fsm.Result, error)
	raft.ApplyFuture
}

func newProposer(n *Node) *proposer {
	p := &proposer{raft: n.raft, outcome: n.outcome, dead: n.dead, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	waiting := make(chan proposal, 64)
	p.wg.Go(func() {
		defer close(waiting)
		p.run(waiting)
	})
	p.wg.Go(func() {
		defer close(p.ended)
		for w := range waiting {
			p.await(w)
		}
	})
	p.wg.Go(func() { p.watch(n) })
	return p
}

// propose never blocks. After close, done gets ErrNotLeader at once.
func (p *proposer) propose(c fsm.Command, done func(*fsm.Result, error)) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		done(nil, ErrNotLeader)
		return
	}
	p.queue = append(p.queue, proposal{data: c.Append(nil), done: done})
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// close waits until all that was proposed has its outcome.
func (p *proposer) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	p.wg.Wait()
}

func (p *proposer) run(waiting chan<- proposal) {
	for range p.wake {
		p.mu.Lock()
		queue, closed := p.queue, p.closed
		p.queue = nil
		p.mu.Unlock()
		for _, w := range queue {
			p.proposed.Add(1)
			w.ApplyFuture = p.raft.Apply(w.data, 0)
			waiting <- w
		}
		if closed {
			return
		}
	}
}

func (p *proposer) await(w proposal) {
	outcome := make(chan error, 1)
	go func() { outcome <- w.Error() }()
	var err error
	select {
	case err = <-outcome:
	case <-p.dead:
		err = raft.ErrRaftShutdown
	}
	p.outcomes.Add(1)
	p.outcome(err)
	if err != nil {
		w.done(nil, fmt.Errorf("commit: %w", err))
		return
	}
	switch v := w.Response().(type) {
	case *fsm.Result:
		w.done(v, nil)
	case error:
		w.done(nil, v)
	}
}
