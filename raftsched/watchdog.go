package raftsched

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// health follows whether this node can store and commit.
type health struct {
	storing atomic.Bool // entries are being stored now

	mu           sync.Mutex
	failure      error // the first one of a row
	failingSince time.Time
	failedAt     time.Time // the last one
}

func (n *Node) watchDisk() diskWatch {
	return diskWatch{stored: n.storedLog, storing: n.health.storing.Store, term: func() { n.terms.Add(1) }, broken: n.fail}
}

// fail stops the Raft node for good and tells the owner.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.cfg.Logger.Error("scheduler stopped", "error", err)
		n.troubled(err)
		close(n.dead)
		n.news.tell()
		go func() {
			<-n.started
			if n.shutdown != nil {
				n.shutdown() // not awaited: its disk may hang
			}
			if n.cfg.Fatal != nil {
				n.cfg.Fatal(err) // may call Stop
			}
		}()
	})
}

// outcome follows the log's health from the outcomes of entries. On a full or
// broken disk the first entry fails and Raft steps down; from then on it is
// elected again and again without coming to commit anything. That the
// leadership was lost says nothing of the disk.
func (n *Node) outcome(err error) {
	for _, of := range []error{raft.ErrLeadershipLost, raft.ErrNotLeader, raft.ErrLeadershipTransferInProgress, raft.ErrRaftShutdown, raft.ErrEnqueueTimeout} {
		if errors.Is(err, of) {
			return
		}
	}
	now := time.Now()
	h := &n.health
	h.mu.Lock()
	if err == nil || now.Sub(h.failedAt) > n.cfg.CommitStall {
		h.failure = nil // after so long, others have led meanwhile
	}
	if err == nil {
		h.mu.Unlock()
		return
	}
	if h.failure == nil {
		h.failure, h.failingSince = err, now
	}
	h.failedAt = now
	first, lasts := h.failure, now.Sub(h.failingSince)
	h.mu.Unlock()
	if lasts >= n.cfg.CommitStall {
		n.fail(fmt.Errorf("cannot commit for %v: %w", n.cfg.CommitStall, first))
	}
}

// storedLog follows the same from what Raft stores, also for itself.
func (n *Node) storedLog(err error) {
	if err != nil {
		err = fmt.Errorf("store the log: %w", err)
	}
	n.outcome(err)
}

// stallTicks is in how many looks at the entries that wait a stall is found. It
// takes that many, and not only that much time: a process that was stopped for
// a while and goes on has looked once.
const stallTicks = 12

// watch looks whether entries come to their outcomes while this node leads.
func (p *proposer) watch(n *Node) {
	tick := time.NewTicker(n.cfg.CommitStall / stallTicks)
	defer tick.Stop()
	var seen uint64
	still, told := 0, false
	for {
		select {
		case <-p.ended:
			return
		case <-tick.C:
		}
		done := p.outcomes.Load()
		if done != seen || p.proposed.Load() == done {
			seen, still = done, 0
			continue
		}
		if still++; still <= stallTicks {
			continue
		}
		still = 0
		err := n.stalled()
		switch {
		case errors.Is(err, errNotStored):
			if !told {
				n.cfg.Logger.Error("the other members do not store entries", "error", err)
				n.troubled(err)
			}
			told = true
		case err != nil:
			n.fail(err)
			return
		}
	}
}

var errNotStored = errors.New("not stored by a quorum")

// stalled tells why nothing is committed. A quorum that does not store is not
// this node's fault, and it can do no more about it than another leader could:
// if it does not even answer, Raft steps down by itself.
func (n *Node) stalled() error {
	stall := n.cfg.CommitStall
	if n.health.storing.Load() {
		return fmt.Errorf("no commit for %v: the disk of %s does not answer", stall, n.cfg.Dir)
	}
	commit, last := n.raft.CommitIndex(), n.raft.LastIndex()
	if last <= commit {
		return fmt.Errorf("no commit for %v: entry %d is committed, and no further one is taken or applied", stall, commit)
	}
	voters, stored := 0, 0
	for _, s := range members(n.raft) {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID == raft.ServerID(n.cfg.ID) || n.heard.of(s.ID).match > commit {
			stored++
		}
	}
	if stored <= voters/2 {
		return fmt.Errorf("no commit for %v: entry %d is stored by %d of %d voters: %w", stall, commit+1, stored, voters, errNotStored)
	}
	return fmt.Errorf("no commit for %v, though %d of %d voters have stored entry %d", stall, stored, voters, commit+1)
}
