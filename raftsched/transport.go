package raftsched

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// transport is Raft's way to the other members: its own network transport, told
// whom it dials, which notes what answers say of each member.
type transport struct {
	*raft.NetworkTransport
	heard *contacts
}

var (
	_ raft.WithPreVote = transport{}
	_ raft.WithClose   = transport{}
)

const (
	pooledConns   = 3
	leastTimeout  = time.Second
	timeoutBeats  = 4 // heartbeats without which an answer is given up
	retriedWithin = 50 * time.Millisecond
)

// openTransport makes the way to the other members. A node without a network
// has none to talk to.
func openTransport(cfg Config, bonds *bonds, moves *moves, heard *contacts) (raft.ServerAddress, raft.Transport, func() error) {
	if cfg.Network == nil {
		addr, t := raft.NewInmemTransport(raft.ServerAddress(cfg.address()))
		return addr, t, t.Close
	}
	t := transport{heard: heard, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  newWire(cfg, func() fsm.WorkflowID { return bonds.get().cluster }, moves),
		MaxPool: pooledConns,
		Timeout: max(leastTimeout, timeoutBeats*cfg.Raft.Heartbeat),
		Logger:  quietLog(cfg.Logger),
	})}
	return t.LocalAddr(), t, t.Close
}

// contacts is what this node, leading, knows of the others from their answers.
type contacts struct {
	mu sync.Mutex
	by map[raft.ServerID]contact
}

type contact struct {
	at    time.Time // of the last answer
	match uint64    // stored there, at least
	lost  bool      // it was said that it does not answer
}

func (c *contacts) of(id raft.ServerID) contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[id]
}

// forget all: a new reign begins, and may find other logs.
func (c *contacts) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = nil
}

func (c *contacts) note(id raft.ServerID, match uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[raft.ServerID]contact{}
	}
	now := c.by[id]
	c.by[id] = contact{at: time.Now(), match: max(now.match, match), lost: now.lost}
}

// lose notes whether a member answers, and tells whether that is news.
func (c *contacts) lose(id raft.ServerID, gone bool) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.by[id]
	if now.lost == gone {
		return false
	}
	now.lost = gone
	if c.by == nil {
		c.by = map[raft.ServerID]contact{}
	}
	c.by[id] = now
	return true
}

// appended notes the answer to entries or to a heartbeat.
func (c *contacts) appended(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	if resp.Term > req.Term {
		return
	}
	var match uint64
	if resp.Success {
		match = req.PrevLogEntry
		if n := len(req.Entries); n > 0 {
			match = req.Entries[n-1].Index
		}
	}
	c.note(id, match)
}

// AppendEntries implements raft.Transport.
func (t transport) AppendEntries(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, target(id, addr), req, resp)
	if err == nil {
		t.heard.appended(id, req, resp)
	}
	return err
}

// AppendEntriesPipeline implements raft.Transport.
func (t transport) AppendEntriesPipeline(id raft.ServerID, addr raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target(id, addr))
	if err != nil {
		return nil, err
	}
	p := &pipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go p.relay(func(f raft.AppendFuture) { t.heard.appended(id, f.Request(), f.Response()) })
	return p, nil
}

// InstallSnapshot implements raft.Transport.
func (t transport) InstallSnapshot(id raft.ServerID, addr raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	err := t.NetworkTransport.InstallSnapshot(id, target(id, addr), req, resp, data)
	if err == nil && resp.Success {
		t.heard.note(id, req.LastLogIndex)
	}
	return err
}

// RequestVote implements raft.Transport.
func (t transport) RequestVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return once(func() error { return t.NetworkTransport.RequestVote(id, target(id, addr), req, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t transport) RequestPreVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return once(func() error { return t.NetworkTransport.RequestPreVote(id, target(id, addr), req, resp) })
}

// TimeoutNow implements raft.Transport.
func (t transport) TimeoutNow(id raft.ServerID, addr raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return once(func() error { return t.NetworkTransport.TimeoutNow(id, target(id, addr), req, resp) })
}

// once more: a connection from the pool may have died with the process at its
// other end, and a vote that is not asked for costs an election timeout. Every
// connection in the pool may be such a one. Votes may be asked for twice.
func once(call func() error) error {
	begun := time.Now()
	err := call()
	for range pooledConns {
		var remote net.Error
		if err == nil || errors.As(err, &remote) && remote.Timeout() || time.Since(begun) > retriedWithin {
			return err
		}
		err = call()
	}
	return err
}

// pipeline shows the answers to its owner before Raft gets them. It takes them
// whether or not Raft still does: Raft stops at the first entry that was refused,
// while its own side of the pipeline waits for room for an answer; neither would
// end, nor would a Shutdown that waits for them.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	closed  chan struct{}
	once    sync.Once
}

func (p *pipeline) relay(note func(raft.AppendFuture)) {
	var waiting []raft.AppendFuture
	for {
		var next raft.AppendFuture
		var answers chan raft.AppendFuture
		if len(waiting) > 0 {
			next, answers = waiting[0], p.answers
		}
		select {
		case f := <-p.AppendPipeline.Consumer():
			if f.Error() == nil {
				note(f)
			}
			waiting = append(waiting, f)
		case answers <- next:
			waiting = waiting[1:]
		case <-p.closed:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}
